"""What a webhook is told: one event as the body of a POST.

@see: protocol notes, I{Webhooks}; golden vectors C{webhook_events.json}.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import gmtime, strftime
from typing import Any

from pilot.wire.jsontext import dump

_NANOSECONDS = 1_000_000_000


def encode_event(
    event_id: int, name: str, node_id: int, when: int, data: Mapping[str, Any] | None = None
) -> bytes:
    """
    @param when: wall clock, nanoseconds since 1970.
    @param data: left out of the body when there is none; its keys come sorted.
    @return: the compact JSON object, members in the order of the reference.
    @raise WireError: C{data} holds something that JSON cannot express.
    """
    told = b',"data":' + dump(data) if data else b""
    return b'{"event_id":%d,"event":%b,"node_id":%d,"timestamp":"%b"%b}' % (
        event_id,
        dump(name),
        node_id,
        timestamp(when).encode(),
        told,
    )


def timestamp(when: int) -> str:
    """
    @param when: wall clock, nanoseconds since 1970.
    @return: RFC 3339, UTC, with up to nine fractional digits and no zeros at their end.
    """
    seconds, fraction = divmod(when, _NANOSECONDS)
    text = strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds))
    if fraction:
        text += f".{fraction:09}".rstrip("0")
    return text + "Z"
