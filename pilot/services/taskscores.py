"""Scores at the registry: who may give us work, and what work has cost and earned.

@see: the page I{Task submit}, I{Scores}.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pilot.errors import ConnectionFailed, PilotError, RegistryUnavailable
from pilot.tasks.document import Payment
from pilot.tasks.polo import admits

log = Logger()


class Registry(Protocol):
    """The part of L{pilot.registry.client.RegistryClient} that scores need."""

    def get_polo_score(self, node_id: int) -> Deferred[dict[str, Any]]:
        "Ask for a score."

    def update_polo_score(self, node_id: int, delta: int) -> Deferred[dict[str, Any]]:
        "Change a score."


class Scores:
    """Asks and tells the registry."""

    def __init__(self, registry: Registry | None) -> None:
        """@param registry: None: there is none, and so nobody may give us anything."""
        self._registry = registry

    async def refusal(self, submitter: int, receiver: int) -> str:
        """@return: why a node may not give a task to the other one, empty if it may."""
        if self._registry is None:
            return "Registry unavailable, cannot verify polo score"
        try:
            theirs = _score(await self._registry.get_polo_score(submitter))
            ours = _score(await self._registry.get_polo_score(receiver))
        except PilotError as error:
            log.info("no score for a task of {node}: {error}", node=submitter, error=error.message)
            return "Failed to verify polo score"
        if admits(theirs, ours):
            return ""
        return f"Polo score too low: submitter={theirs}, receiver={ours}"

    async def pay(self, payment: Payment) -> None:
        """
        Change a score.  What the registry refuses once it will refuse always, and is let go.

        @raise RegistryUnavailable: it cannot be asked now.
        """
        if self._registry is None:
            raise RegistryUnavailable("no registry")
        try:
            await self._registry.update_polo_score(payment.node, payment.delta)
        except RegistryUnavailable:
            raise
        except PilotError as error:
            log.warn(
                "score of {node} not changed by {delta}: {error}",
                node=payment.node,
                delta=payment.delta,
                error=error.message,
            )


def _score(answer: dict[str, Any]) -> int:
    score = answer.get("polo_score")
    if type(score) is not int:
        raise ConnectionFailed("the registry's answer has no score")
    return score
