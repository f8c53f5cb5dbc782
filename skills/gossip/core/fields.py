"""Checks of the fields of a message: each takes what is there, or refuses the message.

@see: the page I{Gossip}, I{Messages}.
"""

from __future__ import annotations

import re
from typing import Any

from skills.gossip.core.digest import BUCKETS, SUM_BYTES
from skills.gossip.core.errors import BadMessage
from skills.gossip.core.register import MAX_NODE, Register

MAX_ENTRIES = 2048  # registers in a message; more do not fit into a frame
MAX_NAMES = 2048  # key hashes in one list

SWARM = re.compile(r"[a-z0-9-]{1,32}")
EXCHANGE = re.compile(r"[0-9a-f]{1,16}")
HEX16 = re.compile(r"[0-9a-f]{16}")
WANT = re.compile(r"[0-9a-f]{2}(?:[0-9a-f]{14})?")
PACKED_BUCKETS = re.compile(rf"[A-Za-z0-9+/]{{{BUCKETS * SUM_BYTES // 3 * 4}}}")
REASON = re.compile(r"[a-z_]{1,32}")
CURSOR = re.compile(r"[0-9a-z:]{0,64}")
_DIGITS = re.compile(r"[0-9]{1,19}")
_BIGGEST = 2**63 - 1


def matched(document: dict[str, Any], name: str, form: re.Pattern[str]) -> str:
    """@return: a text of this form."""
    value = document.get(name)
    if type(value) is not str or form.fullmatch(value) is None:
        raise BadMessage(f'"{name}" of a message is missing or malformed')
    return value


def optional(document: dict[str, Any], name: str, form: re.Pattern[str]) -> str:
    """@return: a text of this form, or C{""} if it is left out."""
    return matched(document, name, form) if document.get(name, "") != "" else ""


def natural(value: object) -> int:
    """@return: a whole number, 0..2**63-1."""
    if type(value) is not int or not 0 <= value <= _BIGGEST:
        raise BadMessage("a number of a message is missing or out of range")
    return value


def number(document: dict[str, Any], name: str) -> int:
    """@return: a whole number, 0..2**63-1."""
    return natural(document.get(name))


def flag(document: dict[str, Any], name: str) -> bool:
    """@return: true or false; left out means false."""
    value = document.get(name, False)
    if type(value) is not bool:
        raise BadMessage(f'"{name}" of a message is neither true nor false')
    return value


def items(document: dict[str, Any], name: str, most: int) -> list[Any]:
    """@return: a list of up to so many; left out means none."""
    value = document.get(name, [])
    if type(value) is not list or len(value) > most:
        raise BadMessage(f'"{name}" of a message is no list, or too long')
    return value


def registers(document: dict[str, Any]) -> tuple[Register, ...]:
    """@return: the registers under C{e}."""
    return tuple(map(Register.from_list, items(document, "e", MAX_ENTRIES)))


def names(document: dict[str, Any], name: str, form: re.Pattern[str]) -> tuple[str, ...]:
    """@return: texts of this form, up to L{MAX_NAMES}."""
    values = items(document, name, MAX_NAMES)
    for each in values:
        if type(each) is not str or form.fullmatch(each) is None:
            raise BadMessage(f'"{name}" of a message holds something else than key hashes')
    return tuple(values)


def pairs(document: dict[str, Any], name: str, most: int) -> tuple[tuple[str, str], ...]:
    """@return: (key hash, hlc), up to so many."""
    found = []
    for each in items(document, name, most):
        if (
            type(each) is not list
            or len(each) != 2
            or type(each[0]) is not str
            or type(each[1]) is not str
            or HEX16.fullmatch(each[0]) is None
            or HEX16.fullmatch(each[1]) is None
        ):
            raise BadMessage(f'"{name}" of a message holds something else than hashes and times')
        found.append((each[0], each[1]))
    return tuple(found)


def node_id(document: dict[str, Any], name: str) -> int:
    """@return: a node id, a number or a number as text."""
    value = document.get(name)
    if type(value) is str and _DIGITS.fullmatch(value) is not None:
        value = int(value)
    if natural(value) > MAX_NODE:
        raise BadMessage(f'"{name}" of a message is no node id')
    return natural(value)


def version_number(value: object) -> int:
    """Scripts count in shell variables, so the number may come as text."""
    if type(value) is str and _DIGITS.fullmatch(value) is not None:
        return natural(int(value))
    if type(value) is float and value.is_integer():
        return natural(int(value))
    return natural(value)


def text_or_number(value: object, name: str) -> str:
    """@return: a short text, or a number as text."""
    if type(value) is int and abs(value) <= _BIGGEST:
        return str(value)
    if type(value) is float:
        return repr(value)
    if type(value) is not str or len(value) > 256:
        raise BadMessage(f'"{name}" of a push is neither a short text nor a number')
    return value
