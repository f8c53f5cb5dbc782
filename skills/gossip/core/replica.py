"""One node's copy of a swarm's shared state: the way in for a shell with a clock and a way to send.

Every call that needs time takes C{now}, seconds on the caller's monotonic clock, and returns
effects to carry out in order (L{skills.gossip.core.effects}).  The shell calls
L{SwarmReplica.on_timer} when L{SwarmReplica.deadline} has come; early and late are both harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pilot.errors import NotFound
from skills.gossip.core import status
from skills.gossip.core.chance import Random
from skills.gossip.core.compat import Elders
from skills.gossip.core.config import GossipConfig
from skills.gossip.core.contact import Contact
from skills.gossip.core.desk import Desk
from skills.gossip.core.effects import Effect, PeerFacts, Persist, Verify
from skills.gossip.core.exchange import Exchanges
from skills.gossip.core.hlc import HybridClock
from skills.gossip.core.ledger import Ledger, Verdict
from skills.gossip.core.members import Membership
from skills.gossip.core.messages import (
    Leave,
)
from skills.gossip.core.partners import sample
from skills.gossip.core.receiving import Receiving
from skills.gossip.core.register import (
    FLAG_EPHEMERAL,
    Register,
)
from skills.gossip.core.registers import RegisterMap, holders
from skills.gossip.core.restoring import Restored
from skills.gossip.core.rounds import Rounds
from skills.gossip.core.spreading import Spreading
from skills.gossip.core.writing import Writing

#: Members that hear our good-bye.
_FAREWELLS = 8

_NOTHING = object()


class SwarmReplica:
    """
    A member of one swarm.

    @ivar name: the swarm.
    @ivar node_id: our own node number.
    """

    def __init__(
        self,
        name: str,
        node_id: int,
        *,
        now: float,
        wall: Callable[[], float],
        rng: Random,
        config: GossipConfig | None = None,
        incarnation: int,
        restored: Restored | None = None,
        trusts: Callable[[int], bool] | None = None,
    ) -> None:
        """
        @param now: seconds on the clock of all later calls.
        @param wall: unix seconds; may be wrong and may jump.
        @param rng: where chance comes from.
        @param incarnation: larger than at any earlier start of this node, at most 2**53.
        @param restored: what the journal held.
        @param trusts: whether a node met in gossip may be talked to, asked only above
            C{full_view} members; if left out, only what L{members_changed} brought is.
        """
        self.name = name
        self.node_id = node_id
        self._config = config = config or GossipConfig()
        registers = RegisterMap(config.limits, keeps=self._keeps)
        floor = restored.floor() if restored is not None else ""
        members = Membership(node_id, incarnation, config, now)
        clock = HybridClock(wall, floor=floor)
        ledger = Ledger(node_id, config, clock, registers, members.absent)
        self._desk = Desk(
            name, node_id, config=config, rng=rng, ledger=ledger, members=members, now=now
        )
        self._elders = Elders(self._desk)
        self._exchanges = Exchanges(self._desk, now, introduce=self._introduce, news=self._learned)
        self._rounds = Rounds(self._desk, self._elders, self._exchanges, now, trusts)
        self._spreading = Spreading(self._desk, self._elders, self._rounds)
        self._writing = Writing(self._desk, self._spreading.note)
        self._contact = Contact(self._desk, now)
        self._receiving = Receiving(
            self._desk,
            elders=self._elders,
            exchanges=self._exchanges,
            rounds=self._rounds,
            spreading=self._spreading,
            contact=self._contact,
        )
        self._tell_at: float | None = None  # when to tell the application of changes
        self._over = False
        if restored is not None:
            self._restore(now, restored)

    def _restore(self, now: float, restored: Restored) -> None:
        desk = self._desk
        registers, corrected = desk.ledger.map, desk.ledger.clock.corrected()
        for register in restored.registers.values():
            registers.merge(register, corrected)
            own = register.author == self.node_id and not register.deleted
            if own and register.flags & FLAG_EPHEMERAL:  # it was to go when we went
                self._writing.end_at(now, register)
        desk.members.restore(restored.left, now)
        desk.contact = restored.contact
        self._contact.look_back()

    def _keeps(self, key: str) -> bool:
        """@return: whether we are among those who keep a dormant tombstone."""
        members = self._desk.members
        return self.node_id in holders(key, [self.node_id, *members.trusted])

    # -- what comes in -------------------------------------------------------------------------

    def members_changed(
        self, now: float, trusted: Iterable[PeerFacts], *, total: int | None = None
    ) -> list[Effect]:
        """
        Who may be talked to: every trusted peer that carries the swarm's tag or spoke of it.

        @param trusted: the facts; ourselves among them are passed over.  Above C{full_view} members
            a random sample of C{passive_view} is enough.
        @param total: how many there are, if C{trusted} is a sample.
        """
        self._rounds.members_changed(now, trusted, total)
        return self._done(now)

    def on_message(
        self, now: float, peer: int, document: dict[str, Any], size: int = 0
    ) -> list[Effect]:
        """
        A C{gossip_*} message came.

        @param peer: the node it came from, authenticated by its tunnel.
        @param document: the message; read, never changed.
        @param size: its bytes on the wire, for the peer's budget.
        """
        if not self._over:
            self._receiving.receive(now, peer, document, size)
        return self._done(now)

    def _learned(self, now: float, register: Register, source: int) -> None:
        """An exchange brought something new; pass it on unless it is we who were behind."""
        if self._desk.synced:
            self._spreading.note(now, register, source)
        else:
            self._desk.warm(now)
            self._desk.news_at = now

    def _introduce(self, peer: int, x: str) -> None:
        self._desk.send(peer, self._elders.push({}, (), x))

    # -- outcomes ------------------------------------------------------------------------------

    def sent(self, now: float, peer: int) -> list[Effect]:
        """The peer has confirmed a message of a C{Send}."""
        member = self._desk.members.known.get(peer)
        if member is not None:
            member.told = now
            member.failures = 0
            member.unreached = None
        return []

    def send_failed(self, now: float, peer: int) -> list[Effect]:
        """The message of a C{Send} could not be delivered."""
        members = self._desk.members
        member = members.member(peer, now)
        if self._over or member is None:
            return []
        members.undelivered(member, now)
        self._elders.undelivered(member)
        if not member.usable:
            self._rounds.admit(now, peer)
        if self._exchanges.failed(now, peer):
            self._rounds.replace(now)
        return self._done(now)

    # -- time ----------------------------------------------------------------------------------

    def on_timer(self, now: float) -> list[Effect]:
        """Do what is due."""
        if self._over:
            return []
        spreading = self._spreading
        if spreading.due is not None and now >= spreading.due:
            spreading.flush(now)
        if now >= self._exchanges.deadline():
            self._late(now)
        if now >= self._rounds.deadline():
            self._contact.look_back()
            self._rounds.run(now)
        self._writing.end(now)
        return self._done(now)

    def _late(self, now: float) -> None:
        members = self._desk.members
        for peer in self._exchanges.expired(now):
            member = members.member(peer, now)
            if member is not None:
                members.silent(member, now)
                if not member.usable:
                    self._rounds.admit(now, peer)
            self._rounds.replace(now)
        self._exchanges.resume(now)

    def deadline(self) -> float | None:
        """@return: when to call L{on_timer}, or C{None} after L{leave}."""
        if self._over:
            return None
        due = min(self._rounds.deadline(), self._exchanges.deadline())
        if self._spreading.due is not None:
            due = min(due, self._spreading.due)
        if self._tell_at is not None:
            due = min(due, self._tell_at)
        return min(due, self._writing.deadline())

    def _done(self, now: float) -> list[Effect]:
        """@return: what the last call has come to; records go first."""
        desk = self._desk
        ledger = desk.ledger
        if ledger.to_verify:
            desk.out.extend(Verify(register) for register in ledger.to_verify)
            ledger.to_verify = []
        if desk.members.changes:
            for change, node, incarnation in desk.members.changes:
                desk.event(change.value, node_id=node, incarnation=incarnation)
                if change.value == "gossip.member_left":
                    ledger.records.append(("left", [node, incarnation]))
            desk.members.changes = []
        if ledger.changes:
            if self._tell_at is None:
                self._tell_at = now + self._config.coalesce
            elif now >= self._tell_at:
                self._tell_at = None
                desk.event("gossip.changed", changes=ledger.changes, left_out=ledger.left_out)
                ledger.changes, ledger.left_out = [], 0
        out, desk.out = desk.out, []
        if ledger.records:
            out.insert(0, Persist(tuple(ledger.records), ledger.urgent))
            ledger.records, ledger.urgent = [], False
        return out

    # -- reading and writing -------------------------------------------------------------------

    def local_set(
        self, now: float, key: str, value: Any, *, replace: bool = False, ttl: float | None = None
    ) -> list[Effect]:
        """
        Write.  An object is merged into what is there, leaf by leaf, unless it shall C{replace} it.

        If it is refused in the middle of an object, what was written before stays written, and its
        effects come with the next call.

        @param ttl: seconds until it deletes itself; it also goes when this node goes.
        @raise Refused: over a limit, or not ours to write.
        @raise BadMessage: no possible key or value.
        """
        self._writing.set(now, key, value, replace=replace, ttl=ttl)
        return self._done(now)

    def local_delete(self, now: float, key: str) -> list[Effect]:
        """
        Delete a key with everything below it; nothing happens if there is nothing.

        @raise Refused: not ours to delete.
        @raise BadMessage: no possible key.
        """
        self._writing.delete(now, key)
        return self._done(now)

    def signed(self, now: float, key: str, hlc: str, signature: str) -> list[Effect]:
        """
        The signature that a C{Sign} asked for.

        @param signature: base64; empty: it could not be made, and nothing is written.
        @raise Refused: there is no room for the write.
        @raise BadMessage: it is no signature.
        """
        self._writing.signed(now, key, hlc, signature)
        return self._done(now)

    def verified(self, now: float, register: Register, ok: bool) -> list[Effect]:
        """Whether the signature of a C{Verify} holds."""
        desk = self._desk
        result = desk.ledger.proven(now, register, ok)
        if result is not None:
            answer, peer = result
            if answer.verdict is Verdict.NEW:
                self._learned(now, register, peer)
            elif answer.verdict is Verdict.REFUSED:
                desk.reject(now, peer, answer.reason, register.key)
        return self._done(now)

    def get(self, key: str) -> Any:
        """
        @return: the visible value at a key, an object for a prefix of deeper keys; read-only.
        @raise NotFound: there is nothing.
        """
        value = self._desk.ledger.map.visible(key, _NOTHING)
        if value is _NOTHING:
            raise NotFound(f"the swarm {self.name} holds nothing at {key}")
        return value

    def items(self, prefix: str = "") -> list[Register]:
        """@return: the live registers at and below a key, sorted by key."""
        return sorted(self._desk.ledger.map.live(prefix), key=lambda each: each.key)

    def document(self) -> dict[str, Any]:
        """@return: the visible document; read-only."""
        return self._desk.ledger.map.document()

    @property
    def root(self) -> str:
        """16 hex digits; equal for replicas that hold the same."""
        return self._desk.ledger.map.root

    @property
    def synced(self) -> bool:
        """Whether a partner has agreed with what is held here since the start."""
        return self._desk.synced

    # -- on request ----------------------------------------------------------------------------

    def fold(self, now: float, peer: int, document: dict[str, Any]) -> tuple[int, list[Effect]]:
        """
        Take a C{gossip_push} that came earlier and was kept elsewhere: nothing follows from it for
        what is known of its sender, and it counts against nobody's budget.

        @param peer: the node it came from.
        @return: how many registers were new, and the effects.
        @raise BadMessage: it is no push.
        @raise Refused: for another swarm, or in another's name.
        """
        number = self._receiving.fold(now, peer, document)
        return number, self._done(now)

    def push_now(self, now: float, data: dict[str, Any] | None = None) -> list[Effect]:
        """
        Push to C{fanout} members just as a script does: C{data}, or the whole live state.

        For who receives it, it is a snapshot of what we hold.
        """
        members = self._desk.members
        state = self.document() if data is None else data
        for node in sample(self._desk.rng, self._rounds.pool, self._config.fanout, members.usable):
            self._desk.send(node, self._elders.push(state)._replace(v=1))
        return self._done(now)

    def sync(self, now: float, peer: int | None = None) -> list[Effect]:
        """
        Compare with a member at once (or with C{hot_partners}).  C{gossip.synced} or
        C{gossip.diverged} tells how it ended.

        @raise NotFound: no such member, or none at all.
        """
        members = self._desk.members
        if peer is None:
            peers = sample(
                self._desk.rng, self._rounds.pool, self._config.hot_partners, self._comparable
            )
        else:
            peers = [peer] if peer in members.facts or peer in members.known else []
        if not peers:
            raise NotFound(
                f"there is nobody to compare the swarm {self.name} with",
                hint="wait until a member is met, or look at: pilotctl gossip members",
            )
        for each in peers:
            self._exchanges.ask(now, each)
        return self._done(now)

    def _comparable(self, node: int) -> bool:
        return self._desk.members.usable(node) and not self._elders.includes(node)

    def survey(self, now: float) -> list[Effect]:
        """Ask all members for their roots, a few at a time, so that L{doctor} is up to date."""
        self._rounds.survey(now)
        return self._done(now)

    def leave(self, now: float) -> list[Effect]:
        """Say good-bye; the replica does nothing more."""
        if self._over:
            return []
        desk, members = self._desk, self._desk.members
        for node in sample(desk.rng, self._rounds.pool, _FAREWELLS, self._comparable):
            if members.was_version2(node) or members.version2(node, now):
                desk.send(
                    node, Leave(self.name, self.node_id, members.incarnation, members.sequence)
                )
        self._tell_at = now
        effects = self._done(now)
        self._over = True
        return effects

    def snapshot(self) -> tuple[tuple[str, Any], ...]:
        """@return: records that stand for everything a restart needs, to begin a journal anew."""
        desk = self._desk
        registers = desk.ledger.map
        records: list[tuple[str, Any]] = [
            ("reserve", desk.ledger.clock.reserved),
            ("contact", desk.contact),
        ]
        records.extend(("left", [node, inc]) for node, inc in desk.members.buried())
        records.extend(("register", each.to_list()) for each in registers.all_dormant())
        records.extend(("register", each.to_list()) for each in registers.all())
        return tuple(records)

    def status(self, now: float) -> dict[str, Any]:
        """@return: JSON-ready; L{skills.gossip.core.status.status} says what is in it."""
        return status.status(self._desk, self._rounds, now)

    def members(self, now: float) -> list[dict[str, Any]]:
        """@return: one JSON-ready object per member; see L{skills.gossip.core.status.members}."""
        return status.members(self._desk, now)

    def doctor(self, now: float) -> dict[str, Any]:
        """@return: who differs, is skewed, silent, or heard but not reached; JSON-ready."""
        return status.doctor(self._desk, now)
