"""What finished work is worth.

@see: the page I{Task submit}, I{Scores}; golden vectors C{polo_scores.json}.
"""

from __future__ import annotations

import math

SUBMISSION_PRICE = 1
"""Points that a submitter pays for results."""

EXPIRY_PENALTY = 1
"""Points that a worker loses for an accepted task that it let expire."""

_LEAST_EFFICIENCY = 0.4
_MOST_LOST = 0.3  # to idleness, and as much again to staging


def reward(time_idle_ms: int, time_staged_ms: int, time_cpu_ms: int) -> int:
    """
    @return: points for the worker, 1 or more.  Every operation and its order are the reference's,
        so that both come to the same result.
    """
    growth = 1 + time_cpu_ms / 60000
    if growth <= 0:
        return 1
    idle = min(max(time_idle_ms / 1000 / 60 * _MOST_LOST, 0.0), _MOST_LOST)
    staged = min(max(time_staged_ms / 1000 / 600 * _MOST_LOST, 0.0), _MOST_LOST)
    efficiency = max(1 - idle - staged, _LEAST_EFFICIENCY)
    return max(1, int((1 + math.log2(growth)) * efficiency + 0.5))


def admits(submitter: int, receiver: int) -> bool:
    """@return: whether a node of one score may give a task to a node of the other."""
    return submitter >= receiver
