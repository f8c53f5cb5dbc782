"""From objects to registers and back.

A JSON object is written as one register per leaf, so that two members who change different leaves
both win; arrays and scalars are leaves.  The visible document is what is left when a set of
registers is applied in the order of their ranks: a pure function of the set.

@see: the page I{Gossip}, I{Documents}.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from skills.gossip.register import (
    MAX_SEGMENTS,
    Register,
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

    A register hides what is older at its own key, above it (if that is no object) and below it.
    Objects that exist only to hold deeper keys vanish with the last of these.

    @return: a document of fresh objects; arrays and scalars are the registers' own, read-only.
    """
    root: dict[str, Any] = {}
    # Parents that no register wrote.  Held by identity, and kept alive, for that one question.
    implied: dict[int, dict[str, Any]] = {id(root): root}
    for register in sorted(registers, key=lambda each: each.rank):
        path = split_key(register.key)
        if register.deleted:
            _delete(root, path, implied)
        else:
            node = root
            for name in path[:-1]:
                child = node.get(name)
                if type(child) is not dict:
                    child = node[name] = {}
                    implied[id(child)] = child
                node = child
            node[path[-1]] = _copied(register.value)
    return root


def _delete(
    root: dict[str, Any], path: tuple[str, ...], implied: dict[int, dict[str, Any]]
) -> None:
    trail = [root]
    for name in path[:-1]:
        child = trail[-1].get(name)
        if type(child) is not dict:
            return
        trail.append(child)
    for node, name in zip(reversed(trail), reversed(path), strict=True):
        node.pop(name, None)
        if node or id(node) not in implied:
            return


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
