"""What a replica tells people about itself: JSON-ready objects.

Ages are in seconds; an age is C{None} if the thing never happened.
"""

from __future__ import annotations

from typing import Any

from skills.gossip.core.desk import Desk
from skills.gossip.core.member import NEVER, Member, Standing
from skills.gossip.core.rounds import Rounds

#: A member whose clock is off by more is called skewed, seconds.
SKEWED = 5.0
#: A member that has not answered so many messages in a row is called silent.
SILENT = 3
#: A member that has not been heard for longer, seconds, is not called asymmetric.
LATELY = 600.0


def age(now: float, at: float) -> float | None:
    """@return: seconds since then, C{None} for never."""
    return None if at == NEVER else round(now - at, 3)


def status(desk: Desk, rounds: Rounds, now: float) -> dict[str, Any]:
    """
    @return: C{{"swarm", "node_id", "incarnation", "synced", "lagging", "hot", "root", "registers",
        "keys", "bytes", "members", "failed", "view", "offset", "lag", "last_agreement", "refused",
        "counts"}}; C{lag}: the age of the oldest agreement among members heard in the last ten
        minutes, which bounds how old what we miss from them can be.
    """
    ledger, members = desk.ledger, desk.members
    recent = [
        member
        for member in members.known.values()
        if member.usable and now - member.heard < desk.config.proof
    ]
    agreements = [member.agreed for member in members.known.values() if member.agreed > NEVER]
    lags = [now - member.agreed for member in recent if member.agreed > NEVER]
    view = rounds.view
    sizes = None if view is None else {"active": len(view.active), "passive": len(view.passive)}
    return {
        "swarm": desk.name,
        "node_id": desk.own,
        "incarnation": members.incarnation,
        "synced": desk.synced,
        "lagging": desk.lagging,
        "hot": desk.hot(now),
        "root": ledger.map.root,
        "registers": len(ledger.map),
        "keys": len(ledger.map) - len(ledger.map.deleted()),
        "bytes": ledger.map.bytes,
        "members": len(members.trusted),
        "failed": len(members.failed),
        "view": sizes,
        "offset": round(ledger.clock.offset, 3),
        "lag": round(max(lags), 3) if lags else None,
        "last_agreement": age(now, max(agreements)) if agreements else None,
        "refused": dict(ledger.refusals),
        "counts": dict(desk.counts),
    }


def members(desk: Desk, now: float) -> list[dict[str, Any]]:
    """
    @return: per member C{{"node_id", "hostname", "trusted", "standing", "version", "incarnation",
        "heard", "agreed", "agrees", "root", "registers", "skew", "lagging", "muted", "dropped",
        "errors"}}, sorted by node; C{version} is C{None} while unknown.
    """
    table = desk.members
    rows = []
    for node in sorted({*table.facts, *table.known}):
        fact = table.facts.get(node)
        member = table.known.get(node)
        row: dict[str, Any] = {
            "node_id": node,
            "hostname": fact.hostname if fact else "",
            "trusted": fact is not None,
            "standing": Standing.UNKNOWN.value,
            "version": 2 if fact and fact.v2 else 1 if fact and fact.v2 is False else None,
        }
        if member is not None:
            row.update(_experience(desk, member, now))
        rows.append(row)
    return rows


def _experience(desk: Desk, member: Member, now: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "standing": member.standing.value,
        "incarnation": member.incarnation,
        "heard": age(now, member.heard),
        "agreed": age(now, member.agreed),
        "agrees": member.root == desk.ledger.map.root if member.root else None,
        "root": member.root,
        "registers": member.count,
        "skew": None if member.skew is None else round(member.skew, 3),
        "lagging": member.lagging,
        "muted": now < member.conduct.muted_until,
        "dropped": member.conduct.over,
        "errors": member.conduct.errors,
    }
    if desk.members.version2(member.node, now) or member.proven > NEVER:
        row["version"] = 2
    elif member.version1:
        row["version"] = 1
    return row


def doctor(desk: Desk, now: float) -> dict[str, Any]:
    """
    @return: C{{"root", "agreeing", "divergent", "skewed", "silent", "asymmetric", "unmet",
        "healthy"}}, lists of nodes: whose last root differs (and was told after our last change);
        whose clock is off; who does not answer; whom we hear but do not reach; of whom no root is
        known.
    """
    root = desk.ledger.map.root
    report: dict[str, Any] = {
        "root": root,
        "agreeing": [],
        "divergent": [],
        "skewed": [],
        "silent": [],
        "asymmetric": [],
        "unmet": [],
    }
    for node in sorted({*desk.members.facts, *desk.members.known}):
        member = desk.members.known.get(node)
        if member is None or not member.root:
            report["unmet"].append(node)
        elif member.root == root:
            report["agreeing"].append(node)
        elif member.root_at > desk.news_at:
            report["divergent"].append(node)
        if member is None or member.standing is Standing.LEFT:
            continue
        if member.skew is not None and abs(member.skew) > SKEWED:
            report["skewed"].append(node)
        unreached = member.unreached
        if unreached is not None and unreached < member.heard and now - member.heard <= LATELY:
            report["asymmetric"].append(node)
        elif member.silences >= SILENT or member.standing is Standing.FAILED:
            report["silent"].append(node)
    report["healthy"] = not any(
        report[each] for each in ("divergent", "skewed", "silent", "asymmetric")
    )
    return report
