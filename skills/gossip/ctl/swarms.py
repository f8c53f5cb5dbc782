"""C{pilotctl gossip join}, C{leave}, C{swarms}, C{members} and C{status}."""

from __future__ import annotations

from pilot.ctl.console import Result, table
from pilot.ctl.values import printable, size_text
from skills.gossip.ctl.common import age, ask, client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call


def join(call: Call) -> Result:
    """Take part in a swarm."""
    flags = call.flags
    data = ask(
        call,
        "join",
        fanout=call.integer("fanout", 0) if "fanout" in flags else None,
        interval=call.duration("interval", 0.0) if "interval" in flags else None,
        signed=call.switch("signed") if "signed" in flags else None,
    )
    lines = [f"joined {data['swarm']}: {data['members']} other member(s), {data['keys']} key(s)"]
    if not data["tag"]:
        lines.append("  its tag is not set yet: the registry cannot be reached")
    elif not data["members"]:
        lines.append("  members are trusted peers that have joined as well: pilotctl trust")
    return Result(data, "\n".join(lines))


def leave(call: Call) -> Result:
    """Leave a swarm."""
    data = ask(call, "leave")
    return Result(data, f"left {data['swarm']}")


def swarms(call: Call) -> Result:
    """List the swarms."""
    data = client(call).call("swarms")
    rows = [
        (
            each["swarm"],
            str(each["members"]),
            str(each["keys"]),
            size_text(each["bytes"]),
            each["root"],
            "yes" if each["synced"] else "no",
        )
        for each in data["swarms"]
    ]
    if not rows:
        return Result(data, "in no swarm\n  join one with: pilotctl gossip join <swarm>")
    titles = ("SWARM", "MEMBERS", "KEYS", "SIZE", "ROOT", "SYNCED")
    return Result(data, table(titles, (10, 7, 4, 6, 16, 6), rows))


def members(call: Call) -> Result:
    """List the members of a swarm."""
    data = ask(call, "members")
    rows = [_member(each) for each in data["members"]]
    if not rows:
        return Result(data, "nobody else is known in this swarm")
    titles = ("ADDRESS", "HOSTNAME", "STANDING", "VERSION", "HEARD", "AGREES", "SKEW")
    return Result(data, table(titles, (15, 10, 8, 7, 6, 6, 5), rows))


def _member(each: dict[str, Any]) -> tuple[str, ...]:
    agrees = {True: "yes", False: "no", None: "-"}[each.get("agrees")]
    skew = each.get("skew")
    return (
        each["address"],
        each["hostname"] or "-",
        each["standing"] if each["trusted"] else f"{each['standing']}, not trusted",
        str(each["version"] or "-"),
        age(each.get("heard")),
        agrees,
        "-" if skew is None else f"{skew:+.1f} s",
    )


def status(call: Call) -> Result:
    """Tell how a swarm is doing, as seen from this node."""
    data = ask(call, "status")
    storage = data["storage"]
    refused = {name: count for name, count in data["counts"].items() if "rejected" in name}
    stored = storage["state"] + (f" ({storage['error']})" if storage["error"] else "")
    pairs = [
        ("Root", data["root"]),
        ("Keys", f"{data['keys']} ({data['registers']} with deleted ones)"),
        ("Size", size_text(data["bytes"])),
        ("Synced", "yes" if data["synced"] else "no member has confirmed it since the start"),
        ("Members", f"{data['members']} ({data['failed']} failed)"),
        ("Last agreement", age(data["last_agreement"])),
        ("Lag, at most", age(data["lag"]) if data["lag"] is not None else "-"),
        ("Clock corrected", f"{data['offset']:+.3f} s"),
        ("Files", f"{stored}, {storage['journal_records']} records since the last snapshot"),
        ("Tag", "set" if data["tagged"] else "not set"),
        ("Refused", ", ".join(f"{k.removeprefix('rejected_')} {n}" for k, n in refused.items())),
    ]
    lines = [f"Swarm {data['swarm']}"]
    lines += [f"  {label:<16} {printable(str(value or '-'))}" for label, value in pairs]
    lines += [f"  note: {printable(what)}" for what in storage["recovered"]]
    return Result(data, "\n".join(lines))
