"""The webhook: somebody over HTTP who is told what happens to the node.

One worker posts one event after the other, in the order of their numbers, from one bounded queue.
A sink that hangs, fails or lies therefore costs itself events and the node nothing.

@see: C{docs/reference/webhooks.md}; protocol notes, I{Webhooks}.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import time_ns
from typing import Any, NamedTuple
from typing import Protocol as Interface

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from pilot.daemon.webhook_event import encode_event
from pilot.daemon.webhook_sink import Sink
from pilot.errors import WireError

log = Logger()


@dataclass(frozen=True)
class WebhookLimits:
    """
    How much a sink may cost; times in seconds.

    @ivar events: that may wait, besides the one on its way; a newer one is dropped.
    @ivar event_bytes: that may wait; ordinary events are some 200 bytes each.
    @ivar attempts: for one event.
    @ivar answer: for one attempt, from the connection to the status.
    @ivar pause: after the first attempt, on average; doubled after each further one.
    @ivar replaced: a sink that is replaced gets this long to take what it is owed.
    @ivar stopped: so long when the daemon stops.
    """

    events: int = 1024
    event_bytes: int = 4 << 20
    attempts: int = 3
    answer: float = 5.0
    pause: float = 1.0
    replaced: float = 2.0
    stopped: float = 3.0


class Poster(Interface):
    """What carries an event; L{pilot.daemon.webhook_http.HttpPoster} or a test's fake."""

    def post(self, url: str, headers: dict[str, str], body: bytes) -> Awaitable[int]:
        """@return: the status of the answer; any error means that there was none."""

    def close(self) -> Awaitable[None]:
        """Let go of everything."""


class _Event(NamedTuple):
    number: int
    body: bytes
    sink: Sink


class Webhooks(Service):
    """
    Tells one sink at a time.

    @ivar counters: what became of events: C{delivered} (the sink said 2xx), C{dropped} (the queue
        was full), C{refused} (it said 3xx or 4xx), C{failed} (every attempt did), C{abandoned}
        (the sink was replaced, or the daemon stopped); and C{retries}, attempts after the first.
    """

    name = "webhooks"

    def __init__(
        self,
        reactor: Any,
        node_id: Callable[[], int | None],
        url: str = "",
        *,
        poster: Poster | None = None,
        limits: WebhookLimits | None = None,
        rng: random.Random | None = None,
        wall_time: Callable[[], int] = time_ns,
    ) -> None:
        """
        @param node_id: tells the node's number; None before the registration, told as 0.
        @param url: the first sink; empty for none.
        @param poster: what carries the events; None makes one when it is first needed.
        @param wall_time: nanoseconds since 1970.
        @raise InvalidArgument: C{url} is nowhere that events may be sent.
        """
        self.counters: Counter[str] = Counter()
        self._reactor = reactor
        self._node_id = node_id
        self._poster = poster
        self._limits = limits or WebhookLimits()
        self._rng = rng or random.SystemRandom()
        self._wall_time = wall_time
        self._sink = Sink(url) if url else None
        self._replaced: set[Sink] = set()
        self._last_number = 0
        self._waiting: deque[_Event] = deque()
        self._waiting_bytes = 0
        self._sending: _Event | None = None
        self._step: Deferred[Any] | None = None
        self._wake: IDelayedCall | None = None
        self._overflowing = False

    # -- the node's side -----------------------------------------------------------------------

    def emit(self, name: str, data: Mapping[str, Any] | None = None) -> None:
        """
        Something happened; never blocks, never raises, and costs next to nothing without a sink.

        @param name: the event.
        @param data: its facts, as JSON has them.
        """
        sink = self._sink
        if sink is None:
            return
        self._last_number = number = self._last_number + 1
        limits = self._limits
        if len(self._waiting) >= limits.events or self._waiting_bytes >= limits.event_bytes:
            self._overflow(sink)
            return
        try:
            body = encode_event(number, name, self._node_id() or 0, self._wall_time(), data)
        except WireError:
            self.counters["dropped"] += 1
            log.failure("the event {name} cannot be told", name=name)
            return
        self._waiting.append(_Event(number, body, sink))
        self._waiting_bytes += len(body)
        sink.owed += 1
        if self._sending is None and self._wake is None and self.running:
            self._wake = self._reactor.callLater(0, self._begin)

    def statistics(self) -> dict[str, Any]:
        """@return: the sink without its secrets, what waits, and what became of the rest."""
        kinds = ("delivered", "dropped", "refused", "failed", "abandoned", "retries")
        return {
            "sink": self._sink.label if self._sink else "",
            "events": self._last_number,
            "waiting": len(self._waiting) + (self._sending is not None),
            **{kind: self.counters[kind] for kind in kinds},
        }

    # -- the operator's side -------------------------------------------------------------------

    async def set_webhook(self, url: str) -> None:
        """
        Tell somebody else from now on.

        What the sink before is owed goes there first, for at most C{limits.replaced} seconds; when
        this returns, nothing more will be sent to it.  Numbers go on.

        @param url: the sink; empty for nobody.
        @raise InvalidArgument: nowhere that events may be sent; nothing has changed.
        """
        before = self._sink
        if url == (before.url if before else ""):
            return
        self._sink = Sink(url) if url else None
        if self._sink is not None:
            self._make_poster()
        log.info("events go to {sink}", sink=self._sink.label if self._sink else "nobody")
        if before is not None:
            await self._retire(before, self._limits.replaced)

    def startService(self) -> None:
        """Begin to deliver."""
        super().startService()
        if self._sink is not None:
            self._make_poster()
        if self._waiting:
            self._wake = self._reactor.callLater(0, self._begin)

    def stopService(self) -> Deferred[None]:
        """@return: fires when what is owed was delivered, or after C{limits.stopped} seconds."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        last, self._sink = self._sink, None
        if last is not None:
            await self._retire(last, self._limits.stopped)
        for sink in list(self._replaced):
            self._cut(sink)
        super().stopService()
        poster, self._poster = self._poster, None
        if poster is not None:
            await poster.close()

    def _make_poster(self) -> None:
        if self._poster is None:
            from pilot.daemon.webhook_http import HttpPoster

            self._poster = HttpPoster(self._reactor)

    def _retire(self, sink: Sink, patience: float) -> Deferred[None]:
        if not sink.owed:
            return succeed(None)
        self._replaced.add(sink)
        sink.patience = self._reactor.callLater(patience, self._cut, sink)
        sink.emptied = Deferred()
        return sink.emptied

    def _cut(self, sink: Sink) -> None:
        """Give up what a sink is owed."""
        sink.cut = True
        mine = [event for event in self._waiting if event.sink is sink]
        self._waiting = deque(event for event in self._waiting if event.sink is not sink)
        for event in mine:
            self._waiting_bytes -= len(event.body)
            self._settle(event, "abandoned")
        if self._sending is not None and self._sending.sink is sink and self._step is not None:
            self._step.cancel()

    # -- the worker ----------------------------------------------------------------------------

    def _begin(self) -> None:
        self._wake = None
        Deferred.fromCoroutine(self._work()).addErrback(
            lambda failure: log.failure("webhook worker ended", failure)
        )

    async def _work(self) -> None:
        while self._waiting:
            self._sending = event = self._waiting.popleft()
            self._waiting_bytes -= len(event.body)
            outcome = await self._deliver(event)
            self._settle(event, outcome)
            self._sending = None  # last: who hears of the end may emit, and that is for this loop
        if self._overflowing:
            self._overflowing = False
            log.info("no event waits any more; {n} were dropped", n=self.counters["dropped"])

    async def _deliver(self, event: _Event) -> str:
        """@return: which counter the event belongs to."""
        sink = event.sink
        status, why = 0, ""
        for attempt in range(self._limits.attempts):
            if attempt:
                self.counters["retries"] += 1
                await self._pause(attempt)
            status, why = (0, "") if sink.cut else await self._attempt(event)
            if 200 <= status < 300:
                self._well(sink)
                return "delivered"
            if sink.cut:
                return "abandoned"
            if 300 <= status < 500:
                break
        self._ill(event, why)
        return "refused" if 300 <= status < 500 else "failed"

    async def _attempt(self, event: _Event) -> tuple[int, str]:
        """@return: the status, 0 for none, and words for it."""
        assert self._poster is not None
        sink, seconds = event.sink, self._limits.answer
        try:
            posting = self._poster.post(sink.request_url, sink.headers, event.body)
            self._step = step = Deferred.fromCoroutine(_awaited(posting))
            status = await step.addTimeout(seconds, self._reactor)
        except TimeoutError:
            return 0, f"no answer within {seconds:g} s"
        except Exception as error:  # of TCP, TLS, DNS, HTTP or the sink: the same to the event
            return 0, f"{type(error).__name__}: {error}"
        finally:
            self._step = None
        return status, f"it answered {status}"

    async def _pause(self, attempt: int) -> None:
        average = self._limits.pause * 2.0 ** (attempt - 1)
        self._step = deferLater(self._reactor, average * self._rng.uniform(0.75, 1.25))
        try:
            await self._step
        except Exception:  # cut short
            return
        finally:
            self._step = None

    def _settle(self, event: _Event, outcome: str) -> None:
        self.counters[outcome] += 1
        event.sink.settled()
        if not event.sink.owed:
            self._replaced.discard(event.sink)

    # -- the log: a line when something begins and when it ends, however long it lasts ------------

    def _overflow(self, sink: Sink) -> None:
        self.counters["dropped"] += 1
        if not self._overflowing:
            self._overflowing = True
            log.warn("webhook {sink} is too slow: new events are dropped", sink=sink.label)

    def _ill(self, event: _Event, why: str) -> None:
        if not event.sink.failing:
            event.sink.failing = True
            log.warn(
                "webhook {sink} did not take event {number}: {why}",
                sink=event.sink.label,
                number=event.number,
                why=why,
            )

    def _well(self, sink: Sink) -> None:
        if sink.failing:
            sink.failing = False
            log.info("webhook {sink} takes events again", sink=sink.label)


async def _awaited(result: Awaitable[int]) -> int:
    return await result
