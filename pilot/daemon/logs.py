"""The daemon's log: lines for people, or one JSON object a line for machines."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TextIO
from weakref import WeakSet

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    PredicateResult,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.errors import InvalidArgument
from pilot.plaintext import printable

LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}

#: Namespaces that tell every socket they open; only worth it when somebody looks closely.
_TALKATIVE = ("twisted", "log_legacy")


@implementer(ILogFilterPredicate)
class LevelGate:
    """
    Lets through what is severe enough; how severe that is may be changed while it works.

    @ivar level: C{debug}, C{info}, C{warn} or C{error}.
    """

    def __init__(self, level: str) -> None:
        self.level = level
        _gates.add(self)

    @property
    def level(self) -> str:
        """Least severe level."""
        return self._level

    @level.setter
    def level(self, level: str) -> None:
        self._least = LEVELS[level]
        self._level = level

    def __call__(self, event: LogEvent) -> Any:
        """@return: whether an observer gets the event."""
        level, least = event.get("log_level"), self._least
        if level is None:
            return PredicateResult.no
        if least is LogLevel.info:
            name = event.get("log_namespace") or ""
            if name.partition(".")[0] in _TALKATIVE:
                least = LogLevel.warn
        return PredicateResult.maybe if level >= least else PredicateResult.no


#: Every gate in use; a daemon may log to several places.
_gates: WeakSet[LevelGate] = WeakSet()


def set_level(level: str) -> None:
    """
    Log so much from now on, wherever this process's log goes through L{make_observer}.

    @raise InvalidArgument: there is no such level.
    """
    if level not in LEVELS:
        raise InvalidArgument(f"no log level {level!r}; there are: {', '.join(LEVELS)}")
    for gate in list(_gates):
        gate.level = level


def make_observer(stream: TextIO, level: str, log_format: str) -> ILogObserver:
    """
    @param level: least severe level: C{debug}, C{info}, C{warn} or C{error}.
    @param log_format: C{text} or C{json}.
    @return: an observer that writes to C{stream}.
    """
    writer = _JsonLines(stream) if log_format == "json" else _TextLines(stream)
    observer: ILogObserver = FilteringLogObserver(writer, [LevelGate(level)])
    return observer


def start_logging(stream: TextIO, level: str, log_format: str) -> None:
    """Send what the process logs to C{stream}, what it has logged so far included."""
    observer = make_observer(stream, level, log_format)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


@implementer(ILogObserver)
class _TextLines:
    """C{2026-04-01T12:00:00.123Z INFO  pilot.node.service: registered as ...}"""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        _write(self._stream, event_text(event))


@implementer(ILogObserver)
class _JsonLines:
    """Time, level, logger, message, and the event's own fields beside them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        line: dict[str, Any] = {
            "time": _time(event),
            "level": _level(event),
            "logger": event.get("log_namespace", "-"),
            "msg": formatEvent(event),
        }
        for name, value in event.items():
            if not name.startswith("log_") and name not in line and _is_plain(value):
                line[name] = value
        trace = _traceback(event)
        if trace:
            line["traceback"] = trace
        _write(self._stream, json.dumps(line))


def event_text(event: LogEvent) -> str:
    """@return: an event as lines for people; those of a traceback are indented."""
    level, namespace = _level(event), event.get("log_namespace", "-")
    lines = [f"{_time(event)} {level.upper():5} {namespace}: {printable(formatEvent(event))}"]
    trace = _traceback(event)
    if trace:
        lines += [f"    {printable(line)}" for line in trace.splitlines()]
    return "\n".join(lines)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return "info" if level is None else str(level.name)


def _time(event: LogEvent) -> str:
    when = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03}Z"


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return failure.getTraceback().rstrip() if isinstance(failure, Failure) else ""


def _write(stream: TextIO, line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except (OSError, ValueError):
        return  # a log that cannot be written is no reason to stop
