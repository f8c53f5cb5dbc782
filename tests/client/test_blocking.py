"""The blocking client against a daemon that does what the test says."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pilot.address import Address
from pilot.client import blocking
from pilot.client.blocking import DaemonClient, DaemonError, Deadline, Disconnected
from pilot.errors import (
    ConnectionFailed,
    ConnectionReset,
    InvalidArgument,
    NotRunning,
    TimedOut,
)
from pilot.wire.ipc import Accept, RecvFrom
from pilot.wire.ipc_extensions import Closed, CloseReason, Extension
from pilot.wire.ipcframes import Command
from tests.ctl.fakedaemon import FakeDaemon, Frame, echoing, error, listening_nowhere, reply, silent

PEER = Address(0, 2)
SOON = 5.0  # seconds, for what must not take any


@pytest.fixture
def echo() -> Iterator[FakeDaemon]:
    with FakeDaemon(echoing()) as daemon:
        yield daemon


def conn(number: int) -> bytes:
    return number.to_bytes(4, "big")


def answering(*frames: Frame, to: int = Command.DIAL) -> Any:
    """@return: answers of a daemon that answers one command with these frames, others not."""
    return lambda command, payload: list(frames) if command == to else []


def test_nothing_behind_the_socket() -> None:
    """A missing file, a dead socket and a plain file are all no daemon."""
    with listening_nowhere() as dead:
        for path in ("/nonexistent/socket", dead, __file__):
            with pytest.raises(NotRunning) as caught:
                DaemonClient(path)
            assert caught.value.hint


def test_impossible_path() -> None:
    with pytest.raises(InvalidArgument):
        DaemonClient("/tmp/" + "x" * 200)


def test_request_and_reply(echo: FakeDaemon) -> None:
    with DaemonClient(echo.path) as client:
        assert client.request_json(Command.INFO)["node_id"] == 1
    assert echo.received == [(Command.INFO, b"")]


def test_refusal(echo: FakeDaemon) -> None:
    with DaemonClient(echo.path) as client, pytest.raises(DaemonError) as caught:
        client.request(Command.HEALTH)
    assert caught.value.text == "unknown command: 0x21"
    assert caught.value.message == "daemon: unknown command: 0x21"


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"\xff"])
def test_reply_that_is_no_object(body: bytes) -> None:
    with (
        FakeDaemon(answering((Command.INFO_OK, body), to=Command.INFO)) as daemon,
        DaemonClient(daemon.path) as client,
        pytest.raises(DaemonError),
    ):
        client.request_json(Command.INFO)


def test_no_reply_in_time() -> None:
    """The client cannot be used any more: the reply may still come."""
    with FakeDaemon(silent) as daemon, DaemonClient(daemon.path) as client:
        with pytest.raises(TimedOut):
            client.request(Command.INFO, timeout=0.02)
        with pytest.raises(Disconnected):
            client.request(Command.INFO)


def test_daemon_goes_away() -> None:
    with FakeDaemon(silent) as daemon, DaemonClient(daemon.path) as client:
        timer = threading.Timer(0.02, daemon.hang_up)
        timer.start()
        with pytest.raises(Disconnected):
            client.request(Command.INFO, timeout=SOON)
        timer.join()


def test_daemon_breaks_the_protocol() -> None:
    """A frame longer than the protocol allows ends the connection."""
    with FakeDaemon(silent, greeting=b"\x00\x10\x00\x01") as daemon:
        client = DaemonClient(daemon.path)
        with pytest.raises(Disconnected):
            client.request(Command.INFO, timeout=SOON)


def test_stream_there_and_back(echo: FakeDaemon) -> None:
    """More than one frame of data comes back whole, cut as the daemon cut it."""
    data = bytes(range(256)) * 12000
    with DaemonClient(echo.path) as client:
        stream = client.dial(PEER, 7)
        assert (stream.remote, stream.remote_port) == (PEER, 7)
        stream.send(data, SOON)
        back = b""
        while len(back) < len(data):
            piece = stream.receive(SOON)
            assert 0 < len(piece) <= 4096
            back += piece
        assert back == data
        assert client._unread == 0
        stream.close()
        with pytest.raises(ConnectionFailed):
            stream.send(b"more")


def test_both_directions_at_once() -> None:
    """A daemon that does not read before it has written everything does not block the client."""
    data = b"y" * (8 << 20)
    with FakeDaemon(echoing()) as daemon, DaemonClient(daemon.path) as client:
        stream = client.dial(PEER, 7)
        stream.send(data, 20)  # the fake writes each frame back before it reads the next
        total = 0
        while total < len(data):
            total += len(stream.receive(SOON))


def test_data_and_end_right_behind_the_reply() -> None:
    """What arrives in the same read as DialOK belongs to the stream."""
    frames = [
        (Command.DIAL_OK, conn(9)),
        (Command.RECV, conn(9) + b"early"),
        (Command.CLOSE_OK, conn(9)),
    ]
    with FakeDaemon(answering(*frames)) as daemon, DaemonClient(daemon.path) as client:
        stream = client.dial(PEER, 80, timeout=SOON)
        assert stream.receive(SOON) == b"early"
        assert stream.receive(SOON) == b""
        assert stream.ended and not stream.writable


def test_pushes_between_request_and_reply() -> None:
    """Data, datagrams, ends of unknown streams and unknown frames do not disturb a request."""
    frames = [
        (Command.RECV, conn(77) + b"nobody's"),
        (Command.CLOSE_OK, conn(77)),
        (Command.RECV_FROM, RecvFrom(PEER, 5, 6, b"dg").encode()),
        (Command.RECV_FROM, b"short"),
        (Command.ACCEPT, b"short"),
        (0x7F, b"unheard of"),
        reply(Command.INFO_OK, {"node_id": 5}),
    ]
    with (
        FakeDaemon(answering(*frames, to=Command.INFO)) as daemon,
        DaemonClient(daemon.path) as client,
    ):
        assert client.request_json(Command.INFO, timeout=SOON) == {"node_id": 5}
        datagram = client.receive_datagram(0)
        assert (datagram.source, datagram.destination_port, datagram.data) == (PEER, 6, b"dg")
        with pytest.raises(TimedOut):
            client.receive_datagram(0)


def test_errors_of_writes_do_not_answer_requests() -> None:
    """Errors carry no number: the wording tells those of Send from the answer to a request."""

    def answer(command: int, payload: bytes) -> list[Frame]:
        if command == Command.DIAL:
            return [(Command.DIAL_OK, conn(1))]
        if command == Command.SEND:
            return []
        return [error("connection 1 not found"), reply(Command.INFO_OK, {"node_id": 3})]

    with FakeDaemon(answer) as daemon, DaemonClient(daemon.path) as client:
        stream = client.dial(PEER, 7, timeout=SOON)
        stream.send(b"lost", SOON)
        assert client.request_json(Command.INFO, timeout=SOON) == {"node_id": 3}
        with pytest.raises(ConnectionFailed, match="connection 1 not found"):
            stream.receive(SOON)


def test_disconnect_waits_for_its_own_answer() -> None:
    """The end of another stream is not taken for the answer."""
    frames = [(Command.CLOSE_OK, conn(4)), (Command.CLOSE_OK, conn(5))]
    with (
        FakeDaemon(answering(*frames, to=Command.CLOSE)) as daemon,
        DaemonClient(daemon.path) as client,
    ):
        client.disconnect(5, timeout=SOON)
        with pytest.raises(TimedOut):
            client.disconnect(6, timeout=0.02)


def test_accept() -> None:
    """A peer may come right behind BindOK; one for another port is sent away."""
    frames = [
        (Command.BIND_OK, b"\x13\x88"),
        (Command.ACCEPT, Accept(5000, 3, PEER, 49152).encode()),
        (Command.RECV, conn(3) + b"hello"),
        (Command.ACCEPT, Accept(5001, 4, PEER, 49153).encode()),
    ]
    with (
        FakeDaemon(answering(*frames, to=Command.BIND)) as daemon,
        DaemonClient(daemon.path) as client,
    ):
        listener = client.bind(5000, timeout=SOON)
        stream = listener.accept(SOON)
        assert (stream.connection_id, stream.remote, stream.remote_port) == (3, PEER, 49152)
        assert stream.receive(SOON) == b"hello"
        with pytest.raises(TimedOut):
            listener.accept(0.02)
        assert listener.poll() is None
        assert client.refused == 1
    assert (Command.CLOSE, conn(4)) in daemon.received


def test_port_taken() -> None:
    with (
        FakeDaemon(answering(error("port 7 already bound"), to=Command.BIND)) as daemon,
        DaemonClient(daemon.path) as client,
        pytest.raises(DaemonError, match="already bound"),
    ):
        client.bind(7)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers that send to a program that does not read cost bounded memory, and their own stream."""
    monkeypatch.setattr(blocking, "UNREAD_LIMIT", 100)
    monkeypatch.setattr(blocking, "DATAGRAM_LIMIT", 2)
    monkeypatch.setattr(blocking, "BACKLOG_LIMIT", 1)
    datagram = (Command.RECV_FROM, RecvFrom(PEER, 5, 6, b"dg").encode())
    frames = [
        (Command.BIND_OK, b"\x13\x88"),
        *((Command.ACCEPT, Accept(5000, n, PEER, 49152).encode()) for n in (3, 4)),
        *([(Command.RECV, conn(3) + b"x" * 60)] * 3),
        *([datagram] * 3),
    ]
    with (
        FakeDaemon(answering(*frames, to=Command.BIND)) as daemon,
        DaemonClient(daemon.path) as client,
    ):
        listener = client.bind(5000, timeout=SOON)
        stream = listener.accept(SOON)
        while client.refused < 3:
            client.turn(SOON)
        assert client._unread == 0
        with pytest.raises(ConnectionFailed, match="unread"):
            stream.receive(SOON)
        assert [client.receive_datagram(0).data for _ in range(2)] == [b"dg"] * 2


def test_extensions() -> None:
    """A daemon that knows them tells a stream that broke from one that ended."""

    def answer(command: int, payload: bytes) -> list[Frame]:
        if command == Extension.HELLO:
            return [(Extension.HELLO_OK, payload)]
        return [
            (Command.DIAL_OK, conn(1)),
            (Extension.FINISH, conn(1)),
            (Extension.FINISH, conn(8)),
            (Extension.CLOSED, b"\0"),
        ]

    with FakeDaemon(answer) as daemon, DaemonClient(daemon.path) as client:
        assert client.hello() and client.extended
        stream = client.dial(PEER, 7, timeout=SOON)
        assert stream.receive(SOON) == b""
        assert stream.writable
        daemon.push((Extension.CLOSED, Closed(1, CloseReason.RESET, "").encode()))
        while stream.writable:
            client.turn(SOON)
        with pytest.raises(ConnectionReset, match="reset"):
            stream.receive(SOON)


def test_clean_end_with_extensions() -> None:
    def answer(command: int, payload: bytes) -> list[Frame]:
        if command == Extension.HELLO:
            return [(Extension.HELLO_OK, payload)]
        closed = Closed(1, CloseReason.CLEAN, "").encode()
        return [(Command.DIAL_OK, conn(1)), (Extension.CLOSED, closed)]

    with FakeDaemon(answer) as daemon, DaemonClient(daemon.path) as client:
        client.hello()
        assert client.dial(PEER, 7, timeout=SOON).receive(SOON) == b""


def test_reference_daemon_knows_no_extensions(echo: FakeDaemon) -> None:
    with DaemonClient(echo.path) as client:
        assert not client.hello()
        assert client.dial(PEER, 7).writable


def test_dial_that_takes_too_long() -> None:
    with (
        FakeDaemon(silent) as daemon,
        DaemonClient(daemon.path) as client,
        pytest.raises(TimedOut),
    ):
        client.dial(PEER, 7, timeout=0.02)


def test_datagram_out(echo: FakeDaemon) -> None:
    with DaemonClient(echo.path) as client:
        client.send_datagram(PEER, 6000, b"hi")
        client.request(Command.INFO)
    assert (Command.SEND_TO, PEER.pack() + b"\x17\x70hi") in echo.received


def test_deadline() -> None:
    assert Deadline(None).remaining is None and not Deadline(None).over()
    assert Deadline(-1).over() and Deadline(-1).remaining == 0.0
    assert 0 < (Deadline(100).remaining or 0) <= 100


def test_waiting_looks_at_another_descriptor(echo: FakeDaemon) -> None:
    reads, writes = os.pipe()
    try:
        with DaemonClient(echo.path) as client:
            assert client.turn(0.0, reads) is False
            os.write(writes, b"x")
            started = time.monotonic()
            assert client.turn(SOON, reads) is True
            assert time.monotonic() - started < SOON
    finally:
        os.close(reads)
        os.close(writes)
