"""Presence cores in memory: one seed and one heap decide everything.

A node is a core, or a v1 script (the shell loop of the skill's page) on a node without presence.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any

from skills.presence.core.config import PresenceConfig
from skills.presence.core.effects import (
    Change,
    CheckSignature,
    Datagram,
    Effect,
    Found,
    Message,
    Persist,
    Ping,
    Publish,
    Sign,
    Verify,
)
from skills.presence.core.presence import PresenceCore

EPOCH = 1_800_000_000.0


def signature(node: int, data: bytes) -> bytes:
    """What stands for the signature of a node."""
    return hashlib.sha512(str(node).encode() + data).digest()


class Node:
    """
    One node.

    @ivar alive: whether it runs; C{stalled_until}: it runs, and does nothing until then.
    @ivar offset: seconds its wall clock is ahead.
    @ivar side: which part of a partition it is in.
    """

    def __init__(self, world: World, node_id: int, hostname: str) -> None:
        self.world = world
        self.node_id = node_id
        self.hostname = hostname
        self.alive = True
        self.stalled_until = 0.0
        self.offset = 0.0
        self.side = 0
        self.core: PresenceCore | None = None
        self.changes: list[tuple[float, str, dict[str, Any]]] = []
        self.disk: dict[str, bytes] = {}
        self.found: dict[int, Any] = {}
        self.sent: list[tuple[float, Effect]] = []
        self._armed: float | None = None

    @property
    def presence(self) -> PresenceCore:
        assert self.core is not None
        return self.core

    def wall(self) -> float:
        return EPOCH + self.world.now + self.offset

    def names(self, name: str) -> list[dict[str, Any]]:
        return [data for _, each, data in self.changes if each == name]

    def status(self, host: str) -> str:
        return str(self.presence.get(self.world.now, host)["status"])

    def call(self, method: str, *args: Any, **keywords: Any) -> None:
        """An input of the core, now or when the process goes on."""
        world = self.world
        if not self.alive or self.core is None:
            return
        if world.now < self.stalled_until:
            world.at(self.stalled_until, lambda: self.call(method, *args, **keywords))
            return
        self.do(getattr(self.core, method)(world.now, *args, **keywords))

    def do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            self.sent.append((self.world.now, effect))
            self.world.perform(self, effect)
        self._arm()

    def _arm(self) -> None:
        due = self.presence.deadline()
        if due is not None and due != self._armed:
            self._armed = due
            core = self.core
            self.world.at(max(due, self.world.now), lambda: self._wake(core, due))

    def _wake(self, core: PresenceCore | None, due: float) -> None:
        if self.core is not core or not self.alive:
            return
        if self.world.now < self.stalled_until:
            self.world.at(self.stalled_until, lambda: self._wake(core, due))
            return
        if self._armed == due:
            self._armed = None
            self.call("on_timer")


class World:
    """
    @ivar loss: share of datagrams, pings and publications that are lost; each leg by itself.
    @ivar duplicate: share of datagrams that come twice.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        loss: float = 0.0,
        duplicate: float = 0.0,
        delay: tuple[float, float] = (0.01, 0.05),
    ) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.loss = loss
        self.duplicate = duplicate
        self.delay = delay
        self.nodes: dict[int, Node] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    # -- building ------------------------------------------------------------------------------

    def add(self, node_id: int, hostname: str = "", *, start: bool = True, **config: Any) -> Node:
        """A node with presence; C{config} as in L{PresenceConfig}."""
        node = self.nodes[node_id] = Node(self, node_id, hostname or f"agent{node_id}")
        node.config = PresenceConfig(**config)  # type: ignore[attr-defined]
        if start:
            self.start(node)
        return node

    def start(self, node: Node) -> None:
        """The node (re)starts, with what is on its disk."""
        node.alive = True
        node._armed = None
        node.core = PresenceCore(
            node.node_id,
            now=self.now,
            wall=node.wall,
            rng=random.Random(self.rng.random()),
            config=node.config,  # type: ignore[attr-defined]
            hostname=node.hostname,
            address=f"0:0000.0000.{node.node_id:04X}",
            incarnation=int(node.disk.get("incarnation", b"0")),
            restored=node.disk.get("directory"),
        )
        node.call("start")

    def script(self, node_id: int, hostname: str, target: int, status: str = "online") -> Node:
        """The shell loop of the page, on a node that has no presence."""
        node = self.nodes[node_id] = Node(self, node_id, hostname)
        node.status_file = status  # type: ignore[attr-defined]
        node.looping = True  # type: ignore[attr-defined]

        def loop() -> None:
            if node.alive and node.looping:  # type: ignore[attr-defined]
                payload = {
                    "hostname": hostname,
                    "status": node.status_file,  # type: ignore[attr-defined]
                    "timestamp": "2026-04-08T10:00:00Z",
                }
                self.publish(node, target, json.dumps(payload).encode())
                self.at(self.now + 30.0 + self.rng.uniform(0.2, 1.0), loop)

        self.at(self.now + self.rng.uniform(0.0, 30.0), loop)
        return node

    def trust(self, *, everybody: bool = True, pairs: Iterable[tuple[int, int]] = ()) -> None:
        """Tell each node who its trusted peers are."""
        linked = set(pairs) | {(b, a) for a, b in pairs}
        for node in self.nodes.values():
            facts = [
                {"node_id": peer.node_id, "hostname": peer.hostname, "tags": [], "public_key": ""}
                for peer in self.nodes.values()
                if peer is not node and (everybody or (node.node_id, peer.node_id) in linked)
            ]
            node.call("peers_changed", facts)

    # -- time ----------------------------------------------------------------------------------

    def at(self, when: float, call: Callable[[], None]) -> None:
        self._order += 1
        heappush(self._heap, (when, self._order, call))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            self.now, _, call = heappop(self._heap)
            call()
        self.now = until

    # -- the network ---------------------------------------------------------------------------

    def reachable(self, a: Node, b: Node | None) -> bool:
        return b is not None and b.alive and a.alive and a.side == b.side

    def lost(self) -> bool:
        return self.rng.random() < self.loss

    def wait(self) -> float:
        return self.now + self.rng.uniform(*self.delay)

    def named(self, target: str | int) -> Node | None:
        if isinstance(target, int):
            return self.nodes.get(target)
        return next((node for node in self.nodes.values() if node.hostname == target), None)

    def publish(self, source: Node, target: str | int, payload: bytes) -> bool:
        there = self.nodes.get(target) if isinstance(target, int) else self.named(target)
        if there is None or not self.reachable(source, there):
            return False
        if not self.lost():
            node, args = there, (source.node_id, payload)
            self.at(self.wait(), lambda: node.call("on_record", *args))
        return True

    def perform(self, node: Node, effect: Effect) -> None:
        if isinstance(effect, Datagram):
            assert len(effect.data) <= 1000
            peer = self.nodes.get(effect.peer)
            if peer is not None and self.reachable(node, peer):
                for _ in range(1 + (self.rng.random() < self.duplicate)):
                    if not self.lost():
                        self._deliver(node, peer, effect.data)
        elif isinstance(effect, Publish):
            assert len(effect.payload) <= 1000
            ok = self.publish(node, effect.target, effect.payload)
            self.at(self.wait(), lambda: node.call("published", effect.target, ok))
        elif isinstance(effect, Message):
            self._message(node, effect)
        elif isinstance(effect, Ping):
            self._ping(node, effect)
        elif isinstance(effect, Verify):
            known = self.named(effect.hostname)
            ok = known is not None and known.node_id == effect.node_id
            self.at(self.wait(), lambda: node.call("verified", effect.token, ok))
        elif isinstance(effect, CheckSignature):
            ok = signature(effect.node_id, effect.data) == effect.signature
            self.at(self.wait(), lambda: node.call("verified", effect.token, ok))
        elif isinstance(effect, Sign):
            signed = signature(node.node_id, effect.data)
            self.at(self.now, lambda: node.call("signed", effect.token, signed))
        elif isinstance(effect, Change):
            node.changes.append((self.now, effect.name, json.loads(json.dumps(effect.data))))
        elif isinstance(effect, Persist):
            node.disk[effect.name] = effect.data
        elif isinstance(effect, Found):
            node.found[effect.token] = effect.result

    def _deliver(self, node: Node, peer: Node, data: bytes) -> None:
        self.at(self.wait(), lambda: peer.call("on_datagram", node.node_id, data))

    def _message(self, node: Node, effect: Message) -> None:
        peer = self.named(effect.target)
        if peer is None or not self.reachable(node, peer):
            self.at(self.wait(), lambda: node.call("message_failed", effect.target))
            return
        text = json.dumps(effect.document)
        assert len(text) <= 64 * 1024
        self.at(self.wait(), lambda: peer.call("on_message", node.node_id, json.loads(text)))

    def _ping(self, node: Node, effect: Ping) -> None:
        peer = self.nodes.get(effect.node_id)
        if (
            peer is not None
            and self.reachable(node, peer)
            and self.now >= peer.stalled_until
            and not self.lost()
            and not self.lost()
        ):
            self.at(self.wait() + 0.02, lambda: node.call("pinged", effect.token, True))
        else:
            self.at(self.now + effect.timeout, lambda: node.call("pinged", effect.token, False))
