"""What members say of others, and of us.

Nobody is believed about ourselves: a false claim is answered with a higher number of ours.
"""

from __future__ import annotations

from skills.presence.detection.items import (
    MAX_NUMBER,
    Fresh,
    Gone,
    Item,
    Left,
    Number,
    Status,
    Suspect,
)
from skills.presence.detection.judge import Judge
from skills.presence.detection.members import Member
from skills.presence.detection.messages import News
from skills.presence.detection.reach import Raised, Record
from skills.presence.detection.swarm import Swarm

OTHERS_AHEAD = 2**25
"""Seconds by which others may have started after us, and so believe more of us than we would."""


class Hearsay:
    """
    Takes the items of datagrams.

    @ivar own_record: our own status record, with C{own_record_made}, when it was made.
    """

    def __init__(self, swarm: Swarm, judge: Judge) -> None:
        self._swarm = swarm
        self._judge = judge
        self._told: Number = (0, -1)
        self._claimed = 0
        self._raise_at = float("-inf")
        self._raising = False
        self.own_record: Status | None = None
        self.own_record_made = 0.0

    def own_items(self, now: float) -> list[Item]:
        """@return: what there is to say of ourselves."""
        swarm = self._swarm
        items: list[Item] = [Fresh(swarm.node_id, swarm.number, 0.0)]
        if self.own_record is not None:
            items.append(self.own_record._replace(age=now - self.own_record_made))
        return items

    def take(self, now: float, item: Item, peer: int, repair: bool) -> None:
        """
        Believe an item as far as it deserves.
        @param repair: it comes from a comparison, so most members know it.
        """
        swarm, judge = self._swarm, self._judge
        if item.node == swarm.node_id:
            self._about_us(now, item, peer)
        elif swarm.doubts(now, item.node, item.number, peer):
            return
        elif isinstance(item, Suspect):
            judge.accused(now, item, peer)
        elif isinstance(item, Gone):
            judge.condemned(now, item, peer)
        elif isinstance(item, Left):
            member = swarm.members.get(item.node)
            if member is not None and judge.departed(now, member, item.number, peer):
                swarm.tell(now, item, peer)
        elif isinstance(item, Status):
            self._status(now, item, peer, repair)
        else:
            member = self._member(now, item.node)
            if member is None:
                return
            known = member.state
            if judge.learn(now, member, item.number, item.age, peer) and (known or not repair):
                swarm.tell(now, item, peer)

    def _member(self, now: float, node: int) -> Member | None:
        members = self._swarm.members
        return members.get(node) or members.add(node, False, now)

    def _status(self, now: float, item: Status, peer: int, repair: bool) -> None:
        swarm = self._swarm
        member = self._member(now, item.node)
        if member is None:
            return
        direct = peer == item.node
        outbid = direct and not member.record_heard and item.number != member.record_number
        if item.number <= member.record_number and not outbid:
            member.record_heard |= direct and item.number == member.record_number
            return
        if member.left and item.number > member.number and item.number[0] == member.number[0]:
            return
        known = member.state
        member.record, member.record_number = item.record, item.number
        member.record_heard = direct
        self._judge.learn(now, member, item.number, item.age, peer)
        swarm.members.settle(member)
        swarm.effects.append(Record(item.node, item.record, peer))
        if known or not repair:
            swarm.tell(now, item, peer)

    def _about_us(self, now: float, item: Item, peer: int) -> None:
        swarm = self._swarm
        accused = isinstance(item, (Suspect, Gone, Left))
        if item.number[0] > swarm.incarnation or (
            isinstance(item, Left) and item.number[0] == swarm.incarnation
        ):
            if not swarm.may_believe(item.number[0], swarm.incarnation, OTHERS_AHEAD):
                swarm.counters["claims_ignored"] += 1  # by everybody else as well
                return
            if not self._outbid(now, item.number[0]):
                return
        elif item.number[0] == swarm.incarnation and item.number[1] > swarm.sequence:
            if item.number[1] >= MAX_NUMBER - 2**32:
                if not self._outbid(now, item.number[0]):
                    return
            else:
                swarm.sequence = item.number[1] + 1
                self._replace_record(now, item)
        elif not accused:
            self._replace_record(now, item)
            return
        elif item.number == swarm.number:
            swarm.sequence += 1
        self._answer(now, item, peer)

    def _answer(self, now: float, item: Item, peer: int) -> None:
        swarm = self._swarm
        answer = Fresh(swarm.node_id, swarm.number, 0.0)
        swarm.send(peer, News(swarm.number, (answer,)))
        if item.number >= self._told or self._told[0] != swarm.incarnation:
            self._told = swarm.number
            swarm.health.worse()
            swarm.counters["refuted"] += 1
            swarm.tell(now, answer, 0)

    def _replace_record(self, now: float, item: Item) -> None:
        """A record of ours that we never made hides the true one: make one that is newer."""
        own = self.own_record
        if isinstance(item, Status) and own is not None and item.number > own.number:
            self._outbid(now, self._swarm.incarnation - 1)

    def _outbid(self, now: float, claimed: int) -> bool:
        """
        Take an incarnation above the one that is claimed, or the record of this one anew.  It is
        stored, and the record signed, each time: so that is done once in a period, for all claims.

        @return: whether it was done at once.
        """
        self._claimed = max(self._claimed, claimed)
        if now >= self._raise_at:
            self._raise(now)
            return True
        if not self._raising:
            self._raising = True
            self._swarm.at(self._raise_at, self._raise)
        return False

    def _raise(self, now: float) -> None:
        swarm = self._swarm
        self._raising = False
        self._raise_at = now + swarm.profile.period
        if self._claimed >= swarm.incarnation:
            swarm.incarnation = self._claimed + 1
            swarm.counters["raised"] += 1
            swarm.tell(now, Fresh(swarm.node_id, swarm.number, 0.0), 0)
        swarm.effects.append(Raised(swarm.incarnation))
