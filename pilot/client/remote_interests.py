"""Messages and events that a program of its own claims and watches, told by the daemon.

The daemon knows one list of prefixes of each kind, and is told the whole list whenever it changes.
Which listener a message or an event is for is found out here, as it is inside the daemon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.client.remote_link import RemoteLink
from pilot.errors import NotRunning
from pilot.node import claims, taps
from pilot.node.claims import Claims
from pilot.node.taps import Taps
from pilot.wire.ipc import encode_frame
from pilot.wire.ipc_extensions import Claimed, Extension, Verdict, WatchedEvent

log = Logger()

#: Asks the node to do something: an operation and its fields.
Ask = Callable[..., Coroutine[Any, Any, dict[str, Any]]]


class RemoteInterests:
    """
    Of one program.

    @ivar claims: its own claims, asked about what the daemon passes on.
    """

    def __init__(self, clock: IReactorTime, link: RemoteLink, ask: Ask) -> None:
        self.claims = Claims(clock)
        self._taps = Taps(lambda: None)
        self._link = link
        self._ask = ask
        self._prefixes: dict[str, Counter[str]] = {"claim": Counter(), "watch": Counter()}
        link.on_claimed = self._claimed
        link.on_event = self._event

    def claim(self, prefix: str, listener: claims.Listener) -> Callable[[], None]:
        """@return: ends it.  @raise pilot.errors.InvalidArgument: as L{Claims.claim}."""
        return self._also_there("claim", prefix, self.claims.claim((prefix,), listener))

    def watch(self, prefix: str, listener: taps.Listener) -> Callable[[], None]:
        """@return: ends it.  @raise pilot.errors.InvalidArgument: as L{Taps.watch}."""
        return self._also_there("watch", prefix, self._taps.watch((prefix,), listener))

    def _also_there(self, op: str, prefix: str, stop: Callable[[], None]) -> Callable[[], None]:
        prefixes = self._prefixes[op]
        prefixes[prefix] += 1
        if prefixes[prefix] == 1:
            self._tell(op)
        ended = False

        def stop_there_too() -> None:
            nonlocal ended
            if ended:
                return
            ended = True
            stop()
            prefixes[prefix] -= 1
            if not prefixes[prefix]:
                del prefixes[prefix]
                self._tell(op)

        return stop_there_too

    def _tell(self, op: str) -> None:
        if self._link.open:
            told = Deferred.fromCoroutine(self._ask(op, prefixes=sorted(self._prefixes[op])))
            told.addErrback(self._not_told, op)

    def _not_told(self, reason: Failure, op: str) -> None:
        if not reason.check(NotRunning):
            log.failure("the daemon does not let this program {op}", reason, op=op)

    # -- from the daemon -----------------------------------------------------------------------

    def _claimed(self, claimed: Claimed) -> None:
        offered = self.claims.offer(claimed.source, claimed.content)
        if offered is None:  # the claim has ended meanwhile
            self._decided(False, claimed.number)
        else:
            offered.addCallback(self._decided, claimed.number)

    def _decided(self, taken: bool, number: int) -> None:
        self._link.send((encode_frame(Extension.VERDICT, Verdict(number, taken).encode()),))

    def _event(self, watched: WatchedEvent) -> None:
        self._taps.tell(watched.source, [watched.event])
