"""C{daemon start}, C{stop} and C{status}, with a stand-in for the daemon."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot.ctl import daemon
from pilot.ctl.process import daemon_lives, read_pid
from pilot.errors import AlreadyExists
from tests.ctl.conftest import Outcome, Run
from tests.ctl.fakedaemon import FakeDaemon, error, listening_nowhere, silent

STUB = str(Path(__file__).with_name("stubdaemon.py"))


class Place:
    """
    One home of a daemon.

    @ivar home: C{~/.pilot}.
    @ivar socket: its control socket.
    """

    def __init__(self, home: Path, socket: str) -> None:
        self.home = home
        self.socket = socket
        self.pid_file = home / "pilot.pid"
        self.log = home / "pilot.log"

    @property
    def pid(self) -> int:
        """The number in the pid file."""
        return int(self.pid_file.read_text())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(daemon, "STOPPED_WITHIN", 0.3)
    monkeypatch.setattr(daemon, "ANSWER_WITHIN", 0.5)
    with listening_nowhere() as path:
        os.unlink(path)
        monkeypatch.setenv("PILOT_SOCKET", path)
        place = Place(tmp_path / ".pilot", path)
        yield place
        pid = read_pid(str(place.pid_file))
        if pid and daemon_lives(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def choose(name: str) -> None:
        # The word "pilot.daemon" is what the real one is known by.
        words = (sys.executable, "-S", "-X", "marker=pilot.daemon", STUB, name)
        monkeypatch.setattr(daemon, "DAEMON_COMMAND", words)

    choose("works")
    return choose


@pytest.fixture
def started(place: Place, mode: object, run: Run) -> Outcome:
    return run("--json", "daemon", "start", "--hostname", "node-y")


def gone(pid: int) -> bool:
    ends = time.monotonic() + 5
    while daemon_lives(pid) and time.monotonic() < ends:
        time.sleep(0.01)
    return not daemon_lives(pid)


def test_start(place: Place, started: Outcome) -> None:
    """Ready means registered; the process is a session of its own; files are the owner's."""
    assert started.status == 0 and not started.err
    assert started.data == {
        "pid": place.pid,
        "node_id": 9,
        "address": "0:0000.0000.0009",
        "hostname": "node-y",
        "socket": place.socket,
        "log_file": str(place.log),
    }
    for path in (place.pid_file, place.log):
        assert path.stat().st_mode & 0o777 == 0o600
    assert place.home.stat().st_mode & 0o777 == 0o700
    assert daemon_lives(place.pid)


def test_start_for_people(place: Place, mode: Callable[[str], None], run: Run) -> None:
    mode("slow")
    outcome = run("daemon", "start", "--hostname", "h")
    assert outcome.err == f"starting daemon (pid {place.pid})...\n"
    assert outcome.out == (
        f"Daemon running (pid {place.pid})\n  Address:  0:0000.0000.0009\n"
        f"  Hostname: h\n  Socket:   {place.socket}\n  Logs:     {place.log}\n"
    )


def test_flags_are_passed_on_and_secrets_are_not_shown(
    place: Place, mode: object, run: Run
) -> None:
    """Every user of the machine can read a command line."""
    words = ["--public", "-no-echo", "--listen", "127.0.0.1:0", "--owner=a@b.c", "--no-encrypt=0"]
    assert run("daemon", "start", *words, "--admin-token", "hush").status == 0
    told = run("--json", "info").data
    assert told["flags"] == {
        "public": "true",
        "no-echo": "true",
        "listen": "127.0.0.1:0",
        "email": "a@b.c",
        "no-encrypt": "false",
        "socket": place.socket,
    }
    assert told["token"] == "hush" and told["session"]
    with contextlib.suppress(FileNotFoundError):
        assert b"hush" not in Path(f"/proc/{place.pid}/cmdline").read_bytes()


def test_unknown_flag(place: Place, mode: object, run: Run) -> None:
    problem = run("--json", "daemon", "start", "--no-ehco").problem
    assert problem["code"] == "invalid_argument"
    assert problem["hint"] == "did you mean --no-echo?"
    assert not place.home.exists()


def test_second_start(place: Place, started: Outcome, run: Run) -> None:
    """It is refused by the pid file, and without that by the socket."""
    pid = place.pid
    problem = run("--json", "daemon", "start").problem
    assert problem["code"] == "already_exists"
    assert problem["message"] == f"daemon is already running (pid {pid})"
    assert problem["hint"] == "stop it first with: pilotctl daemon stop"
    place.pid_file.unlink()
    problem = run("--json", "daemon", "start").problem
    assert problem["message"] == f"daemon is already running (socket {place.socket} is active)"
    os.kill(pid, signal.SIGKILL)


def test_start_over_remains(place: Place, mode: object, run: Run) -> None:
    """A pid file and a socket file that are left over are in nobody's way."""
    place.home.mkdir()
    place.pid_file.write_text("999999999")
    Path(place.socket).touch()
    assert run("daemon", "start").status == 0


def test_pid_that_another_program_has_by_now(place: Place, mode: object, run: Run) -> None:
    """It is not taken for the daemon, and above all not killed."""
    place.home.mkdir()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        place.pid_file.write_text(str(stranger.pid))
        assert run("--json", "daemon", "status").data["running"] is False
        place.pid_file.write_text(str(stranger.pid))
        problem = run("--json", "daemon", "stop").problem
        assert problem["message"] == "daemon is not running (cleaned up stale state)"
        place.pid_file.write_text(str(stranger.pid))
        assert run("daemon", "start").status == 0
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("refuses", "internal", "cannot reach the registry"),
        ("refuses-in-json", "internal", "no room"),
        ("misused", "invalid_argument", "--listen: no"),
        ("crashes", "internal", "KeyError: 1"),
        ("mute", "internal", "it ended without a word"),
    ],
)
def test_daemon_that_does_not_start(
    place: Place, mode: Callable[[str], None], run: Run, name: str, code: str, told: str
) -> None:
    """Noticed at once, with the reason, and nothing is left behind."""
    place.home.mkdir()
    place.log.write_text("an old line\n")
    mode(name)
    problem = run("--json", "daemon", "start").problem
    assert problem["code"] == code
    assert problem["message"] == f"daemon did not start: {told}"
    assert problem["hint"] == f"check logs: tail -f {place.log}"
    assert not place.pid_file.exists()


def test_daemon_that_never_becomes_ready(
    place: Place, mode: Callable[[str], None], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may still become ready, so it keeps its pid file."""
    monkeypatch.setattr(daemon, "READY_WITHIN", 0.2)
    mode("hangs")
    problem = run("--json", "daemon", "start").problem
    assert problem["code"] == "timeout" and "did not become ready" in problem["message"]
    assert daemon_lives(place.pid)


def test_starts_at_once(place: Place, mode: object) -> None:
    """Of several starts one wins, and the others say so."""
    outcomes = []

    def start() -> None:
        words = ["daemon", "start"]
        program = [sys.executable, "-c", _PATCHED, json.dumps(daemon.DAEMON_COMMAND), *words]
        outcomes.append(subprocess.run(program, capture_output=True, text=True, check=False))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.returncode for each in outcomes) == [0, 1, 1, 1]
    for each in outcomes:
        assert each.returncode == 0 or "already running" in each.stderr


_PATCHED = """
import json, sys
from pilot.ctl import daemon, main
daemon.DAEMON_COMMAND = tuple(json.loads(sys.argv[1]))
sys.exit(main.main(sys.argv[2:]))
"""


def test_stop(place: Place, started: Outcome, run: Run) -> None:
    pid = place.pid
    assert run("--json", "daemon", "stop").data == {"pid": pid}
    assert gone(pid) and not place.pid_file.exists()
    problem = run("--json", "daemon", "stop").problem
    assert problem["code"] == "not_running" and problem["message"] == "daemon is not running"


def test_stop_by_force(place: Place, mode: Callable[[str], None], run: Run) -> None:
    mode("stubborn")
    run("daemon", "start")
    pid = place.pid
    outcome = run("daemon", "stop")
    assert outcome.out == f"daemon force-stopped (pid {pid})\n"
    assert gone(pid) and not place.pid_file.exists()


def test_stop_of_what_has_died(place: Place, started: Outcome, run: Run) -> None:
    os.kill(place.pid, signal.SIGKILL)
    assert gone(place.pid)
    problem = run("--json", "daemon", "stop").problem
    assert problem["message"] == "daemon is not running (cleaned up stale state)"
    assert not place.pid_file.exists()


def test_stop_of_what_somebody_else_started(place: Place, started: Outcome, run: Run) -> None:
    """A daemon without a pid file belongs to a terminal or a service manager."""
    pid = place.pid
    place.pid_file.unlink()
    problem = run("--json", "daemon", "stop").problem
    assert problem["code"] == "not_running" and place.socket in problem["hint"]
    assert daemon_lives(pid)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("content", ["", "nonsense", "-1", "0", "1", "9" * 40, "１２"])
def test_pid_files_that_are_none(place: Place, run: Run, content: str) -> None:
    place.home.mkdir()
    place.pid_file.write_text(content)
    assert run("--json", "daemon", "stop").problem["code"] == "not_running"
    assert run("--json", "daemon", "status").data["pid"] == 0


def test_status(place: Place, started: Outcome, run: Run) -> None:
    data = run("--json", "daemon", "status").data
    assert data == {
        "running": True,
        "responsive": True,
        "pid": place.pid,
        "pid_file": str(place.pid_file),
        "socket": place.socket,
        "node_id": 9,
        "address": "0:0000.0000.0009",
        "hostname": "node-y",
        "uptime_secs": 61,
        "peers": 0,
        "connections": 0,
    }
    lines = run("daemon", "status").out.splitlines()
    assert lines[0] == f"Daemon: running (pid {place.pid})"
    assert "  Uptime:      00:01:01" in lines and "  Connections: 0" in lines
    assert tuple(run("daemon", "status", "--check")) == (0, b"", "")
    assert tuple(run("--json", "daemon", "status", "--check")) == (0, b"", "")


def test_status_without_a_pid_file(place: Place, started: Outcome, run: Run) -> None:
    """What answers is running, whoever started it."""
    pid = place.pid
    place.pid_file.unlink()
    assert run("daemon", "status").out.startswith("Daemon: running\n  Node ID:     9\n")
    data = run("--json", "daemon", "status").data
    assert data["running"] and data["responsive"] and data["pid"] == 0
    os.kill(pid, signal.SIGKILL)


def test_status_of_nothing(place: Place, run: Run) -> None:
    assert run("daemon", "status").out.startswith("Daemon: stopped\n")
    assert run("--json", "daemon", "status").data == {
        "running": False,
        "responsive": False,
        "pid": 0,
        "pid_file": str(place.pid_file),
        "socket": place.socket,
    }
    assert tuple(run("daemon", "status", "--check")) == (1, b"", "")


def test_status_cleans_up(place: Place, run: Run) -> None:
    place.home.mkdir()
    place.pid_file.write_text("999999999")
    data = run("--json", "daemon", "status").data
    assert data["pid"] == 999999999 and not data["running"]
    assert not place.pid_file.exists()


def test_status_of_a_daemon_that_hangs(
    place: Place, mode: Callable[[str], None], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process lives and does not answer: that is not the same as stopped."""
    monkeypatch.setattr(daemon, "READY_WITHIN", 0.1)
    mode("hangs")
    run("daemon", "start")
    data = run("--json", "daemon", "status").data
    assert data["running"] and not data["responsive"]
    text = f"Daemon: not answering on {place.socket} (pid {place.pid})\n"
    assert run("daemon", "status").out == text
    assert run("daemon", "status", "--check").status == 1


@pytest.mark.parametrize("answers", [silent, lambda c, p: [error("no")]])
def test_check_of_something_that_is_no_daemon(
    place: Place, run: Run, monkeypatch: pytest.MonkeyPatch, answers: object
) -> None:
    monkeypatch.setattr(daemon, "ANSWER_WITHIN", 0.05)
    with FakeDaemon(answers) as fake:  # type: ignore[arg-type]
        monkeypatch.setenv("PILOT_SOCKET", fake.path)
        assert run("daemon", "status", "--check").status == 1


def test_foreground(place: Place, mode: object, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process becomes the daemon: no pid file, no log, its exit status."""
    became = []

    def execve(path: str, words: list[str], environment: dict[str, str]) -> None:
        became.append((path, words, environment))
        raise AlreadyExists("another program by now")

    monkeypatch.setattr(os, "execve", execve)
    run("daemon", "start", "--foreground", "--public")
    ((path, words, environment),) = became
    assert path == sys.executable and words[-2:] == ["--public=true", f"--socket={place.socket}"]
    assert environment["PILOT_HOME"] == str(place.home)
    assert not place.pid_file.exists() and not place.log.exists()


def test_socket_of_the_flag(place: Place, mode: object, run: Run) -> None:
    """Of all places to name a socket the flag is the closest."""
    other = place.socket + "2"
    data = run("--json", "daemon", "start", "--socket", other).data
    assert data["socket"] == other and os.path.exists(other)
    assert run("--json", "daemon", "status").data["responsive"] is False


def test_reading_pids(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("4242\n")
    assert read_pid(str(path)) == 4242
    assert read_pid(str(tmp_path / "none")) == 0
    assert not daemon_lives(1), "belongs to somebody else, or is no daemon"
