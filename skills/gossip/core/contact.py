"""When we were last in contact with anybody, and what follows from a long absence.

Deletions are remembered for a day.  A replica that was away for half of that, or longer, can no
longer tell what was deleted meanwhile from what was never known to others: it neither gives nor
compares what it holds until it has met a member that was not away, and then takes that member's
state (L{skills.gossip.core.exchange}).  If for a while it meets only replicas in the same state,
then nobody knows better, and all go on with what they have.
"""

from __future__ import annotations

from skills.gossip.core.desk import Desk

#: The time of the last contact is stored this often, seconds.
NOTED = 600.0

_NEVER = float("inf")


class Contact:
    """Keeps C{lagging} and C{contact} of the desk."""

    __slots__ = ("_desk", "_noted", "_settle_at")

    def __init__(self, desk: Desk, now: float) -> None:
        self._desk = desk
        self._noted = now - NOTED
        self._settle_at = _NEVER

    def look_back(self) -> None:
        """Find out whether the last contact is too long ago; to be called before L{made}."""
        desk = self._desk
        if desk.contact and not desk.lagging and len(desk.ledger.map):
            away = desk.ledger.clock.wall() - desk.contact
            desk.lagging = away > desk.config.lagging_after

    def made(self, now: float) -> None:
        """A member has spoken to us."""
        desk = self._desk
        if desk.lagging:
            if self._settle_at == _NEVER:
                self._settle_at = now + desk.config.lagging_settle
            elif now >= self._settle_at:
                desk.lagging = False
            return
        self._settle_at = _NEVER
        desk.contact = desk.ledger.clock.wall()
        if now - self._noted >= NOTED:
            self._noted = now
            desk.ledger.records.append(("contact", desk.contact))
