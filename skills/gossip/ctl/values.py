"""C{pilotctl gossip set}, C{get}, C{del}, C{keys}, C{dump} and C{import}."""

from __future__ import annotations

from pilot.ctl.console import MAX_ROWS, Result, as_bytes, indented, table
from pilot.ctl.values import printable, size_text
from pilot.errors import InvalidArgument, NotFound, PilotError
from skills.gossip.ctl.common import NO_JSON, ask, read_json, read_object, time_of, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call

PAGE = 128 * 1024
"""Bytes of a document that go to the skill at a time."""


def set_value(call: Call) -> Result:
    """Write a value: JSON, or else a text."""
    _, key, text = call.words[:3]
    raw = as_bytes(text)
    value = read_json(raw)
    if value is NO_JSON:
        value = raw.decode("utf-8", "replace")
    ttl = call.duration("ttl", 0.0) if "ttl" in call.flags else None
    if ttl is not None and ttl <= 0:
        raise InvalidArgument("--ttl: expected more than nothing")
    # A value that is null is left out, and taken for null there.
    data = ask(call, "set", key=key, value=value, replace=call.switch("replace"), ttl=ttl)
    lines = [f"set {printable(key)}"]
    if not data["stored"]:
        lines.append("  in memory only: the disk takes nothing (pilotctl gossip status)")
    return Result(data, "\n".join(lines))


def get(call: Call) -> Result:
    """Show a value, or the whole document."""
    key = call.word(1)
    value = whole(call, key)
    data = {"swarm": call.words[0], "key": key or "", "value": value}
    text = printable(value, keep="\n\t") if isinstance(value, str) else indented(value)
    return Result(data, text)


def delete(call: Call) -> Result:
    """Delete a key and everything below it."""
    data = ask(call, "del", key=call.words[1])
    return Result(data, f"deleted {data['deleted']} key(s)")


def keys(call: Call) -> Result:
    """List the keys."""
    prefix = call.flags.get("prefix")
    rows: list[dict[str, Any]] = []
    more = True
    while more:
        after = rows[-1]["key"] if rows else None
        answer = ask(call, "keys", prefix=prefix, after=after)
        rows += answer["keys"]
        more = bool(answer["more"])
    data = {"swarm": call.words[0], "keys": rows}
    if not rows:
        return Result(data, "no keys")
    cells = [
        (each["key"], size_text(each["size"]), str(each["author"]), time_of(each["hlc"]))
        for each in rows[: MAX_ROWS + 1]
    ]
    text = table(("KEY", "SIZE", "AUTHOR", "WRITTEN"), (30, 8, 8, 0), cells[:MAX_ROWS])
    if len(rows) > MAX_ROWS:
        text += f"\n... and {len(rows) - MAX_ROWS} more (--json shows all)"
    return Result(data, text)


def dump(call: Call) -> Result:
    """Print the whole document."""
    state = whole(call)
    return Result({"swarm": call.words[0], "state": state}, indented(state))


def import_file(call: Call) -> Result:
    """Merge a JSON object from a file, or from what C{dump} has printed in JSON mode."""
    state = _state_of(call.words[1])
    from skills.gossip.core.compat import paged

    number = 0
    for page in paged(state, PAGE):
        try:
            number += ask(call, "import", state=page)["keys"]
        except PilotError as error:
            if number:
                call.console.progress(f"{number} value(s) were written before this")
            raise error
    data = {"swarm": call.words[0], "keys": number}
    return Result(data, f"imported {number} value(s)")


def _state_of(path: str) -> dict[str, Any]:
    try:
        if path == "-":
            import sys

            content = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                content = file.read()
    except FileNotFoundError:
        raise NotFound(f"file not found: {path}") from None
    except OSError as error:
        raise PilotError(f"read file: {path}: {error.strerror}") from None
    found = read_object(content, path)
    data = found.get("data")
    if found.get("status") == "ok" and isinstance(data, dict) and set(data) == {"swarm", "state"}:
        return dict(data["state"])  # what `--json gossip dump` has printed
    return found
