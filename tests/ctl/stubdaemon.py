"""A stand-in for the daemon program: C{python stubdaemon.py MODE [flags]}; answers info, no more.

It imports little, so that a test may start a dozen.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time


def main() -> None:
    """Behave as C{MODE} says, until a signal ends it."""
    mode, flags = sys.argv[1], dict(word[2:].partition("=")[::2] for word in sys.argv[2:])
    if mode == "refuses":
        print("2026-04-01 starting")
        print("pilot-daemon: daemon start: cannot reach the registry", flush=True)
        print("2026-04-01 goodbye", flush=True)
        sys.exit(1)
    if mode == "refuses-in-json":
        print(json.dumps({"msg": "daemon start: no room", "error": "no room"}), flush=True)
        sys.exit(1)
    if mode == "misused":
        print("pilot-daemon: --listen: no\nhint: see --help", flush=True)
        sys.exit(2)
    if mode == "crashes":
        print("Traceback\nKeyError: 1", flush=True)
        sys.exit(1)
    if mode == "mute":
        sys.exit(1)
    if mode == "hangs":
        time.sleep(60)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    known = {"node_id": 9, "address": "0:0000.0000.0009", "hostname": flags.get("hostname", "")}
    known |= {"uptime_secs": 61, "peers": 0, "connections": 0, "flags": flags}
    known["token"] = os.environ.get("PILOT_ADMIN_TOKEN", "")
    known["session"] = os.getsid(0) == os.getpid()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = flags["socket"]
    if os.path.exists(path):
        os.unlink(path)
    listener.bind(path)
    listener.listen(16)
    asked = 0
    while True:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(100):
                asked += 1
                # "slow" is not registered at first.
                answer = {**known, "node_id": 0} if mode == "slow" and asked < 3 else known
                body = b"\x0e" + json.dumps(answer).encode()
                connection.sendall(len(body).to_bytes(4, "big") + body)


if __name__ == "__main__":
    main()
