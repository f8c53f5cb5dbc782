"""What a table is made of: jobs that measure, and a judge that reads what they gave.

A mean may lie beyond its figure by one round or 20 % of the time, and by twice its standard error
on top (more with a handful of runs), because few runs do not tell more.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

#: How much to measure: within a minute, within ten, as much as the figures rest on.
QUICK, NORMAL, FULL = 0, 1, 2


class Job(NamedTuple):
    """
    One measurement, to be run anywhere.

    @ivar weight: roughly how long it takes, so that the long ones begin first.
    """

    measure: Callable[[Any], Any]
    case: Any
    weight: float

    def run(self) -> Any:
        """@return: what the measurement gives."""
        return self.measure(self.case)


class Table(NamedTuple):
    """
    @ivar rows: texts, cell by cell.
    @ivar missed: one line for each bar or figure that was missed.
    """

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]]
    missed: list[str]

    def __str__(self) -> str:
        """The table as Markdown."""
        lines = [f"## {self.title}", "", "| " + " | ".join(self.head) + " |"]
        lines.append("|" + " --- |" * len(self.head))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        lines += ["", *(f"MISSED: {line}" for line in self.missed)]
        return "\n".join(lines).rstrip() + "\n"


class Plan(NamedTuple):
    """
    A table to be.

    @ivar jobs: what has to be measured.
    @ivar judge: makes the table from what the jobs gave, in their order.
    """

    name: str
    jobs: list[Job]
    judge: Callable[[list[Any]], Table]


def percentile(values: Sequence[float], share: float) -> float:
    """@return: the value that this share of them does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def allowance(values: Sequence[float]) -> float:
    """
    @return: twice the standard error of their mean, and more for a handful of values, which do not
        tell how far they scatter (near the 95 % points of Student's t).
    """
    if len(values) < 2 or math.inf in values:
        return 0.0
    freedom = len(values) - 1
    return (2.0 + 3.6 / freedom) * statistics.stdev(values) / math.sqrt(len(values))
