"""The node a skill gets: everything the real one does, and taken back as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import classImplements

from pilot.hosting.guard import Guard
from pilot.hosting.protocols import GuardedFactory
from pilot.interfaces import IPilotNode


class GuardedNode:
    """
    Provides L{IPilotNode} for one run of a skill.

    What only asks or sends goes straight to the node.  What calls the skill back, or gives it
    something to keep, is done here: listeners that raise fail the skill; listeners, ports, streams
    and pending dials end with the run.
    """

    def __init__(self, node: Any, guard: Guard) -> None:
        self._node = node
        self._guard = guard

    def __getattr__(self, name: str) -> Any:
        if name not in IPilotNode:
            raise AttributeError(name)
        return getattr(self._node, name)

    def dial(self, target: Any, port: int, factory: Any) -> Deferred[Any]:
        """Open a stream; see L{IPilotNode.dial}."""
        dialling = self._node.dial(target, port, GuardedFactory(factory, self._guard))
        return self._pending(dialling).addCallback(lambda protocol: protocol.inner)

    def listen(self, port: int, factory: Any) -> Deferred[Any]:
        """Serve a virtual port; see L{IPilotNode.listen}."""
        opening = self._node.listen(port, GuardedFactory(factory, self._guard))
        return self._pending(opening).addCallback(self._opened)

    def add_datagram_listener(self, listener: Callable[..., None]) -> Callable[[], None]:
        """Hear datagrams; see L{IPilotNode.add_datagram_listener}."""
        return self._stop(self._node.add_datagram_listener(self._guarded(listener)))

    def subscribe(
        self,
        target: Any,
        topic: str,
        listener: Callable[[str, bytes], None],
        on_end: Callable[[Failure], None],
    ) -> Deferred[Callable[[], None]]:
        """Hear events of a broker; see L{IPilotNode.subscribe}."""
        ended: list[Callable[[], object]] = []

        def end(reason: Failure) -> None:
            for forget in ended:
                forget()
            self._guard.call(on_end, reason)

        def keep(stop: Callable[[], None]) -> Callable[[], None]:
            return self._stop(stop, ended)

        subscribing = self._node.subscribe(target, topic, self._guarded(listener), end)
        return self._pending(subscribing).addCallback(keep)

    def claim_messages(self, prefix: str, listener: Callable[..., Any]) -> Callable[[], None]:
        """Take messages; see L{IPilotNode.claim_messages}.  A listener that raises takes none."""

        def claimed(*args: Any) -> Any:
            taken = self._guard.call(listener, *args)
            return taken.addCallback(bool) if isinstance(taken, Deferred) else bool(taken)

        return self._stop(self._node.claim_messages(prefix, claimed))

    def watch_events(self, prefix: str, listener: Callable[..., None]) -> Callable[[], None]:
        """Hear events of the own broker; see L{IPilotNode.watch_events}."""
        return self._stop(self._node.watch_events(prefix, self._guarded(listener)))

    def _guarded(self, listener: Callable[..., Any]) -> Callable[..., None]:
        def guarded(*args: Any) -> None:
            self._guard.call(listener, *args)

        return guarded

    def _stop(
        self, stop: Callable[[], None], ended: list[Callable[[], object]] | None = None
    ) -> Callable[[], None]:
        """Hold what C{stop} ends.  @return: what the skill calls to end it."""
        if self._guard.closed:
            stop()
            return lambda: None
        forget = self._guard.hold(stop)
        if ended is not None:
            ended.append(forget)

        def stopped() -> None:
            if forget():
                stop()

        return stopped

    def _pending(self, waiting: Deferred[Any]) -> Deferred[Any]:
        """Take an attempt back if the run ends before it has succeeded."""
        forget = self._guard.hold(waiting.cancel)

        def over(result: Any) -> Any:
            forget()
            return result

        return waiting.addBoth(over)

    def _opened(self, port: Any) -> Any:
        if self._guard.closed:
            port.stopListening()
            return port
        return _HeldPort(port, self._guard)


class _HeldPort:
    """A port of a skill, which its host can close."""

    def __init__(self, port: Any, guard: Guard) -> None:
        self._port = port
        self._forget = guard.hold(port.stopListening)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def stopListening(self) -> Any:
        """Close the port."""
        self._forget()
        return self._port.stopListening()


# Said here and not with @implementer: most of the interface is there through __getattr__.
classImplements(GuardedNode, IPilotNode)
