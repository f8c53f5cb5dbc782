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

from skills.gossip.desk import Desk
from skills.gossip.digest import Digest, bucket_of
from skills.gossip.ledger import Verdict, fair
from skills.gossip.member import Member
from skills.gossip.messages import MAX_NEWS, MAX_RECENT, Ack, Delta, Nack, Syn, pack
from skills.gossip.register import Register

#: Liveness news in a message while nothing else happens: a quiet swarm is to cost little.
QUIET_NEWS = 4
#: Bytes of a message around its registers, rounded up.
_HEAD = 200
#: Bytes of a key's hash and time in a list, and of a wish.
_HAVE, _WANT = 40, 20
#: Wishes in one message.
WISHES = 512
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
#: A member that refused something of ours lately explains a difference.
NACK_LIFE = 600.0


class Exchange:
    """
    One exchange, seen from one end.

    @ivar x: its id.
    @ivar ours: whether we began it.
    @ivar deadline: the partner has until then.
    @ivar sent: our wall clock when we began it.
    @ivar queue: registers to send.
    @ivar frames: messages with state that we sent.
    @ivar merged: registers that were new to us.
    @ivar served: registers that we sent.
    @ivar refused: registers that we refused.
    @ivar answered: whether anything came back; then its silence is no failure.
    @ivar greeting: whether it began with an introduction.
    @ivar nonce: of a complete comparison.
    """

    __slots__ = (
        "answered",
        "deadline",
        "frames",
        "greeting",
        "merged",
        "nonce",
        "ours",
        "queue",
        "refused",
        "sent",
        "served",
        "x",
    )

    def __init__(self, x: str, deadline: float, *, ours: bool, sent: float, nonce: str) -> None:
        self.x = x
        self.ours = ours
        self.deadline = deadline
        self.sent = sent
        self.queue: list[Register] = []
        self.frames = 0
        self.merged = self.served = self.refused = 0
        self.answered = False
        self.greeting = False
        self.nonce = nonce


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
            desk.send(peer, self._syn(now, x, nonce))
        else:
            self._introduce(peer, x)
        desk.counts["begun"] += 1
        self.again.pop(peer, None)
        exchange = Exchange(x, now + desk.config.patience, ours=True, sent=wall, nonce=nonce)
        exchange.greeting = not known
        self.running[peer] = exchange

    def _syn(self, now: float, x: str, nonce: str) -> Syn:
        desk = self._desk
        ledger = desk.ledger
        recent: tuple[tuple[str, str], ...] = ()
        if now - desk.news_at < desk.config.hot:
            recent = tuple((each.key_hash, each.hlc) for each in ledger.map.recent(MAX_RECENT))
        root = Digest.rekeyed(nonce, ledger.map.all()).root if nonce else ledger.map.root
        return Syn(
            desk.name,
            x,
            desk.own,
            desk.members.incarnation,
            ledger.clock.reading(),
            root,
            len(ledger.map),
            recent,
            desk.members.rumors(MAX_NEWS if desk.hot(now) else QUIET_NEWS),
            nonce,
            desk.lagging,
        )

    # -- answering -----------------------------------------------------------------------------

    def greeted(self, now: float, member: Member, x: str, root: str, count: int) -> None:
        """A member introduced itself, which wants an answer."""
        desk = self._desk
        if root == desk.ledger.map.root:
            desk.send(member.node, self._same(x, root))
            desk.agreed(now, member, root)
        else:
            desk.differs(now, member, root, count)
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
            desk.send(peer, self._same(syn.x, root))
            desk.agreed(now, member, root)
            return
        desk.differs(now, member, syn.root, syn.n)
        exchange = self._answer(now, peer, syn.x)
        if desk.ledger.explained(now, syn.root):
            desk.send(peer, self._ack(syn.x, root))
            return
        want, buckets = self._explain(exchange, syn)
        self._acknowledge(now, member, exchange, root, want, buckets)

    def _same(self, x: str, root: str) -> Ack:
        ledger = self._desk.ledger
        return Ack(self._desk.name, x, ledger.clock.reading(), root, len(ledger.map), True)

    def _ack(
        self,
        x: str,
        root: str,
        entries: Iterable[Register] = (),
        want: Iterable[str] = (),
        buckets: str = "",
    ) -> Ack:
        ledger = self._desk.ledger
        return Ack(
            self._desk.name,
            x,
            ledger.clock.reading(),
            root,
            len(ledger.map),
            False,
            tuple(entries),
            tuple(want),
            buckets,
        )

    def _explain(self, exchange: Exchange, syn: Syn) -> tuple[list[str], str]:
        """
        Find the cheapest explanation of a difference; what we have to give goes to the queue.

        @return: what to ask for, and our bucket sums if nothing cheaper explains it.
        """
        registers = self._desk.ledger.map
        behind = self._desk.ledger.since(syn.root)
        if behind is not None or not syn.n:
            exchange.queue = fair(list(registers.all()) if behind is None else behind)
            return [], ""
        want: list[str] = []
        added = 0
        for key_hash, hlc in syn.recent:
            held = registers.with_hash(key_hash)
            if held is None or held.hlc < hlc:
                want.append(key_hash)
                added += held is None
            elif held.hlc > hlc:
                exchange.queue.append(held)
        if not len(registers) or (want and len(registers) + added == syn.n):
            return want, ""
        return want, registers.digest.pack()

    def _acknowledge(
        self,
        now: float,
        member: Member,
        exchange: Exchange,
        root: str,
        want: list[str],
        buckets: str,
    ) -> None:
        """Answer a syn; if one frame is not enough for what we have to give, send two."""
        room = self._desk.config.frame - _HEAD - len(buckets) - _WANT * len(want)
        entries = self._take(now, member, exchange, room)
        self._desk.send(member.node, self._ack(exchange.x, root, entries, want, buckets))
        if exchange.queue:
            self._reply(now, member, exchange, [], [])

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
            desk.send(member.node, self._same(syn.x, digest.root))
            desk.agreed(now, member, desk.ledger.map.root)
            return
        exchange = self._answer(now, member.node, syn.x)
        exchange.nonce = syn.nonce
        desk.send(member.node, self._ack(syn.x, digest.root, (), (), digest.pack()))

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
        if ack.same:
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
        self._serve(exchange, ack.want)
        exchange.queue = fair(exchange.queue)
        have, want = self._differences(exchange, ack.buckets)
        if exchange.queue or have or want:
            if self._reply(now, member, exchange, have, want):
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
        self._serve(exchange, delta.want)
        want = self._compare(exchange, delta)
        exchange.queue = fair(exchange.queue)
        room = exchange.frames < self._desk.config.frames
        if room and (exchange.queue or want or not delta.done):
            last = self._reply(now, member, exchange, [], want)
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

    def _serve(self, exchange: Exchange, want: Iterable[str]) -> None:
        """Put into the queue what was asked for."""
        registers = self._desk.ledger.map
        buckets = {int(each, 16) for each in want if len(each) == 2}
        for each in want:
            if len(each) > 2 and (register := registers.with_hash(each)) is not None:
                exchange.queue.append(register)
        if buckets:
            exchange.queue.extend(registers.in_buckets(buckets))

    def _differences(
        self, exchange: Exchange, packed: str
    ) -> tuple[list[tuple[str, str]], list[str]]:
        """
        Compare bucket sums.

        @return: what we hold in buckets that differ, as much as fits; and the numbers of those in
            which we hold nothing.
        """
        if not packed:
            return [], []
        registers = self._desk.ledger.map
        digest = registers.digest
        if exchange.nonce:
            digest = Digest.rekeyed(exchange.nonce, registers.all())
        differing = digest.differing(packed)
        if not differing:
            return [], []
        held: dict[int, list[Register]] = {bucket: [] for bucket in differing}
        for register in registers.in_buckets(differing):
            held[bucket_of(register.key_hash)].append(register)
        room = (self._desk.config.frame - _HEAD) // (2 * _HAVE)
        have: list[tuple[str, str]] = []
        want: list[str] = []
        self._desk.rng.shuffle(differing)  # so that none is always the one that does not fit
        for bucket in differing:
            if not held[bucket]:
                want.append(f"{bucket:02x}")
            elif not have or len(have) + len(held[bucket]) <= room:
                have.extend((each.key_hash, each.hlc) for each in held[bucket][:room])
        return have, want

    def _compare(self, exchange: Exchange, delta: Delta) -> list[str]:
        """
        Compare what a partner holds in some buckets with what we do; what it lacks goes to the
        queue.

        @return: what we lack.
        """
        if not delta.have:
            return []
        theirs = dict(delta.have)
        buckets = {bucket_of(key_hash) for key_hash in theirs}
        want: list[str] = []
        equal: dict[int, list[Register]] = {bucket: [] for bucket in buckets}
        explained = {bucket_of(each.key_hash) for each in delta.entries}
        for register in self._desk.ledger.map.in_buckets(buckets):
            bucket = bucket_of(register.key_hash)
            hlc = theirs.pop(register.key_hash, "")
            if hlc == register.hlc:
                equal[bucket].append(register)
                continue
            explained.add(bucket)
            if hlc < register.hlc:
                exchange.queue.append(register)
            else:
                want.append(register.key_hash)
        for key_hash in theirs:
            explained.add(bucket_of(key_hash))
            want.append(key_hash)
        # The same times and yet another sum: two authors wrote in the same instant, or somebody
        # has crafted hashes.  Then everything in the bucket is shown.
        for bucket in buckets - explained:
            exchange.queue.extend(equal[bucket])
            want.append(f"{bucket:02x}")
        return want[:WISHES]

    def _take(self, now: float, member: Member, exchange: Exchange, room: int) -> list[Register]:
        """@return: from the queue, what fits into a frame and into the member's budget."""
        if not exchange.queue:
            return []
        desk = self._desk
        batch, rest = pack(exchange.queue, room)
        if not member.conduct.serves(now, sum(each.size for each in batch), desk.config):
            desk.counts["not_served"] += 1
            return []
        exchange.queue = rest
        exchange.served += len(batch)
        exchange.frames += 1
        return batch

    def _reply(
        self,
        now: float,
        member: Member,
        exchange: Exchange,
        have: list[tuple[str, str]],
        want: list[str],
    ) -> bool:
        """
        Send the next frame.

        @return: whether nothing needs to come after it.
        """
        desk = self._desk
        room = desk.config.frame - _HEAD - _HAVE * len(have) - _WANT * len(want)
        entries = self._take(now, member, exchange, room)
        if not entries:
            exchange.frames += 1
        stuck = bool(exchange.queue) and not entries and not have
        done = not exchange.queue or stuck or exchange.frames >= desk.config.frames
        cursor = f"{len(exchange.queue):x}" if done and exchange.queue else ""
        desk.send(
            member.node,
            Delta(desk.name, exchange.x, tuple(entries), tuple(want), tuple(have), cursor, done),
        )
        return done and not have and not want

    # -- ending --------------------------------------------------------------------------------

    def on_nack(self, now: float, member: Member, nack: Nack) -> None:
        """A member refused something."""
        member.nacked = now
        self._desk.counts[f"nacked_{nack.reason}"] += 1
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
        root = desk.ledger.map.root
        if agreed:
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
                    root=root,
                    theirs=member.root,
                    cause="unexplained",
                )
        if exchange.ours:
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
