"""What one client of the control socket wants to be told: messages it claims, events it watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from pilot.address import Address
from pilot.daemon.ipc_limits import IpcLimits
from pilot.errors import InvalidArgument
from pilot.wire.eventstream import Event
from pilot.wire.ipc import MAX_FRAME, encode_frame
from pilot.wire.ipc_extensions import Claimed, Extension, Verdict, WatchedEvent

if TYPE_CHECKING:
    from pilot.node.node import PilotNode

#: Bytes of a frame around an event: the command and the publisher's address.
_EVENT_OVERHEAD = 7


def _nothing() -> None:
    pass


class Interests:
    """Of one client; each new list takes the place of the one before it."""

    def __init__(
        self,
        node: PilotNode,
        limits: IpcLimits,
        refused: Counter[str],
        push: Callable[[bytes], None],
        push_loosely: Callable[[bytes, str], None],
    ) -> None:
        """
        @param push: writes a frame to the client.
        @param push_loosely: the same with one that may be lost, and the name of what counts that.
        """
        self._node = node
        self._limits = limits
        self._refused = refused
        self._push = push
        self._push_loosely = push_loosely
        self._stop_claims: Callable[[], None] = _nothing
        self._stop_watching: Callable[[], None] = _nothing
        self._undecided: dict[int, tuple[Deferred[bool], int]] = {}
        self._undecided_bytes = 0
        self._last_number = 0
        self._closed = False

    def claim(self, prefixes: list[str]) -> None:
        """
        Have the client asked about these messages.

        @raise InvalidArgument: too many prefixes, or one that is none.
        """
        self._check(prefixes)
        claims, stop = self._node.parts.claims, _nothing
        if prefixes:
            stop = claims.claim(prefixes, self._ask, last=True)
        self._stop_claims()
        self._stop_claims = stop

    def watch(self, prefixes: list[str]) -> None:
        """
        Have the client told these events.

        @raise InvalidArgument: as above.
        """
        self._check(prefixes)
        taps, stop = self._node.parts.taps, _nothing
        if prefixes:
            stop = taps.watch(prefixes, self._tell)
        self._stop_watching()
        self._stop_watching = stop

    def decided(self, verdict: Verdict) -> None:
        """The client has thought about a message; one that is not known any more is no error."""
        undecided = self._forget(verdict.number)
        if undecided is not None:
            undecided.callback(verdict.taken)

    def close(self) -> None:
        """The client is gone: what it has not decided, it has not taken."""
        self._closed = True
        self._stop_claims()
        self._stop_watching()
        self._stop_claims = self._stop_watching = _nothing
        for number in list(self._undecided):
            self.decided(Verdict(number, False))

    def _check(self, prefixes: list[str]) -> None:
        if self._closed:
            raise InvalidArgument("the client has left")
        if len(prefixes) > self._limits.prefixes_per_client:
            raise InvalidArgument(f"too many prefixes (limit {self._limits.prefixes_per_client})")

    def _ask(
        self, source: Address, document: dict[str, Any], content: bytes
    ) -> bool | Deferred[bool]:
        limits = self._limits
        if (
            len(self._undecided) >= limits.undecided_per_client
            or self._undecided_bytes + len(content) > limits.undecided_bytes
        ):
            self._refused["ipc_claims"] += 1
            return False
        self._last_number = number = (self._last_number + 1) & 0xFFFFFFFF
        # Cancelled when the client has thought for too long.
        undecided: Deferred[bool] = Deferred(lambda _: self._too_late(number))
        self._undecided[number] = undecided, len(content)
        self._undecided_bytes += len(content)
        self._push(encode_frame(Extension.CLAIMED, Claimed(number, source, content).encode()))
        return undecided

    def _too_late(self, number: int) -> None:
        self._forget(number)

    def _forget(self, number: int) -> Deferred[bool] | None:
        undecided, size = self._undecided.pop(number, (None, 0))
        self._undecided_bytes -= size
        return undecided

    def _tell(self, source: Address, event: Event) -> None:
        if len(event.frame) + _EVENT_OVERHEAD > MAX_FRAME:
            self._refused["ipc_events"] += 1
            return
        frame = encode_frame(Extension.EVENT, WatchedEvent(source, event).encode())
        self._push_loosely(frame, "ipc_events")
