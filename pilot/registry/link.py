"""A client's connection to a registry: made when needed, made again when lost.

Requests travel in order over one connection and may overtake nothing.  What is under way when the
connection breaks is sent once more if that cannot do harm, and fails otherwise.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.errors import RegistryError, RegistryUnavailable, WireError
from pilot.registry.codec import FastFrameDecoder, encode_frame
from pilot.registry.extensions import NOTIFY

log = Logger()

Message = dict[str, Any]

TIMEOUT = 10.0
"""Seconds that a request waits for its answer."""

OUTSTANDING = 1024
"""Requests that may wait at once."""

ANSWER_LIMIT = 1 << 20
"""Bytes of the largest answer taken; the reference sends more than it takes itself."""

GRACE = 3.0
"""Seconds for which requests outlast failing attempts to connect; after it the first one counts."""

RETRY_FIRST, RETRY_MOST = 0.1, 15.0
"""Seconds between attempts to connect, doubling; each is drawn out by up to a half."""

RETRY_ASKED = 1.0
"""Seconds between two attempts to connect at most while a request waits."""

#: Request types that may safely be carried out twice.
REPEATABLE = frozenset(
    {
        "beacon_list",
        "beacon_register",
        "check_trust",
        "deregister",
        "get_expr_policy",
        "get_key_info",
        "get_member_role",
        "get_member_tags",
        "get_network_policy",
        "get_polo_score",
        "heartbeat",
        "list_networks",
        "list_nodes",
        "lookup",
        "poll_handshakes",
        "poll_invites",
        "punch",
        "register",
        "report_trust",
        "resolve",
        "resolve_hostname",
        "respond_handshake",
        "set_expr_policy",
        "set_hostname",
        "set_key_expiry",
        "set_member_tags",
        "set_network_enterprise",
        "set_network_policy",
        "set_polo_score",
        "set_tags",
        "set_task_exec",
        "set_visibility",
    }
)


class _Request:
    __slots__ = ("answer", "message", "repeated", "timer")

    def __init__(self, message: Message, answer: Deferred[Message]) -> None:
        self.message = message
        self.answer = answer
        self.repeated = False
        self.timer: IDelayedCall | None = None

    def forget(self) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()

    def finish(self, result: Message | Exception) -> None:
        self.forget()
        if self.answer.called:
            return  # its asker no longer waits
        if isinstance(result, Exception):
            self.answer.errback(result)
        else:
            self.answer.callback(result)


class _AnswerDecoder(FastFrameDecoder):
    __slots__ = ()

    limit = ANSWER_LIMIT


class _Connection(Protocol):
    """Frames in, frames out; the link decides."""

    transport: Any

    def __init__(self, link: RegistryLink) -> None:
        self._link = link
        self._decoder = _AnswerDecoder()

    def connectionMade(self) -> None:
        for option in ("setTcpNoDelay", "setTcpKeepAlive"):
            setter = getattr(self.transport, option, None)
            if setter is not None:
                setter(True)

    def dataReceived(self, data: bytes) -> None:
        try:
            frames = self._decoder.feed(data)
        except WireError as error:
            log.warn("the registry's answer makes no sense: {error}", error=error.message)
            frames = getattr(error, "frames", [])
            self.transport.abortConnection()
        for frame in frames:
            self._link.received(self, frame)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._link.lost(self, reason)


class _ConnectionFactory(Factory):
    noisy = False

    def __init__(self, link: RegistryLink) -> None:
        self._link = link

    def buildProtocol(self, addr: Any) -> Any:
        return _Connection(self._link)


class RegistryLink:
    """
    The way to one registry.

    @ivar connected: whether there is a connection.
    @ivar on_notify: called with the event of each frame that the registry pushes.
    @ivar on_connected: called when a connection is there, before any request is sent over it; what
        it asks for goes first.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        name: str,
        rng: random.Random,
    ) -> None:
        """@param name: of the registry, for messages."""
        self.connected = False
        self.on_notify: Callable[[str], None] = lambda event: None
        self.on_connected: Callable[[], None] = lambda: None
        self._clock = clock
        self._endpoint = endpoint
        self._name = name
        self._rng = rng
        self._connection: _Connection | None = None
        self._connecting: Deferred[Any] | None = None
        self._retry: IDelayedCall | None = None
        self._delay = RETRY_FIRST
        self._tried = 0.0
        self._away_since: float | None = None
        self._introducing: list[_Request] | None = None
        self._ever_connected = False
        self._closed = False
        self._waiting: deque[_Request] = deque()
        self._sent: deque[_Request] = deque()

    def request(self, message: Message) -> Deferred[Message]:
        """
        Ask the registry.

        @return: Deferred of its answer; it fails with L{RegistryError} when the registry says no,
            with L{RegistryUnavailable} when it cannot be asked or does not answer in time.
        """
        answer: Deferred[Message] = Deferred(lambda _: request.forget())
        request = _Request(message, answer)
        reason = self._hopeless()
        if reason is not None:
            request.finish(RegistryUnavailable(reason))
            return answer
        request.timer = self._clock.callLater(TIMEOUT, self._timed_out, request)
        if self._introducing is not None:
            self._introducing.append(request)
        else:
            self._waiting.append(request)
        self._flush()
        return answer

    def close(self) -> None:
        """End the connection; what waits fails."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.transport.abortConnection()
        self._fail_all("the connection to the registry was closed")

    # -- from the connection ---------------------------------------------------------------------

    def received(self, connection: _Connection, frame: Message) -> None:
        """A frame came."""
        if connection is not self._connection:
            return
        if frame.get("type") == NOTIFY:
            self.on_notify(str(frame.get("event", "")))
            return
        if not self._sent:
            log.warn("the registry answers what nobody asked")
            connection.transport.abortConnection()
            return
        self._delay = RETRY_FIRST
        request = self._sent.popleft()
        error = frame.get("error")
        request.finish(RegistryError(error) if isinstance(error, str) else frame)

    def lost(self, connection: _Connection, reason: Failure) -> None:
        """The connection is gone."""
        if connection is not self._connection:
            return
        self._connection = None
        self.connected = False
        because = _why(reason)
        sent, self._sent = self._sent, deque()
        again = []
        for request in sent:
            if request.answer.called:
                continue
            if request.repeated or request.message.get("type") not in REPEATABLE:
                request.finish(RegistryUnavailable(f"the registry {self._name} hung up: {because}"))
            else:
                request.repeated = True
                again.append(request)
        self._waiting.extendleft(reversed(again))
        if not self._closed:
            self._away(because)

    # -- inside ----------------------------------------------------------------------------------

    def _hopeless(self) -> str | None:
        if self._closed:
            return "the connection to the registry was closed"
        if len(self._waiting) + len(self._sent) >= OUTSTANDING:
            return f"too many requests to the registry at once (max {OUTSTANDING})"
        return None

    def _away_too_long(self) -> bool:
        return self._away_since is not None and self._clock.seconds() - self._away_since >= GRACE

    def _flush(self) -> None:
        """Send what waits, over a connection or as soon as there is one."""
        if self._connection is not None:
            if self._introducing is None:
                while self._waiting:
                    request = self._waiting.popleft()
                    if not request.answer.called:
                        self._sent.append(request)
                        self._connection.transport.write(encode_frame(request.message))
        elif self._retry is not None:
            # Somebody waits: do not sit the whole pause out.
            now = self._clock.seconds()
            soon = max(0.0, self._tried + RETRY_ASKED - now)
            if self._retry.getTime() - now > soon:
                self._retry.reset(soon)
        elif self._connecting is None:
            self._connect()

    def _connect(self) -> None:
        self._retry = None
        self._tried = self._clock.seconds()
        connecting = self._endpoint.connect(_ConnectionFactory(self))
        self._connecting = connecting
        connecting.addCallbacks(self._connected, self._not_connected)
        connecting.addErrback(lambda failure: log.failure("at a new connection", failure))

    def _connected(self, connection: _Connection) -> None:
        self._connecting = None
        if self._closed:
            connection.transport.abortConnection()
            return
        if self._away_since is not None and self._away_too_long():
            log.info("the registry {name} can be reached again", name=self._name)
        self._away_since = None
        self._ever_connected = self.connected = True
        self._connection = connection
        # Whoever must introduce itself first does so now.
        self._introducing = []
        try:
            self.on_connected()
        except Exception:
            log.failure("on connecting to the registry")
        first, self._introducing = self._introducing, None
        self._waiting.extendleft(reversed(first))
        self._flush()

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = None
        if not self._closed:
            self._away(_why(failure))

    def _away(self, because: str) -> None:
        now = self._clock.seconds()
        if self._away_since is None:
            self._away_since = now
        if self._away_too_long():
            self._fail_all(f"the registry {self._name} cannot be reached: {because}")
        if self._closed or self._retry is not None or self._connecting is not None:
            return  # whoever heard of it has hung up, or has asked again
        if self._waiting or self._ever_connected:
            delay = self._delay * self._rng.uniform(1.0, 1.5)
            self._delay = min(RETRY_MOST, self._delay * 2)
            self._retry = self._clock.callLater(delay, self._connect)
        else:
            # Nobody waits any more, and nobody was ever there: start afresh when asked.
            self._away_since = None
            self._delay = RETRY_FIRST

    def _timed_out(self, request: _Request) -> None:
        request.finish(
            RegistryUnavailable(f"the registry {self._name} did not answer within {TIMEOUT:g} s")
        )
        if request in self._sent and self._connection is not None:
            # Answers come in order: behind a missing one there are none.
            self._connection.transport.abortConnection()

    def _fail_all(self, reason: str) -> None:
        for queue in (self._sent, self._waiting):
            while queue:
                queue.popleft().finish(RegistryUnavailable(reason))


def _why(reason: Failure) -> str:
    """@return: why a connection failed or ended, in a few words."""
    if "certificate verify failed" in str(reason.value):
        return "its certificate does not have the pinned fingerprint"
    os_error = getattr(reason.value, "osError", None)
    if os_error is not None:
        return os.strerror(os_error).lower()
    if isinstance(reason.value, ConnectionDone):
        return "it closed the connection"
    return reason.getErrorMessage().rstrip(".")
