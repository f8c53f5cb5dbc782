"""Comparing with a partner, and giving each other what the other lacks.

Equal roots end an exchange with its second message.  Otherwise the cheapest explanation is tried
first: the partner's root is an earlier one of ours, or what changed last on either side accounts
for the difference; only if neither does, the sums of all buckets are told, then the hashes and
times of the keys in those that differ, and in the end only registers that are missing travel.

Messages go to and fro, one frame at a time, so nothing piles up on a slow path.  An exchange that
has used up its frames, or the partner's budget, ends early and says so; the next one finds a
smaller difference.  Nothing of an exchange has to be kept for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from skills.gossip.core.desk import Desk
from skills.gossip.core.difference import compare, explain, holdings, wished
from skills.gossip.core.digest import Digest
from skills.gossip.core.frames import HAVE, HEAD, Exchange, Frames
from skills.gossip.core.ledger import Verdict, fair
from skills.gossip.core.member import Member
from skills.gossip.core.messages import Ack, Delta, Nack, Push, Syn
from skills.gossip.core.register import Register

#: Pause before an exchange that ended early is taken up again.
RESUME = 1.0
#: What does not fit into an answer follows it within seconds.
FOLLOW = 1.0
#: Pause between complete comparisons that others may ask of us: each costs a hash per register.
FULL_PAUSE = 10.0
#: Exchanges that a wish of the application may take.
ASKED = 64
#: Exchanges in a row that change nothing and end in difference, until that is told.
DIVERGED = 3
#: Refusals that end an exchange, with a partner that is well.
_ENDINGS = frozenset({"busy", "lagging"})
#: Refusals of a message, not of what it held.
_PASSING = _ENDINGS | {"rate"}
#: A member that refused something of ours lately explains a difference.
NACK_LIFE = 600.0


class Exchanges:
    """
    All exchanges of a replica.

    @ivar running: those that we began, by partner.
    @ivar again: partners to compare with again, and when.
    """

    __slots__ = (
        "_answering",
        "_asked",
        "_desk",
        "_frames",
        "_full_at",
        "_introduce",
        "_news",
        "again",
        "running",
    )

    def __init__(
        self,
        desk: Desk,
        now: float,
        *,
        introduce: Callable[[int, str], None],
        news: Callable[[float, Register, int], None],
    ) -> None:
        """
        @param introduce: send a push that wants an answer, with this id: how to begin with a member
            that showed version 2 once, but not lately.
        @param news: told of each register that was new, and of who sent it.
        """
        self._desk = desk
        self._frames = Frames(desk)
        self._introduce = introduce
        self._news = news
        self.running: dict[int, Exchange] = {}
        self._answering: dict[tuple[int, str], Exchange] = {}
        self.again: dict[int, float] = {}
        self._asked: dict[int, int] = {}  # partner -> exchanges left
        self._full_at = now - FULL_PAUSE

    # -- beginning -----------------------------------------------------------------------------

    def ask(self, now: float, peer: int) -> None:
        """Compare with a member until both agree, and tell the application how that ended."""
        self._asked[peer] = ASKED
        if peer not in self.running:
            self.begin(now, peer)

    def begin(self, now: float, peer: int, *, full: bool = False) -> None:
        """
        Compare with a member; nothing happens while that is under way.

        @param full: recompute everything under a fresh key.
        """
        if peer in self.running:
            return
        desk = self._desk
        x, nonce, wall = desk.token(), "", desk.ledger.clock.wall()
        known = desk.members.version2(peer, now)
        if known:
            if full:
                nonce = f"{desk.rng.getrandbits(64):016x}"
            syn = self._frames.syn(now, x, nonce)
            root = syn.root
            desk.send(peer, syn)
        else:
            root = desk.ledger.map.root
            self._introduce(peer, x)
        desk.counts["begun"] += 1
        self.again.pop(peer, None)
        exchange = Exchange(x, now + desk.config.patience, ours=True, sent=wall, nonce=nonce)
        exchange.greeting = not known
        exchange.root = root
        self.running[peer] = exchange

    # -- answering -----------------------------------------------------------------------------

    def greeted(self, now: float, member: Member, push: Push) -> None:
        """A member introduced itself, which wants an answer."""
        desk = self._desk
        if push.root == desk.ledger.map.root:
            desk.send(member.node, self._frames.same(push.id, push.root))
            desk.agreed(now, member, push.root)
        else:
            desk.differs(now, member, push.root, push.n)
            self.begin(now, member.node)

    def on_syn(self, now: float, member: Member, syn: Syn) -> None:
        """A member wants to compare."""
        desk = self._desk
        peer = member.node
        member.lagging = syn.lagging
        ours = self.running.get(peer)
        if ours is not None and ours.greeting:
            del self.running[peer]  # it answers our introduction with its own question
        if desk.lagging:
            self._stand_back(now, member, syn)
            return
        if syn.nonce:
            self._compare_fully(now, member, syn)
            return
        root = desk.ledger.map.root
        if syn.root == root:
            desk.send(peer, self._frames.same(syn.x, root))
            desk.agreed(now, member, root)
            return
        desk.differs(now, member, syn.root, syn.n)
        if desk.ledger.explained(now, syn.root):
            desk.send(peer, self._frames.ack(syn.x, root))
            return
        exchange = self._answer(now, peer, syn.x)
        exchange.queue, want, buckets = explain(desk.ledger, syn)
        self._frames.acknowledge(now, member, exchange, root, want, buckets)

    def _stand_back(self, now: float, member: Member, syn: Syn) -> None:
        """We have been away for too long: ask instead of answering, and give nothing."""
        if syn.lagging or not syn.n:
            self._desk.send(member.node, Nack(self._desk.name, "lagging", (), 1, syn.x))
        else:
            self.begin(now, member.node)

    def _compare_fully(self, now: float, member: Member, syn: Syn) -> None:
        desk = self._desk
        if now - self._full_at < FULL_PAUSE:
            desk.send(member.node, Nack(desk.name, "busy", (), 1, syn.x))
            return
        self._full_at = now
        digest = Digest.rekeyed(syn.nonce, desk.ledger.map.all())
        if digest.root == syn.root:
            desk.send(member.node, self._frames.same(syn.x, digest.root))
            desk.agreed(now, member, desk.ledger.map.root)
            return
        exchange = self._answer(now, member.node, syn.x)
        exchange.nonce = syn.nonce
        desk.send(member.node, self._frames.ack(syn.x, digest.root, (), (), digest.pack()))

    def _answer(self, now: float, peer: int, x: str) -> Exchange:
        """@return: an exchange that another began, made if it is new."""
        answering = self._answering
        exchange = answering.get((peer, x))
        if exchange is None:
            if len(answering) >= self._desk.config.answering:
                del answering[next(iter(answering))]
            exchange = answering[peer, x] = Exchange(x, now, ours=False, sent=0.0, nonce="")
        exchange.deadline = now + self._desk.config.patience
        return exchange

    # -- going on ------------------------------------------------------------------------------

    def on_ack(self, now: float, member: Member, ack: Ack) -> None:
        """A partner has answered."""
        desk = self._desk
        ledger = desk.ledger
        peer = member.node
        exchange = self.running.get(peer)
        if exchange is None or exchange.x != ack.x:
            desk.counts["stray"] += 1
            return
        exchange.answered = True
        exchange.deadline = now + desk.config.patience
        desk.measure(now, member, exchange.sent, ack.hlc)
        member.lagging = False
        if ack.same and ack.root == exchange.root:
            desk.lagging = False
            self._end(now, member, exchange, agreed=True)
            return
        if desk.lagging:
            if ack.n:
                self._return(now, peer)
            else:
                self._end(now, member, exchange, agreed=False)
            return
        self._absorb(now, member, exchange, ack.entries)
        root = ledger.map.root
        if not exchange.nonce:
            if ack.root == root:
                exchange.root = root
                self._end(now, member, exchange, agreed=True)
                return
            desk.differs(now, member, ack.root, ack.n)
            if ledger.explained(now, ack.root):
                exchange.refused += 1
                self._end(now, member, exchange, agreed=False)
                return
            if not ack.buckets:
                behind = ledger.since(ack.root) if ack.n else list(ledger.map.all())
                exchange.queue.extend(behind or ())
        exchange.queue = fair(exchange.queue + wished(ledger.map, ack.want))
        have, want = self._differences(exchange, ack.buckets)
        if exchange.queue or have or want:
            if self._frames.reply(now, member, exchange, have, want):
                self._end(now, member, exchange, agreed=False)
        elif ack.entries:
            exchange.deadline = now + FOLLOW  # if there is more, it is on its way
        else:
            self._end(now, member, exchange, agreed=False)

    def on_delta(self, now: float, member: Member, delta: Delta) -> None:
        """A partner goes on."""
        peer = member.node
        exchange = self.running.get(peer)
        if exchange is None or exchange.x != delta.x:
            exchange = self._answer(now, peer, delta.x)
        exchange.answered = True
        exchange.deadline = now + self._desk.config.patience
        self._absorb(now, member, exchange, delta.entries)
        if self._desk.lagging:
            return
        registers = self._desk.ledger.map
        lacking, want = compare(registers, delta)
        exchange.queue = fair(exchange.queue + wished(registers, delta.want) + lacking)
        room = exchange.frames < self._desk.config.frames
        if room and (exchange.queue or want or not delta.done):
            last = self._frames.reply(now, member, exchange, [], want)
            if not (last and delta.done):
                return  # one of us goes on
        if exchange.ours and (delta.cursor or exchange.queue or not delta.done):
            self.again[peer] = now + RESUME
        self._end(now, member, exchange, agreed=False)

    def _absorb(
        self, now: float, member: Member, exchange: Exchange, entries: Iterable[Register]
    ) -> None:
        desk = self._desk
        refused: dict[str, list[str]] = {}
        for register in entries:
            answer = desk.ledger.offer(now, register, member.node)
            verdict = answer.verdict
            if verdict is Verdict.NEW:
                exchange.merged += 1
                self._news(now, register, member.node)
            elif verdict is Verdict.OLD and answer.other is not None:
                exchange.queue.append(answer.other)
            elif verdict is Verdict.REFUSED:
                exchange.refused += 1
                refused.setdefault(answer.reason, []).append(register.key_hash)
                desk.reject(now, member.node, answer.reason, register.key)
            elif verdict is Verdict.PENDING:
                exchange.merged += 1
        for reason, keys in refused.items():
            desk.nack(now, member, reason, keys, exchange.x)

    def _differences(
        self, exchange: Exchange, packed: str
    ) -> tuple[list[tuple[str, str]], list[str]]:
        desk = self._desk
        registers = desk.ledger.map
        if not packed:
            return [], []
        digest = registers.digest
        if exchange.nonce:
            digest = Digest.rekeyed(exchange.nonce, registers.all())
        differing = digest.differing(packed)
        desk.rng.shuffle(differing)  # so that none is always the one that does not fit
        return holdings(registers, differing, (desk.config.frame - HEAD) // (2 * HAVE))

    # -- ending --------------------------------------------------------------------------------

    def on_nack(self, now: float, member: Member, nack: Nack) -> None:
        """A member refused something."""
        self._desk.counts["nacked"] += 1
        if nack.reason not in _PASSING:
            member.nacked = now
        exchange = self.running.get(member.node)
        if nack.x and exchange is not None and exchange.x == nack.x and nack.reason in _ENDINGS:
            exchange.answered = True
            del self.running[member.node]
            self._told(now, member.node, "refused")

    def _end(self, now: float, member: Member, exchange: Exchange, *, agreed: bool) -> None:
        desk = self._desk
        if exchange.ours:
            self.running.pop(member.node, None)
        else:
            self._answering.pop((member.node, exchange.x), None)
        if agreed:
            # What is ours may be newer by now than what the partner has agreed with.
            root = desk.ledger.map.root if exchange.nonce else exchange.root
            desk.agreed(now, member, root, told=self._asked.pop(member.node, 0) > 0)
            return
        excused = exchange.refused > 0 or now - member.nacked < NACK_LIFE
        if exchange.merged or (exchange.served and not excused):
            member.mismatches = 0
            desk.warm(now)
        elif exchange.ours and not excused:
            desk.warm(now)
            member.mismatches += 1
            if member.mismatches >= DIVERGED and not member.diverged:
                member.diverged = True
                desk.event(
                    "gossip.diverged",
                    peer=member.node,
                    root=desk.ledger.map.root,
                    theirs=member.root,
                    cause="unexplained",
                )
        if exchange.ours:
            if not exchange.merged and not exchange.served and member.node in self._asked:
                self._asked[member.node] = min(self._asked[member.node], DIVERGED)
            self._told(now, member.node, "unexplained")

    def _told(self, now: float, peer: int, cause: str) -> None:
        """An exchange that the application asked for has ended without agreement: once more?"""
        left = self._asked.pop(peer, 0)
        if not left:
            return
        if left > 1 and cause == "unexplained":
            self._asked[peer] = left - 1
            self.again[peer] = max(now, self.again.get(peer, 0.0))
            return
        desk = self._desk
        member = desk.members.known.get(peer)
        theirs = member.root if member is not None else ""
        desk.event(
            "gossip.diverged", peer=peer, root=desk.ledger.map.root, theirs=theirs, cause=cause
        )

    def _return(self, now: float, peer: int) -> None:
        """A member that was not away: take its state, keep only what is certainly ours."""
        desk = self._desk
        desk.ledger.surrender(desk.contact)
        desk.lagging = False
        desk.synced = False
        desk.warm(now)
        del self.running[peer]
        self.begin(now, peer)

    def failed(self, now: float, peer: int) -> bool:
        """
        A message to a member could not be delivered.

        @return: whether an exchange that we began has failed with that.
        """
        exchange = self.running.pop(peer, None)
        if peer in self._asked:
            self._asked[peer] = 1
            self._told(now, peer, "unreachable")
        return exchange is not None and not exchange.answered

    def expired(self, now: float) -> list[int]:
        """
        End what has taken too long.

        @return: partners that have not answered at all.
        """
        late = [peer for peer, each in self.running.items() if each.deadline <= now]
        silent = []
        for peer in late:
            exchange = self.running.pop(peer)
            if not exchange.answered:
                silent.append(peer)
            if peer in self._asked:
                if not exchange.answered:
                    self._asked[peer] = 1
                cause = "unexplained" if exchange.answered else "silent"
                self._told(now, peer, cause)
        return silent

    def tidy(self, now: float) -> None:
        """Forget exchanges that others have given up."""
        answering = self._answering
        for key in [key for key, each in answering.items() if each.deadline <= now]:
            del answering[key]

    def resume(self, now: float) -> None:
        """Take up again what is due."""
        for peer in [peer for peer, at in self.again.items() if at <= now]:
            del self.again[peer]
            self.begin(now, peer)

    def deadline(self) -> float:
        """@return: when to call L{expired} or L{resume}."""
        due = float("inf")
        for exchange in self.running.values():
            due = min(due, exchange.deadline)
        for at in self.again.values():
            due = min(due, at)
        return due
