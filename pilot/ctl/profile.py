"""What this node tells the registry about itself: hostname, visibility, tags, and leaving."""

from __future__ import annotations

from pilot.ctl.console import Result, as_bytes, as_text
from pilot.errors import InvalidArgument
from pilot.wire.ipcframes import Command, encode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call

MAX_TAGS = 3
"""Tags the command line and the daemon take; the registry would hold ten."""


def set_hostname(call: Call) -> Result:
    """Name this node, at the registry and in the configuration; an empty name clears."""
    answer = _set_hostname(call, call.words[0])
    name = answer.get("hostname") or ""
    data = {"hostname": name, "node_id": answer.get("node_id")}
    return Result(data, f"hostname set: {name}" if name else "hostname cleared")


def clear_hostname(call: Call) -> Result:
    """Give the name up."""
    _set_hostname(call, "")
    return Result({"hostname": ""}, "hostname cleared")


def set_public(call: Call) -> Result:
    """Visible and reachable for everybody."""
    return Result(_answer(call, Command.SET_VISIBILITY, b"\x01", "set_visibility"))


def set_private(call: Call) -> Result:
    """Visible and reachable for trusted nodes only."""
    return Result(_answer(call, Command.SET_VISIBILITY, b"\x00", "set_visibility"))


def set_tags(call: Call) -> Result:
    """Replace the tags."""
    if len(call.words) > MAX_TAGS:
        raise InvalidArgument(f"set-tags: maximum {MAX_TAGS} tags allowed, got {len(call.words)}")
    answer = _set_tags(call, [as_text(as_bytes(word)) for word in call.words])
    tags = answer.get("tags") or []
    shown = " ".join(f"#{tag}" for tag in tags)
    data = {"node_id": answer.get("node_id"), "tags": tags}
    return Result(data, f"tags set: {shown}" if tags else "tags cleared")


def clear_tags(call: Call) -> Result:
    """Remove every tag."""
    _set_tags(call, [])
    return Result({"tags": []}, "tags cleared")


def deregister(call: Call) -> Result:
    """Leave the registry."""
    return Result(_answer(call, Command.DEREGISTER, b"", "deregister"))


def _answer(call: Call, command: int, payload: bytes, operation: str) -> dict[str, Any]:
    with call.connect() as client:
        return call.ask(client, command, payload, operation)


def _set_tags(call: Call, tags: list[str]) -> dict[str, Any]:
    return _answer(call, Command.SET_TAGS, encode_json(tags), "set_tags")


def _set_hostname(call: Call, name: str) -> dict[str, Any]:
    _ = call.settings.config  # a file that cannot be read must not be noticed half way
    answer = _answer(call, Command.SET_HOSTNAME, as_bytes(name), "set_hostname")
    stored = answer.get("hostname") or ""
    call.settings.save({"hostname": stored} if stored else {}, remove=("hostname",))
    return answer
