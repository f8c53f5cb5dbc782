"""What is believed of members: evidence of life against accusations, and who is given up.

Numbers decide, not clocks: an accusation holds only for the number its author saw.  Whoever has
seen a newer one refuses it and sends that back.  The author compares by I{its own} clock: a number
said after its probe left speaks for the member; one said before does not, and the accusation may be
raised again with that number.  Delays on the way only ever make a number look newer than it is.
"""

from __future__ import annotations

from collections.abc import Callable

from skills.presence.detection.doubt import Doubt
from skills.presence.detection.items import MAX_SPAN, Gone, Number, Suspect
from skills.presence.detection.members import ERA, Member
from skills.presence.detection.messages import News
from skills.presence.detection.reach import FRESH, GONE, SUSPECT
from skills.presence.detection.suspicion import (
    CHECKED,
    CHECKING,
    LONGEST,
    UNCHECKED,
    Suspicion,
    silent_since,
)
from skills.presence.detection.swarm import Swarm

NEWBORN = 16
"""A member that says a sequence up to this has just started, and others are told."""

HESITATION = 2.0
"""Shortest suspicions that a verdict waits longer while unusually many are missing."""
OVERTAKEN = 4
"""Sequences by which news of a member may overtake its own datagrams."""


class Judge:
    """
    Moves members between fresh, suspect and gone.

    @ivar verify: probes a member at once, C{verify(now, member, final)}.
    @ivar lead: seconds such a probe takes at most, for a member.
    """

    def __init__(
        self,
        swarm: Swarm,
        doubt: Doubt,
        verify: Callable[[float, Member, bool], None],
        lead: Callable[[Member], float],
    ) -> None:
        self._swarm = swarm
        self._doubt = doubt
        self.verify = verify
        self.lead = lead

    # -- evidence of life ----------------------------------------------------------------------

    def heard(self, now: float, member: Member, number: Number | None) -> None:
        """The member itself spoke to us, with its number where it told one."""
        swarm = self._swarm
        member.heard = now
        member.misses = member.knocks = 0
        if member.left:
            if number is None or number <= member.number:
                # Sent before its farewell, and overtaken by it; or the farewell is a lie, and the
                # member has to know.
                if number is not None and not member.left_heard:
                    swarm.send(member.node, News(swarm.number, (swarm.farewell(member),)))
                return
            if number[0] == member.number[0]:
                if member.left_heard:
                    return
                # Somebody lied: let it take a new incarnation, which everybody will believe.
                swarm.send(member.node, News(swarm.number, (swarm.farewell(member),)))
        restarted = False
        if number is not None:
            restarted = number[0] > member.number[0] > 0
            if number >= member.number:
                self._take_number(now, member, number, now)
            elif number[0] < member.number[0] or number[1] + OVERTAKEN < member.number[1]:
                # Somebody claims numbers it never said; it has to know, and to outbid them.
                swarm.send(member.node, News(swarm.number, (swarm.vouch(now, member),)))
        if member.state is None:
            newborn = member.number[1] <= NEWBORN and now - swarm.started > swarm.profile.grace
            self._fresh(now, member, "joined", member.node, newborn)
        elif member.state == GONE:
            self._fresh(now, member, "restarted" if restarted else "returned", member.node, True)
            if number is None:
                self.verify(now, member, False)  # others want a newer number
        elif restarted:
            self._fresh(now, member, "restarted", member.node, True)
        elif member.state == SUSPECT:
            self._fresh(now, member, "heard", member.node, number is not None)

    def vouched(self, now: float, member: Member, number: Number, via: int) -> None:
        """A helper has just heard the member, with that number."""
        if member.left and number[0] <= member.number[0]:
            return
        restarted = number[0] > member.number[0] > 0
        if number > member.number:
            self._take_number(now, member, number, now)
        member.said = now
        if member.state != FRESH or restarted:
            cause = {GONE: "returned", SUSPECT: "heard"}.get(member.state or "", "joined")
            self._fresh(now, member, "restarted" if restarted else cause, via, True)

    def learn(self, now: float, member: Member, number: Number, age: float, via: int) -> bool:
        """
        Somebody says that the member said a number C{age} seconds ago.
        @return: whether that is news that others should hear.
        """
        if number <= member.number:
            return False
        restarted = number[0] > member.number[0]
        if member.left and not restarted:
            return False
        said, suspicion = now - age, member.suspicion
        known = member.number[0] > 0
        self._take_number(now, member, number, said)
        if member.state == FRESH:
            if restarted and known:
                self._fresh(now, member, "restarted", via, False)
            return restarted or age < self._swarm.profile.period
        if not restarted:
            if suspicion is not None and said < suspicion.probed:
                if suspicion.ours is not None:
                    self._spread_accusation(now, member, suspicion.ours)
                return False
            if suspicion is not None and suspicion.ours is not None and said < suspicion.ours:
                self._suspect_anew(now, member, suspicion.ours)
                return False
            if member.state == GONE and said < member.probed:
                self._swarm.tell(now, self._verdict(now, member, self._swarm.node_id), 0)
                return False
        cause = {GONE: "returned", SUSPECT: "heard"}.get(member.state or "", "joined")
        cause = "restarted" if restarted and known else cause
        self._fresh(now, member, cause, via, False)
        return True

    def _take_number(self, now: float, member: Member, number: Number, said: float) -> None:
        old = member.number
        member.number, member.said, member.learned = number, said, now
        shift = member.node * 97
        if old[0] != number[0] or (old[1] + shift) // ERA != (number[1] + shift) // ERA:
            self._swarm.members.settle(member)

    def _fresh(self, now: float, member: Member, cause: str, via: int, spread: bool) -> None:
        swarm = self._swarm
        member.left = member.left_heard = False
        member.changed = now
        member.probed = float("-inf")
        before = member.state
        swarm.members.move(member, FRESH)
        swarm.report(now, member, cause, via, [])
        if spread:
            swarm.tell(now, swarm.vouch(now, member), via)
        elif before is not None:
            swarm.rumors.drop(member.node)

    def hesitates(self, now: float) -> bool:
        """@return: whether unusually many are missing, so that verdicts wait."""
        return self._doubt.hesitates(now)

    # -- accusations ---------------------------------------------------------------------------

    def refuse(self, now: float, member: Member, peer: int, by: int) -> None:
        """An accusation is out of date: send back the newer number we know."""
        swarm = self._swarm
        swarm.counters["refused"] += 1
        answer = News(swarm.number, (swarm.vouch(now, member),))
        swarm.send(peer, answer)
        author = swarm.members.get(by)
        if author is not None and by != peer and author.ours and author.live:
            swarm.send(by, answer)

    def accused(self, now: float, item: Suspect, peer: int) -> None:
        """A member hands over an accusation."""
        swarm = self._swarm
        member = swarm.members.get(item.node)
        if member is None or not member.live:
            return
        if item.number < member.number:
            self.refuse(now, member, peer, item.by)
            return
        probed = now - min(item.silent, LONGEST * swarm.least())
        newer = item.number > member.number
        suspicion = member.suspicion
        if newer:
            restarted = item.number[0] > member.number[0]
            self._take_number(now, member, item.number, now - item.age)
            if suspicion is not None and (restarted or member.said >= suspicion.probed):
                suspicion = None  # what it was built upon is refuted; the new one stands
        if member.ours and member.heard > probed:
            self.verify(now, member, False)  # we heard it since; see for ourselves
            return
        if suspicion is None:
            suspicion = self._suspicion(member, probed)
        more = suspicion.accuse(item.by)
        self._suspected(now, member, suspicion, "accused", peer)
        if more or newer:
            swarm.tell(now, item, peer)

    def accuse(self, now: float, member: Member, probed: float) -> None:
        """A probe of ours that left at C{probed} failed."""
        suspicion = member.suspicion or self._suspicion(member, probed)
        if suspicion.ours is None:
            suspicion.ours = probed
        suspicion.failed = probed
        more = suspicion.accuse(self._swarm.node_id)
        self._suspected(now, member, suspicion, "unanswered", 0)
        if more:
            self._spread_accusation(now, member, suspicion.ours)

    def _suspicion(self, member: Member, probed: float) -> Suspicion:
        swarm = self._swarm
        since = silent_since(probed, member.said, swarm.profile.period, swarm.least())
        return Suspicion(probed, since)

    def _suspect_anew(self, now: float, member: Member, probed: float) -> None:
        """The accusations of others are refuted, ours is not."""
        suspicion = self._suspicion(member, probed)
        suspicion.ours = probed
        suspicion.accuse(self._swarm.node_id)
        self._suspected(now, member, suspicion, "unanswered", 0)
        self._spread_accusation(now, member, probed)

    def _spread_accusation(self, now: float, member: Member, probed: float) -> None:
        self._swarm.tell(now, self.accusation(now, member, probed), 0)

    def accusation(self, now: float, member: Member, probed: float) -> Suspect:
        """@return: our accusation of a member that did not answer a probe."""
        age = self._swarm.age(now, member)
        return Suspect(member.node, member.number, self._swarm.node_id, now - probed, age)

    def _suspected(
        self, now: float, member: Member, suspicion: Suspicion, cause: str, via: int
    ) -> None:
        swarm = self._swarm
        member.suspicion = suspicion
        if member.state != SUSPECT:
            swarm.members.move(member, SUSPECT)
            member.changed = now
            swarm.report(now, member, cause, via, list(suspicion.accusers))
            self._doubt.suspected(now)
            # A few of us look for themselves: independent confirmation, or refutation.
            if cause == "accused" and member.ours:
                share = 4.0 / max(1, swarm.members.live)
                if swarm.rng.random() < share:
                    self.verify(now, member, False)
        self._set_alarm(now, member, suspicion)

    # -- verdicts ------------------------------------------------------------------------------

    def _set_alarm(self, now: float, member: Member, suspicion: Suspicion) -> None:
        when = self._swarm.expiry(member, suspicion)
        if self._wants_check(member, suspicion, when):
            when -= self.lead(member)
        when = max(when, now)
        if member.alarm is None or when < member.alarm:
            member.alarm = when
            self._swarm.at(when, self._ring, member)

    def _wants_check(self, member: Member, suspicion: Suspicion, when: float) -> bool:
        """@return: whether a last probe is due before a verdict: none failed just before it."""
        recent = when - suspicion.failed <= 2.0 * self.lead(member)
        return member.ours and suspicion.checked == UNCHECKED and not recent

    def _ring(self, now: float, member: Member) -> None:
        if member.alarm is None or now < member.alarm:
            return
        member.alarm = None
        suspicion = member.suspicion
        if suspicion is None:
            return
        expiry = self._swarm.expiry(member, suspicion)
        if self._wants_check(member, suspicion, max(now, expiry)):
            if now >= expiry - self.lead(member):
                suspicion.checked = CHECKING
                member.alarm = now + 4.0 * self.lead(member)  # should the probe never be made
                self._swarm.at(member.alarm, self._ring, member)
                self.verify(now, member, True)
                return
        elif suspicion.checked == CHECKING:
            suspicion.checked = UNCHECKED
        elif now >= expiry:
            self._give_up(now, member, suspicion)
            return
        self._set_alarm(now, member, suspicion)

    def _patience(self, member: Member, suspicion: Suspicion) -> float:
        """Seconds a suspicion lasts while unusually many are missing."""
        swarm = self._swarm
        return swarm.expiry(member, suspicion) - suspicion.since + HESITATION * swarm.least()

    def checked(self, now: float, member: Member, probed: float) -> None:
        """The last probe before the verdict failed as well."""
        suspicion = member.suspicion
        if suspicion is None:
            return
        suspicion.checked = CHECKED
        if not self._swarm.holds(now, member):
            if suspicion.ours is None:
                suspicion.ours = probed
            suspicion.accuse(self._swarm.node_id)
        member.alarm = None
        self._set_alarm(now, member, suspicion)

    def _give_up(self, now: float, member: Member, suspicion: Suspicion) -> None:
        swarm = self._swarm
        self._doubt.suspected(now)
        if swarm.holds(now, member):
            suspicion.checked = UNCHECKED  # in due time with a probe of that time
            member.alarm = now + swarm.profile.period
            swarm.at(member.alarm, self._ring, member)
            return
        if self._doubt.hesitates(now) and now < suspicion.since + self._patience(member, suspicion):
            member.alarm = now + swarm.profile.period / 2.0
            swarm.at(member.alarm, self._ring, member)
            return
        self.gone(now, member, "expired", suspicion.probed, 0, list(suspicion.accusers))
        if member.ours:
            swarm.tell(now, self._verdict(now, member, swarm.node_id), 0)

    def _verdict(self, now: float, member: Member, by: int) -> Gone:
        silent = min(max(0.0, now - member.probed), MAX_SPAN)
        return Gone(member.node, member.number, by, silent, self._swarm.age(now, member))

    def condemned(self, now: float, item: Gone, peer: int) -> None:
        """A member hands over a verdict."""
        swarm = self._swarm
        member = swarm.members.get(item.node)
        if member is None or not member.live:
            return
        if item.number < member.number:
            self.refuse(now, member, peer, item.by)
            return
        if swarm.frozen or self._doubt.hesitates(now):
            self.accused(now, Suspect(*item), peer)
            return
        probed = now - min(item.silent, LONGEST * swarm.least())
        if item.number > member.number:
            self._take_number(now, member, item.number, now - item.age)
        if member.ours and member.heard > probed:
            self.verify(now, member, False)
            return
        self.gone(now, member, "verdict", probed, peer, [item.by])
        swarm.tell(now, item, peer)

    def gone(
        self, now: float, member: Member, cause: str, probed: float, via: int, by: list[int]
    ) -> None:
        """The member is not there any more."""
        swarm = self._swarm
        swarm.members.move(member, GONE)
        member.changed = now
        member.probed = probed
        swarm.report(now, member, cause, via, by)
        if member.ours and cause in ("expired", "verdict"):
            self._doubt.lost(now)

    def departed(self, now: float, member: Member, number: Number, peer: int) -> bool:
        """
        A farewell of a member.
        @return: whether that is news.
        """
        direct = peer == member.node
        if member.state is None or number[0] < member.number[0]:
            return False
        if member.left:
            member.left_heard |= direct
            return False
        if number < member.number and not direct:
            self.refuse(now, member, peer, peer)
            return False
        if number > member.number:
            self._take_number(now, member, number, now)
        member.left, member.left_heard = True, direct
        self.gone(now, member, "left", now, peer, [])
        return True
