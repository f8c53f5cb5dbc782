"""Nodes that may connect because they share a private network with us.

The gate has to answer at once, packet by packet, so it answers from what is remembered.  A node
that is not remembered is refused and looked up in the background: its next attempt, a second later,
meets the answer.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pilot.errors import PilotError, RegistryError

log = Logger()

#: Seconds after which a membership is confirmed again, in the background.
FRESH = 60.0

#: Seconds for which a membership counts although the registry does not confirm it any more.
PATIENCE = 900.0

#: Seconds for which a node without a shared network is not looked up again.
STRANGER_FOR = 30.0

#: Nodes remembered; the longest unused is forgotten first.
REMEMBERED = 4096

#: Look-ups under way; what exceeds them is refused without one.
CONCURRENT_LOOKUPS = 32


class ILookup(Protocol):
    """What the gate needs of a registry client."""

    def lookup(self, node_id: int) -> Deferred[dict[str, Any]]: ...  # pragma: no cover


class _Known:
    """
    @ivar network: the lowest network shared with us, 0 for none.
    @ivar confirmed: when the registry said so.
    @ivar asked: when it was last asked.
    """

    __slots__ = ("asked", "confirmed", "network")

    def __init__(self, network: int, now: float) -> None:
        self.network = network
        self.confirmed = self.asked = now


class SharedNetworks:
    """
    @ivar own: the networks we are in, the backbone left out.
    @ivar counters: look-ups, and those refused for C{"busy"}.
    """

    def __init__(self, clock: IReactorTime, registry: ILookup) -> None:
        self.own: frozenset[int] = frozenset()
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._registry = registry
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._asking: set[int] = set()

    def set_own(self, networks: Iterable[int]) -> bool:
        """
        Our memberships, from the registry.

        @return: whether they have changed; then everything remembered is forgotten.
        """
        own = frozenset(networks) - {0}
        if own == self.own:
            return False
        self.own = own
        self._known.clear()
        return True

    def admits(self, node_id: int) -> bool:
        """@return: whether C{node_id} is known to share a network; else the registry is asked."""
        if not self.own:
            return False
        now = self._clock.seconds()
        known = self._known.get(node_id)
        if known is None:
            self._refresh(node_id)
            return False
        if not known.network:
            if now - known.asked > STRANGER_FOR:
                self._refresh(node_id)
            return False
        if now - known.confirmed > FRESH and now - known.asked > 1.0:
            known.asked = now
            self._refresh(node_id)
        return now - known.confirmed <= PATIENCE

    def learn(self, node_id: int, networks: Iterable[int]) -> int:
        """
        Take note of what the registry said about C{node_id}.

        @return: the lowest shared network, 0 for none.
        """
        shared = min(self.own.intersection(networks), default=0)
        self._known[node_id] = _Known(shared, self._clock.seconds())
        self._known.move_to_end(node_id)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return shared

    def _refresh(self, node_id: int) -> None:
        if node_id in self._asking:
            return
        if len(self._asking) >= CONCURRENT_LOOKUPS:
            self.counters["busy"] += 1
            return
        self.counters["lookups"] += 1
        self._asking.add(node_id)
        Deferred.fromCoroutine(self._ask(node_id)).addErrback(
            lambda failure: log.failure("looking up node {node} failed", failure, node=node_id)
        )

    async def _ask(self, node_id: int) -> None:
        try:
            answer = await self._registry.lookup(node_id)
        except RegistryError:
            self.learn(node_id, ())
        except PilotError as error:
            log.debug("node {node} not looked up: {error}", node=node_id, error=error.message)
        else:
            self.learn(node_id, networks_of(answer))
        finally:
            self._asking.discard(node_id)


def networks_of(answer: dict[str, Any]) -> frozenset[int]:
    """@return: the networks in a C{lookup} reply, the backbone left out."""
    networks = answer.get("networks")
    if not isinstance(networks, list):
        return frozenset()
    return frozenset(n for n in networks if type(n) is int and 0 < n <= 0xFFFF)


def key_of(answer: dict[str, Any]) -> str:
    """@return: the public key in a C{lookup} reply, base64 text, or C{""}."""
    key = answer.get("public_key")
    return key if isinstance(key, str) else ""
