"""Publishes events on the brokers of other nodes, over one kept stream a broker.

@see: protocol notes, I{Event stream (1002)}.
"""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from pilot.address import PORT_EVENT_STREAM, Address
from pilot.interfaces import IPilotNode
from pilot.node.keptstreams import KeptLimits, KeptStream, KeptStreams
from pilot.node.turnstile import Turnstile
from pilot.wire.eventstream import encode_event

PUBLISHER_TOPIC = b"$publisher"
"""What a stream that only publishes is subscribed to, since it has to be subscribed to something.
Nobody publishes on it, so nothing comes back."""


class PublishingStream(KeptStream):
    """Events out; brokers answer nothing."""

    greeting = encode_event(PUBLISHER_TOPIC)

    def dataReceived(self, data: bytes) -> None:
        """Somebody did publish on the topic: it is not for us."""


class Publisher:
    """
    What C{IPilotNode.publish} does.

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
            PORT_EVENT_STREAM,
            PublishingStream,
            turnstile,
            rng,
            limits,
        )

    def publish(self, target: Address | int | str, topic: str, payload: bytes) -> Deferred[None]:
        """@return: Deferred of None once the stream to the broker has the event."""
        return Deferred.fromCoroutine(self._publish(target, topic, payload))

    async def _publish(self, target: Address | int | str, topic: str, payload: bytes) -> None:
        event = encode_event(topic.encode("utf-8", "replace"), payload)
        broker = await self._node.resolve(target)
        await self.streams.send(broker, event)
