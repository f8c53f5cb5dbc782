"""The datagrams: what is written is read again, and hostile bytes raise one error only."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.presence.core.errors import BadMessage
from skills.presence.detection.items import (
    MAX_NODE,
    MAX_NUMBER,
    Fresh,
    Gone,
    Item,
    Left,
    Status,
    Suspect,
    item_size,
    write_item,
)
from skills.presence.detection.messages import (
    BUCKETS,
    MAX_DATAGRAM,
    Ack,
    Delta,
    Digest,
    Listing,
    Message,
    Nack,
    News,
    Probe,
    ProbeRequest,
    decode,
    encode,
)

nodes = st.integers(0, MAX_NODE)
wholes = st.integers(0, MAX_NUMBER)
numbers = st.tuples(wholes, wholes)
spans = st.integers(0, 10**6).map(lambda tenths: tenths / 10)


def _status(node: int, number: tuple[int, int], extra: dict[str, Any], age: float) -> Status:
    return Status(node, number, {**extra, "node": node, "inc": number[0], "seq": number[1]}, age)


extras = st.dictionaries(
    st.text(max_size=8), st.none() | st.booleans() | st.text(max_size=8), max_size=4
)
items: st.SearchStrategy[Item] = st.one_of(
    st.builds(Fresh, nodes, numbers, spans),
    st.builds(Suspect, nodes, numbers, nodes, spans, spans),
    st.builds(Gone, nodes, numbers, nodes, spans, spans),
    st.builds(Left, nodes, numbers),
    st.builds(_status, nodes, numbers, extras, spans),
)
news = st.lists(items, max_size=5).map(tuple)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Probe, numbers, wholes, news),
    st.builds(Ack, numbers, wholes, nodes, numbers, news),
    st.builds(ProbeRequest, numbers, wholes, nodes, numbers, news),
    st.builds(Nack, numbers, wholes, nodes, numbers, spans, st.booleans(), news),
    st.builds(News, numbers, news),
    st.builds(
        Digest,
        numbers,
        wholes,
        st.lists(st.integers(0, 2**48 - 1), min_size=BUCKETS, max_size=BUCKETS).map(tuple),
    ),
    st.builds(
        Listing,
        numbers,
        wholes,
        st.lists(st.integers(0, BUCKETS - 1), max_size=8).map(tuple),
        wholes,
        nodes,
        st.lists(st.tuples(nodes, numbers, wholes), max_size=10).map(tuple),
    ),
    st.builds(Delta, numbers, wholes, news, st.lists(nodes, max_size=9).map(tuple)),
)


@given(message=messages)
@settings(deadline=None)
def test_what_is_written_is_read_again(message: Message) -> None:
    data = encode(message)
    if len(data) <= MAX_DATAGRAM:
        assert decode(data) == message
        assert decode(json.loads(data)) == message


@given(item=items)
@settings(deadline=None)
def test_an_item_is_never_larger_than_announced(item: Item) -> None:
    written = json.dumps(write_item(item), separators=(",", ":"), ensure_ascii=False)
    assert len(written.encode("utf-8", "surrogatepass")) + 1 <= item_size(item)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(
    kind=st.sampled_from(["probe", "ack", "ask", "nack", "news", "digest", "list", "delta", "?"]),
    body=st.dictionaries(
        st.sampled_from(["n", "x", "of", "s", "news", "age", "sums", "b", "e", "at", "want"]),
        anything | numbers.map(list) | st.lists(st.lists(anything, max_size=6), max_size=3),
    ),
)
@settings(deadline=None)
def test_any_object_gives_a_message_or_our_error(kind: str, body: dict[str, Any]) -> None:
    with contextlib.suppress(BadMessage):
        decode({"v": 1, "k": kind, "n": [1, 2], "x": 3, "of": 4, "s": [1, 1]} | body)


@given(data=st.binary(max_size=300) | st.text(max_size=300))
@settings(deadline=None)
def test_any_bytes_give_a_message_or_our_error(data: bytes | str) -> None:
    with contextlib.suppress(BadMessage):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 1900,
        b'{"v":1,"k":"news","n":[1,1],"news":' + b"[" * 1900,
        b"x" * 5000,
        b'{"v":2,"k":"news","n":[1,1]}',
        b'{"v":1,"k":"news","n":[1,-1]}',
        b'{"v":1,"k":"news","n":[true,1]}',
        b'{"v":1,"k":"news","n":[1,1],"news":[["f",1,1,1,NaN]]}',
        b'{"v":1,"k":"news","n":[1,1],"news":[["f",1,1,1,"1"]]}',
        b'{"v":1,"k":"news","n":[1,1],"news":[["r",{"node":1},0]]}',
        b'{"v":1,"k":"digest","n":[1,1],"x":1,"sums":"AAAA"}',
        b"\xff\xfe",
    ],
)
def test_hostile_datagrams_are_refused(data: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(data)


def test_items_of_a_later_version_are_passed_over() -> None:
    data = b'{"v":1,"k":"news","n":[1,1],"news":[["z",1],["l",7,1,2]]}'
    assert decode(data) == News((1, 1), (Left(7, (1, 2)),))


def test_endless_spans_are_cut() -> None:
    message = decode(b'{"v":1,"k":"news","n":[1,1],"news":[["f",1,1,1,Infinity]]}')
    assert isinstance(message, News) and isinstance(message.news[0], Fresh)
    assert message.news[0].age < 1e9


def test_sizes_of_the_periodic_messages() -> None:
    """A period costs one probe and one answer each way; they stay small without news."""
    number = (1_775_642_400, 86_400)
    assert len(encode(Probe(number, 4_000_000))) < 80
    assert len(encode(Ack(number, 4_000_000, 45_981, number))) < 120
    assert len(encode(Digest(number, 4_000_000, (2**48 - 1,) * BUCKETS))) < 620
