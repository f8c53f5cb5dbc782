"""Taking a task message to another node.

One stream carries one message.  A submission is answered; for everything else the clean end of the
stream, after the peer has acted, is the receipt: a peer that could not keep what we sent resets the
stream instead.

@see: the page I{Task submit}, I{When a message counts as delivered}.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from pilot.address import PORT_TASK_SUBMIT, Address
from pilot.errors import ConnectionFailed, DialTimeout, WireError
from pilot.interfaces import IPilotNode
from pilot.wire.tasksubmit import FrameReader

#: Seconds that a peer has to take a message and to answer, besides the dial.
PATIENCE = 30.0

#: Seconds that a large message gets in addition, per megabyte.
PATIENCE_PER_MEGABYTE = 10.0

Frame = tuple[int, bytes]


class Carrier(Protocol):
    """
    Sends one frame, and reads one or waits for the end.

    @ivar done: Deferred of the peer's frame, or of None if it ended the stream without one.
    """

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._reader = FrameReader()
        self.done: Deferred[Frame | None] = Deferred(lambda _: self._give_up())

    def connectionMade(self) -> None:
        """Send it."""
        assert self.transport is not None
        self.transport.write(self._frame)

    def dataReceived(self, data: bytes) -> None:
        """A piece of the answer."""
        if self.done.called:
            return
        try:
            answer = self._reader.feed(data)
        except WireError as error:
            self.transport.abortConnection()  # type: ignore[union-attr]
            self.done.errback(ConnectionFailed(f"the peer's answer makes no sense: {error}"))
            return
        if answer is not None:
            assert self.transport is not None
            self.transport.loseConnection()
            self.done.callback(answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The peer is done with us."""
        if self.done.called:
            return
        if reason.check(ConnectionDone) is not None:
            self.done.callback(None)
        else:
            self.done.errback(ConnectionFailed("the peer did not take it"))

    def _give_up(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]


class _CarrierFactory(Factory):
    noisy = False

    def __init__(self, frame: bytes) -> None:
        self._frame = frame

    def buildProtocol(self, addr: IAddress | None) -> Carrier:
        return Carrier(self._frame)


class Delivery:
    """Opens the streams to others' port 1003."""

    def __init__(self, node: IPilotNode, clock: IReactorTime) -> None:
        self._node = node
        self._clock = clock

    async def send(self, address: Address, frame: bytes) -> None:
        """
        Take a message to a node.

        @return: once the node has acted on it.
        @raise ConnectionFailed: it may not have.
        """
        await self._carry(address, frame)

    async def ask(self, address: Address, frame: bytes) -> Frame:
        """
        Take a message to a node and bring its answer.

        @raise ConnectionFailed: there is none.
        """
        answer = await self._carry(address, frame)
        if answer is None:
            raise ConnectionFailed("submit: EOF")
        return answer

    async def _carry(self, address: Address, frame: bytes) -> Frame | None:
        dialled = self._node.dial(address, PORT_TASK_SUBMIT, _CarrierFactory(frame))
        try:
            carrier = cast(Carrier, await dialled)
        except ConnectionFailed as error:
            raise Unreachable(error.message, hint=error.hint) from error
        patience = PATIENCE + PATIENCE_PER_MEGABYTE * len(frame) / 1e6
        try:
            return await carrier.done.addTimeout(patience, self._clock)
        except (DeferredTimeout, CancelledError):
            raise DialTimeout("the peer did not answer in time") from None


class Unreachable(ConnectionFailed):
    """The peer could not be dialled, so it has got nothing."""
