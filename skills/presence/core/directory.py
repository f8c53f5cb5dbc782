"""The directory: everybody known, found by name, tag and load, with versions for who watches it.

Each change gives the directory the next version and the entry that number.  Whoever has seen
version V lacks exactly the entries above V and the removals above V.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from pilot.address import Address
from pilot.errors import AddressError
from skills.presence.core.available import Available
from skills.presence.core.entry import Entry
from skills.presence.core.errors import UnknownAgent
from skills.presence.core.ordering import Number
from skills.presence.core.record import StatusRecord
from skills.presence.core.status import OFFLINE, ONLINE
from skills.presence.detection.reach import GONE

STRANGERS: Final = 1_000
"""Records kept of agents whose name could not be verified."""
STRANGERS_EACH: Final = 8
"""The same of a single source."""
REMOVED: Final = 10_000
"""Removals remembered."""


class Stranger(NamedTuple):
    """A record whose author could not be verified."""

    source: int
    record: StatusRecord
    at: float
    reason: str

    @property
    def node(self) -> int:
        """The node that it claims to be about; a script names none, and means its own."""
        return self.source if self.record.node is None else self.record.node


class Removal(NamedTuple):
    """An agent that was forgotten.  @ivar number: of its last record: older news is no news."""

    version: int
    at: float
    number: Number


class Directory:
    """
    Who is known.

    @ivar version: grows with every change.
    @ivar floor: whoever has seen less than this lacks removals we do not remember.
    @ivar available: who may take work.
    @ivar refused: agents not taken in because the directory was full.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: dict[int, Entry] = {}
        self._names: dict[str, int] = {}
        self._tags: dict[str, dict[int, Entry]] = {}
        self._changes: OrderedDict[int, None] = OrderedDict()
        self._gone: OrderedDict[int, None] = OrderedDict()
        self._removed: OrderedDict[int, Removal] = OrderedDict()
        self._strangers: OrderedDict[tuple[int, str], Stranger] = OrderedDict()
        self.version = self.floor = 0
        self.available = Available()
        self.refused = self.strangers_refused = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    # -- looking up --------------------------------------------------------------------------

    def get(self, node: int) -> Entry | None:
        """@return: the entry of a node."""
        return self._entries.get(node)

    def named(self, host: str | int) -> Entry:
        """
        @param host: hostname, address or node number.
        @raise UnknownAgent: nobody is called so.
        """
        node = host if isinstance(host, int) else self._names.get(host)
        if node is None and isinstance(host, str):
            node = _as_node(host)
        entry = None if node is None else self._entries.get(node)
        if entry is None:
            raise UnknownAgent(
                f"no agent {str(host)[:80]!r} is known here",
                hint="see who is: pilotctl presence list --all",
            )
        return entry

    def tagged(self, tags: tuple[str, ...]) -> list[Entry] | None:
        """@return: the entries with all of these tags, C{None} when no tag is asked for."""
        if not tags:
            return None
        rarest, *others = sorted((self._tags.get(tag, {}) for tag in tags), key=len)
        return [
            entry for node, entry in rarest.items() if all(node in holders for holders in others)
        ]

    def holders(self, tags: tuple[str, ...]) -> Iterable[Entry]:
        """@return: the entries with the rarest of these tags."""
        return min((self._tags.get(tag, {}) for tag in tags), key=len, default={}).values()

    # -- changing ----------------------------------------------------------------------------

    def admit(self, node: int, now: float) -> Entry | None:
        """@return: a new entry, or C{None}: the directory is full, and nobody in it is offline."""
        if len(self._entries) >= self._most:
            oldest = next((self._entries[node] for node in self._gone), None)
            if oldest is None:
                self.refused += 1
                return None
            self.remove(oldest, now)
        entry = self._entries[node] = Entry(node, now)
        self._removed.pop(node, None)
        return entry

    def describe(self, entry: Entry, record: StatusRecord) -> bool:
        """
        Take over what a record says of its agent, its status apart.
        @return: whether that differs from what was known.
        """
        before = (entry.hostname, entry.load, entry.slots, entry.tags, entry.reason, entry.ttl)
        if entry.hostname != record.hostname:
            if self._names.get(entry.hostname) == entry.node:
                del self._names[entry.hostname]
            entry.hostname = record.hostname
            if record.hostname:
                self._names[record.hostname] = entry.node
        if entry.tags != record.tags:
            for tag in entry.tags:
                self._untag(tag, entry.node)
            entry.tags = record.tags
            for tag in record.tags:
                self._tags.setdefault(tag, {})[entry.node] = entry
        entry.load, entry.slots, entry.reason = record.load, record.slots, record.reason
        entry.ttl, entry.address = record.ttl, record.address
        after = (entry.hostname, entry.load, entry.slots, entry.tags, entry.reason, entry.ttl)
        return before != after

    def settle(self, entry: Entry) -> None:
        """The entry's status, load, slots or flapping changed: sort it anew."""
        if (
            entry.status == ONLINE
            and entry.reach != GONE
            and not (entry.own or entry.flapping)
            and entry.slots != 0
        ):
            self.available.put(entry)
        else:
            self.available.take(entry)
        if entry.status == OFFLINE and not entry.own:
            self._gone[entry.node] = None
        else:
            self._gone.pop(entry.node, None)

    def touch(self, entry: Entry) -> None:
        """The entry changed in a way that concerns who watches."""
        self.version += 1
        entry.version = self.version
        self._changes[entry.node] = None
        self._changes.move_to_end(entry.node)

    def remove(self, entry: Entry, now: float) -> None:
        """Forget an agent; that it was is remembered for a while."""
        for tag in entry.tags:
            self._untag(tag, entry.node)
        if self._names.get(entry.hostname) == entry.node:
            del self._names[entry.hostname]
        self.available.take(entry)
        self._gone.pop(entry.node, None)
        self._changes.pop(entry.node, None)
        del self._entries[entry.node]
        self.version += 1
        self._removed[entry.node] = Removal(self.version, now, entry.number)
        if len(self._removed) > REMOVED:
            self._forget_removal()

    def expire(self, now: float, forget: float, tombstone: float) -> list[Entry]:
        """
        @param forget: seconds after which an offline agent is forgotten.
        @param tombstone: seconds after which that is forgotten, too.
        @return: the entries that were removed.
        """
        over = [
            entry
            for node in self._gone
            if now - (entry := self._entries[node]).since >= forget and now - entry.heard >= forget
        ]
        for entry in over:
            self.remove(entry, now)
        while self._removed and now - next(iter(self._removed.values())).at >= tombstone:
            self._forget_removal()
        return over

    def outlived(self, node: int, number: Number) -> bool:
        """@return: whether that agent was forgotten, and this is no newer news of it."""
        removal = self._removed.get(node)
        return removal is not None and number <= removal.number

    def _forget_removal(self) -> None:
        _, removal = self._removed.popitem(last=False)
        self.floor = max(self.floor, removal.version)

    def _untag(self, tag: str, node: int) -> None:
        holders = self._tags.get(tag)
        if holders is not None:
            holders.pop(node, None)
            if not holders:
                del self._tags[tag]

    # -- for who watches ---------------------------------------------------------------------

    def since(self, version: int) -> tuple[list[Entry], list[tuple[int, int]]] | None:
        """
        @return: the entries that changed after C{version}, oldest change first, and the removals
            as (version, node); C{None} if it cannot be told any more.
        """
        if version > self.version or (version and version < self.floor):
            return None
        entries = []
        for node in reversed(self._changes):
            entry = self._entries[node]
            if entry.version <= version:
                break
            entries.append(entry)
        entries.reverse()
        removed: list[tuple[int, int]] = []
        if version:
            for node in reversed(self._removed):
                removal = self._removed[node]
                if removal.version <= version:
                    break
                removed.append((removal.version, node))
            removed.reverse()
        return entries, removed

    # -- those who could not be verified -----------------------------------------------------

    @property
    def strangers(self) -> list[Stranger]:
        """Records whose author could not be verified, oldest first."""
        return list(self._strangers.values())

    def strange(self, host: str | int) -> Stranger | None:
        """
        @param host: hostname, address or node number.
        @return: the newest unverified record that claims to be of that agent; rather one that the
            agent itself has published.
        """
        node = host if isinstance(host, int) else _as_node(host)
        found = None
        for stranger in reversed(self._strangers.values()):
            if host == stranger.record.hostname or (node is not None and node == stranger.node):
                if stranger.source == stranger.node:
                    return stranger
                found = found or stranger
        return found

    def keep_stranger(self, stranger: Stranger) -> None:
        """Keep an unverified record: shown to who asks, never found."""
        key = stranger.source, stranger.record.hostname
        self._strangers.pop(key, None)
        own = [each for each in self._strangers if each[0] == stranger.source]
        if len(own) >= STRANGERS_EACH:
            del self._strangers[own[0]]
            self.strangers_refused += 1
        elif len(self._strangers) >= STRANGERS:
            self._strangers.popitem(last=False)
            self.strangers_refused += 1
        self._strangers[key] = stranger

    def drop_stranger(self, source: int, hostname: str) -> None:
        """It was verified after all."""
        self._strangers.pop((source, hostname), None)

    def expire_strangers(self, now: float, age: float) -> None:
        """Forget unverified records older than C{age}."""
        for key, stranger in list(self._strangers.items()):
            if now - stranger.at >= age:
                del self._strangers[key]


def _as_node(text: str) -> int | None:
    if text.isascii() and text.isdigit() and len(text) <= 10:
        return int(text)
    try:
        return Address.parse(text).node
    except AddressError:
        return None
