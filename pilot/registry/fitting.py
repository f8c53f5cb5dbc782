"""Keeping answers within the frame that clients accept.

@see: protocol notes of the registry, I{JSON framing}: a Go client breaks the connection at an
    answer of more than 65,536 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec


def fit(answer: dict[str, Any], member: str, extras: Sequence[str], limit: int) -> dict[str, Any]:
    """
    Make a list in an answer small enough.

    First its entries lose what they can do without, then the list loses its end, and the answer
    says so by C{"truncated": true}.

    @param member: the name of the list.
    @param extras: what an entry can do without, the least missed first.
    @param limit: bytes of the whole body.
    """
    # Escaped characters take more room in the end than msgspec counts: five bytes each.  None of
    # these lists holds free text but in the extras, so a reserve will do.
    limit -= 1024
    for extra in extras:
        if _size(answer) <= limit:
            return answer
        for entry in answer[member]:
            entry.pop(extra, None)
    excess = _size(answer) - limit
    if excess > 0:
        answer["truncated"] = True
        entries = answer[member]
        while entries and excess > 0:
            excess -= _size(entries.pop()) + 1
    return answer


def _size(value: Any) -> int:
    return len(msgspec.json.encode(value))
