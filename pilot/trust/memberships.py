"""What the registry says about peers: their keys, and the networks they share with us.

Trust that a network granted ends when the network is no longer shared, on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pilot.errors import PilotError
from pilot.trust.background import Background
from pilot.trust.gate import ILookup, SharedNetworks, key_of, networks_of
from pilot.trust.ledger import Ledger
from pilot.trust.records import Pending, Trusted
from pilot.trust.relation import IRelation, News

log = Logger()

#: Seconds between looks whether networks that granted trust are still shared.
CHECK_INTERVAL = 300.0


class Memberships:
    """
    @ivar networks: who shares a network with us, as the gate remembers it.
    @ivar node_id: own node id.
    """

    def __init__(
        self,
        registry: ILookup,
        networks: SharedNetworks,
        ledger: Ledger,
        background: Background,
        *,
        node_id: int,
        wall_time: Callable[[], float],
    ) -> None:
        self.networks = networks
        self.node_id = node_id
        self._registry = registry
        self._ledger = ledger
        self._background = background
        self._wall_time = wall_time
        self._own_known = self._told = False

    def start(self) -> None:
        """Learn our own networks, and look after trust that hangs on them."""
        self._background.watch(Deferred.fromCoroutine(self._check(ask_own=True)))
        self._background.later(CHECK_INTERVAL, self.start)

    def changed(self, networks: Iterable[int]) -> None:
        """Our networks, as the node has just learnt them."""
        self._own_known = self._told = True
        if self.networks.set_own(networks):
            self._background.watch(Deferred.fromCoroutine(self._check(ask_own=False)))

    async def facts(self, node_id: int) -> dict[str, Any]:
        """@return: the registry's reply to C{lookup}, empty when it has none."""
        try:
            return await self._registry.lookup(node_id)
        except PilotError as error:
            log.debug("node {node} not looked up: {error}", node=node_id, error=error.message)
            return {}

    async def shared(self, node_id: int, networks: frozenset[int]) -> int:
        """@return: the lowest of C{node_id}'s networks that is ours as well, 0 for none."""
        if not self._own_known:
            await self._learn_own()
        return self.networks.learn(node_id, networks)

    def known_key(self, node_id: int) -> str:
        """@return: the key on record for C{node_id}, base64 text, C{""} for none."""
        record = self._ledger[node_id]
        return record.public_key if isinstance(record, Trusted | Pending) else ""

    def note_key(self, node_id: int, key: str) -> None:
        """
        The key that the registry has for a node.

        Trust was given to whoever held the key of that day.  A registry that has lost its state
        gives the same number to somebody else, so trust without a key gets one, and another key
        ends it: whoever it is has to ask.
        """
        record = self._ledger[node_id]
        if not key or not isinstance(record, Trusted) or record.public_key == key:
            return
        if not record.public_key:
            self._ledger.amend(node_id, record._replace(public_key=key))
            return
        log.error(
            "node {node} is not who was trusted under that number: its key is another one."
            "  Trust in it has ended; it may ask again",
            node=node_id,
        )
        news = News(self._wall_time(), "", key, relayed=True)
        self._ledger.apply_or_keep(node_id, IRelation.revoke_received, news)

    async def _learn_own(self) -> None:
        own = await self.facts(self.node_id)
        if own:
            self._own_known = True
            self.networks.set_own(networks_of(own))

    async def _check(self, *, ask_own: bool) -> None:
        if ask_own and not self._told:
            await self._learn_own()
        for node_id, record in self._ledger:
            if isinstance(record, Trusted) and (record.network or not record.public_key):
                await self._check_peer(node_id)

    async def _check_peer(self, node_id: int) -> None:
        facts = await self.facts(node_id)
        if not facts:
            return
        self.note_key(node_id, key_of(facts))
        record = self._ledger[node_id]
        if not (self._own_known and isinstance(record, Trusted) and record.network):
            return
        theirs = networks_of(facts)
        shared = self.networks.learn(node_id, theirs)
        if not shared:
            log.info(
                "network {net} is not shared with node {node} any more, so its trust ends",
                net=record.network,
                node=node_id,
            )
            news = News(self._wall_time())
            self._ledger.apply_or_keep(node_id, IRelation.membership_ended, news)
        elif record.network not in theirs & self.networks.own:
            self._ledger.amend(node_id, record._replace(network=shared))
