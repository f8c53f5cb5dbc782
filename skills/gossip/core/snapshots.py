"""What a push of version 1 means: a snapshot of its sender's state, not a set of writes.

An old script sends everything it knows, over and over, and has no times to go with it.  Taken as
writes, its stale values would win and its deleted ones come back.  So the leaves of each sender's
previous snapshot are remembered (as hashes), and only those that have changed since, and differ
from what is here, are its writes.  The first snapshot of a sender only fills in keys of which
nothing was ever known.

@see: the page I{Gossip}, I{Scripts and version 1}.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from skills.gossip.core.document import flatten
from skills.gossip.core.errors import BadMessage
from skills.gossip.core.register import ancestors, check_value
from skills.gossip.core.registers import RegisterMap

MAX_LEAVES = 10_000  # in one snapshot, and remembered of one sender
MAX_REMEMBERED = 100_000  # of all senders together; the one heard longest ago makes room

_MISSING = object()
_canonical = msgspec.json.Encoder(order="sorted").encode


class _Sender:
    """
    One sender.

    @ivar said: key -> hash of the leaf it sent last.
    @ivar told: key -> hash of the leaf it was sent last.
    """

    __slots__ = ("said", "told")

    def __init__(self) -> None:
        self.said: dict[str, bytes] = {}
        self.told: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self.said) + len(self.told) + 1


class SnapshotBook:
    """
    What each sender of version 1 said last.

    @ivar refused: leaves that could not be registers (too deep, too long, no JSON).
    @ivar forgotten: senders that had to make room.
    """

    __slots__ = ("_remembered", "_senders", "forgotten", "refused")

    def __init__(self) -> None:
        self._senders: dict[int, _Sender] = {}  # the one heard last at the end
        self._remembered = 0
        self.refused = 0
        self.forgotten = 0

    def writes_of(
        self, sender: int, state: dict[str, Any], registers: RegisterMap
    ) -> list[tuple[str, Any]]:
        """
        Compare a snapshot with the sender's previous ones, and with what is held.

        A C{null} says nothing where a key is deleted already; elsewhere it is a value like any
        other.  Keys that are missing say nothing either: version 1 has no deletion.

        @param sender: the authenticated node.
        @param state: its C{state}; read only.
        @return: (key, leaf) to be written with the time of now and the sender as author.
        @raise BadMessage: the snapshot has more than L{MAX_LEAVES} leaves; nothing was noted.
        """
        leaves = self._leaves(state)
        known = self._senders.get(sender)
        first = known is None or not known.said
        before, told = (known.said, known.told) if known is not None else ({}, {})
        said: dict[str, bytes] = {}
        writes: list[tuple[str, Any]] = []
        for key, leaf in leaves:
            said[key] = mark = _mark(leaf)
            if first:
                if not _known(registers, key):
                    writes.append((key, leaf))
            elif before.get(key) != mark and _differs(registers, key, leaf):
                held = registers.get(key)
                # What it was told comes back as an echo, perhaps an old one by now.
                if told.get(key) != mark or (held is not None and held.author == sender):
                    writes.append((key, leaf))
        self._note(sender, _joined(before, said))
        return writes

    def told(self, sender: int, state: dict[str, Any]) -> None:
        """
        A member of version 1 was sent a state: hearing it back is no write.

        @param state: as it was sent; read only.
        """
        told = {key: _mark(leaf) for key, leaf in self._leaves(state)}
        self._note(sender, None, told)

    def forget(self, sender: int) -> None:
        """A member is gone: its next snapshot is a first one again."""
        known = self._senders.pop(sender, None)
        if known is not None:
            self._remembered -= len(known)

    def _note(
        self, sender: int, said: dict[str, bytes] | None, told: dict[str, bytes] | None = None
    ) -> None:
        known = self._senders.pop(sender, None)
        if known is None:
            known = _Sender()
        else:
            self._remembered -= len(known)
        if said is not None:
            known.said = said
        if told is not None:
            known.told = {**known.told, **told}
            if len(known.told) > MAX_LEAVES:
                known.told = told
        self._senders[sender] = known
        self._remembered += len(known)
        while self._remembered > MAX_REMEMBERED and len(self._senders) > 1:
            self.forget(next(iter(self._senders)))
            self.forgotten += 1

    def _leaves(self, state: dict[str, Any]) -> list[tuple[str, Any]]:
        """Leaf by leaf, so that a bad one costs nothing but itself."""
        leaves: list[tuple[str, Any]] = []
        for name, value in state.items():
            try:
                check_value(value)
                if name or value != {}:
                    leaves.extend(flatten("", {name: value}))
            except BadMessage:
                self.refused += 1
            if len(leaves) > MAX_LEAVES:
                raise BadMessage(f"a snapshot has more than {MAX_LEAVES} leaves")
        return leaves


def _joined(before: dict[str, bytes], said: dict[str, bytes]) -> dict[str, bytes]:
    """
    What a sender said last at each key, with the keys that it leaves out now.

    A script that starts anew begins with nothing and then repeats what it learns: that it has said
    these things before still counts.  Not so where an object has become a leaf, or a leaf one.
    """
    if len(before) + len(said) > MAX_LEAVES:
        return said
    gone = {above for key in said if "/" in key for above in ancestors(key)}
    joined = {
        key: mark
        for key, mark in before.items()
        if key not in gone and not ("/" in key and any(each in said for each in ancestors(key)))
    }
    joined.update(said)
    return joined


def _mark(leaf: Any) -> bytes:
    return blake2b(_canonical(leaf), digest_size=8).digest()


def _known(registers: RegisterMap, key: str) -> bool:
    """@return: whether anything was ever known at this key, above it or below it."""
    return bool(
        registers.get(key)
        or registers.dormant(key)
        or registers.at_and_below(key)
        or any(registers.get(above) or registers.dormant(above) for above in ancestors(key))
    )


def _differs(registers: RegisterMap, key: str, leaf: Any) -> bool:
    held = registers.get(key) or registers.dormant(key)
    if leaf is None and held is not None and held.deleted:
        return False
    shown = registers.visible(key, _MISSING)
    if shown is _MISSING:
        return True
    if leaf == {} and type(leaf) is dict:
        # Merging an empty object into an object changes nothing.
        return type(shown) is not dict
    return bool(_canonical(shown) != _canonical(leaf))
