"""Claims, watched events and questions over the control socket: what only happens there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pilot.address import Address
from pilot.daemon.ipc_limits import IpcLimits
from pilot.errors import WireError
from pilot.wire.eventstream import Event, encode_event
from pilot.wire.ipc import Command, Error, encode_json
from pilot.wire.ipc_extensions import Claimed, Extension, Hello, Verdict, WatchedEvent
from tests.client.nodeapi import Street
from tests.daemon.ipcharness import Client, error

BOB = Address(0, 2)


class Program(Client):
    """A raw client of alice's control socket."""

    def __init__(self, street: Street, hello: bool = True) -> None:
        world: Any = street.world
        world.turn = lambda: street.run(0.05)
        super().__init__(world, street.alice.server)
        if hello:
            assert self.ask(Extension.HELLO, Hello().encode())[0] == Extension.HELLO_OK

    def op(self, **request: Any) -> dict[str, Any]:
        command, payload = self.ask(Extension.NODE, encode_json(request))
        assert command == Extension.NODE_OK
        answer: dict[str, Any] = json.loads(payload)
        return answer


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    limits = IpcLimits(
        prefixes_per_client=3,
        undecided_per_client=2,
        undecided_bytes=1000,
        datagram_backlog=200,
    )
    street = Street(tmp_path, limits=limits)
    yield street
    street.close()


def test_nothing_of_it_exists_before_hello(street: Street) -> None:
    """As with the reference, down to the words."""
    program = Program(street, hello=False)
    assert program.ask(Extension.NODE, b"{}") == error("unknown command: 0x60")
    assert program.ask(Extension.VERDICT, bytes(5)) == error("unknown command: 0x63")
    street.alice.node.claim_messages("other", lambda *_: True)
    street.wait(street.bob.node.send_message(1, {"type": "x"}))
    assert program.frames() == []
    program.hang_up()


def test_a_list_takes_the_place_of_the_one_before(street: Street) -> None:
    """Two prefixes that match are one message; an empty list ends it all."""
    program = Program(street)
    assert program.op(op="claim", prefixes=["a", "ab"]) == {"status": "ok", "data": {}}
    sent = street.bob.node.send_message(1, {"type": "abc"})
    street.run(0.2)
    ((command, payload),) = program.frames()
    assert command == Extension.CLAIMED
    claimed = Claimed.decode(payload)
    assert claimed.source == BOB
    assert json.loads(claimed.content) == {"type": "abc"}
    assert street.alice.inbox == []
    program.send(Extension.VERDICT, Verdict(claimed.number, True).encode())
    program.send(Extension.VERDICT, Verdict(claimed.number, False).encode())  # once is enough
    program.send(Extension.VERDICT, Verdict(77, True).encode())
    street.wait(sent)
    assert street.alice.inbox == []
    program.op(op="claim", prefixes=[])
    assert not street.alice.node.parts.claims.active
    street.wait(street.bob.node.send_message(1, {"type": "abc"}))
    assert len(street.alice.inbox) == 1
    program.hang_up()


def test_who_leaves_has_taken_nothing(street: Street) -> None:
    """At once, not after ten seconds."""
    program = Program(street)
    program.op(op="claim", prefixes=["a"])
    sent = street.bob.node.send_message(1, {"type": "a"})
    street.run(0.2)
    program.hang_up()
    street.wait(sent, 1.0)
    assert len(street.alice.inbox) == 1
    assert not street.alice.node.parts.claims.active


def test_who_never_answers_has_taken_nothing(street: Street) -> None:
    """Ten seconds, and no more undecided messages than allowed; the rest goes on at once."""
    program = Program(street)
    program.op(op="claim", prefixes=["a"])
    sent = [street.bob.node.send_message(1, {"type": "a", "n": n}) for n in range(3)]
    large = street.bob.node.send_message(1, {"type": "a", "x": "y" * 2000})
    street.run(0.5)
    assert len(street.alice.inbox) == 2
    assert street.alice.server.refused["ipc_claims"] == 2
    for each in (*sent, large):
        street.wait(each, 15)
    assert len(street.alice.inbox) == 4
    assert street.alice.node.parts.claims.statistics()["overdue"] == 2
    program.hang_up()


def test_those_inside_the_daemon_are_asked_first(street: Street) -> None:
    program = Program(street)
    program.op(op="claim", prefixes=["a"])
    taking: list[Any] = []
    held: Deferred[bool] = Deferred()
    street.alice.node.claim_messages("a", lambda *all: taking.append(all) or held)
    sent = street.bob.node.send_message(1, {"type": "a"})
    street.until(lambda: taking)
    assert program.frames() == []
    held.callback(True)
    street.wait(sent)
    assert program.frames() == []
    program.hang_up()


def test_a_slow_program_loses_events_and_that_is_counted(street: Street) -> None:
    """The oldest; the broker and its subscribers notice nothing."""
    program = Program(street)
    program.op(op="watch", prefixes=["p."])
    program.transport.full = True
    for number in range(20):
        street.alice.node.announce("p.x", {"n": number})
    program.transport.unblock()
    street.run(0.1)
    events = [WatchedEvent.decode(payload) for _, payload in program.frames()]
    assert all(each.source == Address(0, 1) for each in events)
    numbers = [json.loads(each.event.payload)["n"] for each in events]
    assert numbers[-1] == 19
    lost = street.alice.server.refused["ipc_events"]
    assert 0 < lost == 20 - len(numbers)
    program.hang_up()
    assert street.alice.events.broker.tap is None


def test_an_event_that_fits_no_frame_is_counted(street: Street) -> None:
    program = Program(street)
    program.op(op="watch", prefixes=[""])
    street.wait(street.alice.node.publish("self", "big", bytes(1 << 20)))
    street.run(1)
    assert program.frames() == []
    assert street.alice.server.refused["ipc_events"] == 1
    program.hang_up()


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "no such operation"),
        ({"op": 5}, "no such operation"),
        ({"op": "claim"}, "prefixes is no list"),
        ({"op": "claim", "prefixes": [5]}, "prefixes is no list"),
        ({"op": "claim", "prefixes": ["a"] * 4}, "too many prefixes"),
        ({"op": "claim", "prefixes": ['"']}, "invalid message type"),
        ({"op": "watch", "prefixes": ["x" * 1025]}, "at most 1024 bytes"),
        ({"op": "announce", "name": "a", "data": []}, "data is no object"),
        ({"op": "announce", "name": "A", "data": {}}, "invalid announcement"),
        ({"op": "sign", "domain": "a", "data": "?"}, "not base64"),
        ({"op": "sign", "domain": "", "data": ""}, "invalid signature domain"),
        ({"op": "public_key"}, "node_id is no node id"),
        ({"op": "public_key", "node_id": 1 << 32}, "node_id is no node id"),
        ({"op": "peers", "after": True}, "after is no node id"),
        ({"op": "set_tags", "tags": "x"}, "tags is no list"),
    ],
)
def test_what_makes_no_sense_is_said(street: Street, request_: dict[str, Any], words: str) -> None:
    program = Program(street)
    answer = program.op(**request_)
    assert answer["status"] == "error"
    assert answer["code"] == "invalid_argument"
    assert words in answer["message"]
    program.hang_up()


def test_no_json_is_an_answer_too(street: Street) -> None:
    program = Program(street)
    for payload in (b"", b"[]", b"{"):
        command, reply = program.ask(Extension.NODE, payload)
        assert command == Extension.NODE_OK
        assert json.loads(reply)["code"] == "invalid_argument"
    command, reply = program.ask(Extension.VERDICT, b"")
    assert command == Command.ERROR
    assert Error.decode(reply).text == "verdict: too short"
    program.hang_up()


def test_payloads() -> None:
    """What is written is read again, and what is short is refused."""
    event = Event(b"t", encode_event(b"t", b"p"))
    for one in (Claimed(7, BOB, b"{}"), Verdict(7, True), WatchedEvent(BOB, event)):
        assert type(one).decode(one.encode()) == one
        with pytest.raises(WireError):
            type(one).decode(one.encode()[:4])
    with pytest.raises(WireError):
        WatchedEvent.decode(BOB.pack() + event.frame + b"x")
    with pytest.raises(WireError):
        WatchedEvent.decode(BOB.pack() + b"\xff\xff" + event.frame)
