"""Damaged model files: seeded mutations of a whole one, and what reading one may do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends import read_model

__all__ = ["damaged", "whole_or_refused"]

WORDS = (b"-1", b"99999999999999999999", b"1e999", b"nan", b"[]", b"{}", b"null", b'"x"', b"0", b"[" * 5000)
HEAD = 16
"""Bytes that stay, so that the file is still taken for what it is."""


def damaged(whole: bytes, count: int, *, seed: int = 0) -> Iterator[bytes]:
    """Cut off, with a bit flipped, with a number replaced, with a part left out or repeated."""
    generator = np.random.default_rng(seed)
    digits = [i for i in range(HEAD, len(whole)) if whole[i : i + 1].isdigit()]
    for turn in range(count):
        place = int(generator.integers(HEAD, len(whole)))
        end = place + int(generator.integers(1, 60))
        match turn % 5:
            case 0:
                yield whole[:place]
            case 1:
                yield whole[:place] + bytes([whole[place] ^ (1 << int(generator.integers(8)))]) + whole[place + 1 :]
            case 2:
                at = digits[int(generator.integers(len(digits)))]
                yield whole[:at] + WORDS[int(generator.integers(len(WORDS)))] + whole[at + 1 :]
            case 3:
                yield whole[:place] + whole[end:]
            case _:
                yield whole[:end] + whole[place:]


def whole_or_refused(data: bytes, path: Path) -> None:
    """A mutation may leave a whole model; anything but the two errors escapes."""
    path.write_bytes(data)
    try:
        read_model(path)
    except (ModelUnreadable, UnsupportedOperation) as error:
        words = str(error)
        assert "\n" not in words
        assert len(words) < 1000, words
