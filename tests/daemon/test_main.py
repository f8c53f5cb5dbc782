"""The program's life: start, readiness, signals, failures, and what it says of them."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from pilot.daemon.logs import make_observer
from pilot.daemon.main import FAILED, GOODBYE, MISUSED, Foreground, main, tell_failed_start
from pilot.daemon.systemd import notify
from pilot.errors import AlreadyExists


class FakeReactor(Clock):
    stopped = False

    def stop(self) -> None:
        self.stopped = True


class FakeService:
    def __init__(self) -> None:
        self.started: Deferred[None] = Deferred()
        self.stopped: Deferred[None] = Deferred()
        self.running = False

    def startService(self) -> None:
        self.running = True

    def stopService(self) -> Deferred[None]:
        self.running = False
        return self.stopped


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A service manager that listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


class TestForeground:
    def test_ready_when_it_serves_not_before(self, manager: socket.socket) -> None:
        foreground, service = Foreground(FakeReactor(), False), FakeService()
        foreground.start(lambda: service)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
        service.started.callback(None)
        assert manager.recv(100) == b"READY=1"
        stopping = foreground.stop()
        assert manager.recv(100) == b"STOPPING=1"
        assert not stopping.called
        service.stopped.callback(None)
        assert stopping.called
        assert foreground.status == 0

    def test_a_failed_start_is_one_line_and_status_1(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        reactor, service = FakeReactor(), FakeService()
        foreground = Foreground(reactor, False)
        foreground.start(lambda: service)
        service.started.errback(AlreadyExists("the socket is taken", hint="stop it first"))
        assert (reactor.stopped, foreground.status) == (True, FAILED)
        line = "pilot-daemon: daemon start: the socket is taken (stop it first)\n"
        assert capsys.readouterr().err == line

    def test_so_is_one_that_fails_at_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        reactor = FakeReactor()
        foreground = Foreground(reactor, False)

        def make() -> Any:
            raise PermissionError(13, "Permission denied", "/keys")

        foreground.start(make)
        assert (reactor.stopped, foreground.status) == (True, FAILED)
        assert "Permission denied: '/keys'" in capsys.readouterr().err
        assert foreground.stop().called

    def test_a_fault_of_our_own_brings_its_traceback(
        self, capsys: pytest.CaptureFixture[str], nothing_left_behind: list[Any]
    ) -> None:
        foreground = Foreground(FakeReactor(), False)
        foreground.start(lambda: 1 / 0)
        assert len(nothing_left_behind) == 1
        nothing_left_behind.clear()
        assert capsys.readouterr().err == "pilot-daemon: daemon start: division by zero\n"

    def test_what_is_stopped_while_it_starts_has_not_failed(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        foreground, service = Foreground(FakeReactor(), False), FakeService()
        foreground.start(lambda: service)
        service.stopped.callback(None)
        foreground.stop()
        service.started.errback(AlreadyExists("cut short"))
        assert foreground.status == 0
        assert capsys.readouterr().err == ""

    def test_a_part_that_hangs_does_not_keep_the_process(
        self, nothing_left_behind: list[Any]
    ) -> None:
        reactor, service = FakeReactor(), FakeService()
        foreground = Foreground(reactor, False)
        foreground.start(lambda: service)
        service.started.callback(None)
        stopping = foreground.stop()
        reactor.advance(GOODBYE)
        assert stopping.called
        nothing_left_behind.clear()

    def test_in_json_the_reason_stays_in_the_log(self, capsys: pytest.CaptureFixture[str]) -> None:
        tell_failed_start("pilot-daemon", Failure(AlreadyExists("taken")), as_json=True)
        assert capsys.readouterr().err == ""


class TestCommandLine:
    def test_a_mistake_is_status_2(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--keepalive", "soon"]) == MISUSED
        assert capsys.readouterr().err.splitlines() == [
            "pilot-daemon: --keepalive: 'soon' is no duration;"
            " write 30s, 1m30s, 250ms or plain seconds",
            "hint: pilot-daemon --help lists all options",
        ]

    def test_the_real_thing(self, tmp_path: Path) -> None:
        """A start that must fail: an identity that is no identity."""
        identity = tmp_path / "identity.json"
        identity.write_text("garbage")
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "pilot.daemon.main", "-identity", str(identity)),
                *("-registry", "127.0.0.1:1", "-socket", str(tmp_path / "s")),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ended.returncode == FAILED
        assert ended.stderr.splitlines()[-1].startswith("pilot-daemon: daemon start: ")
        assert "Traceback" not in ended.stderr
        assert not (tmp_path / "s").exists()


class TestNotify:
    def test_nobody_listens(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        assert not notify("READY=1")
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nothing"))
        assert not notify("READY=1")

    @pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets")
    def test_an_abstract_socket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        name = f"pilot-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind("\0" + name)
            monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
            assert notify("READY=1")
            assert listening.recv(100) == b"READY=1"


class TestLogs:
    def log(self, level: str, log_format: str) -> tuple[Logger, io.StringIO]:
        stream = io.StringIO()
        observer = make_observer(stream, level, log_format)
        return Logger("pilot.x", observer=observer), stream

    def test_text(self) -> None:
        log, stream = self.log("info", "text")
        log.info("hello {who}", who="bob")
        log.debug("unheard")
        time, rest = stream.getvalue().split(" ", 1)
        assert rest == "INFO  pilot.x: hello bob\n"
        assert time.endswith("Z") and len(time) == 24

    def test_json(self) -> None:
        log, stream = self.log("warn", "json")
        log.warn("hello {who}", who="bob", much={"more": 1}, n=3)
        log.info("unheard")
        (line,) = map(json.loads, stream.getvalue().splitlines())
        del line["time"]
        assert line == {
            "level": "warn",
            "logger": "pilot.x",
            "msg": "hello bob",
            "who": "bob",
            "n": 3,
        }

    @pytest.mark.parametrize("log_format", ["text", "json"])
    def test_tracebacks(self, log_format: str) -> None:
        log, stream = self.log("error", log_format)
        log.failure("oh", Failure(ValueError("no")))
        assert "ValueError: no" in stream.getvalue()

    def test_a_peers_words_make_no_lines(self) -> None:
        log, stream = self.log("info", "text")
        log.info("said {what}", what="a\nb\x1b[2Jé")
        assert stream.getvalue().endswith("said a\\nb\\x1b[2Jé\n")

    def test_twisted_talks_only_when_asked(self) -> None:
        for level, heard in (("info", False), ("debug", True)):
            stream = io.StringIO()
            observer = make_observer(stream, level, "text")
            talk = Logger("twisted.internet", observer=observer)
            talk.emit(LogLevel.info, "Starting factory")
            assert bool(stream.getvalue()) is heard

    def test_a_log_that_cannot_be_written_stops_nothing(self) -> None:
        log, stream = self.log("info", "text")
        stream.close()
        log.info("hello")
