"""How each agent stands: evidence of life against lateness, and the status that follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from skills.presence.core.deltas import Told
from skills.presence.core.effects import Ping
from skills.presence.core.entry import HEARTBEAT, Entry
from skills.presence.core.flap import Flap
from skills.presence.core.history import CAUSES, UNKNOWN, History
from skills.presence.core.lifecycle import STALE, life_of
from skills.presence.core.reporting import Transition
from skills.presence.core.shared import Shared
from skills.presence.core.status import OFFLINE
from skills.presence.core.verifying import HELPERS, PING_TIMEOUT, Verifier
from skills.presence.ctl.wording import in_words
from skills.presence.detection.reach import FRESH, GONE, SUSPECT

SCRIPT_LIFE: Final = 300.0
"""Seconds after which the claim of a shell loop lapses although its node answers.  A daemon's claim
stands as long as the daemon answers; of a loop that ended nothing is left to answer."""
RETRY: Final = 15.0
"""Seconds until an agent is verified again while nobody is judged."""
THAW_CHECK: Final = 5.0
"""Seconds between two looks whether a frozen view may be believed again."""


class Standing:
    """
    Moves entries through their lives, and says so where it has to be said.

    @ivar candidates: nodes that may be asked to ping others: peers that trust us.
    @ivar who_sees: which coordinator still sees a node that we do not, 0 for none.
    """

    def __init__(self, shared: Shared, ask_helper: Callable[[int, int, int], None]) -> None:
        """@param ask_helper: asks another node for its ping; called with helper, token, node."""
        self._shared = shared
        self.verifier = Verifier(
            shared.agenda,
            shared.config.verifying,
            next_token=shared.next_token,
            ping=self._ping,
            helpers=self._helpers,
            ask=self._ask,
            verdict=self._unanswered,
        )
        self.candidates: list[int] = []
        self.who_sees: Callable[[int], int] = lambda node: 0
        self._ask_helper = ask_helper

    # -- evidence ----------------------------------------------------------------------------

    def hear(self, now: float, entry: Entry, means: str, cause: str, *, record: bool) -> None:
        """
        Evidence that an agent lives.

        @param means: C{direct}, C{heartbeat} or C{gossip}.
        @param cause: why its status changes, should it do so.
        @param record: whether the agent said something itself.  A daemon that answers stands by
            what it said before; a shell loop does not.
        """
        entry.heard = now
        entry.means = means
        if record or entry.modern:
            entry.claimed = now
        self.verifier.settle(now, entry.node)
        if entry.reach != FRESH:
            before = entry.reach
            if cause != "joined":
                entry.note(now, "heard again", means)
            life_of(entry).hear()
            if before == GONE and cause == "heard":
                cause = "returned"
            self._shared.directory.touch(entry)
        if not entry.swarm and not entry.via:
            self._shared.view.present(entry.node)
            self.watch(entry, now)
        self.settle(now, entry, cause, {"means": means})

    def answered(self, now: float, entry: Entry, means: str) -> None:
        """Its node answers, or was heard: that says nothing about a claim that is over."""
        lapsed = not entry.modern and now - entry.claimed >= SCRIPT_LIFE
        if not lapsed and entry.merged(now) != OFFLINE:
            self.hear(now, entry, means, "heard", record=False)

    def told(self, now: float, entry: Entry, told: Told) -> None:
        """A coordinator says how an agent stands that we do not hear ourselves."""
        evidence: dict[str, Any] = {"via": entry.via}
        if told.reach == GONE:
            self.give_up(now, entry, _cause(told.cause), evidence)
            return
        entry.heard = entry.claimed = max(entry.heard, now - told.age)
        entry.means = "gossip"
        if told.reach == FRESH and entry.reach != FRESH:
            life_of(entry).hear()
            self._shared.directory.touch(entry)
        elif told.reach == SUSPECT:
            self.accuse(now, entry, evidence)
        self.settle(now, entry, _cause(told.cause), evidence)

    def leave(self, now: float, entry: Entry) -> None:
        """The agent itself says that it goes."""
        self.verifier.settle(now, entry.node)
        self._shared.view.absent(entry.node)
        life_of(entry).leave()
        entry.note(now, "said goodbye", entry.means)
        self.settle(now, entry, "left", {"number": list(entry.number)})

    def accuse(self, now: float, entry: Entry, evidence: dict[str, Any]) -> None:
        """The swarm suspects it, or a coordinator does."""
        if entry.reach in (FRESH, STALE):
            life_of(entry).miss()
            entry.note(now, "suspected", in_words(evidence, self._shared.node_id), evidence)
            self._shared.directory.touch(entry)

    def give_up(self, now: float, entry: Entry, cause: str, evidence: dict[str, Any]) -> None:
        """A verdict: nobody got an answer."""
        self.verifier.settle(now, entry.node)
        self._shared.view.missed(now, entry.node)
        if entry.reach != GONE:
            life_of(entry).give_up()
            words = in_words(evidence, self._shared.node_id)
            entry.note(now, f"given up: {cause}", words, evidence)
        self.settle(now, entry, cause, evidence)

    # -- lateness ----------------------------------------------------------------------------

    def watch(self, entry: Entry, now: float) -> None:
        """See to it that somebody looks whether the agent is late."""
        if not entry.watched and not entry.own:
            entry.watched = True
            self._shared.agenda.at(self._late_at(entry), self._look, entry.node)

    def check(self, now: float, entry: Entry, why: str) -> None:
        """Something looked wrong: verify at once, decide nothing."""
        if entry.reach in (FRESH, STALE) and not entry.own:
            entry.note(now, "verifying", why)
            self.verifier.begin(now, entry.node)

    def _late_at(self, entry: Entry) -> float:
        return entry.heard + entry.patience

    def _look(self, now: float, node: int) -> None:
        entry = self._shared.directory.get(node)
        if entry is None or not entry.watched:
            return
        entry.watched = False
        if entry.swarm or entry.via or entry.reach == GONE:
            return
        if entry.script and now >= entry.script_until:
            entry.script = ""
            self.settle(now, entry, "lapsed", {})
        if not entry.modern and now - entry.claimed >= SCRIPT_LIFE:
            self._lapse(now, entry)
            return
        late_at = self._late_at(entry)
        view = self._shared.view
        held = max(view.grace_until, entry.excused)
        if now < late_at or now < held:
            entry.watched = True
            self._shared.agenda.at(max(late_at, held), self._look, node)
            return
        if entry.reach != SUSPECT:
            life_of(entry).miss()
            entry.note(now, "late", f"nothing heard for {now - entry.heard:.1f} s")
            self._shared.directory.touch(entry)
        view.missed(now, node)
        self._doubt_exodus(now)
        self.verifier.begin(now, node)

    def _lapse(self, now: float, entry: Entry) -> None:
        silent = round(now - entry.claimed, 1)
        self.verifier.settle(now, entry.node)
        self._shared.view.absent(entry.node)
        life_of(entry).give_up()
        entry.note(now, "given up: lapsed", f"no record for {silent:.0f} s; its node answers")
        self.settle(now, entry, "lapsed", {"silent": silent})

    # -- verification --------------------------------------------------------------------------

    def _ping(self, token: int, node: int) -> None:
        self._shared.counters["pings"] += 1
        self._shared.effects.append(Ping(token, node, PING_TIMEOUT))

    def _ask(self, helper: int, token: int, node: int) -> None:
        self._shared.counters["asked"] += 1
        self._ask_helper(helper, token, node)

    def _helpers(self, node: int) -> list[int]:
        """Up to three agents that were heard lately and understand the question."""
        directory, rng = self._shared.directory, self._shared.rng
        candidates = self.candidates
        chosen: list[int] = []
        for _ in range(min(8 * HELPERS, 4 * len(candidates))):
            helper = rng.choice(candidates)
            entry = directory.get(helper)
            if helper == node or helper in chosen or entry is None:
                continue
            if entry.modern and entry.reach == FRESH and not entry.via and not entry.own:
                chosen.append(helper)
                if len(chosen) == HELPERS:
                    break
        return chosen

    def _unanswered(self, now: float, node: int, evidence: dict[str, Any]) -> None:
        entry = self._shared.directory.get(node)
        if entry is None or entry.reach == GONE or entry.swarm or entry.via:
            return
        view = self._shared.view
        silent = round(now - entry.heard, 3)
        elsewhere = self.who_sees(node)
        if elsewhere:
            entry.via = elsewhere
            view.absent(node)
            entry.note(now, "others see it", f"coordinator {elsewhere}")
            entry.means = "gossip"
            life_of(entry).hear()
            self._shared.directory.touch(entry)
            return
        if entry.reach != SUSPECT:  # a hint was right before the agent was even late
            life_of(entry).miss()
        view.missed(now, node)
        self._doubt_exodus(now)
        if view.frozen or now < max(view.grace_until, entry.excused):
            entry.note(now, "not judged", view.cause or "grace")
            self._shared.agenda.at(now + RETRY, self._again, node)
            return
        self.give_up(now, entry, "unanswered", {"silent": silent, **evidence})

    def _again(self, now: float, node: int) -> None:
        entry = self._shared.directory.get(node)
        if entry is not None and entry.reach == SUSPECT and not (entry.swarm or entry.via):
            self.verifier.begin(now, node)

    # -- our own view --------------------------------------------------------------------------

    def _doubt_exodus(self, now: float) -> None:
        view = self._shared.view
        if not view.frozen and view.exodus(now, self._quiet(now)):
            self.doubt(now, "exodus")
            self._shared.agenda.at(now + THAW_CHECK, self._thaw)

    def _thaw(self, now: float) -> None:
        if self._shared.view.may_thaw(now, self._quiet(now)):
            self.trust(now, "exodus")
        else:
            self._shared.agenda.at(now + THAW_CHECK, self._thaw)

    def _quiet(self, now: float) -> Callable[[int], bool]:
        def quiet(node: int) -> bool:
            entry = self._shared.directory.get(node)
            return entry is None or now - entry.heard > entry.ttl / HEARTBEAT / 2.0

        return quiet

    def doubt(self, now: float, cause: str) -> None:
        """Our view is not to be believed."""
        self._shared.counters[f"doubt_{cause}"] += 1
        if self._shared.view.doubt(now, cause):
            self._shared.tell(now, "presence.view_stale", {"cause": cause})

    def trust(self, now: float, cause: str) -> None:
        """That reason for doubt is gone."""
        if self._shared.view.trust(cause):
            self._shared.tell(now, "presence.view_ok", {"cause": cause})

    # -- the status that follows ---------------------------------------------------------------

    def settle(self, now: float, entry: Entry, cause: str, evidence: dict[str, Any]) -> None:
        """Bring the effective status up to what is known, and tell of a transition."""
        after, before = entry.effective(now), entry.status
        first = entry.history is None
        if after == before and not first:
            return
        entry.status = after
        entry.evidence = evidence
        if entry.history is None:
            entry.history = History()
        was = UNKNOWN if first else before
        entry.history.add(now, was, after, cause, entry.number)
        if not first:
            entry.since = now
        self._flap(now, entry, before, after, first)
        directory = self._shared.directory
        directory.settle(entry)
        directory.touch(entry)
        news = Transition(entry.node, entry.hostname, was, after, cause, evidence)
        self._shared.reporter.transition(now, news, entry.flapping)

    def _flap(self, now: float, entry: Entry, before: str, after: str, first: bool) -> None:
        if first or (before == OFFLINE) == (after == OFFLINE):
            return
        if entry.flap is None:
            entry.flap = Flap(now)
        if entry.flap.changed(now):
            self._tell_flap(now, entry)
            self._shared.agenda.at(entry.flap.clean_at(), self._calm, entry.node)

    def _calm(self, now: float, node: int) -> None:
        entry = self._shared.directory.get(node)
        if entry is None or entry.flap is None or not entry.flap.flapping:
            return
        if not entry.flap.settled(now):
            self._shared.agenda.at(entry.flap.clean_at(), self._calm, node)
            return
        self._tell_flap(now, entry)
        self._shared.directory.settle(entry)

    def _tell_flap(self, now: float, entry: Entry) -> None:
        assert entry.flap is not None
        self._shared.directory.touch(entry)
        self._shared.tell(
            now,
            "presence.flapping",
            {
                "node": entry.node,
                "hostname": entry.hostname,
                "flapping": entry.flap.flapping,
                "penalty": round(entry.flap.penalty(now), 2),
            },
        )


def _cause(told: str) -> str:
    return told if told in CAUSES else "told"
