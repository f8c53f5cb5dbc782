"""Mail to other nodes: C{send-message} and C{send-file}.

Both succeed when the receiver has confirmed that what was sent is stored, and only then.
"""

from __future__ import annotations

import os
import time

from pilot.address import PORT_DATA_EXCHANGE
from pilot.client.blocking import DaemonError, Deadline
from pilot.ctl.console import Result, as_bytes
from pilot.ctl.streams import unreachable
from pilot.ctl.targets import resolve
from pilot.ctl.values import duration_text, size_text
from pilot.errors import (
    ConnectionFailed,
    InvalidArgument,
    NotFound,
    PilotError,
    TimedOut,
    WireError,
)
from pilot.wire.dataexchange import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    MAX_REPLY,
    Body,
    FrameReader,
    FrameType,
    Reply,
    encode_confirmation,
    encode_file_head,
    encode_head,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from pilot.address import Address
    from pilot.client.blocking import DaemonClient
    from pilot.ctl.call import Call

MESSAGE_PATIENCE = 60.0
"""Seconds without any progress after which a message counts as lost; the dial is one step."""

FILE_PATIENCE = 300.0
"""The same of a file: its last megabytes, and the receiver's disk, take their time unseen."""

REDRAW = 0.1
"""Seconds between two looks at the progress."""

_PIECE = 1 << 18  # bytes handed to the daemon at once
_AHEAD = 1 << 20  # bytes that wait for the daemon, so that it never waits for us
_BAR = 30  # characters
_UNCERTAIN = "it may have been stored or not"
_CUT_OFF = "not all of it was sent, so it was not stored"
_TYPES = {"text": FrameType.TEXT, "json": FrameType.JSON, "binary": FrameType.BINARY}


def send_message(call: Call) -> Result:
    """Send one message into a node's inbox."""
    with call.connect() as client:
        target = resolve(call, client, call.words[0])
        content = as_bytes(call.flags.get("data", ""))
        if not content:
            raise InvalidArgument("--data is required")
        name = call.flags.get("type", "text")
        if name not in _TYPES:
            raise InvalidArgument(f'unknown type "{name}" (use text, json, or binary)')
        kind = _TYPES[name]
        head = encode_head(kind, len(content))
        delivery = Delivery(client, target, MESSAGE_PATIENCE)
        delivery.send(head + content)
        ack = delivery.confirmation(kind, len(content))
        return Result({"target": str(target), "type": name, "bytes": len(content), "ack": ack})


def send_file(call: Call) -> Result:
    """Send one file to a node."""
    with call.connect() as client:
        try:
            target = resolve(call, client, call.words[0])
        except NotFound as error:
            raise InvalidArgument(error.message) from None  # the code it has here, and only here
        path = call.words[1]
        with _opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            name = os.path.basename(path)
            try:
                head = encode_file_head(os.fsencode(name), size)
            except WireError as error:
                hint = "receivers refuse such names; send a copy that is called otherwise"
                raise InvalidArgument(error.message, hint=hint) from None
            delivery = Delivery(client, target, FILE_PATIENCE)
            with Progress(call, size) as progress:
                delivery.stream(head, file, size, progress)
                ack = delivery.confirmation(FrameType.FILE, size)
        return Result({"filename": name, "bytes": size, "destination": str(target), "ack": ack})


class Delivery:
    """
    One frame on a stream of its own, and the answer to it.

    @param patience: seconds without any progress after which it is given up.
    @raise ConnectionFailed: the stream cannot be opened.
    @raise TimedOut: not in time.
    """

    def __init__(self, client: DaemonClient, target: Address, patience: float) -> None:
        self._client = client
        self._target = target
        self._patience = patience
        self._is_large = False  # more than every receiver takes
        self._left = 0  # bytes that were not even handed to the daemon's socket
        where = "(data exchange port 1001)"
        deadline = Deadline(patience)
        try:
            client.hello(timeout=deadline.remaining)
            self._stream = client.dial(target, PORT_DATA_EXCHANGE, timeout=deadline.remaining)
        except DaemonError as error:
            raise unreachable(target, where, error) from None
        except TimedOut:
            raise TimedOut(
                f"cannot connect to {target} {where} within {duration_text(patience)}",
                hint=f"check that {target} is reachable: pilotctl ping {target}",
            ) from None

    def send(self, frame: bytes) -> None:
        """Send a whole frame.  It is one piece, so that it leaves as one."""
        self._stream.queue(frame)
        self._drain(0)

    def stream(self, head: bytes, file: BinaryIO, size: int, progress: Progress) -> None:
        """
        Send a file, no faster than the daemon takes it.  An answer that comes early ends it.

        @raise PilotError: the file cannot be read, or has become shorter.
        """
        self._is_large = len(head) - HEADER_SIZE + size > MAX_PAYLOAD
        self._left = size
        if not size:
            self._stream.queue(head)
        while self._left and not self._stream.readable:
            try:
                piece = file.read(min(_PIECE, self._left))
            except OSError as error:
                raise PilotError(f"read file: {file.name}: {error.strerror}") from None
            if not piece:
                # The receiver sees a frame cut off, and throws it away.
                raise PilotError(f"read file: {file.name} became shorter while it was sent")
            self._stream.queue(head + piece if head else piece)
            head = b""
            self._left -= len(piece)
            self._drain(_AHEAD, progress)
        self._drain(0, progress)

    def confirmation(self, kind: int, size: int) -> str:
        """
        Wait for the receiver's answer.

        @return: the confirmation of a frame of this type with so much content.
        @raise ConnectionFailed: it refused, or ended the connection without a word.
        @raise TimedOut: it said nothing.
        """
        reply = self._reply()
        self._stream.close()
        if not reply.ok:
            raise ConnectionFailed(f"{self._target} did not store it: {reply.reason}")
        if reply.text.encode() != encode_confirmation(kind, size)[HEADER_SIZE:]:
            raise ConnectionFailed(f"{self._target} confirmed something else: {reply.text}")
        return reply.text

    def _reply(self) -> Reply:
        reader, content = FrameReader(message_limit=MAX_REPLY), b""
        while True:
            try:
                piece = self._stream.receive(self._patience)
                if not piece:
                    raise ConnectionFailed("the receiver ended the connection")
                reader.feed(piece)
                while (item := reader.next()) is not None:
                    if isinstance(item, Body):
                        content += item.data
                        if item.last:
                            return Reply.parse(content)
            except TimedOut:
                limit = duration_text(self._patience)
                raise TimedOut(
                    f"{self._target} did not confirm within {limit}", hint=self._outlook
                ) from None
            except (ConnectionFailed, WireError) as error:
                raise ConnectionFailed(
                    f"{self._target} did not confirm: {error.message}", hint=self._outlook
                ) from None

    @property
    def _outlook(self) -> str:
        if not (self._left or self._client.unsent):
            return _UNCERTAIN
        return _CUT_OFF + ("; reference nodes take files up to 16 MB" if self._is_large else "")

    def _drain(self, most: int, progress: Progress | None = None) -> None:
        """Wait until the daemon has taken all but C{most} bytes, or the receiver says something."""
        client, stream = self._client, self._stream
        deadline, before = Deadline(self._patience), client.unsent
        while client.unsent > most and not stream.readable:
            client.turn(REDRAW)
            if client.unsent < before:
                deadline, before = Deadline(self._patience), client.unsent
            elif deadline.over():
                raise TimedOut(f"{self._target} takes nothing any more", hint=_CUT_OFF)
            if progress is not None:
                progress.draw(self._left + client.unsent)


class Progress:
    """
    A line on the terminal of whoever waits, gone in the end.

    @param size: bytes in all.
    """

    def __init__(self, call: Call, size: int) -> None:
        self._console = call.console
        self._show = call.console.shows_progress
        self._size = size
        self._began = self._drawn = time.monotonic()
        self._dirty = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *details: object) -> None:
        if self._dirty:
            self._console.redraw("")

    def draw(self, left: int) -> None:
        """Show it, now and then.  @param left: bytes that the daemon has not taken yet."""
        now = time.monotonic()
        if not self._show or (now - self._drawn < REDRAW and left):
            return
        self._drawn, self._dirty = now, True
        done = max(0, self._size - left)
        if not left:
            self._console.redraw(f"  {size_text(done)} sent, waiting for the receiver to store it")
            return
        bar = "#" * (_BAR * done // self._size)
        rate = size_text(done / (now - self._began))
        self._console.redraw(
            f"  [{bar:<{_BAR}}] {100 * done // self._size:3d} %  "
            f"{size_text(done)} of {size_text(self._size)}, {rate}/s"
        )


def _opened(path: str) -> BinaryIO:
    """@raise PilotError: there is no such file, or none that can be sent."""
    import stat

    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise PilotError(f"read file: read {path}: is a directory")
        if not stat.S_ISREG(mode):
            raise PilotError(f"read file: {path} is not a plain file")
        return open(path, "rb", buffering=0)
    except FileNotFoundError:
        raise NotFound(f"file not found: {path}") from None
    except PermissionError:
        raise PilotError(f"permission denied: {path}") from None
    except (OSError, ValueError) as error:
        raise PilotError(f"read file: {path}: {error}") from None
