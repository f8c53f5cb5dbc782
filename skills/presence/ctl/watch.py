"""Changes as they come: C{watch}."""

from __future__ import annotations

import time

from pilot.ctl.console import Result
from pilot.ctl.values import printable
from pilot.errors import ConnectionFailed, TimedOut
from pilot.wire.ipcframes import encode_json
from skills.presence.ctl.own import client, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call


def watch(call: Call) -> Result:
    """
    Show changes, so many or for so long.

    @raise TimedOut: so many were wanted, and did not come in time.
    """
    given: dict[str, Any] = {"host": call.word(0) or ""}
    for flag in ("status", "swarm"):
        if flag in call.flags:
            given[flag] = words(call.flags[flag])
    if "coordinator" in call.flags:
        given["coordinator"] = call.flags["coordinator"]
    count = call.integer("count", 0)
    limit = call.duration("timeout", 0.0)
    deadline = limit if limit > 0 else None
    console, seen = call.console, 0
    for message in client(call).feed("watch", given, deadline):
        if "dropped" in message:
            console.complain(f"missed {message['dropped']} changes: too slow")
            continue
        event = message["event"]
        if event["event"] == "watching":
            console.progress("watching for changes...")
            continue
        if event["event"] == "lost":
            raise ConnectionFailed(f"the coordinator is lost: {event.get('reason')}")
        if console.on_terminal:
            console.line(_line(event))
        else:
            console.data(encode_json(event) + b"\n")
        seen += 1
        if seen == count:
            return Result(None, "")
    if count > 0:
        raise TimedOut(f"{seen} of {count} changes came in time")
    return Result(None, "")


def _line(event: dict[str, Any]) -> str:
    at = time.strftime("%H:%M:%S")
    name = printable(str(event.get("hostname") or event.get("node_id") or ""))
    kind = event["event"]
    if kind == "changed":
        change = f"{event.get('from')} -> {event.get('to')} ({event.get('cause')})"
        return f"{at}  {name}: {printable(change)}"
    if kind == "flapping":
        return f"{at}  {name} {'comes and goes' if event.get('flapping') else 'is steady again'}"
    if kind == "bulk":
        return f"{at}  {printable(str(event.get('count')))} agents changed at once"
    if kind == "view_stale":
        return f"{at}  this node doubts its own view: {printable(str(event.get('cause')))}"
    return f"{at}  {printable(kind.replace('_', ' '))}"
