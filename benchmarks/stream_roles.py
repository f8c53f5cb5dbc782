"""The parts of C{stream.py}, each a process: it says when it is ready, and what it has used."""

from __future__ import annotations

import json
import resource
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react


def play(role: str, facts: dict[str, Any]) -> None:
    """Play C{role} until told to stop; a client says how long its echo took first."""
    react(_play, (role, facts))


async def _play(reactor: Any, role: str, facts: dict[str, Any]) -> None:
    stopped: Deferred[None] = Deferred()
    reactor.addSystemEventTrigger("before", "shutdown", _stop, stopped)
    started = await _ROLES[role](reactor, facts)
    tell(started)
    if not role.endswith("client"):
        global _ready
        _ready = cpu_seconds()
    await stopped


_ready = 0.0


def _stop(stopped: Deferred[None]) -> None:
    tell({"cpu": cpu_seconds() - _ready})


def tell(fact: dict[str, Any]) -> None:
    """One JSON line for the script that measures."""
    print(json.dumps(fact), flush=True)


def cpu_seconds() -> float:
    """CPU time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
