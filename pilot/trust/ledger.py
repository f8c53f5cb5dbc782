"""The relations of a node with all others, and how they change.

Every change goes the same way: the relation's machine says what follows, the trust file is written,
and only then does anything follow.  A change that cannot be written did not happen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pilot.trust.errands import Errands
from pilot.trust.records import Errand, Record, Requested, Revoked, Step, Trusted, ordered
from pilot.trust.relation import IRelation, News, Outcome, transition
from pilot.trust.store import TrustNotSaved, TrustStore

log = Logger()

#: Revocations remembered; the oldest is forgotten first.
MAX_REVOKED = 1024

#: Changes that peers asked for and the disk refused, kept to be tried again.
MAX_UNSAVED = 64

#: Seconds after which a small change (an errand done, a key learnt) is written.
SAVE_DELAY = 1.0

#: An input of the relation's machine, named by its method.
Happening = Callable[[IRelation, News], None]


class Ledger:
    """
    @ivar counters: changes the disk refused, by what became of them.
    """

    def __init__(
        self,
        clock: IReactorTime,
        store: TrustStore,
        errands: Errands,
        *,
        wall_time: Callable[[], float],
        on_event: Callable[[str, dict[str, Any]], None],
        on_severed: Callable[[int, Record], None],
    ) -> None:
        """
        Read the trust file.

        @param on_severed: told when trust in a node ended, and what is known of it now.
        @raise TrustUnreadable: the file is there and cannot be read.
        """
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._store = store
        self._errands = errands
        self._wall_time = wall_time
        self._on_event = on_event
        self._on_severed = on_severed
        self._records, self._owed = store.load()
        self._kinds = Counter(type(record) for record in self._records.values())
        self._unsaved: list[tuple[int, Happening, News]] = []
        self._save_timer: IDelayedCall | None = None
        self._running = False

    def start(self) -> None:
        """Go on with what was owed when the node stopped."""
        self._running = True
        owed, self._owed = self._owed, {}
        self._errands.resume(list(owed.values()))

    def stop(self) -> None:
        """Write what still waits to be written; what is owed goes on after the next start."""
        self._running = False
        if self._save_timer is not None:
            self._save_timer.cancel()
            self._save_due()
        self._owed = self._errands.owed()

    # -- reading -----------------------------------------------------------------------------------

    def __getitem__(self, node_id: int) -> Record:
        return self._records.get(node_id)

    def __iter__(self) -> Iterator[tuple[int, Record]]:
        return iter(list(self._records.items()))

    def count(self, kind: type) -> int:
        """@return: how many records of this kind there are."""
        return self._kinds[kind]

    # -- changing ----------------------------------------------------------------------------------

    def apply(self, node_id: int, happening: Happening, news: News) -> Deferred[None]:
        """
        Let something happen, save it, then let its consequences follow.

        @return: Deferred of the first attempt at those consequences; it fails only for a
            request that found no way to the peer.
        @raise TrustNotSaved: nothing happened.
        """
        before = self[node_id]
        outcome = transition(node_id, before, happening, news)
        owed = self._errands.of(node_id)
        errand = _errand(node_id, before, owed, outcome, news)
        if outcome.record != before:
            self._set(node_id, outcome.record)
            try:
                self._save(node_id, errand)
            except TrustNotSaved:
                self._set(node_id, before)
                self.counters["not_saved"] += 1
                raise
        self._tell(node_id, outcome)
        if errand is None:
            self._errands.drop(node_id)
        elif outcome.steps:
            return self._errands.put(errand)
        return succeed(None)

    def apply_or_keep(self, node_id: int, happening: Happening, news: News) -> None:
        """
        L{apply} what a peer wants.  If the disk refuses, it is tried again later, since the peer
        will not say it twice.
        """
        try:
            self.apply(node_id, happening, news).addErrback(_undelivered, node_id)
        except TrustNotSaved as error:
            log.error("news of node {node}: {error}", node=node_id, error=error.message)
            if len(self._unsaved) < MAX_UNSAVED:
                self._unsaved.append((node_id, happening, news))
            else:
                self.counters["unsaved_full"] += 1

    def retry_unsaved(self) -> None:
        """The disk may have room again."""
        unsaved, self._unsaved = self._unsaved, []
        for node_id, happening, news in unsaved:
            self.apply_or_keep(node_id, happening, news)

    def amend(self, node_id: int, record: Trusted) -> None:
        """Correct a fact in a record; where the relation stands does not change."""
        if isinstance(self[node_id], Trusted):
            self._set(node_id, record)
            self.save_soon()

    def take_back(self, node_id: int, before: Record) -> None:
        """A request failed and its user knows: nothing of it may stay behind."""
        if isinstance(self[node_id], Requested) and not isinstance(before, Requested):
            self._errands.drop(node_id)
            self._set(node_id, before)
            self.save_soon()

    def owe(self, node_id: int, step: Step) -> None:
        """Have a step taken that follows from no change."""
        record = self[node_id]
        text = record.justification if isinstance(record, Requested) else ""
        owed = self._errands.of(node_id) or Errand(node_id, (), text, self._wall_time())
        if step not in owed.steps:
            errand = owed._replace(steps=ordered({*owed.steps, step}))
            self._errands.put(errand).addErrback(_undelivered, node_id)

    def _tell(self, node_id: int, outcome: Outcome) -> None:
        """Whoever listens: a fault of theirs must not keep a decision from being carried out."""
        try:
            for name, data in outcome.events:
                self._on_event(name, data)
            if outcome.severed:
                self._on_severed(node_id, outcome.record)
        except Exception:
            log.failure("what happened with node {node} could not be told", node=node_id)

    def _set(self, node_id: int, record: Record) -> None:
        before = self._records.pop(node_id, None)
        if before is not None:
            self._kinds[type(before)] -= 1
        if record is None:
            return
        self._records[node_id] = record
        self._kinds[type(record)] += 1
        if type(record) is Revoked and self.count(Revoked) > MAX_REVOKED:
            _, oldest = min(
                (r.revoked_at, n) for n, r in self._records.items() if isinstance(r, Revoked)
            )
            self._set(oldest, None)

    # -- the file ----------------------------------------------------------------------------------

    def save_soon(self) -> None:
        """A small change: write it with others that come along."""
        if self._save_timer is None and self._running:
            self._save_timer = self._clock.callLater(SAVE_DELAY, self._save_due)

    def _save(self, node_id: int, errand: Errand | None) -> None:
        owed = self._owed | self._errands.owed()
        owed.pop(node_id, None)
        if errand is not None:
            owed[node_id] = errand
        self._store.save(self._records, owed)

    def _save_due(self) -> None:
        self._save_timer = None
        try:
            self._store.save(self._records, self._owed | self._errands.owed())
        except TrustNotSaved as error:
            # At worst an errand is done twice after a restart.
            log.error("{error}", error=error.message)


def _errand(
    node_id: int, before: Record, owed: Errand | None, outcome: Outcome, news: News
) -> Errand | None:
    """A decision takes the place of what was owed; a mere answer joins it."""
    if outcome.settled:
        return None
    if type(before) is not type(outcome.record):
        owed = None
    if not outcome.steps:
        return owed
    steps, since = set(outcome.steps), news.at
    if owed is not None:
        steps, since = steps | set(owed.steps), owed.since
    text = news.text
    if Step.ASK in steps and isinstance(outcome.record, Requested):
        text = outcome.record.justification
    return Errand(node_id, ordered(steps), text, since)


def _undelivered(failure: Any, node_id: int) -> None:
    log.info("node {node} not reached: {error}", node=node_id, error=failure.getErrorMessage())
