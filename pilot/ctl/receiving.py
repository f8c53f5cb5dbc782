"""Waiting for others: C{recv} for streams, C{listen} for datagrams."""

from __future__ import annotations

from pilot.client.blocking import DaemonError, Deadline
from pilot.ctl.console import Result, as_text
from pilot.ctl.values import parse_port, printable
from pilot.errors import ConnectionFailed, TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.client.blocking import DaemonClient, Listener, Stream
    from pilot.ctl.call import Call

DEFAULT_TIMEOUT = 30.0
"""Seconds that C{recv} waits for all of its messages."""

ANSWER_WITHIN = 5.0
"""Seconds that the daemon gets to answer, however soon the time is over."""

QUIET = 0.1
"""Seconds without a byte after which a message counts as complete though its stream stays open."""

LONGEST_SHORT_PIECE = 1000
"""Bytes.  A first piece no longer than this is the whole message: every known sender fills a
segment before it starts the next, and none has shorter ones."""

LARGEST_MESSAGE = 64 * 1024 * 1024
"""Bytes of one message that C{recv} takes."""


def recv(call: Call) -> Result:
    """Accept streams, and show what each brings; who stays silent keeps nobody else waiting."""
    port = parse_port(call.words[0])
    count = call.integer("count", 1)
    limit = call.duration("timeout", DEFAULT_TIMEOUT)
    with call.connect() as client:
        client.hello(timeout=max(limit, ANSWER_WITHIN))
        try:
            listener = client.bind(port)
        except DaemonError as error:
            raise ConnectionFailed(f"listen: bind: {error.message}") from None
        receiver = Receiver(call, client, listener, port)
        return receiver.run(count, Deadline(limit))


class Receiver:
    """The work of C{recv}: several streams at once, messages in the order they are complete."""

    def __init__(self, call: Call, client: DaemonClient, listener: Listener, port: int) -> None:
        self._call = call
        self._client = client
        self._listener = listener
        self._port = port
        self._open: list[Incoming] = []
        self._messages: list[dict[str, Any]] = []

    def run(self, count: int, deadline: Deadline) -> Result:
        """Collect C{count} messages, or what there is when the time is over."""
        timeout = False
        wait: float | None = 0.0  # a peer may have come with the answer to Bind
        while len(self._messages) < count and not timeout:
            timeout = deadline.over()
            self._client.turn(0.0 if timeout else wait)
            self._collect(count, last=timeout)
            wait = self._patience(deadline)
        if timeout:
            for incoming in self._open[: max(0, count - len(self._messages))]:
                self._report(incoming)
            self._call.console.progress("timeout")
        return Result({"messages": self._messages, "timeout": timeout}, "")

    def _collect(self, count: int, *, last: bool) -> None:
        while (stream := self._listener.poll()) is not None:
            self._open.append(Incoming(stream))
        for incoming in list(self._open):
            if len(self._messages) < count and incoming.complete(now=last):
                self._open.remove(incoming)
                self._report(incoming)

    def _patience(self, deadline: Deadline) -> float | None:
        """Seconds until something is due though nothing comes."""
        dues = [each.quiet.remaining for each in self._open if each.quiet is not None]
        dues.append(deadline.remaining)
        return min((due for due in dues if due is not None), default=None)

    def _report(self, incoming: Incoming) -> None:
        incoming.stream.close()
        message: dict[str, Any] = {"seq": len(self._messages), "port": self._port}
        if incoming.error is not None:
            message["error"] = incoming.error
            self._call.console.progress(f"error: {printable(incoming.error)}")
        else:
            data = bytes(incoming.data)
            if self._call.console.json:
                message["data"] = as_text(data)
            else:
                self._call.console.payload(data, end=b"\n")
            message["bytes"] = len(data)
        self._messages.append(message)


class Incoming:
    """
    One accepted stream and what has come over it.

    @ivar stream: it.
    @ivar data: what came.
    @ivar error: why nothing did.
    @ivar quiet: when the message counts as complete.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.data = bytearray()
        self.error: str | None = "nothing came"
        self.quiet: Deadline | None = None

    def complete(self, *, now: bool) -> bool:
        """
        Take what has come.

        @param now: whether this is the last look.
        @return: whether that is the message.
        """
        first = not self.data
        came = ended = False
        while self.stream.readable and not ended:
            try:
                piece = self.stream.receive(0.0)
            except ConnectionFailed as error:
                self.error = error.message
                return True
            came, ended = True, not piece
            self.data += piece
        if self.data:
            self.error = None
        elif ended:
            self.error = "EOF"
        if ended or len(self.data) >= LARGEST_MESSAGE:
            return True
        if first and 0 < len(self.data) <= LONGEST_SHORT_PIECE:
            return True
        if came:
            self.quiet = Deadline(QUIET)
        return bool(self.data) and (now or (self.quiet is not None and self.quiet.over()))


def listen(call: Call) -> Result:
    """Show the datagrams that come to one port."""
    port = parse_port(call.words[0])
    count = call.integer("count", 0)
    limit = call.duration("timeout", 0.0)
    console = call.console
    messages: list[dict[str, Any]] = []
    timeout = False
    with call.connect() as client:
        console.progress(f"listening on port {port} — waiting for datagrams...")
        deadline = Deadline(limit if limit > 0 else None)
        while count <= 0 or len(messages) < count:
            try:
                datagram = client.receive_datagram(deadline.remaining)
            except TimedOut:
                timeout = True
                console.progress("timeout")
                break
            if datagram.destination_port != port:
                continue
            message = {
                "src_addr": str(datagram.source),
                "src_port": datagram.source_port,
                "data": as_text(datagram.data),
                "bytes": len(datagram.data),
            }
            if count > 0:
                messages.append(message)
            if not console.json:
                source = f"[{datagram.source}:{datagram.source_port}] "
                console.payload(source.encode() + datagram.data, end=b"\n")
            elif count <= 0:
                console.json_line(message)
    if count <= 0:
        return Result(None, "")
    return Result({"messages": messages, "timeout": timeout}, "")
