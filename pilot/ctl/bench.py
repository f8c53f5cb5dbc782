"""How fast is it: C{bench} sends data through a node's echo service and checks what comes back."""

from __future__ import annotations

import os
import time

from pilot.address import PORT_ECHO
from pilot.client.blocking import DaemonError, Deadline
from pilot.ctl.console import Result
from pilot.ctl.streams import unreachable
from pilot.ctl.targets import resolve
from pilot.ctl.values import duration_text, measured_text, size_text
from pilot.errors import ConnectionFailed, InvalidArgument, TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.address import Address
    from pilot.client.blocking import DaemonClient, Stream
    from pilot.ctl.call import Call

DEFAULT_TIMEOUT = 120.0
"""Seconds to wait after everything was sent, and seconds without any progress before that."""

LARGEST_SIZE = 1 << 20
"""MiB of one run: a terabyte."""

FRAME = 1 << 18
"""Bytes handed to the daemon at once."""

AHEAD = 1 << 20
"""Bytes that wait for the daemon, so that it never waits for us."""

REDRAW = 0.1
"""Seconds between two looks at the progress."""

_MIB = 1 << 20
_PATTERN = _MIB + 1  # bytes until the data repeats; no multiple of any segment or frame


def bench(call: Call) -> Result:
    """Send, receive, compare, and tell how long it took."""
    with call.connect() as client:
        target = resolve(call, client, call.words[0])
        size = _size(call.word(1))
        limit = call.duration("timeout", DEFAULT_TIMEOUT)
        if not call.console.json:
            call.console.line(f"BENCH {target} — sending {size_text(size)} via echo port")
        deadline = Deadline(limit)
        try:
            client.hello(timeout=deadline.remaining)
            stream = client.dial(target, PORT_ECHO, timeout=deadline.remaining)
        except DaemonError as error:
            raise unreachable(target, "echo port", error) from None
        except TimedOut:
            raise TimedOut(
                f"cannot connect to {target} echo port within {duration_text(limit)}",
                hint=f"check that {target} is reachable: pilotctl ping {target}",
            ) from None
        run = Run(call, client, stream, size, limit)
        run.go()
        stream.close()
    return run.result(target)


class Run:
    """One measurement.  Reading and writing alternate, so neither side can block the other."""

    def __init__(
        self, call: Call, client: DaemonClient, stream: Stream, size: int, limit: float
    ) -> None:
        self._console = call.console
        self._client = client
        self._stream = stream
        self._size = size
        self._limit = limit
        pattern = os.urandom(_PATTERN)
        # Twice, and a frame's length more, so that any piece from any place is one slice.
        self._pattern = pattern + pattern[:FRAME]
        self._view = memoryview(self._pattern)
        self._queued = 0
        self._received = 0
        self._sent_after: float | None = None
        self._took = 0.0
        self._trouble = ""
        self._show = call.console.shows_progress
        self._drawn = 0.0

    def go(self) -> None:
        """Do it."""
        started = time.monotonic()
        patience = Deadline(self._limit)
        try:
            while self._received < self._size:
                self._fill()
                before = self._received, self._client.unsent
                self._client.turn(min(patience.remaining or 0.0, REDRAW))
                self._check()
                now = time.monotonic()
                if self._sent_after is None:
                    if self._queued == self._size and not self._client.unsent:
                        self._sent_after = now - started
                        patience = Deadline(self._limit)
                    elif before != (self._received, self._client.unsent):
                        patience = Deadline(self._limit)
                if not self._trouble and self._received < self._size:
                    if self._stream.readable:
                        self._stream.receive()  # which raises, if it broke
                        self._trouble = "the peer closed the stream"
                    elif patience.over():
                        self._trouble = "receive timed out"
                if self._trouble:
                    break
                self._draw(now - started)
        except ConnectionFailed as error:
            self._trouble = error.message
        self._took = time.monotonic() - started
        if self._drawn:
            self._console.redraw("")

    def result(self, target: Address) -> Result:
        """@return: the figures; the exit status says whether everything came back unharmed."""
        sent = self._queued - self._client.unsent
        sending = self._took if self._sent_after is None else self._sent_after
        data: dict[str, Any] = {
            "target": str(target),
            "sent_bytes": sent,
            "recv_bytes": self._received,
            "send_duration_ms": round(sending * 1000),
            "total_duration_ms": round(self._took * 1000),
            "send_mbps": _rate(sent, sending),
            "total_mbps": _rate(self._received, self._took),
        }
        if self._trouble:
            data["error"] = self._trouble
        lines = [
            f"  Sent:     {size_text(sent)} in {measured_text(sending)} "
            f"({data['send_mbps']:.1f} MB/s)",
            f"  Echoed:   {size_text(self._received)} in {measured_text(self._took)} "
            f"({data['total_mbps']:.1f} MB/s round-trip)",
        ]
        if self._trouble:
            lines.append(
                f"  warning: {self._trouble} "
                f"(got {size_text(self._received)} of {size_text(self._size)})"
            )
        return Result(data, "\n".join(lines), status=1 if self._trouble else 0)

    def _fill(self) -> None:
        while self._queued < self._size and self._client.unsent < AHEAD and self._stream.writable:
            place = self._queued % _PATTERN
            length = min(FRAME, self._size - self._queued)
            self._stream.queue(self._view[place : place + length])
            self._queued += length

    def _check(self) -> None:
        for piece in self._stream.take():
            place, length = self._received % _PATTERN, len(piece)
            if length > self._size - self._received:
                self._trouble = "more came back than was sent"
            elif piece != self._pattern[place : place + length]:
                self._trouble = f"wrong data came back after {self._received} bytes"
            if self._trouble:
                return
            self._received += length

    def _draw(self, elapsed: float) -> None:
        if self._show and elapsed - self._drawn >= REDRAW:
            self._drawn = elapsed
            part = 100 * self._received // self._size
            self._console.redraw(
                f"  {part:3d} %  {size_text(self._received)} of {size_text(self._size)} back, "
                f"{_rate(self._received, elapsed):.1f} MB/s"
            )


def _size(text: str | None) -> int:
    if text is None:
        return _MIB
    try:
        size = float(text) if set(text) <= set("0123456789.+-eE") else None
    except ValueError:
        size = None
    if size is None:
        raise InvalidArgument(f'invalid size: "{text}" is not a number of MB')
    if size > LARGEST_SIZE:
        raise InvalidArgument(f"invalid size: more than {LARGEST_SIZE} MB")
    return max(0, int(size * _MIB))


def _rate(size: int, seconds: float) -> float:
    return round(size / _MIB / seconds, 3) if seconds > 0 else 0.0
