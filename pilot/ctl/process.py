"""Processes by their number: whether one lives, and whether it is a daemon of ours."""

from __future__ import annotations

import os
import sys

_DAEMON_WORDS = ("pilot.daemon", "pilot-daemon", "pilotctl", "twistd")


def daemon_lives(pid: int) -> bool:
    """
    @return: whether process C{pid} runs and is a daemon.  Numbers are used again: another program
        that has it by now does not count, and neither does a process that has ended and waits for
        its parent.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # somebody else's, so not the one we started
    command = _command_line(pid)
    if command is None:
        return True  # it lives, and this system does not say what it is
    return any(word in command for word in _DAEMON_WORDS)


def read_pid(path: str) -> int:
    """@return: the number in the file; 0 when there is none, or no sensible one."""
    try:
        with open(path, "rb") as file:
            text = file.read(32).decode("ascii", "replace").strip()
    except OSError:
        return 0
    return int(text) if text.isascii() and text.isdigit() and 1 < int(text) < 1 << 31 else 0


def _command_line(pid: int) -> str | None:
    """@return: the command line, empty for a process that has ended; C{None}: cannot be known."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode("utf-8", "replace")
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return ""
    except OSError:
        return None
    if sys.platform == "win32":
        return None
    import subprocess

    try:
        shown = subprocess.run(
            ["ps", "-o", "stat=,command=", "-p", str(pid)],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return "" if shown.startswith("Z") else shown
