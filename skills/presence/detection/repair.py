"""What pushing missed: two members compare whom they know, and exchange only what differs.

Both keep one sum per bucket over everybody they believe alive; those that differ are listed, and
what the lists show to be old or missing is sent.  The dead are in no sum: they are told only to a
member that still believes in them, so they do not circle.  Each answer is bounded; what did not fit
differs the next time too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from skills.presence.detection.items import Gone, Item, Left, Number, Status, item_size
from skills.presence.detection.members import Member, bucket_of, token_of
from skills.presence.detection.messages import BUCKETS, SUM_BYTES, Delta, Digest, Listing
from skills.presence.detection.reach import GONE
from skills.presence.detection.rumors import packed
from skills.presence.detection.swarm import ROOM, Swarm

LISTED_BUCKETS: Final = 16
"""Buckets compared in one exchange."""
ENTRIES: Final = 16
"""Members in one listing: 50 bytes each at most."""
DATAGRAMS: Final = 12
"""Datagrams that one of a peer's makes us send, at most."""
ANSWERS: Final = 8
"""Digests and listings answered in one period, from all peers together, per live hundred."""


class Repair:
    """
    Compares directories.

    @ivar own_version: the version of our own status record.
    """

    def __init__(self, swarm: Swarm, own_items: Callable[[float], list[Item]]) -> None:
        self._swarm = swarm
        self._own_items = own_items
        self.own_version = 0
        self._budget = 0
        self.tick()

    def tick(self) -> None:
        """A period has passed."""
        self._budget = ANSWERS * (4 + self._swarm.members.live // 100)

    def start(self, peer: int) -> None:
        """Compare with that member."""
        swarm = self._swarm
        swarm.send(peer, Digest(swarm.number, swarm.next_exchange(), self._sums()))
        swarm.counters["repairs"] += 1

    def _sums(self) -> tuple[int, ...]:
        swarm = self._swarm
        sums = list(swarm.members.sums)
        at = bucket_of(swarm.node_id)
        token = token_of(swarm.node_id, swarm.number, self.own_version)
        sums[at] = (sums[at] + token) % 2 ** (8 * SUM_BYTES)
        return tuple(sums)

    def _affords(self) -> bool:
        self._budget -= 1
        if self._budget < 0:
            self._swarm.counters["repairs_refused"] += 1
        return self._budget >= 0

    def compare(self, now: float, peer: int, message: Digest) -> None:
        """A member told its sums: list what differs."""
        ours = self._sums()
        differing = [at for at in range(BUCKETS) if ours[at] != message.sums[at]]
        if not differing or not self._affords():
            return
        swarm = self._swarm
        swarm.rng.shuffle(differing)
        buckets = tuple(sorted(differing[:LISTED_BUCKETS]))
        entries = sorted(self._entries(set(buckets)))
        after = 0
        for at in range(0, max(1, len(entries)), ENTRIES)[:DATAGRAMS]:
            part = tuple(entries[at : at + ENTRIES])
            last = at + ENTRIES >= len(entries)
            upto = 2**32 - 1 if last else part[-1][0]
            swarm.send(peer, Listing(swarm.number, message.exchange, buckets, after, upto, part))
            after = upto

    def _entries(self, buckets: set[int]) -> Iterable[tuple[int, Number, int]]:
        swarm = self._swarm
        for member in swarm.members:
            if member.live and bucket_of(member.node) in buckets:
                yield member.node, member.number, member.record_number[1]
        if bucket_of(swarm.node_id) in buckets:
            yield swarm.node_id, swarm.number, self.own_version

    def reconcile(self, now: float, peer: int, message: Listing) -> None:
        """A member listed whom it knows: send what it lacks, ask for what we lack."""
        if not self._affords():
            return
        swarm = self._swarm
        news: list[Item] = []
        want: list[int] = []
        listed = set()
        for node, number, version in message.entries:
            listed.add(node)
            if node == swarm.node_id:
                if number <= swarm.number and version != self.own_version:
                    news.extend(self._own_items(now))
                continue
            member = swarm.members.get(node)
            if member is None or member.state is None:
                want.append(node)
            elif member.state == GONE:
                if number > member.number and not (member.left and number[0] == member.number[0]):
                    want.append(node)
                else:
                    news.append(self._obituary(now, member))
            else:
                self._compare_one(now, member, number, version, news, want)
        for node, _, _ in self._entries(set(message.buckets)):
            if node not in listed and message.after < node <= message.upto:
                if node == swarm.node_id:
                    news.extend(self._own_items(now))
                elif (member := swarm.members.get(node)) is not None:
                    news.extend(self._account(now, member))
        self._deliver(peer, message.exchange, news, want)

    def _compare_one(
        self,
        now: float,
        member: Member,
        number: Number,
        version: int,
        news: list[Item],
        want: list[int],
    ) -> None:
        known = member.record_number[1]
        if number[0] != member.number[0]:
            newer = number > member.number
        elif version != known:
            newer = version > known
        elif token_of(member.node, number, version) == member.token:
            return
        else:
            newer = number > member.number
        if newer:
            want.append(member.node)
        else:
            news.extend(self._account(now, member))

    def supply(self, now: float, peer: int, message: Delta) -> None:
        """A member wants to know more of some."""
        if not message.want or not self._affords():
            return
        news: list[Item] = []
        for node in message.want:
            member = self._swarm.members.get(node)
            if node == self._swarm.node_id:
                news.extend(self._own_items(now))
            elif member is not None and member.live:
                news.extend(self._account(now, member))
        self._deliver(peer, message.exchange, news, [])

    def _account(self, now: float, member: Member) -> list[Item]:
        """@return: what there is to say of a live member."""
        items: list[Item] = [self._swarm.vouch(now, member)]
        if member.record is not None:
            age = min(max(0.0, now - member.learned), self._swarm.age(now, member))
            items.append(Status(member.node, member.record_number, member.record, age))
        return items

    def _obituary(self, now: float, member: Member) -> Item:
        if member.left:
            return Left(member.node, member.number)
        age = self._swarm.age(now, member)
        silent = min(max(0.0, now - member.probed), age)
        return Gone(member.node, member.number, self._swarm.node_id, silent, age)

    def _deliver(self, peer: int, exchange: int, news: list[Item], want: list[int]) -> None:
        swarm = self._swarm
        room = ROOM - 11 * min(len(want), 24)
        loads = packed(((item, item_size(item)) for item in news), room) or [()]
        wants = [tuple(want[at : at + 24]) for at in range(0, len(want), 24)] or [()]
        for at in range(min(DATAGRAMS, max(len(loads), len(wants)))):
            load = loads[at] if at < len(loads) else ()
            wanted = wants[at] if at < len(wants) else ()
            if load or wanted:
                swarm.send(peer, Delta(swarm.number, exchange, load, wanted))
