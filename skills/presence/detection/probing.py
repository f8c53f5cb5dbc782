"""Probes: direct, then through helpers; and the probes we make for others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from skills.presence.detection.items import Item, Number
from skills.presence.detection.judge import Judge
from skills.presence.detection.members import Member
from skills.presence.detection.messages import Ack, Nack, Probe, ProbeRequest
from skills.presence.detection.reach import SUSPECT
from skills.presence.detection.swarm import Swarm

CHECKS: Final = 64
"""Members we probe at the same time; more wait."""
WAITING: Final = 1_024
"""Members that wait to be probed out of turn."""
RELAYS: Final = 512
"""Probes under way for others; further requests are declined."""
NACK_AFTER: Final = 0.6
"""Share of the timeout after which a helper says that it had no answer either."""


class Check:
    """
    A member is being probed.

    @ivar started: when the first probe left.
    @ivar final: the probe before a verdict.
    @ivar helpers: who was asked to probe too; C{reported}: how many of them answered at all.
    @ivar deferred: given more time once, because our own timer came late.
    """

    __slots__ = ("deferred", "exchange", "final", "helpers", "member", "reported", "started")

    def __init__(self, exchange: int, member: Member, started: float, final: bool) -> None:
        self.exchange = exchange
        self.member = member
        self.started = started
        self.final = final
        self.helpers: list[int] = []
        self.reported = 0
        self.deferred = False


class Relay:
    """A probe for somebody else: whose request it answers, and for how long."""

    __slots__ = ("exchange", "node", "requester", "until")

    def __init__(self, requester: int, exchange: int, node: int, until: float) -> None:
        self.requester = requester
        self.exchange = exchange
        self.node = node
        self.until = until


class Prober:
    """Makes probes and reads their answers."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._judge: Judge
        self._open: dict[int, Check] = {}
        self._by_node: dict[int, Check] = {}
        self._waiting: deque[tuple[int, bool]] = deque()
        self._relays: dict[int, Relay] = {}

    def wire(self, judge: Judge) -> None:
        """Who is told of the outcomes."""
        self._judge = judge

    # -- our own probes ------------------------------------------------------------------------

    def stage(self, member: Member) -> float:
        """@return: seconds each of the two stages of a probe waits."""
        profile = self._swarm.profile
        wait = max(profile.timeout, 4.0 * member.srtt)
        return self._swarm.health.stretch(wait, profile.period)

    def lead(self, member: Member) -> float:
        """@return: seconds from a probe to its failure."""
        return 2.0 * self.stage(member)

    def check(self, now: float, member: Member, final: bool = False) -> None:
        """Probe a member now, or as soon as fewer are being probed."""
        under_way = self._by_node.get(member.node)
        if under_way is not None:
            under_way.final |= final
            return
        if len(self._open) >= CHECKS:
            if len(self._waiting) < WAITING:
                self._waiting.append((member.node, final))
            else:
                self._swarm.counters["checks_refused"] += 1
            return
        check = Check(self._swarm.next_exchange(), member, now, final)
        self._open[check.exchange] = self._by_node[member.node] = check
        self._probe(now, check)
        self._swarm.at(now + self.stage(member), self._ask_helpers, check)

    def call(self, now: float, member: Member) -> None:
        """Say hello to a member without judging it by the answer."""
        swarm = self._swarm
        swarm.send(
            member.node,
            Probe(swarm.number, swarm.next_exchange(), swarm.carry(now)),
        )

    def next_waiting(self, now: float, count: int) -> None:
        """Probe some of those that wait."""
        while count and self._waiting:
            node, final = self._waiting.popleft()
            member = self._swarm.members.get(node)
            if member is not None and member.live:
                self.check(now, member, final)
                count -= 1

    def forget(self) -> None:
        """Whatever was under way proves nothing any more."""
        self._open.clear()
        self._by_node.clear()
        self._relays.clear()

    def _probe(self, now: float, check: Check) -> None:
        swarm, member = self._swarm, check.member
        first: tuple[Item, ...] = ()
        if member.state == SUSPECT and member.suspicion is not None:
            # It learns at once that it has to defend itself.
            probed = member.suspicion.ours or member.suspicion.probed
            first = (self._judge.accusation(now, member, probed),)
        swarm.send(member.node, Probe(swarm.number, check.exchange, swarm.carry(now, first)))

    def _ask_helpers(self, now: float, check: Check) -> None:
        if self._open.get(check.exchange) is not check or self._defer(
            now, check, self._ask_helpers
        ):
            return
        swarm, member = self._swarm, check.member
        swarm.health.probed(False)
        without = (member.node, *member.strangers)
        for helper in swarm.members.random(
            swarm.rng, swarm.profile.helpers, swarm.candidates, without
        ):
            check.helpers.append(helper.node)
            request = ProbeRequest(
                swarm.number, check.exchange, member.node, member.number, swarm.carry(now)
            )
            swarm.send(helper.node, request)
        self._probe(now, check)
        swarm.at(now + self.stage(member), self._fail, check)

    def _fail(self, now: float, check: Check) -> None:
        if self._open.get(check.exchange) is not check or self._defer(now, check, self._fail):
            return
        self._close(check)
        swarm, member, judge = self._swarm, check.member, self._judge
        if not member.live:
            return
        if check.helpers and not check.reported:
            swarm.health.worse()
        member.misses += 1
        if check.final:
            judge.checked(now, member, check.started)
        elif swarm.holds(now, member):
            swarm.counters["held"] += 1
        elif (
            member.state != SUSPECT
            and member.misses < swarm.health.looks
            and not judge.hesitates(now)  # then it matters to know soon how many are missing
        ):
            self.check(now, member)  # our senses are dull: look once more
        else:
            judge.accuse(now, member, check.started)

    def _defer(self, now: float, check: Check, call: Callable[[float, Check], None]) -> bool:
        """Our timer came late; the answer may be waiting to be read."""
        period = self._swarm.profile.period
        if check.deferred or self._swarm.late < period / 10.0:
            return False
        check.deferred = True
        self._swarm.at(now + period / 4.0, call, check)
        return True

    def _close(self, check: Check) -> None:
        self._open.pop(check.exchange, None)
        if self._by_node.get(check.member.node) is check:
            del self._by_node[check.member.node]

    # -- answers -------------------------------------------------------------------------------

    def answered(self, now: float, peer: int, message: Ack) -> None:
        """Somebody is there."""
        check = self._open.get(message.exchange)
        if check is not None and message.of == check.member.node:
            if peer == message.of:
                if not check.helpers:
                    self._swarm.health.probed(True)
                    check.member.sample(now - check.started)
            elif peer in check.helpers:
                if self._swarm.doubts(now, message.of, message.seen, peer):
                    return
                self._judge.vouched(now, check.member, message.seen, peer)
            else:
                return
            self._swarm.health.better()
            self._close(check)
            return
        relay = self._relays.get(message.exchange)
        if relay is not None and peer == relay.node == message.of:
            del self._relays[message.exchange]
            if now < relay.until:
                self._report(now, relay, message.seen)

    def heard(self, member: Member) -> None:
        """Anything from the member itself answers what we asked by probing."""
        check = self._by_node.get(member.node)
        if check is not None and not check.helpers:
            return  # let the answer come, and be timed
        if check is not None:
            self._close(check)

    def declined(self, now: float, peer: int, message: Nack) -> None:
        """A helper had no answer either."""
        check = self._open.get(message.exchange)
        if check is None or message.of != check.member.node or peer not in check.helpers:
            return
        check.reported += 1
        member = check.member
        if not message.able:
            member.is_stranger_to(peer)
        if not self._swarm.doubts(now, member.node, message.seen, peer):
            self._judge.learn(now, member, message.seen, message.age, peer)
        if member.said > check.started:
            self._close(check)  # it said something since: that is an answer

    # -- probing for others --------------------------------------------------------------------

    def requested(self, now: float, peer: int, message: ProbeRequest) -> None:
        """A member asks us to probe another for it."""
        swarm = self._swarm
        if message.of == swarm.node_id:
            answer = Ack(swarm.number, message.exchange, message.of, swarm.number, swarm.carry(now))
            swarm.send(peer, answer)
            return
        member = swarm.members.get(message.of)
        relay = Relay(peer, message.exchange, message.of, now + swarm.profile.period)
        if member is None or not member.ours or len(self._relays) >= RELAYS:
            self._decline(now, relay, member, member is not None and member.ours)
            return
        exchange = swarm.next_exchange()
        self._relays[exchange] = relay
        swarm.send(member.node, Probe(swarm.number, exchange, swarm.carry(now)))
        swarm.at(now + NACK_AFTER * swarm.profile.timeout, self._no_answer, exchange)
        swarm.at(relay.until, self._drop, exchange)

    def _report(self, now: float, relay: Relay, seen: Number) -> None:
        swarm = self._swarm
        swarm.send(
            relay.requester,
            Ack(swarm.number, relay.exchange, relay.node, seen, swarm.carry(now)),
        )

    def _no_answer(self, now: float, exchange: int) -> None:
        relay = self._relays.get(exchange)
        if relay is not None:
            self._decline(now, relay, self._swarm.members.get(relay.node), True)

    def _decline(self, now: float, relay: Relay, member: Member | None, able: bool) -> None:
        swarm = self._swarm
        seen = member.number if member is not None else (0, 0)
        age = swarm.age(now, member) if member is not None else 0.0
        swarm.send(
            relay.requester,
            Nack(swarm.number, relay.exchange, relay.node, seen, age, able, swarm.carry(now)),
        )

    def _drop(self, now: float, exchange: int) -> None:
        self._relays.pop(exchange, None)
