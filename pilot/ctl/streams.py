"""Streams from the command line: C{connect} and C{send}."""

from __future__ import annotations

import os
import sys
import time

from pilot.address import PORT_ECHO, PORT_STDIO
from pilot.client.blocking import DaemonError, Deadline
from pilot.ctl.console import Result, as_bytes, as_text
from pilot.ctl.targets import resolve
from pilot.ctl.values import duration_text, parse_port
from pilot.errors import ConnectionFailed, InvalidArgument, TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot.address import Address
    from pilot.client.blocking import DaemonClient
    from pilot.ctl.call import Call

DEFAULT_TIMEOUT = 30.0
"""Seconds for a whole exchange, the dial included."""

QUIET_LEAST, QUIET_MOST = 0.1, 2.0
"""Seconds without a byte after which an answer counts as complete though the peer keeps the stream
open; in between, four times what the dial took."""

_PIECE = 1 << 16  # bytes of standard input read at once
_AHEAD = 1 << 20  # bytes the daemon may owe us before we stop reading standard input


def send(call: Call) -> Result:
    """Send one text and show the answer."""
    with call.connect() as client:
        target = resolve(call, client, call.words[0])
        port = parse_port(call.words[1])
        message = as_bytes(call.flags.get("data", ""))
        if not message:
            raise InvalidArgument("--data is required")
        limit = call.duration("timeout", DEFAULT_TIMEOUT)
        exchange = Exchange(call, client, target, port, limit)
        exchange.send(message)
        return exchange.result(message, f"check peer: pilotctl ping {target}")


def connect(call: Call) -> Result:
    """Send one text, or whatever comes from standard input, and show the answer."""
    with call.connect() as client:
        target = resolve(call, client, call.words[0])
        port = parse_port(call.words[1]) if len(call.words) > 1 else PORT_STDIO
        limit = call.duration("timeout", DEFAULT_TIMEOUT)
        message = as_bytes(call.flags.get("message", ""))
        advice = "check if the target is listening on that port"
        if message:
            exchange = Exchange(call, client, target, port, limit)
            exchange.send(message)
            return exchange.result(message, advice)
        first = _first_input()
        exchange = Exchange(call, client, target, port, limit)
        sent = exchange.pipe(first)
        return exchange.result(sent, advice)


class Exchange:
    """
    One stream: dialled, written to, and read until the answer is there.

    The answer is complete when the peer ends the stream; when the echo service has returned every
    byte; or when something came and then nothing for a while, because many a peer keeps the stream
    open for the next request.

    @raise ConnectionFailed: it cannot be opened.
    @raise TimedOut: not in time.
    """

    def __init__(
        self, call: Call, client: DaemonClient, target: Address, port: int, limit: float
    ) -> None:
        self._call = call
        self._client = client
        self._target, self._port = target, port
        self._limit = limit
        self._deadline = Deadline(limit)
        self._piped = False
        self._sent = 0
        self._received = 0
        self._answer: list[bytes] = []
        try:
            client.hello(timeout=self._deadline.remaining)
            started = time.monotonic()
            self._stream = client.dial(target, port, timeout=self._deadline.remaining)
        except DaemonError as error:
            raise unreachable(target, f"port {port}", error) from None
        except TimedOut:
            raise TimedOut(
                f"cannot connect to {target} port {port} within {duration_text(limit)}",
                hint=_reachable(target),
            ) from None
        took = time.monotonic() - started
        self._quiet = min(QUIET_MOST, max(QUIET_LEAST, 4 * took))

    def send(self, message: bytes) -> None:
        """Send all there is to send."""
        self._sent = len(message)
        self._stream.send(message, self._deadline.remaining)

    def pipe(self, first: bytes) -> bytes:
        """
        Send standard input to its end, byte for byte; show what comes meanwhile.

        The time limit starts again at the end of the input, which may take as long as it likes.

        @param first: the first piece of it.
        @return: what was sent, in JSON mode; else nothing, for it may be much.
        """
        self._piped = True
        kept, descriptor = [], sys.stdin.fileno()
        piece = first
        while piece and self._stream.writable:
            self._sent += len(piece)
            if self._call.console.json:
                kept.append(piece)
            self._stream.queue(piece)
            ready = False
            while not ready and self._stream.writable:
                reads = self._client.unsent < _AHEAD
                ready = self._client.turn(None, descriptor if reads else None)
                self._take()
            if ready:
                piece = os.read(descriptor, _PIECE)
        if self._client.unsent and not self._stream.writable:
            raise ConnectionFailed("write failed: the peer closed the stream")
        self._deadline = Deadline(self._limit)
        return b"".join(kept)

    def result(self, sent: bytes, advice: str) -> Result:
        """
        Wait for the answer.

        @param sent: what to report as sent.
        @param advice: what else to try when nothing comes.
        """
        while self._receive(advice):
            pass
        self._stream.close()
        console = self._call.console
        data = {
            "target": str(self._target),
            "port": self._port,
            "sent": as_text(sent),
            "response": as_text(b"".join(self._answer)),
        }
        if console.json:
            return Result(data)
        if not self._received:
            console.complain(f"sent {self._sent} bytes (no response)")
        elif not self._piped:
            console.payload(b"".join(self._answer), end=b"\n")
        elif console.on_terminal:
            console.data(b"\n")
        return Result(data, "")

    def _receive(self, advice: str) -> bool:
        """Take the next piece of the answer.  @return: whether there may be more."""
        self._take()
        echo = self._port == PORT_ECHO
        if echo and self._received >= self._sent:
            return False
        remaining = self._deadline.remaining
        if self._received and not echo and remaining is not None:
            remaining = min(remaining, self._quiet)
        try:
            piece = self._stream.receive(remaining)
        except TimedOut:
            if self._received and not echo:
                return False
            limit = duration_text(self._limit)
            told = f"only {self._received} of {self._sent} bytes came back"
            raise TimedOut(
                f"{told} within {limit}" if self._received else f"no response within {limit}",
                hint=f"increase with --timeout, or {advice}",
            ) from None
        self._show(piece)
        return bool(piece)

    def _take(self) -> None:
        for piece in self._stream.take():
            self._show(piece)

    def _show(self, piece: bytes) -> None:
        self._received += len(piece)
        if self._call.console.json or not self._piped:
            self._answer.append(piece)
        else:
            self._call.console.payload(piece)


def unreachable(target: Address, where: str, error: DaemonError) -> ConnectionFailed:
    """@return: the error of a dial that the daemon says has failed."""
    message = f"cannot connect to {target} {where}: {error.text}"
    return ConnectionFailed(message, hint=_reachable(target))


def _reachable(target: Address) -> str:
    return f"check that {target} is reachable: pilotctl ping {target}"


def _first_input() -> bytes:
    """
    @return: the beginning of standard input.
    @raise InvalidArgument: it is a terminal or a device, or empty.
    """
    import stat

    try:
        descriptor = sys.stdin.fileno()
        interactive = stat.S_ISCHR(os.fstat(descriptor).st_mode)
    except (AttributeError, OSError, ValueError):  # there is none at all
        interactive = True
    if interactive:
        raise InvalidArgument(
            "--message is required (interactive mode not supported)",
            hint="use --message to send a single message, or pipe data via stdin",
        )
    first = os.read(descriptor, _PIECE)
    if not first:
        raise InvalidArgument("no data on stdin — use --message or pipe data")
    return first
