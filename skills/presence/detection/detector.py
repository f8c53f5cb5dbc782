"""Who is there: a sans-IO failure detector for members that need not all trust each other.

It probes its members in turn, helps others to probe theirs, believes numbers rather than clocks,
doubts itself before others, and passes on what changed.

@see: the page I{Presence}; effects in L{skills.presence.detection.reach}.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from skills.presence.core.errors import PresenceError
from skills.presence.detection.doubt import Doubt
from skills.presence.detection.hearsay import Hearsay
from skills.presence.detection.items import Left, Status, read_record
from skills.presence.detection.judge import Judge
from skills.presence.detection.members import LAPSE, Member
from skills.presence.detection.messages import (
    Ack,
    Delta,
    Digest,
    Listing,
    Message,
    Nack,
    News,
    Probe,
    ProbeRequest,
)
from skills.presence.detection.neighbours import WHOLE, Round, view
from skills.presence.detection.outreach import Outreach
from skills.presence.detection.probing import Prober
from skills.presence.detection.profiles import WAN, Profile
from skills.presence.detection.reach import GONE, Effect
from skills.presence.detection.repair import Repair
from skills.presence.detection.swarm import Swarm

WAITING_CHECKS: Final = 4
"""Members out of turn that are probed in each period, besides the one whose turn it is."""
GOODBYES: Final = 8
"""Members told of our leave directly; they tell the others."""
FIRST_REPAIRS: Final = 3
"""Members compared with as soon as they are heard after a start; some of it may be lost."""
FLOOD: Final = 256
"""Datagrams read from one peer in a period; a busy one sends a dozen."""
SWEEP: Final = 64
"""Periods between two looks for what has to be forgotten."""
RECORD_LIFE: Final = 7 * 86_400.0
"""Seconds the record of somebody gone is kept."""
TOMBSTONE_LIFE: Final = 86_400.0
"""Seconds its number is kept after that, so that stale news about it is known for what it is."""


class Detector:
    """
    One node's view of its swarm.  Every method takes C{now} (seconds, monotonic) and returns
    what is to be done.

    @ivar incarnation: our own; raised only over a false claim about us (effect C{Raised}).
    @ivar sequence: our own; grows every period.
    @ivar frozen: whether verdicts are held.
    """

    def __init__(
        self,
        node_id: int,
        *,
        now: float,
        rng: random.Random,
        profile: Profile = WAN,
        incarnation: int = 1,
    ) -> None:
        swarm = self._swarm = Swarm(node_id, now, rng, profile, incarnation)
        self._prober = Prober(swarm)
        self._doubt = Doubt(swarm, self._prober.check)
        self._judge = Judge(swarm, self._doubt, self._prober.check, self._prober.lead)
        self._prober.wire(self._judge)
        self._hearsay = Hearsay(swarm, self._judge)
        self._repair = Repair(swarm, self._hearsay.own_items)
        self._outreach = Outreach(swarm, self._prober, now)
        self._round = Round(rng)
        self._ours: list[int] = []
        self._received: Counter[int] = Counter()
        self._compared: set[int] = set()
        self._left = False
        self._periods = 0
        swarm.at(now + rng.random() * profile.period, self._period)
        swarm.at(now + (0.5 + rng.random()) * profile.repair, self._compare)

    # -- what the shell may ask ----------------------------------------------------------------

    @property
    def incarnation(self) -> int:
        return self._swarm.incarnation

    @property
    def sequence(self) -> int:
        return self._swarm.sequence

    @property
    def frozen(self) -> bool:
        return bool(self._swarm.frozen)

    def reach(self, node_id: int) -> str | None:
        """@return: C{fresh}, C{suspect}, C{gone}, or C{None} for somebody unknown."""
        member = self._swarm.members.get(node_id)
        return member.state if member is not None else None

    def record(self, node_id: int) -> dict[str, Any] | None:
        """@return: the newest status record known of a node; read only."""
        member = self._swarm.members.get(node_id)
        return member.record if member is not None else None

    def said(self, node_id: int) -> float | None:
        """@return: when a member said the newest number we know of it, by our clock and at the
        earliest; C{None} for somebody unknown, or who never said anything."""
        member = self._swarm.members.get(node_id)
        return member.said if member is not None and member.said >= 0.0 else None

    def statistics(self) -> dict[str, Any]:
        """@return: counters and levels, JSON ready."""
        swarm = self._swarm
        return {
            "incarnation": swarm.incarnation,
            "sequence": swarm.sequence,
            "frozen": swarm.frozen,
            "health": swarm.health.score,
            "members": len(swarm.members),
            "ours": len(self._ours),
            "fresh": swarm.members.fresh,
            "suspect": swarm.members.suspect,
            "rumors": len(swarm.rumors),
            "rumors_dropped": swarm.rumors.dropped,
            "members_refused": swarm.members.refused,
            "counters": dict(swarm.counters),
        }

    def deadline(self) -> float | None:
        """@return: when L{on_timer} wants to be called; C{None} after a leave."""
        return self._swarm.due()

    # -- what happens to us ----------------------------------------------------------------------

    def members_changed(self, now: float, node_ids: Iterable[int]) -> list[Effect]:
        """These, and no others, are ours to probe (ourselves left out)."""
        swarm = self._swarm
        wanted = {node for node in node_ids if node != swarm.node_id}
        new = []
        for node in wanted.difference(self._ours):
            member = swarm.members.get(node) or swarm.members.add(node, True, now)
            if member is None:
                continue
            swarm.members.adopt(member)
            member.next_knock = now
            new.append(member)
        for node in set(self._ours).difference(wanted):
            member = swarm.members.get(node)
            if member is not None:
                was = member.live
                swarm.members.remove(member)
                swarm.rumors.drop(node)
                if was:
                    swarm.report(now, member, "removed", 0, [])
        self._ours = sorted(node for node in wanted if swarm.members.get(node) is not None)
        self._outreach.members_changed(now, self._ours, new)
        self._refresh_candidates()
        return swarm.take()

    def on_message(self, now: float, peer: int, message: Message) -> list[Effect]:
        """A decoded datagram from an authenticated peer."""
        swarm = self._swarm
        if self._left or peer == swarm.node_id:
            return []
        self._notice_stall(now)
        self._received[peer] += 1
        if self._received[peer] > FLOOD:
            swarm.counters["flooded"] += 1
            return swarm.take()
        member = swarm.members.get(peer)
        if member is None or not member.ours:
            self._from_stranger(peer, message)
            return swarm.take()
        self._hear(now, member, message)
        if isinstance(message, Probe):
            answer = Ack(
                swarm.number, message.exchange, swarm.node_id, swarm.number, swarm.carry(now)
            )
            swarm.send(peer, answer)
        elif isinstance(message, Ack):
            self._prober.answered(now, peer, message)
        elif isinstance(message, ProbeRequest):
            self._prober.requested(now, peer, message)
        elif isinstance(message, Nack):
            self._prober.declined(now, peer, message)
        elif isinstance(message, Digest):
            self._repair.compare(now, peer, message)
        elif isinstance(message, Listing):
            self._repair.reconcile(now, peer, message)
        elif isinstance(message, Delta):
            self._repair.supply(now, peer, message)
        if not isinstance(message, (Digest, Listing)):
            for item in message.news:
                self._hearsay.take(now, item, peer, isinstance(message, Delta))
        return swarm.take()

    def _hear(self, now: float, member: Member, message: Message) -> None:
        was = member.state
        self._doubt.inbound(now)
        self._judge.heard(now, member, message.number)
        self._prober.heard(member)
        starting = len(self._compared) < FIRST_REPAIRS and member.node not in self._compared
        if starting or (was == GONE and member.live):  # or a partition heals: compare at once
            if starting:
                self._compared.add(member.node)
            self._repair.start(member.node)

    def _from_stranger(self, peer: int, message: Message) -> None:
        """Not one of ours: it may know that we are there, and tell us nothing."""
        swarm = self._swarm
        swarm.counters["strangers"] += 1
        if isinstance(message, Probe):
            swarm.send(peer, Ack(swarm.number, message.exchange, swarm.node_id, swarm.number))

    def on_timer(self, now: float) -> list[Effect]:
        """The deadline passed.  Called early it does nothing; called late it doubts itself."""
        if not self._left:
            self._notice_stall(now)
            self._swarm.run(now)
        return self._swarm.take()

    def _notice_stall(self, now: float) -> None:
        due = self._swarm.due()
        if due is not None and now - due >= self._swarm.profile.period:
            self._prober.forget()
            self._doubt.stalled(now)
            self._swarm.skip(now)

    def alive(
        self, now: float, node_id: int, inc: int | None = None, seq: int | None = None
    ) -> list[Effect]:
        """Any other authenticated evidence that a node lives, straight from itself."""
        member = self._swarm.members.get(node_id)
        if self._left or member is None or not member.ours:
            return []
        self._doubt.inbound(now)
        if inc is None or seq is None:
            if member.state is not None:  # that a node lives does not say it runs presence
                self._judge.heard(now, member, None)
        else:
            self._judge.heard(now, member, (inc, seq))
        self._prober.heard(member)
        return self._swarm.take()

    def connected(self, now: float) -> list[Effect]:
        """Proof that our own network works although no member spoke (registry, beacon)."""
        if not self._left:
            self._doubt.inbound(now)
        return self._swarm.take()

    def hint(self, now: float, node_id: int) -> list[Effect]:
        """Something looked wrong (reset, dial failure): verify at once, decide nothing."""
        member = self._swarm.members.get(node_id)
        if not self._left and member is not None and member.ours and member.live:
            self._prober.check(now, member)
        return self._swarm.take()

    def excuse(self, now: float, node_id: int | None = None) -> list[Effect]:
        """No accusation of ours for one lease: of that node (rekey, path switch), or of anybody."""
        swarm = self._swarm
        until = now + swarm.profile.grace
        if node_id is None:
            swarm.grace_until = max(swarm.grace_until, until)
        elif (member := swarm.members.get(node_id)) is not None:
            member.excused = max(member.excused, until)
        return swarm.take()

    # -- what we say of ourselves ----------------------------------------------------------------

    def next_sequence(self) -> int:
        """@return: a sequence of our own never used before, for a new status record."""
        self._swarm.sequence += 1
        return self._swarm.sequence

    def set_record(self, now: float, record: dict[str, Any]) -> list[Effect]:
        """
        Our own status record from now on: C{node}, C{inc}, C{seq} of ours, C{seq} from
        L{next_sequence}.  It is pushed at once and carried until the next.
        @raise PresenceError: it is not ours, older than the last, or over 800 bytes.
        """
        swarm = self._swarm
        node, number = read_record(record)
        if node != swarm.node_id or number[0] != swarm.incarnation:
            raise PresenceError("the status record is not of this node and incarnation")
        if number[1] > swarm.sequence or number[1] < self._repair.own_version:
            raise PresenceError("the status record carries a sequence that was not given out")
        self._repair.own_version = number[1]
        self._hearsay.own_record = Status(node, number, record, 0.0)
        self._hearsay.own_record_made = now
        swarm.tell(now, self._hearsay.own_record, 0)
        return swarm.take()

    def leave(self, now: float) -> list[Effect]:
        """Say goodbye to several members, which pass it on.  Nothing is sent afterwards."""
        swarm = self._swarm
        if self._left:
            return []
        swarm.sequence += 1
        last: tuple[Any, ...] = (Left(swarm.node_id, swarm.number),)
        if self._hearsay.own_record is not None:
            last = (self._hearsay.own_record, *last)
        for member in swarm.members.random(swarm.rng, GOODBYES, swarm.candidates):
            swarm.send(member.node, News(swarm.number, last))
        self._left = True
        swarm.clear()
        return swarm.take()

    # -- what time brings ------------------------------------------------------------------------

    def _period(self, now: float) -> None:
        swarm, profile = self._swarm, self._swarm.profile
        swarm.at(now + profile.period, self._period)
        swarm.sequence += 1
        self._periods += 1
        self._received.clear()
        self._doubt.tick(now)
        self._repair.tick()
        if self._periods % SWEEP == 0:
            self._refresh_candidates()
        self._next_probe(now)
        self._prober.next_waiting(now, WAITING_CHECKS)
        self._outreach.knock(now)
        if self._periods % SWEEP == 0:
            self._sweep(now)

    def _refresh_candidates(self) -> None:
        swarm = self._swarm
        inside = self._ours
        if len(inside) > WHOLE:
            live = [node for node in inside if (swarm.members.get(node) or _NOBODY).live]
            inside = view(swarm.node_id, live)
        swarm.candidates = inside

    def _next_probe(self, now: float) -> None:
        """Probe whose turn it is; those that are not there are passed over."""
        swarm = self._swarm
        for _ in range(len(self._ours) + 1):
            node = self._round.next(swarm.candidates, self._ours)
            if node is None:
                return
            member = swarm.members.get(node)
            if member is not None and member.ours and member.live:
                self._prober.check(now, member)
                return

    def _compare(self, now: float) -> None:
        swarm = self._swarm
        swarm.at(now + (0.8 + 0.4 * swarm.rng.random()) * swarm.profile.repair, self._compare)
        for member in swarm.members.random(swarm.rng, 1, swarm.candidates):
            self._repair.start(member.node)

    def _sweep(self, now: float) -> None:
        """Forget what has been over for long, and those nobody has vouched for in long."""
        swarm = self._swarm
        lapse = LAPSE * swarm.profile.period
        for member in list(swarm.members):
            if member.live and not member.ours and now - member.learned > lapse:
                self._judge.gone(now, member, "lapsed", now, 0, [])
            elif member.state == GONE:
                if now - member.changed > RECORD_LIFE:
                    member.record = None
                if not member.ours and now - member.changed > RECORD_LIFE + TOMBSTONE_LIFE:
                    swarm.members.remove(member)
            elif member.state is None and not member.ours:
                swarm.members.remove(member)


_NOBODY = Member(0, False, 0.0)
