"""Sends messages to the data exchange of other nodes, over one kept stream a peer.

@see: the page I{Data exchange}.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from pilot.address import PORT_DATA_EXCHANGE, Address
from pilot.errors import ConnectionFailed, InvalidArgument, MessageRefused, WireError
from pilot.interfaces import IPilotNode
from pilot.node.keptstreams import KeptLimits, KeptStream, KeptStreams, Line
from pilot.node.turnstile import Turnstile
from pilot.wire.dataexchange import (
    MAX_REPLY,
    Body,
    FrameReader,
    FrameType,
    Head,
    Reply,
    encode_head,
)
from pilot.wire.jsontext import dump

Document = dict[str, Any] | str | bytes


class MessageStream(KeptStream):
    """Frames out, one answer for each back, in the same order."""

    answered = True

    def __init__(self, line: Line) -> None:
        super().__init__(line)
        self._reader = FrameReader(message_limit=MAX_REPLY, file_limit=MAX_REPLY)
        self._answer: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        """Answers, or parts of some."""
        self._reader.feed(data)
        try:
            while (item := self._reader.next()) is not None:
                if isinstance(item, Head):
                    self._answer = []
                else:
                    self._take(item)
        except WireError as error:
            self.line.hang_up(ConnectionFailed(f"{self.line.peer} answers nonsense: {error}"))

    def _take(self, body: Body) -> None:
        self._answer.append(body.data)
        if body.last:
            reply = Reply.parse(b"".join(self._answer))
            self._answer = []
            self.line.answer(self, None if reply.ok else MessageRefused(reply.reason))


class Messenger:
    """
    What C{IPilotNode.send_message} does.

    @ivar streams: the kept streams.
    """

    def __init__(
        self,
        clock: IReactorTime,
        node: IPilotNode,
        turnstile: Turnstile,
        rng: random.Random,
        limits: KeptLimits | None = None,
    ) -> None:
        self._node = node
        self.streams = KeptStreams(
            clock,
            lambda peer, port, factory: node.dial(peer, port, factory),
            PORT_DATA_EXCHANGE,
            MessageStream,
            turnstile,
            rng,
            limits,
        )

    def send(self, target: Address | int | str, document: Document) -> Deferred[None]:
        """@return: Deferred of None when the peer has confirmed."""
        return Deferred.fromCoroutine(self._send(target, document))

    async def _send(self, target: Address | int | str, document: Document) -> None:
        frame = encode_message(document)
        peer = await self._node.resolve(target)
        await self.streams.send(peer, frame)


def encode_message(document: Document) -> bytes:
    """
    @return: the frame of a message: a dict as JSON, a text as TEXT, bytes as BINARY.
    @raise InvalidArgument: it is none of these.
    @raise WireError: JSON cannot express it, or it is too large.
    """
    if isinstance(document, dict):
        kind, content = FrameType.JSON, dump(document)
    elif isinstance(document, str):
        kind, content = FrameType.TEXT, document.encode("utf-8", "replace")
    elif isinstance(document, bytes):
        kind, content = FrameType.BINARY, document
    else:
        raise InvalidArgument(f"a message is a dict, a str or bytes, not {type(document).__name__}")
    return encode_head(kind, len(content)) + content
