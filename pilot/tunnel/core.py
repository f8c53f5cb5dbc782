"""What the parts of one tunnel share: the socket, the clock, the keys, the counters."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pilot.crypto.identity import Identity
from pilot.crypto.keys import KEY_SIZE, KeyPair
from pilot.crypto.session import Lane
from pilot.tunnel.config import TunnelConfig
from pilot.tunnel.endpoints import SocketAddress
from pilot.tunnel.limits import Incidents
from pilot.tunnel.socket import DatagramSocket
from pilot.wire.beacon import RELAY_HEADER, TYPE_RELAY
from pilot.wire.tunnel import AuthenticatedKeyExchange, KeyExchange, signed_bytes

#: A way to a peer: an address, or L{RELAY}.
Path = SocketAddress

#: The way through the beacon; stands where an address would.
RELAY: Final[Path] = ("relay", 0)

#: Key frames kept signed; a node has one pair for most of its peers.
SIGNED_FRAMES = 64

#: Told the webhook events of the tunnel: name and data.
OnEvent = Callable[[str, dict[str, Any]], None]


class Core:
    """
    The common ground of a tunnel's parts.

    @ivar node_id: our own, 0 before the registration.
    @ivar beacon: its address, None without one.
    @ivar lanes: the sessions' lanes by the first twelve bytes of their frames.
    @ivar pair: the key pair that new peers are offered.
    """

    def __init__(
        self,
        clock: IReactorTime,
        identity: Identity,
        socket: DatagramSocket,
        config: TunnelConfig,
        rng: random.Random,
        on_event: OnEvent,
    ) -> None:
        """@param rng: where keys come from; in earnest a C{random.SystemRandom}."""
        self.clock = clock
        self.now = clock.seconds
        self.identity = identity
        self.socket = socket
        self.config = config
        self.rng = rng
        self.emit = on_event
        self.counters: Counter[str] = Counter()
        self.incidents = Incidents(clock, Logger(namespace="pilot.tunnel"))
        self.node_id = 0
        self.beacon: SocketAddress | None = None
        self.lanes: dict[bytes, Lane] = {}
        self.pair = self.new_pair()
        self._signed: dict[bytes, bytes] = {}

    def new_pair(self) -> KeyPair:
        """@return: a new X25519 pair."""
        return KeyPair(self.rng.randbytes(KEY_SIZE), self.rng.getrandbits(32))

    def retire_pair(self) -> None:
        """
        A peer with its sessions is forgotten, their replay windows with them.

        New peers are offered another pair, so that no key is ever derived a second time, whatever
        is replayed to us.
        """
        self.pair = self.new_pair()

    def renamed(self, node_id: int) -> None:
        """The registry gave us this number."""
        self.node_id = node_id
        self.pair = self.new_pair()
        self._signed.clear()

    def key_frame(self, pair: KeyPair) -> bytes:
        """@return: the authenticated key exchange that offers C{pair}."""
        frame = self._signed.get(pair.public)
        if frame is None:
            signature = self.identity.sign(signed_bytes(self.node_id, pair.public))
            frame = AuthenticatedKeyExchange(
                self.node_id, pair.public, self.identity.public_key, signature
            ).encode()
            if len(self._signed) >= SIGNED_FRAMES:
                self._signed.clear()
            self._signed[pair.public] = frame
        return frame

    def key_request(self, pair: KeyPair) -> bytes:
        """@return: the anonymous key exchange of C{pair}, which no node accepts but many answer."""
        return KeyExchange(self.node_id, pair.public).encode()

    def relay_header(self, node_id: int) -> bytes:
        """@return: what the beacon wants in front of a frame to C{node_id}, 9 bytes."""
        return RELAY_HEADER.pack(TYPE_RELAY, self.node_id, node_id)

    def send(self, frame: bytes, path: Path, node_id: int) -> None:
        """Send one tunnel frame to C{node_id}, directly or through the beacon."""
        if path is RELAY:
            if self.beacon is None:
                self.counters["no_path"] += 1
                return
            frame = self.relay_header(node_id) + frame
            path = self.beacon
        if self.socket.send(frame, path):
            self.counters["pkts_sent"] += 1
            self.counters["bytes_sent"] += len(frame)
