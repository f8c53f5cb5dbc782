"""Prefix subscriptions, on top of a protocol that knows only exact topics and C{*}.

A client that wants C{presence.*} subscribes to C{*} and passes on what matches.  So that a broker
that knows better need not send the rest, the subscribing event carries the patterns in its payload,
which every other broker throws away::

    {"v":1,"filter":["presence.*"]}

A broker that understood it also tells a subscriber that was too slow what it had to drop, with an
event on the topic C{$dropped}::

    {"v":1,"events":12,"bytes":3456}

The traffic saved needs both ends; what the client sees is the same with either.
"""

from __future__ import annotations

from typing import NamedTuple

from pilot.errors import WireError
from pilot.wire.eventstream import MAX_TOPIC
from pilot.wire.jsontext import dump, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = 1

MAX_PATTERNS = 16
"""Patterns of one subscription."""

MAX_DECLARATION = 32768
"""Bytes of the payload that declares them; a longer one is ignored, as any other payload is."""

DROPPED = b"$dropped"
"""The topic of the notice that events were dropped."""

_ANY = b".*"


def is_pattern(topic: bytes) -> bool:
    """@return: whether C{topic} stands for all topics with a prefix: it ends in C{.*}."""
    return topic.endswith(_ANY)


class Interest:
    """
    A set of patterns: C{presence.*} is every topic that continues C{presence.}; all else is exact.

    @ivar patterns: the patterns as given.
    """

    __slots__ = ("_exact", "_prefixes", "patterns")

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self.patterns = tuple(patterns)
        self._exact = frozenset(each for each in self.patterns if not is_pattern(each))
        self._prefixes = tuple(each[:-1] for each in self.patterns if is_pattern(each))

    def wants(self, topic: bytes) -> bool:
        """@return: whether a pattern matches; a prefix alone, without more, does not."""
        return topic in self._exact or any(
            topic.startswith(prefix) and len(topic) > len(prefix) for prefix in self._prefixes
        )


def encode_interest(interest: Interest) -> bytes:
    """
    @return: the payload that declares it to a broker; empty when a pattern cannot be put in JSON,
        or there are too many, so that nothing is filtered.
    """
    if len(interest.patterns) > MAX_PATTERNS:
        return b""
    try:
        patterns = [pattern.decode("utf-8") for pattern in interest.patterns]
    except UnicodeDecodeError:
        return b""
    payload = dump({"v": VERSION, "filter": patterns})
    return payload if len(payload) <= MAX_DECLARATION else b""


def decode_interest(payload: bytes) -> Interest | None:
    """
    @return: what the payload of a subscribing event declares, or None when it is anything else,
        which is no error: the protocol says that it means nothing.
    """
    if not payload.startswith(b"{") or len(payload) > MAX_DECLARATION:
        return None
    try:
        value = load(payload)
    except WireError:
        return None
    if not isinstance(value, dict) or value.get("v") != VERSION:
        return None
    given = value.get("filter")
    if not isinstance(given, list) or not 0 < len(given) <= MAX_PATTERNS:
        return None
    if not all(isinstance(each, str) for each in given):
        return None
    patterns = [each.encode("utf-8") for each in given]
    if any(len(each) > MAX_TOPIC for each in patterns):
        return None
    return Interest(patterns)


class Dropped(NamedTuple):
    """
    What a slow subscriber did not get.

    @ivar events: how many.
    @ivar size: their bytes together.
    """

    events: int
    size: int

    def encode(self) -> bytes:
        """@return: the payload of the notice."""
        return dump({"v": VERSION, "events": self.events, "bytes": self.size})


def decode_dropped(payload: bytes) -> Dropped | None:
    """@return: what the payload of a notice says, or None when it is no such notice."""
    try:
        value = load(payload)
    except WireError:
        return None
    if not isinstance(value, dict) or value.get("v") != VERSION:
        return None
    events, size = value.get("events"), value.get("bytes")
    if not (isinstance(events, int) and isinstance(size, int)):
        return None
    return Dropped(events, size) if events >= 0 and size >= 0 else None
