"""What a replica cannot do itself: send, store, sign, tell, and be woken in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.address import Address
from pilot.errors import PilotError
from skills.gossip.core.effects import Effect, Event, Persist, Send, Sign, Verify
from skills.gossip.core.register import Register
from skills.gossip.core.replica import SwarmReplica
from skills.gossip.shell.options import SwarmOptions
from skills.gossip.shell.storage import SwarmStorage
from skills.gossip.shell.telling import portions

if TYPE_CHECKING:
    from skills.gossip.shell.surroundings import Surroundings

log = Logger()

#: What those who watch are told last, when this node leaves the swarm.
LEFT = "gossip.left"

#: The timer is set anew when it would ring earlier or later than this, seconds.
_SLACK = 0.005

#: A timer is never set for sooner, seconds: what is less may vanish when added to the wall clock.
_SOONEST = 0.001

#: A message as it travels.  What cannot be a register cannot get here, so it never fails for them.
_encode = msgspec.json.Encoder().encode

Watcher = Callable[[str, dict[str, Any]], None]


class Hands:
    """
    Carries out the orders of one replica, one after the other, and keeps its timer.

    @ivar replica: it.
    @ivar storage: its files.
    @ivar watchers: who is told of events.
    @ivar counts: messages C{sent}, and C{send_failures}; C{sent_bytes} and C{received_bytes}, the
        JSON of all messages, those that did not arrive included.
    @ivar over: whether it has stopped.
    """

    def __init__(
        self,
        name: str,
        options: SwarmOptions,
        surroundings: Surroundings,
        incarnation: int,
        watchers: list[Watcher],
    ) -> None:
        """Read the files, make the replica, and wake it when it wants."""
        self.name = name
        self.watchers = watchers
        self.counts = {"sent": 0, "send_failures": 0, "sent_bytes": 0, "received_bytes": 0}
        self.over = False
        self._around = surroundings
        self._timer: IDelayedCall | None = None
        now = surroundings.now()
        self.storage = SwarmStorage(
            surroundings.path(name),
            self._everything,
            durability=surroundings.durability,
            now=now,
        )
        restored = self.storage.open()
        self.replica = SwarmReplica(
            name,
            surroundings.node_id,
            now=now,
            wall=surroundings.wall,
            rng=surroundings.rng,
            config=options.config(),
            incarnation=incarnation,
            restored=restored,
        )
        self.arm()

    def heard(self, peer: int, document: dict[str, Any], size: int) -> None:
        """A message of C{size} bytes has come."""
        self.counts["received_bytes"] += size
        self.turn(self.replica.on_message, peer, document, size)

    def tick(self) -> None:
        """To be called once a second."""
        self.storage.tick(self._around.now())
        self.arm()  # also when the wall clock, which timers follow, was set

    def leave(self) -> list[Deferred[Any]]:
        """Say good-bye, stop, and delete the files.  @return: what is on its way."""
        effects = self.replica.leave(self._around.now())
        leaving = [self.send(effect) for effect in effects if isinstance(effect, Send)]
        self.carry_out([effect for effect in effects if isinstance(effect, Event)])
        self._tell_watchers(LEFT, {"swarm": self.name})
        self._stop()
        self.storage.discard()
        return leaving

    def close(self) -> None:
        """Stop until the next start."""
        if not self.over:
            self._stop()
            self.storage.close(self._around.now())

    def _stop(self) -> None:
        self.over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def turn(self, step: Callable[..., list[Effect]], *args: Any) -> None:
        """Call the replica, do what it orders, and see to the timer."""
        if self.over:
            return
        self.carry_out(step(self._around.now(), *args))
        self.arm()

    def _everything(self) -> Iterable[tuple[str, Any]]:
        return self.replica.snapshot()

    def arm(self) -> None:
        """Have the replica woken when it wants."""
        if self.over:
            return
        due = self.replica.deadline()
        timer = self._timer
        if due is None:
            return
        delay = max(_SOONEST, due - self._around.now())
        if timer is not None and timer.active():
            if abs(timer.getTime() - self._around.reactor.seconds() - delay) <= _SLACK:
                return
            timer.cancel()
        self._timer = self._around.reactor.callLater(delay, self.turn, self.replica.on_timer)

    def carry_out(self, effects: Iterable[Effect]) -> list[Deferred[Any]]:
        """Do what the replica orders.  @return: what local writes wait for."""
        waiting: list[Deferred[Any]] = []
        for effect in effects:
            if isinstance(effect, Send):
                self.send(effect)
            elif isinstance(effect, Persist):
                self.storage.append(self._around.now(), effect.records, urgent=effect.urgent)
            elif isinstance(effect, Event):
                self._tell(effect)
            elif isinstance(effect, Sign):
                waiting.append(Deferred.fromCoroutine(self._sign(effect.register)))
            elif isinstance(effect, Verify):
                Deferred.fromCoroutine(self._verify(effect.register)).addErrback(self._complain)
        return waiting

    def send(self, effect: Send) -> Deferred[str | None]:
        """@return: Deferred of None, or of why it did not arrive; it never fails."""
        # As text: an object would be sent with characters escaped, and a large one could come to
        # more than what is claimed at the other end.
        try:
            data = _encode(effect.document)
            self.counts["sent_bytes"] += len(data)
            sending = self._around.node.send_message(Address(0, effect.peer), data.decode())
        except Exception:
            sending = failed_now()
        return sending.addCallbacks(
            self._sent, self._not_sent, (effect.peer,), {}, (effect.peer,), {}
        )

    def _sent(self, _: object, peer: int) -> None:
        self.counts["sent"] += 1
        self.turn(self.replica.sent, peer)

    def _not_sent(self, reason: Failure, peer: int) -> str:
        self.counts["send_failures"] += 1
        if not reason.check(PilotError):
            log.failure("a message to node {peer}", reason, peer=peer)
        self.turn(self.replica.send_failed, peer)
        return reason.getErrorMessage()

    async def _sign(self, register: Register) -> None:
        try:
            signature = await self._around.proofs.sign(self.name, register)
        except PilotError:
            self.turn(self.replica.signed, register.key, register.hlc, "")
            raise
        self.turn(self.replica.signed, register.key, register.hlc, signature)

    async def _verify(self, register: Register) -> None:
        holds = await self._around.proofs.holds(self.name, register)
        self.turn(self.replica.verified, register, holds)

    def _complain(self, reason: Failure) -> None:
        log.failure("checking a signature in swarm {swarm}", reason, swarm=self.name)

    def _tell_watchers(self, name: str, data: dict[str, Any]) -> None:
        for watcher in list(self.watchers):
            try:
                watcher(name, data)
            except Exception:
                log.failure("somebody who watches swarm {swarm}", swarm=self.name)

    def _tell(self, event: Event) -> None:
        self._tell_watchers(event.name, event.data)
        try:
            for data in portions(event.name, event.data):
                self._around.node.announce(event.name, data)
        except PilotError as error:
            log.warn("{event} not announced: {error}", event=event.name, error=error.message)


def failed_now() -> Deferred[Any]:
    """@return: a Deferred that has failed with the error that is being handled."""
    result: Deferred[Any] = Deferred()
    result.errback(Failure())
    return result
