"""The registers a replica holds: merging, deleting for good, quotas.

Merging is commutative, associative and idempotent, as long as no quota is hit.  A deleted key stays
as a tombstone for a day, so that members who missed the deletion learn of it; afterwards only a few
members keep the tombstone, B{dormant}, outside of what is compared, and bring it up again when the
deleted value reappears.

@see: the page I{Gossip}, I{Deleting}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, ValuesView
from dataclasses import dataclass
from enum import Enum
from heapq import nlargest
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from skills.gossip.core.digest import Digest, bucket_of
from skills.gossip.core.document import assemble, is_hidden, look_up
from skills.gossip.core.hlc import hlc_at, hlc_time
from skills.gossip.core.register import FLAG_EPHEMERAL, Register, ancestors, key_hash, split_key

HOLDERS = 3  # members that keep a dormant tombstone

_MIX = 0xBF58476D1CE4E5B9  # multipliers of splitmix64: spread node ids over 64 bits
_MIX2 = 0x94D049BB133111EB
_WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What one swarm may hold.  Sizes are in bytes, of registers in their JSON shape.

    @ivar keys: registers held, tombstones included.
    @ivar bytes: their sizes together.
    @ivar value: size of one value.
    @ivar author_keys: registers of one author.
    @ivar author_bytes: their sizes together.
    @ivar tombstone_life: seconds from a deletion until its tombstone becomes dormant.
    @ivar dormant_life: seconds from a deletion until the holders forget it.
    @ivar dormant: dormant tombstones kept; the one that came first makes room.
    """

    keys: int = 10_000
    bytes: int = 8 * 1024 * 1024
    value: int = 16 * 1024
    author_keys: int = 1_000
    author_bytes: int = 1024 * 1024
    tombstone_life: float = 24 * 3600.0
    dormant_life: float = 30 * 24 * 3600.0
    dormant: int = 10_000


class Kind(Enum):
    """What became of a register that was offered."""

    NEW = "new"  # it is held now
    OLD = "old"  # something newer stands in its way
    SAME = "same"  # nothing to do: it is known
    REFUSED = "refused"  # a quota


class Outcome(NamedTuple):
    """
    The result of a merge.

    @ivar kind: what became of the register.
    @ivar other: for C{NEW} the register it replaced, if there was one; for C{OLD} the newer one,
        which its sender should be told; perhaps of a shorter key, perhaps a dormant tombstone.
    @ivar reason: for C{REFUSED}: C{"keys"}, C{"bytes"}, C{"value"}, C{"author_keys"} or
        C{"author_bytes"}.
    """

    kind: Kind
    other: Register | None = None
    reason: str = ""


class Usage(NamedTuple):
    """What one author has here: registers, and their sizes together."""

    keys: int
    bytes: int


class Expiry(NamedTuple):
    """
    What became too old.

    @ivar dropped: gone for good.
    @ivar rested: tombstones that are dormant now.
    """

    dropped: list[Register]
    rested: list[Register]


class _Below(dict[str, dict[str, None]]):
    """Prefix -> the keys below it.  Empty as long as all keys have a single segment."""

    __slots__ = ()

    def add(self, key: str) -> None:
        if "/" in key:
            for above in ancestors(key):
                self.setdefault(above, {})[key] = None

    def remove(self, key: str) -> None:
        if "/" in key:
            for above in ancestors(key):
                keys = self[above]
                del keys[key]
                if not keys:
                    del self[above]


_KNOWN = Outcome(Kind.SAME)
_FRESH = Outcome(Kind.NEW)
_NONE = Usage(0, 0)


def _keep_all(_key: str) -> bool:
    return True


class RegisterMap:
    """
    The registers of one swarm, as one member holds them.

    Times are B{corrected} seconds since 1970 (L{skills.gossip.core.hlc.HybridClock.corrected}).

    @ivar limits: its quotas.
    @ivar bytes: sizes of all registers held together.
    @ivar refused: registers refused, by reason.
    @ivar keeps: asked with a key whether this member is a holder of its dormant tombstone.
    @ivar digest: the sums over all registers held.
    @ivar changes: grows with every change; equal numbers mean an equal map.
    """

    __slots__ = (
        "_authors",
        "_below",
        "_by_hash",
        "_document",
        "_dormant",
        "_dormant_below",
        "_held",
        "bytes",
        "changes",
        "digest",
        "keeps",
        "limits",
        "refused",
    )

    def __init__(
        self, limits: Limits | None = None, *, keeps: Callable[[str], bool] = _keep_all
    ) -> None:
        self.limits = limits or DEFAULT_LIMITS
        self.keeps = keeps
        self.digest = Digest()
        self.bytes = 0
        self.changes = 0
        self.refused: dict[str, int] = {}
        self._held: dict[str, Register] = {}  # the one changed last at the end
        self._by_hash: dict[str, Register] = {}
        self._authors: dict[int, Usage] = {}
        self._below = _Below()  # ...of what is held
        self._dormant: dict[str, tuple[Register, float]] = {}  # key -> tombstone, kept until
        self._dormant_below = _Below()
        self._document: dict[str, Any] | None = None

    def __len__(self) -> int:
        """@return: registers held, tombstones included, dormant ones not."""
        return len(self._held)

    @property
    def root(self) -> str:
        """16 hex digits, equal for equal sets of registers held."""
        return self.digest.root

    # -- changing ------------------------------------------------------------------------------

    def merge(self, register: Register, wall: float) -> Outcome:
        """
        Take a register, if it is newer than what is here and fits.

        Whether it may stand under its key and whether its time can be believed was decided before.
        """
        key = register.key
        held = self._held.get(key)
        if held is not None and not register.beats(held):
            return Outcome(Kind.OLD, held) if held.beats(register) else _KNOWN
        if self._dormant and (resting := self.dormant(key)) is not None:
            if register == resting:
                return _KNOWN
            if not register.beats(resting):
                return Outcome(Kind.OLD, resting)
        if "/" in key:
            cover = self._cover(register, hlc_at(wall - self.limits.tombstone_life))
            if cover is not None:
                return Outcome(Kind.OLD, cover)
        if (
            register.deleted
            and register.hlc < hlc_at(wall - self.limits.tombstone_life)
            and not self._cuts(register)
        ):
            return self._merge_late(register, held, wall)
        reason = self._refusal(register, held)
        if reason:
            self.refused[reason] = self.refused.get(reason, 0) + 1
            return Outcome(Kind.REFUSED, held, reason)
        if held is not None:
            self._remove(held)
        self._wake(key)
        self._insert(register)
        if self._dormant_below and type(register.value) is dict:
            self._recall(register)
        return _FRESH if held is None else Outcome(Kind.NEW, held)

    def drop(self, key: str) -> Register | None:
        """
        Forget a register without a trace: one that was ephemeral, or not to be trusted any more.

        @return: what was there.
        """
        held = self._held.get(key)
        if held is not None:
            self._remove(held)
        return held

    def clear(self) -> None:
        """Forget everything, dormant tombstones included."""
        for register in list(self._held.values()):
            self._remove(register)
        self._dormant.clear()
        self._dormant_below.clear()

    def expire(self, wall: float) -> Expiry:
        """
        Let go of what is too old: call it every minute or so.

        That is: tombstones after their life, what they (or newer values above) hide, and dormant
        tombstones after theirs.  The visible document stays the same.
        """
        horizon = hlc_at(wall - self.limits.tombstone_life)
        covered: list[Register] = []
        ended: list[Register] = []
        for register in self._held.values():
            if register.hlc < horizon:
                if "/" in register.key and self._cover(register, horizon) is not None:
                    covered.append(register)
                elif register.deleted and not self._cuts(register):
                    ended.append(register)
        dropped = covered
        rested: list[Register] = []
        for register in covered:
            self._remove(register)
        for register in ended:
            self._remove(register)
            until = hlc_time(register.hlc) + self.limits.dormant_life
            if until > wall and self.keeps(register.key):
                self._rest(register, until)
                rested.append(register)
            else:
                dropped.append(register)
        for resting, until in list(self._dormant.values()):
            if until <= wall:
                self._wake(resting.key)
                dropped.append(resting)
        return Expiry(dropped, rested)

    def _merge_late(self, register: Register, held: Register | None, wall: float) -> Outcome:
        """
        A tombstone that has outlived its time: it still ends what it deletes.

        It does not come back into the set that is compared, or it would circle for ever.
        """
        until = hlc_time(register.hlc) + self.limits.dormant_life
        if held is not None:
            self._remove(held)
            self._rest(register, max(until, wall + self.limits.tombstone_life))
            return Outcome(Kind.NEW, held)
        if register.key in self._below:
            self._rest(register, max(until, wall + self.limits.tombstone_life))
        elif until > wall and self.keeps(register.key):
            self._rest(register, until)
        return _KNOWN

    def _rest(self, register: Register, until: float) -> None:
        self._wake(register.key)
        self._dormant[register.key] = (register, until)
        self._dormant_below.add(register.key)
        if len(self._dormant) > self.limits.dormant:
            self._wake(next(iter(self._dormant)))

    def _wake(self, key: str) -> None:
        if self._dormant.pop(key, None) is not None:
            self._dormant_below.remove(key)

    def _recall(self, register: Register) -> None:
        """An object came late: tombstones that cut something out of it are needed again."""
        for key in list(self._dormant_below.get(register.key, ())):
            resting = self._dormant[key][0]
            if resting.beats(register) and len(self._held) < self.limits.keys:
                self._wake(key)
                self._insert(resting)

    def _cover(self, register: Register, horizon: str) -> Register | None:
        """@return: a newer register above this one, old enough for all to have seen it."""
        for above in ancestors(register.key):
            held = self._held.get(above)
            if held is not None and held.hlc < horizon and held.beats(register):
                return held
            resting = self._dormant.get(above)
            if resting is not None and resting[0].beats(register):
                return resting[0]
        return None

    def _cuts(self, tombstone: Register) -> bool:
        """@return: whether an older object above may still hold what the tombstone deletes."""
        for above in ancestors(tombstone.key):
            held = self._held.get(above)
            if held is not None and type(held.value) is dict and tombstone.beats(held):
                return True
        return False

    def _refusal(self, register: Register, held: Register | None) -> str:
        limits = self.limits
        size = register.size
        if size > limits.value and len(msgspec.json.encode(register.value)) > limits.value:
            return "value"
        if held is None:
            if len(self._held) >= limits.keys:
                return "keys"
            grown = size
        elif register.deleted:
            return ""  # it makes room: never stand in the way of a deletion
        else:
            grown = size - held.size
        if self.bytes + grown > limits.bytes:
            return "bytes"
        keys, used = self._authors.get(register.author, _NONE)
        if held is not None and held.author == register.author:
            used += grown
        else:
            used += size
            if keys >= limits.author_keys:
                return "author_keys"
        return "author_bytes" if used > limits.author_bytes else ""

    def _insert(self, register: Register) -> None:
        key, author, size = register.key, register.author, register.size
        self._held[key] = register
        self._by_hash[register.key_hash] = register
        keys, used = self._authors.get(author, _NONE)
        self._authors[author] = Usage(keys + 1, used + size)
        self.bytes += size
        self.digest.add(register)
        self._below.add(key)
        self._changed()

    def _remove(self, register: Register) -> None:
        key, author, size = register.key, register.author, register.size
        # Taken out, never replaced in place, so that the order is that of the changes.
        del self._held[key]
        self._by_hash.pop(register.key_hash, None)
        keys, used = self._authors[author]
        if keys == 1:
            del self._authors[author]
        else:
            self._authors[author] = Usage(keys - 1, used - size)
        self.bytes -= size
        self.digest.remove(register)
        self._below.remove(key)
        self._changed()

    def _changed(self) -> None:
        self.changes += 1
        self._document = None

    # -- asking --------------------------------------------------------------------------------

    def get(self, key: str) -> Register | None:
        """@return: what is held at exactly this key, perhaps a tombstone."""
        return self._held.get(key)

    def dormant(self, key: str) -> Register | None:
        """@return: the dormant tombstone of a key."""
        resting = self._dormant.get(key)
        return resting[0] if resting else None

    def all(self) -> ValuesView[Register]:
        """@return: everything held, the one changed last at the end.  A live view."""
        return self._held.values()

    def all_dormant(self) -> list[Register]:
        """@return: the dormant tombstones."""
        return [register for register, _until in self._dormant.values()]

    def live(self, prefix: str = "") -> list[Register]:
        """@return: what shows in the document at this key and below, C{""} for everything."""
        if not self._below:
            found: Iterable[Register] = self._held.values()
            if prefix:
                found = [self._held[prefix]] if prefix in self._held else []
            return [each for each in found if not each.deleted]
        return [each for each in self.at_and_below(prefix) if self.shows(each)]

    def at_and_below(self, prefix: str = "") -> list[Register]:
        """@return: everything held at this key and below, C{""} for everything."""
        if not prefix:
            return list(self._held.values())
        found = [self._held[prefix]] if prefix in self._held else []
        found.extend(self._held[key] for key in self._below.get(prefix, ()))
        return found

    def deleted(self) -> list[Register]:
        """@return: the tombstones held, dormant ones not included."""
        return [each for each in self._held.values() if each.deleted]

    def shows(self, register: Register) -> bool:
        """@return: whether a register held here contributes to the visible document."""
        key = register.key
        if register.deleted or is_hidden(register, self._held):
            return False
        if type(register.value) is dict or key not in self._below:
            return True
        deeper = (self._held[each] for each in self._below[key])
        return not any(
            not each.deleted and not register.beats(each) and not is_hidden(each, self._held)
            for each in deeper
        )

    def document(self) -> dict[str, Any]:
        """@return: the visible document; read-only, and the same object until the next change."""
        if self._document is None:
            self._document = assemble(self._held.values())
        return self._document

    def visible(self, key: str, default: Any = None) -> Any:
        """@return: what stands in the document at a key, without making the whole document."""
        if self._document is not None:
            return look_up(self._document, split_key(key), default)
        related = self.at_and_below(key)
        if "/" in key:
            related.extend(self._held[each] for each in ancestors(key) if each in self._held)
        return look_up(assemble(related), split_key(key), default)

    def recent(self, count: int) -> list[Register]:
        """@return: what changed last, the newest change first."""
        return list(islice(reversed(self._held.values()), count))

    def in_buckets(self, buckets: Collection[int]) -> list[Register]:
        """@return: what some buckets of the digest sum up, in one pass over the map."""
        wanted = frozenset(buckets)
        return [each for each in self._held.values() if bucket_of(each.key_hash) in wanted]

    def with_hash(self, key_hash: str) -> Register | None:
        """@return: what is held at the key of this hash."""
        return self._by_hash.get(key_hash)

    def of_author(self, author: int) -> list[Register]:
        """@return: everything held of one author."""
        if author not in self._authors:
            return []
        return [each for each in self._held.values() if each.author == author]

    def ephemeral(self, author: int) -> list[Register]:
        """@return: what goes when this author goes."""
        return [each for each in self.of_author(author) if each.flags & FLAG_EPHEMERAL]

    def author_usage(self, author: int) -> Usage:
        """@return: what an author's quotas count."""
        return self._authors.get(author, _NONE)


DEFAULT_LIMITS = Limits()


def holders(key: str, members: Iterable[int], count: int = HOLDERS) -> list[int]:
    """
    Who keeps the dormant tombstone of a key: rendezvous hashing, so that all members agree and a
    change among them moves as little as possible.

    @return: up to C{count} of the members.
    """
    seed = int(key_hash(key), 16)
    return nlargest(count, members, key=lambda node: (_mixed(seed ^ _mixed(node + 1)), node))


def _mixed(number: int) -> int:
    number = (number ^ (number >> 30)) * _MIX & _WORD
    number = (number ^ (number >> 27)) * _MIX2 & _WORD
    return number ^ (number >> 31)
