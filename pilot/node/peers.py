"""What is known of the trusted peers, kept fresh while somebody asks.

The registry is asked at a steady, modest pace, so that a node with a thousand friends disturbs it
no more than one with ten does in a burst.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pilot.address import Address
from pilot.errors import PilotError
from pilot.node.directory import FRESH, PeerDirectory
from pilot.node.turnstile import Turnstile

log = Logger()

#: Look-ups under way at once, and look-ups a second.
LOOKUPS_AT_ONCE = 4
LOOKUP_RATE = 20.0

#: Seconds that an answer waits for peers that were never looked up.
FIRST_WAIT = 1.0

#: Seconds between two calls, about, that still keep everything fresh; and how soon, at the
#: earliest, a peer is looked up again.
MARGIN = 10.0
SOONEST = 5.0


class KnownPeers:
    """
    What C{IPilotNode.peers} does.

    @ivar lookups: how often the registry was asked.
    """

    def __init__(
        self,
        clock: IReactorTime,
        directory: PeerDirectory,
        trusted: Callable[[], Iterable[dict[str, Any]]],
    ) -> None:
        """@param trusted: gives the trusted peers, as C{IPilotNode.trusted} has them."""
        self.lookups = 0
        self._clock = clock
        self._directory = directory
        self._trusted = trusted
        self._turnstile = Turnstile(clock, at_once=LOOKUPS_AT_ONCE, rate=LOOKUP_RATE)
        self._due: dict[int, Deferred[None]] = {}
        self._asked_at: dict[int, float] = {}
        self._waiting: set[Deferred[None]] = set()

    def peers(self, *, fresh: bool = False) -> Deferred[list[dict[str, Any]]]:
        """
        @param fresh: for somebody who asks once and not again: wait for whatever is older than
            L{SOONEST}.
        @return: Deferred of the trusted peers, after L{FIRST_WAIT} seconds at most.
        """
        return Deferred.fromCoroutine(self._peers(fresh))

    async def _peers(self, fresh: bool) -> list[dict[str, Any]]:
        trusted = {entry["node_id"]: entry for entry in self._trusted()}
        awaited = self._refresh(trusted, fresh)
        if awaited:
            await self._wait_for(awaited)
        return [self._entry(trusted[node_id]) for node_id in sorted(trusted)]

    def close(self) -> None:
        """Ask nothing any more."""
        for lookup in reversed(list(self._due.values())):  # those that wait first, or they start
            lookup.cancel()
        for waiting in list(self._waiting):
            if not waiting.called:
                waiting.callback(None)

    def _entry(self, trusted: dict[str, Any]) -> dict[str, Any]:
        node_id = trusted["node_id"]
        facts = self._directory.facts(node_id)
        key = str(trusted.get("public_key") or "")
        if facts is not None and facts.public_key is not None:
            key = base64.b64encode(facts.public_key).decode("ascii")
        return {
            "node_id": node_id,
            "address": str(Address(0, node_id)),
            "hostname": facts.hostname if facts else "",
            "tags": list(facts.tags) if facts else [],
            "public_key": key,
        }

    # -- the registry --------------------------------------------------------------------------

    def _refresh(self, trusted: dict[int, Any], fresh: bool) -> set[int]:
        """
        Have asked about what is old.

        @return: those whose answer is worth waiting for: nothing is known of them, or nothing that
            this has asked for, or it is too old.
        """
        now = self._clock.seconds()
        for node_id in [each for each in self._asked_at if each not in trusted]:
            del self._asked_at[node_id]
        # One round takes that long, and all of it has to be over before the first is too old.
        old = SOONEST if fresh else max(SOONEST, FRESH - MARGIN - len(trusted) / LOOKUP_RATE)
        too_old = SOONEST if fresh else FRESH
        due, awaited = [], set()
        for node_id in trusted:
            asked = self._asked_at.get(node_id)
            age = self._directory.age(node_id)
            # A peer that the registry does not tell about is not asked for at every call.
            since = FRESH if asked is None else now - asked
            known_for = FRESH if age is None else age
            if asked is None or min(since, known_for) >= too_old:
                awaited.add(node_id)
            if node_id not in self._due and (asked is None or min(since, known_for) >= old):
                due.append((-known_for, node_id))
        for _, node_id in sorted(due):
            self._due[node_id] = lookup = Deferred.fromCoroutine(self._look_up(node_id))
            if lookup.called:
                self._due.pop(node_id, None)
        return {node_id for node_id in awaited if node_id in self._due}

    async def _look_up(self, node_id: int) -> None:
        try:
            await self._turnstile.enter()
            try:
                self.lookups += 1
                self._asked_at[node_id] = self._clock.seconds()
                await self._directory.lookup(node_id)
            finally:
                self._turnstile.leave()
        except PilotError as error:
            log.debug("node {node_id} not looked up: {why}", node_id=node_id, why=error.message)
        except CancelledError:
            pass
        finally:
            self._due.pop(node_id, None)

    def _wait_for(self, unknown: set[int]) -> Deferred[None]:
        """@return: Deferred that fires when all of them were asked about, or after a while."""
        left = set(unknown)
        enough: Deferred[None] = Deferred()
        self._waiting.add(enough)

        def answered(_: object, node_id: int) -> None:
            left.discard(node_id)
            if not left and not enough.called:
                enough.callback(None)

        def over(_: object) -> None:
            self._waiting.discard(enough)
            if timer.active():
                timer.cancel()

        def late() -> None:
            if not enough.called:
                enough.callback(None)

        timer = self._clock.callLater(FIRST_WAIT, late)
        enough.addBoth(over)
        for node_id in unknown:
            self._due[node_id].addBoth(answered, node_id)
        return enough
