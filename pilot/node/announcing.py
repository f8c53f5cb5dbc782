"""What a skill tells the world: the name and the data of an announcement."""

from __future__ import annotations

import re
from typing import Any

from pilot.errors import InvalidArgument
from pilot.wire.jsontext import dump

#: Bytes of the largest announcement.
MAX_ANNOUNCEMENT = 64 * 1024

_NAME = re.compile(r"[a-z0-9._-]{1,128}", re.ASCII)


def encode_announcement(name: str, data: dict[str, Any]) -> bytes:
    """
    @return: C{data} as JSON.
    @raise InvalidArgument: no such name, no object, or too large.
    @raise pilot.errors.WireError: JSON cannot express it.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"invalid announcement {name[:140]!r}: expected 1 to 128 of a-z 0-9 . _ -"
        )
    if not isinstance(data, dict):
        raise InvalidArgument(f"the data of {name} is no object")
    payload = dump(data)
    if len(payload) > MAX_ANNOUNCEMENT:
        raise InvalidArgument(f"{name}: {len(payload)} bytes of data (max {MAX_ANNOUNCEMENT})")
    return payload
