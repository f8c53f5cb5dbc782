"""What others are: C{get}, C{list}, C{find}, C{history}, C{stats} and C{explain}."""

from __future__ import annotations

import time

from pilot.ctl.console import Result, indented, table
from pilot.ctl.values import duration_text, printable
from pilot.errors import NotFound
from skills.presence.ctl.own import client, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call

CALL_TIMEOUT = 45.0
"""Seconds to wait, a coordinator that is asked included."""


class NobodyAvailable(NotFound):
    """Nobody can take work."""


def get(call: Call) -> Result:
    """Show one agent."""
    agent = client(call).call("get", {"host": call.words[0]}, CALL_TIMEOUT)
    return Result(agent, "\n".join(_lines(agent)))


def list_agents(call: Call) -> Result:
    """Show those who are known."""
    given: dict[str, Any] = {"all": call.switch("all"), **_filters(call)}
    data = client(call).call("list", given, CALL_TIMEOUT)
    if not data["agents"]:
        text = "nobody is known" if given["all"] else "nobody is there (--all: everybody known)"
    else:
        titles = ("AGENT", "STATUS", "LOAD", "SLOTS", "SEEN", "CONFIDENCE", "TAGS", "REASON")
        text = table(titles, (12, 7, 4, 5, 6, 10, 4, 6), [_row(each) for each in data["agents"]])
    if data["stale_view"]:
        text += "\nthis may be out of date: this node doubts its own view"
    return Result(data, text)


def find(call: Call) -> Result:
    """Find who can take work, or tell why nobody can."""
    given = _filters(call)
    for flag in ("min-slots", "limit", "pick"):
        if flag in call.flags:
            given[flag.replace("-", "_")] = call.integer(flag, 0)
    if "max-age" in call.flags:
        given["max_age"] = call.duration("max-age", 0.0)
    if call.switch("verify"):
        given["verify"] = True
    data = client(call).call("find", given, CALL_TIMEOUT)
    if not data["agents"]:
        return _nobody(call, data)
    titles = ("AGENT", "LOAD", "SLOTS", "SEEN", "TAGS")
    rows = [[row[0], *row[2:5], row[6]] for row in map(_row, data["agents"])]
    return Result(data, table(titles, (12, 4, 5, 6, 4), rows))


def history(call: Call) -> Result:
    """Show how an agent's status has changed."""
    data = client(call).call("history", {"host": call.words[0]})
    now = time.time()
    for each in data["transitions"]:
        each["at"] = _stamp(now - each["ago"])
    rows = [[e["at"], f"{e['from']} -> {e['to']}", e["cause"]] for e in data["transitions"]]
    text = table(("AT", "CHANGE", "CAUSE"), (20, 18, 6), rows) if rows else "nothing has changed"
    return Result(data, text)


def stats(call: Call) -> Result:
    """Show figures."""
    data = client(call).call("stats")
    data["by_status"] = data.pop("status", {})
    data.setdefault("agents", 0)
    data.setdefault("counters", {})
    return Result(data, indented(data))


def explain(call: Call) -> Result:
    """Show why an agent has the status it has."""
    data = client(call).call("explain", {"host": call.words[0]})
    trail = data.pop("trail", [])
    now = time.time()
    data["verdict"] = data.get("evidence")
    data["evidence"] = [{"at": _stamp(now - step["ago"]), **step} for step in trail]
    lines = [*_lines(data), "because:"]
    if data["view"]["stale"]:
        lines.insert(-1, f"doubt:       this node doubts its own view: {data['view']['cause']}")
    for step in trail:
        ago = duration_text(round(step["ago"], 1))
        detail = f": {printable(step['detail'])}" if step["detail"] else ""
        lines.append(f"  {ago:>10} ago  {printable(step['what'])}{detail}")
    return Result(data, "\n".join(lines))


def _filters(call: Call) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for flag in ("status", "tag", "swarm"):
        if flag in call.flags:
            given[flag] = words(call.flags[flag])
    if "coordinator" in call.flags:
        given["coordinator"] = call.flags["coordinator"]
    return given


def _nobody(call: Call, data: dict[str, Any]) -> Result:
    """A failure, with the reasons beside the error as programs read it."""
    excluded: dict[str, str] = data["excluded"]
    reasons = [f"{printable(name)}: {printable(why)}" for name, why in excluded.items()]
    message = "no agent is available"
    if not data["known"]:
        message += ": none is known"
    if call.console.json:
        call.console.error(NobodyAvailable(message, hint="; ".join(reasons)[:2000] or None))
        return Result({"agents": [], "excluded": excluded, "known": data["known"]}, status=1)
    call.console.complain(f"error: {message}")
    for reason in reasons:
        call.console.complain(f"  {reason}")
    return Result(None, "", status=1)


def _row(agent: dict[str, Any]) -> list[str]:
    name = agent["hostname"] or agent["address"] or str(agent["node_id"])
    load = "-" if agent["load"] is None else f"{agent['load']}%"
    slots = "-" if agent["slots"] is None else str(agent["slots"])
    seen = "-" if agent["last_seen"] is None else duration_text(round(agent["last_seen"]))
    tags = ",".join(agent["tags"]) or "-"
    reason = agent["reason"] if agent["claim"] == agent["status"] else ""
    return [
        name, agent["status"], load, slots, seen, agent["confidence"], tags, reason or "-"
    ]  # fmt: skip


def _lines(agent: dict[str, Any]) -> list[str]:
    row = [printable(cell) for cell in _row(agent)]
    since = agent["since"]
    status = f"{row[1]}: {row[7]}" if row[7] != "-" else row[1]
    kind = ""
    if not agent.get("verified", True):
        kind = "unverified, "
        status = f"{row[1]}; it says {printable(agent['claim'])}"
    lines = [
        f"agent:       {row[0]} ({kind}{agent['address'] or 'node'}, {agent['node_id']})",
        f"status:      {status}",
        f"confidence:  {row[5]}",
        f"last seen:   {row[4]} ago",
    ]
    if since is not None:
        lines.append(f"since:       {duration_text(round(since))}")
    if agent["load"] is not None or agent["slots"] is not None:
        lines.append(f"load, slots: {row[2]}, {row[3]}")
    if agent["tags"]:
        lines.append(f"tags:        {row[6]}")
    return lines


def _stamp(unix: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix))
