"""Data exchange (port 1001): messages and files from other nodes, answered when they are safe.

The protocol reads frames, hands them to the L{Mailbox}, and answers in the order of the frames.  It
stops reading while the disk, or the peer that should take its answers, is behind.

@see: the page I{Data exchange}.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.address import Address
from pilot.errors import WireError
from pilot.node.claims import Claims
from pilot.services.exchange import ExchangeLimits, Pending
from pilot.services.filenames import readable
from pilot.services.mailbox import Mailbox
from pilot.services.patience import Patience, Waiting
from pilot.services.shelf import Full, NotStored
from pilot.services.transfer import Transfer
from pilot.wire.dataexchange import (
    MAX_PAYLOAD,
    Body,
    FrameReader,
    FrameType,
    Head,
    type_name,
)

log = Logger()

OnEvent = Callable[[str, dict[str, Any]], None]

_MESSAGES = (FrameType.TEXT, FrameType.BINARY, FrameType.JSON)
_TURN = 256  # things taken out of one connection before others have their turn


@implementer(IHalfCloseableProtocol, IPushProducer)
class DataExchange(Protocol):
    """
    One connection of one peer.

    @ivar sender: the peer's address, without port.
    """

    def __init__(
        self, sender: str, factory: DataExchangeFactory, source: Address | None = None
    ) -> None:
        """@param source: the same address, if the peer is a node."""
        self.sender = sender
        self._source = source
        self._factory = factory
        limits = self._limits = factory.limits
        self._reader = FrameReader()
        self._pending: deque[Pending] = deque()  # in the order of the frames
        self._waiting_bytes = 0  # of small messages that are not stored yet
        # The frame that is being read, and where its content goes: nowhere if both are None.
        self._frame: Pending | None = None
        self._content: list[bytes] | None = None
        self._transfer: Transfer | None = None
        self._finishing = False  # the transfer is complete and waits for the disk
        self._reading = self._taking = True  # whether we take frames, and the peer answers
        self._finished = self._closing = self._ended = self._gone = False
        self._pumping = False
        self._patience = Patience(
            factory.clock.seconds(),
            patience=limits.patience,
            slowest=limits.slowest,
            idle=limits.idle,
        )
        self._timer: IDelayedCall | None = None
        self._turn: IDelayedCall | None = None

    # -- the transport -------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Begin to wait for frames."""
        cast(IConsumer, self.transport).registerProducer(self, True)
        self._arm()

    def dataReceived(self, data: bytes) -> None:
        """Take more of the stream of frames."""
        if not self._closing:
            self._patience.progress(len(data), self._factory.clock.seconds())
            self._reader.feed(data)
            self._pump()

    def readConnectionLost(self) -> None:
        """The peer has sent everything, and may still take answers."""
        self._finished = True
        self._pump()

    def writeConnectionLost(self) -> None:
        """Nothing to do: we never end our direction alone."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """What was sent completely counts, though nobody waits for the answer."""
        self._gone = self._finished = True
        self._factory.disconnected(self)
        if not reason.check(ConnectionDone):
            self._close()
        self._pump()

    def pauseProducing(self) -> None:
        """The peer does not take our answers: take no more frames."""
        self._taking = False
        self._settle()

    def resumeProducing(self) -> None:
        """It does again."""
        self._taking = True
        self._pump()

    def stopProducing(self) -> None:
        """The connection is gone; C{connectionLost} tells more."""

    # -- frames --------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Answer what can be answered, and take what has come as far as there is room for it."""
        if self._pumping:
            return
        self._pumping = True
        for _ in range(_TURN):
            self._flush()
            item = None if self._blocked else self._next()
            if item is None:
                break
            if isinstance(item, Head):
                self._begin(item)
            else:
                self._continue(item)
        else:
            if self._turn is None:
                self._turn = self._factory.clock.callLater(0, self._next_turn)
        self._pumping = False
        self._settle()

    def _next_turn(self) -> None:
        self._turn = None
        self._pump()

    @property
    def _blocked(self) -> bool:
        limits, transfer = self._limits, self._transfer
        return (
            self._closing
            or self._finishing
            or not (self._taking or self._gone)
            or len(self._pending) >= limits.pending_frames
            or self._waiting_bytes >= limits.pending_bytes
            or (transfer is not None and transfer.backlog >= limits.pending_bytes)
        )

    def _next(self) -> Head | Body | None:
        try:
            return self._reader.next()
        except WireError as error:
            self._factory.statistics["malformed"] += 1
            log.info("malformed mail of {peer}: {why}", peer=self.sender, why=error.message)
            self._close()
            return None

    def _begin(self, head: Head) -> None:
        frame = self._frame = Pending(head)
        self._pending.append(frame)
        mailbox = self._factory.mailbox
        if head.kind == FrameType.FILE:
            if head.name:
                self._transfer = mailbox.receive_file(head.name, head.size, self._progress)
        elif head.kind in _MESSAGES:
            if head.size <= self._limits.small_message:
                self._content = []
            else:
                self._transfer = mailbox.receive_message(
                    type_name(head.kind), head.size, self.sender, self._progress
                )
        self._check_transfer()

    def _continue(self, body: Body) -> None:
        if self._content is not None:
            self._content.append(body.data)
        elif self._transfer is not None:
            self._transfer.write(body.data)
        if not body.last:
            return
        frame, self._frame = self._frame, None
        assert frame is not None
        if self._content is not None:
            content, self._content = b"".join(self._content), None
            self._waiting_bytes += frame.size
            claims = self._factory.claims
            offered = None
            if claims is not None and claims.active and frame.kind != FrameType.BINARY:
                offered = claims.offer(self._source, content) if self._source else None
            if offered is None:
                self._deliver(content, frame)
            else:
                offered.addCallback(self._offered, content, frame)
        elif self._transfer is not None:
            self._finishing = True
            self._transfer.finish().addBoth(self._transferred, frame)
        elif frame.answer is None:
            frame.confirm()  # as the reference does with what it has no use for

    def _offered(self, taken: bool, content: bytes, frame: Pending) -> None:
        if not taken:
            self._deliver(content, frame)
            return
        self._waiting_bytes -= frame.size
        frame.confirm()
        self._factory.statistics["claimed"] += 1
        self._pump()

    def _deliver(self, content: bytes, frame: Pending) -> None:
        delivery = self._factory.mailbox.deliver(type_name(frame.kind), content, self.sender)
        delivery.addBoth(self._delivered, frame)

    def _delivered(self, outcome: Path | Failure, frame: Pending) -> None:
        self._waiting_bytes -= frame.size
        self._decide(outcome, frame)
        self._pump()

    def _transferred(self, outcome: Path | Failure, frame: Pending) -> None:
        self._transfer, self._finishing = None, False
        self._decide(outcome, frame)
        self._pump()

    def _progress(self) -> None:
        """Some of the transfer is on disk, or it went wrong."""
        self._check_transfer()
        self._pump()

    def _check_transfer(self) -> None:
        """If it went wrong, the peer is told at once, not when all of it has come."""
        transfer, frame = self._transfer, self._frame
        if transfer is not None and frame is not None and transfer.problem is not None:
            self._transfer = None
            self._decide(Failure(transfer.problem), frame)
            if frame.size > MAX_PAYLOAD:
                self._close()  # so that it does not send the rest for nothing

    def _decide(self, outcome: Path | Failure, frame: Pending) -> None:
        if isinstance(outcome, Path):
            frame.confirm()
            self._factory.stored(frame, self.sender, outcome)
        else:
            error = outcome.value
            assert isinstance(error, NotStored)
            frame.refuse(error.message)
            self._factory.not_stored(frame, self.sender, error)

    # -- what follows from it ------------------------------------------------------------------

    def _flush(self) -> None:
        ready = []
        while self._pending and self._pending[0].answer is not None:
            ready.append(self._pending.popleft().answer or b"")
        if ready and not self._gone:
            assert self.transport is not None
            self.transport.write(b"".join(ready))

    def _settle(self) -> None:
        """Read on or not, end when there is no more to do, and wait for whom it is now."""
        if self._pumping:
            return
        if self._finished and not self._blocked and self._turn is None:
            self._close()  # everything was taken, and what is left is no whole frame
        if self._closing and not self._pending and not self._finishing:
            self._end()
        elif not self._gone and self._reading == self._blocked:
            self._reading = not self._reading
            transport = cast(IPushProducer, self.transport)
            if self._reading:
                transport.resumeProducing()
            else:
                transport.pauseProducing()
        self._arm()

    def _close(self) -> None:
        """Read no more; what is complete will still be stored and answered."""
        self._closing = True
        if self._frame is not None:
            if self._frame.answer is None:
                self._pending.remove(self._frame)
            self._frame = self._content = None
            if self._transfer is not None:
                self._transfer.abandon()
                self._transfer = None

    def _end(self) -> None:
        if not self._gone and not self._ended:
            self._ended = True
            cast(IConsumer, self.transport).unregisterProducer()
            assert self.transport is not None
            self.transport.loseConnection()

    # -- time ----------------------------------------------------------------------------------

    def _arm(self) -> None:
        """See to it that the timer goes off no later than it has to."""
        now = self._factory.clock.seconds()
        if not self._taking or self._ended:
            waiting = Waiting.ANSWERS
        elif self._closing or self._blocked:
            waiting = Waiting.DISK
        elif self._reader.between:
            waiting = Waiting.IDLE
        else:
            waiting = Waiting.FRAME
        self._patience.wait_for(waiting, now)
        deadline = None if self._gone else self._patience.deadline()
        timer = self._timer
        if deadline is None:
            if timer is not None and self._gone:
                timer.cancel()
                self._timer = None
        elif timer is None:
            self._timer = self._factory.clock.callLater(max(0.0, deadline - now), self._look)
        elif timer.getTime() > deadline:
            timer.reset(max(0.0, deadline - now))

    def _look(self) -> None:
        self._timer = None
        deadline = self._patience.deadline()
        if deadline is None or deadline > self._factory.clock.seconds():
            self._arm()
            return
        waiting = self._patience.waiting
        if waiting is not Waiting.IDLE:
            self._factory.statistics["timeouts"] += 1
            log.info("{peer} took too long: {what}", peer=self.sender, what=waiting.name.lower())
        if waiting is Waiting.ANSWERS:
            cast(Any, self.transport).abortConnection()
        else:
            self._close()
            self._pump()


class DataExchangeFactory(Factory):
    """
    Serves L{DataExchange}.

    @param mailbox: where mail goes.
    @param clock: the reactor.
    @param on_event: told C{message.received} and C{file.received}, as a webhook shows them.
    @param claims: asked about small messages before they are stored; what is taken is not stored.
    @ivar statistics: how often what has happened: C{messages}, C{files}, C{full}, C{failed},
        C{malformed}, C{timeouts}, C{declined}, C{claimed}.
    """

    noisy = False

    def __init__(
        self,
        mailbox: Mailbox,
        clock: Any,
        on_event: OnEvent = lambda name, data: None,
        limits: ExchangeLimits | None = None,
        claims: Claims | None = None,
    ) -> None:
        self.mailbox = mailbox
        self.claims = claims
        self.clock = clock
        self.limits = limits or ExchangeLimits()
        self.statistics: Counter[str] = Counter()
        self._on_event = on_event
        self._peers: Counter[str] = Counter()

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._peers.total()

    def buildProtocol(self, addr: IAddress | None) -> DataExchange | None:
        """@return: a protocol, or C{None} when there are too many connections."""
        source = getattr(addr, "address", None)
        sender = str(source or getattr(addr, "host", addr))
        limits = self.limits
        if (
            self.connections >= limits.connections
            or self._peers[sender] >= limits.connections_per_peer
        ):
            self.statistics["declined"] += 1
            return None
        self._peers[sender] += 1
        return DataExchange(sender, self, source if isinstance(source, Address) else None)

    def disconnected(self, protocol: DataExchange) -> None:
        """A connection is over."""
        self._peers[protocol.sender] -= 1
        if not self._peers[protocol.sender]:
            del self._peers[protocol.sender]

    def stored(self, frame: Pending, sender: str, path: Path) -> None:
        """Something was stored."""
        if frame.name is not None:
            self.statistics["files"] += 1
            data = {"filename": readable(frame.name), "size": frame.size}
            self._on_event("file.received", {**data, "path": readable(bytes(path))})
        else:
            self.statistics["messages"] += 1
            data = {"type": type_name(frame.kind), "from": sender}
            self._on_event("message.received", {**data, "size": frame.size})

    def not_stored(self, frame: Pending, sender: str, error: NotStored) -> None:
        """Something could not be stored."""
        self.statistics["full" if isinstance(error, Full) else "failed"] += 1
        log.warn(
            "{kind} of {size} bytes from {peer} not stored: {why}",
            kind=type_name(frame.kind),
            size=frame.size,
            peer=sender,
            why=error.message,
        )
