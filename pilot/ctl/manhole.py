"""C{manhole}: a Python prompt in the running daemon, by way of the system's own C{ssh}."""

from __future__ import annotations

import os
import sys

from pilot.ctl.console import Result
from pilot.errors import ConnectionFailed, NotFound, PilotError
from pilot.wire.ipcframes import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call

KNOWN_HOSTS = "manhole_known_hosts"
"""The file with the daemon's key, in the home directory."""

ALIAS = "pilot-manhole"
"""What the key is filed under, whatever the port."""

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where to go when it listens on every address."""


def manhole(call: Call) -> Result:
    """
    Become C{ssh}, with the daemon's key pinned.

    The key comes over the control socket, which only this user and the daemon can reach, so nobody
    is asked to compare fingerprints, and nobody else on the port is believed.
    """
    with call.connect() as client:
        info = call.ask(client, Command.INFO, b"", "info")
    section = info.get("manhole")
    if not isinstance(section, dict) or not section.get("port"):
        raise NotFound(
            "the manhole of this daemon is not open",
            hint="start it with: pilotctl daemon start --manhole 6022",
        )
    host, port, key = (section.get(name) for name in ("host", "port", "host_key"))
    if not (isinstance(host, str) and isinstance(port, int) and _is_key(key)):
        raise ConnectionFailed("manhole: the daemon's answer makes no sense")
    host = EVERYWHERE.get(host, host)
    command = _command(host, port, _pin(call, str(key)), call.flags.get("key"), call.word(0))
    if call.console.json:
        shown = {"host": host, "port": port, "fingerprint": section.get("fingerprint")}
        return Result({**shown, "command": command})
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        raise NotFound("there is no ssh on this machine", hint="install OpenSSH's client") from None
    except OSError as error:
        raise PilotError(f"ssh: {error.strerror}") from None


def _command(
    host: str, port: int, known_hosts: str, key: str | None, code: str | None
) -> list[str]:
    options = {
        "HostKeyAlias": ALIAS,
        "HostKeyAlgorithms": "ssh-ed25519",
        "UserKnownHostsFile": '"' + known_hosts.replace("%", "%%") + '"',
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "CheckHostIP": "no",
        "UpdateHostKeys": "no",
        "PreferredAuthentications": "publickey",
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "LogLevel": "ERROR",
    }
    command = ["ssh", "-p", str(port)]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    if key is not None:
        command += ["-o", "IdentitiesOnly=yes", "-i", key]
    command += ["--", host]
    return command if code is None else [*command, code]


def _pin(call: Call, key: str) -> str:
    """@return: a file for C{ssh} that knows this key and no other."""
    from pilot.crypto.files import write_atomically

    path = os.path.join(call.settings.home, KNOWN_HOSTS)
    line = f"{ALIAS} {key}\n".encode()
    try:
        with open(path, "rb") as file:
            if file.read(len(line) + 1) == line:
                return path
    except OSError:
        pass
    try:
        os.makedirs(call.settings.home, mode=0o700, exist_ok=True)
        write_atomically(path, line, 0o600)
    except OSError as error:
        raise PilotError(f"manhole: {path}: {error.strerror}") from None
    return path


def _is_key(key: Any) -> bool:
    """Whether it is an Ed25519 key as known_hosts has it, and nothing beside it."""
    return (
        isinstance(key, str)
        and key.startswith("ssh-ed25519 AAAA")
        and len(key) < 200
        and all(c.isalnum() or c in "+/=- " for c in key)
    )
