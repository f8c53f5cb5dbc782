"""The control socket, command by command, against two nodes without a network."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pilot.address import Address
from pilot.daemon.ipc_limits import IpcLimits
from pilot.errors import DialTimeout, PilotError
from pilot.wire.ipc import (
    MAX_FRAME,
    Accept,
    Bind,
    Command,
    Dial,
    RecvFrom,
    SendTo,
    encode_frame,
)
from tests.daemon.ipcharness import World, closed, error, received

HEALTH = encode_frame(Command.HEALTH)

#: The odd ones below 25 with some exceptions, and our extensions.
REQUESTS = {1, 3, 6, 8, 0x0B, *range(0x0D, 0x25, 2), 0x40, *range(0x43, 0x48), 0x50}


@pytest.fixture
def world() -> World:
    return World()


def parsed(frame: tuple[int, bytes]) -> Any:
    return json.loads(frame[1])


class TestFraming:
    def test_an_empty_frame_is_ignored(self, world: World) -> None:
        client = world.client(world.a)
        client.raw(bytes(4))
        assert client.frames() == []
        assert client.ask(Command.HEALTH)[0] == Command.HEALTH_OK

    def test_any_cut_gives_the_same_answers(self, world: World) -> None:
        stream = HEALTH + bytes(4) + encode_frame(0xFE) + encode_frame(Command.INFO, b"surplus")
        for cut in range(len(stream) + 1):
            client = world.client(world.a)
            client.raw(stream[:cut])
            client.raw(stream[cut:])
            commands = [command for command, _ in client.frames()]
            assert commands == [Command.HEALTH_OK, Command.ERROR, Command.INFO_OK]
            client.hang_up()

    def test_one_byte_at_a_time(self, world: World) -> None:
        client = world.client(world.a)
        for byte in HEALTH:
            client.raw(bytes((byte,)))
        assert [command for command, _ in client.frames()] == [Command.HEALTH_OK]

    def test_the_largest_frame_is_read(self, world: World) -> None:
        client = world.client(world.a)
        assert client.ask(0xFF, bytes(MAX_FRAME - 1)) == error("unknown command: 0xFF")

    def test_a_larger_one_ends_the_connection_after_the_answers_before_it(
        self, world: World
    ) -> None:
        client = world.client(world.a)
        client.raw(HEALTH + (MAX_FRAME + 1).to_bytes(4, "big"))
        assert [command for command, _ in client.frames()] == [Command.HEALTH_OK]
        assert client.transport.disconnecting
        client.raw(HEALTH)
        assert client.frames() == []

    def test_thousands_of_small_frames(self, world: World) -> None:
        client = world.client(world.a)
        client.raw(HEALTH * 20_000)
        assert [command for command, _ in client.frames()] == [Command.HEALTH_OK] * 20_000

    def test_what_is_no_request_is_an_unknown_command(self, world: World) -> None:
        client = world.client(world.a)
        for command in sorted(set(range(256)) - REQUESTS):
            assert client.ask(command) == error(f"unknown command: 0x{command:02X}")
        assert client.ask(Command.HEALTH)[0] == Command.HEALTH_OK


class TestQuestions:
    def test_info_adds_what_the_socket_refused(self, world: World) -> None:
        client = world.client(world.a)
        world.servers[world.a].refused["ipc_clients"] = 3
        reply = parsed(client.ask(Command.INFO))
        assert reply["address"] == "0:0000.0000.0001"
        assert reply["refused"] == {"untrusted": 0, "ipc_clients": 3}

    def test_an_info_that_fits_no_frame_is_shortened(self, world: World) -> None:
        """The reference would send it and so end the client's connection."""
        world.a.info = lambda: _succeed(  # type: ignore[method-assign]
            {"conn_list": [{"x": "y" * 200}] * 10_000, "peer_list": [], "refused": {}}
        )
        command, payload = world.client(world.a).ask(Command.INFO)
        assert command == Command.INFO_OK and len(payload) < MAX_FRAME
        assert json.loads(payload)["truncated"] is True

    def test_pipelined_questions_tell_what_those_before_them_did(self, world: World) -> None:
        client = world.client(world.a)
        waiting = world.a.set_hostname  # a change that takes a while
        change: Deferred[Any] = Deferred()
        world.a.set_hostname = lambda name: change.addCallback(  # type: ignore[method-assign]
            lambda _: waiting(name)
        )
        client.send(Command.SET_HOSTNAME, b"new")
        client.send(Command.INFO)
        assert client.frames() == []
        change.callback(None)
        _, info = client.frames()
        assert parsed(info)["hostname"] == "new"

    def test_a_failure_that_nobody_foresaw_is_an_error_frame(
        self, world: World, nothing_left_behind: list[Any]
    ) -> None:
        world.a.health = lambda: 1 / 0  # type: ignore[assignment, return-value, method-assign]
        assert world.client(world.a).ask(Command.HEALTH) == error("internal error")
        nothing_left_behind.clear()

    def test_webhooks_need_somebody_who_delivers_them(self, world: World) -> None:
        client = world.client(world.a)
        assert parsed(client.ask(Command.SET_WEBHOOK, b"http://h/")) == {"webhook": "http://h/"}
        world.servers[world.a].set_webhook = None
        answer = client.ask(Command.SET_WEBHOOK, b"http://h/")
        assert answer == error("this daemon delivers no webhooks")
        assert parsed(client.ask(Command.SET_WEBHOOK)) == {"webhook": ""}  # nothing to clear
        assert world.webhooks == ["http://h/"]


class TestOrder:
    def test_answers_come_in_the_order_of_the_requests(self, world: World) -> None:
        client = world.client(world.a)
        slow = world.a.waiting["slow"] = Deferred()
        client.send(Command.RESOLVE_HOSTNAME, b"slow")
        client.raw(HEALTH + encode_frame(0xFE))
        client.send(Command.RESOLVE_HOSTNAME, b"node-b")
        assert client.frames() == []
        slow.errback(PilotError("too late"))
        assert [command for command, _ in client.frames()] == [
            Command.ERROR,
            Command.HEALTH_OK,
            Command.ERROR,
            Command.RESOLVE_HOSTNAME_OK,
        ]

    def test_a_slow_dial_holds_back_neither_data_nor_closes(self, world: World) -> None:
        a, b, near, far = world.pair()
        dial = world.a.waiting[3] = Deferred()
        a.send(Command.DIAL, Dial(Address(0, 3), 7).encode())
        a.write(near, b"past it")
        assert b.frames() == [received(far, b"past it")]
        a.close(near)
        assert b.frames() == [closed(far)]
        assert a.frames() == [closed(near)]  # the owner's; the answer waits behind the dial
        dial.errback(DialTimeout("dial timeout"))
        assert a.frames() == [error("dial timeout"), closed(near)]

    def test_other_clients_are_not_held_up(self, world: World) -> None:
        first, second = world.client(world.a), world.client(world.a)
        dial = world.a.waiting[3] = Deferred()
        first.send(Command.DIAL, Dial(Address(0, 3), 7).encode())
        assert second.ask(Command.HEALTH)[0] == Command.HEALTH_OK
        dial.errback(DialTimeout("dial timeout"))
        assert first.frames() == [error("dial timeout")]

    def test_the_error_of_a_send_comes_behind_the_answers_before_it(self, world: World) -> None:
        """Else the client would take it for the answer to its dial."""
        client = world.client(world.a)
        dial = world.a.waiting[3] = Deferred()
        client.send(Command.DIAL, Dial(Address(0, 3), 7).encode())
        client.write(999, b"x")
        assert client.frames() == []
        dial.errback(DialTimeout("dial timeout"))
        assert client.frames() == [error("dial timeout"), error("connection 999 not found")]

    def test_too_many_open_requests_wait_in_the_socket(self) -> None:
        world = World(IpcLimits(requests_per_client=2))
        client = world.client(world.a)
        slow = world.a.waiting["slow"] = Deferred()
        client.send(Command.RESOLVE_HOSTNAME, b"slow")
        client.raw(HEALTH * 5)
        assert client.transport.producerState == "paused"
        slow.errback(PilotError("no"))
        assert [command for command, _ in client.frames()][1:] == [Command.HEALTH_OK] * 5
        assert client.transport.producerState == "producing"


class TestStreams:
    def test_dial_accept_and_data(self, world: World) -> None:
        a, b = world.client(world.a), world.client(world.b)
        b.bind(5000)
        near = a.dial(2, 5000)
        ((command, payload),) = b.frames()
        assert command == Command.ACCEPT
        accept = Accept.decode(payload)
        assert (accept.local_port, accept.remote) == (5000, Address(0, 1))
        a.write(near, b"hello")
        assert b.frames() == [received(accept.conn_id, b"hello")]
        b.write(accept.conn_id, b"")
        b.write(accept.conn_id, b"world")
        assert a.frames() == [received(near, b"world")]

    def test_segments_keep_their_boundaries_and_share_a_write(self, world: World) -> None:
        a, b, near, far = world.pair()
        for size in (1, 2, 3):
            a.write(near, b"x" * size)
        writes: list[bytes] = []
        b.transport.writeSequence = lambda parts: writes.append(b"".join(parts))  # type: ignore[method-assign]
        stream: Any = world.servers[world.b].streams[far]
        stream.segmentsReceived([b"x", b"xx", b"xxx"])
        assert writes == [b"".join(encode_frame(*received(far, b"x" * size)) for size in (1, 2, 3))]

    def test_any_client_may_write_to_a_stream_but_only_the_owner_reads(self, world: World) -> None:
        a, b, near, far = world.pair()
        other = world.client(world.a)
        other.write(near, b"from another")
        assert b.frames() == [received(far, b"from another")]
        b.write(far, b"back")
        assert a.frames() == [received(near, b"back")]
        assert other.frames() == []

    def test_an_owner_that_closes_gets_two_closeok_the_peer_one(self, world: World) -> None:
        a, b, near, far = world.pair()
        a.close(near)
        assert a.frames() == [closed(near), closed(near)]
        world.clock.advance(1)
        assert b.frames() == [closed(far)]
        a.write(near, b"late")
        assert a.frames() == [error("send: connection not established")]
        b.write(far, b"late")
        assert b.frames() == [error("send: connection not established")]
        b.close(far)
        assert b.frames() == [closed(far)]

    def test_another_client_closes(self, world: World) -> None:
        a, b, near, far = world.pair()
        other = world.client(world.a)
        other.close(near)
        assert other.frames() == [closed(near)]
        assert a.frames() == [closed(near)]
        assert b.frames() == [closed(far)]

    def test_unknown_streams(self, world: World) -> None:
        client = world.client(world.a)
        client.close(999)
        assert client.frames() == [closed(999)]
        client.write(999, b"x")
        assert client.frames() == [error("connection 999 not found")]

    def test_what_came_before_the_end_is_delivered_before_it(self, world: World) -> None:
        a, b, near, far = world.pair()
        b.write(far, b"one")
        b.close(far)
        assert a.frames() == [received(near, b"one"), closed(near)]

    def test_a_reset_ends_the_stream_too(self, world: World) -> None:
        a, _b, near, far = world.pair()
        world.b.by_id[far].abortConnection()
        assert a.frames() == [closed(near)]

    def test_nothing_of_a_stream_comes_before_its_dialok(self, world: World) -> None:
        a, b = world.client(world.a), world.client(world.b)
        b.bind(5000)
        slow = world.a.waiting["slow"] = Deferred()
        a.send(Command.RESOLVE_HOSTNAME, b"slow")
        a.send(Command.DIAL, Dial(Address(0, 2), 5000).encode())
        far = b.accept()
        b.write(far, b"early")
        b.close(far)
        assert a.frames() == []
        slow.errback(PilotError("no"))
        frames = a.frames()
        assert [command for command, _ in frames] == [Command.ERROR, Command.DIAL_OK, Command.RECV]
        world.clock.advance(0.01)  # drivers forget a CloseOK that comes at once
        assert [command for command, _ in a.frames()] == [Command.CLOSE_OK]

    def test_built_in_streams_can_be_closed_but_not_written_to(self, world: World) -> None:
        a, _b, near, _far = world.pair()
        world.servers[world.a].streams.pop(near)
        a.write(near, b"x")
        assert a.frames() == [error("send: connection not established")]
        a.close(near)
        assert world.a.by_id[near].disconnecting

    def test_dial_errors(self, world: World) -> None:
        client = world.client(world.a)
        refused = client.ask(Command.DIAL, Dial(Address(0, 2), 4999).encode())
        assert refused == error("connection refused")
        unknown = client.ask(Command.DIAL, Dial(Address(0, 99), 7).encode())
        assert unknown == error("resolve node 99: registry: node 99: node not found")
        assert client.ask(Command.DIAL, b"short") == error("dial: missing address/port")

    def test_streams_are_limited(self) -> None:
        world = World(IpcLimits(streams_per_client=1))
        a, b = world.client(world.a), world.client(world.b)
        b.bind(5000)
        a.dial(2, 5000)
        again = a.ask(Command.DIAL, Dial(Address(0, 2), 5000).encode())
        assert again == error("too many open streams on this connection")
        other = world.client(world.a)  # b may not have a second one either
        assert other.ask(Command.DIAL, Dial(Address(0, 2), 5000).encode()) == error(
            "connection refused"
        )
        assert world.servers[world.b].refused == {"ipc_streams": 1}


class TestPorts:
    def test_bind_answers(self, world: World) -> None:
        first, second = world.client(world.a), world.client(world.a)
        first.bind(5000)
        taken = error("port 5000 already bound")
        assert first.ask(Command.BIND, Bind(5000).encode()) == taken
        assert second.ask(Command.BIND, Bind(5000).encode()) == taken
        assert first.ask(Command.BIND, b"\x01") == error("bind: missing port")
        first.hang_up()
        second.bind(5000)

    def test_port_0_takes_a_free_one(self, world: World) -> None:
        command, payload = world.client(world.a).ask(Command.BIND, Bind(0).encode())
        assert command == Command.BIND_OK
        assert Bind.decode(payload).port >= 49152

    def test_the_first_accept_comes_a_moment_after_bindok(self, world: World) -> None:
        """The drivers throw away an Accept for a port they have not noted yet."""
        a, b = world.client(world.a), world.client(world.b)
        b.send(Command.BIND, Bind(5000).encode())
        near = a.dial(2, 5000)
        a.write(near, b"early")
        assert [command for command, _ in b.frames()] == [Command.BIND_OK]
        world.clock.advance(0.01)
        assert [command for command, _ in b.frames()] == [Command.ACCEPT, Command.RECV]

    def test_more_streams_than_may_wait_are_turned_away(self) -> None:
        world = World(IpcLimits(unaccepted_per_port=2))
        a, b = world.client(world.a), world.client(world.b)
        b.send(Command.BIND, Bind(5000).encode())
        a.dial(2, 5000)
        a.dial(2, 5000)
        assert a.ask(Command.DIAL, Dial(Address(0, 2), 5000).encode())[0] == Command.ERROR
        world.clock.advance(0.01)
        commands = [command for command, _ in b.frames()]
        assert commands == [Command.BIND_OK, Command.ACCEPT, Command.ACCEPT]

    def test_ports_are_limited(self) -> None:
        world = World(IpcLimits(ports_per_client=1))
        client = world.client(world.a)
        client.bind(1)
        assert client.ask(Command.BIND, Bind(2).encode()) == error(
            "too many ports bound on this connection"
        )


class TestHangingUp:
    def test_streams_are_closed_and_ports_freed(self, world: World) -> None:
        a, b, near, _far = world.pair()
        b.hang_up()
        world.clock.advance(1)
        assert a.frames() == [closed(near)]
        assert 5000 not in world.b.bound
        assert a.ask(Command.DIAL, Dial(Address(0, 2), 5000).encode()) == error(
            "connection refused"
        )
        assert not world.servers[world.b].streams

    def test_a_dial_is_taken_back(self, world: World) -> None:
        cancelled: list[object] = []
        world.a.waiting[3] = Deferred(cancelled.append)
        client = world.client(world.a)
        client.send(Command.DIAL, Dial(Address(0, 3), 7).encode())
        client.hang_up()
        assert len(cancelled) == 1

    def test_what_was_said_before_still_counts(self, world: World) -> None:
        """A program that sends, closes and exits has sent."""
        a, b, near, far = world.pair()
        world.b.by_id[far].pauseProducing()
        data = bytes(2 << 20)
        for start in range(0, len(data), 1 << 16):
            a.write(near, data[start : start + (1 << 16)])
        a.close(near)
        a.hang_up()
        world.b.by_id[far].resumeProducing()
        frames = b.frames()
        assert sum(len(payload) - 4 for command, payload in frames if command == 7) == len(data)
        assert frames[-1] == closed(far)

    def test_answers_to_a_client_that_is_gone_are_dropped(self, world: World) -> None:
        slow = world.a.waiting["slow"] = Deferred()
        client = world.client(world.a)
        client.send(Command.RESOLVE_HOSTNAME, b"slow")
        client.hang_up()
        slow.callback({})
        assert client.frames() == []

    def test_stopping_hangs_up_on_everybody(self, world: World) -> None:
        a, b, _near, far = world.pair()
        world.servers[world.a].close()
        world.clock.advance(1)
        assert a.transport.aborted
        assert b.frames() == [closed(far)]
        world.servers[world.a].stopFactory()
        assert world.a.listeners == []

    def test_one_client_too_many_is_told_so(self) -> None:
        world = World(IpcLimits(clients=1))
        world.client(world.a)
        late = world.client(world.a)
        assert late.frames() == [error("too many clients on the control socket (limit 1)")]
        assert late.transport.disconnecting
        assert world.servers[world.a].refused == {"ipc_clients": 1}


class TestDatagrams:
    def test_every_client_hears_them(self, world: World) -> None:
        a, b, c = world.client(world.a), world.client(world.b), world.client(world.b)
        a.send(Command.SEND_TO, SendTo(Address(0, 2), 9000, b"hi").encode())
        assert a.frames() == []
        for client in (b, c):
            ((command, payload),) = client.frames()
            assert command == Command.RECV_FROM
            heard = RecvFrom.decode(payload)
            assert (heard.source, heard.destination_port, heard.data) == (
                Address(0, 1),
                9000,
                b"hi",
            )

    def test_errors(self, world: World) -> None:
        client = world.client(world.a)
        assert client.ask(Command.SEND_TO, b"short") == error("sendto: missing address/port")
        nowhere = client.ask(Command.SEND_TO, SendTo(Address(0, 99), 1, b"x").encode())
        assert nowhere == error("sendto: resolve node 99: registry: node 99: node not found")
        large = client.ask(Command.SEND_TO, SendTo(Address(0, 2), 1, bytes(65536)).encode())
        assert large == error("sendto: marshal: payload too large: 65536 bytes (max 65535)")

    def test_a_client_that_does_not_read_loses_the_oldest(self) -> None:
        world = World(IpcLimits(datagram_backlog=400))
        slow = world.client(world.b)
        slow.transport.full = True
        sender = world.client(world.a)
        for number in range(10):
            data = bytes((number,)) * 100
            sender.send(Command.SEND_TO, SendTo(Address(0, 2), 1, data).encode())
        assert sender.frames() == []
        assert world.servers[world.b].refused == {"ipc_datagrams": 6}
        assert len(slow.frames()) == 1  # before the socket was found full
        slow.transport.unblock()
        numbers = [RecvFrom.decode(payload).data[0] for _, payload in slow.frames()]
        assert numbers == [7, 8, 9]


class TestPressure:
    def test_a_stream_waits_for_a_client_that_does_not_read(self, world: World) -> None:
        a, b, near, far = world.pair()
        b.transport.full = True
        a.write(near, b"first")
        world.turn()
        for _ in range(20):
            a.write(near, bytes(1000))
        world.turn()
        assert b.frames() == [received(far, b"first")]
        assert not world.b.by_id[far].reading
        b.transport.unblock()
        assert len(b.frames()) == 20

    def test_other_clients_go_on_meanwhile(self, world: World) -> None:
        a, b, near, _far = world.pair()
        b.transport.full = True
        a.write(near, b"first")
        world.turn()
        assert world.client(world.b).ask(Command.HEALTH)[0] == Command.HEALTH_OK

    def test_a_full_window_ends_in_an_unread_socket(self) -> None:
        """Its client is read again as soon as there is room."""
        world = World(IpcLimits(stream_backlog=50_000))
        a, b, near, far = world.pair()
        world.b.by_id[far].pauseProducing()
        sent = 0
        while a.transport.producerState == "producing":
            a.write(near, bytes(1000))
            sent += 1000
            assert sent < 100_000
        a.raw(HEALTH)
        assert a.frames() == []
        world.b.by_id[far].resumeProducing()
        assert sum(len(payload) - 4 for _, payload in b.frames()) == sent
        assert a.transport.producerState == "producing"
        assert [command for command, _ in a.frames()] == [Command.HEALTH_OK]

    def test_the_end_of_a_stuck_stream_frees_its_client(self) -> None:
        world = World(IpcLimits(stream_backlog=10_000))
        a, _b, near, far = world.pair()
        world.b.by_id[far].pauseProducing()
        while a.transport.producerState == "producing":
            a.write(near, bytes(1000))
        world.client(world.a).close(near)
        world.turn()
        assert a.transport.producerState == "producing"

    def test_a_client_that_asks_and_does_not_read_is_not_read_either(self) -> None:
        world = World(IpcLimits(reply_backlog=1000))
        client = world.client(world.a)
        client.transport.full = True
        client.raw(HEALTH * 1000)
        assert client.transport.producerState == "paused"
        answered = len(client.frames())
        assert answered < 20
        while client.transport.paused:
            client.transport.unblock()
        assert answered + len(client.frames()) == 1000


def test_garbage_never_hurts_the_others(world: World) -> None:
    good = world.client(world.a)
    for seed in range(200):
        bad = world.client(world.a)
        noise = bytes((seed * 7919 + n * n * 31) % 256 for n in range(64))
        command = seed % 0x50
        bad.send(command, noise[: seed % 64])
        bad.raw(noise)
        bad.frames()
        bad.hang_up()
    assert good.ask(Command.HEALTH)[0] == Command.HEALTH_OK


def _succeed(value: Any) -> Any:
    done: Deferred[Any] = Deferred()
    done.callback(value)
    return done
