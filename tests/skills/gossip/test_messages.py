"""Messages: their sizes, and that any JSON is a message or refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.gossip.core.digest import Digest
from skills.gossip.core.document import assemble
from skills.gossip.core.errors import BadMessage
from skills.gossip.core.messages import (
    MAX_FRAME,
    MAX_SYN,
    Ack,
    Delta,
    Leave,
    Message,
    Nack,
    News,
    Push,
    Shuffle,
    Syn,
    decode,
    pack,
    size_of,
)
from skills.gossip.core.register import FLAG_TOMBSTONE, Register
from tests.skills.gossip.strategies import hlcs, junk, nodes, registers, rivals, values

SWARM = "kv-store-cluster"
X = "9f31c2aa"
HLC = "0190a1b2c3d40001"
ROOT = "5d1e9a0c77ab12ef"

naturals = st.integers(0, 2**63 - 1)
pairs = st.tuples(hlcs, hlcs)
entries = st.lists(registers() | rivals, max_size=3).map(tuple)
wants = st.lists(hlcs | hlcs.map(lambda text: text[:2]), max_size=3).map(tuple)
news = st.builds(News, nodes, naturals, naturals, st.integers(0, 3))
messages = st.one_of(
    st.builds(
        Syn,
        st.just(SWARM),
        st.just(X),
        nodes,
        naturals,
        hlcs,
        hlcs,
        naturals,
        st.lists(pairs, max_size=2).map(tuple),
        st.lists(news, max_size=2).map(tuple),
        st.just("") | hlcs,
    ),
    st.builds(
        Ack,
        st.just(SWARM),
        st.just(X),
        hlcs,
        hlcs,
        naturals,
        st.booleans(),
        entries,
        wants,
        st.just("") | entries.map(lambda some: Digest.rekeyed("", some).pack()),
    ),
    st.builds(
        Delta,
        st.just(SWARM),
        st.just(X),
        entries,
        wants,
        st.lists(pairs, max_size=2).map(tuple),
        st.sampled_from(["", "ff", "12:34"]),
        st.booleans(),
    ),
    st.builds(
        Nack,
        st.just(SWARM),
        st.just("author_keys"),
        st.lists(hlcs, max_size=2).map(tuple),
        naturals,
        st.sampled_from(["", X]),
    ),
    st.builds(Leave, st.just(SWARM), nodes, naturals, naturals),
    st.builds(
        Shuffle,
        st.just(SWARM),
        st.just(X),
        st.lists(nodes, max_size=3).map(tuple),
        st.sampled_from(["", "sample", "join", "accept", "drop"]),
    ),
)


def travelled(message: Message) -> dict[str, Any]:
    """@return: the message's object after a way over the wire."""
    document = json.loads(json.dumps(message.encode()))
    assert isinstance(document, dict)
    return document


@given(messages)
@settings(deadline=None)
def test_messages_come_back(message: Message) -> None:
    """After JSON, and as the object itself; with unknown fields too."""
    assert decode(message.encode()) == message
    assert decode({**travelled(message), "later": [1]}) == message


@given(st.lists(rivals, max_size=5))
@settings(deadline=None)
def test_pushes_come_back(some: list[Register]) -> None:
    """Whether a value travels in the state or in the entry, it is the same register."""
    push = Push(
        "45981", 1775642400123, assemble(some), "1775642400", 2, SWARM, X, ROOT, 9, tuple(some)
    )
    assert decode(travelled(push)) == push
    assert decode(push.encode()) == push


mangled = st.tuples(messages, st.data())


@given(mangled)
@settings(deadline=None, max_examples=300)
def test_mangled_messages_are_read_or_refused(drawn: tuple[Message, Any]) -> None:
    """A part of a good message replaced by anything, or taken away."""
    message, data = drawn
    document = travelled(message)
    name = data.draw(st.sampled_from(sorted(document)))
    if data.draw(st.booleans()):
        document[name] = data.draw(junk)
    else:
        del document[name]
    try:
        again = decode(document)
    except BadMessage:
        return
    assert decode(again.encode()) == again


@given(
    st.one_of(
        junk,
        st.fixed_dictionaries(
            {"type": st.just("gossip_push")},
            optional={
                "version": junk,
                "state": st.dictionaries(st.text(max_size=2), values, max_size=2) | junk,
                "sender": junk,
                "timestamp": junk,
                "g": st.fixed_dictionaries(
                    {"v": st.sampled_from([2, 3, 1, "2", True])},
                    optional={"swarm": st.just(SWARM), "id": st.just(X), "root": hlcs, "n": junk}
                    | {"e": st.lists(st.lists(junk, max_size=6) | junk, max_size=2) | junk},
                )
                | junk,
            },
        ),
    )
)
@settings(deadline=None, max_examples=300)
def test_any_json_is_a_message_or_refused(document: object) -> None:
    """Nothing else is ever raised."""
    with contextlib.suppress(BadMessage):
        decode(document)


# -- version 1 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        {"type": "gossip_push", "version": 3, "state": {"k": 1}, "sender": "7", "timestamp": "9"},
        {"type": "gossip_push", "version": "3", "state": {"k": 1}, "sender": 7, "timestamp": 9},
        {"type": "gossip_push", "version": 3.0, "state": {"k": 1}, "sender": "7", "g": "?"},
        {"type": "gossip_push", "version": 3, "state": {"k": 1}, "sender": "7", "g": {"v": 1}},
    ],
)
def test_pushes_of_scripts_are_read(document: dict[str, Any]) -> None:
    """Numbers as text or not, with or without a time, with fields that mean nothing to us."""
    push = decode(document)
    assert isinstance(push, Push)
    assert (push.v, push.version, push.state, push.sender) == (1, 3, {"k": 1}, "7")
    assert push.timestamp in ("", "9")
    assert decode(push.encode()) == push


@pytest.mark.parametrize("version", [None, -1, 0.5, "x", "", True, 2**63, "9" * 30])
def test_pushes_without_a_version_are_refused(version: object) -> None:
    """A push needs a number, and one that other programs can hold."""
    with pytest.raises(BadMessage):
        decode({"type": "gossip_push", "version": version, "state": {}, "sender": "1"})


def test_unknown_types_are_refused() -> None:
    """The caller counts them."""
    strange: list[object] = [{"type": "gossip_new"}, {"type": ["gossip_syn"]}, {}, [], None]
    for document in strange:
        with pytest.raises(BadMessage):
            decode(document)


# -- sizes -------------------------------------------------------------------------------------


def measured(message: Message) -> int:
    """@return: bytes of the compact JSON as another encoder writes it."""
    compact = json.dumps(message.encode(), separators=(",", ":"), ensure_ascii=False).encode()
    assert len(compact) == size_of(message.encode())
    return len(compact)


def test_a_quiet_exchange_is_small() -> None:
    """Two of them, both directions, stay below 1 KiB for each 5 s round."""
    syn = Syn(SWARM, X, 45981, 1775642400, HLC, ROOT, 1200)
    ack = Ack(SWARM, X, HLC, ROOT, 1200, same=True)
    assert measured(syn) <= 183
    assert measured(ack) <= 158
    assert 2 * (measured(syn) + measured(ack)) <= 1024


def test_a_push_of_one_key_is_small() -> None:
    """The value is in the state, and not repeated."""
    register = Register("k", 10, HLC, 45981)
    push = Push(
        "45981", 1775642400123, {"k": 10}, "1775642400", 2, SWARM, X, ROOT, 1200, (register,)
    )
    assert measured(push) <= 265
    assert push.encode()["g"]["e"] == [["k", HLC, 45981, 0]]


def test_a_full_syn_keeps_to_the_cap() -> None:
    """With the longest name and the largest numbers, liveness news gives way first."""
    recent = tuple((f"{number:016x}", HLC) for number in range(8))
    some = (News(2**32 - 1, 2**41, 2**32 - 1, 3),) * 16
    syn = Syn("a" * 32, "f" * 16, 2**32 - 1, 2**53, HLC, ROOT, 10_000, recent, some, ROOT)
    assert measured(syn) <= MAX_SYN
    again = decode(travelled(syn))
    assert isinstance(again, Syn)
    assert again.recent == recent
    assert len(again.news) >= 8
    longer = Syn(SWARM, X, 45981, 1775642400, HLC, ROOT, 1200, recent * 2, some * 2)
    assert measured(longer) <= MAX_SYN
    decode(travelled(longer))


def test_bucket_sums_take_two_kilobytes() -> None:
    """Whatever the size of the set."""
    assert measured(Ack(SWARM, X, HLC, ROOT, 1200, buckets=Digest().pack())) <= 2048 + 158


def test_a_frame_is_filled_and_not_overfilled() -> None:
    """The registers that fit, in their order, and the others for the next frame."""
    some = [Register(f"k{number}", "x" * 100, HLC, number) for number in range(1000)]
    room = MAX_FRAME - size_of(Delta(SWARM, X, cursor="f" * 64, want=("ff",)).encode()) - 10
    taken, left = pack(some, room)
    assert taken + left == some
    delta = Delta(SWARM, X, tuple(taken), ("ff",), cursor="f" * 64)
    assert MAX_FRAME - 200 < measured(delta) <= MAX_FRAME
    assert pack(some, MAX_FRAME, count=3)[0] == some[:3]
    assert pack(some, 10) == ([], some)
    assert pack([], room) == ([], [])


def test_one_register_of_the_largest_size_fits_a_frame() -> None:
    """Or it could never be sent."""
    register = Register("k" * 256, "x" * (16 * 1024 - 2), HLC, 2**32 - 1, FLAG_TOMBSTONE)
    assert pack([register], MAX_FRAME - 1024)[0] == [register]
