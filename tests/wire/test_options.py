"""The options of the modern stream: golden bytes, total decoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.errors import WireError
from pilot.wire.options import (
    EXTRA,
    MAX_BLOCKS,
    MAX_SCALE,
    MAX_SEGMENT,
    PLAIN_SIZE,
    TIMES,
    Block,
    Offer,
    decode_block,
    decode_offer,
    encode_block,
    encode_offer,
)

numbers = st.integers(0, 0xFFFFFFFF)
offers = st.builds(
    Offer,
    max_segment=st.integers(1, MAX_SEGMENT),
    scale=st.integers(0, MAX_SCALE),
    window=numbers,
    timestamp=numbers,
    echo=numbers,
    ack_delay=st.integers(0, 0xFFFF),
)

OFFER = Offer(65_000, 7, 4_194_304, 0x01020304, 0, 10)
OFFER_BYTES = bytes.fromhex(
    "5458504d01 0102fde8 020107 030400400000 040401020304 050400000000 0602000a"
)


def test_the_offer_is_pinned_to_the_byte() -> None:
    assert encode_offer(OFFER) == OFFER_BYTES
    assert decode_offer(OFFER_BYTES) == OFFER


def test_blocks_are_pinned_to_the_byte() -> None:
    assert encode_block(1, 2) == bytes.fromhex("01 00000001 00000002")
    assert encode_block(1, 2, question=True) == bytes.fromhex("05 00000001 00000002")
    assert encode_block(1, 2, [(3, 4), (5, 6)]) == bytes.fromhex(
        "03 00000001 00000002 02 00000003 00000004 00000005 00000006"
    )


@given(offer=offers)
def test_offers_survive_the_trip(offer: Offer) -> None:
    assert decode_offer(encode_offer(offer)) == offer


@given(
    value=numbers,
    echo=numbers,
    ranges=st.lists(st.tuples(numbers, numbers), max_size=MAX_BLOCKS),
    question=st.booleans(),
    data=st.binary(max_size=50),
)
def test_blocks_survive_the_trip(
    value: int, echo: int, ranges: list[tuple[int, int]], question: bool, data: bytes
) -> None:
    encoded = encode_block(value, echo, ranges, question)
    block = decode_block(encoded + data)
    assert block == Block(value, echo, tuple(ranges), question, len(encoded))
    if not ranges and not question:
        assert len(encoded) == PLAIN_SIZE and encoded[0] == TIMES


@given(data=st.binary(max_size=80))
def test_any_bytes_give_an_offer_or_none(data: bytes) -> None:
    decode_offer(data)
    decode_offer(OFFER_BYTES[:5] + data)


@given(data=st.binary(max_size=80), first=st.integers(0, 255))
def test_any_bytes_give_a_block_or_our_error(data: bytes, first: int) -> None:
    for payload in (data, bytes([first]) + data):
        try:
            block = decode_block(payload)
        except WireError:
            continue
        assert PLAIN_SIZE <= block.size <= len(payload)


@pytest.mark.parametrize("cut", range(len(OFFER_BYTES)))
def test_an_offer_cut_short_is_none(cut: int) -> None:
    assert decode_offer(OFFER_BYTES[:cut]) is None


def test_unknown_fields_of_an_offer_are_skipped() -> None:
    assert decode_offer(OFFER_BYTES + bytes.fromhex("c803aabbcc ff00")) == OFFER


def test_a_later_version_is_still_understood() -> None:
    assert decode_offer(OFFER_BYTES[:4] + b"\x07" + OFFER_BYTES[5:]) == OFFER


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        OFFER_BYTES[:4] + b"\x00" + OFFER_BYTES[5:],  # version 0
        OFFER_BYTES + OFFER_BYTES[5:9],  # a field twice
        OFFER_BYTES.replace(bytes.fromhex("0102fde8"), bytes.fromhex("01020000")),  # no segment
        OFFER_BYTES.replace(bytes.fromhex("0102fde8"), bytes.fromhex("0102ffff")),  # too large
        OFFER_BYTES.replace(bytes.fromhex("020107"), bytes.fromhex("02010f")),  # scale 15
        OFFER_BYTES.replace(bytes.fromhex("020107"), bytes.fromhex("02020007")),  # wrong length
        OFFER_BYTES.replace(bytes.fromhex("0602000a"), b""),  # a field missing
    ],
)
def test_what_is_no_sound_offer_makes_a_classic_connection(payload: bytes) -> None:
    assert decode_offer(payload) is None


def test_room_for_later_fields_is_skipped() -> None:
    block = bytes([TIMES | EXTRA]) + bytes(8) + b"\x00\x03abc"
    assert decode_block(block + b"data").size == 14


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00" + bytes(8),  # no times
        b"\x09" + bytes(8),  # a bit without a meaning
        b"\x01" + bytes(7),  # cut
        b"\x03" + bytes(8),  # ranges without a count
        b"\x03" + bytes(8) + b"\x01" + bytes(7),  # a range cut
        b"\x03" + bytes(8) + bytes([MAX_BLOCKS + 1]) + bytes(8 * (MAX_BLOCKS + 1)),
        b"\x81" + bytes(8) + b"\x00",  # length of later fields cut
        b"\x81" + bytes(8) + b"\x00\x05abcd",  # later fields cut
    ],
)
def test_what_is_no_sound_block_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        decode_block(payload)
