"""Header compression of HTTP/2: a full decoder, and as much of an encoder as a server of constant headers needs.

The decoder remembers whole header blocks: a client repeats the same block for each call once its fields are in the
table, so most calls cost one look-up. What it remembers is forgotten whenever the table changes.
"""

# Ref: RFC 7541: 2.3 tables, 4.4 eviction, 5 integers and strings, 6 representations, appendix A static table
# Ref: RFC 7541 appendix B: the code is canonical, so the lengths of its 257 codes say all

from __future__ import annotations

from collections import deque
from functools import lru_cache

__all__ = ["Decoder", "Fields", "HpackError", "encode"]

Fields = tuple[tuple[bytes, bytes], ...]
_TABLE_BYTES = 4096
_OVERHEAD_BYTES = 32  # of an entry, in the size of a table and of a header list
_REMEMBERED, _REMEMBERED_BYTES = 64, 128
_STATIC_NAMES = (
    b":authority :method :method :path :path :scheme :scheme :status :status :status :status :status :status :status "
    b"accept-charset accept-encoding accept-language accept-ranges accept access-control-allow-origin age allow "
    b"authorization cache-control content-disposition content-encoding content-language content-length "
    b"content-location content-range content-type cookie date etag expect expires from host if-match "
    b"if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards "
    b"proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie "
    b"strict-transport-security transfer-encoding user-agent vary via www-authenticate"
).split()
_STATIC_VALUES = {
    2: b"GET",
    3: b"POST",
    4: b"/",
    5: b"/index.html",
    6: b"http",
    7: b"https",
    8: b"200",
    9: b"204",
    10: b"206",
    11: b"304",
    12: b"400",
    13: b"404",
    14: b"500",
    16: b"gzip, deflate",
}
_STATIC = ((b"", b""), *((name, _STATIC_VALUES.get(place, b"")) for place, name in enumerate(_STATIC_NAMES, 1)))
_PLACES = {field: place for place, field in enumerate(_STATIC) if place}
_CODE_LENGTHS = (
    *(13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28),
    *(28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28),
    *(6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6),
    *(5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10),
    *(13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7),
    *(7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6),
    *(15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5),
    *(6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28),
    *(20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23),
    *(24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24),
    *(22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23),
    *(21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23),
    *(26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25),
    *(19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27),
    *(20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23),
    *(26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26),
    30,
)


class HpackError(Exception):
    """A header block cannot be read; the connection cannot go on, because the table is not known any more."""


class Decoder:
    """Reads the header blocks of one connection, in their order.

    Parameters
    ----------
    max_list_bytes : int
        Largest header list, in the protocol's count: each field's name, value and 32 bytes.
    """

    def __init__(self, *, max_list_bytes: int) -> None:
        self._max_list_bytes = max_list_bytes
        self._entries: deque[tuple[bytes, bytes]] = deque()  # the newest first
        self._used_bytes, self._limit_bytes = 0, _TABLE_BYTES
        self._remembered: dict[bytes, Fields] = {}

    def decode(self, block: bytes) -> Fields:
        """The fields of a whole block.

        Raises
        ------
        HpackError
            When the block is malformed, or its list is too long.
        """
        fields = self._remembered.get(block)
        if fields is not None:
            return fields
        fields, changed = self._read(block)
        if changed:
            self._remembered.clear()
        elif len(self._remembered) < _REMEMBERED:
            self._remembered[block] = fields
        return fields

    def _read(self, block: bytes) -> tuple[Fields, bool]:
        fields: list[tuple[bytes, bytes]] = []
        place, size, changed = 0, 0, False
        try:
            while place < len(block):
                first = block[place]
                if first & 0x80:
                    index, place = _integer(block, place, 7)
                    field = self._entry(index)
                elif first & 0x60 == 0x20:
                    place, changed = self._resize(block, place, begun=bool(fields)), True
                    continue
                else:
                    kept = bool(first & 0x40)
                    field, place = self._literal(block, place, 6 if kept else 4)
                    if kept:
                        self._add(field)
                        changed = True
                size += len(field[0]) + len(field[1]) + _OVERHEAD_BYTES
                if size > self._max_list_bytes:
                    raise HpackError(f"the header list is larger than {self._max_list_bytes} bytes")
                fields.append(field)
        except IndexError:
            raise HpackError("a header block ends inside a field") from None
        return tuple(fields), changed

    def _literal(self, block: bytes, place: int, prefix_bits: int) -> tuple[tuple[bytes, bytes], int]:
        index, place = _integer(block, place, prefix_bits)
        if index:
            name = self._entry(index)[0]
        else:
            name, place = _string(block, place)
        value, place = _string(block, place)
        return (name, value), place

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if 0 < index < len(_STATIC):
            return _STATIC[index]
        if not len(_STATIC) <= index < len(_STATIC) + len(self._entries):
            raise HpackError(f"a header block names entry {index}, the tables have none there")
        return self._entries[index - len(_STATIC)]

    def _add(self, field: tuple[bytes, bytes]) -> None:
        self._entries.appendleft(field)
        self._used_bytes += len(field[0]) + len(field[1]) + _OVERHEAD_BYTES
        self._evict()

    def _resize(self, block: bytes, place: int, *, begun: bool) -> int:
        size, place = _integer(block, place, 5)
        if begun or size > _TABLE_BYTES:
            raise HpackError(f"a header block sets the table to {size} bytes, {_TABLE_BYTES} are allowed, at its start")
        self._limit_bytes = size
        self._evict()
        return place

    def _evict(self) -> None:
        while self._used_bytes > self._limit_bytes:
            name, value = self._entries.pop()
            self._used_bytes -= len(name) + len(value) + _OVERHEAD_BYTES


def encode(fields: Fields) -> bytes:
    """A header block that needs no memory: fields of the static table by their place, the rest as plain literals."""
    parts = []
    for name, value in fields:
        if place := _PLACES.get((name, value)):
            parts.append(_prefixed(place, 7, 0x80))
        else:
            parts += [b"\x00", _prefixed(len(name), 7, 0), name, _prefixed(len(value), 7, 0), value]
    return b"".join(parts)


def _prefixed(value: int, bits: int, flags: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes([flags | value])
    out, value = [flags | most], value - most
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _integer(block: bytes, place: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value = block[place] & most
    place += 1
    if value < most:
        return value, place
    for shift in range(0, 28, 7):
        octet = block[place]
        place += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, place
    raise HpackError("a header block holds an integer of more than 28 bits")


def _string(block: bytes, place: int) -> tuple[bytes, int]:
    packed = bool(block[place] & 0x80)
    length, start = _integer(block, place, 7)
    stop = start + length
    if stop > len(block):
        raise HpackError("a header block ends inside a string")
    text = block[start:stop]
    if not packed:
        return text, stop
    return (_unpacked(text) if length <= _REMEMBERED_BYTES else _unpacked.__wrapped__(text)), stop


def _codes() -> dict[tuple[int, int], int]:
    """Symbols by length and value of their code."""
    found, code, before = {}, 0, 0
    for symbol in sorted(range(257), key=lambda one: (_CODE_LENGTHS[one], one)):
        code <<= _CODE_LENGTHS[symbol] - before
        before = _CODE_LENGTHS[symbol]
        found[before, code] = symbol
        code += 1
    return found


_SYMBOLS = _codes()
_END = 256


@lru_cache(maxsize=1024)
def _unpacked(text: bytes) -> bytes:
    """A string out of its Huffman code; strings repeat, so what is decoded bit by bit is remembered."""
    out, code, length = bytearray(), 0, 0
    for octet in text:
        for shift in range(7, -1, -1):
            code, length = code << 1 | octet >> shift & 1, length + 1
            symbol = _SYMBOLS.get((length, code)) if length >= 5 else None
            if symbol == _END or length > 30:
                raise HpackError("a header string is not Huffman code")
            if symbol is not None:
                out.append(symbol)
                code = length = 0
    if length > 7 or code != (1 << length) - 1:
        raise HpackError("a header string is padded with other than the first bits of its end")
    return bytes(out)
