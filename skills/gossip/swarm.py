"""One swarm that this node is in, as programs use it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from pilot.address import Address
from pilot.errors import PilotError, TimedOut
from skills.gossip.core.document import flatten
from skills.gossip.core.effects import Effect, PeerFacts, Persist, Send
from skills.gossip.core.errors import BadMessage, Refused
from skills.gossip.core.register import Register
from skills.gossip.shell.hands import Hands, Watcher, failed_now
from skills.gossip.shell.options import SwarmOptions

if TYPE_CHECKING:
    from skills.gossip.shell.surroundings import Surroundings

#: Members that are asked when nobody in particular is to be compared with.
SYNC_PARTNERS = 3

#: Seconds after which a comparison that was asked for counts as failed.
SYNC_TIMEOUT = 45.0

#: Seconds that a survey waits for members to answer, and between looks whether they have.
SURVEY_PATIENCE, SURVEY_LOOK = 6.0, 0.2

_T = TypeVar("_T")


class Swarm:
    """
    A swarm, joined.

    Reading is immediate and from this node's own copy.  What changes it returns a Deferred that
    fires when the change stands here and is stored; it fails with a C{PilotError}.

    @ivar name: its name.
    @ivar options: how it is run.
    @ivar storage: its files.
    @ivar spoke: when a trusted peer last named this swarm, by node.
    @ivar watchers: who is told of events.
    """

    def __init__(
        self,
        name: str,
        options: SwarmOptions,
        surroundings: Surroundings,
        incarnation: int,
        watchers: list[Watcher] | None = None,
    ) -> None:
        """
        Read the files of the swarm and take part in it.

        @param watchers: those of the same swarm before its options were changed.
        """
        self.name = name
        self.options = options
        self.spoke: dict[int, float] = {}
        self.watchers: list[Watcher] = [] if watchers is None else watchers
        self._around = surroundings
        self._hands = Hands(name, options, surroundings, incarnation, self.watchers)
        self._replica = self._hands.replica
        self.storage = self._hands.storage

    # -- reading -------------------------------------------------------------------------------

    def get(self, key: str) -> Any:
        """
        @return: the value at a key, an object of everything below if there is more; read-only.
        @raise NotFound: there is nothing.
        """
        return self._replica.get(key)

    def document(self) -> dict[str, Any]:
        """@return: everything; read-only."""
        return self._replica.document()

    def items(self, prefix: str = "") -> list[Register]:
        """@return: what stands at and below a key, sorted by key."""
        return self._replica.items(prefix)

    @property
    def root(self) -> str:
        """16 hex digits, equal for members that hold the same."""
        return self._replica.root

    def members(self) -> list[dict[str, Any]]:
        """@return: one JSON-ready object a member; see L{skills.gossip.core.status.members}."""
        rows = self._replica.members(self._around.now())
        return [{**row, "address": str(Address(0, row["node_id"]))} for row in rows]

    def stats(self) -> dict[str, Any]:
        """@return: JSON-ready; L{skills.gossip.core.status.status}, and how it is run and kept."""
        return {
            **self._replica.status(self._around.now()),
            "options": self.options.to_dict(),
            "tagged": self._around.tagged(self.name),
            "storage": self.storage.status(),
            "watchers": len(self.watchers),
            **self._hands.counts,
        }

    # -- writing -------------------------------------------------------------------------------

    def set(
        self, key: str, value: Any, *, replace: bool = False, ttl: float | None = None
    ) -> Deferred[str]:
        """
        Write.  An object is merged into what is there, unless it shall C{replace} it.

        @param ttl: seconds until it goes by itself.
        @return: Deferred of the time of the write, 16 hex digits.
        """
        return self._written(
            lambda now: self._replica.local_set(now, key, value, replace=replace, ttl=ttl),
            lambda: max((each.hlc for each in self.items(key)), default=""),
        )

    def delete(self, key: str) -> Deferred[int]:
        """@return: Deferred of how many keys are gone: this one, and those below it."""
        try:
            number = len(self.items(key))
        except BadMessage:
            number = 0
        return self._written(lambda now: self._replica.local_delete(now, key), lambda: number)

    def merge(self, document: dict[str, Any]) -> Deferred[int]:
        """
        Merge a whole document, leaf by leaf.

        If it is refused in the middle, what was written before stays.

        @return: Deferred of how many values it has.
        """

        def write(now: float) -> list[Effect]:
            effects: list[Effect] = []
            for key, leaf in leaves:
                try:
                    effects += self._replica.local_set(now, key, leaf)
                except Refused as refusal:
                    # What was taken so far is to be stored and spread; its effects are here.
                    self._hands.carry_out(_stored_at_once(effects))
                    raise Refused(
                        refusal.reason, f"{refusal.message} (at {key})", hint=refusal.hint
                    ) from None
            return _stored_at_once(effects)

        leaves: list[tuple[str, Any]] = []
        try:
            leaves.extend(flatten("", document) if document else ())
        except BadMessage:
            return failed_now()
        return self._written(write, lambda: len(leaves))

    def _written(
        self, step: Callable[[float], list[Effect]], answer: Callable[[], _T]
    ) -> Deferred[_T]:
        """Have the replica write; wait for signatures if it wants some."""
        try:
            effects = step(self._around.now())
        except PilotError:
            self._hands.arm()
            return failed_now()
        waiting = self._hands.carry_out(effects)
        self._hands.arm()
        done: Deferred[Any] = gatherResults(waiting, consumeErrors=True)
        written: Deferred[_T] = done.addCallbacks(lambda _: answer(), _first)
        return written

    # -- following -----------------------------------------------------------------------------

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """
        Have C{watcher(name, data)} called for every event; see L{skills.gossip.core.effects.Event}.

        @return: ends it.
        """
        watchers = self.watchers
        watchers.append(watcher)

        def stop() -> None:
            with suppress(ValueError):
                watchers.remove(watcher)

        return stop

    # -- on request ----------------------------------------------------------------------------

    def sync(self, peer: int | None = None) -> Deferred[dict[str, Any]]:
        """
        Compare with a member now, or with whichever of a few answers.

        @return: Deferred of C{{"agreed", "peer", "root", "theirs", "cause"}}; fails with
            C{NotFound} when there is nobody to compare with.
        """
        return Deferred.fromCoroutine(self._sync(peer))

    async def _sync(self, peer: int | None) -> dict[str, Any]:
        asked = {peer} if peer is not None else set(self._partners())
        ended: Deferred[dict[str, Any]] = Deferred()
        differing: dict[int, dict[str, Any]] = {}

        def heard(name: str, data: dict[str, Any]) -> None:
            if data.get("peer") not in asked or ended.called:
                return
            if name == "gossip.synced":
                ended.callback({"agreed": True, **data})
            elif name == "gossip.diverged":
                differing[data["peer"]] = {"agreed": False, **data}
                if len(differing) == len(asked):
                    ended.callback(differing[data["peer"]])

        stop = self.watch(heard)
        try:
            if not asked:
                self._hands.turn(self._replica.sync, None)  # which says that there is nobody
            for each in asked:
                self._hands.turn(self._replica.sync, each)
            if not ended.called:
                ended.addTimeout(SYNC_TIMEOUT, self._around.reactor, _too_slow)
            return await ended
        finally:
            stop()

    def _partners(self) -> list[int]:
        """@return: members that may well answer."""
        able = [
            row
            for row in self._replica.members(self._around.now())
            if row["trusted"] and row["version"] != 1
        ]
        well = [row for row in able if row["standing"] in ("online", "unknown")] or able
        chosen = self._around.rng.sample(well, min(SYNC_PARTNERS, len(well)))
        return [row["node_id"] for row in chosen]

    def push(self, data: dict[str, Any] | None = None) -> Deferred[list[dict[str, Any]]]:
        """
        Push to some members in the form that scripts use: C{data}, or everything.

        @return: Deferred of C{[{"node_id", "address", "sent": bool, "error": str | None}]}.
        """
        effects = self._replica.push_now(self._around.now(), data)
        outcomes = [
            self._hands.send(effect).addCallback(_outcome, effect.peer)
            for effect in effects
            if isinstance(effect, Send)
        ]
        self._hands.carry_out([effect for effect in effects if not isinstance(effect, Send)])
        self._hands.arm()
        return gatherResults(outcomes)

    def fold(self, peer: int, document: dict[str, Any]) -> int:
        """
        Take a push that came earlier and was kept elsewhere.

        @return: how many keys it has changed.
        @raise PilotError: it is none, or not its sender's to send.
        """
        number, effects = self._replica.fold(self._around.now(), peer, document)
        self._hands.carry_out(effects)
        self._hands.arm()
        return number

    async def doctor(self) -> dict[str, Any]:
        """
        Ask all members, wait for their answers, and tell what is wrong.

        @return: JSON-ready; see L{skills.gossip.core.status.doctor}.
        """
        began = self._around.now()
        self._hands.turn(self._replica.survey)
        patience = SURVEY_PATIENCE + len(self.members()) / 16
        while (passed := self._around.now() - began) < patience and not self._hands.over:
            if not any(_unheard(row, passed) for row in self._replica.members(self._around.now())):
                break
            await self._around.pause(SURVEY_LOOK)
        return self._replica.doctor(self._around.now())

    # -- for the service -----------------------------------------------------------------------

    def heard(self, peer: int, document: dict[str, Any], size: int) -> None:
        """A message of a trusted peer."""
        self._hands.heard(peer, document, size)

    def members_changed(self, facts: Iterable[PeerFacts]) -> None:
        """These trusted peers carry the tag, or have spoken."""
        self._hands.turn(self._replica.members_changed, facts)

    def tick(self) -> None:
        """To be called once a second."""
        self._hands.tick()

    def leave(self) -> list[Deferred[Any]]:
        """Say good-bye, stop, and delete the files.  @return: what is on its way."""
        return self._hands.leave()

    def close(self) -> None:
        """Stop until the next start."""
        self._hands.close()


def _stored_at_once(effects: list[Effect]) -> list[Effect]:
    """@return: the same effects with one order to store, ahead of all others."""
    orders = [effect for effect in effects if isinstance(effect, Persist)]
    if len(orders) < 2:
        return effects
    records = tuple(record for order in orders for record in order.records)
    urgent = any(order.urgent for order in orders)
    others = [effect for effect in effects if not isinstance(effect, Persist)]
    return [Persist(records, urgent), *others]


def _unheard(row: dict[str, Any], passed: float) -> bool:
    """@return: whether a member may still answer to a question asked so many seconds ago."""
    if not row["trusted"] or row["version"] == 1 or row["standing"] == "left":
        return False
    heard = row.get("heard")
    return heard is None or heard > passed


def _outcome(error: str | None, peer: int) -> dict[str, Any]:
    return {
        "node_id": peer,
        "address": str(Address(0, peer)),
        "sent": error is None,
        "error": error,
    }


def _first(reason: Failure) -> Failure:
    """@return: the failure itself instead of that of the gathering."""
    return getattr(reason.value, "subFailure", reason)


def _too_slow(_: object, seconds: float) -> None:
    raise TimedOut(f"no agreement within {seconds:g} s")
