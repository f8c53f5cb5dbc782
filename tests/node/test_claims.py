"""Claimed messages: who is asked, in which order, and what that may cost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pilot.address import Address
from pilot.errors import InvalidArgument
from pilot.node.claims import MAX_CLAIMED, MAX_CLAIMS, Claims

BOB = Address(0, 2)


def message(kind: Any, **more: Any) -> bytes:
    return json.dumps({"type": kind, **more}).encode()


def outcome(offered: Deferred[bool] | None) -> Any:
    """@return: what became of an offer; None: nobody's, "open": not decided."""
    if offered is None:
        return None
    got: list[Any] = []
    offered.addCallback(got.append)
    return got[0] if got else "open"


def test_the_first_that_takes_it_has_it() -> None:
    """Those of other programs come after those inside the daemon, whoever came first."""
    claims, asked = Claims(Clock()), []

    def claimer(name: str, answer: bool) -> Any:
        return lambda *_: asked.append(name) or answer

    claims.claim(("a",), claimer("remote", True), last=True)
    claims.claim(("a",), claimer("one", False))
    stop = claims.claim(("a",), claimer("two", True))
    claims.claim(("a",), claimer("three", True))
    assert outcome(claims.offer(BOB, message("ab"))) is True
    assert asked == ["one", "two"]
    stop()
    assert outcome(claims.offer(BOB, message("ab"))) is True
    assert asked[2:] == ["one", "three"]
    assert claims.statistics()["taken"] == 2


def test_each_has_a_document_of_its_own() -> None:
    claims, seen = Claims(Clock()), []

    def spoil(source: Address, document: dict[str, Any], content: bytes) -> bool:
        document.clear()
        return False

    claims.claim(("a",), spoil)
    claims.claim(("a",), lambda source, document, content: seen.append(document) or True)
    assert outcome(claims.offer(BOB, message("a", n=[1]))) is True
    assert seen == [{"type": "a", "n": [1]}]


def test_the_source_is_the_node_whatever_network_it_names() -> None:
    claims, seen = Claims(Clock()), []
    claims.claim(("a",), lambda source, *_: seen.append(source) or True)
    outcome(claims.offer(Address(7, 2), message("a")))
    assert seen == [BOB]


def test_thinking_takes_ten_seconds_at_most() -> None:
    """Then the next is asked; an answer that comes later means nothing."""
    clock = Clock()
    claims = Claims(clock)
    thoughts: list[Deferred[bool]] = []
    claims.claim(("a",), lambda *_: thoughts.append(Deferred()) or thoughts[-1])
    claims.claim(("a",), lambda *_: thoughts.append(Deferred()) or thoughts[-1])
    offered = claims.offer(BOB, message("a"))
    assert offered is not None
    got: list[bool] = []
    offered.addCallback(got.append)
    clock.advance(9.9)
    assert len(thoughts) == 1
    clock.advance(0.2)
    assert len(thoughts) == 2
    thoughts[0].callback(True)
    assert not got
    clock.advance(10)
    assert got == [False]
    assert claims.statistics()["overdue"] == 2
    assert not clock.getDelayedCalls()


def test_many_that_think_are_not_given_more() -> None:
    claims = Claims(Clock(), undecided=3)
    thoughts: list[Deferred[bool]] = []
    claims.claim(("a",), lambda *_: thoughts.append(Deferred()) or thoughts[-1])
    offers = [claims.offer(BOB, message("a")) for _ in range(5)]
    assert [outcome(each) for each in offers] == ["open"] * 3 + [False] * 2
    assert claims.statistics() | {"claims": 1} == claims.statistics()
    assert claims.statistics()["crowded"] == 2
    for thought in thoughts:
        thought.callback(True)
    assert claims.statistics()["undecided"] == 0


def test_claims_are_bounded() -> None:
    claims = Claims(Clock())
    for _ in range(MAX_CLAIMS):
        claims.claim(("a",), lambda *_: True)
    with pytest.raises(InvalidArgument):
        claims.claim(("a",), lambda *_: True)


def test_large_messages_are_not_parsed() -> None:
    claims = Claims(Clock())
    claims.claim(("a",), lambda *_: True)
    assert outcome(claims.offer(BOB, message("a", x="y" * MAX_CLAIMED))) is None


@given(st.one_of(st.binary(), st.binary().map(lambda b: b'{"type":"a' + b), st.text().map(message)))
def test_whatever_peers_send_harms_nobody(content: bytes) -> None:
    """Any bytes are taken or not, and never an error."""
    claims = Claims(Clock())
    claims.claim(("a",), lambda *_: True)
    assert outcome(claims.offer(BOB, content)) in (None, True)
