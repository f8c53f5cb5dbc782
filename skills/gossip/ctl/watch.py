"""C{pilotctl gossip watch}."""

from __future__ import annotations

from pilot.ctl.console import Result
from pilot.ctl.values import printable
from pilot.errors import NotFound, TimedOut
from skills.gossip.ctl.common import client, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call


def watch(call: Call) -> Result:
    """
    Show changes as they come: a line each, JSON in JSON mode.

    @raise TimedOut: so many were wanted, and did not come in time.
    """
    count = call.integer("count", 0)
    limit = call.duration("timeout", 0.0)
    arguments: dict[str, Any] = {"swarm": call.words[0]}
    if "prefix" in call.flags:
        arguments["prefix"] = call.flags["prefix"]
    seen = 0
    feed = client(call).feed("watch", arguments, limit if limit > 0 else None)
    call.console.progress(f"watching {printable(call.words[0])}")
    for message in feed:
        if "dropped" in message:
            call.console.progress(f"missed {message['dropped']} changes: too slow")
            continue
        event = message["event"]
        if event.get("left"):
            raise NotFound(f"this node has left the swarm {call.words[0]}")
        if call.console.json:
            call.console.json_line(event)
        else:
            call.console.line(_line(event))
        seen += 1
        if seen == count:
            return Result(None, "")
    if count > 0:
        raise TimedOut(f"{seen} of {count} changes came in time")
    return Result(None, "")


def _line(event: dict[str, Any]) -> str:
    key, author = printable(str(event["key"])), event["author"]
    new = "deleted" if event["deleted"] else f"= {shown(event['value'])}"
    before = event["previous"]
    was = "" if before is None or before["deleted"] else f"  (was {shown(before['value'], 30)})"
    return f"{key} {new}  by {author}{was}"
