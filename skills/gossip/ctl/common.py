"""What the commands of the family share.  No Twisted here: C{pilotctl} starts fast."""

from __future__ import annotations

import re

from pilot.client.skillcalls import SkillClient
from pilot.errors import InvalidArgument
from pilot.wire.jsontext import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call

_ANCIENT = 86400.0


def client(call: Call) -> SkillClient:
    """@return: a way to the skill of this node."""
    return SkillClient("gossip", call.settings.socket)


def ask(call: Call, operation: str, timeout: float | None = 60.0, **arguments: Any) -> Any:
    """
    Ask the skill about the swarm that is named first.

    @param arguments: what else it is told; C{None} is left out.
    @raise NotRunning: the skill does not run.
    """
    given = {key: value for key, value in arguments.items() if value is not None}
    return client(call).call(operation, {"swarm": call.words[0], **given}, timeout)


def read_object(text: bytes, what: str) -> dict[str, Any]:
    """@raise InvalidArgument: it is no JSON object."""
    value = read_json(text)
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what}: expected a JSON object")
    return value


def read_json(text: bytes) -> Any:
    """@return: the value, or a marker that is no JSON value if it is none."""
    from pilot.errors import WireError

    try:
        return load(text)
    except WireError:
        return NO_JSON


NO_JSON = object()


def whole(call: Call, key: str | None = None) -> Any:
    """
    Get a value, which may come in parts.

    @return: it; of an object that changes while it is fetched, a mixture of two moments at worst.
    """
    for _ in range(_ATTEMPTS):
        first = ask(call, "get", key=key)
        value, complete = first["value"], True
        for page in range(1, first["pages"]):
            answer = ask(call, "get", key=key, page=page)
            complete = complete and answer["root"] == first["root"]
            merge(value, answer["value"])
        if complete:
            break
    return value


_ATTEMPTS = 5


def merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    """Merge an object into another, member by member."""
    for name, value in other.items():
        held = into.get(name)
        if isinstance(held, dict) and isinstance(value, dict):
            merge(held, value)
        else:
            into[name] = value


def age(seconds: Any) -> str:
    """@return: how long ago, for people."""
    if not isinstance(seconds, int | float):
        return "never"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 2 * _ANCIENT else f"{seconds / _ANCIENT:.0f} d"


def time_of(hlc: Any) -> str:
    """@return: when a value was written, in the time of this place."""
    from pilot.ctl.values import local_time_text

    if not isinstance(hlc, str) or not re.fullmatch("[0-9a-f]{16}", hlc):
        return "-"
    return local_time_text((int(hlc, 16) >> 16) / 1000)


def shown(value: Any, most: int = 60) -> str:
    """@return: a value on one line, for people."""
    from pilot.ctl.values import printable
    from pilot.wire.ipcframes import encode_json

    text = printable(encode_json(value).decode())
    return text if len(text) <= most else text[: most - 3] + "..."
