"""Telling the service manager where the daemon stands (sd_notify)."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """
    Send one state, such as C{READY=1} or C{STOPPING=1}.

    @return: whether a service manager was there to hear it.
    """
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(state.encode(), address)
    except OSError:
        return False
    return True
