"""Named files in one layer: a plain tar, the same bytes for the same files on every machine.

The bytes are written here by hand and nothing is compressed, because what a compressor or a tar library writes
differs between its versions. Files live in memory on both sides and never touch the disk here, but their names are
used later to write them, so only plain relative names of regular files pass.
"""

# These are the bytes of GNU tar --format=ustar --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=644 -b1

# Ref: POSIX.1-2017 pax, "ustar Interchange Format"

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping

from gatesmith.errors import ManifestInvalid

__all__ = ["MAX_FILES", "pack_files", "unpack_files"]

MAX_FILES = 1024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
_LONGEST_NAME = 100  # without the folder that all files of a layer share
_LONGEST_FIELD, _LONGEST_PREFIX = 100, 155
_BLOCK = 512


def pack_files(files: Mapping[str, bytes], *, folder: str = "") -> bytes:
    """File names to content, as a reproducible tar: sorted, owner 0, times 0.

    Parameters
    ----------
    folder : str
        Where in the tar the files lie; without a slash at its end.

    Raises
    ------
    ManifestInvalid
        When a name is not a plain relative path.
    """
    blocks = []
    for name, content in sorted(files.items()):
        full = f"{folder}/{_checked(name)}" if folder else _checked(name)
        blocks += [_header(full, len(content)), content, bytes(-len(content) % _BLOCK)]
    return b"".join([*blocks, bytes(2 * _BLOCK)])


def unpack_files(content: bytes, *, folder: str = "") -> dict[str, bytes]:
    """File names to content, from a tar that may come from anyone; names are those inside ``folder``.

    Raises
    ------
    ManifestInvalid
        When the archive is damaged, or holds anything but regular files with plain relative names in ``folder``.
    """
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                if not member.isreg() or member.sparse is not None:
                    raise ManifestInvalid(
                        f"archive member {member.name[:120]!r} is not a regular file", member=member.name
                    )
                name = _inside(folder, member.name)
                if len(files) == MAX_FILES or name in files:
                    raise ManifestInvalid(f"archive has more than {MAX_FILES} files, or {name!r} twice")
                source = archive.extractfile(member)
                files[name] = source.read() if source else b""
            _check_end(content, archive.offset)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise ManifestInvalid(f"archive is damaged: {error}") from error
    return files


def _check_end(content: bytes, offset: int) -> None:
    # Ref: ustar: two blocks of zeros end the archive; some writers fill up to a record with more of them
    rest = content[offset:]
    if len(rest) < _BLOCK or len(rest) % _BLOCK or any(rest):
        raise ManifestInvalid("archive is damaged: it does not end in blocks of zeros")


def _inside(folder: str, name: str) -> str:
    if not folder:
        return _checked(name)
    if not name.startswith(f"{folder}/"):
        raise ManifestInvalid(f"archive member {name[:120]!r} is not in {folder}", member=name)
    return _checked(name.removeprefix(f"{folder}/"))


def _checked(name: str) -> str:
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise ManifestInvalid(
            f"file name {name[:120]!r} is not allowed in an artifact; use letters, digits, . _ + - and /", member=name
        )
    return name


def _header(name: str, size: int) -> bytes:
    prefix = ""
    if len(name) > _LONGEST_FIELD:  # the longest folder that fits goes apart
        slash = name.rfind("/", 0, _LONGEST_PREFIX + 1)
        prefix, name = name[: max(slash, 0)], name[slash + 1 :]
    if len(name) > _LONGEST_FIELD or size >= 8**11:
        raise ManifestInvalid(f"file {name!r} has {size} bytes in folder {prefix!r}, which a tar cannot hold")
    fields = [
        *(name.encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0"),  # mode, owner, group
        *(b"%011o\0" % size, b"00000000000\0", b" " * 8, b"0", bytes(100)),  # time, sum, kind, link
        *(b"ustar\0", b"00", bytes(32 + 32), b"0000000\0" * 2),  # no names of owner and group, no device
        *(prefix.encode().ljust(155, b"\0"), bytes(12)),
    ]
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]
