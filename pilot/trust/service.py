"""Trust of a node: what the user decides, what peers say, and who may connect.

@see: C{docs/trust.md}; protocol notes, I{Trust: handshake, relay, files}.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pilot.address import PORT_HANDSHAKE
from pilot.crypto.identity import Identity
from pilot.errors import ConnectionFailed, InvalidArgument, NotFound, PilotError, RegistryError
from pilot.trust.background import Background, within
from pilot.trust.errands import Errands, IErrandRegistry
from pilot.trust.gate import SharedNetworks
from pilot.trust.incoming import MAX_TRUSTED, IIncomingRegistry, Incoming
from pilot.trust.ledger import Happening, Ledger
from pilot.trust.letters import Letters
from pilot.trust.mailbox import CALM_INTERVAL, IMailboxRegistry, Mailbox
from pilot.trust.memberships import Memberships
from pilot.trust.records import Pending, Record, Requested, Revoked, Step, Trusted
from pilot.trust.relation import IRelation, News
from pilot.trust.screening import MAX_AHEAD, MAX_BEHIND
from pilot.trust.store import TrustStore
from pilot.wire.handshake import MAX_MESSAGE

log = Logger()

#: Peers we have asked and that have not answered.
MAX_REQUESTED = 256

#: Bytes of a justification, so that the registry's mailbox takes it as well.
MAX_JUSTIFICATION = 1024

#: Seconds after which the user is answered although a request is still on its way.
ANSWER_WITHIN = 3.0

#: Seconds that asking waits for the mailbox to be emptied first.
DRAIN_PATIENCE = 1.0

#: Trusted peers reported at the same time after the registry lost us.
CONCURRENT_REPORTS = 4

#: Seconds after which streams and tunnel of a peer that revoked are dropped: its message has to
#: be acknowledged through them.
FAREWELL = 1.0


class ITrustRegistry(IErrandRegistry, IMailboxRegistry, IIncomingRegistry, Protocol):
    """
    What trust needs of a registry client.

    Every Deferred is of the reply; it fails with C{RegistryError} when the registry declined, and
    with another L{PilotError} when it did not answer.
    """


def _nothing(*_: object) -> None:
    """Nobody wants to know."""


class TrustService:
    """
    The trust of one node.

    @ivar public: whether anybody may connect.
    """

    def __init__(
        self,
        clock: IReactorTime,
        store: TrustStore,
        identity: Identity,
        node_id: int,
        registry: ITrustRegistry,
        *,
        send_message: Callable[[int, bytes], Deferred[None]],
        on_event: Callable[[str, dict[str, Any]], None] = _nothing,
        public: bool = False,
        auto_approve: bool = False,
        poll_interval: float = CALM_INTERVAL,
        drop_streams: Callable[[int], None] = _nothing,
        drop_tunnel: Callable[[int], None] = _nothing,
        wall_time: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        """
        Read the trust file; nothing is sent before L{start}.

        @param node_id: own node id, as the registry gave it.
        @param send_message: opens a stream to port 444 of a node, writes the bytes as one
            segment, closes; its Deferred fires once they are acknowledged.
        @param on_event: told the webhook events (protocol notes, I{Webhook events}).
        @param auto_approve: grant every request at once.
        @param poll_interval: seconds between looks into the registry's mailbox.
        @param drop_streams: ends all streams with a node that is not trusted any more.
        @param drop_tunnel: forgets keys and endpoint of such a node; comes later, since the
            message of the revocation goes through the tunnel.
        @param wall_time: Unix time, in seconds.
        @raise TrustUnreadable: the trust file is there and cannot be read.
        """
        self.public = public
        self._clock = clock
        self._registry = registry
        self._wall_time = wall_time
        self._drop_streams = drop_streams
        self._drop_tunnel = drop_tunnel
        self._skew_reported = False
        self._counters: Counter[str] = Counter()
        self._background = Background(clock)
        self._letters = Letters(identity, node_id, send_message=send_message, wall_time=wall_time)
        self._errands = Errands(
            clock,
            registry,
            random.Random() if rng is None else rng,
            tell=self._letters.send,
            wall_time=wall_time,
            on_change=lambda: self._ledger.save_soon(),
            on_parted=self._parted,
        )
        self._ledger = Ledger(
            clock,
            store,
            self._errands,
            wall_time=wall_time,
            on_event=on_event,
            on_severed=self._severed,
        )
        self._networks = SharedNetworks(clock, registry)
        self._memberships = Memberships(
            registry,
            self._networks,
            self._ledger,
            self._background,
            node_id=node_id,
            wall_time=wall_time,
        )
        self._incoming = Incoming(
            clock,
            registry,
            self._ledger,
            self._memberships,
            self._background,
            node_id=node_id,
            auto_approve=auto_approve,
            wall_time=wall_time,
            on_event=on_event,
        )
        self._mailbox = Mailbox(
            clock,
            registry,
            self._incoming.mail,
            on_return=self._errands.hurry,
            interval=poll_interval,
        )

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look into the mailbox, go on with what is owed, watch over memberships."""
        self._ledger.start()
        self._mailbox.start()
        self._memberships.start()

    def stop(self) -> None:
        """Send nothing any more; what is owed goes on after the next start."""
        self._mailbox.stop()
        self._ledger.stop()
        self._errands.stop()
        self._background.stop()

    @property
    def node_id(self) -> int:
        """Own node id; set it again if the registry gives another."""
        return self._letters.node_id

    @node_id.setter
    def node_id(self, node_id: int) -> None:
        self._letters.node_id = node_id
        self._memberships.node_id = node_id
        self._incoming.node_id = node_id

    # -- the user ----------------------------------------------------------------------------------

    def handshake(self, node_id: int, justification: str = "") -> Deferred[dict[str, Any]]:
        """
        Ask C{node_id} for trust: directly, or through the registry when it cannot be dialled.

        @return: Deferred of C{node_id} and C{status}: C{"sent"}, also when it is still on its
            way after some seconds, or C{"already_trusted"}.  It fails with L{InvalidArgument}
            (text too long) or with what the registry said (C{handshake relay: registry: ...}).
        """
        asking = self._handshake(node_id, justification)
        return self._background.own(Deferred.fromCoroutine(asking))

    def approve(self, node_id: int) -> Deferred[dict[str, Any]]:
        """
        Grant the request of C{node_id}.  The peer and the registry are told in the background.

        @return: Deferred of C{node_id} and C{status}, C{"approved"}, also when nothing was
            pending.  It fails with C{TrustNotSaved}.
        """
        return maybeDeferred(self._decide, node_id, IRelation.approve, "approved")

    def reject(self, node_id: int, reason: str = "") -> Deferred[dict[str, Any]]:
        """
        Turn the request of C{node_id} down.

        @return: Deferred of C{node_id} and C{status}, C{"rejected"}, also when nothing was
            pending: the peer is told all the same, unless it is trusted.
        """
        return maybeDeferred(self._decide, node_id, IRelation.reject, "rejected", reason)

    def untrust(self, node_id: int) -> Deferred[dict[str, Any]]:
        """
        Take trust in C{node_id} back; a request from it or to it is taken back, too.

        @return: Deferred of C{node_id} and C{status}, C{"revoked"}.  It fails with L{NotFound}
            (C{node N was not trusted}).
        """
        return maybeDeferred(self._untrust, node_id)

    def pending(self) -> list[dict[str, Any]]:
        """@return: the requests that wait for the user, in the shape of the control socket's."""
        return [
            {
                "node_id": node_id,
                "public_key": record.public_key,
                "justification": record.justification,
                "received_at": int(record.received_at),
            }
            for node_id, record in self._ledger
            if isinstance(record, Pending)
        ]

    def trusted(self) -> list[dict[str, Any]]:
        """@return: the trusted peers, in the shape of the control socket's."""
        return [
            {
                "node_id": node_id,
                "public_key": record.public_key,
                "approved_at": int(record.approved_at),
                "mutual": record.mutual,
                "network": record.network,
            }
            for node_id, record in self._ledger
            if isinstance(record, Trusted)
        ]

    def _decide(
        self, node_id: int, happening: Happening, status: str, text: str = ""
    ) -> dict[str, Any]:
        _check_node_id(node_id)
        if (
            happening is IRelation.approve
            and isinstance(self._ledger[node_id], Pending)
            and self._ledger.count(Trusted) >= MAX_TRUSTED
        ):
            raise ConnectionFailed(f"{MAX_TRUSTED} nodes are trusted already")
        self._ledger.apply(node_id, happening, News(self._wall_time(), text)).addErrback(_nothing)
        return {"node_id": node_id, "status": status}

    def _untrust(self, node_id: int) -> dict[str, Any]:
        trusted = self.is_trusted(node_id)
        answer = self._decide(node_id, IRelation.revoke, "revoked")
        if not trusted:
            raise NotFound(f"node {node_id} was not trusted", hint="see who is: pilotctl trust")
        return answer

    async def _handshake(self, node_id: int, justification: str) -> dict[str, Any]:
        _check_node_id(node_id)
        self._check_justification(node_id, justification)
        answer = {"node_id": node_id, "status": "sent"}
        if node_id == self.node_id:
            return answer  # as good as done: the gate never keeps a node from itself
        drained = False
        if not isinstance(self._ledger[node_id], Requested | Trusted):
            # Whatever lies in the mailbox now answers something older than this request.
            drained = bool(await within(self._clock, self._mailbox.poll(), DRAIN_PATIENCE))
        before = self._ledger[node_id]
        if isinstance(before, Trusted):
            return {"node_id": node_id, "status": "already_trusted"}
        if not isinstance(before, Requested) and self._ledger.count(Requested) >= MAX_REQUESTED:
            self._counters["requested_full"] += 1
            raise ConnectionFailed(
                f"{MAX_REQUESTED} requests wait for an answer already",
                hint="take one back: pilotctl untrust NODE",
            )
        news = News(self._wall_time(), justification, drained=drained)
        delivery = self._ledger.apply(node_id, IRelation.ask, news)
        self._mailbox.hurry()
        try:
            await within(self._clock, delivery, ANSWER_WITHIN)
        except PilotError as error:
            if self.is_trusted(node_id):
                return answer  # the peer had asked as well; only its request was out of reach
            if not (isinstance(error, RegistryError) and "already pending" in error.message):
                self._ledger.take_back(node_id, before)
            text = f"handshake relay: registry: {error.message}"
            raise type(error)(text, hint=error.hint) from error
        return answer

    def _check_justification(self, node_id: int, justification: str) -> None:
        size = len(justification.encode("utf-8", "replace"))
        message = self._letters.write(node_id, Step.ASK, justification)
        if size > MAX_JUSTIFICATION:
            complaint = f"{size} bytes (max {MAX_JUSTIFICATION})"
        elif len(message) > MAX_MESSAGE:
            complaint = f"with its escapes the message exceeds {MAX_MESSAGE} bytes"
        else:
            return
        raise InvalidArgument(
            f"justification too long: {complaint}", hint="shorten it; nothing was sent"
        )

    # -- the gate ----------------------------------------------------------------------------------

    def allows(self, node_id: int, port: int) -> bool:
        """
        Whether C{node_id} may open a stream to C{port} or send a datagram there.  Answers at
        once, from memory; a node whose networks are not known is looked up in the background.

        @param node_id: the peer that the tunnel has authenticated.
        """
        if self.public or node_id == self.node_id:
            return True
        record = self._ledger[node_id]
        kind = type(record)
        if kind is Trusted or (kind is Requested and port == PORT_HANDSHAKE):
            return True
        if kind is Revoked and self._errands.owes(node_id, Step.REVOKE):
            self._errands.hurry(node_id)  # it is there, and has not heard yet
        return self._networks.admits(node_id)

    def key_seen(self, node_id: int, key: str) -> None:
        """
        The registry has named the key of a node.

        @param key: as base64; a trusted node with another key than on record is trusted no more.
        """
        self._memberships.note_key(node_id, key)

    def is_trusted(self, node_id: int) -> bool:
        """@return: whether C{node_id} is on the list of trusted peers."""
        return type(self._ledger[node_id]) is Trusted

    def record(self, node_id: int) -> Record:
        """@return: what is known of C{node_id}; None for a stranger."""
        return self._ledger[node_id]

    # -- what the node tells -----------------------------------------------------------------------

    def message_received(self, peer_node_id: int, data: bytes) -> None:
        """
        Take one message from port 444.  It is acted on or ignored; the sender is never answered on
        its stream.

        @param peer_node_id: the peer that the tunnel has authenticated.
        @param data: the first segment of its stream.
        """
        self._incoming.message(peer_node_id, data)

    def poll(self) -> Deferred[bool]:
        """@return: Deferred of whether the registry's mailbox was read and is empty now."""
        return self._mailbox.poll()

    def notified(self, event: str = "handshakes") -> None:
        """The registry says that something has arrived."""
        if event == "handshakes":
            self._mailbox.notice()

    @property
    def notify_supported(self) -> bool:
        """Whether the registry says when something arrives; set it after registering."""
        return self._mailbox.notified

    @notify_supported.setter
    def notify_supported(self, supported: bool) -> None:
        self._mailbox.notified = supported

    def registry_time(self, seconds: float) -> None:
        """The registry's clock, as its heartbeat reply gives it, in Unix seconds."""
        self._incoming.clock_offset = offset = seconds - self._wall_time()
        wrong = not -MAX_AHEAD <= offset <= MAX_BEHIND
        if wrong and not self._skew_reported:
            log.warn(
                "the clock of this machine and the registry's differ by {offset} seconds; peers "
                "ignore direct handshakes of a node that is {ahead} ahead or {behind} behind. "
                "Set the clock (NTP).",
                offset=round(offset),
                ahead=round(MAX_AHEAD),
                behind=round(MAX_BEHIND),
            )
        self._skew_reported = wrong

    def reregistered(self, node_id: int | None = None) -> None:
        """
        The registry had lost us, and perhaps everything: tell it again whom we trust, and ask
        again those who have not answered.

        @param node_id: own node id, if it may have changed.
        """
        if node_id is not None:
            self.node_id = node_id
        self._background.watch(Deferred.fromCoroutine(self._report_all()))

    def networks_changed(self, networks: Iterable[int]) -> None:
        """The node has learnt its memberships anew; the backbone may be among them."""
        self._memberships.changed(networks)

    async def _report_all(self) -> None:
        await self.poll()  # a revocation that waits there comes first
        slots = DeferredSemaphore(CONCURRENT_REPORTS)

        async def report(node_id: int) -> None:
            if not self.is_trusted(node_id) or self._incoming.doubts(node_id):
                return  # a pair in doubt still stands, or should not stand again
            try:
                await self._registry.report_trust(node_id)
            except RegistryError as error:
                log.debug("trust in {node} not reported: {error}", node=node_id, error=error)
            except PilotError:
                self._ledger.owe(node_id, Step.REPORT)

        def run(node_id: int) -> Deferred[None]:
            return slots.run(lambda: Deferred.fromCoroutine(report(node_id)))

        await gatherResults([run(n) for n, r in self._ledger if isinstance(r, Trusted)])
        for node_id, record in self._ledger:
            if isinstance(record, Requested):
                self._ledger.owe(node_id, Step.ASK)
        self._errands.hurry()

    # -- ends --------------------------------------------------------------------------------------

    def _severed(self, node_id: int, record: Record) -> None:
        """Trust has ended: at once when we ended it, after a farewell when the peer did."""
        if isinstance(record, Revoked):
            self._drop_streams(node_id)
            return

        def farewell() -> None:
            if not self.is_trusted(node_id):
                self._drop_streams(node_id)
                self._drop_tunnel(node_id)

        self._background.later(FAREWELL, farewell)

    def _parted(self, node_id: int) -> None:
        """The peer was told that it is not trusted any more, or cannot be told now."""
        if not self.is_trusted(node_id):
            self._drop_tunnel(node_id)

    # -- looking in --------------------------------------------------------------------------------

    def counters(self) -> dict[str, int]:
        """@return: everything that was counted, by C{part.reason}, for metrics and the manhole."""
        parts = {
            "asking": self._counters,
            "errands": self._errands.counters,
            "file": self._ledger.counters,
            "incoming": self._incoming.counters,
            "messages": self._incoming.screening.counters,
            "mailbox": self._mailbox.counters,
            "networks": self._networks.counters,
        }
        return {
            f"{part}.{reason}": count
            for part, counter in parts.items()
            for reason, count in sorted(counter.items())
        }


def _check_node_id(node_id: int) -> None:
    if not 0 <= node_id <= 0xFFFFFFFF:
        raise InvalidArgument(f"invalid node_id {node_id}: expected 0 to 4294967295")
