"""Named files in one layer: a tar in gzip, the same bytes for the same files.

Files live in memory on both sides and never touch the disk here, but their names are used later to write them, so
only plain relative names of regular files pass. What a hostile archive may cost is bounded while it is unpacked.
"""

# Ref: POSIX.1-2017 pax, "ustar Interchange Format"
# Ref: RFC 1952 sections 2.3 and 2.3.1: gzip header (MTIME 0 is none, OS 255 is unknown) and trailer

from __future__ import annotations

import io
import re
import struct
import tarfile
import zlib
from collections.abc import Mapping

from gatesmith.errors import ManifestInvalid

__all__ = ["MAX_FILES", "MAX_UNPACKED_BYTES", "pack_files", "unpack_files"]

MAX_FILES = 1024
MAX_UNPACKED_BYTES = 256 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
_LONGEST_NAME = 100  # what the name field of ustar holds
_GZIP_HEADER = bytes.fromhex("1f8b08000000000002ff")


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """File names to content, as a reproducible tar+gzip: sorted, owner 0, times 0.

    Raises
    ------
    ManifestInvalid
        When a name is not a plain relative path.
    """
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(_checked(name))
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return _gzip(tar.getvalue())


def unpack_files(content: bytes) -> dict[str, bytes]:
    """File names to content, from a tar+gzip that may come from anyone.

    Raises
    ------
    ManifestInvalid
        When the archive is damaged or too large, or holds anything but regular files with plain relative names.
    """
    tar = _gunzip(content)
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
            for member in archive:
                if not member.isreg() or member.sparse is not None:
                    raise ManifestInvalid(f"archive member {member.name!r} is not a regular file", member=member.name)
                if len(files) == MAX_FILES or member.name in files:
                    raise ManifestInvalid(f"archive has more than {MAX_FILES} files, or {member.name!r} twice")
                source = archive.extractfile(member)
                files[_checked(member.name)] = source.read() if source else b""
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise ManifestInvalid(f"archive is damaged: {error}") from error
    return files


def _checked(name: str) -> str:
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise ManifestInvalid(
            f"file name {name[:120]!r} is not allowed in an artifact; use letters, digits, . _ + - and /", member=name
        )
    return name


def _gzip(data: bytes) -> bytes:
    # Written by hand because the header that Python's gzip writes differs between its versions.
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(data) + deflate.flush()
    return _GZIP_HEADER + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _gunzip(content: bytes) -> bytes:
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        data = inflate.decompress(content, MAX_UNPACKED_BYTES + 1)
    except zlib.error as error:
        raise ManifestInvalid(f"archive is damaged: {error}") from error
    if len(data) > MAX_UNPACKED_BYTES:
        raise ManifestInvalid(f"archive unpacks to more than {MAX_UNPACKED_BYTES} bytes", limit=MAX_UNPACKED_BYTES)
    if not inflate.eof or inflate.unused_data:
        raise ManifestInvalid("archive is damaged: the gzip stream is cut short or followed by other bytes")
    return data
