"""Connections: order, durability of answers, pace, deadlines, hostile clients."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from pilot.registry import dispatch
from pilot.registry.connection import ConnectionLimits
from pilot.wire.registry import encode_frame
from pilot.wire.registry_binary import PREAMBLE
from tests.registry.support import START, Client, Server, SlowStore, identity, key_text, sign

FIELDS = [
    "node_id",
    "peer_id",
    "network_id",
    "target_node_id",
    "requester_id",
    "hostname",
    "tags",
    "public_key",
    "signature",
    "admin_token",
    "name",
    "rules",
    "expr_policy",
    "delta",
    "polo_score",
    "addr",
    "beacon_id",
    "accept",
    "allowed_ports",
    "max_members",
    "listen_addr",
    "lan_addrs",
    "proof",
    "expires_at",
]
LIST = encode_frame({"type": "beacon_list"})
EMPTY = [{"type": "beacon_list_ok", "beacons": []}]


def register(number: int, **fields: Any) -> dict[str, Any]:
    return {"type": "register", "public_key": key_text(identity(number)), **fields}


def signed(number: int, kind: str, **fields: Any) -> dict[str, Any]:
    return sign(identity(number), {"type": kind, **fields})


class TestFraming:
    def test_frames_may_be_cut_anywhere(self) -> None:
        client = Server().connect()
        for byte in LIST * 2:
            client.send(bytes((byte,)))
        assert client.answers() == EMPTY * 2

    @pytest.mark.parametrize("size", [0, 65537, 0xFFFFFFFF])
    def test_impossible_lengths_close(self, size: int) -> None:
        client = Server().connect()
        client.send(struct.pack(">I", size))
        assert client.closed
        assert client.received() == b""

    def test_the_largest_frame_is_answered(self) -> None:
        client = Server().connect()
        body = json.dumps({"type": "beacon_list"}).encode().ljust(65536)
        client.send(struct.pack(">I", len(body)) + body)
        assert client.answers() == EMPTY

    def test_what_came_before_a_broken_frame_is_answered_first(self) -> None:
        client = Server().connect()
        client.send(LIST + struct.pack(">I", 1) + b"x" + LIST)
        assert client.answers() == EMPTY
        assert client.closed

    def test_an_unknown_type_costs_nothing(self) -> None:
        server = Server()
        client = server.connect()
        for kind in ("no_such", 5, None):
            assert client.ask({"type": kind})["error"] == "request failed"
        assert not client.closed
        assert server.directory.statistics.requests == {"unknown": 3}

    @given(st.binary(max_size=200))
    def test_any_bytes_cost_at_most_their_connection(self, data: bytes) -> None:
        server = Server()
        victim, hostile = server.connect(), server.connect()
        hostile.send(data)
        hostile.send(PREAMBLE + data)
        victim.send(LIST)
        assert victim.answers() == EMPTY

    @given(
        st.sampled_from(sorted(dispatch.HANDLERS)),
        st.dictionaries(
            st.sampled_from(FIELDS),
            st.recursive(
                st.none()
                | st.booleans()
                | st.floats(allow_nan=False, allow_infinity=False)
                | st.text()
                | st.integers(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                max_leaves=4,
            ),
        ),
    )
    def test_any_values_get_an_answer(self, kind: str, fields: dict[str, Any]) -> None:
        """Nothing in a request makes us fail: each gets an answer that JSON can express."""
        client = Server().connect()
        client.ask(register(1))
        answer = client.ask({**fields, "type": kind})
        assert answer["type"] in (f"{kind}_ok", "error")

    def test_a_fault_of_ours_is_an_error_for_one_request(
        self, monkeypatch: pytest.MonkeyPatch, nothing_left_behind: list[Failure]
    ) -> None:
        def broken(*_: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setitem(dispatch.HANDLERS, "lookup", broken)
        client = Server().connect()
        assert client.ask({"type": "lookup"})["error"] == "request failed"
        assert client.ask({"type": "beacon_list"}) == EMPTY[0]
        assert [f.type for f in nothing_left_behind] == [ZeroDivisionError]
        nothing_left_behind.clear()


class TestBinary:
    def test_the_choice_is_made_once(self) -> None:
        """The magic later in a JSON connection is a length beyond the limit."""
        client = Server().connect()
        client.send(LIST + PREAMBLE)
        assert client.answers() == EMPTY
        assert client.closed

    def test_the_preamble_may_be_cut(self) -> None:
        client = Server().connect()
        for byte in PREAMBLE:
            client.send(bytes((byte,)))
        client.send(bytes.fromhex("0000000144"))
        assert client.received()[7:] == b"unknown message type 0x44"

    def test_a_failed_save_is_an_error_frame(self) -> None:
        store = SlowStore()
        client = Server(store=store).connect()
        body = json.dumps(register(1)).encode()
        client.send(PREAMBLE + struct.pack(">IB", len(body) + 1, 0) + body)
        store.fail()
        assert client.received()[7:] == b"request failed"


class TestAnswersAndTheDisk:
    @pytest.fixture
    def store(self) -> SlowStore:
        return SlowStore()

    def test_an_answer_leaves_when_its_change_is_saved(self, store: SlowStore) -> None:
        client = Server(store=store).connect()
        client.send(encode_frame(register(1)))
        assert client.received() == b""
        store.finish()
        assert client.answers()[0]["node_id"] == 1

    def test_answers_keep_their_order(self, store: SlowStore) -> None:
        """One that needs no disk waits for one that does, on the same connection only."""
        server = Server(store=store)
        client, other = server.connect(), server.connect()
        client.send(encode_frame(register(1)) + LIST + encode_frame(register(2)))
        other.send(LIST)
        assert other.answers() == EMPTY
        assert client.answers() == []
        store.commits.reverse()  # the later change is saved first
        store.finish()
        assert client.answers() == []
        store.finish()
        kinds = [answer["type"] for answer in client.answers()]
        assert kinds == ["register_ok", "beacon_list_ok", "register_ok"]

    def test_what_could_not_be_saved_is_not_acknowledged(self, store: SlowStore) -> None:
        client = Server(store=store).connect()
        client.send(encode_frame(register(1)))
        store.fail()
        assert client.answers() == [{"type": "error", "error": "request failed"}]

    def test_a_client_that_left_meanwhile_is_no_trouble(self, store: SlowStore) -> None:
        client = Server(store=store).connect()
        client.send(encode_frame(register(1)))
        client.hang_up()
        store.finish()
        assert client.received() == b""

    def test_reading_stops_while_too_many_answers_wait(self, store: SlowStore) -> None:
        limits = ConnectionLimits(unsent_answers=4)
        client = Server(store=store, connection_limits=limits).connect()
        client.send(b"".join(encode_frame(register(n)) for n in range(1, 11)))
        assert len(store.commits) == 4
        assert client.transport.producerState == "paused"
        while store.commits:
            store.finish()
        assert [a["node_id"] for a in client.answers()] == list(range(1, 11))
        assert client.transport.producerState == "producing"

    def test_a_broken_frame_still_lets_the_answers_out(self, store: SlowStore) -> None:
        client = Server(store=store).connect()
        client.send(encode_frame(register(1)) + struct.pack(">I", 0))
        assert not client.closed
        store.finish()
        assert len(client.answers()) == 1
        assert client.closed

    def test_a_client_may_say_that_it_is_done_asking(self, store: SlowStore) -> None:
        """It half-closes and still gets its answers."""
        client = Server(store=store).connect()
        client.send(encode_frame(register(1)) + LIST)
        client.protocol.readConnectionLost()
        assert not client.closed
        store.finish()
        assert len(client.answers()) == 2
        assert client.closed


class TestPace:
    def test_the_first_seconds_are_free(self) -> None:
        server = Server()
        client = server.connect()
        client.send(LIST * 2000)
        assert len(client.answers()) == 2000

    def test_more_than_a_hundred_a_second_wait_ten_milliseconds_each(self) -> None:
        server = Server()
        client = server.connect()
        client.send(LIST * 600)
        assert len(client.answers()) == 600
        server.clock.advance(5)
        client.send(LIST * 3)
        assert client.answers() == []
        for _ in range(3):
            server.clock.advance(0.01)
            assert client.answers() == EMPTY
        server.clock.advance(2)
        assert client.ask({"type": "beacon_list"}) == EMPTY[0]

    def test_more_than_five_hundred_a_second_end_it(self) -> None:
        server = Server()
        client = server.connect()
        client.send(LIST * 2600)
        client.received()
        server.clock.advance(5)
        client.send(LIST)
        assert client.closed
        assert client.received() == b""
        assert server.factory.refused["rate"] == 1

    def test_a_client_that_leaves_during_a_pause_leaves_no_timer(self) -> None:
        server = Server()
        client = server.connect()
        client.send(LIST * 600)
        server.clock.advance(5)
        client.send(LIST)
        client.hang_up()
        assert server.clock.getDelayedCalls() == []

    def test_connections_come_in_at_a_bounded_pace_after_the_start(self) -> None:
        class Port:
            reading = True

            def stopReading(self) -> None:
                self.reading = False

            def startReading(self) -> None:
                self.reading = True

        server = Server(connection_limits=ConnectionLimits(accepted_per_second=3))
        port = server.factory.port = Port()
        for _ in range(2):
            server.connect()
        assert port.reading
        server.connect()
        assert not port.reading
        server.clock.advance(1)
        assert port.reading
        server.clock.advance(60)
        for _ in range(9):
            server.connect()
        assert port.reading

    def test_there_are_so_many_connections_and_no_more(self) -> None:
        server = Server(connection_limits=ConnectionLimits(connections=2))
        first, _, third = (server.connect() for _ in range(3))
        assert third.closed
        assert third.received() == b""
        third.hang_up()
        first.hang_up()
        assert not server.connect().closed


class TestDeadlines:
    @staticmethod
    def started(**limits: Any) -> tuple[Server, Client]:
        server = Server(connection_limits=ConnectionLimits(**limits))
        server.factory.start()
        return server, server.connect()

    @pytest.mark.parametrize("half", [b"", b"\x00\x00", PREAMBLE, LIST[:9]])
    def test_a_frame_must_come_within_five_minutes(self, half: bytes) -> None:
        server, client = self.started()
        client.send(half)
        wait(server, 300)
        assert not client.closed
        wait(server, 10)
        assert client.closed
        assert server.factory.refused["read deadline"] == 1

    def test_each_frame_starts_it_anew(self) -> None:
        server, client = self.started()
        for _ in range(5):
            wait(server, 200)
            client.send(LIST)
        assert client.answers() == EMPTY * 5
        assert not client.closed

    def test_a_client_that_does_not_read_is_not_listened_to_and_cut_off(self) -> None:
        server, client = self.started()
        client.protocol.pauseProducing()  # the transport's buffer is full
        assert client.transport.producerState == "paused"
        client.send(LIST)
        assert client.answers() == []
        wait(server, 60)
        assert not client.transport.aborted
        wait(server, 10)
        assert client.transport.aborted

    def test_one_that_reads_after_all_goes_on(self) -> None:
        server, client = self.started()
        client.protocol.pauseProducing()
        client.send(LIST * 2)
        wait(server, 50)
        client.protocol.resumeProducing()
        assert client.answers() == EMPTY * 2
        assert client.transport.producerState == "producing"
        wait(server, 60)
        assert not client.closed

    def test_stopping_closes_all_and_leaves_no_timer(self) -> None:
        server, client = self.started()
        stopping: list[Any] = []
        coroutine = server.factory.stop()
        try:
            coroutine.send(None)
        except StopIteration:
            stopping.append(True)
        assert stopping and client.transport.aborted
        assert server.clock.getDelayedCalls() == []


def wait(server: Server, seconds: int) -> None:
    """Let time pass in the steps of the sweep."""
    for _ in range(seconds // 10):
        server.clock.advance(10)


class TestLetters:
    @staticmethod
    def pair(server: Server) -> tuple[Client, Client]:
        one, two = server.connect(), server.connect()
        one.ask(register(1))
        two.ask(register(2))
        return one, two

    @staticmethod
    def proof(moment: float) -> dict[str, Any]:
        who = identity(2)
        text = f"register:{key_text(who)}::{int(moment)}".encode()
        return {"proof": who.sign_text(text), "proof_time": int(moment), "notify": True}

    def test_a_node_that_asked_for_it_is_told_of_letters(self) -> None:
        server = Server()
        one, two = self.pair(server)
        assert two.ask(register(2, **self.proof(START)))["notify"] is True
        one.ask(signed(1, "request_handshake", from_node_id=1, to_node_id=2))
        assert two.answers() == [{"type": "notify", "event": "handshakes"}]
        two.ask(signed(2, "poll_handshakes", node_id=2))
        one.ask(signed(1, "respond_handshake", node_id=1, peer_id=2, accept=True))
        assert two.answers() == [{"type": "notify", "event": "handshakes"}]

    def test_it_is_told_once_they_are_saved(self) -> None:
        store = SlowStore()
        server = Server(store=store)
        clients = [server.connect() for _ in range(2)]
        for number, client in enumerate(clients, 1):
            client.send(encode_frame(register(number)))
            store.finish()
            client.answers()
        one, two = clients
        two.send(encode_frame(signed(2, "heartbeat", node_id=2, notify=True)))
        assert two.answers()[0]["notify"] is True
        one.send(encode_frame(signed(1, "request_handshake", from_node_id=1, to_node_id=2)))
        assert two.answers() == []
        store.finish()
        assert two.answers() == [{"type": "notify", "event": "handshakes"}]

    def test_it_is_told_at_once_of_those_that_waited(self) -> None:
        server = Server()
        one, two = self.pair(server)
        one.ask(signed(1, "request_handshake", from_node_id=1, to_node_id=2))
        two.send(encode_frame(signed(2, "heartbeat", node_id=2, notify=True)))
        assert [a["type"] for a in two.answers()] == ["heartbeat_ok", "notify"]

    def test_nobody_else_is(self) -> None:
        """Neither who did not ask nor who did not prove to be the node."""
        server = Server()
        one, two = self.pair(server)
        stranger = server.connect()
        assert "notify" not in stranger.ask(register(2, notify=True))
        one.ask(signed(1, "request_handshake", from_node_id=1, to_node_id=2))
        assert two.received() == stranger.received() == b""

    def test_letters_whose_reader_was_lost_wait_for_it_again(self) -> None:
        server = Server()
        one, two = self.pair(server)
        one.ask(signed(1, "request_handshake", from_node_id=1, to_node_id=2))
        assert two.ask(signed(2, "poll_handshakes", node_id=2))["requests"]
        two.hang_up(ConnectionLost)
        again = server.connect()
        assert again.ask(signed(2, "poll_handshakes", node_id=2))["requests"]

    @pytest.mark.parametrize("sign_of_life", [True, False])
    def test_letters_that_arrived_do_not(self, sign_of_life: bool) -> None:
        """Their reader went on asking, or closed the connection in order."""
        server = Server()
        one, two = self.pair(server)
        one.ask(signed(1, "request_handshake", from_node_id=1, to_node_id=2))
        two.ask(signed(2, "poll_handshakes", node_id=2))
        if sign_of_life:
            two.ask({"type": "beacon_list"})
            two.hang_up(ConnectionLost)
        else:
            two.hang_up()
        again = server.connect()
        assert again.ask(signed(2, "poll_handshakes", node_id=2))["requests"] == []


def test_ipv4_clients_of_a_dual_stack_listener_are_ipv4() -> None:
    client = Server().connect("::ffff:198.51.100.7", 4000)
    assert client.ask(register(1))["observed_addr"] == "198.51.100.7:4000"


def test_a_hundred_and_first_request_does_not_fit() -> None:
    """Of distinct senders to one node, as recorded from the reference."""
    client = Server().connect()
    for number in range(1, 103):
        client.ask(register(number))
    for number in range(2, 102):
        fields = {"from_node_id": number, "to_node_id": 1}
        assert "error" not in client.ask(signed(number, "request_handshake", **fields))
    last = client.ask(signed(102, "request_handshake", from_node_id=102, to_node_id=1))
    assert last == {"type": "error", "error": "request failed"}
