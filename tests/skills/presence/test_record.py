"""Status records: what is read, what is refused, and what we make."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.presence.core.errors import BadRecord
from skills.presence.core.ordering import NEVER, next_arrival, next_incarnation
from skills.presence.core.record import (
    MAX_OWN,
    MAX_RECORD,
    SIGNATURE_ROOM,
    compose,
    dump,
    parse,
    signing_bytes,
    with_signature,
)
from skills.presence.core.status import merge
from tests.skills.presence.strategies import fields, names, numbers, statuses, tags, values

SEED = b'{"hostname":"myagent","status":"online","timestamp":"2026-04-08T10:00:00Z"}'


def test_the_payload_of_the_page() -> None:
    record = parse(SEED)
    assert (record.hostname, record.status) == ("myagent", "online")
    assert record.node is None and record.number is None and record.ttl == 75


def test_a_record_of_ours_begins_with_the_payload_of_the_page() -> None:
    document = compose("myagent", "online", 1775642400, 45981, (1, 2))
    assert dump(document).startswith(SEED[:-1])
    assert len(SEED) == 75
    assert len(dump(document)) <= 233


@settings(deadline=None, max_examples=150)
@given(
    names, statuses, numbers, st.integers(0, 2**32 - 1), st.lists(tags, max_size=16, unique=True),
    st.integers(0, 100) | st.none(), st.integers(0, 65535) | st.none(), st.floats(0, 4e9),
)  # fmt: skip
def test_what_we_compose_is_read_back(
    hostname: str,
    status: str,
    number: tuple[int, int],
    node: int,
    tagged: list[str],
    load: int | None,
    slots: int | None,
    unix: float,
) -> None:
    document = compose(
        hostname, status, unix, node, number, load=load, slots=slots, tags=tuple(tagged),
        since=unix - 30, reason="because", room=MAX_OWN - SIGNATURE_ROOM,
    )  # fmt: skip
    signed = with_signature(document, bytes(64))
    assert len(dump(signed)) <= MAX_OWN
    record = parse(dump(signed))
    assert (record.hostname, record.status, record.node) == (hostname, status, node)
    assert (record.number, record.load, record.slots) == (number, load, slots)
    assert record.tags == tuple(document.get("tags", ()))
    assert record.signature == bytes(64)
    assert signing_bytes(record.document) == signing_bytes(document)


def test_what_does_not_fit_is_left_out_the_reason_first() -> None:
    long = tuple(f"a-rather-long-tag-number-{number:04}" for number in range(16))
    document = compose("h" * 200, "busy", 0, 1, (1, 1), tags=long, reason="r" * 200)
    assert len(dump(document)) <= MAX_OWN
    assert "reason" not in document and 0 < len(document["tags"]) < 16


def test_how_long_a_status_lasted_is_by_the_owners_clock_alone() -> None:
    document = compose("a", "online", 1_000_000, 1, (1, 1), since=999_940)
    assert parse(document).lasted == 60
    assert parse({**document, "since": 2_000_000}).lasted == 0
    assert parse({**document, "timestamp": "yesterday"}).lasted == 0
    assert parse({**document, "timestamp": 12}).lasted == 0


GOOD: dict[str, Any] = {"hostname": "a", "status": "online", "v": 2, "node": 1, "inc": 1, "seq": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"status": "dead"}, {"status": None}, {"status": ["online"]}, {"hostname": 7},
        {"hostname": "a\nb"}, {"hostname": "\x1b[2J"}, {"hostname": "x" * 254},
        {"hostname": "\ud800"}, {"node": -1}, {"node": 2**32}, {"node": True}, {"node": "1"},
        {"inc": 0}, {"inc": 2**53}, {"inc": 1.5}, {"seq": -1}, {"seq": None}, {"v": "2"},
        {"ttl": "75"}, {"ttl": -1}, {"ttl": True}, {"load": 101}, {"load": "high"},
        {"slots": 65536}, {"tags": "gpu"}, {"tags": ["GPU"]}, {"tags": ["a"] * 17},
        {"tags": [1]}, {"tags": [""]}, {"reason": "x" * 201}, {"reason": "\x00"},
        {"sig": "A"}, {"sig": 7}, {"sig": "AAAA"}, {"addr": ["x"]}, {"addr": "x" * 33},
        {"new": float("nan")}, {"new": [float("inf")]}, {"new": 10**400},
        {"new": {"a": -(10**400)}}, {"new": [[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]}, {"new": b"x"},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(change: dict[str, Any]) -> None:
    assert parse(GOOD)
    with pytest.raises(BadRecord):
        parse({**GOOD, **change})


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{", b"[]", b"3", b"null", b"\xff", b"[" * 900, b"{" * 900, b"x" * 5000,
        b'{"hostname":"a","status":"online","v":2,"node":1,"inc":NaN,"seq":1}',
        b'{"hostname":"a","status":"online","new":1e400}',
        b'{"hostname":"a","status":"online","new":' + b"9" * 400 + b"}",
        b'{"hostname":"a","status":"online","new":' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"hostname":"' + b"a" * MAX_RECORD + b'","status":"online"}',
    ],
)  # fmt: skip
def test_bytes_that_are_no_record_are_refused(payload: bytes) -> None:
    with pytest.raises(BadRecord):
        parse(payload)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=1200) | st.dictionaries(fields, values))
def test_whatever_comes_is_a_record_or_our_error(payload: bytes | dict[str, Any]) -> None:
    try:
        record = parse(payload)
    except BadRecord:
        return
    assert record.status in ("online", "busy", "away", "offline")


@settings(deadline=None, max_examples=200)
@given(fields, values)
def test_a_good_record_with_one_wild_field(name: str, value: Any) -> None:
    try:
        record = parse({**GOOD, name: value})
    except BadRecord:
        return
    assert len(record.tags) <= 16 and 0 <= (record.load or 0) <= 100
    assert 5 <= record.ttl <= 3600 and record.lasted >= 0


def test_unknown_fields_and_later_versions_are_read() -> None:
    assert parse({**GOOD, "v": 3, "new": {"a": [1]}}).number == (1, 1)


def test_version_1_ignores_what_a_script_adds() -> None:
    extended = {**json.loads(SEED), "load": "very high", "tags": "gpu"}
    assert parse(extended).tags == ()


def test_the_order_is_by_incarnation_then_sequence() -> None:
    number = NEVER
    for arrival in range(3):
        number = next_arrival(number)
        assert number == (0, arrival)
    assert number < (1, 0) and (2, 0) > (1, 10**9)
    assert next_incarnation(0, 1000.7) == 1000
    assert next_incarnation(5000, 1000) == 5001
    assert next_incarnation(2**53, 1) == 2**53 - 1


@settings(deadline=None)
@given(st.lists(statuses, max_size=6))
def test_the_busiest_of_several_speaks_for_the_node(claims: list[str]) -> None:
    order = ["busy", "online", "away", "offline"]
    assert merge(claims) == next((status for status in order if status in claims), "offline")
