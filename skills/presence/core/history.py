"""The last transitions of an agent, packed: a hundred of them for each of ten thousand agents."""

from __future__ import annotations

from struct import Struct
from typing import Any, Final, NamedTuple

from skills.presence.core.ordering import Number
from skills.presence.core.status import STATUSES

MOST: Final = 100
"""Transitions kept of an agent."""

UNKNOWN: Final = "unknown"
"""What an agent was before we first heard of it."""

CAUSES: Final = (
    "other",
    "claimed",
    "left",
    "joined",
    "returned",
    "restarted",
    "heard",
    "thawed",
    "accused",
    "unanswered",
    "expired",
    "verdict",
    "lapsed",
    "removed",
    "told",
    "restored",
    "late",
)
"""Why a status changed.  Beside the causes of L{skills.presence.detection.reach.Reach}: the owner's
record says so (C{claimed}), it was late and answered nobody (C{unanswered}), nobody renewed its
claim (C{lapsed}), a coordinator says so (C{told})."""

_NAMES: Final = (UNKNOWN, *STATUSES)
_CODES: Final = {name: code for code, name in enumerate(_NAMES)}
_CAUSE_CODES: Final = {cause: code for code, cause in enumerate(CAUSES)}
_ROW: Final = Struct("<dBBBQQ")


class Transition(NamedTuple):
    """
    One change of status.

    @ivar at: when, on our monotonic clock.
    @ivar cause: one of L{CAUSES}.
    @ivar number: the newest number known of the agent then.
    """

    at: float
    before: str
    after: str
    cause: str
    number: Number


class History:
    """The transitions of one agent."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows = bytearray()

    def __len__(self) -> int:
        return len(self._rows) // _ROW.size

    def add(self, at: float, before: str, after: str, cause: str, number: Number) -> None:
        """Note a transition; the oldest is dropped beyond L{MOST}."""
        if len(self) >= MOST:
            del self._rows[: _ROW.size]
        self._rows += _ROW.pack(
            at, _CODES[before], _CODES[after], _CAUSE_CODES.get(cause, 0), *number
        )

    def last_cause(self) -> str:
        """@return: why the status changed last, C{unknown} if it never did."""
        if not self._rows:
            return UNKNOWN
        return CAUSES[_ROW.unpack_from(self._rows, len(self._rows) - _ROW.size)[3]]

    def transitions(self) -> list[Transition]:
        """@return: oldest first."""
        return [
            Transition(at, _NAMES[before], _NAMES[after], CAUSES[cause], (inc, seq))
            for at, before, after, cause, inc, seq in _ROW.iter_unpack(self._rows)
        ]

    def as_json(self, now: float) -> list[dict[str, Any]]:
        """@return: C{{"ago","from","to","cause","inc","seq"}}, oldest first; C{ago} in seconds."""
        return [
            {
                "ago": round(now - each.at, 3),
                "from": each.before,
                "to": each.after,
                "cause": each.cause,
                "inc": each.number[0],
                "seq": each.number[1],
            }
            for each in self.transitions()
        ]
