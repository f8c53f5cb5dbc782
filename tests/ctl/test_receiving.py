"""C{recv} and C{listen}."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pilot.address import Address
from pilot.ctl import receiving
from pilot.wire.ipc import Accept, RecvFrom
from pilot.wire.ipc_extensions import Closed, CloseReason, Extension
from pilot.wire.ipcframes import Command
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, Frame, silent

PEER = Address(0, 2)


def accepted(number: int) -> Frame:
    return Command.ACCEPT, Accept(5001, number, PEER, 49152 + number).encode()


def data(number: int, content: bytes) -> Frame:
    return Command.RECV, number.to_bytes(4, "big") + content


def ended(number: int) -> Frame:
    return Command.CLOSE_OK, number.to_bytes(4, "big")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeDaemon]:
    """A daemon that lets these frames follow its BindOK."""

    def make(*frames: Frame, extended: bool = False) -> FakeDaemon:
        def answers(command: int, payload: bytes) -> list[Frame]:
            if command == Command.BIND:
                return [(Command.BIND_OK, payload), *frames]
            if command == Extension.HELLO and extended:
                return [(Extension.HELLO_OK, payload)]
            return [(Command.ERROR, b"\0\1unknown command")] if command >= 0x40 else []

        daemon = FakeDaemon(answers)
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        return daemon

    return make


def test_short_messages(serve: Any, run: Run) -> None:
    """One after the other, each reported at once."""
    with serve(accepted(1), data(1, b"first"), accepted(2), data(2, b"second")) as daemon:
        result = run("--json", "recv", "5001", "--count", "2").data
    assert result == {
        "messages": [
            {"seq": 0, "port": 5001, "data": "first", "bytes": 5},
            {"seq": 1, "port": 5001, "data": "second", "bytes": 6},
        ],
        "timeout": False,
    }
    assert ended(1)[1] in [payload for command, payload in daemon.received if command == 8]


def test_people_see_text(serve: Any, run: Run) -> None:
    with serve(accepted(1), data(1, "grüße".encode()), accepted(2), ended(2)):
        outcome = run("recv", "5001", "--count", "2")
    assert (outcome.status, outcome.out, outcome.err) == (0, "grüße\n", "error: EOF\n")


def test_people_get_every_byte(serve: Any, run: Run) -> None:
    """What is no text goes to a file or a pipe as it came."""
    content = bytes(range(256)) * 8
    with serve(accepted(1), data(1, content), ended(1)):
        outcome = run("recv", "5001")
    assert outcome.raw == content + b"\n"


def test_long_message(serve: Any, run: Run) -> None:
    """A message of many segments is one message, with or without an end of its stream."""
    pieces = [data(1, b"x" * 4096) for _ in range(20)]
    with serve(accepted(1), *pieces, ended(1)):
        (message,) = run("--json", "recv", "5001").data["messages"]
    assert message["bytes"] == 20 * 4096
    with serve(accepted(1), *pieces):
        (message,) = run("--json", "recv", "5001").data["messages"]
    assert message["bytes"] == 20 * 4096


def test_silent_peer_keeps_nobody_waiting(serve: Any, run: Run) -> None:
    with serve(accepted(1), accepted(2), data(2, b"here")):
        (message,) = run("--json", "recv", "5001").data["messages"]
    assert message["data"] == "here"


def test_time_limit_covers_the_reading(serve: Any, run: Run) -> None:
    """A peer that connects and says nothing is reported when the time is over."""
    with serve(accepted(1)):
        result = run("--json", "recv", "5001", "--timeout", "60ms").data
    assert result == {
        "messages": [{"seq": 0, "port": 5001, "error": "nothing came"}],
        "timeout": True,
    }


def test_message_under_way_at_the_end_is_kept(
    serve: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "QUIET", 60.0)
    with serve(accepted(1), data(1, b"y" * 4096)):
        result = run("--json", "recv", "5001", "--timeout", "80ms").data
    assert result["timeout"] and result["messages"][0]["bytes"] == 4096


def test_largest_message(serve: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "LARGEST_MESSAGE", 8192)
    monkeypatch.setattr(receiving, "QUIET", 60.0)
    with serve(accepted(1), data(1, b"y" * 4096), data(1, b"y" * 4096)):
        assert run("--json", "recv", "5001").data["messages"][0]["bytes"] == 8192


def test_stream_that_breaks(serve: Any, run: Run) -> None:
    reset = (Extension.CLOSED, Closed(1, CloseReason.RESET, "reset by peer").encode())
    with serve(accepted(1), reset, extended=True):
        (message,) = run("--json", "recv", "5001").data["messages"]
    assert message == {"seq": 0, "port": 5001, "error": "reset by peer"}


@pytest.mark.parametrize("limit", ["-1", "0"])
def test_time_that_is_over_at_once(serve: Any, run: Run, limit: str) -> None:
    with serve():
        result = run("--json", "recv", "5001", "--timeout", limit).data
    assert result == {"messages": [], "timeout": True}


def test_nothing_wanted(serve: Any, run: Run) -> None:
    with serve():
        assert run("--json", "recv", "5001", "--count", "0").data == {
            "messages": [],
            "timeout": False,
        }


def datagram(port: int, content: bytes) -> bytes:
    return RecvFrom(PEER, 49152, port, content).encode()


@pytest.fixture
def datagrams(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeDaemon]:
    """A daemon that greets its clients with these datagrams."""

    def make(*payloads: bytes) -> FakeDaemon:
        from pilot.wire.ipcframes import encode_frame

        greeting = b"".join(encode_frame(Command.RECV_FROM, each) for each in payloads)
        daemon = FakeDaemon(silent, greeting)
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        return daemon

    return make


THREE = (datagram(6000, b"dg one"), datagram(6001, b"other"), datagram(6000, b"dg \x1b two"))


def test_listen_bounded(datagrams: Any, run: Run) -> None:
    """So many datagrams for the port, in one envelope; those for other ports do not count."""
    with datagrams(*THREE):
        result = run("--json", "listen", "6000", "--count", "2").data
    assert result == {
        "messages": [
            {"src_addr": str(PEER), "src_port": 49152, "data": "dg one", "bytes": 6},
            {"src_addr": str(PEER), "src_port": 49152, "data": "dg \x1b two", "bytes": 8},
        ],
        "timeout": False,
    }


def test_listen_unbounded(datagrams: Any, run: Run) -> None:
    """A line each, at once, and no envelope."""
    with datagrams(*THREE):
        outcome = run("--json", "listen", "6000", "--timeout", "60ms")
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert [line["data"] for line in lines] == ["dg one", "dg \x1b two"]
    assert all(line.keys() == {"src_addr", "src_port", "data", "bytes"} for line in lines)
    assert (outcome.status, outcome.err) == (0, "")


def test_listen_for_people(datagrams: Any, run: Run) -> None:
    with datagrams(*THREE[:2]):
        outcome = run("listen", "6000", "--timeout", "60ms")
    assert outcome.out == f"[{PEER}:49152] dg one\n"
    assert outcome.err == "listening on port 6000 — waiting for datagrams...\ntimeout\n"


def test_listen_until_the_time_is_over(datagrams: Any, run: Run) -> None:
    with datagrams():
        result = run("--json", "listen", "6000", "--count", "1", "--timeout", "40ms").data
    assert result == {"messages": [], "timeout": True}


def test_no_limit(datagrams: Any, run: Run) -> None:
    """Zero and less mean no limit here."""
    with datagrams() as daemon:
        later = threading.Timer(0.05, daemon.push, [(Command.RECV_FROM, THREE[0])])
        later.start()
        result = run("--json", "listen", "6000", "--count", "1", "--timeout", "-5").data
        later.join()
    assert len(result["messages"]) == 1
