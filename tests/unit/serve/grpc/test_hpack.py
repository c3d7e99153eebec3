"""Header compression against an independent implementation, and against what breaks it."""

from __future__ import annotations

import contextlib

import pytest
from hpack import Decoder as TheirDecoder
from hpack import Encoder as TheirEncoder
from hypothesis import given
from hypothesis import strategies as st

from gatesmith.serve.grpc.hpack import Decoder, HpackError, encode

names = st.one_of(
    st.sampled_from([b":path", b":method", b":status", b"content-type", b"te", b"grpc-timeout", b"authorization"]),
    st.binary(max_size=40),
)
fields = st.lists(st.tuples(names, st.binary(max_size=300)), max_size=12)


@given(blocks=st.lists(fields, min_size=1, max_size=6), plain=st.booleans(), sizes=st.lists(st.integers(0, 4096)))
def test_what_another_encoder_writes_is_read(
    blocks: list[list[tuple[bytes, bytes]]], plain: bool, sizes: list[int]
) -> None:
    theirs, ours = TheirEncoder(), Decoder(max_list_bytes=1 << 20)
    for number, block in enumerate([*blocks, *blocks]):
        if number < len(sizes):
            theirs.header_table_size = sizes[number]
        assert ours.decode(theirs.encode(block, huffman=not plain)) == tuple(block)


@given(block=fields)
def test_what_we_write_is_read_by_another_decoder(block: list[tuple[bytes, bytes]]) -> None:
    assert [(bytes(n), bytes(v)) for n, v in TheirDecoder().decode(encode(tuple(block)), raw=True)] == block


def test_remembered_blocks_follow_the_table() -> None:
    ours = Decoder(max_list_bytes=1000)
    first = b"\x40\x01a\x01b"  # becomes entry 62
    assert ours.decode(first) == ((b"a", b"b"),)
    assert ours.decode(b"\xbe") == ((b"a", b"b"),)
    assert ours.decode(b"\xbe") == ((b"a", b"b"),)
    assert ours.decode(b"\x40\x01c\x01d") == ((b"c", b"d"),)
    assert ours.decode(b"\xbe") == ((b"c", b"d"),)


# Ref: RFC 7541 appendix C.4.1: a request with Huffman code
def test_the_specifications_example() -> None:
    block = bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")
    assert Decoder(max_list_bytes=1000).decode(block) == (
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
    )


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (b"\x80", "names entry 0"),
        (b"\xbe", "names entry 62"),
        (b"\x40", "ends inside a field"),
        (b"\x40\x05ab", "ends inside a string"),
        (b"\xff\xff\xff\xff\xff\xff", "more than 28 bits"),
        (b"\x82\x20", "sets the table to 0 bytes"),
        (b"\x3f\xe2\x1f", "sets the table to 4097 bytes"),
        (b"\x00\x81\x00\x00", "padded"),
        (b"\x00\x84\xff\xff\xff\xff\x00", "not Huffman"),
        (b"\x00\x01a\x7f\x8d\x06" + b"x" * 1000, "larger than 500 bytes"),
    ],
)
def test_blocks_that_cannot_be_read(block: bytes, message: str) -> None:
    with pytest.raises(HpackError, match=message):
        Decoder(max_list_bytes=500).decode(block)


def test_a_small_block_cannot_become_a_large_list() -> None:
    ours = Decoder(max_list_bytes=16_384)
    ours.decode(b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000)  # fills the table
    with pytest.raises(HpackError, match="larger than 16384 bytes"):
        ours.decode(b"\xbe" * 16)


@given(st.binary(max_size=200))
def test_noise_is_read_or_refused(block: bytes) -> None:
    ours = Decoder(max_list_bytes=1000)
    with contextlib.suppress(HpackError):
        ours.decode(block)
