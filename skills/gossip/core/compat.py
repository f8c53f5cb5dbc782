"""Members that know only pushes of whole states: the seed's scripts, and daemons of other makes.

What they send is a snapshot, not a set of writes (L{skills.gossip.core.snapshots}).  What they get
is the whole live state in pushes of their kind, when it has changed since they got it last, and
never more often than they would send it themselves.  Each push also carries our additions, so that
a member of which we know nothing yet, and which has learned version 2, makes itself known.

Members that are not known to speak version 2 are called elders here.
"""

from __future__ import annotations

from typing import Any

from skills.gossip.core.desk import Desk
from skills.gossip.core.document import assemble
from skills.gossip.core.effects import Send
from skills.gossip.core.ledger import Verdict
from skills.gossip.core.member import Member
from skills.gossip.core.messages import Push, size_of
from skills.gossip.core.partners import sample
from skills.gossip.core.register import Register, owner, split_key
from skills.gossip.core.snapshots import SnapshotBook

#: Bytes of a push without its state, rounded up.
_HEAD = 400


class Elders:
    """
    @ivar nodes: the elders among the members we talk to.
    """

    __slots__ = ("_book", "_desk", "_pages", "_pages_of", "_version", "nodes")

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._book = SnapshotBook()
        self._version = 0
        self._pages: list[dict[str, Any]] = []
        self._pages_of = -1
        self.nodes: dict[int, None] = {}

    def includes(self, node: int) -> bool:
        """@return: whether a member is an elder."""
        return node in self.nodes

    def met(self, now: float, node: int) -> None:
        """Find out again whether a member is an elder: it is new, or it has sent something."""
        members = self._desk.members
        if members.was_version2(node) or members.version2(node, now):
            self.nodes.pop(node, None)
        else:
            self.nodes[node] = None

    def forget(self, node: int) -> None:
        """A member is trusted no more."""
        self.nodes.pop(node, None)
        self._book.forget(node)

    # -- taking --------------------------------------------------------------------------------

    def take(self, now: float, peer: int, push: Push) -> list[Register]:
        """
        Read a push of version 1.

        @return: the registers that were written.
        @raise BadMessage: its state has far too many leaves.
        """
        desk = self._desk
        if desk.config.signed:
            desk.reject(now, peer, "unsigned")
            return []
        written = []
        ledger = desk.ledger
        for key, value in self._book.writes_of(peer, push.state, ledger.map):
            node = owner(key)
            if node is not None and node != peer:
                desk.reject(now, peer, "owner", key)
                continue
            register = ledger.draft(key, value, peer)
            answer = ledger.write(now, register)
            if answer.verdict is Verdict.REFUSED:
                desk.reject(now, peer, answer.reason, key)
            elif answer.verdict is Verdict.NEW:
                written.append(register)
        return written

    # -- giving --------------------------------------------------------------------------------

    def push(self, state: dict[str, Any], entries: tuple[Register, ...] = (), x: str = "") -> Push:
        """
        @param state: what a reader of version 1 shall merge.
        @param entries: registers for a reader of version 2.  Without any the push is an
            introduction, which wants an answer.
        @param x: its id; a new one if left out.
        @return: a push that every reader merges: its version is the time, and always grows.
        """
        desk = self._desk
        when = desk.ledger.clock.corrected()
        self._version = max(self._version + 1, int(when * 1000.0))
        return Push(
            str(desk.own),
            self._version,
            state,
            str(int(when)),
            2,
            desk.name,
            x or desk.token(),
            desk.ledger.map.root,
            len(desk.ledger.map),
            entries,
        )

    def round(self, now: float) -> None:
        """Give to some of those who lack something."""
        if self.nodes:
            desk = self._desk
            for node in sample(desk.rng, tuple(self.nodes), desk.config.fanout, self._lacks(now)):
                self.give(now, node)

    def _lacks(self, now: float) -> Any:
        desk = self._desk
        root = desk.ledger.map.root

        def lacks(node: int) -> bool:
            member = desk.members.known.get(node)
            if member is None:
                return True
            if not member.usable or now - member.given_at < desk.config.v1_pause:
                return False
            return member.given != root or self._unmet(member, now)

        return lacks

    def _unmet(self, member: Member, now: float) -> bool:
        """@return: whether it is time to introduce ourselves (again)."""
        return not member.version1 and now - member.given_at >= self._desk.config.introduction

    def give(self, now: float, node: int) -> None:
        """Push the live state to an elder, if that is due and the last time is long enough ago."""
        desk = self._desk
        member = desk.members.member(node, now)
        if member is None or now - member.given_at < desk.config.v1_pause:
            return
        root = desk.ledger.map.root
        if member.given == root and not self._unmet(member, now):
            return
        member.given_at = now
        pages = self._paged()
        first = member.page if member.page < len(pages) else 0
        for page in pages[first : first + desk.config.frames]:
            desk.out.append(Send(node, self.push(page).encode()))
            desk.counts["given"] += 1
        member.page = first + desk.config.frames
        if member.page >= len(pages):
            member.page = 0
            member.given = root

    def undelivered(self, member: Member) -> None:
        """What was given has not arrived."""
        member.given = ""

    def _paged(self) -> list[dict[str, Any]]:
        """@return: the live state in documents that fit into a push each."""
        registers = self._desk.ledger.map
        if self._pages_of != registers.changes:
            whole = assemble(registers.all())
            for tombstone in registers.deleted():
                _null(whole, split_key(tombstone.key))
            self._pages = paged(whole, self._desk.config.frame - _HEAD)
            self._pages_of = registers.changes
        return self._pages


def _null(document: dict[str, Any], path: tuple[str, ...]) -> None:
    """Say in the only way version 1 has that something is deleted."""
    for name in path[:-1]:
        child = document.setdefault(name, {})
        if type(child) is not dict:
            return
        document = child
    document.setdefault(path[-1], None)


def paged(document: dict[str, Any], room: int) -> list[dict[str, Any]]:
    """
    Cut a document into documents that, merged recursively, make it up again.

    @param room: bytes of each, as JSON.  What cannot be cut (a single large value) may be larger.
    @return: at least one.
    """
    if size_of(document) <= room:
        return [document]
    pages: list[dict[str, Any]] = []
    page: dict[str, Any] = {}
    used = 2
    for name, value in document.items():
        size = size_of({name: value})
        if size > room and type(value) is dict and value:
            pages.extend({name: part} for part in paged(value, room - size_of({name: {}})))
            continue
        if page and used + size > room:
            pages.append(page)
            page, used = {}, 2
        page[name] = value
        used += size
    if page:
        pages.append(page)
    return pages
