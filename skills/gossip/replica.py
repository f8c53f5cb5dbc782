"""One node's copy of a swarm's shared state: the way in for a shell with a clock and a way to send.

Every call that needs time takes C{now}, seconds on the caller's monotonic clock, and returns
effects to carry out in order (L{skills.gossip.effects}).  The shell calls
L{SwarmReplica.on_timer} when L{SwarmReplica.deadline} has come; early and late are both harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from random import Random
from typing import Any

from pilot.errors import NotFound
from skills.gossip import status
from skills.gossip.compat import Elders
from skills.gossip.config import GossipConfig
from skills.gossip.desk import Desk
from skills.gossip.document import flatten
from skills.gossip.effects import Effect, PeerFacts, Persist, Sign, Verify
from skills.gossip.errors import BadMessage, Refused
from skills.gossip.exchange import Exchanges
from skills.gossip.hlc import HybridClock
from skills.gossip.ledger import Ledger, Verdict
from skills.gossip.member import Member
from skills.gossip.members import Membership
from skills.gossip.messages import (
    Ack,
    Delta,
    Leave,
    Nack,
    Push,
    Shuffle,
    Syn,
    decode,
)
from skills.gossip.partners import sample
from skills.gossip.register import (
    FLAG_EPHEMERAL,
    FLAG_SIGNED,
    FLAG_TOMBSTONE,
    Register,
    check_key,
    owner,
)
from skills.gossip.registers import RegisterMap, holders
from skills.gossip.restoring import Restored
from skills.gossip.rounds import Rounds
from skills.gossip.spreading import Spreading

#: The time of the last contact is stored this often, seconds.
_CONTACT_NOTED = 600.0
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
        self._tell_at: float | None = None  # when to tell the application of changes
        self._unsigned: dict[tuple[str, str], Register] = {}
        self._ends: list[tuple[float, str, str]] = []  # when, key, hlc of what has a time to live
        self._contact_noted = now - _CONTACT_NOTED
        self._settle_at = float("inf")
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
                heappush(self._ends, (now, register.key, register.hlc))
        desk.members.restore(restored.left, now)
        desk.contact = restored.contact
        self._look_back()

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
        desk = self._desk
        if self._over or peer == self.node_id:
            return []
        member = desk.members.member(peer, now)
        if member is None:
            desk.counts["no_room"] += 1
            return []
        if not member.conduct.admits(now, size, self._config):
            desk.reject(now, peer, "muted" if now < member.conduct.muted_until else "rate")
            desk.nack(now, member, "rate", [])
            return self._done(now)
        try:
            message = decode(document)
            self._check(peer, message)
            self._dispatch(now, member, message)
        except Refused as refusal:
            desk.reject(now, peer, refusal.reason)
        except BadMessage:
            desk.reject(now, peer, "malformed")
            if member.conduct.malformed(now, self._config):
                desk.reject(now, peer, "muted")
        return self._done(now)

    def _check(self, peer: int, message: Any) -> None:
        """@raise Refused: for another swarm, or in another's name."""
        if type(message) is Push:
            # A script may call itself by any name; a number must be its own.
            if message.sender.isdecimal() and message.sender != str(peer):
                raise Refused("sender")
            if message.v < 2:
                return
        elif type(message) in (Syn, Leave) and message.sender != peer:
            raise Refused("sender")
        if message.swarm != self.name:
            raise Refused("swarm")

    def _dispatch(self, now: float, member: Member, message: Any) -> None:
        desk = self._desk
        kind = type(message)
        version1 = kind is Push and message.v < 2
        incarnation = message.inc if kind is Syn else None
        self._look_back()
        unheard = not member.usable
        if kind is not Leave:
            desk.members.heard(member, now, incarnation, proof=not version1)
        elders = self._elders.nodes
        if version1 or member.node in elders:
            self._elders.met(now, member.node)
        if unheard or self._rounds.view is not None:
            self._rounds.admit(now, member.node)
        self._in_contact(now)
        if kind is Syn:
            wall = desk.ledger.clock.corrected()
            for news in message.news:
                desk.members.news(now, wall, news)
            self._exchanges.on_syn(now, member, message)
        elif kind is Ack:
            self._exchanges.on_ack(now, member, message)
        elif kind is Push:
            self._on_push(now, member, message)
        elif kind is Delta:
            self._exchanges.on_delta(now, member, message)
        elif kind is Nack:
            self._exchanges.on_nack(now, member, message)
        elif kind is Leave:
            desk.members.left(member, message.inc, now)
            self._rounds.admit(now, member.node)
        elif kind is Shuffle:
            self._rounds.on_shuffle(now, member, message)

    def _on_push(self, now: float, member: Member, push: Push) -> None:
        desk = self._desk
        peer = member.node
        if push.v < 2:
            member.version1 = True
            for register, answer in self._elders.take(now, peer, push):
                if answer.verdict is Verdict.NEW:
                    self._spreading.note(now, register, peer)
            return
        if not push.entries:
            self._exchanges.greeted(now, member, push.id, push.root, push.n)
            return
        refused: dict[str, list[str]] = {}
        for register in push.entries:
            answer = desk.ledger.offer(now, register, peer)
            if answer.verdict is Verdict.NEW:
                self._spreading.note(now, register, peer)
            elif answer.verdict is Verdict.REFUSED:
                refused.setdefault(answer.reason, []).append(register.key_hash)
                desk.reject(now, peer, answer.reason, register.key)
            elif answer.other is not None and desk.ledger.map.get(register.key) is None:
                # Long deleted, and forgotten by most: bring the deletion up again.
                self._spreading.answer(peer, answer.other)
        for reason, keys in refused.items():
            desk.nack(now, member, reason, keys)
        if push.root == desk.ledger.map.root:
            desk.agreed(now, member, push.root)

    def _learned(self, now: float, register: Register, source: int) -> None:
        """An exchange brought something new; pass it on unless it is we who were behind."""
        if self._desk.synced:
            self._spreading.note(now, register, source)
        else:
            self._desk.warm(now)
            self._desk.news_at = now

    def _introduce(self, peer: int, x: str) -> None:
        self._desk.send(peer, self._elders.push({}, (), x))

    # -- contact -------------------------------------------------------------------------------

    def _look_back(self) -> None:
        """Whether the last contact is too long ago to vouch for what is held."""
        desk = self._desk
        if desk.contact and len(desk.ledger.map) and not desk.lagging:
            away = desk.ledger.clock.wall() - desk.contact
            desk.lagging = away > self._config.lagging_after

    def _in_contact(self, now: float) -> None:
        desk = self._desk
        if desk.lagging:
            if self._settle_at == float("inf"):
                self._settle_at = now + self._config.lagging_settle
            elif now >= self._settle_at:
                # Only others like us for a whole while: nobody knows better.
                desk.lagging = False
            return
        self._settle_at = float("inf")
        desk.contact = desk.ledger.clock.wall()
        if now - self._contact_noted >= _CONTACT_NOTED:
            self._contact_noted = now
            desk.ledger.records.append(("contact", desk.contact))

    def sent(self, now: float, peer: int) -> list[Effect]:
        """The peer has confirmed a message of a C{Send}."""
        member = self._desk.members.known.get(peer)
        if member is not None:
            member.told = now
            member.failures = 0
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
            self._look_back()
            self._rounds.run(now)
        while self._ends and self._ends[0][0] <= now:
            self._end_of_life(now)
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

    def _end_of_life(self, now: float) -> None:
        _, key, hlc = heappop(self._ends)
        held = self._desk.ledger.map.get(key)
        if held is not None and held.hlc == hlc and held.author == self.node_id:
            self._write(now, key, None, FLAG_TOMBSTONE)

    def deadline(self) -> float | None:
        """@return: when to call L{on_timer}, or C{None} after L{leave}."""
        if self._over:
            return None
        due = min(self._rounds.deadline(), self._exchanges.deadline())
        if self._spreading.due is not None:
            due = min(due, self._spreading.due)
        if self._tell_at is not None:
            due = min(due, self._tell_at)
        if self._ends:
            due = min(due, self._ends[0][0])
        return due

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
        check_key(key)
        leaves = [(key, value)] if replace else flatten(key, value)
        for each, leaf in leaves:
            register = self._write(now, each, leaf, FLAG_EPHEMERAL if ttl is not None else 0)
            if ttl is not None:
                heappush(self._ends, (now + max(0.0, ttl), each, register.hlc))
        return self._done(now)

    def local_delete(self, now: float, key: str) -> list[Effect]:
        """
        Delete a key with everything below it; nothing happens if there is nothing.

        @raise Refused: not ours to delete.
        @raise BadMessage: no possible key.
        """
        check_key(key)
        if self._desk.ledger.map.visible(key, _NOTHING) is not _NOTHING:
            self._write(now, key, None, FLAG_TOMBSTONE)
        return self._done(now)

    def _write(self, now: float, key: str, value: Any, flags: int) -> Register:
        """@raise Refused: over a limit, or not ours to write."""
        node = owner(key)
        if node is not None and node != self.node_id:
            raise Refused("owner", f"only node {node} may write below {key.partition('/')[0]}")
        ledger = self._desk.ledger
        signed = self._config.signed or node is not None
        register = ledger.draft(key, value, self.node_id, flags | FLAG_SIGNED if signed else flags)
        if signed:
            if len(self._unsigned) >= self._config.unproven:
                raise Refused("busy", "too many writes wait for their signatures")
            self._unsigned[key, register.hlc] = register
            self._desk.out.append(Sign(register))
        else:
            self._put(now, register)
        return register

    def _put(self, now: float, register: Register) -> None:
        answer = self._desk.ledger.write(now, register)
        if answer.verdict is Verdict.REFUSED:
            raise Refused(answer.reason, f"the swarm has no room for this: {answer.reason}")
        if answer.verdict is Verdict.NEW:
            self._spreading.note(now, register, self.node_id)

    def signed(self, now: float, key: str, hlc: str, signature: str) -> list[Effect]:
        """
        The signature that a C{Sign} asked for.

        @param signature: base64; empty: it could not be made, and nothing is written.
        @raise Refused: there is no room for the write.
        @raise BadMessage: it is no signature.
        """
        register = self._unsigned.pop((key, hlc), None)
        if register is not None and signature:
            self._put(
                now,
                Register.make(key, register.value, hlc, register.author, register.flags, signature),
            )
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

    def push_now(self, now: float, data: dict[str, Any] | None = None) -> list[Effect]:
        """Push to C{fanout} members in the shape of version 1: C{data}, or the whole live state."""
        members = self._desk.members
        for node in sample(self._desk.rng, self._rounds.pool, self._config.fanout, members.usable):
            self._desk.send(node, self._elders.push(self.document() if data is None else data))
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
        """@return: JSON-ready; L{skills.gossip.status.status} says what is in it."""
        return status.status(self._desk, self._rounds, now)

    def members(self, now: float) -> list[dict[str, Any]]:
        """@return: one JSON-ready object per member; see L{skills.gossip.status.members}."""
        return status.members(self._desk, now)

    def doctor(self, now: float) -> dict[str, Any]:
        """@return: who differs, is skewed, silent, or heard but not reached; JSON-ready."""
        return status.doctor(self._desk, now)
