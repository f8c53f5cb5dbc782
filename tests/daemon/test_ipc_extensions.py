"""The commands of our own on the control socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.address import Address
from pilot.errors import WireError
from pilot.wire.ipc import Bind, Command, ConnId, Dial, SendTo, encode_frame
from pilot.wire.ipc_extensions import Closed, CloseReason, Extension, Hello, HelloOk
from tests.daemon.fakenode import FakeNode
from tests.daemon.ipcharness import Client, Frame, World, closed, error, received


@pytest.fixture
def world() -> World:
    return World()


def extended(world: World, node: FakeNode, flags: int = 0) -> Client:
    client = world.client(node)
    answer = client.ask(Extension.HELLO, Hello(flags=flags).encode())
    assert answer == (Extension.HELLO_OK, HelloOk(1, flags, node.address).encode())
    return client


def about(command: int, conn_id: int) -> Frame:
    return command, ConnId(conn_id).encode()


def ended(conn_id: int, reason: CloseReason, text: str = "") -> Frame:
    return Extension.CLOSED, Closed(conn_id, reason, text).encode()


def pair(world: World) -> tuple[Client, Client, int, int]:
    a, b = extended(world, world.a), extended(world, world.b)
    assert b.ask(Command.BIND, Bind(5000).encode())[0] == Command.BIND_OK
    near = a.dial(2, 5000)
    return a, b, near, b.accept()  # at once: no grace for drivers that need none


class TestHello:
    def test_versions(self, world: World) -> None:
        client = world.client(world.a)
        answer = client.ask(Extension.HELLO, Hello(9, 0xFF).encode())
        assert answer == (Extension.HELLO_OK, HelloOk(1, 0x01, Address(0, 1)).encode())
        assert client.ask(Extension.HELLO, b"\x01") == error("hello: missing version or flags")

    def test_before_the_registration(self, world: World) -> None:
        world.a.address = None  # type: ignore[assignment]
        answer = world.client(world.a).ask(Extension.HELLO, Hello().encode())
        assert HelloOk.decode(answer[1]).address == Address(0, 0)

    def test_datagrams_only_for_those_who_want_them(self, world: World) -> None:
        deaf, hearing = extended(world, world.b), extended(world, world.b, 1)
        world.client(world.a).send(Command.SEND_TO, SendTo(Address(0, 2), 9, b"x").encode())
        assert len(hearing.frames()) == 1
        assert deaf.frames() == []

    def test_errors_answer_requests_only(self, world: World) -> None:
        client = extended(world, world.a)
        client.write(999, b"x")
        client.send(Command.SEND_TO, SendTo(Address(0, 99), 9, b"x").encode())
        assert client.frames() == []


class TestEnds:
    def test_clean(self, world: World) -> None:
        a, b, near, far = pair(world)
        b.write(far, b"last")
        b.close(far)
        assert b.frames() == [closed(far)]
        assert a.frames() == [received(near, b"last"), about(Extension.FINISH, near)]
        a.close(near)
        assert a.frames() == [closed(near), ended(near, CloseReason.CLEAN)]
        assert b.frames() == [ended(far, CloseReason.CLEAN)]

    def test_aborted(self, world: World) -> None:
        a, b, near, far = pair(world)
        a.send(*about(Extension.ABORT, near))
        assert a.frames() == [ended(near, CloseReason.ABORTED)]
        assert b.frames() == [ended(far, CloseReason.RESET, "connection reset by peer")]

    def test_one_direction(self, world: World) -> None:
        a, b, near, far = pair(world)
        a.write(near, b"question")
        a.send(*about(Extension.FINISH, near))
        a.write(near, b"too late")
        assert b.frames() == [received(far, b"question"), about(Extension.FINISH, far)]
        b.write(far, b"answer")
        b.send(*about(Extension.FINISH, far))
        assert a.frames() == [
            received(near, b"answer"),
            about(Extension.FINISH, near),
            ended(near, CloseReason.CLEAN),
        ]

    def test_a_client_without_hello_sees_what_it_knows(self, world: World) -> None:
        a, b = extended(world, world.a), world.client(world.b)
        b.bind(5000)
        near = a.dial(2, 5000)
        far = b.accept()
        world.clock.advance(1)
        a.send(*about(Extension.FINISH, near))
        assert b.frames() == [closed(far)]
        assert a.frames() == [about(Extension.FINISH, near), ended(near, CloseReason.CLEAN)]


class TestPace:
    def test_the_client_holds_a_stream_back(self, world: World) -> None:
        a, b, near, far = pair(world)
        b.send(*about(Extension.PAUSE, far))
        a.write(near, b"one")
        assert b.frames() == []
        b.send(*about(Extension.RESUME, far))
        assert b.frames() == [received(far, b"one")]

    def test_the_daemon_says_when_the_window_is_full(self, world: World) -> None:
        a, b, near, far = pair(world)
        b.send(*about(Extension.PAUSE, far))
        for _ in range(20):
            a.write(near, bytes(1000))
        assert a.frames() == [about(Extension.PAUSE, near)]
        b.send(*about(Extension.RESUME, far))
        assert sum(len(payload) - 4 for _, payload in b.frames()) == 20_000
        assert a.frames() == [about(Extension.RESUME, near)]

    def test_only_the_owner_rules_a_stream(self, world: World) -> None:
        a, b, near, far = pair(world)
        other = extended(world, world.b)
        for command in (Extension.PAUSE, Extension.FINISH, Extension.ABORT):
            other.send(*about(command, far))
        a.write(near, b"x")
        assert b.frames() == [received(far, b"x")]
        assert other.frames() == []
        assert other.ask(Extension.ABORT, b"") == error("close: missing conn_id")


class TestUnbind:
    def test_a_port_is_freed_and_its_streams_go_on(self, world: World) -> None:
        a, b, near, far = pair(world)
        freed = (Extension.UNBIND_OK, Bind(5000).encode())
        assert b.ask(Extension.UNBIND, Bind(5000).encode()) == freed
        assert b.ask(Extension.UNBIND, Bind(5000).encode()) == freed
        a.write(near, b"x")
        assert b.frames() == [received(far, b"x")]
        assert a.ask(Command.DIAL, Dial(Address(0, 2), 5000).encode())[0] == Command.ERROR

    def test_streams_nobody_was_told_of_end(self, world: World) -> None:
        a, b = extended(world, world.a), world.client(world.b)
        b.send(Command.BIND, Bind(5000).encode())
        near = a.dial(2, 5000)
        b.send(Extension.UNBIND, Bind(5000).encode())
        assert [command for command, _ in b.frames()] == [Command.BIND_OK, Extension.UNBIND_OK]
        assert a.frames() == [about(Extension.FINISH, near)]
        world.clock.advance(1)
        assert b.frames() == []


class TestCodec:
    @given(st.integers(0, 2**32 - 1), st.sampled_from(CloseReason), st.text(max_size=20))
    def test_there_and_back(self, conn_id: int, reason: CloseReason, text: str) -> None:
        text = text.encode("utf-8", "replace").decode()
        assert Closed.decode(Closed(conn_id, reason, text).encode()) == (conn_id, reason, text)

    @given(st.binary(max_size=12))
    def test_any_bytes_give_a_value_or_our_error(self, payload: bytes) -> None:
        for kind in (Hello, HelloOk, Closed):
            try:
                kind.decode(payload)
            except WireError:
                continue

    def test_a_reason_of_the_future_is_no_clean_end(self) -> None:
        assert Closed.decode(b"\0\0\0\1\x63later") == (1, CloseReason.RESET, "later")

    def test_no_command_is_one_of_the_references(self) -> None:
        assert min(Extension) >= 0x40 > max(Command)
        assert encode_frame(Extension.HELLO, Hello().encode()).hex() == "00000003400100"
