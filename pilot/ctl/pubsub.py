"""Events from the command line: C{publish} and C{subscribe}."""

from __future__ import annotations

import os
import stat
import sys

from pilot.address import PORT_EVENT_STREAM
from pilot.client.blocking import REQUEST_TIMEOUT, DaemonError, Deadline, Disconnected
from pilot.ctl.console import Result, as_bytes
from pilot.ctl.targets import resolve
from pilot.ctl.values import printable
from pilot.errors import ConnectionFailed, InvalidArgument, TimedOut, WireError
from pilot.wire.eventfilter import (
    DROPPED,
    Interest,
    decode_dropped,
    encode_interest,
    is_pattern,
)
from pilot.wire.eventstream import WILDCARD, Event, EventDecoder, encode_event, event_text
from pilot.wire.framing import FramingError
from pilot.wire.ipcframes import encode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.address import Address
    from pilot.client.blocking import DaemonClient, Stream
    from pilot.ctl.call import Call
    from pilot.ctl.console import Console

_WHERE = f"(event stream port {PORT_EVENT_STREAM})"


def publish(call: Call) -> Result:
    """Hand one event to a node's broker.  Whether anybody gets it, nothing tells."""
    with call.connect() as client:
        target = resolve(call, client, call.words[0])
        topic, data = as_bytes(call.words[1]), as_bytes(call.flags.get("data", ""))
        if not data:
            raise InvalidArgument("--data is required")
        # A broker takes the first event of a connection for a subscription.
        subscription, event = encode_event(topic), encode_event(topic, data)
        try:
            stream = client.dial(target, PORT_EVENT_STREAM)
        except DaemonError as error:
            raise _unreachable(f"cannot connect to {target}", target, error) from None
        stream.queue(subscription)
        stream.send(event)
        stream.close()
    return Result({"target": str(target), "topic": event_text(topic), "bytes": len(data)})


def subscribe(call: Call) -> Result:
    """Show the events of a topic, so many or until something ends it."""
    topic = call.words[1]
    with call.connect() as client:
        target = resolve(call, client, call.words[0])
        count = call.integer("count", 0)
        limit = call.duration("timeout", 0.0)
        deadline = Deadline(limit if limit > 0 else None)
        feed = Feed(client, target, as_bytes(topic), deadline)
        call.console.progress(f'subscribed to "{topic}" on {target} — waiting for events...')
        return Viewer(call.console, feed, count).run(deadline)


class Feed:
    """
    One subscription.

    A topic that ends in C{.*} is no wildcard to a broker: this subscribes to everything and keeps
    what has the prefix.

    @ivar ended: why nothing more will come, or C{None}.
    @ivar dropped: events that the broker says it has dropped because we were slow.
    @raise ConnectionFailed: it cannot be made.
    """

    def __init__(
        self, client: DaemonClient, target: Address, topic: bytes, deadline: Deadline
    ) -> None:
        self._client = client
        self._interest = Interest([topic]) if is_pattern(topic) else None
        self._decoder = EventDecoder()
        self.ended: str | None = None
        self.dropped = 0
        try:
            if self._interest is None:
                subscription = encode_event(topic)
            else:
                subscription = encode_event(WILDCARD, encode_interest(self._interest))
        except WireError as error:
            raise ConnectionFailed(f"recv: {error.message}") from None
        self._stream = _dial(client, target, deadline)
        self._stream.queue(subscription)

    def wait(self, seconds: float | None, output: int | None) -> None:
        """
        Wait until something has come.

        @param seconds: at most; C{None}: for ever.
        @param output: a descriptor to watch as well; when its reader has left, so do we.
        @raise BrokenPipeError: nobody reads any more what we write.
        """
        try:
            if self._client.turn(0.0 if self._stream.readable else seconds, output):
                raise BrokenPipeError
        except Disconnected as error:
            self.ended = error.message

    def take(self) -> list[Event]:
        """@return: the events that have come and match.  The end is told after the last one."""
        stream = self._stream
        pieces = stream.take()
        events: list[Event] = []
        if pieces:
            try:
                events = self._decoder.feed(b"".join(pieces))
            except FramingError as error:
                events = error.frames
                self.ended = error.message
        elif stream.readable and self.ended is None:
            self.ended = _reason(stream)
        if self._interest is None:
            return events
        return [event for event in events if self._wanted(event, self._interest)]

    def close(self) -> None:
        """End the subscription."""
        if self.ended is None:
            self._stream.close()

    def _wanted(self, event: Event, interest: Interest) -> bool:
        if interest.wants(event.topic):
            return True
        if event.topic == DROPPED:
            notice = decode_dropped(event.payload)
            if notice is not None:
                self.dropped += notice.events
        return False


class Viewer:
    """
    Shows events: to a person as lines, to a program as one object, or as one a line.

    @param count: show so many; zero and less: until something ends it.
    """

    def __init__(self, console: Console, feed: Feed, count: int) -> None:
        self._console = console
        self._feed = feed
        self._left = count if count > 0 else None
        self._for_people = console.on_terminal
        self._collected: list[dict[str, Any]] = []
        self._told_dropped = 0

    def run(self, deadline: Deadline) -> Result:
        """Show what comes until it is enough, or the time is over, or the stream is."""
        feed, output = self._feed, _piped_output()
        timeout = False
        while self._left != 0:
            over = deadline.over()
            feed.wait(0.0 if over else deadline.remaining, output)
            self._show(feed.take())
            if self._left == 0:
                break
            if feed.ended is not None:
                return self._cut_short(feed.ended)
            if over:
                timeout = True
                self._console.progress("timeout")
                break
        feed.close()
        return self._result(timeout)

    def _show(self, events: list[Event]) -> None:
        if self._left is not None:
            del events[self._left :]
            self._left -= len(events)
        if self._for_people:
            lines = [_line(event) for event in events]
        elif self._left is not None:
            self._collected += map(_facts, events)
            lines = []
        else:
            lines = [encode_json(_facts(event)) + b"\n" for event in events]
        if lines:  # those that came together leave together, and at once
            self._console.data(b"".join(lines))
        missed = self._feed.dropped - self._told_dropped
        if missed:
            self._told_dropped += missed
            self._console.progress(f"missed {missed} events: too slow for the publishers")

    def _cut_short(self, reason: str) -> Result:
        """The stream ended before we did: what is there counts if it can still be reported."""
        if not self._collected:
            raise ConnectionFailed(f"recv: {reason}")
        return self._result(False, reason)

    def _result(self, timeout: bool, error: str | None = None) -> Result:
        if self._left is None:
            return Result(None, "")
        data: dict[str, Any] = {"events": self._collected, "timeout": timeout}
        if error is not None:
            data["error"] = error
        if self._feed.dropped:
            data["dropped"] = self._feed.dropped
        return Result(data, "" if self._for_people else None)


def _dial(client: DaemonClient, target: Address, deadline: Deadline) -> Stream:
    what = f"cannot subscribe on {target}"
    try:
        # With the extensions, a stream that breaks is told from one that ends.
        client.hello(timeout=_patience(deadline))
        return client.dial(target, PORT_EVENT_STREAM, timeout=_patience(deadline))
    except DaemonError as error:
        raise _unreachable(what, target, error) from None
    except TimedOut as error:
        raise TimedOut(f"{what} {_WHERE}: {error.message}", hint=_advice(target)) from None


def _patience(deadline: Deadline) -> float:
    remaining = deadline.remaining
    return REQUEST_TIMEOUT if remaining is None else min(remaining, REQUEST_TIMEOUT)


def _unreachable(what: str, target: Address, error: DaemonError) -> ConnectionFailed:
    return ConnectionFailed(f"{what} {_WHERE}: {error.text}", hint=_advice(target))


def _advice(target: Address) -> str:
    return f"check that {target} is reachable: pilotctl ping {target}"


def _reason(stream: Stream) -> str:
    """@return: why a stream from which everything was taken is over."""
    try:
        stream.receive(0.0)
    except ConnectionFailed as error:
        return error.message
    return "EOF"


def _piped_output() -> int | None:
    """@return: standard output if it is a pipe: that tells when its reader leaves, unasked."""
    try:
        descriptor = sys.stdout.fileno()
        return descriptor if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else None
    except (AttributeError, OSError, ValueError):
        return None


def _facts(event: Event) -> dict[str, Any]:
    return {
        "topic": event_text(event.topic),
        "data": event_text(event.payload),
        "bytes": event.size,
    }


def _line(event: Event) -> bytes:
    topic = printable(event_text(event.topic))
    data = printable(event_text(event.payload), keep="\n\t")
    return f"[{topic}] {data}\n".encode()
