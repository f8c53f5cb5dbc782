"""How the events of a swarm are told to webhooks and subscribers, whose messages are bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

#: Bytes of one event as JSON; what is announced may have 64 KiB.
LARGEST = 48 * 1024


def portions(name: str, data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """
    Cut an event into events that are small enough.

    Only C{gossip.changed} can be large.  Its changes are spread over as many events as it takes; a
    single change that is still too large comes without its values, and says so in C{"omitted"}.
    """
    if name != "gossip.changed":
        yield data
        return
    room = LARGEST - _size({**data, "changes": []})
    portion: list[dict[str, Any]] = []
    used = 0
    for change in data["changes"]:
        size = _size(change) + 1
        if size > room:
            change = _without_values(change)
            size = _size(change) + 1
        if portion and used + size > room:
            yield {**data, "changes": portion, "left_out": 0}
            portion, used = [], 0
        portion.append(change)
        used += size
    yield {**data, "changes": portion}


def _without_values(change: dict[str, Any]) -> dict[str, Any]:
    previous = change["previous"]
    if previous is not None:
        previous = {**previous, "value": None}
    return {**change, "value": None, "previous": previous, "omitted": True}


def _size(value: object) -> int:
    """@return: bytes of a value as JSON in which five characters are escapes of six."""
    data: bytes = _encode(value)
    return (
        len(data)
        + 5 * (data.count(b"<") + data.count(b">") + data.count(b"&"))
        + 3 * (data.count("\u2028".encode()) + data.count("\u2029".encode()))
    )


_encode = msgspec.json.Encoder().encode
