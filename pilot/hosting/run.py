"""One life of a skill, from C{make_skill} to the last thing taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutine
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.errors import TimedOut
from pilot.hosting.guard import RAISED, Guard
from pilot.hosting.node import GuardedNode
from pilot.hosting.reactor import GuardedReactor
from pilot.hosting.settings import SkillSettings

log = Logger()

#: Seconds a skill has to start.
START_TIMEOUT = 60.0

#: Seconds a skill has to stop by itself; the daemon as a whole has eight.
STOP_TIMEOUT = 3.0


class MisconfiguredSkill(Exception):
    """The settings make no sense to the skill: trying again would not help."""


class SkillRun:
    """
    One life of a skill.

    @ivar service: what the skill made, once it did.
    """

    def __init__(
        self,
        skill: Any,
        given: Mapping[str, Any],
        home: Path,
        node: Any,
        reactor: Any,
        rng: Random,
        on_failure: Callable[[Failure], None],
    ) -> None:
        """@param on_failure: told what a timer or a listener of the skill has raised."""
        self.service: Any = None
        self._skill = skill
        self._given = given
        self._home = home
        self._reactor = reactor
        self._rng = rng
        self._started = False
        self._starting: Deferred[Any] | None = None
        self._guard = Guard(skill.name, on_failure)
        self._node = GuardedNode(node, self._guard)
        self._clock = GuardedReactor(reactor, self._guard)

    async def start(self) -> None:
        """
        Make the skill and start it.

        @raise MisconfiguredSkill: its settings make no sense.
        @raise TimedOut: it did not start in time.
        @raise Exception: whatever the skill raises.
        """
        try:
            settings = SkillSettings(
                self._skill.name,
                self._skill.options,
                self._given,
                self._home,
                self._clock,
                Random(self._rng.getrandbits(64)),
            )
            made = self._skill.make_skill(self._node, settings)
        except ValueError as error:
            raise MisconfiguredSkill(str(error)) from error
        self.service = service = IService(made)
        self._clock.watch_timers(service)
        self._started = True
        service.privilegedStartService()
        self._starting = starting = _deferred(service.startService())
        if starting is not None:
            starting.addTimeout(START_TIMEOUT, self._reactor, _too_slow)
            await starting
        self._starting = None

    async def stop(self) -> None:
        """Stop the skill, whatever state it is in, and take everything back."""
        if self._starting is not None:
            self._starting.cancel()
        if self._started:
            self._started = False
            try:
                stopping = _deferred(self.service.stopService())
                if stopping is not None:
                    stopping.addTimeout(STOP_TIMEOUT, self._reactor)
                    await stopping
            except RAISED:
                log.failure("stopping skill {skill}", skill=self._skill.name)
        await self._guard.close()


def _deferred(result: Any) -> Deferred[Any] | None:
    if iscoroutine(result):
        return Deferred.fromCoroutine(result)
    return result if isinstance(result, Deferred) else None


def _too_slow(_: object, seconds: float) -> None:
    raise TimedOut(f"not started after {seconds:g} s")
