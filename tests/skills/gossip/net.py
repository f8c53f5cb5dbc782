"""A swarm in memory: one heap of calls and one seed decide everything."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from skills.gossip.core.config import GossipConfig
from skills.gossip.core.effects import Effect, Event, PeerFacts, Persist, Send, Sign, Verify
from skills.gossip.core.register import Register
from skills.gossip.core.replica import SwarmReplica
from skills.gossip.core.restoring import Restored

NAME = "kv-store-cluster"
EPOCH = 1_800_000_000.0
GOOD = "A" * 86 + "=="


class Node:
    """One replica with its shell: carries out effects, remembers what it saw."""

    def __init__(self, net: Swarm, node_id: int, **options: Any) -> None:
        self.net = net
        self.id = node_id
        self.skew = 0.0
        self.options = options
        self.journal: list[tuple[str, Any]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.timer = 0
        self.starts = 0
        self.up = False
        self.start()

    def start(self) -> None:
        """Start, or restart from the journal."""
        restored = Restored(self.journal) if self.journal else None
        self.replica = SwarmReplica(
            NAME,
            self.id,
            now=self.net.now,
            wall=self.wall,
            rng=Random(f"{self.net.seed}/{self.id}/{self.starts}"),
            config=self.options.get("config", self.net.config),
            incarnation=int(EPOCH) + self.starts,
            restored=restored,
        )
        self.starts += 1
        self.up = True
        self.do(lambda now: [])

    def wall(self) -> float:
        return EPOCH + self.net.now + self.skew

    def do(self, step: Callable[[float], list[Effect]]) -> None:
        """Call the replica, carry out what it orders, arm its timer."""
        for effect in step(self.net.now):
            if isinstance(effect, Send):
                self.net.carry(self.id, effect.peer, effect.document)
            elif isinstance(effect, Event):
                json.dumps(effect.data)
                self.events.append((effect.name, effect.data))
            elif isinstance(effect, Persist):
                self.journal.extend(json.loads(json.dumps(effect.records)))
            elif isinstance(effect, Sign):
                self.net.call(0.01, self._sign, effect.register)
            elif isinstance(effect, Verify):
                self.net.call(0.01, self._verify, effect.register)
        self.timer += 1
        due = self.replica.deadline()
        if due is not None:
            self.net.call(max(0.0, due - self.net.now), self._wake, self.timer)

    def _wake(self, timer: int) -> None:
        if timer == self.timer and self.up:
            self.do(self.replica.on_timer)

    def _sign(self, register: Register) -> None:
        self.do(lambda now: self.replica.signed(now, register.key, register.hlc, GOOD))

    def _verify(self, register: Register) -> None:
        self.do(lambda now: self.replica.verified(now, register, register.signature == GOOD))

    def set(self, key: str, value: Any, **options: Any) -> None:
        self.do(lambda now: self.replica.local_set(now, key, value, **options))

    def delete(self, key: str) -> None:
        self.do(lambda now: self.replica.local_delete(now, key))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [data for each, data in self.events if each == name]


class Swarm:
    """
    @ivar now: seconds.
    @ivar sent: messages by type.
    @ivar bytes: of all messages, as JSON.
    @ivar log: every message as (time, source, target, document).
    @ivar cut: asked with (source, target) whether a message cannot pass; its sender is told.
    """

    def __init__(
        self,
        count: int,
        *,
        seed: int = 0,
        config: GossipConfig | None = None,
        loss: float = 0.0,
        v2: bool | None = True,
        delay: tuple[float, float] = (0.02, 0.1),
        know: bool = True,
    ) -> None:
        self.now = 0.0
        self.seed = seed
        self.config = config or GossipConfig()
        self.loss = loss
        self.delay = delay
        self.rng = Random(seed)
        self.heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.order = 0
        self.sent: Counter[str] = Counter()
        self.bytes = 0
        self.log: list[tuple[float, int, int, dict[str, Any]]] = []
        self.cut: Callable[[int, int], bool] = lambda source, target: False
        self.nodes: dict[int, Node] = {}
        self.others: dict[int, Callable[[int, dict[str, Any]], None]] = {}
        self.v2 = v2
        for node_id in range(1, count + 1):
            self.nodes[node_id] = Node(self, node_id)
        if know:
            self.introduce()

    def introduce(self) -> None:
        """Everybody trusts everybody."""
        facts = tuple(PeerFacts(node_id, self.v2) for node_id in self.nodes)
        facts += tuple(PeerFacts(node_id) for node_id in self.others)
        for node in self.nodes.values():
            node.do(lambda now, node=node: node.replica.members_changed(now, facts))

    def add(self, **options: Any) -> Node:
        node = Node(self, max(self.nodes) + 1, **options)
        self.nodes[node.id] = node
        return node

    def __getitem__(self, node_id: int) -> Node:
        return self.nodes[node_id]

    def call(self, delay: float, what: Callable[..., None], *args: Any) -> None:
        self.order += 1
        heapq.heappush(self.heap, (self.now + delay, self.order, what, args))

    def carry(self, source: int, target: int, document: dict[str, Any]) -> None:
        text = json.dumps(document, separators=(",", ":"))
        self.sent[document["type"]] += 1
        self.bytes += len(text)
        self.log.append((self.now, source, target, document))
        delay = self.rng.uniform(*self.delay)
        lost = self.rng.random() < self.loss
        if self.cut(source, target) or (target in self.nodes and not self.nodes[target].up):
            self.call(delay, self._failed, source, target)
        elif not lost:
            self.call(delay, self._arrive, source, target, text)

    def _failed(self, source: int, target: int) -> None:
        node = self.nodes[source]
        if node.up:
            node.do(lambda now: node.replica.send_failed(now, target))

    def _arrive(self, source: int, target: int, text: str) -> None:
        if target in self.others:
            self.others[target](source, json.loads(text))
        node = self.nodes.get(target)
        if node is not None and node.up:
            document = json.loads(text)
            node.do(lambda now: node.replica.on_message(now, source, document, len(text)))
            assert document == json.loads(text), "a message is read, never changed"
        if source in self.nodes:
            sender = self.nodes[source]
            sender.do(lambda now: sender.replica.sent(now, target))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """@return: seconds until the condition held; fails if it never did and was given."""
        start, end = self.now, self.now + seconds
        while self.heap and self.heap[0][0] <= end:
            self.now, _, what, args = heapq.heappop(self.heap)
            what(*args)
            if until():
                return self.now - start
        self.now = end
        return seconds

    def converged(self) -> bool:
        """@return: whether everybody who is up holds the same."""
        return len({node.replica.root for node in self.nodes.values() if node.up}) == 1

    def await_equal(self, seconds: float) -> float:
        """@return: seconds until all hold the same; fails if that takes longer."""
        took = self.run(seconds, self.converged)
        assert self.converged(), {n.id: n.replica.root for n in self.nodes.values()}
        return took
