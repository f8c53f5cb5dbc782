"""Which of two records of one agent is the newer: never the one with the later timestamp.

A record's number is (incarnation, sequence).  The incarnation grows with every start of the agent's
daemon and is stored; the sequence grows with every record.  A record that arrives late or is
replayed has a lower number than what is known already, whatever its clock said.

Records of version 1 carry no number.  What one authenticated source publishes arrives in order, so
each gets incarnation 0 and the next sequence; any numbered record outranks them.
"""

from __future__ import annotations

from typing import Final

Number = tuple[int, int]

NEVER: Final[Number] = (0, -1)
"""Below every record."""
MAX_NUMBER: Final = 2**53 - 1
"""Largest incarnation and sequence: what every JSON reader keeps exact."""


def next_incarnation(stored: int, unix: float) -> int:
    """
    @param stored: the one last used, 0 for none.
    @param unix: seconds by our clock, which may be wrong.
    @return: the one to use, higher than any before unless both memory and clock are lost.
    """
    return min(max(stored + 1, int(unix)), MAX_NUMBER)


def next_arrival(number: Number) -> Number:
    """@return: the number of a record without one that arrives after C{number}."""
    return (0, number[1] + 1) if number[0] == 0 else number
