"""The timer: whom to compare with, and when; and in a large swarm, whom to know at all.

Up to C{full_view} members everybody is known and met in turn.  Above, a replica talks to a few
neighbours (L{skills.gossip.core.partners.View}).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from skills.gossip.core.compat import Elders
from skills.gossip.core.desk import Desk
from skills.gossip.core.effects import PeerFacts
from skills.gossip.core.exchange import Exchanges
from skills.gossip.core.member import Member
from skills.gossip.core.messages import Shuffle
from skills.gossip.core.partners import RoundRobin, View, sample

#: Seconds between looks for what is too old.
_TIDY = 60.0
#: Members asked at once in a survey, and the pause before the next ones.
_SURVEYED, _SURVEY_PAUSE = 8, 0.5
#: Seconds within which somebody new is met by who has been waiting for company.
_GREETING = 0.5
#: Members believed offline that a large swarm keeps in mind, to heal a partition.
_REMEMBERED = 64


class Rounds:
    """
    @ivar view: neighbours and reserve, C{None} while everybody is known.
    @ivar next: when the next round is due.
    @ivar heal_at: when a member believed offline is tried next.
    """

    __slots__ = (
        "_began",
        "_desk",
        "_elders",
        "_exchanges",
        "_full_at",
        "_replaced",
        "_shuffle_at",
        "_survey",
        "_survey_at",
        "_tidy_at",
        "_trusts",
        "_turns",
        "heal_at",
        "next",
        "view",
    )

    def __init__(
        self,
        desk: Desk,
        elders: Elders,
        exchanges: Exchanges,
        now: float,
        trusts: Callable[[int], bool] | None,
    ) -> None:
        config, rng = desk.config, desk.rng
        self._desk = desk
        self._elders = elders
        self._exchanges = exchanges
        self._trusts = trusts
        self._turns = RoundRobin(rng)
        self.view: View | None = None
        self._began = now
        # Random phases: replicas that start together do not act together.
        self.next = now + rng.random() * config.interval
        self.heal_at = now + rng.random() * config.heal
        self._shuffle_at = now + rng.random() * config.shuffle
        self._full_at = now + (0.5 + rng.random()) * config.full_comparison
        self._tidy_at = now + _TIDY
        self._replaced = 0
        self._survey: list[int] = []
        self._survey_at = float("inf")

    # -- whom we know --------------------------------------------------------------------------

    @property
    def pool(self) -> Sequence[int]:
        """Whom to talk to."""
        return self._desk.members.trusted if self.view is None else self.view.active

    def members_changed(self, now: float, trusted: Iterable[PeerFacts], total: int | None) -> None:
        """Take over who may be talked to."""
        desk, elders = self._desk, self._elders
        members = desk.members
        before = members.facts
        added = members.trust(trusted)
        gone = [node for node in before if node not in members.facts]
        large = max(total or 0, len(members.trusted)) > desk.config.full_view
        members.partial = large
        if large != (self.view is not None):
            self.view = (
                View(desk.rng, desk.config.active_view, desk.config.passive_view) if large else None
            )
            self._turns = RoundRobin(desk.rng)
            added = list(members.trusted)
        if self.view is not None:
            for node in added:
                self.view.know(node)
            if self._trusts is None:
                for node in gone:
                    self.view.forget(node)
        for node in gone:
            elders.forget(node)
        for node in members.facts:
            fact = members.facts[node]
            if fact.v2 is not True or before.get(node) is None:
                elders.met(now, node)
        if added and now - self._began >= desk.config.interval and self._is_lonely:
            self.next = min(self.next, now + desk.rng.random() * _GREETING)
        self._turns.replace(self.pool, added if self.view is None else ())

    @property
    def _is_lonely(self) -> bool:
        """Whether somebody new is to be met at once: we know few, or nobody has agreed with us.  A
        large swarm would overwhelm who is new."""
        return not self._desk.synced or len(self.pool) <= self._desk.config.fanout

    def admit(self, now: float, node: int) -> None:
        """A member has spoken, or fallen silent: what follows for the view."""
        view = self.view
        if view is None:
            return
        if self._desk.members.usable(node):
            if self._may_meet(node):
                view.know(node)
        else:
            view.forget(node)

    def _may_meet(self, node: int) -> bool:
        if node == self._desk.own:
            return False
        if self._trusts is not None:
            return self._trusts(node)
        return node in self._desk.members.facts

    # -- rounds --------------------------------------------------------------------------------

    def deadline(self) -> float:
        """@return: when to call L{run}."""
        due = min(self.next, self._survey_at)
        return min(due, self.heal_at) if self._desk.members.failed else due

    def run(self, now: float) -> None:
        """Do what is due."""
        if now >= self._survey_at:
            self._ask_on(now)
        if now >= self.heal_at:
            self._heal(now)
        if now >= self.next:
            self.next = now + self._desk.jittered(self._desk.config.interval)
            self._round(now)

    def _round(self, now: float) -> None:
        desk = self._desk
        config = desk.config
        desk.members.sequence += 1
        self._replaced = 0
        desk.counts["rounds"] += 1
        if now >= self._tidy_at:
            self._tidy(now)
        if self.view is not None:
            self._keep_company(now, self.view)
        full = now >= self._full_at
        for _ in range(config.hot_partners if desk.hot(now) else config.partners):
            partner = self._turns.next(self._fit)
            if partner is None:
                break
            self._exchanges.begin(now, partner, full=full)
            if full:
                full = False
                self._full_at = now + desk.jittered(config.full_comparison)
        self._elders.round(now)

    def _fit(self, node: int) -> bool:
        """@return: whether a member can be compared with now."""
        view = self.view
        return (
            node not in self._exchanges.running
            and node not in self._elders.nodes
            and self._desk.members.usable(node)
            and (view is None or node in view.active)
        )

    def replace(self, now: float) -> None:
        """A partner has failed: take another one at once, a few times a round."""
        if self._replaced < self._desk.config.replacements:
            partner = self._turns.next(self._fit)
            if partner is not None:
                self._replaced += 1
                self._exchanges.begin(now, partner)

    def _heal(self, now: float) -> None:
        """Try a member believed offline; if it answers, a partition may have ended."""
        desk = self._desk
        self.heal_at = now + desk.config.heal * (1.0 - desk.config.jitter * desk.rng.random())
        failed = [node for node in desk.members.failed if self._may_meet(node)]
        if failed:
            node = failed[int(desk.rng.random() * len(failed))]
            if self._elders.includes(node):
                self._elders.give(now, node)
            else:
                self._exchanges.begin(now, node)

    def _tidy(self, now: float) -> None:
        desk = self._desk
        self._tidy_at = now + _TIDY
        desk.ledger.expire()
        desk.members.forget(now)
        self._exchanges.tidy(now)
        for node in sorted(desk.members.note_absent(now)):
            desk.ledger.drop_ephemeral(node)
        if self.view is not None:
            failed = desk.members.failed
            for node in list(islice(failed, max(0, len(failed) - _REMEMBERED))):
                del failed[node]

    # -- asking everybody ----------------------------------------------------------------------

    def survey(self, now: float) -> None:
        """Compare with all members, a few at a time."""
        self._survey = list(self.pool)
        self._ask_on(now)

    def _ask_on(self, now: float) -> None:
        for node in self._survey[:_SURVEYED]:
            if not self._elders.includes(node):
                self._exchanges.begin(now, node)
        del self._survey[:_SURVEYED]
        self._survey_at = now + _SURVEY_PAUSE if self._survey else float("inf")

    # -- a large swarm -------------------------------------------------------------------------

    def _keep_company(self, now: float, view: View) -> None:
        """Find neighbours while some are missing, and refresh the reserve now and then."""
        desk = self._desk
        members = desk.members
        for node in [node for node in view.active if not members.usable(node)]:
            view.forget(node)
        missing = desk.config.active_view - len(view.active)
        if missing > 0:
            # Others ask us too: asking for half of what is missing fills the view.
            count = max(1, missing // 2)
            for node in sample(desk.rng, view.passive, count, members.usable):
                self._ask_join(now, view, node)
        if now >= self._shuffle_at and view.active:
            self._shuffle_at = now + desk.jittered(desk.config.shuffle)
            node = view.active[int(desk.rng.random() * len(view.active))]
            if members.version2(node, now):
                self._say(node, desk.token(), view.shown(), "sample")

    def _ask_join(self, now: float, view: View, node: int) -> None:
        if self._desk.members.version2(node, now):
            self._say(node, self._desk.token(), view.active, "join")
        elif self._elders.includes(node):
            self._elders.give(now, node)
        else:
            self._exchanges.begin(now, node)

    def _say(self, node: int, x: str, nodes: Iterable[int], ask: str) -> None:
        self._desk.send(node, Shuffle(self._desk.name, x, tuple(nodes), ask))

    def on_shuffle(self, now: float, member: Member, message: Shuffle) -> None:
        """A member speaks about neighbours."""
        view, node, ask = self.view, member.node, message.ask
        if view is None:
            if ask == "join":
                self._say(node, message.x, (), "drop")
            return
        if ask == "join":
            self._on_join(view, node, message)
        elif ask == "accept":
            if view.short or node in view.active:
                view.befriend(node)
            else:
                self._say(node, message.x, (), "drop")
        elif ask == "drop":
            view.demote(node)
        elif ask == "sample":
            self._say(node, message.x, view.shown(), "")
        if ask in ("", "sample", "drop"):
            for each in message.nodes:
                if self._may_meet(each) and self._desk.members.usable(each):
                    view.know(each)

    def _on_join(self, view: View, node: int, message: Shuffle) -> None:
        if not view.short and node not in view.active and not message.nodes:
            # Without us it would have nobody.
            self._say(view.evict(), message.x, (), "drop")
        if view.short or node in view.active:
            view.befriend(node)
            self._say(node, message.x, (), "accept")
        else:
            self._say(node, message.x, view.shown(), "drop")
