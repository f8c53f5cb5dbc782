"""Records on their way into the directory: who says this, is it news, and may it be believed?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from skills.presence.core.directory import Stranger
from skills.presence.core.entry import Entry
from skills.presence.core.errors import BadRecord
from skills.presence.core.lifecycle import STALE
from skills.presence.core.naming import Naming
from skills.presence.core.ordering import next_arrival
from skills.presence.core.record import StatusRecord, dump, parse, signing_bytes
from skills.presence.core.shared import Shared
from skills.presence.core.standing import Standing
from skills.presence.core.status import OFFLINE
from skills.presence.detection.reach import FRESH, GONE, SUSPECT

UNVERIFIED: Final = (
    "its hostname does not lead back to who published it, as far as this node may look it up"
)
PENDING: Final = "whether its hostname is its own is not known yet"
UNSIGNED: Final = "told by another node, without a signature"
FORGED: Final = "its signature is not that of its node"

RECALLED: Final = 64
"""Records that are looked at again at once."""


class Intake:
    """Takes records from brokers, from the swarm and from coordinators."""

    def __init__(self, shared: Shared, standing: Standing) -> None:
        self._shared = shared
        self._standing = standing
        self.naming = Naming(shared.next_token)

    def published(self, now: float, source: int, payload: bytes | dict[str, Any]) -> Entry | None:
        """
        Somebody published a record.
        @param source: the authenticated publisher.
        @return: its entry, when it was taken in at once.
        """
        try:
            record = parse(payload)
        except BadRecord:
            self._shared.counters["malformed"] += 1
            return None
        if record.node is not None and record.node != source:
            self.passed_on(now, record, source)
            return None
        return self._offer(now, source, record, source)

    def gossiped(self, now: float, document: dict[str, Any], via: int) -> None:
        """The swarm has learned a record."""
        try:
            record = parse(document)
        except BadRecord:
            self._shared.counters["malformed"] += 1
            return
        if record.node is None:
            self._shared.counters["malformed"] += 1
        elif record.node == via:
            self._offer(now, via, record, via)
        else:
            self.passed_on(now, record, via)

    def passed_on(self, now: float, record: StatusRecord, via: int) -> None:
        """A record of one node from the hands of another: the signature has to speak for it."""
        node = record.node
        assert node is not None
        if not self._is_news(node, record):
            return
        if not record.signature:
            self._shared.counters["unsigned_news"] += 1
            self._keep(now, via, record, UNSIGNED)
            return

        def checked(when: float, ok: bool | None) -> None:
            if ok:
                self._offer(when, node, record, via)
            else:
                self._shared.counters["forged" if ok is False else "unchecked"] += 1
                self._keep(when, via, record, FORGED if ok is False else PENDING)

        data = signing_bytes(record.document)
        self._shared.do(self.naming.ask_signature(now, node, data, record.signature, checked))

    # -- verification --------------------------------------------------------------------------

    def recall(self, now: float, documents: Iterable[dict[str, Any]]) -> None:
        """
        The registry has told more of trusted peers: who could not be named before may be now.  A
        status that does not change is not sent again, so what the swarm holds has to do.

        @param documents: the records that the swarm holds of its members.
        """
        directory = self._shared.directory
        for stranger in directory.strangers:
            record = stranger.record
            if record.node is not None and self._is_outdated(record.node, record):
                directory.drop_stranger(stranger.source, record.hostname)
        missing = []
        for document in documents:
            node, entry = document["node"], directory.get(document["node"])
            known = entry is not None and entry.modern
            if known and (document["inc"], document["seq"]) <= entry.number:  # type: ignore[union-attr]
                continue
            if document.get("sig") and self.naming.is_fact(node, document.get("hostname", "")):
                missing.append(document)
        if len(missing) > RECALLED:
            missing = self._shared.rng.sample(missing, RECALLED)
        for document in missing:
            # Who brought it is not remembered, so its signature has to speak for it.
            self.gossiped(now, document, self._shared.node_id)

    def _is_outdated(self, node: int, record: StatusRecord) -> bool:
        entry = self._shared.directory.get(node)
        if entry is None or record.number is None:
            return False
        return entry.modern and record.number <= entry.number

    def _offer(self, now: float, node: int, record: StatusRecord, via: int) -> Entry | None:
        """The record is certainly that node's; is the name in it, too?"""
        if not self._is_news(node, record):
            return None
        named = self.naming.is_named(now, node, record.hostname)
        if named:
            return self._accept(now, node, record, via)
        if named is False:
            self._shared.counters["unverified"] += 1
            self._keep(now, via, record, UNVERIFIED)
            return None
        self._keep(now, via, record, PENDING)

        def answered(when: float, ok: bool | None) -> None:
            if ok:
                if self._is_news(node, record):
                    self._accept(when, node, record, via)
            elif ok is False:
                self._shared.counters["unverified"] += 1
                self._keep(when, via, record, UNVERIFIED)

        self._shared.do(self.naming.ask_name(now, node, record.hostname, answered))
        return None

    def _keep(self, now: float, via: int, record: StatusRecord, why: str) -> None:
        self._shared.directory.keep_stranger(Stranger(via, record, now, why))

    def _is_news(self, node: int, record: StatusRecord) -> bool:
        if node == self._shared.node_id:
            return False  # nobody tells us what we are
        if record.number is None:
            return True  # whoever publishes without numbers is heard in order
        entry = self._shared.directory.get(node)
        if entry is not None and entry.modern and record.number <= entry.number:
            self._shared.counters["old"] += 1
            return False
        if self._shared.directory.outlived(node, record.number):
            self._shared.counters["old"] += 1
            return False
        return True

    # -- acceptance ----------------------------------------------------------------------------

    def _accept(self, now: float, node: int, record: StatusRecord, via: int) -> Entry | None:
        """It is verified, and news."""
        directory = self._shared.directory
        directory.drop_stranger(via, record.hostname)
        entry = directory.get(node)
        joined = entry is None
        if entry is None:
            entry = directory.admit(node, now)
            if entry is None:
                return None
        direct = via == node
        if direct and entry.via:
            entry.via = 0  # from now on it speaks to us itself
        if record.number is None and entry.modern:
            self._script(now, entry, record)
            return entry
        cause = "joined" if joined else "claimed"
        if record.number is not None and entry.modern and record.number[0] > entry.number[0]:
            cause = "restarted"
        self.describe(now, entry, record)
        state = self._shared.swarm_reach(node)
        entry.swarm = state is not None
        means = "gossip" if not direct else "direct" if entry.swarm else "heartbeat"
        if record.status == OFFLINE and entry.merged(now) == OFFLINE:
            entry.heard = entry.claimed = now
            entry.means = means
            self._standing.leave(now, entry)
        elif direct or not entry.swarm or (state != GONE and entry.reach in (STALE, GONE)):
            self._standing.hear(now, entry, means, cause, record=True)
            if state == SUSPECT:
                self._standing.accuse(now, entry, {"by": "the swarm"})
        elif state == GONE:
            self._standing.give_up(now, entry, "verdict", {"via": via})
        else:
            self._standing.settle(now, entry, cause, {"via": via})
        return entry

    def own(self, now: float, document: dict[str, Any]) -> None:
        """A record of our own leaves: what we say is what we are."""
        entry = self._shared.directory.get(self._shared.node_id)
        if entry is None:
            entry = self._shared.directory.admit(self._shared.node_id, now)
            if entry is None:
                return
            entry.own = True
        self.describe(now, entry, parse(document))
        entry.heard = entry.claimed = now
        entry.means = "direct"
        entry.reach = FRESH
        self._standing.settle(now, entry, "claimed", {})

    def describe(self, now: float, entry: Entry, record: StatusRecord) -> None:
        """Take over what the record says."""
        directory = self._shared.directory
        first = not entry.record
        changed = directory.describe(entry, record)
        if first or entry.claim != record.status:
            entry.since = now - record.lasted
        entry.claim = record.status
        entry.modern = record.number is not None
        entry.number = record.number or next_arrival(entry.number)
        entry.record = dump(record.document)
        if changed and not first:
            directory.settle(entry)
            directory.touch(entry)

    def _script(self, now: float, entry: Entry, record: StatusRecord) -> None:
        """A shell loop beside a daemon that speaks for itself: the busier of the two counts."""
        if entry.script != record.status:
            entry.note(now, "shell loop says", record.status)
        entry.script, entry.script_until = record.status, now + record.ttl
        self._standing.hear(now, entry, "heartbeat", "claimed", record=True)
