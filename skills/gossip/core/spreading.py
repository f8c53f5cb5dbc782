"""News, pushed as soon as it is known: to a few random members, and by each of them once more.

Whoever hears of a register for the first time passes it on once, so an update reaches most of a
swarm in a few hops and then stops; whom it misses learns of it by comparing.  News waits a moment
for more news, and a large import leaves at a bounded pace.
"""

from __future__ import annotations

from typing import Any

from skills.gossip.core.compat import Elders
from skills.gossip.core.desk import Desk
from skills.gossip.core.document import assemble
from skills.gossip.core.effects import Send
from skills.gossip.core.ledger import Verdict
from skills.gossip.core.member import Member
from skills.gossip.core.messages import VERSION, Push, pack
from skills.gossip.core.partners import sample
from skills.gossip.core.register import Register
from skills.gossip.core.rounds import Rounds

#: Bytes of a push without its registers, rounded up; values may stand in it twice.
_HEAD = 512


class Spreading:
    """
    @ivar due: when to call L{flush}, C{None} if there is no news.
    @ivar waiting: bytes of news that waits.
    """

    __slots__ = ("_desk", "_elders", "_news", "_rounds", "due", "waiting")

    def __init__(self, desk: Desk, elders: Elders, rounds: Rounds) -> None:
        self._desk = desk
        self._elders = elders
        self._rounds = rounds
        self._news: dict[str, tuple[Register, int]] = {}  # key -> register, who told us
        self.waiting = 0
        self.due: float | None = None

    def note(self, now: float, register: Register, source: int) -> None:
        """
        A register is new here.

        @param source: who told us; our own number if it was written here.
        """
        desk = self._desk
        desk.warm(now)
        desk.news_at = now
        if self.due is None:
            self.due = now + desk.config.coalesce
        if not desk.config.push:
            return
        before = self._news.pop(register.key, None)
        if before is not None:
            self.waiting -= before[0].size
        if self.waiting + register.size > desk.config.news_bytes:
            desk.counts["news_left_to_rounds"] += 1
            return
        self._news[register.key] = (register, source)
        self.waiting += register.size

    def take(self, now: float, peer: int, push: Push, member: Member | None = None) -> int:
        """
        Read a push that is more than an introduction.

        @param member: who may be told of refusals.
        @return: how many registers were new.
        @raise BadMessage: a state of version 1 with far too many leaves.
        """
        if push.v < VERSION:
            written = self._elders.take(now, peer, push)
            for register in written:
                self.note(now, register, peer)
            return len(written)
        desk = self._desk
        new = 0
        refused: dict[str, list[str]] = {}
        for register in push.entries:
            answer = desk.ledger.offer(now, register, peer)
            if answer.verdict is Verdict.NEW:
                new += 1
                self.note(now, register, peer)
            elif answer.verdict is Verdict.REFUSED:
                refused.setdefault(answer.reason, []).append(register.key_hash)
                desk.reject(now, peer, answer.reason, register.key)
            elif answer.other is not None and desk.ledger.map.get(register.key) is None:
                # Long deleted, and forgotten by most: bring the deletion up again.
                desk.out.append(Send(peer, self._push([answer.other])))
        if member is not None:
            for reason, keys in refused.items():
                desk.nack(now, member, reason, keys)
        return new

    def flush(self, now: float) -> None:
        """Push what waits, a frame of it."""
        desk = self._desk
        self.due = None
        if not self._news:
            return
        batch, rest = pack(
            [each for each, _ in self._news.values()], desk.config.frame // 2 - _HEAD
        )
        if not batch:  # one so large that its value could not stand in a frame twice
            batch, rest = rest[:1], rest[1:]
        taken = [self._news.pop(register.key) for register in batch]
        size = sum(register.size for register in batch)
        self.waiting -= size
        if rest:
            self.due = now + max(desk.config.coalesce, 2.0 * size / desk.config.pace)
        sources = {source for _, source in taken}
        only = next(iter(sources)) if len(sources) == 1 else None
        usable = desk.members.usable
        targets = sample(
            desk.rng,
            self._rounds.pool,
            desk.config.fanout,
            lambda node: node != only and usable(node),
        )
        whole: dict[str, Any] | None = None
        for target in targets:
            if self._elders.includes(target):
                self._elders.give(now, target)
                continue
            if target not in sources:
                whole = whole or self._push(batch)
                desk.out.append(Send(target, whole))
            elif part := [register for register, source in taken if source != target]:
                desk.out.append(Send(target, self._push(part)))
            desk.counts["pushed"] += 1

    def _push(self, registers: list[Register]) -> dict[str, Any]:
        state: dict[str, Any] = {}
        if len(registers) > 1 or registers[0].size <= self._desk.config.frame // 2:
            state = assemble(each for each in registers if not each.deleted)
        return self._elders.push(state, tuple(registers)).encode()
