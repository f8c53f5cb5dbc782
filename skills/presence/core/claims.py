"""What the agents of this node say of themselves, and what the node says for them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from skills.presence.core.errors import PresenceError
from skills.presence.core.record import MAX_REASON, MAX_SLOTS, MAX_TAGS, is_tag
from skills.presence.core.status import BUSY, ONLINE, STATUSES, merge

MOST: Final = 64
"""Local agents that may have something to say."""
MAX_DURATION: Final = 366 * 86_400.0
"""Seconds for which an intent may hold at most."""


class Intent(NamedTuple):
    """What one local agent says.  @ivar until: when it reverts, monotonic; C{None}: never."""

    status: str
    reason: str = ""
    slots: int | None = None
    load: int | None = None
    tags: tuple[str, ...] = ()
    until: float | None = None


class Claim(NamedTuple):
    """What the node says: the busiest of its agents, with the sum of their slots."""

    status: str
    reason: str
    slots: int | None
    load: int | None
    tags: tuple[str, ...]


class Claims:
    """
    The intents of the local agents: for each a lasting one, and perhaps one for a while on top.

    An agent never set anything is nobody; with nobody at all the node is online.
    """

    def __init__(self) -> None:
        self._lasting: dict[str, Intent] = {}
        self._passing: dict[str, Intent] = {}

    def set(self, agent: str, intent: Intent) -> None:
        """
        An agent says something; for a while when C{intent.until} is given.
        @raise PresenceError: something is out of range, or there are too many agents.
        """
        _check(agent, intent)
        if len({*self._lasting, *self._passing, agent}) > MOST:
            raise PresenceError(f"more than {MOST} agents on one node")
        if intent.until is None:
            self._passing.pop(agent, None)
            self._lasting[agent] = intent
        else:
            self._passing[agent] = intent

    def expire(self, now: float) -> bool:
        """@return: whether an intent has reverted."""
        over = [
            agent
            for agent, intent in self._passing.items()
            if intent.until is not None and now >= intent.until
        ]
        for agent in over:
            del self._passing[agent]
        return bool(over)

    def deadline(self) -> float | None:
        """@return: when the next intent reverts."""
        return min(
            (intent.until for intent in self._passing.values() if intent.until is not None),
            default=None,
        )

    def claim(self) -> Claim:
        """@return: what the node says now."""
        intents = list({**self._lasting, **self._passing}.values()) or [Intent(ONLINE)]
        status = merge(intent.status for intent in intents)
        speakers = [intent for intent in intents if intent.status == status]
        slots = [each.slots for each in intents if each.status == ONLINE and each.slots is not None]
        loads = [intent.load for intent in intents if intent.load is not None]
        tags = dict.fromkeys(tag for intent in intents for tag in intent.tags)
        return Claim(
            status,
            next((intent.reason for intent in speakers if intent.reason), ""),
            min(sum(slots), MAX_SLOTS) if slots and status != BUSY else None,
            max(loads, default=None),
            tuple(tags)[:MAX_TAGS],
        )

    def as_json(self, now: float) -> list[dict[str, Any]]:
        """@return: C{{"agent","status","reason","slots","load","reverts_in","then"}} each."""
        shown = []
        for agent in {**self._lasting, **self._passing}:
            lasting, passing = self._lasting.get(agent), self._passing.get(agent)
            intent = passing or lasting or Intent(ONLINE)
            until = intent.until
            shown.append(
                {
                    "agent": agent,
                    "status": intent.status,
                    "reason": intent.reason,
                    "slots": intent.slots,
                    "load": intent.load,
                    "reverts_in": None if until is None else round(max(0.0, until - now), 3),
                    "then": lasting.status if passing and lasting else None,
                }
            )
        return shown


def _check(agent: str, intent: Intent) -> None:
    if len(agent) > 64 or not agent.isprintable():
        raise PresenceError("an agent's name has at most 64 printable characters")
    if intent.status not in STATUSES:
        raise PresenceError(
            f"no such status: {str(intent.status)[:40]!r}",
            hint="one of online, busy, away and offline",
        )
    if len(intent.reason) > MAX_REASON or not intent.reason.isprintable():
        raise PresenceError(f"a reason has at most {MAX_REASON} printable characters")
    if intent.slots is not None and not 0 <= intent.slots <= MAX_SLOTS:
        raise PresenceError(f"slots are out of 0..{MAX_SLOTS}")
    if intent.load is not None and not 0 <= intent.load <= 100:
        raise PresenceError("the load is out of 0..100 percent")
    if len(intent.tags) > MAX_TAGS or not all(map(is_tag, intent.tags)):
        raise PresenceError(f"tags are at most {MAX_TAGS}, each 1 to 32 of a-z, 0-9 and the hyphen")
