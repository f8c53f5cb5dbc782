"""A registry, an overlay and nodes in memory, all on one clock.

The registry has the mailbox semantics of the reference (a poll empties both lists, a response needs
no request, one side alone makes a pair) unless it is told to be strict or to notify.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from pilot.crypto.identity import Identity
from pilot.errors import ConnectionFailed, DialTimeout, RegistryError, RegistryUnavailable
from pilot.trust.service import TrustService
from pilot.trust.store import TrustStore

#: Where the clock of every test starts: 1 April 2026, noon.
START = 1_775_044_800.0

ROUND_TRIP = 0.01
DIAL_TIMEOUT = 29.0


class Registry:
    """
    @ivar away: nobody answers.
    @ivar strict: a pair needs the consent of both.
    @ivar skew: seconds by which its clock is ahead.
    @ivar log: every request, as (node, type, fields).
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.away = False
        self.strict = False
        self.notifies = False
        self.skew = 0.0
        self.keys: dict[int, str] = {}
        self.public: dict[int, bool] = {}
        self.networks: dict[int, set[int]] = {}
        self.consents: set[tuple[int, int]] = set()
        self.requests: dict[int, list[dict[str, Any]]] = {}
        self.responses: dict[int, list[dict[str, Any]]] = {}
        self.listeners: dict[int, Callable[[], None]] = {}
        self.log: list[tuple[int, str, dict[str, Any]]] = []

    def register(self, node_id: int, key: str, public: bool) -> None:
        self.keys[node_id] = key
        self.public[node_id] = public
        self.networks.setdefault(node_id, set())

    def lose_state(self) -> None:
        """It restarts empty; the nodes register again."""
        self.consents.clear()
        self.requests.clear()
        self.responses.clear()

    def now(self) -> int:
        return int(self.clock.seconds() + self.skew)

    def paired(self, a: int, b: int) -> bool:
        both = {(a, b), (b, a)}
        return both <= self.consents if self.strict else bool(both & self.consents)

    def share(self, a: int, b: int) -> bool:
        return bool(self.networks.get(a, set()) & self.networks.get(b, set()))

    def resolves(self, requester: int, target: int) -> bool:
        return (
            self.public.get(target, False)
            or self.paired(requester, target)
            or self.share(requester, target)
        )

    def notify(self, node_id: int) -> None:
        if self.notifies and node_id in self.listeners:
            self.clock.callLater(ROUND_TRIP, self.listeners[node_id])

    def types(self, node_id: int) -> list[str]:
        """What a node has sent, polls and look-ups left out."""
        boring = ("poll_handshakes", "lookup", "check_trust")
        return [kind for node, kind, _ in self.log if node == node_id and kind not in boring]


class Client:
    """One node's connection to the registry."""

    def __init__(self, registry: Registry, node_id: int) -> None:
        self.registry = registry
        self.node_id = node_id

    def _ask(self, kind: str, answer: Callable[[], dict[str, Any]], **fields: Any) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()

        def arrive() -> None:
            if self.registry.away:
                result.errback(RegistryUnavailable("the registry does not answer"))
                return
            self.registry.log.append((self.node_id, kind, fields))
            try:
                reply = answer()
            except RegistryError as error:
                result.errback(error)
            else:
                result.callback({"type": f"{kind}_ok", **reply})

        timer = self.registry.clock.callLater(ROUND_TRIP, arrive)
        result._canceller = lambda _: timer.cancel()  # type: ignore[assignment]
        return result

    def _exists(self, node_id: int) -> None:
        if node_id not in self.registry.keys:
            raise RegistryError(f"node {node_id}: node not found")

    def lookup(self, node_id: int) -> Deferred[dict[str, Any]]:
        def answer() -> dict[str, Any]:
            self._exists(node_id)
            return {
                "node_id": node_id,
                "public_key": self.registry.keys[node_id],
                "networks": [0, *sorted(self.registry.networks[node_id])],
            }

        return self._ask("lookup", answer, node_id=node_id)

    def check_trust(self, peer: int) -> Deferred[dict[str, Any]]:
        def answer() -> dict[str, Any]:
            registry = self.registry
            return {
                "trusted": registry.paired(self.node_id, peer) or registry.share(self.node_id, peer)
            }

        return self._ask("check_trust", answer, peer_id=peer)

    def report_trust(self, peer: int) -> Deferred[dict[str, Any]]:
        def answer() -> dict[str, Any]:
            self._exists(peer)
            self.registry.consents.add((self.node_id, peer))
            return {}

        return self._ask("report_trust", answer, peer_id=peer)

    def revoke_trust(self, peer: int) -> Deferred[dict[str, Any]]:
        def answer() -> dict[str, Any]:
            both = {(self.node_id, peer), (peer, self.node_id)}
            if not both & self.registry.consents:
                raise RegistryError("request failed")
            self.registry.consents -= both
            return {}

        return self._ask("revoke_trust", answer, peer_id=peer)

    def request_handshake(self, to: int, justification: str) -> Deferred[dict[str, Any]]:
        def answer() -> dict[str, Any]:
            self._exists(to)
            if len(justification.encode()) > 1024:
                raise RegistryError("request failed")
            waiting = self.registry.requests.setdefault(to, [])
            if any(r["from_node_id"] == self.node_id for r in waiting):
                raise RegistryError(f"handshake request already pending from node {self.node_id}")
            if len(waiting) >= 100:
                raise RegistryError("request failed")
            if self.registry.strict:
                self.registry.consents.add((self.node_id, to))
            waiting.append(
                {
                    "from_node_id": self.node_id,
                    "justification": justification,
                    "timestamp": self.registry.now(),
                }
            )
            self.registry.notify(to)
            return {"status": "delivered"}

        return self._ask("request_handshake", answer, to=to, justification=justification)

    def poll_handshakes(self) -> Deferred[dict[str, Any]]:
        def answer() -> dict[str, Any]:
            return {
                "requests": self.registry.requests.pop(self.node_id, []),
                "responses": self.registry.responses.pop(self.node_id, []),
            }

        return self._ask("poll_handshakes", answer)

    def respond_handshake(self, peer: int, accept: bool) -> Deferred[dict[str, Any]]:
        def answer() -> dict[str, Any]:
            self._exists(peer)
            if accept:
                self.registry.consents.add((self.node_id, peer))
            self.registry.responses.setdefault(peer, []).append(
                {
                    "from_node_id": self.node_id,
                    "accept": accept,
                    "timestamp": self.registry.now(),
                }
            )
            self.registry.notify(peer)
            return {"accept": accept, "peer_id": peer}

        return self._ask("respond_handshake", answer, peer_id=peer, accept=accept)


class Node:
    """One node: its trust, and what it saw."""

    def __init__(self, world: World, node_id: int, identity: Identity, public: bool) -> None:
        self.world = world
        self.node_id = node_id
        self.identity = identity
        self.public = public
        self.up = False
        self.disk_full = False
        self.slow_clock = 0.0
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.dropped: list[tuple[str, int]] = []
        self.path = world.directory / f"node-{node_id}" / "trust.json"
        self.path.parent.mkdir(exist_ok=True)

    def start(self, **options: Any) -> TrustService:
        """(Re)start the node from its file."""
        self.options = options
        self.trust = TrustService(
            self.world.clock,
            TrustStore(self.path, write=self._write),
            self.identity,
            self.node_id,
            Client(self.world.registry, self.node_id),
            send_message=self._send,
            on_event=lambda name, data: self.events.append((name, data)),
            public=self.public,
            drop_streams=lambda peer: self.dropped.append(("streams", peer)),
            drop_tunnel=lambda peer: self.dropped.append(("tunnel", peer)),
            wall_time=lambda: self.world.clock.seconds() - self.slow_clock,
            rng=random.Random(self.node_id),
            **options,
        )
        self.trust.notify_supported = self.world.registry.notifies
        self.world.registry.listeners[self.node_id] = self.trust.notified
        self.trust.start()
        self.up = True
        return self.trust

    def stop(self) -> None:
        self.trust.stop()
        self.world.registry.listeners.pop(self.node_id, None)
        self.up = False

    def restart(self) -> None:
        """As after C{kill -9}: only the file is left."""
        self.stop()
        self.start(**self.options)

    def _write(self, path: Path, data: bytes, mode: int) -> None:
        if self.disk_full:
            raise OSError(28, "No space left on device")
        path.write_bytes(data)

    def _send(self, target: int, data: bytes) -> Deferred[None]:
        return self.world.carry(self, target, data)

    def state(self, peer: int) -> str:
        record = self.trust.record(peer)
        return "none" if record is None else type(record).__name__.lower()

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class World:
    """
    @ivar sent: every message handed to a peer's port 444: (from, to, bytes).
    @ivar cut: pairs of nodes that cannot reach each other directly.
    """

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.directory = directory
        self.registry = Registry(self.clock)
        self.nodes: dict[int, Node] = {}
        self.sent: list[tuple[int, int, bytes]] = []
        self.cut: set[frozenset[int]] = set()

    def node(
        self, node_id: int, *, seed: int | bytes | None = None, public: bool = False, **options: Any
    ) -> Node:
        if not isinstance(seed, bytes):
            seed = bytes([node_id if seed is None else seed]) * 32
        identity = Identity.from_seed(seed)
        node = self.nodes[node_id] = Node(self, node_id, identity, public)
        key = base64.b64encode(identity.public_key).decode()
        self.registry.register(node_id, key, public)
        node.start(**options)
        return node

    def pump(self, seconds: float, step: float = 0.05) -> None:
        self.clock.pump([step] * round(seconds / step))

    def wait(self, deferred: Deferred[Any], seconds: float = 60.0) -> Any:
        """The result of C{deferred}, as soon as it is there."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        while not results and seconds > 0:
            self.clock.advance(0.05)
            seconds -= 0.05
        assert results, "no result in time"
        if hasattr(results[0], "raiseException"):
            results[0].raiseException()
        return results[0]

    def carry(self, source: Node, target: int, data: bytes) -> Deferred[None]:
        """What the node does with a message: resolve, dial, write, wait for the acknowledgement."""
        if self.registry.away:
            return fail(ConnectionFailed(f"resolve node {target}: registry: away"))
        if not self.registry.resolves(source.node_id, target):
            return fail(ConnectionFailed(f"resolve node {target}: registry: request failed"))
        node = self.nodes.get(target)
        result: Deferred[None] = Deferred()
        if node is None or not node.up or frozenset((source.node_id, target)) in self.cut:
            timer = self.clock.callLater(DIAL_TIMEOUT, result.errback, DialTimeout("dial timeout"))
            result._canceller = lambda _: timer.cancel()  # type: ignore[assignment]
            return result
        attempts = [0.0, 1.0, 3.0, 7.0, 15.0, 23.0]

        def knock() -> None:
            nonlocal timer
            if node.up and node.trust.allows(source.node_id, 444):
                self.sent.append((source.node_id, target, data))
                node.trust.message_received(source.node_id, data)
                timer = self.clock.callLater(ROUND_TRIP, result.callback, None)
            elif attempts:
                began = attempts.pop(0)
                pause = (attempts[0] if attempts else DIAL_TIMEOUT) - began
                timer = self.clock.callLater(pause, knock)
            else:
                result.errback(DialTimeout("dial timeout"))

        timer = self.clock.callLater(ROUND_TRIP, knock)
        result._canceller = lambda _: timer.active() and timer.cancel()  # type: ignore[assignment]
        return result

    def stop(self) -> None:
        for node in self.nodes.values():
            if node.up:
                node.stop()
        self.clock.advance(2 * DIAL_TIMEOUT)
        assert not self.clock.getDelayedCalls(), "a stopped node left a timer behind"
