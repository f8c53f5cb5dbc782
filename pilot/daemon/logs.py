"""The daemon's log: lines for people, or one JSON object a line for machines."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from zope.interface import implementer

LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}

#: Namespaces that tell every socket they open; only worth it when somebody looks closely.
_TALKATIVE = ("twisted", "log_legacy")


def make_observer(stream: TextIO, level: str, log_format: str) -> ILogObserver:
    """
    @param level: least severe level: C{debug}, C{info}, C{warn} or C{error}.
    @param log_format: C{text} or C{json}.
    @return: an observer that writes to C{stream}.
    """
    writer = _JsonLines(stream) if log_format == "json" else _TextLines(stream)
    predicate = LogLevelFilterPredicate(defaultLogLevel=LEVELS[level])
    if level == "info":
        for namespace in _TALKATIVE:
            predicate.setLogLevelForNamespace(namespace, LogLevel.warn)
    observer: ILogObserver = FilteringLogObserver(writer, [predicate])
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
        level, namespace = _level(event), event.get("log_namespace", "-")
        lines = [f"{_time(event)} {level.upper():5} {namespace}: {_printable(formatEvent(event))}"]
        trace = _traceback(event)
        if trace:
            lines += [f"    {_printable(line)}" for line in trace.splitlines()]
        _write(self._stream, "\n".join(lines))


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


def _printable(text: str) -> str:
    """A peer's words stand on the line that quotes them, and move no cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _write(stream: TextIO, line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except (OSError, ValueError):
        return  # a log that cannot be written is no reason to stop
