"""What the node knows that presence needs: its peers, its own name, whether its network works."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from pilot.address import Address
from pilot.errors import PilotError, RegistryError, RegistryUnavailable
from skills.presence.shell.choices import is_member

log = Logger()

PEERS_EVERY: Final = 8.0
"""Seconds between two looks at the trusted peers, at most: often enough for the node to keep them
fresh."""
PEERS_SOONEST: Final = 1.5
"""...and at least.  With few of them a look costs nothing, and a new one is met at once."""
PEERS_A_SECOND: Final = 50
"""Trusted peers that may be looked at in a second, in between."""
SELF_EVERY: Final = 25.0
"""Seconds between two looks at ourselves, which also prove that our network works."""


class Identity(NamedTuple):
    """What this node is called."""

    hostname: str
    address: str
    tags: tuple[str, ...]


class Surroundings:
    """
    Looks around, again and again.

    @ivar failures: looks that found nothing out.
    """

    def __init__(
        self,
        node: Any,
        reactor: Any,
        rng: random.Random,
        *,
        on_peers: Callable[[list[dict[str, Any]]], None],
        on_identity: Callable[[Identity], None],
        on_proof: Callable[[], None],
        needs_proof: Callable[[], bool],
    ) -> None:
        """
        @param on_peers: told the peers, each with C{member} beside what C{IPilotNode.peers} says.
        @param on_proof: told that the registry has just answered.
        @param needs_proof: whether it is so quiet that nobody knows whether our network works.
        """
        self.failures = 0
        self._node = node
        self._reactor = reactor
        self._rng = rng
        self._names: list[str] = []
        self._peers = 0
        self._on_peers = on_peers
        self._on_identity = on_identity
        self._on_proof = on_proof
        self._needs_proof = needs_proof
        self._swarm_tags: tuple[str, ...] = ()
        self._timers: dict[str, IDelayedCall] = {}
        self._running = False

    def start(self, swarm_tags: tuple[str, ...], period: float) -> None:
        """
        Look, now and from now on.

        @param swarm_tags: of the swarms whose members count.
        @param period: seconds; how soon a proof is wanted when it is quiet.
        """
        self.stop()
        self._running = True
        self._swarm_tags = swarm_tags
        self._repeat("peers", self._peers_pause, self._look_at_peers)
        self._repeat("self", lambda: SELF_EVERY, self._look_at_self)
        self._repeat("network", lambda: period, self._look_for_proof)

    def stop(self) -> None:
        """Look no more."""
        self._running = False
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()

    async def identity(self) -> Identity:
        """@return: what this node is called, as far as that can be found out."""
        info = await self._node.info()
        try:
            tags = tuple(await self._node.tags())
        except PilotError:
            tags = ()
        address = Address(0, self._node.address.node)
        return Identity(str(info.get("hostname") or ""), str(address), tags)

    def _peers_pause(self) -> float:
        return min(PEERS_EVERY, max(PEERS_SOONEST, self._peers / PEERS_A_SECOND))

    def _repeat(
        self, name: str, pause: Callable[[], float], look: Callable[[], Awaitable[None]]
    ) -> None:
        async def once() -> None:
            try:
                await look()
            except PilotError as error:
                self.failures += 1
                log.debug("presence: {what}: {error}", what=name, error=error.message)

        self._timers[name] = self._reactor.callLater(pause(), self._repeat, name, pause, look)
        Deferred.fromCoroutine(once()).addErrback(
            lambda failure: log.failure("presence could not look at its {what}", failure, what=name)
        )

    async def _look_at_peers(self) -> None:
        peers = await self._node.peers()
        if self._running:
            self._peers = len(peers)
            self._names = [peer["hostname"] for peer in peers if peer["hostname"]]
            tags = self._swarm_tags
            self._on_peers([{**peer, "member": is_member(peer["tags"], tags)} for peer in peers])

    async def _look_at_self(self) -> None:
        identity = await self.identity()
        if not self._running:
            return
        self._on_identity(identity)
        if await self._registry_answers() and self._running:
            self._on_proof()

    async def _look_for_proof(self) -> None:
        if self._needs_proof() and await self._registry_answers() and self._running:
            self._on_proof()

    async def _registry_answers(self) -> bool:
        """Have a name looked up: that is a question to the registry itself."""
        if not self._names:
            return bool((await self._node.info()).get("registry_connected"))
        try:
            await self._node.resolve(self._rng.choice(self._names))
        except RegistryUnavailable:
            return False
        except RegistryError:
            pass  # it knows nobody of that name, but it said so
        return True
