"""A watcher's side: what coordinators tell us of agents we do not hear ourselves."""

from __future__ import annotations

from typing import Final

from skills.presence.core.deltas import Ask, Delta, Told, write_ask
from skills.presence.core.effects import Message
from skills.presence.core.entry import Entry
from skills.presence.core.intake import Intake
from skills.presence.core.shared import Shared
from skills.presence.core.standing import Standing
from skills.presence.core.status import OFFLINE
from skills.presence.detection.reach import FRESH, GONE

ASK_EVERY: Final = 30.0
"""Seconds between two questions to a coordinator, each varied by a fifth."""
LOST: Final = 75.0
"""Seconds without an answer after which its word is stale."""
RETRY: Final = 2.0
"""Seconds before the first new attempt after a failure; each further one waits twice as long."""
AGAIN: Final = 1.0
"""Least seconds between two questions after gaps."""


class _Watch:
    """What we know of one coordinator."""

    __slots__ = (
        "agents", "asked", "due", "epoch", "failures", "fresh", "lost", "nonce", "peer", "synced",
        "target", "version",
    )  # fmt: skip

    def __init__(self, target: str, nonce: int, now: float) -> None:
        self.target = target
        self.nonce = nonce
        self.peer: int | None = None
        self.epoch = ""
        self.version = self.agents = self.failures = 0
        self.synced = now
        self.asked = float("-inf")
        self.due = float("inf")
        self.lost = False
        self.fresh: set[int] = set()


class Watching:
    """The coordinators that we watch."""

    def __init__(self, shared: Shared, standing: Standing, intake: Intake) -> None:
        self._shared = shared
        self._standing = standing
        self._intake = intake
        self._watches: list[_Watch] = []
        self._by_peer: dict[int, _Watch] = {}

    def start(self, now: float) -> None:
        """Watch those that are configured."""
        rng = self._shared.rng
        if self._shared.config.watch:
            for target in self._shared.config.coordinators:
                watch = _Watch(target, rng.getrandbits(50), now)
                self._watches.append(watch)
                self._plan(watch, now + rng.random())

    def stop(self) -> None:
        """Ask nobody any more."""
        self._watches.clear()
        self._by_peer.clear()

    def age(self, now: float, peer: int) -> float:
        """@return: seconds since that coordinator last spoke, infinity for others."""
        watch = self._by_peer.get(peer)
        return now - watch.synced if watch is not None else float("inf")

    def is_lost(self, peer: int) -> bool:
        """@return: whether what that coordinator told us is stale."""
        watch = self._by_peer.get(peer)
        return watch is None or watch.lost

    # -- asking --------------------------------------------------------------------------------

    def _plan(self, watch: _Watch, when: float) -> None:
        watch.due = when
        self._shared.agenda.at(when, self._ask, watch, when)

    def _ask(self, now: float, watch: _Watch, planned: float) -> None:
        if watch.due != planned or watch not in self._watches:
            return
        if now - watch.synced >= LOST and watch.peer is not None:
            self._lose(now, watch)
        watch.asked = now
        ask = Ask(watch.nonce, watch.epoch, watch.version)
        self._shared.effects.append(Message(watch.target, write_ask(ask)))
        self._plan(watch, now + ASK_EVERY * (0.8 + 0.4 * self._shared.rng.random()))

    def _soon(self, now: float, watch: _Watch) -> None:
        when = max(now, watch.asked + AGAIN)
        if when < watch.due:
            self._plan(watch, when)

    def failed(self, now: float, target: str) -> None:
        """A question could not be delivered.  The whole fleet finds out at the same moment, so it
        comes back spread over time."""
        for watch in self._watches:
            if watch.target == target:
                watch.failures += 1
                if watch.peer is not None:
                    self._lose(now, watch)
                wait = min(RETRY * 2.0 ** min(watch.failures - 1, 5), 60.0)
                wait += self._shared.spread(max(watch.agents, len(self._shared.directory)))
                self._plan(watch, now + wait * (0.1 + 0.9 * self._shared.rng.random()))

    def reached(self, now: float, node: int, there: bool) -> None:
        """The swarm says whether a node is there; if it is a coordinator, it is asked itself."""
        for watch in self._watches:
            if watch.peer == node and watch.lost == there:
                if there:
                    # All who watch it hear of its return at the same moment.
                    spread = self._shared.spread(max(watch.agents, len(self._shared.directory)))
                    self._soon(now + spread * self._shared.rng.random(), watch)
                else:
                    self._lose(now, watch)
                    self._soon(now, watch)

    def _lose(self, now: float, watch: _Watch) -> None:
        if not watch.lost:
            watch.lost = True
            self._shared.counters["coordinators_lost"] += 1
            self._standing.doubt(now, "coordinator")

    # -- being told ----------------------------------------------------------------------------

    def told(self, now: float, peer: int, delta: Delta) -> None:
        """A coordinator answers, or has news."""
        watch = next((each for each in self._watches if each.nonce == delta.nonce), None)
        if watch is None or watch.peer not in (None, peer):
            # Only whom we asked knows the nonce.
            self._shared.counters["uninvited"] += 1
            return
        if watch.peer is None:
            watch.peer = peer
            self._by_peer[peer] = watch
        watch.failures = 0
        watch.agents = delta.agents
        if delta.epoch != watch.epoch:
            watch.epoch, watch.version = delta.epoch, 0
            watch.fresh.clear()
        if delta.since > watch.version:
            self._shared.counters["gaps"] += 1
            self._soon(now, watch)
            return
        watch.synced = now
        if watch.lost:
            watch.lost = False
            if not any(each.lost for each in self._watches):
                self._standing.trust(now, "coordinator")
        self._shared.counters["malformed"] += delta.broken
        if delta.version < watch.version:
            return  # seen already
        for told in delta.entries:
            self._take(now, watch, peer, told)
        for node in delta.removed:
            watch.fresh.discard(node)
            entry = self._shared.directory.get(node)
            if entry is not None and entry.via == peer and entry.reach == GONE:
                self._shared.directory.remove(entry, now)
        watch.version = delta.version
        if delta.more:
            self._plan(watch, now)

    def _take(self, now: float, watch: _Watch, peer: int, told: Told) -> None:
        if told.node == self._shared.node_id:
            return
        present = told.reach != GONE
        (watch.fresh.add if present else watch.fresh.discard)(told.node)
        directory = self._shared.directory
        entry = directory.get(told.node)
        if entry is None:
            if directory.outlived(told.node, told.number):
                return
            entry = directory.admit(told.node, now)
            if entry is None:
                return
            entry.via = peer
        elif not entry.via:
            self._second_opinion(now, peer, entry, told)
            return
        newer = not entry.record or told.number > entry.number
        if entry.via != peer and not present and self._vouched(entry.via, told.node):
            return  # another coordinator still sees it
        if not newer and entry.via != peer and not present:
            return
        self._describe(now, entry, told)
        if present or not self._elsewhere(entry, told):
            entry.via = peer
            self._standing.told(now, entry, told)

    def _elsewhere(self, entry: Entry, told: Told) -> bool:
        """@return: whether another coordinator sees it, which then speaks for it from now on."""
        if told.record.status == OFFLINE and told.number >= entry.number:
            return False  # its own word
        entry.via = self.who_sees(told.node) or entry.via
        return bool(self.who_sees(told.node))

    def who_sees(self, node: int) -> int:
        """@return: a coordinator in touch with us that still sees that node, 0 for none."""
        for watch in self._watches:
            if watch.peer is not None and not watch.lost and node in watch.fresh:
                return watch.peer
        return 0

    def _vouched(self, peer: int, node: int) -> bool:
        watch = self._by_peer.get(peer)
        return watch is not None and not watch.lost and node in watch.fresh

    def _second_opinion(self, now: float, peer: int, entry: Entry, told: Told) -> None:
        """Of somebody we hear ourselves: a reason to look, no verdict."""
        if entry.reach == GONE:
            left = entry.claim == OFFLINE and told.number <= entry.number
            if told.reach == FRESH and not left:
                entry.via = peer  # we lost it, others did not
                self._describe(now, entry, told)
                self._standing.told(now, entry, told)
            return
        if told.record.number is not None and told.number > entry.number:
            self._describe(now, entry, told)
            self._standing.settle(now, entry, "claimed", {"via": peer})
        if told.reach == GONE and told.number >= entry.number:
            self._standing.check(now, entry, "a coordinator has given it up")

    def _describe(self, now: float, entry: Entry, told: Told) -> None:
        if not entry.record or told.number > entry.number:
            self._intake.describe(now, entry, told.record)
            entry.number = told.number
            entry.since = now - told.lasted
