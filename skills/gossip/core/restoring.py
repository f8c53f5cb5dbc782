"""What a journal holds, read back: the beginning of a replica after a restart.

Records, by kind, and their data:

  - C{"register"}: a register as in a message; it replaces an older one of the same key.
  - C{"gone"}: a key that is no longer held at all.
  - C{"cleared"}: C{None}; everything before is void.
  - C{"reserve"}: a hybrid time, 16 hex digits; the clock continues above it.
  - C{"contact"}: unix seconds of the last contact with a member.
  - C{"left"}: C{[node, incarnation]} of a member that left.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skills.gossip.core.errors import BadMessage
from skills.gossip.core.hlc import format_hlc, parse_hlc
from skills.gossip.core.register import Register


class Restored:
    """
    What records leave when read in order.

    @ivar registers: by key.
    @ivar reserve: the highest hybrid time that may have been used.
    @ivar contact: unix seconds of the last contact, 0 if there never was one.
    @ivar left: incarnations of members that left, by node.
    @ivar skipped: records that made no sense.
    """

    __slots__ = ("contact", "left", "registers", "reserve", "skipped")

    def __init__(self, records: Iterable[tuple[str, Any]] = ()) -> None:
        self.registers: dict[str, Register] = {}
        self.reserve = ""
        self.contact = 0.0
        self.left: dict[int, int] = {}
        self.skipped = 0
        for kind, data in records:
            self.absorb(kind, data)

    def absorb(self, kind: str, data: Any) -> None:
        """Read one more record; one that makes no sense is counted and left out."""
        try:
            self._absorb(kind, data)
        except (BadMessage, TypeError, ValueError, KeyError, OverflowError):
            self.skipped += 1

    def floor(self) -> str:
        """@return: the hybrid time above which the clock continues, C{""} for any."""
        return max([self.reserve, *(each.hlc for each in self.registers.values())])

    def _absorb(self, kind: str, data: Any) -> None:
        if kind == "register":
            register = Register.from_list(data)
            self.registers[register.key] = register
        elif kind == "gone":
            self.registers.pop(data, None)
        elif kind == "cleared":
            self.registers.clear()
        elif kind == "reserve":
            self.reserve = max(self.reserve, format_hlc(parse_hlc(data)))
        elif kind == "contact":
            self.contact = max(self.contact, float(data))
        elif kind == "left":
            node, incarnation = data
            self.left[int(node)] = int(incarnation)
        else:
            self.skipped += 1
