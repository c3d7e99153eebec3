"""Orders: what makes two of them the same build, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gatesmith.builds.order import Order
from gatesmith.errors import BoardNotFound, BuildError

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ORDER = Order(model=A, model_file="iris.skops", name="iris", board="icebreaker")


def test_the_same_thing_has_the_same_digest_whatever_its_file_is_called() -> None:
    assert replace(ORDER, model_file="copy-of-iris.skops").digest == ORDER.digest
    assert Order.from_json(ORDER.to_json()) == ORDER


@pytest.mark.parametrize(
    "change",
    [
        {"model": B},
        {"board": "ulx3s-85f"},
        {"calibration": B, "calibration_file": "x.npy"},
        {"precision": 6},
        {"clock_hz": 1},
        {"seed": 2},
        {"name": "other"},
        {"engine": "unrolled"},
    ],
)
def test_everything_that_changes_the_firmware_changes_the_digest(change: dict[str, Any]) -> None:
    assert replace(ORDER, **change).digest != ORDER.digest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "sha256:xyz"}, "order: model is 'sha256:xyz'"),
        ({"model_file": "../../etc/passwd"}, "order: model_file is '../../etc/passwd'"),
        ({"model_file": ".hidden"}, "order: model_file is '.hidden'"),
        ({"name": "a/b"}, "order: name is 'a/b'"),
        ({"precision": 17}, "order: precision is 17, 2 to 16 are possible"),
        ({"precision": True}, "order: precision is of kind bool, int is needed"),
        ({"precision": "8"}, "order: precision is of kind str, int is needed"),
        ({"engine": "magic"}, "engine 'magic' does not exist"),
        ({"seed": 0}, "order: seed is 0"),
        ({"calibration": A}, "order: calibration_file is ''"),
        ({"trust_pickle": True}, "an order has no field 'trust_pickle'"),
    ],
)
def test_what_comes_from_anyone_is_checked(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BuildError, match=words.replace("(", r"\(")):
        Order.from_json(ORDER.to_json() | change)


def test_a_missing_field_and_a_missing_board() -> None:
    data = ORDER.to_json()
    del data["board"]
    with pytest.raises(BuildError, match="an order needs 'board'"):
        Order.from_json(data)
    with pytest.raises(BoardNotFound):
        Order.from_json(ORDER.to_json() | {"board": "icebraker"})
