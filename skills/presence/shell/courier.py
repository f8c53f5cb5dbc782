"""What leaves: datagrams, records for coordinators, messages for watchers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.address import Address
from pilot.errors import MessageRefused, PilotError
from skills.presence.core.effects import Datagram, Message, Publish
from skills.presence.shell.targets import Targets

log = Logger()

PORT: Final = 1010
"""The virtual port of presence, for datagrams and for streams."""
DATAGRAMS: Final = 512
"""Datagrams that wait for their tunnel."""
DATAGRAMS_EACH: Final = 4
"""The same of one peer: whoever cannot be reached holds up nobody else."""
UNDER_WAY: Final = 8192
"""Publications and messages under way; the node bounds each peer's by itself."""
FLUSH: Final = 2.0
"""Seconds that the last words have to leave."""


class Courier:
    """
    Hands everything to the node, and remembers what is not out yet.

    @ivar counters: what left and what did not.
    """

    def __init__(self, node: Any, reactor: Any, targets: Targets) -> None:
        self.counters: Counter[str] = Counter()
        self._node = node
        self._reactor = reactor
        self._targets = targets
        self._datagrams: Counter[int] = Counter()
        self._under_way: set[Deferred[Any]] = set()

    def datagram(self, effect: Datagram) -> None:
        """Send a datagram; it may be lost."""
        self.send(effect.peer, effect.data)

    def send(self, peer: int, data: bytes) -> None:
        """Send a datagram; what would wait behind too many others is lost."""
        waiting = self._datagrams
        if waiting[peer] >= DATAGRAMS_EACH or len(waiting) >= DATAGRAMS:
            self.counters["datagrams_dropped"] += 1
            return
        waiting[peer] += 1
        self.counters["datagrams"] += 1
        self.counters["datagram_bytes"] += len(data)
        sending = self._node.send_datagram(Address(0, peer), PORT, data)
        self._watch(sending, "datagrams_failed", lambda _: self._left(peer))

    def publish(self, effect: Publish, done: Callable[[bool], None]) -> None:
        """Publish a record at a coordinator.  @param done: told whether it left."""
        self.counters["records"] += 1

        def go(address: Address) -> Deferred[None]:
            published: Deferred[None] = self._node.publish(address, effect.topic, effect.payload)
            return published

        self._try(effect.target, go, "records_failed", done)

    def message(self, effect: Message, done: Callable[[bool], None]) -> None:
        """Send a message.  @param done: told whether it was taken."""
        self.counters["messages"] += 1

        def go(address: Address) -> Deferred[None]:
            sent: Deferred[None] = self._node.send_message(address, effect.document)
            return sent

        self._try(effect.target, go, "messages_failed", done)

    def flush(self) -> Deferred[Any]:
        """@return: Deferred that fires when everything is out, or after L{FLUSH} seconds."""
        return all_over(self._under_way, FLUSH, self._reactor)

    # -- how it goes ---------------------------------------------------------------------------

    def _try(
        self,
        target: str | int,
        go: Callable[[Address], Deferred[None]],
        counter: str,
        done: Callable[[bool], None],
    ) -> None:
        if len(self._under_way) >= UNDER_WAY:
            self.counters[counter] += 1
            done(False)
            return
        self._watch(self._attempt(target, go), counter, done)

    def _attempt(
        self, target: str | int, go: Callable[[Address], Deferred[None]]
    ) -> Deferred[None]:
        async def attempt() -> None:
            address = await self._targets.find(target)
            try:
                await go(address)
            except MessageRefused:
                raise
            except PilotError:
                # A stream kept to a node that was restarted meanwhile fails once; and a name may
                # lead elsewhere by now.
                self._targets.forget(target)
                await go(await self._targets.find(target))

        return Deferred.fromCoroutine(attempt())

    def _watch(self, work: Deferred[Any], counter: str, done: Callable[[bool], None]) -> None:
        self._under_way.add(work)

        def over(result: Any) -> None:
            self._under_way.discard(work)
            failed = isinstance(result, Failure)
            if failed:
                self.counters[counter] += 1
                if not result.check(PilotError, CancelledError):
                    log.failure("something of presence was not sent", result)
            done(not failed)

        work.addBoth(over)

    def _left(self, peer: int) -> None:
        self._datagrams[peer] -= 1
        if self._datagrams[peer] <= 0:
            del self._datagrams[peer]


def all_over(works: Iterable[Deferred[Any]], patience: float, reactor: Any) -> Deferred[Any]:
    """@return: Deferred that fires when all of C{works} are over, or that many seconds are."""
    waiting = [_follow(work) for work in works]
    everything: Deferred[Any] = DeferredList(waiting, consumeErrors=True)
    everything.addTimeout(patience, reactor)
    return everything.addErrback(lambda _: None)


def _follow(work: Deferred[Any]) -> Deferred[None]:
    """@return: a Deferred of its own that fires when C{work} is over."""
    follower: Deferred[None] = Deferred()

    def over(result: Any) -> Any:
        if not follower.called:
            follower.callback(None)
        return result

    work.addBoth(over)
    return follower
