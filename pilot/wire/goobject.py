"""JSON objects with a known set of members, taken as the reference takes them.

Names match without regard to case, unknown ones are ignored, of repeated ones the last wins,
C{null} counts as not there, and a value of the wrong kind spoils the whole object.

@see: protocol notes, I{Task submit}; golden vectors C{frames.json}, C{task_payload_parsing}.
"""

from __future__ import annotations

import binascii

from pilot.errors import WireError
from pilot.wire.jsontext import load_pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_INTEGERS = range(-(1 << 63), 1 << 63)
# The two characters outside ASCII that are the other case of a letter.
_ODD_CASES = str.maketrans("\u017f\u212a", "sk")


def read_object(data: bytes, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """
    @param data: one JSON document; C{null} stands for an object without members.
    @param defaults: lower-case names and the values of what is missing: a C{str}, an C{int} for a
        signed integer of 64 bits, a C{bool}, C{bytes} for base64, or a C{list} for any array.
    @return: a value for each name.
    @raise WireError: no such object.
    """
    value = load_pairs(data)
    found = dict(defaults)
    if value is None:
        return found
    if not isinstance(value, tuple):
        raise WireError("expected a JSON object")
    for name, member in value:
        known = name.translate(_ODD_CASES).lower()
        if known in found and member is not None:
            found[known] = _taken(known, member, defaults[known])
    return found


def _taken(name: str, member: Any, default: Any) -> Any:
    if isinstance(default, bytes):
        return _bytes(name, member)
    # A tuple is an object, not a list; a bool is no number; 1.0 and 1e0 are no integers.
    if type(member) is not type(default):
        raise WireError(f"{name}: not {_KINDS[type(default)]}")
    if type(member) is int and member not in _INTEGERS:
        raise WireError(f"{name}: out of range")
    return member


_KINDS = {str: "a string", int: "an integer", bool: "true or false", list: "an array"}


def _bytes(name: str, member: Any) -> bytes:
    if isinstance(member, list):
        if all(type(item) is int and 0 <= item <= 255 for item in member):
            return bytes(member)
        raise WireError(f"{name}: not an array of bytes")
    if not isinstance(member, str):
        raise WireError(f"{name}: not a string")
    try:
        text = member.replace("\r", "").replace("\n", "").encode("ascii")
        return binascii.a2b_base64(text, strict_mode=True)
    except (ValueError, UnicodeEncodeError):
        raise WireError(f"{name}: not base64") from None
