"""Watches what is published on this node's own broker, with who published it.

While nobody watches, the broker is told so and calls nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from twisted.logger import Logger

from pilot.address import Address, SocketAddress
from pilot.errors import AddressError, InvalidArgument
from pilot.wire.eventstream import MAX_TOPIC, Event, encode_event

log = Logger()

#: Watchers of one node.
MAX_WATCHERS = 1024

Listener = Callable[[Address, Event], object]


class TappedBroker(Protocol):
    """
    The broker, as far as this concerns it.

    @ivar tap: told address and port of every publisher, and what it published; None: nobody.
    """

    tap: Callable[[str, list[Event]], None] | None

    def announce(self, remote: str, event: Event) -> None:
        """Pass an event of this very node on."""


class _Watcher:
    __slots__ = ("listener", "prefixes")

    def __init__(self, prefixes: tuple[bytes, ...], listener: Listener) -> None:
        self.prefixes = prefixes
        self.listener = listener


class Taps:
    """Who watches which topics, and the way to publish on the own broker without a stream."""

    def __init__(self, own_address: Callable[[], Address | None]) -> None:
        self._own_address = own_address
        self._broker: TappedBroker | None = None
        self._watchers: tuple[_Watcher, ...] = ()
        self._last = ("", Address(0, 0))

    def attach(self, broker: TappedBroker) -> None:
        """This is the broker."""
        self._broker = broker
        self._update()

    def watch(self, prefixes: Iterable[str], listener: Listener) -> Callable[[], None]:
        """
        Have C{listener(source, event)} called for events on topics that begin with one of
        C{prefixes}.

        @return: ends it.
        @raise InvalidArgument: no such prefix, or too many watchers.
        """
        watcher = _Watcher(tuple(check_prefix(prefix) for prefix in prefixes), listener)
        if len(self._watchers) >= MAX_WATCHERS:
            raise InvalidArgument(f"{MAX_WATCHERS} programs watch events already")
        self._watchers = (*self._watchers, watcher)
        self._update()

        def stop() -> None:
            self._watchers = tuple(each for each in self._watchers if each is not watcher)
            self._update()

        return stop

    def announce(self, topic: str, payload: bytes) -> None:
        """Publish an event in this node's own name; without a broker only watchers see it."""
        event = Event(topic.encode("utf-8"), encode_event(topic.encode("utf-8"), payload))
        own = SocketAddress(self._own_address() or Address(0, 0), 0)
        if self._broker is not None:
            self._broker.announce(str(own), event)
        else:
            self.tell(own.address, [event])

    def tell(self, source: Address, events: list[Event]) -> None:
        """Call those who watch."""
        for event in events:
            for watcher in self._watchers:
                if event.topic.startswith(watcher.prefixes):
                    try:
                        watcher.listener(source, event)
                    except Exception:
                        log.failure("who watches {topic} failed", topic=watcher.prefixes[0])

    def _published(self, remote: str, events: list[Event]) -> None:
        known, source = self._last  # a busy publisher's address is read once
        if remote != known:
            try:
                # It speaks for itself only, whatever network number it gives.
                source = Address(0, SocketAddress.parse(remote).address.node)
            except AddressError:
                return  # no node of the overlay
            self._last = (remote, source)
        self.tell(source, events)

    def _update(self) -> None:
        if self._broker is not None:
            self._broker.tap = self._published if self._watchers else None


def check_prefix(prefix: str) -> bytes:
    """
    @return: C{prefix} as it stands in a topic.
    @raise InvalidArgument: no topic begins with it.
    """
    encoded = prefix.encode("utf-8", "replace")
    if len(encoded) > MAX_TOPIC:
        raise InvalidArgument(f"a topic has at most {MAX_TOPIC} bytes, not {len(encoded)}")
    return encoded
