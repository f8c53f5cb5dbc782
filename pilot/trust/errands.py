"""Carrying out what was decided: telling the peer and the registry, until they know.

The user is answered at once; what a decision asks for is done here, in the background, with
bounded retries, and goes on after a restart.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    DeferredSemaphore,
    TimeoutError,
    succeed,
)
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.errors import PilotError, RegistryError
from pilot.trust.records import Errand, Step, ordered

log = Logger()

#: Errands that run at the same time; the others wait their turn.
CONCURRENT_ERRANDS = 32

#: Seconds between attempts: the first pause, doubling to the longest.
RETRY_FIRST, RETRY_MOST = 1.0, 3600.0

#: Seconds between attempts at least, whatever reason there is to hurry.
HURRY_GAP = 10.0

#: Seconds after the decision at which an errand is given up.
LIFETIME = 7 * 86400.0

#: Seconds that a request may take on the direct way before it is relayed as well.
RELAY_AFTER = 2.0

#: Seconds that the registry is kept from dropping a pair while the peer is told of it: a private
#: peer cannot be resolved any more once the pair is gone.
UNPAIR_AFTER = 10.0

#: Seconds for one direct message; the dial of a silent peer takes 29 or 39.
DIRECT_PATIENCE = 60.0


class IErrandRegistry(Protocol):
    """What errands need of a registry client; every Deferred is of the reply."""

    def request_handshake(
        self, to: int, justification: str
    ) -> Deferred[dict[str, Any]]: ...  # pragma: no cover

    def respond_handshake(
        self, peer: int, accept: bool
    ) -> Deferred[dict[str, Any]]: ...  # pragma: no cover

    def report_trust(self, peer: int) -> Deferred[dict[str, Any]]: ...  # pragma: no cover

    def revoke_trust(self, peer: int) -> Deferred[dict[str, Any]]: ...  # pragma: no cover


class _Task:
    """One errand on its way."""

    __slots__ = ("attempts", "began", "direct", "errand", "left", "parted", "timer", "waiter")

    def __init__(self, errand: Errand) -> None:
        self.errand = errand
        self.left = set(errand.steps)
        self.attempts = 0
        self.began = float("-inf")
        self.parted = False
        self.timer: IDelayedCall | None = None
        self.direct: Deferred[None] | None = None
        self.waiter: Deferred[None] | None = Deferred()

    def answer(self, trouble: PilotError | None) -> None:
        """Tell whoever put the errand how its first attempt went."""
        waiter, self.waiter = self.waiter, None
        if waiter is None:
            return
        if trouble is None:
            waiter.callback(None)
        else:
            waiter.errback(trouble)

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.direct is not None:
            self.direct.cancel()
        self.answer(None)


class Errands:
    """
    At most one errand a peer: a new decision replaces what was left of the old one.

    @ivar counters: attempts, errands done, given up, and replaced.
    """

    def __init__(
        self,
        clock: IReactorTime,
        registry: IErrandRegistry,
        rng: random.Random,
        *,
        tell: Callable[[int, Step, str], Deferred[None]],
        wall_time: Callable[[], float],
        on_change: Callable[[], None],
        on_parted: Callable[[int], None],
    ) -> None:
        """
        @param tell: sends one message over port 444: the node, the step that asks for it, the text.
        @param on_change: called when an errand came to its end, so that the file can be brought
            up to date.
        @param on_parted: called once the peer was told of a revocation, or could not be told at
            the first attempt: nothing needs its tunnel any more.
        """
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._registry = registry
        self._rng = rng
        self._tell = tell
        self._wall_time = wall_time
        self._on_change = on_change
        self._on_parted = on_parted
        self._tasks: dict[int, _Task] = {}
        self._slots = DeferredSemaphore(CONCURRENT_ERRANDS)

    # -- from outside ----------------------------------------------------------------------------

    def put(self, errand: Errand) -> Deferred[None]:
        """
        Begin an errand, in place of any other for that peer.

        @return: Deferred that fires after the first attempt; it fails with L{PilotError} when
            a request could be brought to the peer on no way.
        """
        self.drop(errand.node_id)
        if not errand.steps:
            return succeed(None)
        task = self._tasks[errand.node_id] = _Task(errand)
        assert task.waiter is not None
        waiter = task.waiter
        self._begin(task)
        return waiter

    def resume(self, errands: list[Errand]) -> None:
        """Go on with what was left when the node stopped, spread over some seconds."""
        for errand in errands:
            if errand.steps and errand.node_id not in self._tasks:
                task = self._tasks[errand.node_id] = _Task(errand)
                task.waiter = None
                self._again(task, self._rng.uniform(0.0, 2.0))

    def drop(self, node_id: int) -> None:
        """Forget what is owed to a peer; a message on its way is taken back if it still can be."""
        task = self._tasks.pop(node_id, None)
        if task is not None:
            self.counters["replaced"] += 1
            task.stop()

    def owed(self) -> dict[int, Errand]:
        """@return: every errand that is not done, with the steps that are left."""
        return {
            node_id: task.errand._replace(steps=ordered(task.left))
            for node_id, task in self._tasks.items()
        }

    def of(self, node_id: int) -> Errand | None:
        """@return: what is owed to C{node_id}, or None."""
        task = self._tasks.get(node_id)
        return None if task is None else task.errand._replace(steps=ordered(task.left))

    def owes(self, node_id: int, step: Step) -> bool:
        """@return: whether C{step} is still to be taken for C{node_id}."""
        task = self._tasks.get(node_id)
        return task is not None and step in task.left

    def hurry(self, node_id: int | None = None) -> None:
        """
        There is reason to hope again (the registry is back, the peer was heard): do not wait out
        the pause before the next attempt.

        @param node_id: the peer, or None for all.
        """
        tasks = list(self._tasks.values()) if node_id is None else [self._tasks.get(node_id)]
        now = self._clock.seconds()
        for task in tasks:
            if task is None or task.timer is None:
                continue
            due = max(now, task.began + HURRY_GAP) + self._rng.uniform(0.0, RETRY_FIRST)
            if due < task.timer.getTime():
                task.timer.reset(due - now)

    def stop(self) -> None:
        """End all attempts; the errands stay owed."""
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            task.stop()

    # -- one errand ------------------------------------------------------------------------------

    def _again(self, task: _Task, delay: float) -> None:
        task.timer = self._clock.callLater(delay, self._begin, task)

    def _begin(self, task: _Task) -> None:
        task.timer = None
        running = self._slots.run(lambda: Deferred.fromCoroutine(self._attempt(task)))
        running.addErrback(self._unexpected, task)

    def _unexpected(self, failure: Failure, task: _Task) -> None:
        log.failure("errand for node {node} failed", failure, node=task.errand.node_id)
        if self._current(task):
            del self._tasks[task.errand.node_id]
        task.answer(None)

    def _current(self, task: _Task) -> bool:
        return self._tasks.get(task.errand.node_id) is task

    async def _attempt(self, task: _Task) -> None:
        if not self._current(task):
            return
        self.counters["attempts"] += 1
        task.attempts += 1
        task.began = self._clock.seconds()
        trouble = None
        if task.left & {Step.REVOKE, Step.UNPAIR}:
            await self._part(task)
        if Step.REPORT in task.left:
            await self._report(task)  # a private peer cannot be resolved before
        if Step.ASK in task.left:
            trouble = await self._ask(task)
        if not task.left & {Step.REVOKE, Step.UNPAIR}:
            await self._reply(task)
        task.answer(trouble)
        if not self._current(task):
            return
        node_id = task.errand.node_id
        if not task.left:
            del self._tasks[node_id]
            self.counters["done"] += 1
            self._on_change()
        elif self._wall_time() - task.errand.since > LIFETIME:
            del self._tasks[node_id]
            self.counters["given_up"] += 1
            log.warn(
                "gave up on node {node}: {steps} could not be done",
                node=node_id,
                steps=", ".join(ordered(task.left)),
            )
            self._on_change()
        else:
            pause = min(RETRY_MOST, RETRY_FIRST * 2.0 ** min(task.attempts - 1, 30))
            self._again(task, pause * self._rng.uniform(0.75, 1.25))

    async def _ask(self, task: _Task) -> PilotError | None:
        """Directly if that works soon, else through the registry."""
        node_id = task.errand.node_id
        direct = self._direct(task, Step.ASK)
        await self._wait(direct, RELAY_AFTER)
        if Step.ASK not in task.left or not self._current(task):
            return None
        try:
            await self._registry.request_handshake(node_id, task.errand.text)
        except PilotError as error:
            await direct
            if Step.ASK not in task.left:
                return None
            if isinstance(error, RegistryError):
                task.left.discard(Step.ASK)
            return error
        self._done(task, Step.ASK)
        if task.direct is not None:
            task.direct.cancel()
        return None

    async def _part(self, task: _Task) -> None:
        """The peer first, while it can still be resolved; then, or after a while, the registry."""
        node_id = task.errand.node_id
        direct: Deferred[None] = succeed(None)
        if Step.REVOKE in task.left:
            direct = self._direct(task, Step.REVOKE)
            await self._wait(direct, UNPAIR_AFTER)
        if Step.UNPAIR in task.left:
            await self._registry_step(
                task, Step.UNPAIR, lambda: self._registry.revoke_trust(node_id)
            )
        if Step.REVOKE in task.left and Step.UNPAIR not in task.left:
            # A rejection in the mailbox makes a peer of our kind look whether the pair is
            # gone, so this is a way to private peers; a reference peer takes no notice.
            await self._mail(task, Step.DECLINE, False)
        await direct
        if Step.REVOKE not in task.left:
            self._done(task, Step.DECLINE)
        if Step.REVOKE in task.errand.steps and not task.parted and self._current(task):
            task.parted = True
            self._on_parted(node_id)

    async def _report(self, task: _Task) -> None:
        node_id = task.errand.node_id
        await self._registry_step(task, Step.REPORT, lambda: self._registry.report_trust(node_id))

    async def _reply(self, task: _Task) -> None:
        """The direct message and the mailbox at the same time: either may be the one that works."""
        ways: list[Deferred[None]] = []
        for mailed, told, accept in (
            (Step.RESPOND, Step.ACCEPT, True),
            (Step.DECLINE, Step.REJECT, False),
        ):
            if mailed in task.left:
                ways.append(Deferred.fromCoroutine(self._mail(task, mailed, accept)))
            if told in task.left:
                ways.append(Deferred.fromCoroutine(self._tell_once(task, told, mailed, accept)))
        await DeferredList(ways)

    async def _mail(self, task: _Task, step: Step, accept: bool) -> None:
        if step not in task.left:
            return
        node_id = task.errand.node_id
        await self._registry_step(
            task, step, lambda: self._registry.respond_handshake(node_id, accept)
        )

    async def _tell_once(self, task: _Task, step: Step, mailed: Step, accept: bool) -> None:
        relayed = mailed in task.errand.steps
        await self._direct(task, step)
        if step in task.left and Step.REPORT not in task.left:
            # Not delivered.  The mailbox reaches everybody, so one direct attempt is enough.
            self._done(task, step)
            if not relayed and self._current(task):
                task.left.add(mailed)
                await self._mail(task, mailed, accept)

    def _wait(self, work: Deferred[None], seconds: float) -> Deferred[None]:
        """@return: Deferred that fires when C{work} is over, or after C{seconds}."""
        waited: Deferred[None] = Deferred()
        timer = self._clock.callLater(seconds, waited.callback, None)

        def over(result: None) -> None:
            if timer.active():
                timer.cancel()
                waited.callback(None)
            return result

        work.addCallback(over)
        return waited

    # -- one step --------------------------------------------------------------------------------

    def _direct(self, task: _Task, step: Step) -> Deferred[None]:
        """@return: Deferred that never fails; the step is done if the message was delivered."""
        if not self._current(task):
            return succeed(None)
        direct = self._tell(task.errand.node_id, step, task.errand.text)
        direct.addTimeout(DIRECT_PATIENCE, self._clock)
        task.direct = direct

        def delivered(_: None) -> None:
            self._done(task, step)

        def failed(failure: Failure) -> None:
            if not isinstance(failure.value, PilotError | CancelledError | TimeoutError):
                log.failure("message to node {node} failed", failure, node=task.errand.node_id)
            else:
                log.debug(
                    "{step} did not reach node {node} directly: {error}",
                    step=step.value,
                    node=task.errand.node_id,
                    error=failure.getErrorMessage(),
                )

        def over(_: object) -> None:
            task.direct = None

        direct.addCallbacks(delivered, failed)
        direct.addBoth(over)
        return direct

    async def _registry_step(
        self, task: _Task, step: Step, request: Callable[[], Deferred[dict[str, Any]]]
    ) -> None:
        if not self._current(task):
            return
        try:
            await request()
        except RegistryError as error:
            # An answer: asking again would not change it.  A pair that is gone already, above
            # all, is an everyday one.
            log.debug(
                "the registry declined {step} for node {node}: {error}",
                step=step.value,
                node=task.errand.node_id,
                error=error.message,
            )
        except PilotError as error:
            log.debug(
                "{step} for node {node} has to wait: {error}",
                step=step.value,
                node=task.errand.node_id,
                error=error.message,
            )
            return
        self._done(task, step)

    def _done(self, task: _Task, step: Step) -> None:
        task.left.discard(step)
