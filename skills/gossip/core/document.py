"""From objects to registers and back.

A JSON object is written as one register per leaf, so that two members who change different leaves
both win; arrays and scalars are leaves.  The visible document is what a set of registers leaves
when applied in the order of their ranks: a pure function of the set.

@see: the page I{Gossip}, I{Documents}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skills.gossip.core.register import (
    MAX_SEGMENTS,
    Register,
    ancestors,
    check_key,
    escape_segment,
    split_key,
)

_MISSING = object()


def flatten(key: str, value: Any) -> list[tuple[str, Any]]:
    """
    Cut an object into its leaves.

    @param key: where the value goes; C{""} for the whole map, whose value must be an object.
    @return: (key, leaf) in the object's order.  An empty object is a leaf, and so is an object
        that lies at the eighth segment.
    @raise BadMessage: a key is longer than 256 bytes, or is no Unicode text.
    """
    leaves: list[tuple[str, Any]] = []
    _flatten(key, key.count("/") + 1 if key else 0, value, leaves)
    return leaves


def _flatten(key: str, segments: int, value: Any, leaves: list[tuple[str, Any]]) -> None:
    if isinstance(value, dict) and segments < MAX_SEGMENTS and (value or not key):
        for name, each in value.items():
            step = escape_segment(name)
            _flatten(f"{key}/{step}" if key else step, segments + 1, each, leaves)
    else:
        leaves.append((check_key(key), value))


def assemble(registers: Iterable[Register]) -> dict[str, Any]:
    """
    The visible document of a set of registers, whatever their order.

    A register hides what is older at its own key and below it; a newer one below a scalar or an
    array hides that.  What is hidden has no effect at all, so it can be dropped together with the
    tombstone that hides it.

    @return: a document of fresh objects; arrays and scalars are the registers' own, read-only.
    """
    winners: dict[str, Register] = {}
    for register in registers:
        held = winners.get(register.key)
        if held is None or register.beats(held):
            winners[register.key] = register
    root: dict[str, Any] = {}
    # Of two with the same rank the deeper comes later: neither hides the other.
    for register in sorted(winners.values(), key=lambda each: (each.rank, each.key)):
        if "/" not in register.key:
            if not register.deleted:
                root[_name(register.key)] = _copied(register.value)
        elif not is_hidden(register, winners):
            _apply(root, split_key(register.key), register)
    return root


def is_hidden(register: Register, held: Mapping[str, Register]) -> bool:
    """@return: whether a newer register stands above this one."""
    for above in ancestors(register.key):
        other = held.get(above)
        if other is not None and other.beats(register):
            return True
    return False


def _name(key: str) -> str:
    return key if "~" not in key else split_key(key)[0]


def _apply(root: dict[str, Any], path: tuple[str, ...], register: Register) -> None:
    node = root
    for name in path[:-1]:
        child = node.get(name)
        if type(child) is not dict:
            if register.deleted:
                return
            child = node[name] = {}
        node = child
    if register.deleted:
        node.pop(path[-1], None)  # out of an object that was written as a whole
    else:
        node[path[-1]] = _copied(register.value)


def _copied(value: Any) -> Any:
    """Objects can be cut and grown by deeper registers, so they are ours; the rest is shared."""
    if type(value) is dict:
        return {name: _copied(each) for name, each in value.items()}
    return value


def look_up(document: Any, path: Sequence[str], default: Any = None) -> Any:
    """@return: what stands at a path of plain segments, or the default."""
    for name in path:
        if type(document) is not dict:
            return default
        document = document.get(name, _MISSING)
        if document is _MISSING:
            return default
    return document
