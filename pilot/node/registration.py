"""How a node stays known to the registry: it registers, beats, and comes back after an outage."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from pilot.errors import PilotError, RegistryError, RegistryUnavailable
from pilot.registry.client import RegistryClient

log = Logger()

#: Failed heartbeats in a row after which the node registers again.
FAILURES_BEFORE_REGISTERING = 3

#: Seconds: the first heartbeat is spread over this, so that a fleet does not beat as one.
FIRST_BEAT_SPREAD = 5.0

#: Seconds between attempts to register again: the first, and the most.
RETRY_FIRST, RETRY_MOST = 0.1, 30.0

#: Seconds that a clean stop waits for the registry.
GOODBYE_PATIENCE = 3.0


class Registration:
    """
    The heartbeat of a node.

    @ivar started: whether the node was registered once.
    @ivar connected: whether the last exchange with the registry succeeded.
    """

    def __init__(
        self,
        clock: IReactorTime,
        registry: RegistryClient,
        rng: random.Random,
        interval: float,
        *,
        register: Callable[[], Awaitable[None]],
        after_beat: Callable[[dict[str, Any]], None],
        after_return: Callable[[], None],
    ) -> None:
        """
        @param interval: seconds between heartbeats.
        @param register: makes the node known with all its properties; fails with C{PilotError}.
        @param after_beat: called with the registry's answer to every heartbeat that succeeded.
        @param after_return: called after the node had to register again.
        """
        self.connected = False
        self._clock = clock
        self._registry = registry
        self._rng = rng
        self._interval = interval
        self._register = register
        self._after_beat = after_beat
        self._after_return = after_return
        self._failures = 0
        self._next: IDelayedCall | None = None
        self._beating: Deferred[None] | None = None
        self._running = False
        self.started = False

    async def start(self) -> None:
        """
        Register for the first time, then beat until stopped.

        @raise RegistryUnavailable: nobody answers there.
        @raise RegistryError: the registry refuses this node.
        """
        await self._register()
        self.started = self.connected = self._running = True
        self._schedule(self._interval + self._rng.uniform(0.0, FIRST_BEAT_SPREAD))

    async def stop(self, *, deregister: bool) -> None:
        """Stop beating; say goodbye when C{deregister} is set and the registry still listens."""
        self._running = False
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._beating is not None:
            self._beating.cancel()
        if not (deregister and self.connected):
            return
        try:
            await self._registry.deregister().addTimeout(GOODBYE_PATIENCE, self._clock)
        except Exception as error:
            log.warn("the registry was not told of the stop: {error}", error=error)

    def check_now(self) -> None:
        """The connection to the registry was just made again: it may have lost us."""
        if self._running and self._beating is None:
            if self._next is not None:
                self._next.cancel()
            self._beat()

    def renew(self) -> None:
        """The node is reached somewhere else from now on: tell the registry."""
        if self._running and self._beating is None:
            if self._next is not None:
                self._next.cancel()
            self._beat(self._renew)

    def _schedule(self, delay: float) -> None:
        if self._running:
            self._next = self._clock.callLater(delay, self._beat)

    def _beat(self, how: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        self._next = None
        self._beating = Deferred.fromCoroutine((how or self._beat_once)())
        self._beating.addErrback(self._unexpected)
        self._beating.addCallback(self._beaten)

    def _unexpected(self, failure: Any) -> None:
        if self._running:
            log.failure("heartbeat failed", failure)

    def _beaten(self, _: None) -> None:
        self._beating = None
        self._schedule(self._interval)

    async def _beat_once(self) -> None:
        try:
            answer = await self._registry.heartbeat()
        except RegistryError as error:
            # An answer, if not the right one: the registry no longer knows this node.
            log.warn("the registry refused the heartbeat: {error}", error=error.message)
            await self._return()
        except RegistryUnavailable as error:
            self._failures += 1
            if self.connected:
                log.warn("the registry is away: {error}", error=error.message)
            self.connected = False
            if self._failures >= FAILURES_BEFORE_REGISTERING:
                await self._return()
        else:
            if not self.connected:
                log.info("the registry is back")
            self.connected, self._failures = True, 0
            self._after_beat(answer)

    async def _renew(self) -> None:
        try:
            await self._register()
        except PilotError as error:
            log.warn("the registry was not told of the move: {error}", error=error.message)

    async def _return(self) -> None:
        delay = RETRY_FIRST
        while self._running:
            await deferLater(self._clock, delay * self._rng.uniform(1.0, 1.5))
            try:
                await self._register()
            except PilotError as error:
                log.debug("not registered again yet: {error}", error=error.message)
                delay = min(RETRY_MOST, delay * 2)
            else:
                log.info("registered again")
                self.connected, self._failures = True, 0
                self._after_return()
                return
