"""Gossip services on nodes in memory, one clock for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from pilot.address import Address
from pilot.crypto.identity import Identity
from pilot.crypto.skillsignature import signed_bytes
from pilot.errors import ConnectionFailed, NotFound, PilotError
from pilot.hosting.settings import SkillSettings
from skills.gossip.service import GossipService
from skills.gossip.shell.options import OPTIONS

EPOCH = 1_800_000_000.0
MAX_CLAIMED = 64 * 1024


class Net:
    """
    @ivar cut: pairs of nodes that cannot reach each other.
    @ivar trust: pairs that trust each other; everybody while it is None.
    """

    def __init__(self, root: Path) -> None:
        self.clock = Clock()
        self.clock.advance(EPOCH)
        self.root = root
        self.nodes: dict[int, Node] = {}
        self.cut: set[frozenset[int]] = set()
        self.trust: set[frozenset[int]] | None = None
        self.shells: list[Shell] = []
        self._set_by = 0.0

    def now(self) -> float:
        """Monotonic seconds."""
        return self.clock.seconds() - EPOCH - self._set_by

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the wall clock, which timers of the reactor follow."""
        self.clock.rightNow += seconds
        self._set_by += seconds

    def node(self, number: int) -> Node:
        if number not in self.nodes:
            self.nodes[number] = Node(self, number)
        return self.nodes[number]

    def shell(self, number: int, **given: Any) -> Shell:
        """A service on a node, started."""
        shell = Shell(self, self.node(number), given)
        self.shells.append(shell)
        shell.start()
        return shell

    def pass_time(self, seconds: float, step: float = 0.05) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def until(self, look: Callable[[], Any], patience: float = 60.0) -> float:
        """Let time pass until there is something to see.  @return: how long it took."""
        began = self.now()
        while not look():
            assert self.now() - began < patience, "it never came"
            self.clock.advance(0.05)
        return self.now() - began

    def done(self, waiting: Deferred[Any], patience: float = 60.0) -> Any:
        """Let time pass until a Deferred has fired.  @return: its result, or raise its error."""
        outcome: list[Any] = []
        waiting.addBoth(outcome.append)
        self.until(lambda: outcome, patience)
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]

    def trusted(self, one: int, other: int) -> bool:
        return one != other and (self.trust is None or frozenset((one, other)) in self.trust)


@contextmanager
def network(root: Path) -> Iterator[Net]:
    """A network at whose end everything is stopped, and nothing may be left."""
    net = Net(root)
    try:
        yield net
    finally:
        for shell in net.shells:
            shell.stop()
        net.pass_time(1.0)
        net.clock.advance(7200.0)  # what was on its way when the clock was set arrives late
        assert not net.clock.getDelayedCalls()


class Node:
    """What a skill sees of a node."""

    def __init__(self, net: Net, number: int) -> None:
        self.net = net
        self.number = number
        self.address = Address(0, number)
        self.own_tags: list[str] = []
        self.refusing: PilotError | None = None  # what the registry answers
        self.claims: list[tuple[str, Any]] = []
        self.inbox: list[tuple[int, dict[str, Any]]] = []
        self.announced: list[tuple[str, dict[str, Any]]] = []
        self.sent: list[tuple[int, str]] = []
        self.identity = Identity.generate()

    def peers(self, *, fresh: bool = False) -> Deferred[Any]:
        return succeed(
            [
                {
                    "node_id": other.number,
                    "address": str(other.address),
                    "hostname": f"node-{other.number}",
                    "tags": list(other.own_tags),
                    "public_key": "",
                }
                for other in self.net.nodes.values()
                if self.net.trusted(self.number, other.number)
            ]
        )

    def tags(self) -> Deferred[list[str]]:
        return fail(self.refusing) if self.refusing else succeed(list(self.own_tags))

    def set_tags(self, tags: list[str]) -> Deferred[list[str]]:
        if self.refusing:
            return fail(self.refusing)
        assert len(tags) <= 10
        self.own_tags = list(tags)
        return succeed(list(tags))

    def resolve(self, target: Any) -> Deferred[Address]:
        text = str(target).removeprefix("node-")
        return succeed(Address(0, int(text))) if text.isdigit() else fail(NotFound("no such node"))

    def send_message(self, target: Address, document: Any) -> Deferred[None]:
        sent: Deferred[None] = Deferred()
        text = document if isinstance(document, str) else json.dumps(document)
        self.sent.append((target.node, text))
        self.net.clock.callLater(0.01, self._arrive, target.node, text, sent)
        return sent

    def _arrive(self, target: int, text: str, sent: Deferred[None]) -> None:
        other = self.net.nodes.get(target)
        if (
            other is None
            or frozenset((self.number, target)) in self.net.cut
            or not self.net.trusted(self.number, target)
        ):
            sent.errback(ConnectionFailed("unreachable"))
            return
        other.receive(self.number, text)
        sent.callback(None)

    def receive(self, source: int, text: str) -> None:
        """A message came: to whom claims it, or into the inbox."""
        document = json.loads(text)
        for prefix, listener in self.claims:
            if document["type"].startswith(prefix) and len(text.encode()) <= MAX_CLAIMED:
                verdict: list[bool] = []
                listener(Address(0, source), document, len(text)).addBoth(verdict.append)
                assert isinstance(verdict[0], bool), verdict
                if verdict[0]:
                    return
        self.inbox.append((source, document))

    def claim_messages(self, prefix: str, listener: Any) -> Callable[[], None]:
        claim = (prefix, listener)
        self.claims.append(claim)
        return lambda: self.claims.remove(claim)

    def announce(self, name: str, data: dict[str, Any], *, publish: bool = True) -> None:
        assert len(json.dumps(data)) <= 65536
        self.announced.append((name, data))

    def sign(self, domain: str, data: bytes) -> Deferred[bytes]:
        if self.refusing:
            return fail(self.refusing)
        return succeed(self.identity.sign(signed_bytes(domain, data)))

    def public_key(self, node_id: int) -> Deferred[bytes]:
        if node_id not in self.net.nodes:
            return fail(NotFound("no such node"))
        return succeed(self.net.nodes[node_id].identity.public_key)


class Shell:
    """One service, which can be stopped and started again."""

    def __init__(self, net: Net, node: Node, given: dict[str, Any]) -> None:
        self.net = net
        self.node = node
        self.given = given
        self.home = net.root / str(node.number)
        self.running = False

    def start(self) -> None:
        clock = self.net.clock
        settings = SkillSettings(
            "gossip", OPTIONS, self.given, self.home, clock, Random(self.node.number)
        )
        self.service = GossipService(
            self.node,  # type: ignore[arg-type]
            settings,
            monotonic=self.net.now,
        )
        self.net.done(Deferred.fromCoroutine(self.service.startService()))
        self.running = True

    def stop(self) -> None:
        if self.running:
            self.running = False
            self.service.stopService()

    def kill(self) -> None:
        """Stop without a chance to store anything more."""
        for swarm in self.service.swarms.values():
            swarm.storage.close = lambda now: None  # type: ignore[method-assign]
        self.stop()

    def join(self, name: str = "kv", **options: Any) -> Any:
        return self.net.done(self.service.join(name, **options))

    def call(self, name: str, **arguments: Any) -> Any:
        """What a command would ask."""
        result = self.service.calls()[name]({"swarm": "kv", **arguments})
        if hasattr(result, "__await__") and not isinstance(result, Deferred):
            result = Deferred.fromCoroutine(result)
        return self.net.done(result) if isinstance(result, Deferred) else result

    @property
    def kv(self) -> Any:
        return self.service.swarms["kv"]
