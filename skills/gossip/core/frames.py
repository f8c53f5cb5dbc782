"""The messages of an exchange: each is built here, and kept within a frame and a budget."""

from __future__ import annotations

from collections.abc import Iterable

from skills.gossip.core.desk import Desk
from skills.gossip.core.digest import Digest
from skills.gossip.core.member import Member
from skills.gossip.core.messages import MAX_NEWS, MAX_RECENT, Ack, Delta, Syn, pack
from skills.gossip.core.register import Register

#: Liveness news in a message while nothing else happens: a quiet swarm is to cost little.
QUIET_NEWS = 4
#: Bytes of a message around its registers, rounded up.
HEAD = 200
#: Bytes of a key's hash and time in a list, and of a wish.
HAVE, WANT = 40, 20


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
    @ivar root: the root that we told, under the nonce if there is one.
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
        "root",
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
        self.root = ""


class Frames:
    """Builds and sends the messages of exchanges."""

    __slots__ = ("_desk",)

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def syn(self, now: float, x: str, nonce: str) -> Syn:
        """@return: a question, under a fresh key if there is a nonce."""
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

    def same(self, x: str, root: str) -> Ack:
        """@return: the answer that ends an exchange at once."""
        ledger = self._desk.ledger
        return Ack(self._desk.name, x, ledger.clock.reading(), root, len(ledger.map), True)

    def ack(
        self,
        x: str,
        root: str,
        entries: Iterable[Register] = (),
        want: Iterable[str] = (),
        buckets: str = "",
    ) -> Ack:
        """@return: the answer to a question from which we differ."""
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

    def acknowledge(
        self,
        now: float,
        member: Member,
        exchange: Exchange,
        root: str,
        want: list[str],
        buckets: str,
    ) -> None:
        """Answer a syn; if one frame is not enough for what we have to give, send two."""
        room = self._desk.config.frame - HEAD - len(buckets) - WANT * len(want)
        entries = self._take(now, member, exchange, room)
        self._desk.send(member.node, self.ack(exchange.x, root, entries, want, buckets))
        if exchange.queue:
            self.reply(now, member, exchange, [], [])

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

    def reply(
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
        room = desk.config.frame - HEAD - HAVE * len(have) - WANT * len(want)
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
