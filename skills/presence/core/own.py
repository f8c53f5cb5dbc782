"""Our own status: what the local agents say, made into records, and sent to who wants them.

The daemon speaks, the agents only say what they want said: an agent that works for an hour without
a pause does not look dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from skills.presence.core.claims import Claim, Claims, Intent
from skills.presence.core.effects import STATUS_TOPIC, Change, Publish, Sign
from skills.presence.core.ordering import Number
from skills.presence.core.record import (
    MAX_OWN,
    MAX_TAGS,
    SIGNATURE_ROOM,
    compose,
    dump,
    is_tag,
    signing_bytes,
    with_signature,
)
from skills.presence.core.shared import Shared
from skills.presence.core.status import OFFLINE

JITTER: Final = 0.2
"""Share by which each interval is varied: a fleet started at once does not speak at once."""
SOON: Final = 1.0
"""Least seconds between two records for one coordinator; a change in between waits for it."""
RETRY: Final = 2.0
"""Seconds before the first new attempt after a failure; each further one waits twice as long."""
UNSIGNED: Final = 8
"""Records that wait for their signature; older ones are outdated anyway."""


class _Beat:
    """The heartbeats to one coordinator."""

    __slots__ = ("due", "failures", "sent", "target")

    def __init__(self, target: str) -> None:
        self.target = target
        self.due = float("inf")
        self.sent = float("-inf")
        self.failures = 0


class Own:
    """
    @ivar claims: what the local agents say.
    @ivar claim: what the node said last.
    @ivar since: unix time at which that status began.
    """

    def __init__(
        self,
        shared: Shared,
        *,
        hostname: str,
        address: str,
        tags: Iterable[str],
        next_number: Callable[[], Number],
        said: Callable[[float, dict[str, Any], bool], None],
    ) -> None:
        """
        @param next_number: gives the number of a new record.
        @param said: called with now, a new record of ours, and whether it says something new.
        """
        self._shared = shared
        self._next_number = next_number
        self._said = said
        self._waiting: dict[int, tuple[dict[str, Any], tuple[str, ...], bool]] = {}
        self._beats = {target: _Beat(target) for target in shared.config.coordinators}
        self._running = False
        self.hostname = hostname
        self.address = address
        self.tags = _sound(tags)
        self.claims = Claims()
        self.claim: Claim = self.claims.claim()
        self.since = shared.wall()

    # -- what we say ---------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Say it for the first time."""
        self._running = True
        self.since = self._shared.wall()
        self._schedule_claims()
        self._speak(now, tuple(self._beats), new=True)
        for beat in self._beats.values():
            self._plan(beat, now + self._interval())

    def set(self, now: float, agent: str, intent: Intent) -> None:
        """@raise PresenceError: something is out of range."""
        self.claims.set(agent, intent)
        self._schedule_claims()
        self.update(now)

    def rename(self, now: float, hostname: str, address: str, tags: Iterable[str]) -> None:
        """What the node is called has changed."""
        facts = (hostname, address, _sound(tags))
        if facts != (self.hostname, self.address, self.tags):
            self.hostname, self.address, self.tags = facts
            if self._running:
                self.repeat(now)

    def update(self, now: float) -> None:
        """Say it at once if what the local agents say has come to something else."""
        claim = self.claims.claim()
        if claim == self.claim or not self._running:
            self.claim = claim
            return
        if claim.status != self.claim.status:
            self.since = self._shared.wall()
        self.claim = claim
        self.repeat(now)

    def repeat(self, now: float) -> None:
        """Say at once what we say now."""
        ready = []
        for beat in self._beats.values():
            if now - beat.sent >= SOON:
                ready.append(beat.target)
            else:
                self._plan(beat, beat.sent + SOON)
        self._speak(now, tuple(ready), new=True)

    def leave(self, now: float) -> dict[str, Any]:
        """
        The last word.  It goes unsigned, because there is no time to wait for a signature: who
        gets it from us knows who we are.
        @return: the record.
        """
        self._running = False
        self._waiting.clear()
        self.since = self._shared.wall()
        self.claim = Claim(OFFLINE, "stopped", None, None, self.claim.tags)
        document = self.compose()
        self._send(now, document, tuple(self._beats), True)
        return document

    def compose(self) -> dict[str, Any]:
        """@return: a new record of ours, with the next number."""
        claim, config = self.claim, self._shared.config
        return compose(
            self.hostname,
            claim.status,
            self._shared.wall(),
            self._shared.node_id,
            self._next_number(),
            address=self.address,
            ttl=config.lease,
            since=self.since,
            load=claim.load,
            slots=claim.slots,
            tags=tuple(dict.fromkeys((*claim.tags, *self.tags)))[:MAX_TAGS],
            reason=claim.reason,
            room=MAX_OWN - (SIGNATURE_ROOM if config.signed else 0),
        )

    # -- how it leaves -------------------------------------------------------------------------

    def _speak(self, now: float, targets: tuple[str, ...], new: bool) -> None:
        document = self.compose()
        for target in targets:
            self._beats[target].sent = now
        if not self._shared.config.signed:
            self._send(now, document, targets, new)
            return
        while len(self._waiting) >= UNSIGNED:
            old, late, was_new = self._waiting.pop(next(iter(self._waiting)))
            self._shared.counters["unsigned"] += 1
            self._send(now, old, late, was_new)
        token = self._shared.next_token()
        self._waiting[token] = document, targets, new
        self._shared.effects.append(Sign(token, signing_bytes(document)))

    def signed(self, now: float, token: int, signature: bytes | None) -> None:
        """A record has its signature, or will never have one."""
        waiting = self._waiting.pop(token, None)
        if waiting is None:
            return
        document, targets, new = waiting
        if signature is not None and len(signature) == 64:
            document = with_signature(document, signature)
        else:
            self._shared.counters["unsigned"] += 1
        self._send(now, document, targets, new)

    def _send(
        self, now: float, document: dict[str, Any], targets: tuple[str, ...], new: bool
    ) -> None:
        payload = dump(document)
        for target in targets:
            self._shared.counters["heartbeats"] += 1
            self._shared.effects.append(Publish(target, STATUS_TOPIC, payload))
        if new:
            self._shared.effects.append(Change(STATUS_TOPIC, document))
        self._said(now, document, new)

    # -- when ----------------------------------------------------------------------------------

    def published(self, now: float, target: str, ok: bool) -> None:
        """Outcome of a publication: after a failure it is tried again before its time."""
        beat = self._beats.get(target)
        if beat is None or not self._running:
            return
        if ok:
            beat.failures = 0
            return
        beat.failures += 1
        self._shared.counters["heartbeats_failed"] += 1
        agents = len(self._shared.directory)
        wait = min(RETRY * 2.0 ** min(beat.failures - 1, 6), 60.0) + self._shared.spread(agents)
        # At least a fifth of it: when a coordinator restarts, its whole fleet fails at once.
        again = now + wait * (0.2 + 0.8 * self._shared.rng.random())
        if again < beat.due:
            self._plan(beat, again)

    def _interval(self) -> float:
        varied = 1.0 + JITTER * (2.0 * self._shared.rng.random() - 1.0)
        return self._shared.config.interval * varied

    def _plan(self, beat: _Beat, when: float) -> None:
        if beat.due != when:
            beat.due = when
            self._shared.agenda.at(when, self._beat, beat, when)

    def _beat(self, now: float, beat: _Beat, planned: float) -> None:
        if not self._running or beat.due != planned:
            return
        self._speak(now, (beat.target,), new=False)
        self._plan(beat, now + self._interval())

    def _schedule_claims(self) -> None:
        due = self.claims.deadline()
        if due is not None:
            self._shared.agenda.at(due, self._revert)

    def _revert(self, now: float) -> None:
        if self.claims.expire(now):
            self.update(now)


def _sound(tags: Iterable[str]) -> tuple[str, ...]:
    return tuple(tag for tag in dict.fromkeys(tags) if is_tag(tag))[:MAX_TAGS]
