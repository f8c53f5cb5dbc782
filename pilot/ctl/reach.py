"""Is it there, and how far: C{ping} and C{traceroute}."""

from __future__ import annotations

import time

from pilot.address import PORT_ECHO, Address
from pilot.client.blocking import DaemonError, Deadline, Disconnected
from pilot.ctl.console import Result
from pilot.ctl.targets import resolve
from pilot.ctl.values import duration_text, measured_text, printable
from pilot.errors import AddressError, ConnectionFailed, InvalidArgument, TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.client.blocking import DaemonClient, Stream
    from pilot.ctl.call import Call

DEFAULT_TIMEOUT = 30.0
"""Seconds for all of it."""

DEFAULT_COUNT = 4

INTERVAL = 1.0
"""Seconds between two pings."""

MILLISECONDS_FROM = 100
"""C{ping --timeout} takes a plain whole number from here on for milliseconds: nobody waits 5000
seconds for an answer, and people do type 5000."""

TRACES = 3


def ping(call: Call) -> Result:
    """Open a stream to the echo service, send a few bytes, get them back; several times."""
    count = call.integer("count", DEFAULT_COUNT)
    limit = _ping_timeout(call)
    with call.connect() as client:
        target = resolve(call, client, call.words[0])
        deadline = Deadline(limit)
        if not call.console.json:
            call.console.line(f"PING {target}")
        results: list[dict[str, Any]] = []
        timeout = False
        for sequence in range(count):
            if sequence:
                time.sleep(min(INTERVAL, deadline.remaining or 0.0))
            if deadline.over():
                timeout = True
                break
            result = _ping_once(client, target, sequence, deadline, limit)
            results.append(result)
            if not call.console.json:
                call.console.line(_ping_line(result))
            if deadline.over() and "error" in result:
                timeout = True
                break
        if timeout and not call.console.json:
            call.console.line("timeout")
    answered = any("error" not in result for result in results)
    data = {"target": str(target), "results": results, "timeout": timeout}
    return Result(data, "", status=0 if answered or count <= 0 else 1)


def traceroute(call: Call) -> Result:
    """Open one stream to the echo service and use it three times."""
    limit = call.duration("timeout", DEFAULT_TIMEOUT)
    deadline = Deadline(limit)
    console = call.console
    with call.connect() as client:
        try:
            target = Address.parse(call.words[0])
        except AddressError as error:
            raise InvalidArgument(f"parse address: {error.message}") from None
        if not console.json:
            console.line(f"TRACEROUTE {target}")
        started = time.monotonic()
        try:
            stream = client.dial(target, PORT_ECHO, timeout=deadline.remaining)
        except TimedOut:
            raise TimedOut("dial timeout") from None
        except DaemonError as error:
            data: dict[str, Any] = {
                "target": str(target),
                "setup_ms": _milliseconds(time.monotonic() - started),
                "error": f"dial: {error.message}",
            }
            reason = printable(data["error"])
            return Result(data, f"  1  {target}  connection failed: {reason}", status=1)
        setup = time.monotonic() - started
        if not console.json:
            console.line(f"  1  {target}  setup={measured_text(setup)}")
        samples = []
        for number in range(TRACES):
            sample = _trace_once(stream, number, deadline, limit)
            samples.append(sample)
            if not console.json:
                console.line(_trace_line(sample))
        stream.close()
    data = {"target": str(target), "setup_ms": _milliseconds(setup), "rtt_samples": samples}
    answered = any("error" not in sample for sample in samples)
    explained = (
        "\nsetup is the time to open a stream: key exchange and resolution included when they\n"
        "were needed. rtt is one message to the echo service and back on the open stream."
    )
    return Result(data, explained, status=0 if answered else 1)


def _ping_timeout(call: Call) -> float:
    text = call.flags.get("timeout", "")
    if text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= MILLISECONDS_FROM:
        return int(text) / 1000
    return call.duration("timeout", DEFAULT_TIMEOUT)


def _ping_once(
    client: DaemonClient, target: Address, sequence: int, deadline: Deadline, limit: float
) -> dict[str, Any]:
    result: dict[str, Any] = {"seq": sequence}
    started = time.monotonic()
    try:
        stream = client.dial(target, PORT_ECHO, timeout=deadline.remaining)
    except Disconnected:
        raise
    except (DaemonError, TimedOut) as error:
        late = f"no answer within {duration_text(limit)}"
        result["error"] = late if isinstance(error, TimedOut) else f"dial: {error.message}"
        return result
    result.update(_echo(stream, f"ping-{sequence}".encode(), deadline, limit, started))
    stream.close()
    return result


def _trace_once(stream: Stream, number: int, deadline: Deadline, limit: float) -> dict[str, Any]:
    return _echo(stream, f"trace-{number}".encode(), deadline, limit, time.monotonic())


def _echo(
    stream: Stream, message: bytes, deadline: Deadline, limit: float, started: float
) -> dict[str, Any]:
    """Send and read back.

    @return: milliseconds since C{started}, and how many bytes, or what went wrong.
    """
    error, received = "", b""
    try:
        stream.send(message, deadline.remaining)
        while len(received) < len(message):
            piece = stream.receive(deadline.remaining)
            if not piece:
                error = "EOF"
                break
            received += piece
    except TimedOut:
        error = f"no answer within {duration_text(limit)}"
    except Disconnected:
        raise
    except ConnectionFailed as problem:
        error = problem.message
    took = _milliseconds(time.monotonic() - started)
    if not error and received != message:
        error = "the answer is not what was sent"
    if error:
        return {"rtt_ms": took, "error": error}
    return {"rtt_ms": took, "bytes": len(received)}


def _ping_line(result: dict[str, Any]) -> str:
    if "error" in result:
        return f"seq={result['seq']} error: {printable(result['error'])}"
    took = measured_text(result["rtt_ms"] / 1000)
    return f"seq={result['seq']} bytes={result['bytes']} time={took}"


def _trace_line(sample: dict[str, Any]) -> str:
    if "error" in sample:
        return f"     error: {printable(sample['error'])}"
    return f"     rtt={measured_text(sample['rtt_ms'] / 1000)} bytes={sample['bytes']}"


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
