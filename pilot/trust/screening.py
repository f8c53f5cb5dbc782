"""Which messages on port 444 are believed.

In this order: not too many, well formed, from the node whose tunnel brought them, signed, on time,
under the key that the registry has for the node, and not seen before.  Nothing is remembered of a
message before its signature was verified, and what is remembered is bounded peer by peer.

@see: protocol notes, I{Receiving a port-444 message} and I{How to behave}.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from pilot.crypto.identity import verify
from pilot.errors import PilotError, RegistryError, WireError
from pilot.trust.gate import ILookup, key_of, networks_of
from pilot.wire.handshake import TYPES, HandshakeMessage, decode_handshake, signed_text

log = Logger()

#: Seconds that a sender's clock may be behind, and ahead.
MAX_BEHIND, MAX_AHEAD = 300.0, 30.0

#: Seconds for which a message is remembered: longer than it stays on time.
REMEMBERED_FOR = 600.0

#: Messages remembered of one peer, and peers of whom any are.
REMEMBERED_PER_PEER, REMEMBERED_PEERS = 64, 1024

#: Messages of one peer: so many at once, and so many a second after that.
BURST, RATE = 16.0, 1.0

#: Seconds between attempts to ask an absent registry for a sender's key.
LOOKUP_PAUSES = (0.5, 1.0, 2.0, 4.0)

#: Seconds for which a wrong clock of one peer is not reported again.
SKEW_REPORT_GAP = 3600.0


class Believed(NamedTuple):
    """
    A message that passed.

    @ivar networks: the sender's networks, if the registry was asked; the backbone left out.
    """

    message: HandshakeMessage
    networks: frozenset[int]


class _Peer:
    """What one sender has used up."""

    __slots__ = ("reported", "seen", "then", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = BURST
        self.then = now
        self.seen: OrderedDict[bytes, float] = OrderedDict()
        self.reported = float("-inf")

    def take(self, now: float) -> bool:
        self.tokens = min(BURST, self.tokens + (now - self.then) * RATE)
        self.then = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class Screening:
    """@ivar counters: how often each reason turned a message away."""

    def __init__(
        self,
        clock: IReactorTime,
        registry: ILookup,
        *,
        wall_time: Callable[[], float],
        known_key: Callable[[int], str],
    ) -> None:
        """
        @param known_key: the key on record for a node, C{""} for none; it serves while the
            registry is away.
        """
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._registry = registry
        self._wall_time = wall_time
        self._known_key = known_key
        self._peers: OrderedDict[int, _Peer] = OrderedDict()

    async def screen(self, receiver: int, sender: int, data: bytes) -> Believed | None:
        """
        Look at a message.

        @param receiver: own node id.
        @param sender: the node whose tunnel brought it.
        @param data: the first segment of the stream.
        @return: the message, or None when it is to be ignored; the reason is counted.
        """
        peer = self._peer(sender)
        if not peer.take(self._clock.seconds()):
            return self._refuse("rate", sender)
        try:
            message = decode_handshake(data)
        except WireError as error:
            return self._refuse("malformed", sender, error=error.message)
        if message.type not in TYPES:
            return self._refuse("type", sender, type=message.type[:40])
        if message.node_id != sender:
            return self._refuse("sender", sender, claimed=message.node_id)
        if not _signature_holds(message, receiver):
            return self._refuse("signature", sender)
        if not self._on_time(message, peer):
            return self._refuse("time", sender)
        try:
            answer = await self._lookup(sender)
        except RegistryError as error:
            return self._refuse("unregistered", sender, error=error.message)
        except PilotError as error:
            if self._known_key(sender) != message.public_key:
                return self._refuse("unconfirmed", sender, error=error.message)
            answer = {}
        else:
            if key_of(answer) != message.public_key:
                return self._refuse("key", sender)
        if not self._is_new(message, peer):
            return self._refuse("replay", sender)
        return Believed(message, networks_of(answer))

    def _refuse(self, reason: str, sender: int, **facts: Any) -> Believed | None:
        self.counters[reason] += 1
        log.debug(
            "handshake message of node {node} ignored: {reason} {facts}",
            node=sender,
            reason=reason,
            facts=facts,
        )
        return None

    def _peer(self, sender: int) -> _Peer:
        peer = self._peers.get(sender)
        if peer is None:
            peer = self._peers[sender] = _Peer(self._clock.seconds())
            if len(self._peers) > REMEMBERED_PEERS:
                self._peers.popitem(last=False)
        self._peers.move_to_end(sender)
        return peer

    def _on_time(self, message: HandshakeMessage, peer: _Peer) -> bool:
        ahead = message.timestamp - self._wall_time()
        if -MAX_BEHIND <= ahead <= MAX_AHEAD:
            return True
        now = self._clock.seconds()
        if now - peer.reported > SKEW_REPORT_GAP:
            peer.reported = now
            log.warn(
                "a handshake message of node {node} was ignored: its clock and ours differ by "
                "{skew} seconds, and at most {behind} behind or {ahead} ahead are believed. Set "
                "the clocks (NTP); until then only handshakes through the registry arrive.",
                node=message.node_id,
                skew=round(ahead),
                behind=round(MAX_BEHIND),
                ahead=round(MAX_AHEAD),
            )
        return False

    async def _lookup(self, sender: int) -> dict[str, Any]:
        """The sender never repeats by itself, so an absent registry is worth some patience."""
        for pause in LOOKUP_PAUSES:
            try:
                return await self._registry.lookup(sender)
            except RegistryError:
                raise
            except PilotError:
                await deferLater(self._clock, pause)
        return await self._registry.lookup(sender)

    def _is_new(self, message: HandshakeMessage, peer: _Peer) -> bool:
        digest = hashlib.sha256(message.encode()).digest()
        now = self._clock.seconds()
        seen = peer.seen
        while seen and now - next(iter(seen.values())) > REMEMBERED_FOR:
            seen.popitem(last=False)
        if digest in seen or len(seen) >= REMEMBERED_PER_PEER:
            return False
        seen[digest] = now
        return True


def _signature_holds(message: HandshakeMessage, receiver: int) -> bool:
    try:
        key = base64.b64decode(message.public_key.encode("ascii"), validate=True)
        signature = base64.b64decode(message.signature.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return False
    if len(key) != 32 or len(signature) != 64:
        return False
    return verify(key, signature, signed_text(message.node_id, receiver))
