"""C{connect} and C{send} beyond the transcripts: whole answers, faithful pipes, time limits."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pilot.ctl.console import Console
from pilot.ctl.main import main
from pilot.wire.ipc_extensions import Closed, CloseReason, Extension
from pilot.wire.ipcframes import Command
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, Frame, echoing, silent

ONE = b"\0\0\0\1"


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with FakeDaemon(echoing()) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        yield daemon


def scripted(*answer: Frame, extended: bool = False) -> Any:
    """@return: answers of a daemon whose peer answers the first data with these frames."""

    def answers(command: int, payload: bytes) -> list[Frame]:
        if command == Extension.HELLO and extended:
            return [(Extension.HELLO_OK, payload)]
        if command == Command.DIAL:
            return [(Command.DIAL_OK, ONE)]
        if command == Command.SEND:
            return list(answer)
        return [(Command.ERROR, b"\0\1unknown command")] if command >= 0x40 else []

    return answers


def with_daemon(answers: Any, monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    daemon = FakeDaemon(answers)
    monkeypatch.setenv("PILOT_SOCKET", daemon.path)
    return daemon


def test_whole_answer(echo: FakeDaemon, run: Run) -> None:
    """Not just its first segment."""
    text = "x" * 200_000
    data = run("--json", "send", "2", "7", "--data", text).data
    assert data["response"] == text


def test_answer_in_pieces(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any service: until the peer ends the stream, or falls silent."""
    pieces = [(Command.RECV, ONE + piece) for piece in (b"HTTP/1.0 ", b"200 OK\n", b"\nbody")]
    for end in ([(Command.CLOSE_OK, ONE)], []):
        with with_daemon(scripted(*pieces, *end), monkeypatch):
            outcome = run("connect", "2", "80", "--message", "GET /")
        assert (outcome.status, outcome.out) == (0, "HTTP/1.0 200 OK\n\nbody\n")


def test_pipe_is_faithful(echo: FakeDaemon, run: Run) -> None:
    """Every byte goes out and comes back, however many; nothing is added."""
    data = b"\n\nx\r\ny\n\n" + bytes(range(256)) * 10_000 + b"z" * 70_000
    outcome = run("connect", "2", "7", stdin=data)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.raw == data


def test_pipe_in_json(echo: FakeDaemon, run: Run) -> None:
    """Text comes through; bytes that are none become replacement characters."""
    data = run("--json", "connect", "2", "7", stdin=b"\nline\r\n\xff\n").data
    assert data["sent"] == data["response"] == "\nline\r\n\ufffd\n"


def test_pipe_of_more_than_a_frame(echo: FakeDaemon, run: Run) -> None:
    data = run("--json", "connect", "2", "7", stdin=b"z" * 1_100_000).data
    assert data["response"] == "z" * 1_100_000


def test_pipe_that_stays_open(
    echo: FakeDaemon, capfdbinary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers are shown while more input may come; the time limit counts from its end."""
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb", buffering=0) as source:
        monkeypatch.setattr("sys.stdin", source)
        os.write(writes, b"first ")

        def later() -> None:
            os.write(writes, b"second")
            os.close(writes)

        second = threading.Timer(0.05, later)
        second.start()
        assert main(["--json", "connect", "2", "7", "--timeout", "1s"]) == 0
        second.join()
    assert json.loads(capfdbinary.readouterr().out)["data"]["response"] == "first second"


def test_no_standard_input_at_all(echo: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["connect", "2", "7"]) == 1


def test_bytes_of_the_command_line(echo: FakeDaemon, run: Run) -> None:
    """An argument that is no UTF-8 travels as it was given."""
    given = os.fsdecode(b"\xff\xfe")
    assert run("--json", "send", "2", "7", "--data", given).data["response"] == "\ufffd\ufffd"
    assert any(payload.endswith(b"\xff\xfe") for command, payload in echo.received)


def test_peer_that_closes_without_an_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with with_daemon(scripted((Command.CLOSE_OK, ONE)), monkeypatch):
        outcome = run("send", "2", "5001", "--data", "hello")
        assert (outcome.status, outcome.out) == (0, "")
        assert outcome.err == "sent 5 bytes (no response)\n"


def test_stream_that_breaks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With our own daemon a reset is an error, not an empty answer."""
    reset = (Extension.CLOSED, Closed(1, CloseReason.RESET, "connection reset by peer").encode())
    with with_daemon(scripted((Command.RECV, ONE + b"ha"), reset, extended=True), monkeypatch):
        problem = run("--json", "send", "2", "5001", "--data", "hello").problem
    assert problem["code"] == "connection_failed"
    assert problem["message"] == "connection reset by peer"


def test_half_an_echo(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The echo service returns everything, so less is no answer."""
    with with_daemon(scripted((Command.RECV, ONE + b"hel")), monkeypatch):
        problem = run("--json", "send", "2", "7", "--data", "hello", "--timeout", "80ms").problem
    assert problem["code"] == "timeout"
    assert problem["message"] == "only 3 of 5 bytes came back within 80ms"


def test_time_limit_covers_the_dial(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with with_daemon(silent, monkeypatch):
        for words in (["send", "2", "7", "--data", "x"], ["connect", "2", "7", "--message", "x"]):
            problem = run("--json", *words, "--timeout", "50ms").problem
            assert problem["code"] == "timeout" and "within 50ms" in problem["message"]
            assert problem["hint"]


def test_peer_stops_reading(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe whose peer ends the stream before everything was sent has failed."""
    blocked = threading.Event()

    def answers(command: int, payload: bytes) -> list[Frame]:
        if command == Command.SEND:
            blocked.wait(0.1)
            return [(Command.CLOSE_OK, ONE)]
        return list(scripted()(command, payload))

    with with_daemon(answers, monkeypatch):
        problem = run("--json", "connect", "2", "5001", stdin=b"z" * 3_000_000).problem
    assert problem["code"] == "connection_failed" and "closed the stream" in problem["message"]


def test_the_terminal_is_safe(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a peer sends cannot steer the terminal it is shown on."""
    monkeypatch.setattr(Console, "on_terminal", True)
    with with_daemon(scripted((Command.RECV, ONE + b"\x1b[2Jhi\n"), (9, ONE)), monkeypatch):
        outcome = run("send", "2", "5001", "--data", "x")
    assert outcome.out == "\\x1b[2Jhi\n\n"


def test_own_node(echo: FakeDaemon, run: Run) -> None:
    """C{self} is the own node, whoever has taken the name."""
    assert run("--json", "send", "self", "7", "--data", "x").data["target"] == "0:0000.0000.0001"
    assert Command.RESOLVE_HOSTNAME not in {command for command, _ in echo.received}
