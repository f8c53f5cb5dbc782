"""Whether a record is by whom it says: the name must lead back to its author.

Facts about trusted peers answer at once; others are asked for, and the answer is kept for a while.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from skills.presence.core.effects import CheckSignature, Effect, Verify

KEPT: Final = 600.0
"""Seconds for which an answer holds; a name that moved is noticed after that."""
KEPT_NO: Final = 60.0
"""The same for a no: an agent may just be about to take its name."""
CACHE: Final = 20_000
PENDING: Final = 1_024
"""Questions that wait for an answer."""
PENDING_FOR: Final = 60.0
"""Seconds after which a question without an answer is given up."""

Then = Callable[[float, "bool | None"], None]
"""What follows: called with now and the answer."""


class _Question(NamedTuple):
    key: tuple[Any, ...]
    asked: float
    then: list[Then]


class Naming:
    """
    Names, signatures, and the questions about them.

    @ivar refused: questions not asked because too many wait for their answer.
    """

    def __init__(self, next_token: Callable[[], int]) -> None:
        self._next_token = next_token
        self._facts: dict[int, str] = {}
        self._known: OrderedDict[tuple[int, str], tuple[bool, float]] = OrderedDict()
        self._pending: dict[int, _Question] = {}
        self._asked: dict[tuple[Any, ...], int] = {}
        self.refused = 0

    def facts(self, facts: Iterable[Mapping[str, Any]]) -> None:
        """What the registry says of trusted peers."""
        self._facts = {}
        for fact in facts:
            node, hostname = fact.get("node_id"), fact.get("hostname")
            if isinstance(node, int) and isinstance(hostname, str):
                self._facts[node] = hostname

    def is_fact(self, node: int, hostname: str) -> bool:
        """@return: whether that node is a trusted peer of that name."""
        return self._facts.get(node) == hostname

    def is_named(self, now: float, node: int, hostname: str) -> bool | None:
        """@return: whether that name is that node's, C{None}: it has to be asked."""
        if self.is_fact(node, hostname) or not hostname:
            return True  # who claims no name needs no proof beyond being itself
        known = self._known.get((node, hostname))
        if known is None or now >= known[1]:
            return None
        return known[0]

    def ask_name(self, now: float, node: int, hostname: str, then: Then) -> list[Effect]:
        """Ask whether that name is that node's; the same question is asked once."""
        token = self._ask(now, ("name", node, hostname), then)
        return [Verify(token, hostname, node)] if token else []

    def ask_signature(
        self, now: float, node: int, data: bytes, signature: bytes, then: Then
    ) -> list[Effect]:
        """Ask whether that node signed that."""
        token = self._ask(now, ("signature", node, data, signature), then)
        return [CheckSignature(token, node, data, signature)] if token else []

    def _ask(self, now: float, key: tuple[Any, ...], then: Then) -> int:
        """@return: the token of a new question, 0 if it waits already or must not be asked."""
        token = self._asked.get(key)
        if token is not None:
            question = self._pending[token]
            if now - question.asked < PENDING_FOR:
                question.then[:] = [then]  # the newest record is the one that counts
                return 0
            self._drop(token)
        if len(self._pending) >= PENDING:
            oldest = next(iter(self._pending))
            if now - self._pending[oldest].asked < PENDING_FOR:
                self.refused += 1
                return 0
            self._drop(oldest)
        token = self._next_token()
        self._pending[token] = _Question(key, now, [then])
        self._asked[key] = token
        return token

    def _drop(self, token: int) -> None:
        question = self._pending.pop(token)
        self._asked.pop(question.key, None)

    def answered(self, now: float, token: int, ok: bool | None) -> None:
        """The answer to a question; unknown tokens are those that were given up."""
        question = self._pending.get(token)
        if question is None:
            return
        self._drop(token)
        kind, node, name = question.key[:3]
        if kind == "name" and ok is not None:
            self._known[node, name] = ok, now + (KEPT if ok else KEPT_NO)
            self._known.move_to_end((node, name))
            if len(self._known) > CACHE:
                self._known.popitem(last=False)
        for then in question.then:
            then(now, ok)
