"""The same questions to a node from inside the daemon, and through its control socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pilot.address import PORT_DATA_EXCHANGE, Address
from pilot.crypto.skillsignature import verify_skill
from pilot.errors import (
    ConnectionFailed,
    ConnectionRefused,
    InvalidArgument,
    MessageRefused,
    NotFound,
    PilotError,
)
from pilot.interfaces import IPilotNode
from pilot.node.node import no_tasks
from pilot.services.mailstore import MailLimits
from tests.client.nodeapi import Street

ALICE, BOB = Address(0, 1), Address(0, 2)


@pytest.fixture(params=[False, True], ids=["inside", "remote"])
def remote(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def street(remote: bool, tmp_path: Path) -> Iterator[Street]:
    street = Street(tmp_path, remote=remote)
    yield street
    street.close()


def failure_of(street: Street, deferred: Any) -> PilotError:
    with pytest.raises(PilotError) as caught:
        street.wait(deferred)
    return caught.value


def test_both_provide_the_interface(street: Street) -> None:
    assert IPilotNode.providedBy(street.asked)


# -- messages out ----------------------------------------------------------------------------


def test_messages_go_over_one_stream_in_order(street: Street) -> None:
    """Confirmed means that they are in the inbox; the stream is closed when it has been idle."""
    street.wait(street.asked.send_message("bob", "by name"))
    sent = [street.asked.send_message(BOB, {"n": number}) for number in range(30)]
    sent.append(street.asked.send_message(2, "text"))
    sent.append(street.asked.send_message(BOB, b"\x00\x01"))
    for each in sent:
        street.wait(each)
    received = street.told("bob", "message.received")
    assert [each["type"] for each in received] == ["TEXT"] + ["JSON"] * 30 + ["TEXT", "BINARY"]
    assert all(each["from"] == str(ALICE) for each in received)
    assert sorted(json.loads(text)["n"] for text in street.bob.inbox if '"n"' in text) == list(
        range(30)
    )
    assert street.bob.exchange.connections == 1
    street.run(62, 0.5)
    assert street.bob.exchange.connections == 0
    street.wait(street.asked.send_message(BOB, "again"))


def test_a_refusal_fails_its_message_only(remote: bool, tmp_path: Path) -> None:
    """The peer says why, and the stream goes on."""
    street = Street(tmp_path, remote=remote, mail=MailLimits(inbox_messages=1))
    one, two = (street.asked.send_message(BOB, {"n": number}) for number in (1, 2))
    street.wait(one)
    error = failure_of(street, two)
    assert isinstance(error, MessageRefused)
    assert "full" in error.message
    assert street.bob.exchange.connections == 1
    street.close()


def test_a_peer_that_cannot_be_reached_is_left_alone(street: Street) -> None:
    """Messages meanwhile fail at once; after the rest the peer is tried again."""
    street.bob.mail_port.stopListening()
    dialled = street.asked.send_message(BOB, "x")
    assert isinstance(failure_of(street, dialled), ConnectionRefused)
    failed: list[Any] = []
    street.asked.send_message(BOB, "y").addErrback(failed.append)
    assert "could not be reached" in failed[0].value.message
    assert "tried again" in failed[0].value.hint
    street.wait(street.bob.node.listen(PORT_DATA_EXCHANGE, street.bob.exchange))
    street.run(1.2)
    street.wait(street.asked.send_message(BOB, "z"))


def test_what_cannot_be_a_message(street: Street) -> None:
    assert isinstance(failure_of(street, street.asked.send_message(BOB, 7)), InvalidArgument)
    nonsense = failure_of(street, street.asked.send_message(BOB, {"a": float("nan")}))
    assert nonsense.code == "invalid_argument"
    large = failure_of(street, street.asked.send_message(BOB, bytes(16 * 1024 * 1024 + 1)))
    assert "too large" in large.message


def test_a_stream_that_breaks_fails_what_was_not_answered(street: Street) -> None:
    """Nobody can say whether it came; the next message gets a stream of its own."""
    held: Deferred[bool] = Deferred()
    stop = street.bob.node.claim_messages("hold", lambda *_: held)
    sent = street.asked.send_message(BOB, {"type": "hold"})
    street.until(lambda: street.bob.node.parts.claims.statistics()["undecided"])
    for stream in list(street.bob.node.parts.streams._by_id.values()):
        stream.abortConnection()
    error = failure_of(street, sent)
    assert "ended before the answer" in error.message
    stop()
    held.callback(False)
    street.run(1.2)
    street.wait(street.asked.send_message(BOB, "next"))


# -- messages in -----------------------------------------------------------------------------


def test_a_claimed_message_never_sees_the_inbox(street: Street) -> None:
    """It is confirmed once it was taken, not before, and nobody is told of it."""
    heard: list[Any] = []
    verdict: Deferred[bool] = Deferred()

    def listener(source: Address, document: dict[str, Any], size: int) -> Deferred[bool]:
        heard.append((source, document, size))
        return verdict

    street.asked.claim_messages("gossip_", listener)
    street.run(0.1)
    confirmed: list[Any] = []
    street.bob.node.send_message("alice", {"type": "gossip_push", "n": 1}).addCallback(
        confirmed.append
    )
    street.until(lambda: heard)
    assert heard == [(BOB, {"type": "gossip_push", "n": 1}, 28)]
    street.run(1)
    assert not confirmed
    verdict.callback(True)
    street.until(lambda: confirmed)
    assert street.alice.inbox == []
    assert street.told("alice", "message.received") == []
    assert street.alice.node.parts.claims.statistics()["taken"] == 1


def test_what_nobody_takes_goes_to_the_inbox(
    street: Street, nothing_left_behind: list[Failure]
) -> None:
    """Refused, raised, said nothing, or was never claimed: all the same to the sender."""
    never: list[Deferred[bool]] = []

    def listener(source: Address, document: dict[str, Any], size: int) -> Any:
        if document["type"] == "x_raise":
            raise RuntimeError("no")
        if document["type"] == "x_silent":
            never.append(Deferred())
            return never[-1]
        return False

    stop = street.asked.claim_messages("x_", listener)
    street.run(0.1)
    for kind in ("x_no", "x_raise", "x_silent", "y", "y x_no"):
        street.wait(street.bob.node.send_message(1, {"type": kind}))
    street.wait(street.bob.node.send_message(1, 'no JSON but "type" and x_'))
    street.wait(street.bob.node.send_message(1, json.dumps({"text": "x_", "type": 5})))
    street.wait(street.bob.node.send_message(1, b'{"type":"x_no"}'))
    assert len(street.alice.inbox) == 8
    assert len(street.told("alice", "message.received")) == 8
    stop()
    stop()
    street.run(0.1)
    assert not street.alice.node.parts.claims.active
    street.wait(street.bob.node.send_message(1, {"type": "x_no"}))
    assert len(nothing_left_behind) >= 1
    nothing_left_behind.clear()


def test_text_that_is_json_counts(street: Street) -> None:
    """The published scripts send objects as text."""
    heard: list[Any] = []
    street.asked.claim_messages("gossip", lambda *all: heard.append(all) or True)
    street.run(0.1)
    street.wait(street.bob.node.send_message(1, ' {"type":"gossip_push","x":[1]}'))
    assert heard == [(BOB, {"type": "gossip_push", "x": [1]}, 31)]


def test_own_messages_come_from_the_own_address(street: Street) -> None:
    heard: list[Any] = []
    street.asked.claim_messages("a", lambda *all: heard.append(all) or True)
    street.run(0.1)
    street.wait(street.asked.send_message("self", {"type": "a"}))
    assert heard == [(ALICE, {"type": "a"}, 12)]


@pytest.mark.parametrize("prefix", ["", 'a"', "a b", "ä", "x" * 65])
def test_no_such_claim(street: Street, prefix: str) -> None:
    with pytest.raises(InvalidArgument):
        street.asked.claim_messages(prefix, lambda *_: True)


# -- events ----------------------------------------------------------------------------------


def test_publish_and_subscribe(street: Street) -> None:
    """A prefix is a prefix, the stream is kept, and its end is told once."""
    heard: list[Any] = []
    ends: list[Failure] = []
    stop = street.wait(
        street.asked.subscribe("bob", "presence.*", lambda *all: heard.append(all), ends.append)
    )
    street.run(0.2)
    for topic, payload in (("presence.status", b"1"), ("other", b"2"), ("presence.x", b"3")):
        street.wait(street.asked.publish(BOB, topic, payload))
    street.until(lambda: len(heard) == 2)
    assert heard == [("presence.status", b"1"), ("presence.x", b"3")]
    subscribers = street.bob.events.broker.statistics()["subscriptions"]
    assert subscribers == 2  # the subscription, and one stream that publishes
    stop()
    street.run(0.2)
    assert ends == []
    street.wait(street.asked.subscribe(2, "*", lambda *all: heard.append(all), ends.append))
    street.run(0.2)
    for stream in list(street.bob.node.parts.streams._by_id.values()):
        stream.abortConnection()
    street.until(lambda: ends)
    assert isinstance(ends[0].value, ConnectionFailed)
    assert len(ends) == 1


def test_watching_tells_who_published(street: Street) -> None:
    """The tunnel says who it was, not the payload."""
    heard: list[Any] = []
    stop = street.asked.watch_events("presence.", lambda *all: heard.append(all))
    also = street.asked.watch_events("presence.s", lambda source, topic, payload: 1 / 0)
    also()
    street.run(0.1)
    street.wait(street.bob.node.publish(1, "presence.status", b"{}"))
    street.wait(street.bob.node.publish(1, "other", b""))
    street.wait(street.asked.publish("self", "presence.status", b"mine"))
    street.until(lambda: len(heard) == 2)
    assert sorted(heard) == [(ALICE, "presence.status", b"mine"), (BOB, "presence.status", b"{}")]
    stop()
    street.run(0.1)
    assert street.alice.events.broker.tap is None


def test_announcing(street: Street) -> None:
    """The webhook, subscribers and watchers hear it; the last two only if that is meant."""
    watched: list[Any] = []
    subscribed: list[Any] = []
    street.asked.watch_events("", lambda *all: watched.append(all))
    street.wait(
        street.bob.node.subscribe(1, "*", lambda *all: subscribed.append(all), lambda _: None)
    )
    street.run(0.2)
    street.asked.announce("presence.changed", {"node": 2})
    street.asked.announce("gossip.note", {"n": 1}, publish=False)
    street.until(lambda: subscribed)
    assert watched == [(ALICE, "presence.changed", b'{"node":2}')]
    assert subscribed == [("presence.changed", b'{"node":2}')]
    assert street.told("alice", "presence.changed") == [{"node": 2}]
    assert street.told("alice", "gossip.note") == [{"n": 1}]
    assert street.told("alice", "pubsub.published") == []
    with pytest.raises(InvalidArgument):
        street.asked.announce("Not a name", {})
    with pytest.raises(PilotError):
        street.asked.announce("a", {"x": float("inf")})
    with pytest.raises(InvalidArgument):
        street.asked.announce("a", {"x": "y" * 70_000})


# -- what the node is, knows and does --------------------------------------------------------


def test_peers_and_tags(street: Street) -> None:
    """Trusted peers are listed with their tags before there was any traffic with them."""
    assert street.wait(street.asked.tags()) == []
    assert street.wait(street.asked.set_tags(["#one", "two"])) == ["one", "two"]
    assert street.wait(street.asked.tags()) == ["one", "two"]
    ten = list("abcdefghij")
    assert street.wait(street.asked.set_tags(ten)) == ten
    assert "maximum 10" in failure_of(street, street.asked.set_tags([*ten, "k"])).message
    assert failure_of(street, street.asked.set_tags(["no good"])).code == "connection_failed"
    street.wait(street.bob.node.set_tags(["swarm-kv"]))
    (bob,) = street.wait(street.asked.peers())
    assert bob == {
        "node_id": 2,
        "address": str(BOB),
        "hostname": "bob",
        "tags": ["swarm-kv"],
        "public_key": street.bob.node.parts.identity.public_key_text,
    }
    street.wait(street.bob.node.set_tags([]))
    for _ in range(7):  # somebody asks now and then, and it is never older than a minute
        street.run(10, 0.1)
        (bob,) = street.wait(street.asked.peers())
    assert bob["tags"] == []


def test_tags_of_an_earlier_run_are_known(street: Street) -> None:
    street.wait(street.alice.node.set_tags(["kept"]))
    street.alice.node.parts.profile.tags = None
    assert street.wait(street.asked.tags()) == ["kept"]


def test_signing(street: Street) -> None:
    """A signature holds for its domain only, with the key that the registry names."""
    signature = street.wait(street.asked.sign("gossip/v2", b"data"))
    key = street.wait(street.bob.node.public_key(1))
    assert verify_skill(key, signature, "gossip/v2", b"data")
    assert not verify_skill(key, signature, "presence", b"data")
    assert isinstance(failure_of(street, street.asked.sign("No", b"")), InvalidArgument)


def test_keys(street: Street) -> None:
    identity = street.bob.node.parts.identity
    assert street.wait(street.asked.public_key(2)) == identity.public_key
    own = street.alice.node.parts.identity.public_key
    assert street.wait(street.asked.public_key(1)) == own
    assert isinstance(failure_of(street, street.asked.public_key(99)), NotFound)


def test_tasks(street: Street) -> None:
    """What the daemon would answer a person, it answers a program."""
    error = failure_of(street, street.asked.tasks({"op": "execute"}))
    assert error.message == no_tasks().message

    async def control(request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "execute":
            raise NotFound("no accepted tasks", hint="accept one")
        return {"done": request["op"]}

    street.alice.node.parts.tasks = street.alice.server.tasks = control
    assert street.wait(street.asked.tasks({"op": "x"})) == {"done": "x"}
    refused = failure_of(street, street.asked.tasks({"op": "execute"}))
    assert isinstance(refused, NotFound)
    assert refused.hint == "accept one"
