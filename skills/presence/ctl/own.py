"""What an agent says of itself: C{start}, C{stop}, C{set} and C{serve}."""

from __future__ import annotations

import os

from pilot.client.skillcalls import SkillClient
from pilot.ctl.console import Result
from pilot.ctl.values import duration_text, printable
from pilot.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call

STATUSES = ("online", "busy", "away", "offline")


def client(call: Call) -> SkillClient:
    """@return: the way to the skill that runs here."""
    return SkillClient("presence", call.settings.socket)


def start(call: Call) -> Result:
    """Take part, in this way from now on."""
    given: dict[str, Any] = {"profile": call.flags.get("profile")}
    for flag in ("coordinator", "swarm"):
        if flag in call.flags:
            given[flag + "s"] = words(call.flags[flag])
    if "interval" in call.flags:
        given["interval"] = call.duration("interval", 0.0)
    said = client(call).call("start", given)
    data = {**said, "interval": duration_text(said["interval"])}
    return Result(data, "\n".join(_taking_part(data)))


def stop(call: Call) -> Result:
    """Take no part any more."""
    return Result(client(call).call("stop"), "offline, and announced no more")


def set_status(call: Call) -> Result:
    """Say how this agent is."""
    status = call.words[0]
    if status not in STATUSES:
        raise InvalidArgument(f'no such status: "{status}"', hint="one of " + ", ".join(STATUSES))
    name = call.flags.get("agent", os.environ.get("PILOT_AGENT", ""))
    given: dict[str, Any] = {"status": status, "agent": name}
    given["reason"] = call.flags.get("reason", "")
    if "for" in call.flags:
        given["duration"] = call.duration("for", 0.0)
    for flag in ("slots", "load"):
        if flag in call.flags:
            given[flag] = call.integer(flag, 0)
    own = client(call).call("set", given)
    agent: dict[str, Any] = next((each for each in own["agents"] if each["agent"] == name), {})
    data = {
        "status": own["status"],
        "until": agent.get("reverts_in"),
        "reason": own["reason"],
        "slots": own["slots"],
        "load": own["load"],
        "agents": own["agents"],
    }
    return Result(data, _said(data))


def serve(call: Call) -> Result:
    """Be a coordinator, or be none any more."""
    data = client(call).call("serve", {"off": call.switch("off")})
    if not data["serving"]:
        return Result(data, "this node is no coordinator")
    return Result(data, f"this node is a coordinator; agents known: {data['agents']}")


def words(text: str) -> list[str]:
    """@return: values joined by line ends or commas."""
    return [word for part in text.split("\n") for word in map(str.strip, part.split(",")) if word]


def _taking_part(data: dict[str, Any]) -> list[str]:
    lines = [f"status:       {data['status']}"]
    if data["coordinators"]:
        names = ", ".join(map(printable, data["coordinators"]))
        lines.append(f"coordinators: {names} (every {data['interval']})")
    watched = ", ".join(data["swarms"]) if data["swarms"] else "all trusted peers"
    lines.append(f"watching:     {watched} (profile {data['profile']})")
    return lines


def _said(data: dict[str, Any]) -> str:
    text = f"this node is {data['status']}"
    if data["until"] is not None:
        text += f"; what you said holds for {duration_text(round(data['until']))}"
    others = [each for each in data["agents"] if each["agent"]]
    if others:
        said = (f"{printable(each['agent'])} is {each['status']}" for each in others)
        text += f" ({', '.join(said)})"
    return text
