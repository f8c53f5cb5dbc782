"""The directory over a stream: what a coordinator answers whoever asks on the port of presence.

One JSON object a line, one question a stream::

    -> {"ask":"list","status":["online"],"tag":["gpu"],"all":false}
    <- {"agent":{...}}  ...  {"end":true,"version":17,"stale_view":false}
    -> {"ask":"get","host":"myagent"}
    <- {"result":{...}}
    -> {"ask":"find","tag":["gpu"],"pick":1}
    <- {"result":{"agents":[...],"excluded":{},"known":9}}
    -> {"ask":"watch"}
    <- as C{list}, and from then on {"event":{...}}

An error is C{{"error":{"code","message","hint"}}}.  Whoever reads too slowly is hung up on, and
asks anew for the whole.

@see: the page I{Presence}, I{Asking a coordinator}.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IPullProducer, IPushProducer
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.errors import ConnectionFailed, InvalidArgument, PilotError

CLIENTS: Final = 128
"""Streams at once."""
CLIENTS_EACH: Final = 8
"""The same of one node."""
MAX_QUESTION: Final = 4096
"""Bytes of a question."""
PATIENCE: Final = 15.0
"""Seconds that a question may take to come, and an answer to be taken."""
CHUNK: Final = 64
"""Agents written at once."""
EVENTS: Final = 1024
"""Events that wait for a slow watcher."""


class Directory(Protocol):
    """What answers; given and returned as L{skills.presence.shell.questions} describes it."""

    @property
    def serving(self) -> bool:
        """Whether other nodes may ask."""

    def listed(self, given: dict[str, Any]) -> tuple[Iterator[dict[str, Any]], dict[str, Any]]:
        """@return: the agents one by one, and what is said at their end."""

    def got(self, given: dict[str, Any]) -> dict[str, Any]:
        """@return: one agent."""

    def found(self, given: dict[str, Any]) -> dict[str, Any]:
        """@return: agents that can take work."""

    def watched(
        self, given: dict[str, Any], send: Callable[[dict[str, Any]], None]
    ) -> Callable[[], None]:
        """@return: what ends it."""


class Desk(Factory):
    """
    Answers other nodes.

    @ivar counters: C{asked}, C{refused}, C{failed}, C{slow}.
    """

    noisy = False

    def __init__(self, directory: Directory, reactor: Any) -> None:
        self.directory = directory
        self.reactor = reactor
        self.clients: Counter[str] = Counter()
        self.counters: Counter[str] = Counter()
        self.lines: set[DeskLine] = set()

    def close(self) -> None:
        """Hang up on everybody."""
        for line in list(self.lines):
            line.hang_up()

    def buildProtocol(self, addr: Any) -> DeskLine | None:
        """@return: a line to one node, C{None} when there are too many."""
        who = str(getattr(getattr(addr, "address", addr), "node", addr))
        if self.clients.total() >= CLIENTS or self.clients[who] >= CLIENTS_EACH:
            self.counters["refused"] += 1
            return None
        return DeskLine(self, who)


@implementer(IPullProducer)
class _Rows:
    """Writes agents as fast as they are taken."""

    def __init__(self, line: DeskLine, rows: Iterator[dict[str, Any]], end: dict[str, Any]) -> None:
        self._line = line
        self._rows = rows
        self._end = end

    def resumeProducing(self) -> None:
        """Write some more."""
        lines = [encoded({"agent": row}) for row in islice(self._rows, CHUNK)]
        over = len(lines) < CHUNK
        if over:
            lines.append(encoded({"end": True, **self._end}))
        self._line.transport.write(b"".join(lines))
        self._line.busy()
        if over:
            self._line.transport.unregisterProducer()
            self._line.complete()

    def stopProducing(self) -> None:
        """The stream is gone, which it says itself too."""


@implementer(IPushProducer)
class DeskLine(LineReceiver):
    """One node that asks."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_QUESTION
    transport: Any

    def __init__(self, desk: Desk, who: str) -> None:
        self._desk = desk
        self._who = who
        self._timer: IDelayedCall | None = None
        self._end: Callable[[], None] | None = None
        self._waiting: list[bytes] = []
        self._blocked = self._asked = False

    def connectionMade(self) -> None:
        """Wait for the question, for a while."""
        self._desk.clients[self._who] += 1
        self._desk.lines.add(self)
        self.busy()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """It hung up."""
        clients = self._desk.clients
        self._desk.lines.discard(self)
        clients[self._who] -= 1
        if not clients[self._who]:
            del clients[self._who]
        self._rest()
        end, self._end = self._end, None
        if end is not None:
            end()

    def lineReceived(self, line: bytes) -> None:
        """The question."""
        if self._asked:
            return
        self._asked = True
        self._desk.counters["asked"] += 1
        try:
            self._answer(_read(line))
        except PilotError as error:
            self._desk.counters["failed"] += 1
            self._refuse(error)

    def lineLengthExceeded(self, line: bytes) -> None:
        """A question without an end."""
        self._desk.counters["failed"] += 1
        self._refuse(InvalidArgument(f"a question has at most {MAX_QUESTION} bytes"))

    def _answer(self, given: dict[str, Any]) -> None:
        directory = self._desk.directory
        if not directory.serving:
            raise NoDirectory("this node keeps no directory for others")
        ask = given.get("ask")
        if ask == "get":
            self._say({"result": directory.got(given)})
        elif ask == "find":
            self._say({"result": directory.found(given)})
        elif ask in ("list", "watch"):
            rows, end = directory.listed(given)
            if ask == "watch":
                self._blocked = True
                self._end = directory.watched(given, self._event)
            self.transport.registerProducer(_Rows(self, rows, end), False)
            return
        else:
            raise InvalidArgument(f"no such question: {str(ask)[:40]!r}")
        self.hang_up()

    def complete(self) -> None:
        """The whole list was written."""
        if self._end is None:
            self.hang_up()
            return
        self._rest()
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def hang_up(self) -> None:
        """Nothing more will be said."""
        self._rest()
        self.transport.unregisterProducer()  # a stream waits for who still produces
        self.transport.loseConnection()

    def busy(self) -> None:
        """Something happened: begin to wait anew."""
        self._rest()
        self._timer = self._desk.reactor.callLater(PATIENCE, self._slow)

    # -- events --------------------------------------------------------------------------------

    def _event(self, event: dict[str, Any]) -> None:
        if not self._blocked:
            self._say({"event": event})
        elif len(self._waiting) < EVENTS:
            self._waiting.append(encoded({"event": event}))
        else:
            self._slow()

    def pauseProducing(self) -> None:
        """It does not take its events: keep some."""
        self._blocked = True

    def resumeProducing(self) -> None:
        """It takes them again."""
        self._blocked = False
        waiting, self._waiting = self._waiting, []
        self.transport.write(b"".join(waiting))

    def stopProducing(self) -> None:
        """The stream is gone, which it says itself too."""

    # -- the end -------------------------------------------------------------------------------

    def _say(self, message: dict[str, Any]) -> None:
        self.transport.write(encoded(message))

    def _refuse(self, error: PilotError) -> None:
        body = {"code": error.code, "message": error.message}
        self._say({"error": {**body, "hint": error.hint} if error.hint else body})
        self.hang_up()

    def _slow(self) -> None:
        self._rest()
        self._desk.counters["slow"] += 1
        self.transport.abortConnection()

    def _rest(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


class NoDirectory(ConnectionFailed):
    """That node is no coordinator."""


def encoded(message: dict[str, Any]) -> bytes:
    """@return: one line."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def _read(line: bytes) -> dict[str, Any]:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise InvalidArgument("a question is a JSON object")
    return given
