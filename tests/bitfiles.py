"""Bitstream files written from the descriptions of their formats."""

from __future__ import annotations

import struct

__all__ = ["xclbin", "xilinx"]


def xilinx(part: str, *, data: bytes = b"\xff\xff\xff\xff\xaa\x99\x55\x66" * 4, size: int | None = None) -> bytes:
    """A .bit: keys and lengths, big-endian."""
    texts = zip(b"abcd", ("top;UserID=0XFFFFFFFF;Version=2020.1", part, "2026/01/02", "03:04:05"), strict=True)
    fields = b"".join(struct.pack(">cH", bytes([key]), len(text) + 1) + text.encode() + b"\0" for key, text in texts)
    start = bytes.fromhex("0009 0ff00ff00ff00ff000 0001")
    return start + fields + struct.pack(">cI", b"e", len(data) if size is None else size) + data


def xclbin(platform: str) -> bytes:
    """An .xclbin's header and nothing in it."""
    content = bytearray(1000)
    content[:8] = b"xclbin2\0"
    struct.pack_into("<Q", content, 0x130, len(content))
    content[0x160 : 0x160 + len(platform)] = platform.encode()
    return bytes(content)
