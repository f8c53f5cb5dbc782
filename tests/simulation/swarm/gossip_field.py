"""A swarm of the real replicas on simulated links and clocks."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from pilot.errors import NotFound
from skills.gossip.core.config import GossipConfig
from skills.gossip.core.effects import Effect, Event, PeerFacts, Send
from skills.gossip.core.replica import SwarmReplica
from skills.gossip.core.restoring import Restored
from tests.simulation.swarm.links import STREAM, LinkModel, Station, SwarmNetwork
from tests.simulation.swarm.rng import RngTree
from tests.simulation.swarm.scheduler import HeapScheduler

#: Up to here messages travel as bytes, encoded and decoded as on the wire.
CODEC_SIZE = 1_000

#: Shortest timer, seconds: rounding must not make a node wake in vain, at one moment for ever.
_TICK = 1e-6

#: Events a node remembers.
_EVENTS = 64

Document = dict[str, Any]


def encode(document: Document) -> bytes:
    """@return: the document as it travels."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def entries(document: Document) -> Sequence[Any]:
    """@return: the registers that a message carries."""
    found = document.get("e")
    if found is None:
        extension = document.get("g")
        found = extension.get("e") if isinstance(extension, dict) else None
    return found if isinstance(found, list | tuple) else ()


def tells(document: Document) -> bool:
    """@return: whether the message can bring anything new."""
    return bool(entries(document)) or bool(document.get("state"))


class GossipNode:
    """
    One replica and its shell: effects out, one timer re-armed.

    @ivar replica: the real thing.
    @ivar station: its place in the network.
    @ivar counters: messages by C{type}, and C{sent_bytes}, C{received_bytes}, C{copies}.
    @ivar events: the last events, names and data.
    @ivar event_counts: all events by name.
    """

    def __init__(
        self,
        field: GossipField,
        node_id: int,
        *,
        incarnation: int = 1,
        restored: Restored | None = None,
        wall_offset: float = 0.0,
    ) -> None:
        self.field, self.node_id = field, node_id
        self.counters: Counter[str] = Counter()
        self.events: deque[Event] = deque(maxlen=_EVENTS)
        self.event_counts: Counter[str] = Counter()
        self.station: Station = field.network.attach(node_id, self.receive)
        self.station.wall_offset = wall_offset
        self.replica = SwarmReplica(
            field.name,
            node_id,
            now=self.station.clock.seconds(),
            wall=self.station.wall,
            rng=field.rng.source("replica", node_id, incarnation),
            config=field.config,
            incarnation=incarnation,
            restored=restored,
            trusts=field.nodes.__contains__ if field.sampled else None,
        )
        self._armed: float | None = None

    # -- its life ------------------------------------------------------------------------------

    def meet(
        self, others: Iterable[int], *, v2: bool | None = True, total: int | None = None
    ) -> None:
        """The trusted peers that carry the swarm's tag are these, or a sample of C{total}."""
        facts = [PeerFacts(other, v2) for other in others if other != self.node_id]
        self.turn(self.replica.members_changed, tuple(facts), total=total)

    def turn(self, step: Callable[..., Iterable[Effect] | None], *args: Any, **kw: Any) -> None:
        """Take one step of the replica and carry out what it orders."""
        self._perform(step(self.station.clock.seconds(), *args, **kw) or ())
        self._arm()

    def set(self, key: str, value: Any, **options: Any) -> None:
        """Write."""
        self.turn(self.replica.local_set, key, value, **options)
        self.field.noticed(self)

    def delete(self, key: str) -> None:
        """Delete."""
        self.turn(self.replica.local_delete, key)

    def receive(self, source: int, message: Any) -> None:
        """A message has arrived."""
        counters = self.counters
        size = 0
        if isinstance(message, bytes):
            size = len(message)
            counters["received_bytes"] += size
            try:
                message = json.loads(message)
            except ValueError:
                counters["undecodable"] += 1
                return
        if not isinstance(message, dict):
            counters["undecodable"] += 1
            return
        self.turn(self.replica.on_message, source, message, size)
        field = self.field
        if field.watched is not None and self.node_id not in field.informed and tells(message):
            field.noticed(self)

    # -- its hands -----------------------------------------------------------------------------

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._send(effect.peer, effect.document)
            elif isinstance(effect, Event):
                self.event_counts[effect.name] += 1
                self.events.append(effect)

    def _send(self, peer: int, document: Document) -> None:
        field, counters = self.field, self.counters
        counters[document["type"]] += 1
        key = field.watched
        if key is not None and any(entry[0] == key for entry in entries(document)):
            counters["copies"] += 1
        message: Any = document
        if field.codec:
            message = field.encoded(document)
            counters["sent_bytes"] += len(message)
        if field.confirm:
            field.network.send(
                self.node_id,
                peer,
                message,
                carriage=STREAM,
                done=lambda arrived: self._sent(peer, arrived),
            )
            return
        field.network.send(self.node_id, peer, message, carriage=field.carriage)

    def _sent(self, peer: int, arrived: bool) -> None:
        self.turn(self.replica.sent if arrived else self.replica.send_failed, peer)

    def _arm(self) -> None:
        """See to it that the replica wakes in time; waking it early does no harm."""
        deadline = self.replica.deadline()
        if deadline is None or not self.field.timers:
            return
        if self._armed is None or deadline < self._armed:
            self._armed = deadline
            delay = max(_TICK, deadline - self.station.clock.seconds())
            delay /= 1.0 + self.station.clock.drift
            scheduler = self.field.scheduler
            scheduler.post(scheduler.now + delay, self.station.happen, self._wake, deadline)

    def _wake(self, armed: float) -> None:
        if self._armed != armed:
            return  # an earlier timer has taken over
        self._armed = None
        deadline = self.replica.deadline()
        if deadline is not None and deadline <= self.station.clock.seconds():
            self.turn(self.replica.on_timer)
        else:
            self._arm()


class GossipField:
    """
    Nodes, their network and what is watched in it.

    @ivar nodes: by node id, in the order of joining.
    @ivar scheduler: the time of all.
    @ivar timers: whether replicas wake by themselves; a driver of synchronous rounds says no.
    @ivar watched: the key whose copies are counted, if any.
    @ivar informed: the nodes that hold what is watched, with the time at which they learned it.
    """

    name = "swarm"

    def __init__(
        self,
        size: int,
        seed: int | RngTree,
        *,
        link: LinkModel | None = None,
        carriage: str = STREAM,
        config: GossipConfig | None = None,
        trust: Sequence[Collection[int]] | None = None,
        codec: bool | None = None,
        confirm: bool | None = None,
        timers: bool = True,
        record: bool = True,
        wall_offsets: Callable[[int], float] = lambda node_id: 0.0,
        restored: Callable[[], Restored] | None = None,
    ) -> None:
        """
        @param trust: who trusts whom: for each of nodes 1..size the nodes it trusts; everybody
            everybody (or a sample of them, in large swarms) where none is given.
        @param codec: whether messages travel as bytes; up to 1,000 nodes where not said.
        @param confirm: whether the sender learns how it went, as it does on streams.
        @param wall_offsets: seconds each node's wall clock is wrong by.
        @param restored: what every node begins with.
        """
        self.rng = seed if isinstance(seed, RngTree) else RngTree(seed)
        self.scheduler = HeapScheduler()
        self.network = SwarmNetwork(self.scheduler, self.rng, link, record=record)
        self.config = config or GossipConfig()
        self.carriage = carriage
        self.codec = size <= CODEC_SIZE if codec is None else codec
        self.confirm = carriage == STREAM if confirm is None else confirm
        self.sampled = trust is None and size > self.config.full_view
        self.timers = timers
        self.watched: str | None = None
        self.informed: dict[int, float] = {}
        self._expected: Any = None
        self._encoded: tuple[Document, bytes] | None = None
        self.nodes: dict[int, GossipNode] = {}
        for node_id in range(1, size + 1):
            self.nodes[node_id] = GossipNode(
                self,
                node_id,
                wall_offset=wall_offsets(node_id),
                restored=restored() if restored is not None else None,
            )
        if self.sampled:
            everyone = range(1, size + 1)
            for node_id, node in self.nodes.items():
                chosen = self.rng.source("sample", node_id)
                node.meet(chosen.sample(everyone, self.config.passive_view), total=size)
            return
        for node_id, others in zip(self.nodes, trust or everybody(size), strict=True):
            self.nodes[node_id].meet(others)

    # -- nodes that come and go ----------------------------------------------------------------

    def join(self, node_id: int, others: Iterable[int], **options: Any) -> GossipNode:
        """A node comes (back); C{others} is whom it trusts."""
        node = self.nodes[node_id] = GossipNode(self, node_id, **options)
        node.meet(others)
        return node

    def crash(self, node_id: int) -> GossipNode:
        """A node is gone without a word; @return: what is left of it."""
        self.network.detach(node_id)
        return self.nodes.pop(node_id)

    # -- what is looked at ---------------------------------------------------------------------

    def watch(self, key: str, value: Any) -> None:
        """From now on note which nodes hold this, and count the copies that are sent of it."""
        self.watched, self._expected = key, value
        self.informed = {}
        for node in self.nodes.values():
            node.counters["copies"] = 0
            self.noticed(node)

    def noticed(self, node: GossipNode) -> None:
        """A node has taken a step."""
        if self.watched is None or node.node_id in self.informed:
            return
        try:
            found = node.replica.get(self.watched)
        except NotFound:
            return
        if found == self._expected:
            self.informed[node.node_id] = self.scheduler.now

    def run_until_informed(self, until: float, *, share: float = 1.0) -> bool:
        """Let time pass until that share of the nodes holds it; @return: whether they do."""
        enough = share * len(self.nodes)
        return self.scheduler.run_while(lambda: len(self.informed) < enough, until)

    def agree(self, node_ids: Iterable[int] | None = None) -> bool:
        """@return: whether these nodes (all) show the same document."""
        ids = self.nodes if node_ids is None else node_ids
        documents = (self.nodes[node_id].replica.document() for node_id in ids)
        first = next(documents)
        return all(document == first for document in documents)

    def run_until_agreed(self, until: float, *, step: float = 0.1) -> bool:
        """Let time pass until all show the same document, looked at every C{step} seconds."""
        while not self.agree():
            if self.scheduler.now >= until:
                return False
            self.scheduler.run_until(min(until, self.scheduler.now + step))
        return True

    def total(self, counter: str) -> int:
        """@return: a counter, added up over all nodes."""
        return sum(node.counters[counter] for node in self.nodes.values())

    def encoded(self, document: Document) -> bytes:
        """@return: its bytes; a document sent to several members is encoded once."""
        if self._encoded is None or self._encoded[0] is not document:
            self._encoded = document, encode(document)
        return self._encoded[1]


# -- who trusts whom -------------------------------------------------------------------------------


def everybody(size: int) -> list[range]:
    """@return: each trusts all."""
    return [range(1, size + 1)] * size


def star(size: int) -> list[list[int]]:
    """@return: all trust node 1, and it trusts all."""
    return [list(range(2, size + 1)), *([1] for _ in range(size - 1))]


def regular(size: int, degree: int, tree: RngTree) -> list[list[int]]:
    """@return: a random connected graph in which everybody trusts C{degree} others, or nearly."""
    rng = tree.source("graph", size, degree)
    neighbours: list[set[int]] = [set() for _ in range(size + 1)]
    for _ in range(degree // 2):  # each a ring through all nodes in random order
        ring = rng.sample(range(1, size + 1), size)
        for here, there in zip(ring, ring[1:] + ring[:1], strict=True):
            neighbours[here].add(there)
            neighbours[there].add(here)
    return [sorted(found) for found in neighbours[1:]]
