"""Who may change which polo score, and by how much.

Reference daemons send these requests unsigned, over the connection on which they sign others: the
submitter of a task takes a point off itself and gives points to the executor; an executor that lets
a task lapse takes a point off itself.  So a score is lowered only by its owner, and raised only by
another node, which has a limited amount to give.

@see: protocol notes of the registry, I{Polo score}; of the services, I{Polo gate and score}.
"""

from __future__ import annotations

from pilot.registry.callers import Caller
from pilot.registry.limits import DEFAULT_LIMITS, Limits
from pilot.registry.records import Node
from pilot.registry.refusal import Refusal


class PoloLedger:
    """What each node has given away lately."""

    __slots__ = ("_given", "_limits")

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._given: dict[int, tuple[float, int]] = {}  # giver: start of the window, points

    def check(self, caller: Caller, node: Node, score: int, now: float) -> None:
        """
        Whether C{caller} may bring the score of C{node} to C{score}; if so, note what it gave.

        @raise Refusal: it may not.
        """
        change = score - node.polo_score
        if change < 0 and not (caller.is_known_as(node.id) or caller.host == _host(node)):
            raise Refusal(f"polo score of node {node.id} cannot be lowered by another node")
        if change > 0:
            self._give(caller, node.id, change, now)

    def sweep(self, now: float) -> None:
        """Forget windows that have passed."""
        old = now - self._limits.polo_window
        for giver in [g for g, (start, _) in self._given.items() if start <= old]:
            del self._given[giver]

    def _give(self, caller: Caller, node_id: int, points: int, now: float) -> None:
        givers = sorted((caller.proven | caller.claimed) - {node_id})
        if not givers:
            raise Refusal(
                f"polo score of node {node_id} cannot be raised by itself or by a stranger"
            )
        limit = self._limits.polo_raised_per_giver
        for giver in givers:
            start, given = self._given.get(giver, (now, 0))
            if now - start >= self._limits.polo_window:
                start, given = now, 0
            if given + points <= limit:
                self._given[giver] = (start, given + points)
                return
        raise Refusal(f"too many polo points given (max {limit} in {self._limits.polo_window:g} s)")


def _host(node: Node) -> str:
    return node.real_addr.rpartition(":")[0].strip("[]")
