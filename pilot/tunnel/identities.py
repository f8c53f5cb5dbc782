"""Whose identity key is whose: asked of the registry, beside the traffic, never in its way."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.errors import PilotError
from pilot.tunnel.config import TunnelConfig

log = Logger()

#: What is done with a key once it is known; None stands for a node without one.
Then = Callable[[bytes | None], None]

#: Seconds after which a lookup that failed may be tried again.
RETRY = 2.0


class KeySource(Protocol):
    """Whoever knows the identity keys of nodes."""

    def identity_key(self, node_id: int) -> Deferred[bytes | None]:
        """@return: Deferred of the registered Ed25519 key, None if there is none."""


class _Known(NamedTuple):
    key: bytes | None
    fresh_until: float
    learned: float


class IdentityCache:
    """
    Remembers identity keys, and asks for those it does not know.

    Each lookup has a deadline; there are so many at a time, and one for each node.  While one is
    under way only the last question about its node is kept: a key frame that is dropped is
    repeated.  That a node has no key is remembered too, for a while.
    """

    def __init__(
        self,
        clock: IReactorTime,
        source: KeySource,
        config: TunnelConfig,
        counters: Counter[str],
    ) -> None:
        """@param counters: gets C{lookups}, C{lookups_refused}, C{lookups_superseded}."""
        self._clock = clock
        self._source = source
        self._config = config
        self._counters = counters
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._waiting: dict[int, Then | None] = {}
        self._lookups: dict[int, Deferred[bytes | None]] = {}

    def ask(
        self, node_id: int, offered: bytes | None, then: Then | None, *, urgent: bool = False
    ) -> None:
        """
        Find the identity key of a node.

        @param offered: the key that the node claims to have.  If it is not the one remembered, the
            registry is asked again, because keys are rotated.
        @param then: called with the key, at once if it is remembered.  Never called if the
            question is refused or superseded.
        @param urgent: we want something of this node ourselves: ask even if it had no key a moment
            ago, and however many strangers are being looked up.
        """
        now = self._clock.seconds()
        known = self._known.get(node_id)
        if known is not None:
            if known.key is None:
                good = now < known.fresh_until and not urgent
            elif offered is None or offered == known.key:
                good = True
                if now >= known.fresh_until and node_id not in self._lookups:
                    self._look_up(node_id, None, urgent)
            else:
                good = now < known.learned + self._config.identity_pause
            if good:
                if then is not None:
                    then(known.key)
                return
        if node_id in self._lookups:
            if then is not None:
                if self._waiting[node_id] is not None:
                    self._counters["lookups_superseded"] += 1
                self._waiting[node_id] = then
            return
        self._look_up(node_id, then, urgent)

    def forget(self, node_id: int) -> None:
        """Ask the registry the next time."""
        self._known.pop(node_id, None)

    def close(self) -> None:
        """Let go of the questions under way."""
        self._waiting = dict.fromkeys(self._waiting)
        for lookup in list(self._lookups.values()):
            lookup.cancel()

    def _look_up(self, node_id: int, then: Then | None, urgent: bool) -> None:
        if len(self._lookups) >= self._config.lookups and not urgent:
            self._counters["lookups_refused"] += 1
            return
        self._counters["lookups"] += 1
        self._waiting[node_id] = then
        lookup = maybeDeferred(self._source.identity_key, node_id)
        self._lookups[node_id] = lookup
        lookup.addTimeout(self._config.lookup_deadline, self._clock)
        lookup.addCallbacks(
            self._found, self._failed, callbackArgs=(node_id,), errbackArgs=(node_id,)
        )
        lookup.addErrback(self._broken)

    def _found(self, key: bytes | None, node_id: int) -> None:
        now = self._clock.seconds()
        life = self._config.identity_pause if key is None else self._config.identity_ttl
        self._remember(node_id, _Known(key, now + life, now))
        self._answer(node_id, key)

    def _failed(self, failure: Failure, node_id: int) -> None:
        # The registry is away.  A key once known is better than none: it was true, and whoever
        # holds its secret is no worse than before.
        if not isinstance(failure.value, (PilotError, DeferredTimeout, CancelledError)):
            log.failure("identity key of node {node_id} not found", failure, node_id=node_id)
        now = self._clock.seconds()
        known = self._known.get(node_id)
        key = known.key if known is not None else None
        learned = known.learned if known is not None else now
        self._remember(node_id, _Known(key, now + RETRY, learned))
        self._answer(node_id, key)

    def _answer(self, node_id: int, key: bytes | None) -> None:
        del self._lookups[node_id]
        then = self._waiting.pop(node_id)
        if then is not None:
            then(key)

    def _broken(self, failure: Failure) -> None:
        log.failure("a key frame was not handled", failure)

    def _remember(self, node_id: int, known: _Known) -> None:
        self._known[node_id] = known
        self._known.move_to_end(node_id)
        if len(self._known) > self._config.identities:
            self._known.popitem(last=False)
