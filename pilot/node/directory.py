"""What a node remembers of its peers: where they are, who they are, what they are called."""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from pilot.errors import ConnectionFailed, PilotError, RegistryError
from pilot.registry.client import RegistryClient
from pilot.tunnel.tunnel import Endpoint

#: Seconds for which an answer of the registry is used again without asking.
FRESH = 60.0

#: Peers remembered; the longest unused is forgotten first.
REMEMBERED_PEERS = 8192

_T = TypeVar("_T")


class PeerFacts(NamedTuple):
    """
    The registry's last word on a peer.

    @ivar public_key: its Ed25519 key, 32 bytes, or None when it has none.
    @ivar hostname: C{""} when it has none.
    @ivar networks: ids of its networks, the backbone left out.
    """

    public_key: bytes | None
    hostname: str
    tags: tuple[str, ...]
    networks: frozenset[int]


class PeerDirectory:
    """
    Asks the registry about peers, once for many askers, and remembers the answers.

    When the registry is away the last known endpoint serves on: a peer that has not moved
    can still be reached.
    """

    def __init__(self, clock: IReactorTime, registry: RegistryClient) -> None:
        self._clock = clock
        self._registry = registry
        self._endpoints: OrderedDict[int, tuple[float, Endpoint]] = OrderedDict()
        self._facts: OrderedDict[int, tuple[float, PeerFacts]] = OrderedDict()
        #: Told the key of a node, as base64, whenever the registry names it.
        self.key_seen: Callable[[int, str], None] = lambda node_id, key: None
        self._asking: dict[tuple[str, int], list[Deferred[Any]]] = {}

    def resolve(self, node_id: int) -> Deferred[Endpoint]:
        """
        Find out where C{node_id} is reached.

        @return: Deferred of its endpoint; it fails with C{ConnectionFailed}
            (C{resolve node N: ...}) when the registry does not say and never did.
        """
        known = self._endpoints.get(node_id)
        if known is not None and self._clock.seconds() - known[0] < FRESH:
            return _done(known[1])
        return self._once("endpoint", node_id, self._resolve(node_id))

    def identity_key(self, node_id: int) -> Deferred[bytes | None]:
        """@return: Deferred of the registered Ed25519 key of C{node_id}, None if it has none."""

        async def ask() -> bytes | None:
            try:
                return (await self.lookup(node_id)).public_key
            except RegistryError:
                return None

        return Deferred.fromCoroutine(ask())

    def lookup(self, node_id: int) -> Deferred[PeerFacts]:
        """@return: Deferred of fresh facts about C{node_id}; fails as the registry client does."""
        return self._once("facts", node_id, self._lookup(node_id))

    def recent(self, node_id: int) -> Deferred[PeerFacts]:
        """@return: Deferred of facts about C{node_id} that are at most L{FRESH} seconds old."""
        known = self._facts.get(node_id)
        if known is not None and self._clock.seconds() - known[0] < FRESH:
            return _done(known[1])
        return self.lookup(node_id)

    def age(self, node_id: int) -> float | None:
        """@return: how old the facts about C{node_id} are, in seconds; None: there are none."""
        known = self._facts.get(node_id)
        return None if known is None else self._clock.seconds() - known[0]

    def facts(self, node_id: int) -> PeerFacts | None:
        """@return: what is remembered of C{node_id}, however old, or None."""
        known = self._facts.get(node_id)
        return None if known is None else known[1]

    def moved(self, node_id: int) -> None:
        """The remembered endpoint of C{node_id} does not answer: ask again next time."""
        known = self._endpoints.get(node_id)
        if known is not None:
            self._endpoints[node_id] = (self._clock.seconds() - FRESH, known[1])

    def forget(self, node_id: int) -> None:
        """Trust in C{node_id} is over: remember nothing of where it is."""
        self._endpoints.pop(node_id, None)

    async def _resolve(self, node_id: int) -> Endpoint:
        try:
            answer = await self._registry.resolve(node_id)
        except PilotError as error:
            known = self._endpoints.get(node_id)
            if known is not None:
                return known[1]
            raise ConnectionFailed(f"resolve node {node_id}: registry: {error.message}") from None
        endpoint = Endpoint(str(answer.get("real_addr") or ""), _texts(answer.get("lan_addrs")))
        if not endpoint.real_addr:
            raise ConnectionFailed(f"node {node_id} has no real address")
        _remember(self._endpoints, node_id, (self._clock.seconds(), endpoint))
        return endpoint

    async def _lookup(self, node_id: int) -> PeerFacts:
        answer = await self._registry.lookup(node_id)
        networks = answer.get("networks")
        facts = PeerFacts(
            _key(answer.get("public_key")),
            str(answer.get("hostname") or ""),
            _texts(answer.get("tags")),
            frozenset(n for n in networks if isinstance(n, int) and n)
            if isinstance(networks, list)
            else frozenset(),
        )
        _remember(self._facts, node_id, (self._clock.seconds(), facts))
        if facts.public_key is not None:
            self.key_seen(node_id, str(answer["public_key"]))
        return facts

    def tell_keys(self) -> None:
        """Say again every key that is remembered, to somebody who came late."""
        for node_id, (_, facts) in self._facts.items():
            if facts.public_key is not None:
                self.key_seen(node_id, base64.b64encode(facts.public_key).decode("ascii"))

    def _once(self, what: str, node_id: int, question: Coroutine[Any, Any, _T]) -> Deferred[_T]:
        """Ask, unless the same question is under way: then wait for its answer."""
        mine: Deferred[_T] = Deferred()
        waiting = self._asking.get((what, node_id))
        if waiting is not None:
            question.close()
            waiting.append(mine)
            return mine
        self._asking[what, node_id] = [mine]

        def answered(result: Any) -> None:
            for asker in self._asking.pop((what, node_id)):
                asker.callback(result)

        Deferred.fromCoroutine(question).addBoth(answered)
        return mine


def _done(value: _T) -> Deferred[_T]:
    done: Deferred[_T] = Deferred()
    done.callback(value)
    return done


def _remember(memory: OrderedDict[int, Any], node_id: int, value: Any) -> None:
    memory[node_id] = value
    memory.move_to_end(node_id)
    if len(memory) > REMEMBERED_PEERS:
        memory.popitem(last=False)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _key(value: object) -> bytes | None:
    try:
        key = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == 32 else None
