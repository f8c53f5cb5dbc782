"""What peers say, on port 444 and through the registry's mailbox, and what is made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pilot.errors import PilotError
from pilot.trust.background import Background
from pilot.trust.gate import ILookup, key_of, networks_of
from pilot.trust.ledger import Happening, Ledger
from pilot.trust.mailbox import Mail, MailedRequest, MailedResponse
from pilot.trust.memberships import Memberships
from pilot.trust.records import Pending, Record, Requested, Revoked, Trusted
from pilot.trust.relation import IRelation, News
from pilot.trust.screening import Screening
from pilot.wire.handshake import ACCEPT, REJECT, REQUEST, HandshakeMessage

log = Logger()

#: Peers whose request waits for the user, and peers we trust.
MAX_PENDING, MAX_TRUSTED = 256, 16384

#: Messages being looked at: of all peers, and of one.
CONCURRENT_MESSAGES, CONCURRENT_PER_PEER = 64, 8

#: Seconds that a doubtful revocation gets to reach the registry before the pair is looked up.
DOUBT_DELAY = 5.0

#: Seconds by which whole-second times of two clocks set alike may disagree.
CLOCK_GRAIN = 2.0


class IIncomingRegistry(ILookup, Protocol):
    """What judging peers' news needs of a registry client."""

    def check_trust(self, peer: int) -> Deferred[dict[str, Any]]: ...  # pragma: no cover


class Incoming:
    """
    @ivar node_id: own node id.
    @ivar auto_approve: whether every request is granted at once.
    @ivar clock_offset: seconds by which the registry's clock is ahead of ours, as far as known.
    @ivar counters: what was ignored, by reason.
    """

    def __init__(
        self,
        clock: IReactorTime,
        registry: IIncomingRegistry,
        ledger: Ledger,
        memberships: Memberships,
        background: Background,
        *,
        node_id: int,
        auto_approve: bool,
        wall_time: Callable[[], float],
        on_event: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self.node_id = node_id
        self.auto_approve = auto_approve
        self.clock_offset = 0.0
        self.counters: Counter[str] = Counter()
        self.screening = Screening(
            clock, registry, wall_time=wall_time, known_key=memberships.known_key
        )
        self._registry = registry
        self._ledger = ledger
        self._memberships = memberships
        self._background = background
        self._wall_time = wall_time
        self._on_event = on_event
        self._busy: Counter[int] = Counter()
        self._locks: dict[int, DeferredLock] = {}
        self._doubted: set[int] = set()

    # -- port 444 ----------------------------------------------------------------------------------

    def message(self, sender: int, data: bytes) -> None:
        """Take one message; it is acted on or ignored, and the reason is counted."""
        if sender == self.node_id:
            return
        if self._busy.total() >= CONCURRENT_MESSAGES or self._busy[sender] >= CONCURRENT_PER_PEER:
            self.counters["busy"] += 1
            return
        self._busy[sender] += 1
        lock = self._locks.setdefault(sender, DeferredLock())

        def done(result: object) -> object:
            self._busy[sender] -= 1
            if not self._busy[sender]:
                del self._busy[sender], self._locks[sender]
            return result

        # One after the other, so that a revocation cannot overtake the acceptance before it.
        work = lock.run(lambda: Deferred.fromCoroutine(self._receive(sender, data)))
        self._background.watch(work.addBoth(done))

    async def _receive(self, sender: int, data: bytes) -> None:
        believed = await self.screening.screen(self.node_id, sender, data)
        if believed is None:
            return
        message, networks = believed
        self._memberships.note_key(sender, message.public_key)
        news = News(self._wall_time(), message.justification, message.public_key)
        if message.type == REQUEST:
            await self._requested_by(sender, news, networks)
        elif message.type == ACCEPT:
            self._answered_by(sender, IRelation.accept_received, news)
        elif message.type == REJECT:
            self._answered_by(sender, IRelation.reject_received, news)
        else:
            self._revoked_by(sender, news, message)

    # -- the mailbox -------------------------------------------------------------------------------

    async def mail(self, mail: list[Mail]) -> None:
        """Take what the mailbox held; the registry has verified the senders."""
        self._ledger.retry_unsaved()
        for item in mail:
            if item.node_id == self.node_id:
                continue
            if isinstance(item, MailedRequest):
                facts = await self._memberships.facts(item.node_id)
                self._memberships.note_key(item.node_id, key_of(facts))
                news = News(self._wall_time(), item.justification, key_of(facts), relayed=True)
                await self._requested_by(item.node_id, news, networks_of(facts))
            else:
                await self._mailed_response(item)

    async def _mailed_response(self, item: MailedResponse) -> None:
        record = self._ledger[item.node_id]
        arrived = item.timestamp - self.clock_offset + CLOCK_GRAIN
        if isinstance(record, Trusted):
            if not item.accept and arrived >= int(record.approved_at):
                self._doubt(item.node_id, record)
            return
        if isinstance(record, Requested) and not record.drained and arrived < int(record.asked_at):
            self.counters["stale_answer"] += 1
            return
        key = ""
        if item.accept and isinstance(record, Requested):
            key = key_of(await self._memberships.facts(item.node_id))
        happening = IRelation.accept_received if item.accept else IRelation.reject_received
        self._answered_by(item.node_id, happening, News(self._wall_time(), "", key, relayed=True))

    # -- what it means -----------------------------------------------------------------------------

    async def _requested_by(self, node_id: int, news: News, networks: frozenset[int]) -> None:
        """A peer asks.  A rule may decide for the user, but not against his last word."""
        self._on_event("handshake.received", {"peer_node_id": node_id, "justification": news.text})
        if networks:
            news = news._replace(network=await self._memberships.shared(node_id, networks))
        record = self._ledger[node_id]
        admitted = bool(news.network) or self.auto_approve
        if isinstance(record, Revoked) and record.by_user:
            admitted = False
        if self._is_full(record, admitted):
            return
        happening = IRelation.request_admitted if admitted else IRelation.request_received
        self._ledger.apply_or_keep(node_id, happening, news)

    def _is_full(self, record: Record, admitted: bool) -> bool:
        if isinstance(record, Trusted | Requested):
            return False
        if admitted:
            full = self._ledger.count(Trusted) >= MAX_TRUSTED
        else:
            full = self._ledger.count(Pending) >= MAX_PENDING and not isinstance(record, Pending)
        if full:
            self.counters["trusted_full" if admitted else "pending_full"] += 1
        return full

    def _answered_by(self, node_id: int, happening: Happening, news: News) -> None:
        if not isinstance(self._ledger[node_id], Requested):
            self.counters["unasked"] += 1
        self._ledger.apply_or_keep(node_id, happening, news)

    def _revoked_by(self, node_id: int, news: News, message: HandshakeMessage) -> None:
        """A revocation counts unless it is older than what it would revoke."""
        record = self._ledger[node_id]
        if message.timestamp >= int(_since(record)):
            self._ledger.apply_or_keep(node_id, IRelation.revoke_received, news)
            return
        self.counters["stale_revoke"] += 1
        if isinstance(record, Trusted):
            # Or the peer's clock is slow.  Whoever revokes tells the registry, too.
            self._doubt(node_id, record)

    def doubts(self, node_id: int) -> bool:
        """@return: whether something hints at a revocation by C{node_id} and is being checked."""
        return node_id in self._doubted

    def _doubt(self, node_id: int, record: Trusted) -> None:
        """Something hints at a revocation: ask the registry whether the pair still stands."""
        if node_id in self._doubted:
            return
        self._doubted.add(node_id)

        async def check() -> None:
            try:
                answer = await self._registry.check_trust(node_id)
            except PilotError as error:
                log.debug("pair with {node} not checked: {error}", node=node_id, error=error)
                return
            finally:
                self._doubted.discard(node_id)
            if answer.get("trusted") is False and self._ledger[node_id] == record:
                news = News(self._wall_time())
                self._ledger.apply_or_keep(node_id, IRelation.revoke_received, news)

        self._background.later(
            DOUBT_DELAY, lambda: self._background.watch(Deferred.fromCoroutine(check()))
        )


def _since(record: Record) -> float:
    """When the relation came to stand as it does, own Unix time."""
    match record:
        case Trusted():
            return record.approved_at
        case Requested():
            return record.asked_at
        case Pending():
            return record.received_at
        case _:
            return 0.0
