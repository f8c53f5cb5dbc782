"""The client: order, time limits, reconnecting, what is sent twice and what is not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pilot.errors import InvalidArgument, RegistryError, RegistryUnavailable
from pilot.registry import client as client_module
from pilot.registry.client import RegistryClient
from pilot.registry.dialing import registry_endpoint, split_address
from pilot.registry.link import OUTSTANDING, REPEATABLE
from pilot.wire.registry import SIGNED_FIELDS, FrameDecoder, encode_frame
from tests.registry.support import ADMIN, Server, identity


class Wire:
    """One side of a connection in memory; what it writes arrives at the other in a while."""

    def __init__(self, clock: Clock, host: str) -> None:
        self.clock = clock
        self.protocol: Any = None
        self.other: Wire
        self.open = True
        self.peer = type("Peer", (), {"host": host, "port": 40980})()

    def getPeer(self) -> Any:
        return self.peer

    def write(self, data: bytes) -> None:
        self.clock.callLater(0.001, self.other.arrive, data)

    def arrive(self, data: bytes) -> None:
        if self.open:
            self.protocol.dataReceived(data)

    def loseConnection(self, reason: type[Exception] = ConnectionDone) -> None:
        for side in (self, self.other):
            if side.open:
                side.open = False
                side.clock.callLater(0.001, side.protocol.connectionLost, Failure(reason()))

    def abortConnection(self) -> None:
        self.loseConnection(ConnectionLost)

    def registerProducer(self, producer: object, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...
    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...


class Network:
    """An endpoint for the client: leads to a server, to a test, or nowhere."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.server: Server | None = None
        self.build: Callable[[], Any] | None = None
        self.attempts = 0
        self.wires: list[Wire] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        self.attempts += 1
        if self.server is None and self.build is None:
            return fail(ConnectionRefusedError(111))
        client, server = Wire(self.clock, "192.0.2.1"), Wire(self.clock, "198.51.100.7")
        client.other, server.other = server, client
        if self.build is not None:
            server.protocol = self.build()
        else:
            assert self.server is not None
            server.protocol = self.server.factory.buildProtocol(None)
        client.protocol = factory.buildProtocol(None)
        server.protocol.makeConnection(server)
        client.protocol.makeConnection(client)
        self.wires.append(client)
        return succeed(client.protocol)


class Deaf:
    """A registry that takes requests and says what the test tells it to."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.decoder = FrameDecoder()
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.heard += self.decoder.feed(data)

    def connectionLost(self, reason: Failure) -> None: ...

    def say(self, message: dict[str, Any]) -> None:
        self.transport.write(encode_frame(message))


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = Server()
        self.clock = self.server.clock
        self.network = Network(self.clock)
        self.network.server = self.server
        monkeypatch.setattr(client_module, "registry_endpoint", lambda *_: self.network)

    def client(self, number: int = 1) -> RegistryClient:
        return RegistryClient(
            self.clock, "192.0.2.1:9000", identity=identity(number), rng=random.Random(number)
        )

    def done(self, deferred: Deferred[Any], seconds: float = 0.1) -> Any:
        """@return: the result, after letting some time pass."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.wait(seconds)
        assert results, "not answered"
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.01)):
            self.clock.advance(0.01)

    def deaf(self) -> list[Deaf]:
        """@return: the registries met from now on, none of which answers by itself."""
        met: list[Deaf] = []

        def build() -> Deaf:
            met.append(Deaf())
            return met[-1]

        self.network.build = build
        return met


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def settled(*deferreds: Deferred[Any]) -> list[Any]:
    """@return: results, and the types of errors; None for what is not settled."""
    found: list[Any] = [None] * len(deferreds)

    def note(result: Any, place: int) -> None:
        found[place] = result.type if isinstance(result, Failure) else result

    for place, deferred in enumerate(deferreds):
        deferred.addBoth(note, place)
    return found


def test_every_request_is_what_the_registry_wants(world: World) -> None:
    """All typed requests, against our own registry: none fails for its form or signature."""
    one, two = world.client(1), world.client(2)
    assert world.done(one.register(":4000", hostname="one", version="v1"))["node_id"] == 1
    assert world.done(two.register(":4001", lan_addrs=["10.0.0.1:4001"]))["node_id"] == 2
    assert (one.node_id, one.notified, one.connected) == (1, True, True)
    for asked in (
        lambda: one.heartbeat(),
        lambda: one.lookup(2),
        lambda: one.set_hostname("uno"),
        lambda: one.set_visibility(True),
        lambda: one.set_tags(["a"]),
        lambda: one.set_task_exec(True),
        lambda: two.resolve(1),
        lambda: two.resolve_hostname("uno"),
        lambda: two.punch(1),
        lambda: one.request_handshake(2, "hi"),
        lambda: two.poll_handshakes(),
        lambda: two.respond_handshake(1, True),
        lambda: one.check_trust(2),
        lambda: one.report_trust(2),
        lambda: one.revoke_trust(2),
        lambda: one.get_polo_score(2),
        lambda: one.update_polo_score(2, 3),
        lambda: two.set_polo_score(2, 1),
        lambda: one.get_key_info(2),
        lambda: one.create_network("net", admin_token=ADMIN, join_rule="invite", enterprise=True),
        lambda: one.set_key_expiry("never"),
        lambda: one.list_networks(),
        lambda: one.list_nodes(1),
        lambda: one.invite_to_network(1, 2),
        lambda: two.poll_invites(),
        lambda: two.respond_invite(1, True),
        lambda: one.set_member_tags(1, 2, ["x"]),
        lambda: one.get_member_tags(1),
        lambda: one.get_member_role(1, 2),
        lambda: one.govern("promote_member", 1, target_node_id=2),
        lambda: one.govern("set_network_policy", 1, max_members=5),
        lambda: one.get_network_policy(1),
        lambda: one.get_expr_policy(1),
        lambda: two.leave_network(1),
        lambda: one.create_network("open", admin_token=ADMIN),
        lambda: two.join_network(2),
        lambda: one.rotate_key(identity(7)),
        lambda: one.heartbeat(),
        lambda: one.deregister(),
    ):
        assert "error" not in world.done(asked())
    assert set(SIGNED_FIELDS) <= set(world.server.directory.statistics.requests)
    assert not world.server.directory.statistics.errors


def test_the_registry_s_no_is_an_error_with_its_words(world: World) -> None:
    with pytest.raises(RegistryError) as caught:
        world.done(world.client().lookup(9))
    assert caught.value.message == "node 9: node not found"


def test_an_error_of_any_type_is_an_error(world: World) -> None:
    met = world.deaf()
    asked = world.client().lookup(1)
    world.wait(0.1)
    met[0].say({"type": "lookup_ok", "error": "no"})
    with pytest.raises(RegistryError, match="no"):
        world.done(asked)


def test_requests_are_sent_at_once_and_answered_in_order(world: World) -> None:
    met = world.deaf()
    client = world.client()
    first, second = client.lookup(1), client.lookup(2)
    world.wait(0.1)
    assert [m["node_id"] for m in met[0].heard] == [1, 2]
    met[0].say({"type": "lookup_ok", "n": 1})
    met[0].say({"type": "lookup_ok", "n": 2})
    assert world.done(second)["n"] == 2
    assert world.done(first)["n"] == 1


def test_events_between_answers_reach_who_listens(world: World) -> None:
    one, two = world.client(1), world.client(2)
    events: list[str] = []
    two.on_notify(events.append)
    world.done(one.register(":1"))
    world.done(two.register(":2"))
    world.done(one.request_handshake(2))
    assert events == ["handshakes"]
    assert world.done(two.poll_handshakes())["requests"][0]["from_node_id"] == 1


class TestOutages:
    def test_a_registry_that_is_not_there_is_reported_soon(self, world: World) -> None:
        world.network.server = None
        asked = world.client().lookup(1)
        with pytest.raises(RegistryUnavailable) as caught:
            world.done(asked, 5)
        assert "192.0.2.1:9000 cannot be reached: connection refused" in caught.value.message
        assert world.network.attempts > 3
        assert not world.clock.getDelayedCalls()

    def test_one_that_comes_up_meanwhile_answers(self, world: World) -> None:
        world.network.server = None
        asked = world.client().list_networks()
        world.wait(1)
        world.network.server = world.server
        assert "networks" in world.done(asked, 2)

    def test_without_an_answer_a_request_fails_after_ten_seconds(self, world: World) -> None:
        """And the connection is made anew, for answers come in order."""
        met = world.deaf()
        client = world.client()
        asked = client.update_polo_score(1, 1)
        world.wait(5)
        later = client.lookup(1)
        world.wait(4.9)
        results = settled(asked, later)
        world.wait(0.2)
        assert results == [RegistryUnavailable, None]
        world.wait(1)
        assert len(met) == 2
        assert [m["type"] for m in met[1].heard] == ["lookup"]
        client.close()
        world.wait(0.1)
        assert results[1] is RegistryUnavailable

    def test_what_was_under_way_is_sent_once_more_if_that_is_harmless(self, world: World) -> None:
        met = world.deaf()
        client = world.client()
        asked = client.lookup(1), client.update_polo_score(1, 1), client.lookup(2)
        world.wait(0.1)
        results = settled(*asked)
        met[0].transport.abortConnection()
        world.wait(0.5)
        assert [m["node_id"] for m in met[1].heard] == [1, 2]
        assert results == [None, RegistryUnavailable, None]
        met[1].transport.abortConnection()
        world.wait(0.5)
        assert results == [RegistryUnavailable] * 3
        assert met[-1].heard == []
        client.close()
        world.wait(0.1)

    def test_nothing_that_adds_up_is_ever_sent_twice(self) -> None:
        changes = {"update_polo_score", "create_network", "rotate_key", "request_handshake"}
        changes |= {"join_network", "leave_network", "respond_invite", "revoke_trust"}
        assert not changes & REPEATABLE

    def test_a_known_node_shows_itself_first_on_every_connection(self, world: World) -> None:
        """The registry may have lost it, and lists and events are for whom it knows."""
        client = world.client()
        connected: list[bool] = []
        client.on_connected(lambda: connected.append(client.connected))
        world.done(client.register(":1"))
        met = world.deaf()
        world.network.wires[-1].abortConnection()
        world.wait(0.005)
        waiting = client.list_networks()
        world.wait(0.5)
        assert [m["type"] for m in met[0].heard] == ["heartbeat", "list_networks"]
        assert met[0].heard[0]["notify"] is True
        assert connected == [True, True]
        assert not client.notified
        met[0].say({"type": "heartbeat_ok", "notify": True})
        met[0].say({"type": "list_networks_ok"})
        world.done(waiting)
        assert client.notified
        client.close()
        world.wait(0.1)

    def test_a_registry_that_lost_everything_is_registered_with_again(self, world: World) -> None:
        client = world.client()
        world.done(client.register(":1"))
        again: list[Any] = []

        def connected() -> None:
            client.heartbeat().addErrback(lambda _: client.register(":1").addCallback(again.append))

        client.on_connected(connected)
        world.network.server = None
        world.network.wires[-1].abortConnection()
        world.wait(3)
        empty = Server()
        world.network.server = empty
        empty.clock.advance(5)
        world.wait(20)
        assert again[0]["node_id"] == 1
        client.close()
        world.wait(0.1)

    def test_attempts_become_rarer_but_a_request_hurries_them(self, world: World) -> None:
        client = world.client()
        world.done(client.register(":1"))
        world.network.server = None
        world.network.wires[-1].abortConnection()
        world.wait(200)
        quiet = world.network.attempts
        world.wait(60)
        assert 2 <= world.network.attempts - quiet <= 5
        world.network.server = world.server
        world.server.clock.advance(0)
        assert "networks" in world.done(client.list_networks(), 1.2)
        client.close()
        world.wait(0.1)

    def test_closing_fails_what_waits_and_leaves_no_timer(self, world: World) -> None:
        world.deaf()
        client = world.client()
        results = settled(client.lookup(1))
        world.wait(0.1)
        client.close()
        world.wait(0.1)
        assert results == [RegistryUnavailable]
        assert settled(client.lookup(1)) == [RegistryUnavailable]
        assert not world.clock.getDelayedCalls()

    def test_closing_while_the_registry_is_away_leaves_no_timer(self, world: World) -> None:
        world.network.server = None
        client = world.client()
        results = settled(client.lookup(1))
        world.wait(0.5)
        client.close()
        assert results == [RegistryUnavailable]
        assert not world.clock.getDelayedCalls()


class TestLimits:
    def test_so_many_requests_may_wait_and_no_more(self, world: World) -> None:
        world.deaf()
        client = world.client()
        waiting = [client.lookup(n) for n in range(OUTSTANDING)]
        assert settled(client.lookup(0)) == [RegistryUnavailable]
        results = settled(*waiting)
        client.close()
        assert set(results) == {RegistryUnavailable}
        world.wait(0.1)

    @pytest.mark.parametrize(
        "garbage", [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x02[]"]
    )
    def test_garbage_costs_the_connection(self, world: World, garbage: bytes) -> None:
        met = world.deaf()
        client = world.client()
        results = settled(client.update_polo_score(1, 1))
        world.wait(0.1)
        met[0].transport.write(garbage)
        world.wait(0.1)
        assert results == [RegistryUnavailable]
        client.close()
        world.wait(0.1)

    def test_an_answer_to_nothing_costs_the_connection(self, world: World) -> None:
        met = world.deaf()
        client = world.client()
        asked = client.lookup(1)
        world.wait(0.1)
        met[0].say({"type": "lookup_ok"})
        met[0].say({"type": "lookup_ok"})
        world.done(asked)
        assert not met[0].transport.open
        client.close()
        world.wait(0.1)

    def test_a_cancelled_request_keeps_its_place(self, world: World) -> None:
        """The answer to the next one is not taken for its own."""
        met = world.deaf()
        client = world.client()
        first, second = client.lookup(1), client.lookup(2)
        world.wait(0.1)
        results = settled(first)
        first.cancel()
        met[0].say({"n": 1})
        met[0].say({"n": 2})
        assert world.done(second)["n"] == 2
        assert results[0].__name__ == "CancelledError"
        client.close()
        world.wait(0.1)

    def test_large_answers_of_other_registries_are_taken(self, world: World) -> None:
        met = world.deaf()
        asked = world.client().list_networks()
        world.wait(0.1)
        met[0].say({"type": "list_networks_ok", "x": "y" * 200_000})
        assert len(world.done(asked)["x"]) == 200_000

    def test_a_registration_without_an_id_is_none(self, world: World) -> None:
        met = world.deaf()
        asked = world.client().register(":1")
        world.wait(0.1)
        met[0].say({"type": "register_ok", "node_id": "1"})
        with pytest.raises(RegistryError, match="no node id"):
            world.done(asked)


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("registry.example:1", ("registry.example", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_addresses(address: str, wanted: tuple[str, int]) -> None:
    assert split_address(address) == wanted


@pytest.mark.parametrize("address", ["", "host", ":9000", "::1:9000", "host:", "host:65536", "h:x"])
def test_no_addresses(address: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid address"):
        split_address(address)


@pytest.mark.parametrize("pin", ["", "AB" * 32, "ab:" * 31 + "ab", "ab" * 31])
def test_pins_are_plain_lower_case_digits(pin: str) -> None:
    with pytest.raises(InvalidArgument, match="fingerprint"):
        registry_endpoint(Clock(), "127.0.0.1:9000", pin)
