"""Questions to the directory as they come in, from the command line or from another node.

Agents are described to people and programs as everything else of a node is: C{node_id} and
C{address} instead of the short names of records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pilot.address import Address
from pilot.errors import InvalidArgument
from skills.presence.core.finding import MAX_LIMIT, Query
from skills.presence.core.record import MAX_SLOTS, MAX_TAGS, is_tag
from skills.presence.core.status import STATUSES
from skills.presence.shell.choices import swarm_tag

LONGEST: Final = 1e8
"""Seconds; more cannot be meant."""


def shown(agent: Mapping[str, Any]) -> dict[str, Any]:
    """@return: an agent as the core describes it, with the names used everywhere else."""
    facts = dict(agent)
    node, address = facts.pop("node", None), facts.pop("addr", "")
    if not address and isinstance(node, int):
        address = str(Address(0, node))
    return {"hostname": facts.pop("hostname", ""), "node_id": node, "address": address, **facts}


def text(given: Mapping[str, Any], name: str, default: str = "", most: int = 253) -> str:
    """@return: a text.  @raise InvalidArgument: it is none."""
    value = given.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or len(value) > most:
        raise InvalidArgument(f"{name}: expected a text of at most {most} characters")
    return value


def host(given: Mapping[str, Any]) -> str:
    """@return: whom it is about.  @raise InvalidArgument: nobody is named."""
    value = given.get("host")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 1 <= len(value) <= 253:
        raise InvalidArgument("host: expected a hostname, an address or a node number")
    return value


def number(
    given: Mapping[str, Any], name: str, least: float = 0.0, most: float = LONGEST
) -> float | None:
    """@return: a number, C{None} if it is not given.  @raise InvalidArgument: it is none."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidArgument(f"{name}: expected a number in {least:g}..{most:g}")
    return float(value)


def whole(given: Mapping[str, Any], name: str, least: int = 0, most: int = 10**6) -> int | None:
    """@return: a whole number, C{None} if it is not given.  @raise InvalidArgument: it is none."""
    value = number(given, name, least, most)
    if value is not None and value != int(value):
        raise InvalidArgument(f"{name}: expected a whole number")
    return None if value is None else int(value)


def switch(given: Mapping[str, Any], name: str) -> bool:
    """@return: whether it is on.  @raise InvalidArgument: neither true nor false."""
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise InvalidArgument(f"{name}: expected true or false")
    return value


def statuses(given: Mapping[str, Any]) -> tuple[str, ...]:
    """@return: the states that are wanted.  @raise InvalidArgument: there is no such state."""
    found = _texts(given, "status")
    for status in found:
        if status not in STATUSES:
            raise InvalidArgument(
                f"no such status: {status[:40]!r}", hint="one of online, busy, away and offline"
            )
    return found


def tags(given: Mapping[str, Any]) -> tuple[str, ...]:
    """@return: the tags that are wanted, those of swarms included.
    @raise InvalidArgument: no tag can be called so."""
    found = _texts(given, "tag")
    if len(found) > MAX_TAGS or not all(map(is_tag, found)):
        raise InvalidArgument("tag: 1 to 32 of a-z, 0-9 and the hyphen, 16 of them at most")
    return (*found, *(swarm_tag(name) for name in _texts(given, "swarm")))


def query(given: Mapping[str, Any]) -> Query:
    """@return: what is looked for.  @raise InvalidArgument: something is out of range."""
    pick = whole(given, "pick", 1, MAX_LIMIT)
    limit = whole(given, "limit", 1, MAX_LIMIT)
    least = whole(given, "min_slots", 0, MAX_SLOTS)
    return Query(
        tags=tags(given),
        min_slots=1 if least is None else least,
        max_age=number(given, "max_age"),
        limit=pick or limit or 1,
        pick=pick is not None,
    )


def found(result: Any) -> dict[str, Any]:
    """@return: a L{skills.presence.core.finding.Result} for people and programs."""
    return {
        "agents": [shown(agent) for agent in result.agents],
        "excluded": {
            each.get("hostname") or str(each.get("node")): each.get("reason", "")
            for each in result.excluded
        },
        "known": result.known,
    }


def _texts(given: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = given.get(name)
    if value is None:
        return ()
    parts = value if isinstance(value, list) else [value]
    if len(parts) > 64 or not all(isinstance(part, str) and len(part) < 1000 for part in parts):
        raise InvalidArgument(f"{name}: expected texts")
    words = [word.strip() for part in parts for word in part.split(",")]
    return tuple(dict.fromkeys(word for word in words if word))
