"""A skill's own Unix socket: calls and live feeds, one JSON object a line.

@see: the page I{Write a skill}, I{The skill's socket}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.errors import InvalidArgument, NotFound, PilotError, WireError
from pilot.hosting.guard import RAISED
from pilot.iskill import ISkillCalls
from pilot.wire.jsontext import dump, load

if TYPE_CHECKING:
    from pilot.hosting.hosted import HostedSkill

log = Logger()

#: Bytes of a request line.
MAX_REQUEST = 1 << 20

#: Bytes of an answer or an event, below what L{pilot.client.skillcalls} takes.
MAX_ANSWER = 8 << 20

#: Clients of one skill at a time.
MAX_CLIENTS = 64

#: Seconds without a call or a feed after which a client makes room for another.
IDLE = 10.0

#: Events, and bytes of them, that wait for a slow reader; the next ones are dropped.
MAX_WAITING, MAX_WAITING_BYTES = 1024, 1 << 20


class Interrupted(PilotError):
    """The skill stopped in the middle of a call or a feed."""

    code = "unavailable"


class SkillSocket(Factory):
    """
    Answers for one skill.

    @ivar clients: the connections there are.
    """

    noisy = False

    def __init__(self, hosted: HostedSkill, reactor: Any) -> None:
        self.hosted = hosted
        self.reactor = reactor
        self.clients: set[SkillConnection] = set()
        self.counters = {"calls": 0, "failed": 0, "feeds": 0, "dropped": 0, "refused": 0}

    def buildProtocol(self, addr: Any) -> SkillConnection:
        """@return: a connection."""
        return SkillConnection(self)

    def statistics(self) -> dict[str, int]:
        """
        @return: C{clients} now; since the start C{calls}, those that C{failed}, C{feeds}, events
            C{dropped} because of slow readers, and clients and lines C{refused}.
        """
        return {"clients": len(self.clients), **self.counters}

    def has_room(self) -> bool:
        """@return: whether one more client may come; the one that is idle for longest goes."""
        if len(self.clients) < MAX_CLIENTS:
            return True
        longest = min(self.clients, key=lambda client: client.busy_at)
        if self.reactor.seconds() - longest.busy_at < IDLE:
            return False
        self.clients.discard(longest)
        longest.hang_up()
        return True

    def interrupt(self) -> None:
        """The skill stops: whoever waits for it or follows a feed is told."""
        for client in list(self.clients):
            client.interrupt(Interrupted(f"the {self.hosted.name} skill has stopped"))

    def close(self) -> None:
        """Hang up on everybody."""
        for client in list(self.clients):
            client.hang_up()


class SkillConnection(LineReceiver):
    """
    One client: its calls one after the other, or one feed.

    @ivar busy_at: when it last had a call answered; infinity while it has a call or a feed.
    """

    delimiter = b"\n"
    MAX_LENGTH = MAX_REQUEST
    transport: Any

    def __init__(self, server: SkillSocket) -> None:
        self._server = server
        self._call: Deferred[Any] | None = None
        self._feed: _Feed | None = None
        self._interrupted: PilotError | None = None
        self._closing = False
        self._flow: _Flow | None = None
        self.busy_at = 0.0

    def connectionMade(self) -> None:
        """Let it in, unless there are too many."""
        if not self._server.has_room():
            self._refuse(PilotError("too many clients", hint="try again later"))
            return
        self.busy_at = self._server.reactor.seconds()
        self._server.clients.add(self)
        self._watch_flow()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """It hung up: what runs for it ends."""
        self._closing = True
        self._server.clients.discard(self)
        if self._call is not None:
            self._call.cancel()
        self._end_feed()

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line without an end."""
        self._refuse(InvalidArgument(f"a request takes at most {MAX_REQUEST} bytes"))

    def lineReceived(self, line: bytes) -> None:
        """A request."""
        if self._closing or not line.strip():
            return
        try:
            request = load(line)
        except WireError as error:
            self._refuse(error)
            return
        if not isinstance(request, dict) or self._feed is not None:
            self._refuse(InvalidArgument("expected one JSON object with a call or a feed"))
            return
        # Until this one is answered, further lines wait in the socket.
        self.pauseProducing()
        self.busy_at = inf
        self._call = Deferred.fromCoroutine(self._answer(request))
        self._call.addBoth(self._answered)

    def interrupt(self, error: PilotError) -> None:
        """Fail the call that waits, or end the feed, with C{error}."""
        if self._call is not None:
            self._interrupted = error
            self._call.cancel()
            self._interrupted = None
        if self._feed is not None:
            self._end_feed()
            self._close_with(error)

    def hang_up(self) -> None:
        """Close the connection, after what was said."""
        self._closing = True
        self._end_feed()
        self._lose_connection()

    async def _answer(self, request: dict[str, Any]) -> None:
        counters = self._server.counters
        kind = "feed" if "feed" in request else "call"
        counters[kind + "s"] += 1
        try:
            arguments = request.get("arguments") or {}
            name = request.get(kind)
            if not isinstance(name, str) or not isinstance(arguments, dict):
                raise InvalidArgument('expected {"call": NAME, "arguments": {...}}')
            if kind == "feed":
                await self._start_feed(name, arguments)
            else:
                self._write({"result": await self._result(name, arguments)})
        except PilotError as error:
            counters["failed"] += 1
            self._write_error(error)
        except CancelledError:
            counters["failed"] += 1
            if not self._closing:
                self._write_error(self._interrupted or PilotError("the call was cancelled"))
        except RAISED as error:
            counters["failed"] += 1
            log.failure(
                "skill {skill} failed in {kind} {name}",
                skill=self._server.hosted.name,
                kind=kind,
                name=name,
            )
            self._write_error(PilotError(f"{type(error).__name__}: {error}"))

    async def _result(self, name: str, arguments: dict[str, Any]) -> Any:
        hosted = self._server.hosted
        if name == hosted.REPORT_CALL:
            return hosted.report()
        service = await hosted.ready()
        functions = ISkillCalls(service).calls() if ISkillCalls.providedBy(service) else {}
        return await maybeDeferred(_known(functions, name, "call"), arguments)

    async def _start_feed(self, name: str, arguments: dict[str, Any]) -> None:
        service = await self._server.hosted.ready()
        functions = ISkillCalls(service).feeds() if ISkillCalls.providedBy(service) else {}
        function = _known(functions, name, "feed")
        self._ignore_flow()
        feed = self._feed = _Feed(self)
        try:
            end = function(arguments, feed.send)
        except BaseException:
            self._feed = None
            feed.stop()
            self._watch_flow()
            raise
        feed.started(end)

    def _answered(self, _: object) -> None:
        self._call = None
        if self._feed is None:
            self.busy_at = self._server.reactor.seconds()
        self.go_on()

    def go_on(self) -> None:
        """Read the next request, once the answers before it have been taken."""
        blocked = self._flow is not None and self._flow.blocked
        if not (self._closing or blocked) and self._call is None:
            self.resumeProducing()

    def _watch_flow(self) -> None:
        self._flow = _Flow(self)
        self.transport.registerProducer(self._flow, True)

    def _ignore_flow(self) -> None:
        """Something else produces from now on, or nothing: a connection waits for who does."""
        if self._flow is not None:
            self._flow = None
            self.transport.unregisterProducer()

    def _end_feed(self) -> None:
        feed, self._feed = self._feed, None
        if feed is None:
            return
        try:
            feed.stop()
        except RAISED:
            log.failure("skill {skill} failed to end a feed", skill=self._server.hosted.name)

    def _refuse(self, error: PilotError) -> None:
        self._server.counters["refused"] += 1
        self._close_with(error)

    def _close_with(self, error: PilotError) -> None:
        self._closing = True
        self._write_error(error)
        self._lose_connection()

    def _lose_connection(self) -> None:
        self._ignore_flow()
        self.transport.loseConnection()

    def _write_error(self, error: PilotError) -> None:
        body = {"code": error.code, "message": error.message}
        if error.hint:
            body["hint"] = error.hint
        self._write({"error": body})

    def _write(self, message: dict[str, Any]) -> None:
        self.transport.write(encoded(message))

    def feed_broke(self) -> None:
        """An event could not be written."""
        log.failure("skill {skill} sent no event", skill=self._server.hosted.name)
        self.interrupt(PilotError("the skill sent something that is no JSON object"))

    def dropped(self) -> None:
        """An event was lost."""
        self._server.counters["dropped"] += 1


@implementer(IPushProducer)
class _Flow:
    """Lets no requests be read while answers wait for their reader.  @ivar blocked: they do."""

    def __init__(self, connection: SkillConnection) -> None:
        self._connection = connection
        self.blocked = False

    def pauseProducing(self) -> None:
        """The reader is slow."""
        self.blocked = True

    def resumeProducing(self) -> None:
        """The reader has caught up."""
        self.blocked = False
        self._connection.go_on()

    def stopProducing(self) -> None:
        """The connection is gone, which it says itself too."""


@implementer(IPushProducer)
class _Feed:
    """What one client follows; it lets the skill send on while the reader is slow."""

    def __init__(self, connection: SkillConnection) -> None:
        self._connection = connection
        self._transport = connection.transport
        self._end: Callable[[], None] | None = None
        self._over = False
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._blocked = False
        self._transport.registerProducer(self, True)

    def started(self, end: Callable[[], None]) -> None:
        """The skill feeds; C{end} ends that."""
        self._end = end
        if self._over:  # it broke with the first events
            end()

    def send(self, event: dict[str, Any]) -> None:
        """Pass an event on, keep it for a while, or drop it."""
        if self._over:
            return
        try:
            line = encoded({"event": dict(event)})
        except Exception:
            self._connection.feed_broke()
            return
        if not self._blocked:
            self._transport.write(line)
        elif len(self._waiting) < MAX_WAITING and self._bytes + len(line) <= MAX_WAITING_BYTES:
            self._waiting.append(line)
            self._bytes += len(line)
        else:
            self._dropped += 1
            self._connection.dropped()

    def stop(self) -> None:
        """Nobody listens any more."""
        if self._over:
            return
        self._over = True
        self._waiting.clear()
        self._transport.unregisterProducer()
        if self._end is not None:
            self._end()

    def pauseProducing(self) -> None:
        """The reader is slow."""
        self._blocked = True

    def resumeProducing(self) -> None:
        """The reader has caught up."""
        self._blocked = False
        while self._waiting and not self._blocked:
            line = self._waiting.popleft()
            self._bytes -= len(line)
            self._transport.write(line)
        if self._dropped and not self._blocked:
            dropped, self._dropped = self._dropped, 0
            self._transport.write(encoded({"dropped": dropped}))

    def stopProducing(self) -> None:
        """The connection is gone, which it says itself too."""


def encoded(message: dict[str, Any]) -> bytes:
    """@return: one line.  @raise PilotError: it is too long, or JSON cannot say it."""
    line = dump(message, sort_keys=False)
    if len(line) > MAX_ANSWER:
        raise PilotError(f"an answer of {len(line)} bytes; {MAX_ANSWER} are allowed")
    return line + b"\n"


def _known(functions: dict[str, Any], name: str, kind: str) -> Any:
    try:
        return functions[name]
    except KeyError:
        raise NotFound(
            f"there is no {kind} {name!r}", hint="there are: " + (", ".join(functions) or "none")
        ) from None
