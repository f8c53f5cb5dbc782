"""The four states an agent claims, and which of several claims speaks for a node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

ONLINE: Final = "online"
BUSY: Final = "busy"
AWAY: Final = "away"
OFFLINE: Final = "offline"

STATUSES: Final = (BUSY, ONLINE, AWAY, OFFLINE)
"""In the order in which they win: whoever is busy on a node makes the node busy."""

_RANK: Final = {status: rank for rank, status in enumerate(STATUSES)}


def merge(claims: Iterable[str]) -> str:
    """
    @param claims: what the local agents of one node say.
    @return: what the node says, C{offline} when nobody says anything.
    """
    return min(claims, key=_RANK.__getitem__, default=OFFLINE)
