"""Asking a node for a sign of life: with a datagram, and over its echo service.

Whoever runs this skill answers the datagram, which costs one packet each way.  Every node answers
on the port of echo, other implementations too; but that is a stream to open, so few are opened at a
time.  Both are tried at once, unless the node is known to answer datagrams: then a stream is opened
only if half of the time has passed.

The datagrams are C{{"t":"ping","n":token}} and C{{"t":"pong","n":token}}.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from pilot.address import PORT_ECHO, Address
from skills.presence.shell.pacing import Pace

AT_ONCE: Final = 4
"""Streams being opened."""
RATE: Final = 8.0
"""Streams opened a second."""
WAITING: Final = 256
"""Pings that wait for a stream to be opened; more than can be opened in time is of no use."""
ENOUGH: Final = 0.6
"""Share of its time after which a ping begins no stream any more."""
UNDER_WAY: Final = 4096
"""Pings under way."""
REMEMBERED: Final = 16_384
"""Nodes known to answer datagrams."""
PONGS: Final = 500.0
"""Pings of others answered a second."""

_PING, _PONG = b'{"t":"ping","n":', b'{"t":"pong","n":'


class _Ping:
    """
    @ivar enough: until when a stream may be begun: what comes later has too little time.
    @ivar asked: whether one was.
    """

    __slots__ = ("asked", "dial", "enough", "half", "node", "over", "token")

    def __init__(self, token: int, node: int, enough: float) -> None:
        self.token = token
        self.node = node
        self.enough = enough
        self.asked = False
        self.dial: Deferred[Any] | None = None
        self.half: IDelayedCall | None = None
        self.over: IDelayedCall | None = None


class Pinger:
    """
    Pings nodes.

    @ivar counters: C{pings}, C{answered} by datagram and C{echoed} by stream, C{silent}, C{late}
        answers, C{skipped} ones (there were too many to ask in time), C{pongs} given.
    """

    def __init__(
        self,
        node: Any,
        reactor: Any,
        now: Callable[[], float],
        *,
        send: Callable[[int, bytes], None],
        answered: Callable[[int, int, bool], None],
        skipped: Callable[[int, int], None],
    ) -> None:
        """
        @param node: provides C{IPilotNode}.
        @param send: sends a datagram to a node.
        @param answered: called with token, node, and whether there was an answer.
        @param skipped: called with token and node when it could not be asked in time.
        """
        self.counters: Counter[str] = Counter()
        self._node = node
        self._reactor = reactor
        self._now = now
        self._send = send
        self._answered = answered
        self._skipped = skipped
        self._pings: dict[int, _Ping] = {}
        self._talkers: OrderedDict[int, None] = OrderedDict()
        self._waiting: deque[int] = deque()
        self._dialling = 0
        self._pace = Pace(RATE, RATE / 2)
        self._pongs = Pace(PONGS, PONGS)
        self._turn: IDelayedCall | None = None

    def ping(self, token: int, node: int, timeout: float) -> None:
        """Ask, and tell the outcome within C{timeout} seconds."""
        self.counters["pings"] += 1
        if len(self._pings) >= UNDER_WAY:
            self._skip(token, node)
            return
        ping = self._pings[token] = _Ping(token, node, self._now() + ENOUGH * timeout)
        ping.over = self._reactor.callLater(timeout, self._silent, ping)
        self._send(node, b"%s%d}" % (_PING, token))
        if node in self._talkers:
            ping.half = self._reactor.callLater(timeout / 2, self._dial_later, ping)
        else:
            self._dial_later(ping)

    def received(self, node: int, data: bytes) -> bool:
        """
        A datagram came from that node.
        @return: whether it was a ping or an answer to one, and so is dealt with.
        """
        if data.startswith(_PING):
            number = _number(data)
            if number is not None and self._pongs.take(self._now()):
                self.counters["pongs"] += 1
                self._send(node, b"%s%d}" % (_PONG, number))
            return True
        if not data.startswith(_PONG):
            return False
        number = _number(data)
        ping = None if number is None else self._pings.get(number)
        self._talkers[node] = None
        self._talkers.move_to_end(node)
        if len(self._talkers) > REMEMBERED:
            self._talkers.popitem(last=False)
        if ping is not None and ping.node == node:
            self._end(ping, "answered", True)
        else:
            self.counters["late"] += 1  # a sign of life all the same, as any datagram
        return True

    def close(self) -> None:
        """Ask nobody any more."""
        pings, self._pings = self._pings, {}
        self._waiting.clear()
        for ping in pings.values():
            self._release(ping)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    # -- streams -------------------------------------------------------------------------------

    def _dial_later(self, ping: _Ping) -> None:
        ping.half = None
        if len(self._waiting) < WAITING:
            self._waiting.append(ping.token)
            self._dial()

    def _dial(self) -> None:
        if self._turn is not None:
            return
        while self._waiting and self._dialling < AT_ONCE:
            ping = self._pings.get(self._waiting[0])
            now = self._now()
            if ping is None or now > ping.enough:
                self._waiting.popleft()
                continue
            if not self._pace.take(now):
                self._turn = self._reactor.callLater(self._pace.wait(now) + 0.001, self._again)
                return
            self._waiting.popleft()
            self._open(ping)

    def _again(self) -> None:
        self._turn = None
        self._dial()

    def _open(self, ping: _Ping) -> None:
        self._dialling += 1
        ping.asked = True
        factory = Factory.forProtocol(_Echo)
        factory.noisy = False
        target = Address(0, ping.node)
        dial = ping.dial = self._node.dial(target, PORT_ECHO, factory)
        dial.addCallback(lambda echo: echo.heard)
        dial.addCallback(lambda _: self._end(ping, "echoed", True))
        dial.addErrback(lambda _: None)  # the time that is left belongs to the datagram
        dial.addBoth(lambda _: self._closed(ping))

    def _closed(self, ping: _Ping) -> None:
        ping.dial = None
        self._dialling -= 1
        self._dial()

    # -- outcomes ------------------------------------------------------------------------------

    def _silent(self, ping: _Ping) -> None:
        ping.over = None
        if ping.asked or ping.node in self._talkers:
            self._end(ping, "silent", False)
        else:
            del self._pings[ping.token]
            self._release(ping)
            self._skip(ping.token, ping.node)

    def _skip(self, token: int, node: int) -> None:
        self.counters["skipped"] += 1
        self._skipped(token, node)

    def _end(self, ping: _Ping, how: str, ok: bool) -> None:
        if self._pings.pop(ping.token, None) is None:
            return
        self.counters[how] += 1
        self._release(ping)
        self._answered(ping.token, ping.node, ok)

    def _release(self, ping: _Ping) -> None:
        for call in (ping.half, ping.over):
            if call is not None and call.active():
                call.cancel()
        if ping.dial is not None:
            ping.dial.cancel()


class _Echo(Protocol):
    """Says a word.  @ivar heard: fires when it comes back."""

    def __init__(self) -> None:
        self.heard: Deferred[None] = Deferred(lambda _: self._hang_up())

    def connectionMade(self) -> None:
        """Say it."""
        assert self.transport is not None
        self.transport.write(b"presence")

    def dataReceived(self, data: bytes) -> None:
        """It came back, or its beginning did."""
        if not self.heard.called:
            self.heard.callback(None)
        self._hang_up()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """No answer will come."""
        if not self.heard.called:
            self.heard.errback(reason)

    def _hang_up(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


def _number(data: bytes) -> int | None:
    digits = data[len(_PING) : -1]
    return int(digits) if digits.isdigit() and len(digits) <= 18 and data.endswith(b"}") else None
