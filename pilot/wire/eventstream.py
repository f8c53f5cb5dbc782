"""Events of the event stream service (port 1002): a topic and a payload, each behind its length.

One layout serves for everything: the first event of a connection subscribes it to its topic, every
later one is published, and what a subscriber gets is byte for byte what the publisher sent.  So a
decoded L{Event} keeps its bytes, and passing it on encodes nothing.

@see: protocol notes, I{Event stream (1002)}; golden vectors C{frames.json}, kind C{event}.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from pilot.errors import WireError
from pilot.wire.framing import FramingError

MAX_TOPIC = 1024
"""Bytes of the longest topic."""

MAX_PAYLOAD = 16777216
"""Bytes of the longest payload."""

WILDCARD = b"*"
"""The topic whose subscribers get everything.  Published to, it is a topic like any other."""

_TOPIC_SIZE = Struct(">H")
_PAYLOAD_SIZE = Struct(">I")
_topic_size_at = _TOPIC_SIZE.unpack_from
_payload_size_at = _PAYLOAD_SIZE.unpack_from
_OVERHEAD = _TOPIC_SIZE.size + _PAYLOAD_SIZE.size


class Event(NamedTuple):
    """
    One event.

    @ivar topic: any bytes, compared byte by byte; none at all is a topic, too.
    @ivar frame: the whole event as it travels, topic included.
    """

    topic: bytes
    frame: bytes

    @property
    def payload(self) -> bytes:
        """What was published."""
        return self.frame[_OVERHEAD + len(self.topic) :]

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return len(self.frame) - _OVERHEAD - len(self.topic)


# NamedTuple's own constructor costs as much as the rest of the decoding.
_new_event = tuple.__new__


def encode_event(topic: bytes, payload: bytes = b"") -> bytes:
    """
    @param topic: at most L{MAX_TOPIC} bytes.
    @param payload: at most L{MAX_PAYLOAD} bytes.
    @return: the event as it travels.
    @raise WireError: longer than that; the receiver would close the connection.
    """
    _check_topic(len(topic))
    _check_payload(len(payload))
    return b"".join(
        (_TOPIC_SIZE.pack(len(topic)), topic, _PAYLOAD_SIZE.pack(len(payload)), payload)
    )


class EventDecoder:
    """
    The events of one direction of a connection, in linear time, however the stream is cut.

    Both limits are judged as soon as a length is there, and no more is kept than what has come of
    one event: a length alone costs nothing.
    """

    __slots__ = ("_broken", "_buffer")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._broken: str | None = None

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished event that wait for the rest."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Event]:
        """
        Take the next bytes of the stream, any number of them.

        @return: the events they complete.
        @raise FramingError: a topic or a payload is too long, so the stream is no longer to be
            followed; again at every later call.  It has the events that came before.
        """
        if self._broken is not None:
            raise FramingError(self._broken, [])
        events: list[Event] = []
        try:
            position = self._finish(data, events) if self._buffer else 0
            self._scan(data, position, events)
        except WireError as error:
            self._broken = error.message
            self._buffer.clear()
            raise FramingError(error.message, events) from None
        return events

    def _finish(self, data: bytes, events: list[Event]) -> int:
        """Add to the event that has begun.  @return: how much of C{data} that took."""
        buffer, position = self._buffer, 0
        while True:
            missing = _measure(buffer) - len(buffer)
            if not missing:
                frame = bytes(buffer)
                (topic_size,) = _topic_size_at(frame)
                events.append(Event(frame[2 : 2 + topic_size], frame))
                buffer.clear()
                return position
            if position == len(data):
                return position
            piece = data[position : position + missing]
            buffer += piece
            position += len(piece)

    def _scan(self, data: bytes, position: int, events: list[Event]) -> None:
        """Take whole events out of C{data} and keep the beginning of the next one."""
        size = len(data)
        while size - position >= 2:
            (topic_size,) = _topic_size_at(data, position)
            if topic_size > MAX_TOPIC:
                _check_topic(topic_size)
            topic_end = position + 2 + topic_size
            if topic_end + 4 > size:
                break
            (payload_size,) = _payload_size_at(data, topic_end)
            if payload_size > MAX_PAYLOAD:
                _check_payload(payload_size)
            end = topic_end + 4 + payload_size
            if end > size:
                break
            topic, frame = data[position + 2 : topic_end], data[position:end]
            events.append(_new_event(Event, (topic, frame)))
            position = end
        if position < size:
            self._buffer += data[position:]


def event_text(data: bytes) -> str:
    """
    A topic or a payload as people and JSON see it.

    @return: UTF-8 decoded; each byte that is none becomes U+FFFD, as the reference counts them.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "surrogateescape")
        return "".join("\ufffd" if "\udc80" <= each <= "\udcff" else each for each in text)


def _measure(buffer: bytearray) -> int:
    """@return: bytes of the event at the start of C{buffer}, as far as its lengths are there."""
    if len(buffer) < 2:
        return 2
    (topic_size,) = _topic_size_at(buffer)
    _check_topic(topic_size)
    if len(buffer) < _OVERHEAD + topic_size:
        return int(_OVERHEAD + topic_size)
    (payload_size,) = _payload_size_at(buffer, 2 + topic_size)
    _check_payload(payload_size)
    return int(_OVERHEAD + topic_size + payload_size)


def _check_topic(size: int) -> None:
    if size > MAX_TOPIC:
        raise WireError(f"topic too long: {size} bytes (max {MAX_TOPIC})")


def _check_payload(size: int) -> None:
    if size > MAX_PAYLOAD:
        raise WireError(f"payload too large: {size} bytes (max {MAX_PAYLOAD})")
