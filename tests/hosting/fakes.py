"""A node that remembers its listeners, and skills that do what a test wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from pilot.hosting.hosted import HostedSkill
from pilot.iskill import ISkill, ISkillCalls, ISkillReport


class FakeNode:
    """Enough of a node: whoever listens can be called from a test."""

    def __init__(self) -> None:
        self.address = "0:0000.0000.0001"
        self.listeners: list[tuple[str, Any]] = []
        self.dialled: list[tuple[Any, Deferred[Any]]] = []
        self.ports: list[FakePort] = []
        self.ends: list[Callable[[Any], None]] = []

    def _add(self, kind: str, listener: Any) -> Callable[[], None]:
        entry = (kind, listener)
        self.listeners.append(entry)
        return lambda: self.listeners.remove(entry)

    def add_datagram_listener(self, listener: Any) -> Callable[[], None]:
        return self._add("datagram", listener)

    def claim_messages(self, prefix: str, listener: Any) -> Callable[[], None]:
        return self._add("message", listener)

    def watch_events(self, prefix: str, listener: Any) -> Callable[[], None]:
        return self._add("event", listener)

    def subscribe(self, target: Any, topic: str, listener: Any, on_end: Any) -> Deferred[Any]:
        self.ends.append(on_end)
        return succeed(self._add("subscription", listener))

    def dial(self, target: Any, port: int, factory: Any) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.dialled.append((factory, waiting))
        return waiting

    def listen(self, port: int, factory: Any) -> Deferred[Any]:
        opened = FakePort(factory)
        self.ports.append(opened)
        return succeed(opened)

    def info(self) -> Deferred[Any]:
        return succeed({"node_id": 1})

    def tell(self, kind: str, *args: Any) -> list[Any]:
        return [listener(*args) for each, listener in list(self.listeners) if each == kind]


class FakePort:
    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.open = True

    def getHost(self) -> str:
        return "here"

    def stopListening(self) -> Deferred[None]:
        self.open = False
        return succeed(None)


@implementer(ISkillCalls, ISkillReport)
class Servant(Service):
    """A skill's service; C{behaviour} is called when it starts."""

    def __init__(self, behaviour: Callable[[Servant], Any], node: Any, settings: Any) -> None:
        self.behaviour = behaviour
        self.node = node
        self.settings = settings
        self.feeding: list[Any] = []
        self.stopped = 0
        self.table: dict[str, Any] = {"echo": lambda arguments: arguments}
        self.numbers: Any = {"beats": 3}

    def startService(self) -> Any:
        super().startService()
        return self.behaviour(self)

    def stopService(self) -> Any:
        self.stopped += 1
        return super().stopService()

    def calls(self) -> Any:
        return self.table

    def feeds(self) -> Any:
        return {"watch": self._watch}

    def _watch(self, arguments: dict[str, Any], send: Any) -> Callable[[], None]:
        if arguments.get("fail"):
            raise RuntimeError("no feed today")
        self.feeding.append(send)
        return lambda: self.feeding.remove(send)

    def statistics(self) -> Any:
        return self.numbers


@implementer(ISkill)
class FakeSkill:
    name = "servant"
    summary = "Serves a test."
    port = 4000
    options: Any = (("pace", "10s", "How fast."), ("loud", False, "Whether to shout."))

    def __init__(self, behaviour: Callable[[Servant], Any] = lambda servant: None) -> None:
        self.behaviour = behaviour
        self.made: list[Servant] = []

    def make_skill(self, node: Any, settings: Any) -> Servant:
        settings.duration("pace", 1.0)
        self.made.append(Servant(self.behaviour, node, settings))
        return self.made[-1]


class Stage:
    """One hosted skill on a fake node and a clock of its own."""

    def __init__(self, skill: Any, home: Path, **given: Any) -> None:
        self.clock = Clock()
        self.node = FakeNode()
        self.skill = skill
        self.open_sockets: list[Any] = []
        self.hosted = HostedSkill(
            skill, given, home, self.clock, self._open, wall=lambda: 1e9, rng=Random(1)
        )

    def _open(self, name: str, factory: Any) -> Callable[[], None]:
        self.open_sockets.append(factory)
        return lambda: self.open_sockets.remove(factory)

    def start(self) -> Any:
        self.hosted.attach(self.node)
        return self.skill.made[-1] if self.skill.made else None

    @property
    def servant(self) -> Servant:
        made: Servant = self.skill.made[-1]
        return made

    def end(self) -> None:
        """Stop everything.  Nothing must be left."""
        closing = Deferred.fromCoroutine(self.hosted.close())
        self.clock.advance(0)
        self.clock.advance(5)
        assert closing.called
        assert not self.clock.getDelayedCalls()
        assert not self.node.listeners
        assert not any(port.open for port in self.node.ports)
        assert not self.open_sockets
