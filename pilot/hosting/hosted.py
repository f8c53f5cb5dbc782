"""The supervisor of one skill: runs it, and starts it anew when it fails."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.errors import PilotError
from pilot.hosting.guard import RAISED
from pilot.hosting.run import MisconfiguredSkill, SkillRun
from pilot.hosting.socket import SkillSocket
from pilot.iskill import ISkillReport
from pilot.wire.jsontext import dump

log = Logger()

#: Seconds before the first new start; doubled with each failure, up to the longest.
FIRST_DELAY, LONGEST_DELAY = 1.0, 300.0

#: Seconds of running after which earlier failures are forgiven.
HEALTHY_AFTER = 600.0

#: Bytes of a skill's statistics, as JSON; they go out with every info reply.
MAX_STATISTICS = 65536

#: What opens a skill's socket: it takes the skill's name and a factory, claims and opens the
#: socket, and returns what closes it.  It raises C{PilotError} when the socket cannot be had,
#: above all because the same skill runs already.
OpenSocket = Callable[[str, Any], Callable[[], Any]]


class SkillUnavailable(PilotError):
    """The skill does not run at the moment."""

    code = "unavailable"


class HostedSkill:
    """
    One skill, kept running on whatever node it is attached to.

    @ivar state: C{"stopped"}, C{"starting"}, C{"running"} or C{"failed"}.
    @ivar error: why it failed last, or None; cleared when it runs again.
    @ivar failures: how often it has failed.
    @ivar starts: how often it was started.
    @ivar on_misconfigured: called with the reason when the settings make no sense to the skill,
        which is then not tried again.
    """

    #: What every skill's socket answers, whether or not the skill runs.
    REPORT_CALL: ClassVar[str] = "skill.report"

    def __init__(
        self,
        skill: Any,
        given: Mapping[str, Any],
        home: Path,
        reactor: Any,
        open_socket: OpenSocket,
        *,
        wall: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        """
        @param skill: provides L{pilot.iskill.ISkill}.
        @param given: its settings, as written.
        @param home: its directory for what must last.
        @param wall: unix seconds.
        """
        self.skill = skill
        self.name: str = skill.name
        self.state = "stopped"
        self.error: str | None = None
        self.failures = 0
        self.starts = 0
        self.on_misconfigured: Callable[[str], None] = lambda reason: None
        self._given = given
        self._home = home
        self._reactor = reactor
        self._open_socket = open_socket
        self._wall = wall
        self._rng = rng or random.Random()
        self._since = wall()
        self._socket = SkillSocket(self, reactor)
        self._close_socket: Callable[[], Any] | None = None
        self._node: Any = None
        self._run: SkillRun | None = None
        self._running_since = 0.0
        self._streak = 0
        self._retry: IDelayedCall | None = None
        self._ending: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []

    # -- for the host --------------------------------------------------------------------------

    def open(self) -> None:
        """
        Claim the skill's socket, which is also the lock on the skill, and answer there.

        @raise PilotError: it cannot be had.
        """
        if self._close_socket is None:
            self._close_socket = self._open_socket(self.name, self._socket)

    def attach(self, node: Any) -> None:
        """Run on this node from now on."""
        self._node = node
        self._streak = 0
        self._begin()

    async def detach(self) -> None:
        """Stop, and stay so until the next L{attach}."""
        self._node = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        run, self._run = self._run, None
        if run is not None:
            await self._end(run)
        if self._ending is not None:
            await self._ending
        self._enter("stopped")

    async def close(self) -> None:
        """Stop for good, and give the socket back."""
        await self.detach()
        self._socket.close()
        close, self._close_socket = self._close_socket, None
        if close is not None:
            closing = close()
            if closing is not None:
                await closing

    @property
    def service(self) -> Any:
        """The skill's own service, as C{make_skill} made it; None while it does not run."""
        return None if self._run is None else self._run.service

    def report(self) -> dict[str, Any]:
        """@return: JSON-ready; what the page I{Write a skill} lists under I{What operators see}."""
        retry = self._retry
        return {
            **self._statistics(),
            "name": self.name,
            "state": self.state,
            "error": self.error,
            "failures": self.failures,
            "starts": self.starts,
            "since": _text(self._since),
            "retry_in": None if retry is None else round(retry.getTime() - self._now(), 1),
            "port": self.skill.port,
            "socket": self._socket.statistics(),
        }

    # -- for the socket ------------------------------------------------------------------------

    async def ready(self) -> Any:
        """
        Wait for a skill that is just starting.

        @return: its service.
        @raise SkillUnavailable: it does not run.
        """
        if self.state == "starting":
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting
        if self.state != "running" or self._run is None:
            reason = f": {self.error}" if self.error else ""
            raise SkillUnavailable(
                f"the {self.name} skill does not run at the moment{reason}",
                hint="it is tried again by and by; the daemon's log has the details"
                if self._retry is not None
                else None,
            )
        return self._run.service

    # -- a life --------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._retry = None
        self.starts += 1
        self._enter("starting")
        run = SkillRun(
            self.skill,
            self._given,
            self._home,
            self._node,
            self._reactor,
            self._rng,
            lambda failure: self._failed(failure, run),
        )
        self._run = run
        Deferred.fromCoroutine(self._start(run)).addErrback(self._failed, run)

    async def _start(self, run: SkillRun) -> None:
        self.open()
        await run.start()
        if run is self._run:
            self.error = None
            self._running_since = self._now()
            self._enter("running")
            log.info("skill {skill} runs", skill=self.name)

    def _failed(self, failure: Failure, run: SkillRun) -> None:
        if run is not self._run:
            # A second complaint, or the end of a run that was stopped in the middle of its start.
            return
        self._run = None
        self.failures += 1
        self.error = _reason(failure.value)
        if self.state == "running" and self._now() - self._running_since >= HEALTHY_AFTER:
            self._streak = 0
        self._enter("failed")
        hopeless = isinstance(failure.value, MisconfiguredSkill)
        if isinstance(failure.value, MisconfiguredSkill | PilotError):
            log.error("skill {skill} failed: {error}", skill=self.name, error=self.error)
        else:
            log.failure("skill {skill} failed", failure, skill=self.name)
        if hopeless:
            self.on_misconfigured(self.error)
        self._ending = Deferred.fromCoroutine(self._bury(run, hopeless))

    async def _bury(self, run: SkillRun, hopeless: bool) -> None:
        # Not at once: the skill's own code may still be on the stack.
        await deferLater(self._reactor, 0)
        await self._end(run)
        self._ending = None
        if self._node is not None and not hopeless:
            self._retry = self._reactor.callLater(self._delay(), self._begin)

    async def _end(self, run: SkillRun) -> None:
        self._socket.interrupt()
        await run.stop()

    def _delay(self) -> float:
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self._streak, 16))
        self._streak += 1
        return max(FIRST_DELAY, delay * self._rng.uniform(0.5, 1.0))

    def _enter(self, state: str) -> None:
        self.state = state
        self._since = self._wall()
        waiting, self._waiting = self._waiting, []
        if state == "starting":
            self._waiting = waiting
            return
        for one in waiting:
            one.callback(None)

    def _now(self) -> float:
        return float(self._reactor.seconds())

    def _statistics(self) -> dict[str, Any]:
        service = None if self._run is None else self._run.service
        if self.state != "running" or not ISkillReport.providedBy(service):
            return {}
        try:
            statistics = dict(service.statistics())
            size = len(dump(statistics))
        except RAISED as error:
            log.failure("the statistics of skill {skill}", skill=self.name)
            return {"statistics_error": _reason(error)}
        if size > MAX_STATISTICS:
            return {"statistics_error": f"{size} bytes, more than {MAX_STATISTICS}"}
        return statistics


def _reason(error: BaseException | None) -> str:
    """@return: one line for operators."""
    if isinstance(error, MisconfiguredSkill):
        return str(error)
    if isinstance(error, PilotError):
        return error.message
    text = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
