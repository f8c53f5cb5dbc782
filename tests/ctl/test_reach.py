"""C{ping}, C{traceroute} and C{bench} beyond the transcripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pilot.ctl import bench, reach
from pilot.ctl.console import Console
from pilot.wire.ipc_extensions import Closed, CloseReason, Extension
from pilot.wire.ipcframes import Command
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, Frame, echoing, error, silent


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "INTERVAL", 0.0)


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with FakeDaemon(echoing()) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        yield daemon


def changed(changes: dict[int, Any]) -> Any:
    """@return: answers of an echoing daemon, but for some commands."""
    usual = echoing()

    def answers(command: int, payload: bytes) -> list[Frame]:
        return list(changes[command](payload) if command in changes else usual(command, payload))

    return answers


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(changes: dict[int, Any]) -> FakeDaemon:
        daemon = FakeDaemon(changed(changes))
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        return daemon

    return make


def test_ping(echo: FakeDaemon, run: Run) -> None:
    """Four times, unless told otherwise."""
    data = run("--json", "ping", "2").data
    assert [result["seq"] for result in data["results"]] == [0, 1, 2, 3]
    assert all(result["bytes"] == 6 for result in data["results"])
    assert not data["timeout"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5000", 5.0), ("100", 0.1), ("99", 99.0), ("5000ms", 5.0), ("60s", 60.0), ("150s", 150.0),
     ("100.0", 100.0), ("-200", -200.0)],
)  # fmt: skip
def test_time_limit_of_ping(text: str, seconds: float) -> None:
    """Only a bare whole number from 100 on means milliseconds."""
    from pilot.ctl.arguments import split_words
    from pilot.ctl.call import Call
    from pilot.ctl.settings import Settings

    words = split_words(["ping", "b", "--timeout", text])
    assert reach._ping_timeout(Call(words, Console(json=True), Settings())) == seconds


def test_some_answer_is_success(peer: Any, run: Run) -> None:
    """As with any other ping: it failed if nothing came back."""
    refused = iter([error("connection refused")])
    with peer({Command.DIAL: lambda p: [next(refused, (Command.DIAL_OK, b"\0\0\0\1"))]}):
        outcome = run("--json", "ping", "2", "--count", "2")
    assert outcome.status == 0
    assert ["error" in result for result in outcome.data["results"]] == [True, False]


def test_no_answer_is_failure(peer: Any, run: Run) -> None:
    with peer({Command.DIAL: lambda p: [error("connection refused")]}):
        outcome = run("--json", "ping", "2", "--count", "2")
        assert outcome.status == 1
        assert outcome.data["results"] == [
            {"seq": 0, "error": "dial: daemon: connection refused"},
            {"seq": 1, "error": "dial: daemon: connection refused"},
        ]


def test_time_limit_of_ping_covers_the_dial(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeDaemon(silent) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        outcome = run("--json", "ping", "2", "--timeout", "100")
    assert outcome.status == 1
    assert outcome.data == {
        "target": "0:0000.0000.0002",
        "results": [{"seq": 0, "error": "no answer within 100ms"}],
        "timeout": True,
    }


def test_time_that_is_over_at_once(echo: FakeDaemon, run: Run) -> None:
    outcome = run("--json", "ping", "2", "--count", "1", "--timeout", "-5")
    assert outcome.data == {"target": "0:0000.0000.0002", "results": [], "timeout": True}
    assert run("ping", "2", "--timeout", "0").out == "PING 0:0000.0000.0002\ntimeout\n"


def closing(payload: bytes) -> list[Frame]:
    return [(Command.CLOSE_OK, payload[:4])]


def lying(payload: bytes) -> list[Frame]:
    return [(Command.RECV, payload[:-1] + b"!")]


@pytest.mark.parametrize(
    ("answer", "told"), [(closing, "EOF"), (lying, "the answer is not what was sent")]
)
def test_bad_echo(peer: Any, run: Run, answer: Any, told: str) -> None:
    with peer({Command.SEND: answer}):
        data = run("--json", "ping", "2", "--count", "1").data
        assert data["results"][0]["error"] == told and "rtt_ms" in data["results"][0]
        samples = run("--json", "traceroute", "0:0000.0000.0002").data["rtt_samples"]
        assert samples[0]["error"] == told and all("error" in each for each in samples)


def test_echo_that_comes_in_pieces(peer: Any, run: Run) -> None:
    with peer({Command.SEND: lambda p: [(7, p[:6]), (7, p[:4] + p[6:])]}):
        assert run("--json", "ping", "2", "--count", "1").data["results"][0]["bytes"] == 6


def test_daemon_that_goes_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(command: int, payload: bytes) -> list[Frame]:
        raise OSError

    with FakeDaemon(answers) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)

        def hang_up(command: int, payload: bytes) -> list[Frame]:
            daemon.hang_up()
            return []

        daemon._answer = hang_up
        for words in (["ping", "2"], ["bench", "2"], ["info"], ["send", "2", "7", "--data", "x"]):
            problem = run("--json", *words).problem
            assert problem["code"] == "connection_failed"
            assert "daemon disconnected" in problem["message"]


def test_traceroute(echo: FakeDaemon, run: Run) -> None:
    data = run("--json", "traceroute", "0:0000.0000.0002").data
    assert data["setup_ms"] >= 0
    assert [sample["bytes"] for sample in data["rtt_samples"]] == [7, 7, 7]
    problem = run("--json", "traceroute", "node-b").problem
    assert problem["code"] == "invalid_argument"
    assert problem["message"].startswith("parse address: invalid address: ")


def test_bench(echo: FakeDaemon, run: Run) -> None:
    """Everything comes back and is compared, more than a frame and more than the pattern."""
    data = run("--json", "bench", "2", "2.5").data
    assert data["sent_bytes"] == data["recv_bytes"] == 2621440
    assert data["total_duration_ms"] >= data["send_duration_ms"] >= 0
    assert data["total_mbps"] > 0 and "error" not in data
    assert run("--json", "bench", "2").data["recv_bytes"] == 1048576


@pytest.mark.parametrize("size", ["0", "-1", "0.0000001"])
def test_bench_of_nothing(echo: FakeDaemon, run: Run, size: str) -> None:
    outcome = run("--json", "bench", "2", size)
    assert outcome.status == 0 and outcome.data["recv_bytes"] == 0


@pytest.mark.parametrize("size", ["x", "nan", "inf", "1_0", "", "1e", "10e9"])
def test_sizes_that_are_none(echo: FakeDaemon, run: Run, size: str) -> None:
    assert run("--json", "bench", "2", size).problem["code"] == "invalid_argument"


def test_bench_notices_wrong_data(peer: Any, run: Run) -> None:
    with peer({Command.SEND: lambda p: [(7, p[:1000] + b"?" + p[1001:4100])]}):
        outcome = run("--json", "bench", "2", "0.1")
    assert outcome.status == 1
    assert outcome.data["error"] == "wrong data came back after 0 bytes"


def test_bench_notices_too_much(peer: Any, run: Run) -> None:
    with peer({Command.SEND: lambda p: [(7, p), (7, p)]}):
        outcome = run("--json", "bench", "2", "0.001")
    assert outcome.status == 1 and "more came back" in outcome.data["error"]


def test_bench_that_comes_short(peer: Any, run: Run) -> None:
    """Less back than was sent is a failure, with the figures all the same."""
    with peer({Command.SEND: lambda p: [(7, p[:504])]}):
        outcome = run("bench", "2", "0.01", "--timeout", "60ms")
    assert outcome.status == 1
    assert "warning: receive timed out (got 500 B of 10.2 KB)" in outcome.out
    with peer({Command.SEND: lambda p: [(7, p[:504]), (9, p[:4])]}):
        outcome = run("--json", "bench", "2", "0.01")
    assert outcome.status == 1
    assert outcome.data["error"] == "the peer closed the stream"
    assert (outcome.data["sent_bytes"], outcome.data["recv_bytes"]) == (10485, 500)


def test_bench_over_a_stream_that_breaks(peer: Any, run: Run) -> None:
    reset = Closed(1, CloseReason.TIMEOUT, "the peer fell silent").encode()
    changes = {
        Extension.HELLO: lambda p: [(Extension.HELLO_OK, p)],
        Command.SEND: lambda p: [(Extension.CLOSED, reset)],
    }
    with peer(changes):
        assert run("--json", "bench", "2").data["error"] == "the peer fell silent"


def test_bench_that_cannot_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(command: int, payload: bytes) -> list[Frame]:
        return [] if command == Command.DIAL else [error("unknown command")]

    with FakeDaemon(answers) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        problem = run("--json", "bench", "2", "--timeout", "50ms").problem
    assert problem["code"] == "timeout" and problem["hint"]


def test_progress_is_for_a_terminal(
    echo: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal's error stream a line that changes, gone in the end; in pipes and JSON none."""
    monkeypatch.setattr(bench, "REDRAW", 0.0)
    assert run("bench", "2", "1").err == ""
    monkeypatch.setattr(Console, "shows_progress", True)
    err = run("bench", "2", "1").err
    assert "% " in err and "MB/s" in err and err.endswith("\r\x1b[K")
