"""Asking another node's directory; the other end of L{skills.presence.shell.desk}."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from pilot.address import Address
from pilot.errors import ConnectionFailed, ConnectionRefused, PilotError, TimedOut
from skills.presence.shell.courier import PORT

PATIENCE: Final = 20.0
"""Seconds for a whole answer."""
MAX_LINE: Final = 65_536
MAX_AGENTS: Final = 20_000
"""Agents taken from one answer."""


class Refused(PilotError):
    """The other node said no.  @ivar code: its own."""

    def __init__(self, error: dict[str, Any]) -> None:
        hint = error.get("hint")
        super().__init__(str(error.get("message"))[:500], hint=str(hint)[:500] if hint else None)
        code = error.get("code")
        self.code = code if isinstance(code, str) else "internal"  # type: ignore[misc]


class _Question(LineReceiver):
    """One question.  @ivar answer: fires with agents and end, or with the result."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE
    transport: Any

    def __init__(
        self, question: dict[str, Any], on_event: Callable[[dict[str, Any]], None] | None
    ) -> None:
        self.answer: Deferred[Any] = Deferred(lambda _: self.transport.abortConnection())
        self.over: Callable[[], None] = lambda: None
        self._question = question
        self._on_event = on_event
        self._agents: list[dict[str, Any]] = []

    def connectionMade(self) -> None:
        """Ask."""
        line = json.dumps(self._question, separators=(",", ":"))
        self.transport.write(line.encode("ascii") + b"\n")

    def lineReceived(self, line: bytes) -> None:
        """A piece of the answer."""
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            self._fail(ConnectionFailed("the answer of the directory makes no sense"))
        elif isinstance(said.get("error"), dict):
            self._fail(Refused(said["error"]))
        elif isinstance(said.get("event"), dict):
            if self._on_event is not None:
                self._on_event(said["event"])
        elif isinstance(said.get("agent"), dict) and len(self._agents) < MAX_AGENTS:
            self._agents.append(said["agent"])
        elif said.get("end") is True:
            self._done({**said, "agents": self._agents})
        elif "result" in said:
            self._done(said["result"])

    def lineLengthExceeded(self, line: bytes) -> None:
        """No line is that long."""
        self._fail(ConnectionFailed("the answer of the directory makes no sense"))

    def connectionLost(self, reason: Failure | None = None) -> None:
        """It is over."""
        if not self.answer.called:
            self.answer.errback(ConnectionFailed("the directory hung up"))
        self.over()

    def _done(self, result: Any) -> None:
        if not self.answer.called:
            self.answer.callback(result)
        if self._on_event is None:
            self.transport.loseConnection()

    def _fail(self, error: PilotError) -> None:
        if not self.answer.called:
            self.answer.errback(error)
        self.transport.abortConnection()


async def ask(node: Any, reactor: Any, target: Address, question: dict[str, Any]) -> Any:
    """
    Ask once.

    @return: the result; of a list C{{"agents","version","stale_view"}}.
    @raise PilotError: no answer, or a refusal.
    """
    protocol = await _dial(node, reactor, target, _Question(question, None))
    return await _in_time(protocol.answer, reactor)


async def follow(
    node: Any,
    reactor: Any,
    target: Address,
    question: dict[str, Any],
    on_event: Callable[[dict[str, Any]], None],
    on_end: Callable[[], None],
) -> Callable[[], None]:
    """
    Watch.

    @param on_end: called when there will be no more events, unless it was us who ended it.
    @return: ends it.
    @raise PilotError: no answer, or a refusal.
    """
    protocol = await _dial(node, reactor, target, _Question(question, on_event))
    await _in_time(protocol.answer, reactor)
    protocol.over = on_end

    def end() -> None:
        protocol.over = lambda: None
        protocol.transport.loseConnection()

    return end


async def _dial(node: Any, reactor: Any, target: Address, protocol: _Question) -> _Question:
    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda addr: protocol  # type: ignore[method-assign]
    try:
        dialled: _Question = await _in_time(node.dial(target, PORT, factory), reactor)
    except ConnectionRefused:
        raise ConnectionFailed(
            f"{target} does not run the presence skill",
            hint="on that node: twistd pilot --skill presence, and pilotctl presence serve",
        ) from None
    return dialled


async def _in_time(waiting: Deferred[Any], reactor: Any) -> Any:
    def too_late(_: object, seconds: float) -> None:
        raise TimedOut(f"no answer from the directory within {seconds:g} s")

    waiting.addTimeout(PATIENCE, reactor, too_late)
    return await waiting
