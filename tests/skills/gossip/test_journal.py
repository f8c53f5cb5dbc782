"""The journal: whatever is torn off its end, everything before it is recovered."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.gossip.core.errors import BadMessage
from skills.gossip.core.journal import (
    MAX_RECORD,
    Record,
    decode_snapshot,
    encode_record,
    encode_snapshot,
    recover,
)
from tests.skills.gossip.strategies import values

kinds = st.sampled_from(["register", "gone", "reserve", "end"])
records = st.lists(st.builds(Record, kinds, values), max_size=4)


@given(records)
@settings(deadline=None, max_examples=50)
def test_every_cut_gives_a_prefix(some: list[Record]) -> None:
    """At each byte: the whole records before the cut, and their length."""
    parts = [encode_record(*each) for each in some]
    data = b"".join(parts)
    ends = [sum(map(len, parts[:count])) for count in range(len(parts) + 1)]
    for cut in range(len(data) + 1):
        whole = max(count for count, end in enumerate(ends) if end <= cut)
        assert recover(data[:cut]) == (some[:whole], ends[whole])


@given(records, st.binary(min_size=1, max_size=40))
@settings(deadline=None)
def test_rubbish_at_the_end_is_cut_off(some: list[Record], rubbish: bytes) -> None:
    """What was good before it stays."""
    data = b"".join(encode_record(*each) for each in some)
    found, good = recover(data + rubbish)
    assert found[: len(some)] == some
    assert good >= len(data)


@given(records, st.data())
@settings(deadline=None)
def test_a_flipped_bit_ends_the_prefix(some: list[Record], data: Any) -> None:
    """No damaged record is ever believed."""
    stored = bytearray(b"".join(encode_record(*each) for each in some))
    if not stored:
        return
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    found, _good = recover(bytes(stored))
    assert found == some[: len(found)]
    assert len(found) < len(some)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_read(data: bytes) -> None:
    """Neither reader raises anything but its own error."""
    _found, good = recover(data)
    assert 0 <= good <= len(data)
    with pytest.raises(BadMessage):
        decode_snapshot(data)


@given(records)
@settings(deadline=None, max_examples=50)
def test_a_snapshot_is_read_whole_or_not_at_all(some: list[Record]) -> None:
    """Every shortened one is refused, even where a record ends."""
    data = encode_snapshot(some)
    assert decode_snapshot(data) == some
    for cut in range(len(data)):
        with pytest.raises(BadMessage):
            decode_snapshot(data[:cut])
    with pytest.raises(BadMessage):
        decode_snapshot(data + encode_record("end", len(some) + 1)[:-1])


def test_what_cannot_be_stored_is_refused() -> None:
    """Too large, or no JSON."""
    for data in ("x" * MAX_RECORD, object(), "\ud800"):
        with pytest.raises(BadMessage):
            encode_record("register", data)


def test_deeply_nested_rubbish_ends_the_prefix() -> None:
    """A record with a right checksum can still be hostile."""
    from struct import pack
    from zlib import crc32

    body = b"[" * 100_000
    assert recover(pack(">II", len(body), crc32(body)) + body) == ([], 0)
