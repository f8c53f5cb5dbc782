"""What the parts of a detector share: who we are, the tables, what is due, what leaves."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from skills.presence.detection.health import LocalHealth
from skills.presence.detection.items import MAX_SPAN, Fresh, Item, Left, Number
from skills.presence.detection.members import Member, Members
from skills.presence.detection.messages import MAX_DATAGRAM, Message, News
from skills.presence.detection.profiles import Profile
from skills.presence.detection.reach import Effect, Reach, Send
from skills.presence.detection.rumors import Rumors, carries, packed
from skills.presence.detection.suspicion import Suspicion, shortest, witnesses

ENVELOPE = 200
"""Bytes of a datagram that are not news, at most."""
ROOM = MAX_DATAGRAM - ENVELOPE
"""Bytes of news in a datagram."""
PUSHES = 8
"""Datagrams with news that leave for one member at once; the rest is carried along."""

EPOCH = 2**31
"""An incarnation is the unix time of a start, or a little more.  One up to this is no surprise to
anybody, however wrong its clock is."""
AHEAD = 2**27
"""Seconds by which an incarnation told by others may be beyond that, or beyond our own start."""
CREEP = 2**18
"""Seconds by which it may be beyond what is known of that member."""


class Swarm:
    """
    One node's place in its swarm.

    @ivar incarnation: our own.
    @ivar sequence: our own.
    @ivar held: until when nobody is accused by us (grace); infinity while frozen.
    @ivar effects: what is to be done, collected until the caller takes it.
    @ivar late: by how many seconds the call that is running came too late.
    @ivar candidates: members that rounds, helpers and pushes are chosen from.
    @ivar counters: what happened how often.
    """

    def __init__(
        self, node_id: int, now: float, rng: random.Random, profile: Profile, incarnation: int
    ) -> None:
        self.node_id = node_id
        self.rng = rng
        self.profile = profile
        self.incarnation = incarnation
        self.sequence = 0
        self.members = Members(profile.most)
        self.rumors = Rumors()
        self.health = LocalHealth()
        self.counters: Counter[str] = Counter()
        self.effects: list[Effect] = []
        self.candidates: list[int] = []
        self.grace_until = now + profile.grace
        self.frozen = ""
        self.late = 0.0
        self.inbound = now
        self.started = now
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._entries = 0
        self._flushing = False
        self._exchange = rng.randrange(2**24)

    # -- who we are --------------------------------------------------------------------------

    @property
    def number(self) -> Number:
        """Our own number."""
        return self.incarnation, self.sequence

    def next_exchange(self) -> int:
        """@return: a number that no other exchange of ours under way has."""
        self._exchange += 1
        return self._exchange

    def least(self) -> float:
        """@return: seconds of the shortest suspicion at our present size."""
        return shortest(self.members.live + 1, self.profile.period)

    def expiry(self, member: Member, suspicion: Suspicion) -> float:
        """@return: when a suspicion becomes a verdict at our present size; those who cannot reach
        the member will never confirm it."""
        unable = sum(1 for node in member.strangers if self._is_live(node))
        return suspicion.expiry(self.least(), witnesses(self.members.live + 1 - unable))

    def _is_live(self, node: int) -> bool:
        member = self.members.get(node)
        return member is not None and member.live

    def holds(self, now: float, member: Member) -> bool:
        """@return: whether we must not accuse that member now."""
        return bool(self.frozen) or now < self.grace_until or now < member.excused

    # -- what is too good to be true ---------------------------------------------------------

    def may_believe(self, incarnation: int, known: int, slack: int = 0) -> bool:
        """@return: whether an incarnation told by another may be one, with C{known} before it."""
        return incarnation <= max(known + CREEP, max(self.incarnation, EPOCH) + AHEAD + slack)

    def doubts(self, now: float, node: int, number: Number, peer: int) -> bool:
        """
        A number that cannot be outbid would keep a member out for ever.  One that is beyond all
        reason is therefore taken only from itself, or if two members tell such a one.

        @param peer: who tells it.
        @return: whether to pass over what it says.
        """
        member = self.members.get(node)
        if peer == node or self.may_believe(number[0], member.number[0] if member else 0):
            return False
        self.counters["doubted"] += 1
        member = member or self.members.add(node, False, now)
        if member is None:
            return True
        teller, member.doubted = member.doubted, peer
        return teller in (0, peer)

    # -- what is due -------------------------------------------------------------------------

    def at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        """Have C{call(now, *args)} made at C{when}."""
        self._entries += 1
        heappush(self._agenda, (when, self._entries, call, args))

    def due(self) -> float | None:
        """@return: when the next call is due."""
        return self._agenda[0][0] if self._agenda else None

    def run(self, now: float) -> None:
        """Make the calls that are due."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= now:
            when, _, call, args = heappop(agenda)
            self.late = now - when
            call(now, *args)
        self.late = 0.0

    def skip(self, now: float) -> None:
        """What should have happened long ago happens now, and counts as punctual."""
        late = [(max(when, now), *rest) for when, *rest in self._agenda]
        heapify(late)
        self._agenda = late  # type: ignore[assignment]

    def clear(self) -> None:
        """Nothing is due any more."""
        self._agenda.clear()

    # -- what leaves -------------------------------------------------------------------------

    def take(self) -> list[Effect]:
        """@return: what is to be done since the last time."""
        effects, self.effects = self.effects, []
        return effects

    def send(self, peer: int, message: Message) -> None:
        """A datagram for a member."""
        self.effects.append(Send(peer, message))

    def carry(self, now: float, first: tuple[Item, ...] = ()) -> tuple[Item, ...]:
        """@return: news to go along with a message that must tell C{first}."""
        if not self.rumors:
            return first
        room = ROOM - 60 * len(first)
        return first + self.rumors.carry(now, room, carries(self.members.live + 1))

    def tell(self, now: float, item: Item, source: int) -> None:
        """Pass news on: to a few members at once, and along with what leaves anyway."""
        self.rumors.add(now, item, source)
        if not self._flushing:
            self._flushing = True
            self.at(now + self.profile.coalesce, self._flush)

    def _flush(self, now: float) -> None:
        self._flushing = False
        hot = self.rumors.take_hot()
        if not hot:
            return
        sources = {rumor.source for rumor in hot}
        without = sources if len(sources) == 1 else set()
        chosen = self.members.random(self.rng, self.profile.fanout, self.candidates, without)
        loads = packed(((rumor.now(now), rumor.size) for rumor in hot), ROOM)
        for member in chosen:
            for load in loads[:PUSHES]:
                self.send(member.node, News(self.number, load))
        if not chosen and self.members.live:  # nobody sure is left: tell somebody at least
            self.counters["unpushed"] += 1

    def age(self, now: float, member: Member) -> float:
        """@return: seconds since the member said its newest number, as far as we know."""
        return min(max(0.0, now - member.said), MAX_SPAN)

    def farewell(self, member: Member) -> Left:
        """@return: what we know of a member that left."""
        return Left(member.node, member.number)

    def vouch(self, now: float, member: Member) -> Fresh:
        """@return: the newest we know of a member's life."""
        return Fresh(member.node, member.number, self.age(now, member))

    def report(self, now: float, member: Member, cause: str, via: int, by: list[int]) -> None:
        """Tell the shell what became of a member."""
        evidence = {
            "seq": member.number[1],
            "silent": round(self.age(now, member), 3),
            "direct": member.heard >= member.said,
            "by": by,
            "via": via,
        }
        state = member.state or "gone"
        self.effects.append(Reach(member.node, member.number[0], state, cause, evidence))
        self.counters[cause] += 1
