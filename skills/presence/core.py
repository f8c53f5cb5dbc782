"""Presence of one node, sans-IO: its own status, everybody else's, and who may take work.

Signatures first; what it asks of its shell is in L{skills.presence.effects}.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from skills.presence.config import PresenceConfig
from skills.presence.effects import Effect
from skills.presence.finding import Query, Result


class PresenceCore:
    """
    Every method that takes C{now} (seconds, monotonic) and returns a list says what is to be done.
    L{deadline} may move with every call.
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

    # -- our own status ----------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        """Take part from now on: online unless L{set_intent} said otherwise."""
        raise NotImplementedError

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
        raise NotImplementedError

    def clear_intent(self, now: float, agent: str = "") -> list[Effect]:
        """That local agent has nothing to say any more."""
        raise NotImplementedError

    def identity_changed(
        self, now: float, hostname: str, address: str, tags: Iterable[str]
    ) -> list[Effect]:
        """What the node is called, and its tags in the registry."""
        raise NotImplementedError

    def leave(self, now: float) -> list[Effect]:
        """A clean stop: the final C{offline}, and the directory to disk.  Nothing follows."""
        raise NotImplementedError

    # -- what comes in -----------------------------------------------------------------------

    def peers_changed(self, now: float, facts: Iterable[Mapping[str, Any]]) -> list[Effect]:
        """
        @param facts: every trusted peer as C{IPilotNode.peers} describes it, with C{"member"}:
            whether it belongs to our swarm (left out: it does).
        """
        raise NotImplementedError

    def on_datagram(self, now: float, peer: int, data: bytes | dict[str, Any]) -> list[Effect]:
        """A datagram of an authenticated peer; rubbish is counted."""
        raise NotImplementedError

    def on_record(self, now: float, source: int, payload: bytes) -> list[Effect]:
        """
        Somebody published C{presence.status} on our broker.

        @param source: the authenticated publisher.  What it says of others needs their signature.
        """
        raise NotImplementedError

    def on_message(self, now: float, peer: int, document: dict[str, Any]) -> list[Effect]:
        """A JSON message whose C{type} begins with C{presence_}."""
        raise NotImplementedError

    def alive(self, now: float, node_id: int) -> list[Effect]:
        """Any other authenticated frame of that node came in."""
        raise NotImplementedError

    def connected(self, now: float) -> list[Effect]:
        """Proof that our own network works (the registry answered)."""
        raise NotImplementedError

    def hint(self, now: float, node_id: int) -> list[Effect]:
        """Something looked wrong (reset, dial failure, the registry says offline): verify now."""
        raise NotImplementedError

    def excuse(self, now: float, node_id: int | None = None) -> list[Effect]:
        """No verdicts for one lease: rekey or path switch of that node, or of ourselves."""
        raise NotImplementedError

    # -- answers to effects ------------------------------------------------------------------

    def published(self, now: float, target: str, ok: bool) -> list[Effect]:
        """Outcome of a L{Publish}."""
        raise NotImplementedError

    def message_failed(self, now: float, target: str | int) -> list[Effect]:
        """A L{Message} could not be delivered."""
        raise NotImplementedError

    def pinged(self, now: float, token: int, ok: bool) -> list[Effect]:
        """Outcome of a L{Ping}; a late C{True} still counts."""
        raise NotImplementedError

    def verified(self, now: float, token: int, ok: bool | None) -> list[Effect]:
        """Outcome of a L{Verify} or L{CheckSignature}."""
        raise NotImplementedError

    def signed(self, now: float, token: int, signature: bytes | None) -> list[Effect]:
        """Outcome of a L{Sign}: 64 bytes."""
        raise NotImplementedError

    # -- time --------------------------------------------------------------------------------

    def on_timer(self, now: float) -> list[Effect]:
        """The deadline passed; called early it does nothing, called late it doubts itself."""
        raise NotImplementedError

    def deadline(self) -> float | None:
        """@return: when L{on_timer} wants to be called; C{None} before the start and after."""
        raise NotImplementedError

    # -- questions; none of them changes anything but L{find} with C{pick} ----------------------

    def own(self, now: float) -> dict[str, Any]:
        """@return: our own entry, and what each local agent says."""
        raise NotImplementedError

    def get(self, now: float, host: str | int) -> dict[str, Any]:
        """
        @param host: hostname, address or node number.
        @return: C{{"node","hostname","addr","status","claim","reach","confidence","last_seen",
            "since","load","slots","tags","reason","ttl","verified","flapping","version"}};
            C{last_seen} in seconds by our clock, C{since} seconds the status lasts.
        @raise UnknownAgent: nobody of that name is known.
        """
        raise NotImplementedError

    def agents(
        self,
        now: float,
        *,
        status: Iterable[str] = (),
        tags: Iterable[str] = (),
        everybody: bool = False,
    ) -> list[dict[str, Any]]:
        """
        @param status: only these; none: all but C{offline}.
        @param everybody: offline and unverified ones too.
        @return: as L{get}, by hostname.
        """
        raise NotImplementedError

    def find(self, now: float, query: Query) -> Result:
        """Who is available for work; see L{skills.presence.finding}."""
        raise NotImplementedError

    def search(self, now: float, query: Query) -> tuple[int, list[Effect]]:
        """As L{find}, but those found are pinged first; the effect L{Found} has the result."""
        raise NotImplementedError

    def explain(self, now: float, host: str | int) -> dict[str, Any]:
        """@return: as L{get}, and C{"trail"}: the evidence behind the verdict, oldest first."""
        raise NotImplementedError

    def history(self, now: float, host: str | int) -> list[dict[str, Any]]:
        """@return: C{{"ago","from","to","cause","inc","seq"}}, oldest first, at most 100."""
        raise NotImplementedError

    def view(self, now: float) -> dict[str, Any]:
        """@return: whether our view is to be believed: C{{"stale","cause","for"}}."""
        raise NotImplementedError

    def stats(self, now: float) -> dict[str, Any]:
        """@return: counters and levels, JSON ready."""
        raise NotImplementedError

    def snapshot(self, now: float) -> bytes:
        """@return: the directory for the disk, what C{restored} takes."""
        raise NotImplementedError
