"""The life of a daemon in the background: C{daemon start}, C{stop} and C{status}.

@see: C{docs/reference/pilotctl.md}, I{The daemon}.
"""

from __future__ import annotations

import os
import sys
import time

from pilot.client.blocking import DaemonClient
from pilot.ctl.console import Result
from pilot.ctl.locking import Lock
from pilot.ctl.process import daemon_lives, read_pid
from pilot.errors import (
    AlreadyExists,
    InvalidArgument,
    NotRunning,
    PilotError,
    TimedOut,
    WireError,
)
from pilot.wire.ipcframes import Command
from pilot.wire.jsontext import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call
    from pilot.ctl.settings import Settings

READY_WITHIN = 15.0
"""Seconds from the start of a daemon to its first answer."""

STOPPED_WITHIN = 10.0
"""Seconds from the request to end to the end; then the daemon is killed."""

ANSWER_WITHIN = 20.0
"""Seconds to wait for the answer of a daemon that runs.  A reference daemon that has lost its
registry takes 15."""

LOCK_WAIT = 40.0
"""Seconds to wait for another start or stop under way; longer than either takes."""

LOG_TAIL = 65536
"""Bytes at the end of the log that are searched for the reason of a failed start."""

_FIRST_LOOK, _LONGEST_LOOK = 0.01, 0.2  # seconds between two looks
_STOP_LOOK = 0.02
_COMPLAINT = "pilot-daemon: "  # what the daemon program begins its complaint with
_MISUSED = 2  # its exit status when the flags or the configuration make no sense

SECRETS = {"admin-token": "PILOT_ADMIN_TOKEN"}
"""Flags that go through the environment: every user of the machine reads command lines."""

DAEMON_COMMAND = (sys.executable, "-P", "-m", "pilot.daemon.main")
"""The daemon program.  C{-P}: not a C{pilot} that happens to lie in the current directory."""


def start(call: Call) -> Result:
    """Start a daemon and wait until it is registered."""
    settings = call.settings
    socket = call.flags.get("socket") or settings.socket
    os.makedirs(settings.home, mode=0o700, exist_ok=True)
    with Lock(settings.pid_path + ".lock", LOCK_WAIT):
        _refuse_second(settings, socket)
        command, environment = _command(call, socket)
        if call.switch("foreground"):
            sys.stdout.flush()
            os.execve(command[0], command, environment)
        return _start_in_background(call, socket, command, environment)


def stop(call: Call) -> Result:
    """Ask the daemon to end, and see to it that it does."""
    settings = call.settings
    if not os.path.isdir(settings.home):
        return _not_started_by_us(settings)
    with Lock(settings.pid_path + ".lock", LOCK_WAIT):
        if not os.path.exists(settings.pid_path) or not (pid := read_pid(settings.pid_path)):
            return _not_started_by_us(settings)
        if not daemon_lives(pid):
            _remove(settings.pid_path)
            raise NotRunning("daemon is not running (cleaned up stale state)")
        forced = _end(pid)
        _remove(settings.pid_path)
    data: dict[str, Any] = {"pid": pid}
    if forced:
        return Result({**data, "forced": True}, f"daemon force-stopped (pid {pid})")
    return Result(data, f"daemon stopped (pid {pid})")


def status(call: Call) -> Result:
    """Say whether it runs."""
    settings = call.settings
    info = _ask_info(settings.socket, ANSWER_WITHIN)
    if call.switch("check"):
        return Result(None, "", status=0 if info is not None else 1)
    pid = read_pid(settings.pid_path)
    alive = bool(pid) and daemon_lives(pid)
    if not alive and info is None and os.path.exists(settings.pid_path):
        _remove(settings.pid_path)
    data: dict[str, Any] = {
        "running": alive or info is not None,
        "responsive": info is not None,
        "pid": pid,
        "pid_file": settings.pid_path,
        "socket": settings.socket,
    }
    if info is None:
        if alive:
            text = f"Daemon: not answering on {settings.socket} (pid {pid})"
        else:
            text = "Daemon: stopped\n  start it with: pilotctl daemon start"
        return Result(data, text)
    for key in ("node_id", "address", "hostname", "uptime_secs", "peers", "connections"):
        data[key] = info.get(key)
    return Result(data, _status_text(data, alive))


def _command(call: Call, socket: str) -> tuple[list[str], dict[str, str]]:
    """@return: the daemon's command line, and its environment."""
    environment = dict(os.environ)
    command = list(DAEMON_COMMAND)
    for name, value in {**call.flags, "socket": socket}.items():
        if name in SECRETS:
            environment[SECRETS[name]] = value
        elif name != "foreground":
            values = value.split("\n") if name == "skill" else [value]
            command += [f"--{name}={each}" for each in values]
    environment["PILOT_HOME"] = call.settings.home
    return command, environment


def _refuse_second(settings: Settings, socket: str) -> None:
    hint = "stop it first with: pilotctl daemon stop"
    pid = read_pid(settings.pid_path)
    if pid and daemon_lives(pid):
        raise AlreadyExists(f"daemon is already running (pid {pid})", hint=hint)
    _remove(settings.pid_path)
    if _connects(socket):
        raise AlreadyExists(f"daemon is already running (socket {socket} is active)", hint=hint)


def _start_in_background(
    call: Call, socket: str, command: list[str], environment: dict[str, str]
) -> Result:
    import subprocess

    from pilot.crypto.files import write_atomically

    settings = call.settings
    log = os.open(settings.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.fchmod(log, 0o600)
        log_start = os.fstat(log).st_size
        child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
    write_atomically(settings.pid_path, str(child.pid).encode(), 0o600)
    call.console.progress(f"starting daemon (pid {child.pid})...")
    info = _wait_until_ready(child, socket)
    status, child.returncode = child.returncode, 0  # so that nobody minds that it runs on
    if info is None:
        if status is None:
            raise TimedOut(
                f"daemon started (pid {child.pid}) but did not become ready within "
                f"{READY_WITHIN:.0f}s",
                hint=f"check logs: tail -f {settings.log_path}",
            )
        _remove(settings.pid_path)
        kind = InvalidArgument if status == _MISUSED else PilotError
        raise kind(
            f"daemon did not start: {_last_words(settings.log_path, log_start)}",
            hint=f"check logs: tail -f {settings.log_path}",
        )
    data = {
        "pid": child.pid,
        "node_id": info.get("node_id"),
        "address": info.get("address"),
        "hostname": info.get("hostname") or "",
        "socket": socket,
        "log_file": settings.log_path,
    }
    lines = [f"Daemon running (pid {child.pid})", f"  Address:  {data['address']}"]
    if data["hostname"]:
        lines.append(f"  Hostname: {data['hostname']}")
    lines += [f"  Socket:   {socket}", f"  Logs:     {settings.log_path}"]
    return Result(data, "\n".join(lines))


def _wait_until_ready(child: Any, socket: str) -> dict[str, Any] | None:
    """@return: what the daemon says of itself, once it has a node id; C{None}: it never did."""
    ends = time.monotonic() + READY_WITHIN
    look = _FIRST_LOOK
    while time.monotonic() < ends:
        time.sleep(look)
        look = min(_LONGEST_LOOK, look * 1.3)
        info = _ask_info(socket, max(0.1, ends - time.monotonic()))
        if info is not None and info.get("node_id"):
            return info
        if child.poll() is not None:
            return None
    return None


def _last_words(path: str, start: int) -> str:
    """@return: what the daemon wrote about its failure; else its last line."""
    try:
        with open(path, "rb") as file:
            file.seek(max(start, os.fstat(file.fileno()).st_size - LOG_TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    lines = [line.strip() for line in lines if line.strip()]
    for line in reversed(lines):
        if line.startswith(_COMPLAINT):
            return line.removeprefix(_COMPLAINT).removeprefix("daemon start: ")
        if line.startswith("{"):
            return _message_in(line)
    return lines[-1] if lines else "it ended without a word"


def _message_in(line: str) -> str:
    try:
        record = load(line.encode())
    except WireError:
        return line
    return str(record.get("error") or record.get("msg") or line)


def _end(pid: int) -> bool:
    """@return: whether it took force."""
    import signal

    for number, wait in ((signal.SIGTERM, STOPPED_WITHIN), (signal.SIGKILL, 2.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        ends = time.monotonic() + wait
        while time.monotonic() < ends:
            if not daemon_lives(pid):
                return number == signal.SIGKILL
            time.sleep(_STOP_LOOK)
    raise PilotError(f"process {pid} cannot be stopped")


def _not_started_by_us(settings: Settings) -> Result:
    socket = settings.socket
    if _connects(socket):
        raise NotRunning(
            "daemon socket is active but PID file is missing",
            hint=f"find and kill the process manually: lsof -U | grep {socket}",
        )
    raise NotRunning("daemon is not running")


def _connects(socket: str) -> bool:
    try:
        DaemonClient(socket).close()
    except NotRunning:
        return False
    return True


def _ask_info(socket: str, timeout: float) -> dict[str, Any] | None:
    try:
        with DaemonClient(socket) as client:
            return client.request_json(Command.INFO, timeout=timeout)
    except PilotError:
        return None


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _status_text(data: dict[str, Any], alive: bool) -> str:
    from pilot.ctl.values import printable, uptime_text

    uptime = data["uptime_secs"]
    pairs = [
        ("Node ID", data["node_id"]),
        ("Address", data["address"]),
        ("Hostname", data["hostname"]),
        ("Uptime", uptime_text(uptime if isinstance(uptime, (int, float)) else 0)),
        ("Peers", data["peers"]),
        ("Connections", data["connections"]),
    ]
    # Without a live process of ours there is no number to tell, yet something answers.
    heading = f"Daemon: running (pid {data['pid']})" if alive else "Daemon: running"
    lines = [
        f"  {label + ':':12} {printable(str(value))}"
        for label, value in pairs
        if value not in (None, "")
    ]
    return "\n".join((heading, *lines))
