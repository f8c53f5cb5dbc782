"""Everybody we know of: those we probe, and those known only through others."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from struct import Struct
from typing import Any, Final

from skills.presence.detection.items import Number
from skills.presence.detection.messages import BUCKETS, SUM_BYTES
from skills.presence.detection.reach import FRESH, SUSPECT
from skills.presence.detection.suspicion import Suspicion

ERA: Final = 8_192
"""Sequences (periods) after which a member's number counts as another one in repairs.  Fewer let
members known only through others lapse sooner once nobody has news; more spare traffic."""
LAPSE: Final = 3 * ERA
"""Periods without a newer number after which a member known only through others lapses."""
STRANGERS: Final = 16
"""How many helpers that cannot reach a member are remembered with it."""

_TOKEN = Struct(">IQQQ")
_NEVER: Final = float("-inf")


class Member:
    """
    One member as we see it.

    @ivar node: its number.
    @ivar ours: whether we probe it; otherwise it is known only through others.
    @ivar state: C{fresh}, C{suspect}, C{gone}, or C{None} while it never answered anybody.
    @ivar number: the newest (incarnation, sequence) known of it.
    @ivar said: when it said that number, as far as spans told us; never earlier than it did.
    @ivar learned: when we came to know the number.
    @ivar heard: when it last spoke to us itself.
    @ivar changed: when its state last changed.
    @ivar left: it left by its own word; C{left_heard}: it told us so itself.
    @ivar probed: while gone, when the probe that failed was sent.
    @ivar suspicion: while suspect.
    @ivar alarm: when its suspicion is looked at next.
    @ivar misses: checks of ours that failed in a row.
    @ivar knocks: unanswered calls while it never answered; C{next_knock}: when to call again.
    @ivar excused: until when we do not accuse it.
    @ivar doubted: who told a number of it last that was not believed, 0 for nobody.
    @ivar srtt: smoothed round trip, seconds, 0 before the first.
    @ivar record: its newest status record, with C{record_number}; C{record_heard}: it gave it to us
        itself.
    """

    __slots__ = (
        "alarm",
        "changed",
        "doubted",
        "excused",
        "heard",
        "knocks",
        "learned",
        "left",
        "left_heard",
        "misses",
        "next_knock",
        "node",
        "number",
        "ours",
        "probed",
        "record",
        "record_heard",
        "record_number",
        "said",
        "srtt",
        "state",
        "strangers",
        "suspicion",
        "token",
    )

    def __init__(self, node: int, ours: bool, now: float) -> None:
        self.node = node
        self.ours = ours
        self.state: str | None = None
        self.number: Number = (0, 0)
        self.said = self.heard = self.probed = _NEVER
        self.learned = self.changed = now
        self.left = self.left_heard = False
        self.suspicion: Suspicion | None = None
        self.alarm: float | None = None
        self.misses = self.knocks = 0
        self.next_knock = now
        self.excused = _NEVER
        self.srtt = 0.0
        self.record: dict[str, Any] | None = None
        self.record_number: Number = (0, 0)
        self.record_heard = False
        self.strangers: tuple[int, ...] = ()
        self.doubted = 0
        self.token = 0

    @property
    def live(self) -> bool:
        """Whether it counts as there."""
        return self.state == FRESH or self.state == SUSPECT

    def sample(self, seconds: float) -> None:
        """A round trip took so long."""
        self.srtt = seconds if not self.srtt else self.srtt * 0.875 + seconds * 0.125

    def is_stranger_to(self, helper: int) -> None:
        """That helper cannot probe it."""
        if helper not in self.strangers:
            self.strangers = (*self.strangers, helper)[-STRANGERS:]


def bucket_of(node: int) -> int:
    """@return: the bucket of the repair digest a node falls into."""
    return ((node * 2_654_435_761) & 0xFFFFFFFF) * BUCKETS >> 32


def token_of(node: int, number: Number, version: int) -> int:
    """@return: what a live member adds to its bucket's sum."""
    era = (number[1] + node * 97) // ERA  # a fleet started at once should not age at once
    packed = _TOKEN.pack(node, number[0], version, era)
    return int.from_bytes(blake2b(packed, digest_size=SUM_BYTES).digest(), "big")


class Members:
    """
    The table.

    @ivar fresh: how many members are fresh.
    @ivar suspect: how many are suspect.
    @ivar our_fresh: how many of ours are fresh, and C{our_suspect} suspect.
    @ivar refused: members not taken in because the table was full.
    """

    __slots__ = (
        "_by_node",
        "_most",
        "_spare",
        "fresh",
        "our_fresh",
        "our_suspect",
        "refused",
        "sums",
        "suspect",
    )

    def __init__(self, most: int) -> None:
        self._by_node: dict[int, Member] = {}
        self._most = most
        self._spare: dict[int, None] = {}  # whoever is neither ours nor live, and some others
        self.fresh = self.suspect = self.refused = 0
        self.our_fresh = self.our_suspect = 0
        self.sums = [0] * BUCKETS

    def __len__(self) -> int:
        return len(self._by_node)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_node.values())

    def get(self, node: int) -> Member | None:
        """@return: the member, or C{None}."""
        return self._by_node.get(node)

    @property
    def live(self) -> int:
        """How many members are there."""
        return self.fresh + self.suspect

    def add(self, node: int, ours: bool, now: float) -> Member | None:
        """@return: a new member, or C{None}: the table is full, and nobody in it matters less."""
        if len(self._by_node) >= self._most and not self._make_room(ours):
            self.refused += 1
            return None
        member = self._by_node[node] = Member(node, ours, now)
        self._spare[node] = None
        return member

    def _make_room(self, ours: bool) -> bool:
        while self._spare:
            node, _ = self._spare.popitem()
            member = self._by_node[node]
            if not member.ours and not member.live:
                self.remove(member)
                return True
        # Nobody is looked for in vain once for each of ten thousand that somebody invents.
        spare = next((member for member in self if not member.ours), None) if ours else None
        if spare is not None:
            self.remove(spare)
        return spare is not None

    def remove(self, member: Member) -> None:
        """Forget a member altogether."""
        self.move(member, None)
        self._spare.pop(member.node, None)
        del self._by_node[member.node]

    def adopt(self, member: Member) -> None:
        """It is one of ours from now on."""
        if not member.ours:
            member.ours = True
            self.our_fresh += member.state == FRESH
            self.our_suspect += member.state == SUSPECT

    def move(self, member: Member, state: str | None) -> None:
        """The member's state is this now."""
        before = member.state
        if member.ours:
            self.our_fresh += (state == FRESH) - (before == FRESH)
            self.our_suspect += (state == SUSPECT) - (before == SUSPECT)
        self.fresh += (state == FRESH) - (before == FRESH)
        self.suspect += (state == SUSPECT) - (before == SUSPECT)
        member.state = state
        if not member.live:
            self._spare[member.node] = None
        if state != SUSPECT:
            member.suspicion = None
        self.settle(member)

    def settle(self, member: Member) -> None:
        """Bring the repair sums up to what is known of the member."""
        token = 0
        if member.live:
            token = token_of(member.node, member.number, member.record_number[1])
        if token != member.token:
            at = bucket_of(member.node)
            self.sums[at] = (self.sums[at] + token - member.token) % 2 ** (8 * SUM_BYTES)
            member.token = token

    def random(
        self, rng: random.Random, count: int, candidates: list[int], without: Iterable[int] = ()
    ) -> list[Member]:
        """@return: up to C{count} distinct fresh members of ours among the candidates."""
        chosen: list[Member] = []
        taken = set(without)
        if not candidates:
            return chosen
        for _ in range(8 * count):  # a few draws find them unless nearly everybody is away
            member = self._by_node.get(rng.choice(candidates))
            if member is None or member.node in taken or not (member.ours and member.live):
                continue
            if member.state == SUSPECT and len(candidates) > 2 * count:
                continue
            taken.add(member.node)
            chosen.append(member)
            if len(chosen) == count:
                break
        return chosen
