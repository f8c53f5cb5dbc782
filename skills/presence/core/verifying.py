"""Verify before offline: who is late is asked, by us and by others, before being given up.

Two rounds, each of two pings of our own and one by each of three others, five seconds apart::

    0 ping   1 ping   2 ask others   4.5 nobody   9.5 ping   10.5 ping   11.5 ask others   14 gone

With a heartbeat of 30 s, varied by a fifth, an agent is late after 41 s and given up after 55 s at
most; 40 s on average, since a crash finds the last heartbeat 15 s old.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from skills.presence.core.agenda import Agenda

ROUNDS: Final = 2
PING_GAP: Final = 1.0
"""Seconds between the two pings of a round."""
PING_TIMEOUT: Final = 2.0
"""Seconds a ping waits; an answer later than that still counts."""
ASK_AT: Final = 2.0
"""Seconds into a round at which others are asked."""
ROUND: Final = 4.5
"""Seconds of a round."""
PAUSE: Final = 5.0
"""Seconds between two rounds: what was overloaded or changing its path gets a second chance."""
HELPERS: Final = 3
"""Others that are asked."""
WAITING: Final = 20_000
"""Agents that wait for their verification."""


class _Case:
    """One agent under verification."""

    __slots__ = ("asked", "node", "pings", "round", "started", "tokens", "unable")

    def __init__(self, node: int, now: float) -> None:
        self.node = node
        self.started = now
        self.round = 1
        self.pings = 0
        self.asked: list[int] = []
        self.unable = 0
        self.tokens: list[int] = []


class Verifier:
    """
    The verifications under way.

    @ivar refused: agents for which there was no room even to wait.
    """

    def __init__(
        self,
        agenda: Agenda,
        most: int,
        *,
        next_token: Callable[[], int],
        ping: Callable[[int, int], None],
        helpers: Callable[[int], list[int]],
        ask: Callable[[int, int, int], None],
        verdict: Callable[[float, int, dict[str, Any]], None],
    ) -> None:
        """
        @param ping: called with token and node.
        @param helpers: called with a node, gives up to L{HELPERS} others.
        @param ask: called with helper, token and node.
        @param verdict: called with now, node and the evidence when nobody got an answer.
        """
        self._agenda = agenda
        self._most = most
        self._next_token = next_token
        self._ping = ping
        self._helpers = helpers
        self._ask = ask
        self._verdict = verdict
        self._cases: dict[int, _Case] = {}
        self._waiting: OrderedDict[int, None] = OrderedDict()
        self._tokens: dict[int, int] = {}
        self.refused = 0

    def __len__(self) -> int:
        return len(self._cases)

    @property
    def waiting(self) -> int:
        """Agents whose verification has not begun."""
        return len(self._waiting)

    def begin(self, now: float, node: int) -> None:
        """That agent is late, or something looked wrong."""
        if node in self._cases or node in self._waiting:
            return
        if len(self._cases) < self._most:
            self._start(now, node)
        elif len(self._waiting) < WAITING:
            self._waiting[node] = None
        else:
            self.refused += 1

    def settle(self, now: float, node: int) -> None:
        """There is evidence of life, or the question is moot."""
        self._waiting.pop(node, None)
        case = self._cases.pop(node, None)
        if case is not None:
            self._close(now, case)

    def forget(self) -> None:
        """Begin nothing, conclude nothing: we ourselves were away."""
        self._cases.clear()
        self._waiting.clear()
        self._tokens.clear()

    def whose(self, token: int) -> int | None:
        """@return: the node an answer is about, C{None} if nobody waits for it any more."""
        return self._tokens.get(token)

    def asked(self, token: int, node: int, helper: int) -> bool:
        """@return: whether we asked that helper about that node under that token."""
        case = self._cases.get(node)
        return case is not None and token in case.tokens and helper in case.asked

    def unable(self, token: int) -> None:
        """One of those asked got no answer either."""
        case = self._cases.get(self._tokens.get(token, -1))
        if case is not None:
            case.unable += 1

    def _start(self, now: float, node: int) -> None:
        case = self._cases[node] = _Case(node, now)
        self._round(now, case)

    def _round(self, now: float, case: _Case) -> None:
        if self._cases.get(case.node) is not case:
            return
        self._send_ping(now, case)
        self._agenda.at(now + PING_GAP, self._send_ping, case)
        self._agenda.at(now + ASK_AT, self._ask_others, case)
        self._agenda.at(now + ROUND, self._over, case)

    def _send_ping(self, now: float, case: _Case) -> None:
        if self._cases.get(case.node) is case:
            case.pings += 1
            self._ping(self._token(case), case.node)

    def _ask_others(self, now: float, case: _Case) -> None:
        if self._cases.get(case.node) is case:
            for helper in self._helpers(case.node):
                case.asked.append(helper)
                self._ask(helper, self._token(case), case.node)

    def _over(self, now: float, case: _Case) -> None:
        if self._cases.get(case.node) is not case:
            return
        if case.round < ROUNDS:
            case.round += 1
            self._agenda.at(now + PAUSE, self._round, case)
            return
        del self._cases[case.node]
        self._close(now, case)
        self._verdict(
            now,
            case.node,
            {
                "pings": case.pings,
                "asked": list(dict.fromkeys(case.asked)),
                "confirmed": case.unable,
                "took": round(now - case.started, 3),
            },
        )

    def _token(self, case: _Case) -> int:
        token = self._next_token()
        self._tokens[token] = case.node
        case.tokens.append(token)
        return token

    def _close(self, now: float, case: _Case) -> None:
        for token in case.tokens:
            self._tokens.pop(token, None)
        while self._waiting and len(self._cases) < self._most:
            node, _ = self._waiting.popitem(last=False)
            self._start(now, node)
