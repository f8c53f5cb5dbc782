"""Presence of one node, sans-IO: its own status, everybody else's, and who may take work.

What it asks of its shell is in C{effects}.  The parts: the C{own} status, the C{intake} of records,
how agents stand (C{standing}), the swarm (C{membership}), coordinators we are C{watching} and whom
we are C{serving}, and what may be asked (C{inquiries}).

@see: the page I{Presence}.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from skills.presence.core.answers import Answers
from skills.presence.core.claims import Intent
from skills.presence.core.config import PresenceConfig
from skills.presence.core.deltas import DELTA, WATCH, read_ask, read_delta
from skills.presence.core.effects import Effect, Persist
from skills.presence.core.errors import BadMessage
from skills.presence.core.finding import Query
from skills.presence.core.helping import KINDS, Helping
from skills.presence.core.inquiries import Inquiries
from skills.presence.core.intake import Intake
from skills.presence.core.membership import Membership
from skills.presence.core.ordering import next_incarnation
from skills.presence.core.own import Own
from skills.presence.core.restoring import restore
from skills.presence.core.searching import Searches
from skills.presence.core.serving import Serving
from skills.presence.core.shared import Shared
from skills.presence.core.standing import Standing
from skills.presence.core.view import STALL
from skills.presence.core.watching import Watching
from skills.presence.detection.detector import Detector
from skills.presence.detection.messages import MAX_ACCEPTED
from skills.presence.detection.reach import SUSPECT

SWEEP: Final = 60.0
"""Seconds between two looks for what has to be forgotten."""
STRANGER_LIFE: Final = 3600.0
"""Seconds for which an unverified record is kept."""


class PresenceCore(Inquiries):
    """
    Every method that takes C{now} (seconds, monotonic) and returns a list says what is to be done.
    L{deadline} may move with every call.  Before L{start} and after L{leave} nothing is done.
    """

    def __init__(
        self,
        node_id: int,
        *,
        now: float,
        wall: Callable[[], float],
        rng: random.Random,
        config: PresenceConfig | None = None,
        hostname: str = "",
        address: str = "",
        tags: Iterable[str] = (),
        incarnation: int = 0,
        restored: bytes | None = None,
    ) -> None:
        """
        @param wall: unix seconds; for timestamps and to notice that we slept, never to order.
        @param incarnation: the one last persisted.
        @param restored: the directory last persisted; what is broken in it is left out.
        """
        self._shared = shared = Shared(node_id, now, wall, rng, config or PresenceConfig())
        self._helping = Helping(shared)
        self._standing = Standing(shared, self._helping.ask)
        self._intake = Intake(shared, self._standing)
        detector = Detector(
            node_id,
            now=now,
            rng=rng,
            profile=shared.config.profile,
            incarnation=next_incarnation(incarnation, wall()),
        )
        self._watching = Watching(shared, self._standing, self._intake)
        self._swarm = Membership(
            shared, self._standing, self._intake, detector, self._raised, self._watching.reached
        )
        self._standing.who_sees = self._watching.who_sees
        self._serving = Serving(shared)
        self._answers = Answers(shared, self._watching, detector.said, lambda: detector.frozen)
        self._searches = Searches(shared, self._standing, self._answers)
        self._own = Own(
            shared,
            hostname=hostname,
            address=address,
            tags=tags,
            next_number=self._swarm.number,
            said=self._said,
        )
        self._restored = restored
        self._running = False
        self._saved = -1

    # -- our own status ----------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        """Take part from now on: online unless L{set_intent} said otherwise."""
        shared = self._shared
        self._running = True
        shared.view.inbound = now
        shared.view.grace(now)
        shared.view.slept(now, shared.wall())
        incarnation = str(self._swarm.detector.incarnation).encode()
        shared.effects.append(Persist("incarnation", incarnation))
        if self._restored is not None:
            restore(self._restored, now, shared, self._standing, self._intake)
            self._restored = None
            self._doubt_for_a_lease(now, "restart")
        self._own.start(now)
        self._watching.start(now)
        shared.agenda.at(now + SWEEP, self._sweep)
        if shared.config.serve:
            shared.agenda.at(now + shared.config.saving, self._save)
        return self._out(now)

    def set_intent(
        self,
        now: float,
        status: str,
        *,
        agent: str = "",
        duration: float | None = None,
        reason: str = "",
        slots: int | None = None,
        load: int | None = None,
        tags: Iterable[str] | None = None,
    ) -> list[Effect]:
        """
        What a local agent says of itself; of several the busiest speaks for the node.

        @param status: C{online}, C{busy}, C{away} or C{offline}.
        @param agent: which local agent; C{""} is the operator.
        @param duration: seconds after which the intent before this one holds again.
        @param slots: how many more tasks it takes (0..65535), C{None}: it does not say.
        @param load: percent, 0..100.
        @raise PresenceError: something is out of range.
        """
        until = None if duration is None else now + duration
        intent = Intent(status, reason, slots, load, tuple(tags or ()), until)
        self._own.set(now, agent, intent)
        return self._out(now)

    def identity_changed(
        self, now: float, hostname: str, address: str, tags: Iterable[str]
    ) -> list[Effect]:
        """What the node is called, and its tags in the registry."""
        self._own.rename(now, hostname, address, tags)
        return self._out(now)

    def serve(self, now: float, on: bool) -> list[Effect]:
        """Let others watch our directory from now on, and have it stored; or no more."""
        shared = self._shared
        if on != shared.config.serve:
            shared.config = replace(shared.config, serve=on)
            if on and self._running:
                self._save(now)
        return self._out(now)

    def leave(self, now: float) -> list[Effect]:
        """A clean stop: the final C{offline}, and the directory to disk.  Nothing follows."""
        if not self._running:
            return []
        self._own.leave(now)
        self._swarm.leave(now)
        self._watching.stop()
        if self._shared.config.serve:
            self._shared.effects.append(Persist("directory", self.snapshot(now)))
        effects = self._out(now)
        self._running = False
        self._shared.agenda.clear()
        return effects

    # -- what comes in -----------------------------------------------------------------------

    def peers_changed(self, now: float, facts: Iterable[Mapping[str, Any]]) -> list[Effect]:
        """
        @param facts: every trusted peer as C{IPilotNode.peers} describes it, with C{"member"}:
            whether it belongs to our swarm (left out: it does).
        """
        facts = [fact for fact in facts if fact.get("node_id") != self._shared.node_id]
        self._intake.naming.facts(facts)
        self._standing.candidates = [int(fact["node_id"]) for fact in facts]
        self._swarm.members(now, [fact["node_id"] for fact in facts if fact.get("member", True)])
        return self._out(now)

    def on_datagram(self, now: float, peer: int, data: bytes | dict[str, Any]) -> list[Effect]:
        """A datagram of an authenticated peer; rubbish is counted."""
        if not self._enter(now, peer):
            return []
        try:
            document = _object(data)
            if document.get("v") == 1 and document.get("k") in KINDS:
                self._helping.received(now, peer, document, self._standing)
            else:
                self._swarm.datagram(now, peer, document)
        except BadMessage:
            self._shared.counters["malformed"] += 1
        return self._out(now)

    def on_record(self, now: float, source: int, payload: bytes | dict[str, Any]) -> list[Effect]:
        """
        Somebody published C{presence.status} on our broker.

        @param source: the authenticated publisher.  What it says of others needs their signature.
        """
        if not self._enter(now, source):
            return []
        entry = self._intake.published(now, source, payload)
        if entry is not None:
            self._swarm.alive(now, source, entry.number if entry.modern else None)
        return self._out(now)

    def on_message(self, now: float, peer: int, document: dict[str, Any]) -> list[Effect]:
        """A JSON message whose C{type} begins with C{presence_}."""
        if not self._enter(now, peer):
            return []
        kind = document.get("type")
        try:
            if kind == WATCH and self._shared.config.serve:
                self._serving.asked(now, peer, read_ask(document))
            elif kind == DELTA:
                self._watching.told(now, peer, read_delta(document))
            else:
                self._shared.counters["unknown_messages"] += 1
        except BadMessage:
            self._shared.counters["malformed"] += 1
        return self._out(now)

    def alive(self, now: float, node_id: int) -> list[Effect]:
        """Any other authenticated frame of that node came in."""
        if not self._enter(now, node_id):
            return []
        self._answered(now, node_id)
        return self._out(now)

    def connected(self, now: float) -> list[Effect]:
        """Proof that our own network works (the registry answered)."""
        if not self._enter(now):
            return []
        self._swarm.connected(now)
        return self._out(now)

    def hint(self, now: float, node_id: int) -> list[Effect]:
        """Something looked wrong (reset, dial failure, the registry says offline): verify now."""
        entry = self._shared.directory.get(node_id)
        if self._running:
            self._swarm.hint(now, node_id)
            if entry is not None and not entry.swarm and not entry.via:
                self._standing.check(now, entry, "something looked wrong")
        return self._out(now)

    def excuse(self, now: float, node_id: int | None = None) -> list[Effect]:
        """No verdicts for one lease: rekey or path switch of that node, or of ourselves."""
        self._swarm.excuse(now, node_id)
        entry = self._shared.directory.get(node_id) if node_id is not None else None
        if node_id is None:
            self._shared.view.grace(now)
        elif entry is not None:
            entry.excused = now + self._shared.config.lease
        return self._out(now)

    # -- answers to effects ------------------------------------------------------------------

    def published(self, now: float, target: str, ok: bool) -> list[Effect]:
        """Outcome of a L{skills.presence.core.effects.Publish}."""
        if ok:
            self._shared.view.inbound = now
        self._own.published(now, target, ok)
        return self._out(now)

    def message_failed(self, now: float, target: str | int) -> list[Effect]:
        """A L{skills.presence.core.effects.Message} could not be delivered."""
        if isinstance(target, int):
            self._serving.lost(target)
        else:
            self._watching.failed(now, target)
        return self._out(now)

    def pinged(self, now: float, token: int, ok: bool) -> list[Effect]:
        """Outcome of a L{skills.presence.core.effects.Ping}; a late C{True} still counts."""
        if not self._enter(now):
            return []
        node = self._standing.verifier.whose(token)
        if node is None:
            node = self._helping.pinged(token, ok)
        if node is None:
            node = self._searches.pinged(now, token, ok)
        if ok and node is not None:
            self._shared.view.inbound = now
            self._answered(now, node)
        return self._out(now)

    def verified(self, now: float, token: int, ok: bool | None) -> list[Effect]:
        """Outcome of a L{skills.presence.core.effects.Verify} or C{CheckSignature}."""
        if self._running:
            self._intake.naming.answered(now, token, ok)
        return self._out(now)

    def signed(self, now: float, token: int, signature: bytes | None) -> list[Effect]:
        """Outcome of a L{skills.presence.core.effects.Sign}: 64 bytes."""
        if self._running:
            self._own.signed(now, token, signature)
        return self._out(now)

    # -- time --------------------------------------------------------------------------------

    def on_timer(self, now: float) -> list[Effect]:
        """The deadline passed; called early it does nothing, called late it doubts itself."""
        if not self._enter(now):
            return []
        self._shared.agenda.run(now)
        self._swarm.timer(now)
        return self._out(now)

    def deadline(self) -> float | None:
        """@return: when L{on_timer} wants to be called; C{None} before the start and after."""
        if not self._running:
            return None
        shared = self._shared
        dues = (shared.agenda.due(), self._swarm.deadline(), shared.reporter.deadline())
        return min((due for due in dues if due is not None), default=None)

    def search(self, now: float, query: Query) -> tuple[int, list[Effect]]:
        """
        As L{find}, but those found are pinged first.
        @return: the token of the effect C{Found}, which has the result.
        @raise PresenceError: the query is out of range, or too many searches are under way.
        """
        token = self._searches.begin(now, query)
        return token, self._out(now)

    # -- within --------------------------------------------------------------------------------

    def _enter(self, now: float, peer: int | None = None) -> bool:
        """@return: whether we take part.  Notices that we stood still or slept."""
        if not self._running or peer == self._shared.node_id:
            return False
        view = self._shared.view
        due = self.deadline()
        if view.slept(now, self._shared.wall()):
            self._swarm.excuse(now, None)
            self._away(now, "resume")
        elif due is not None and now - due > STALL:
            self._away(now, "stall")
        if peer is not None:
            view.inbound = now
        return True

    def _away(self, now: float, cause: str) -> None:
        """We were not there: what we know is old, and silence says nothing about others."""
        self._standing.verifier.forget()
        self._shared.view.doubt_since = now
        self._doubt_for_a_lease(now, cause)
        for entry in self._shared.directory:
            if entry.reach == SUSPECT and not (entry.swarm or entry.via):
                self._standing.watch(entry, now)

    def _doubt_for_a_lease(self, now: float, cause: str) -> None:
        view = self._shared.view
        view.grace(now)
        self._standing.doubt(now, cause)
        self._shared.agenda.at(view.grace_until, self._graced, cause)

    def _graced(self, now: float, cause: str) -> None:
        view = self._shared.view
        if now < view.grace_until:
            self._shared.agenda.at(view.grace_until, self._graced, cause)
            return
        view.doubt_since = float("-inf")
        self._standing.trust(now, cause)

    def _out(self, now: float) -> list[Effect]:
        shared = self._shared
        if self._running:
            shared.effects.extend(shared.reporter.flush(now, shared.directory.version))
            self._serving.plan(now)
        return shared.take()

    def _answered(self, now: float, node: int) -> None:
        entry = self._shared.directory.get(node)
        self._swarm.alive(now, node)
        if entry is not None and not (entry.own or entry.via or entry.swarm):
            self._standing.answered(now, entry, "direct")

    def _raised(self, now: float) -> None:
        self._own.repeat(now)

    def _said(self, now: float, document: dict[str, Any], new: bool) -> None:
        """A record of ours leaves: it belongs in our own directory and, if new, in the swarm."""
        self._intake.own(now, document)
        if new:
            self._swarm.carry(now, document)

    def _sweep(self, now: float) -> None:
        shared = self._shared
        config = shared.config
        for entry in shared.directory.expire(now, config.forget, config.tombstone):
            self._standing.verifier.settle(now, entry.node)
            shared.view.absent(entry.node)
        shared.directory.expire_strangers(now, STRANGER_LIFE)
        shared.agenda.at(now + SWEEP, self._sweep)

    def _save(self, now: float) -> None:
        if not self._shared.config.serve:
            return
        version = self._shared.directory.version
        if version != self._saved:
            self._saved = version
            self._shared.effects.append(Persist("directory", self.snapshot(now)))
        self._shared.agenda.at(now + self._shared.config.saving, self._save)


def _object(data: bytes | dict[str, Any]) -> dict[str, Any]:
    """@raise BadMessage: it is no JSON object, or too long."""
    if isinstance(data, dict):
        return data
    if len(data) > MAX_ACCEPTED:
        raise BadMessage("the presence datagram is too long")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise BadMessage("the presence datagram is no JSON") from None
    if not isinstance(document, dict):
        raise BadMessage("the presence datagram is no JSON object")
    return document
