"""A peer that behaves as the reference does, by the protocol notes, its faults included.

Only what its peers can notice of it is here: how it answers key frames, what it forgets, what it
drops.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilot.address import Address
from pilot.crypto.identity import Identity, verify
from pilot.crypto.keys import KeyPair
from pilot.errors import WireError
from pilot.tunnel.tunnel import Endpoint
from pilot.wire.beacon import Discover, PunchCommand, Relay, RelayDeliver, decode_message
from pilot.wire.packet import (
    FLAG_ACK,
    PROTO_CONTROL,
    PROTO_DATAGRAM,
    RawPacket,
    decode_raw,
    encode_raw,
)
from pilot.wire.tunnel import (
    AuthenticatedKeyExchange,
    KeyExchange,
    SecureFrame,
    decode_frame,
    signed_bytes,
)
from tests.simulation.network import LossyNetwork, SocketAddress
from tests.simulation.tunnels import SimulatedRegistry

WINDOW = 256
QUEUE = 64


class _Context:
    """One tunnel; made anew for every key frame that is accepted."""

    def __init__(self, key: bytes, peer_public: bytes, prefix: bytes) -> None:
        self.cipher = AESGCM(key)
        self.peer_public = peer_public
        self.prefix = prefix
        self.sent = 0
        self.highest = 0
        self.seen: set[int] = set()

    def accepts(self, counter: int) -> bool:
        """The window looks at the counter alone, and moves before the tag is checked."""
        if self.highest and self.highest - counter >= WINDOW:
            return False
        if counter <= self.highest and counter in self.seen:
            return False
        self.highest = max(self.highest, counter)
        self.seen.add(counter)
        return True


class ReferencePeer:
    """
    A node of the reference.

    @ivar received: node ids and payloads, in order.
    @ivar controls: control packets received.
    @ivar relayed: nodes that it sends to through the beacon, for good.
    """

    def __init__(
        self,
        network: LossyNetwork,
        registry: SimulatedRegistry,
        node_id: int,
        address: SocketAddress,
        *,
        beacon: SocketAddress | None = None,
        seed: int = 1,
    ) -> None:
        self.node_id = node_id
        self.address = address
        self.beacon = beacon
        self.received: list[tuple[int, bytes]] = []
        self.controls: list[RawPacket] = []
        self.relayed: set[int] = set()
        self.endpoints: dict[int, SocketAddress] = {}
        self.contexts: dict[int, _Context] = {}
        self._registry = registry
        self._rng = random.Random(seed)
        self._identity = Identity.from_seed(node_id.to_bytes(32, "big"))
        self._pair = KeyPair(self._rng.randbytes(32), 0)
        self._queues: dict[int, deque[bytes]] = {}
        self._accepted_by: dict[int, bool] = {}
        registry.endpoints[node_id] = Endpoint(f"{address[0]}:{address[1]}")
        registry.keys[node_id] = self._identity.public_key
        self.socket = network.attach(address, self)
        self._say_hello()

    def _say_hello(self) -> None:
        if self.beacon is not None:
            self.socket.send(Discover(self.node_id).encode(), self.beacon)

    # -- sending -------------------------------------------------------------------------------

    def dial(self, node_id: int) -> None:
        """Enter a node into the peer table, as a dial does."""
        if node_id not in self.endpoints:
            host, _, port = self._registry.endpoints[node_id].real_addr.rpartition(":")
            self.endpoints[node_id] = (host, int(port))
            self._send_key(node_id)

    def send(self, node_id: int, *payloads: bytes) -> None:
        """Send datagrams; a key frame goes before each that has to wait."""
        here, there = Address(0, self.node_id).pack(), Address(0, node_id).pack()
        for payload in payloads:
            packet = encode_raw(0, PROTO_DATAGRAM, here, there, 1, 2, 0, 0, 0, payload)
            self.send_packet(node_id, packet)

    def send_packet(self, node_id: int, packet: bytes) -> None:
        """Send one packet, or have it wait."""
        if node_id not in self.endpoints:
            return
        context = self.contexts.get(node_id)
        if context is None:
            self._send_key(node_id)
            self._queues.setdefault(node_id, deque(maxlen=QUEUE)).append(packet)
            return
        context.sent += 1
        nonce = context.prefix + context.sent.to_bytes(8, "big")
        sealed = context.cipher.encrypt(nonce, packet, self.node_id.to_bytes(4, "big"))
        self._send_frame(node_id, SecureFrame(self.node_id, nonce, sealed).encode())

    def _send_key(self, node_id: int) -> None:
        public = self._pair.public
        signature = self._identity.sign(signed_bytes(self.node_id, public))
        self._send_frame(
            node_id,
            AuthenticatedKeyExchange(
                self.node_id, public, self._identity.public_key, signature
            ).encode(),
        )

    def _send_frame(self, node_id: int, frame: bytes) -> None:
        if node_id in self.relayed and self.beacon is not None:
            self.socket.send(Relay(self.node_id, node_id, frame).encode(), self.beacon)
        elif node_id in self.endpoints:
            self.socket.send(frame, self.endpoints[node_id])

    # -- receiving -----------------------------------------------------------------------------

    def datagrams_received(self, data: bytes, size: int, addr: SocketAddress) -> None:
        """Take datagrams one by one."""
        for at in range(0, len(data), size):
            try:
                self._datagram(data[at : at + size], addr)
            except WireError:
                continue

    def batch_ended(self) -> None:
        """Nothing waits for the end of a batch."""

    def _datagram(self, data: bytes, addr: SocketAddress) -> None:
        if data[0] >= 0x10:
            self._frame(decode_frame(data), addr, relayed=False)
            return
        message = decode_message(data)
        if isinstance(message, PunchCommand):
            for _ in range(3):
                self.socket.send(b"PILP", (message.host, message.port))
        elif isinstance(message, RelayDeliver):
            self.relayed.add(message.source)
            if self.beacon is not None:
                self.endpoints.setdefault(message.source, self.beacon)
            self._frame(decode_frame(message.frame), addr, relayed=True)

    def _frame(self, frame: Any, addr: SocketAddress, *, relayed: bool) -> None:
        if isinstance(frame, AuthenticatedKeyExchange):
            self._offered(frame, addr, relayed)
        elif isinstance(frame, KeyExchange):
            if frame.node_id in self._registry.keys:  # else it would even be accepted
                self._send_key(frame.node_id)
        elif isinstance(frame, SecureFrame):
            self._sealed(frame)

    def _offered(self, frame: AuthenticatedKeyExchange, addr: SocketAddress, relayed: bool) -> None:
        node_id = frame.node_id
        if self._registry.keys.get(node_id) != frame.identity_key:
            return
        # The remembered identity is a view of the buffer, shifted for what comes the other way.
        if self._accepted_by.setdefault(node_id, relayed) is not relayed:
            return
        if not verify(frame.identity_key, frame.signature, signed_bytes(node_id, frame.public_key)):
            return
        before = self.contexts.get(node_id)
        key = self._pair.agree(frame.public_key)
        self.contexts[node_id] = _Context(key, frame.public_key, self._rng.randbytes(4))
        if not relayed:
            self.endpoints[node_id] = addr
        if before is None or before.peer_public != frame.public_key:
            self._send_key(node_id)
        for packet in self._queues.pop(node_id, ()):
            self.send_packet(node_id, packet)

    def _sealed(self, frame: SecureFrame) -> None:
        context = self.contexts.get(frame.node_id)
        if context is None or not context.accepts(int.from_bytes(frame.nonce[4:], "big")):
            return
        try:
            packet = context.cipher.decrypt(
                frame.nonce, frame.ciphertext, frame.node_id.to_bytes(4, "big")
            )
        except InvalidTag:
            context.seen.discard(int.from_bytes(frame.nonce[4:], "big"))
            return
        raw = decode_raw(packet)
        if raw.protocol == PROTO_DATAGRAM:
            self.received.append((raw.source_node, raw.payload))
        elif raw.protocol == PROTO_CONTROL:
            self.controls.append(raw)
        if raw.protocol == PROTO_CONTROL and raw.destination_port == 0:
            self.send_packet(
                raw.source_node,
                encode_raw(
                    FLAG_ACK,
                    PROTO_CONTROL,
                    Address(0, self.node_id).pack(),
                    Address(raw.source_network, raw.source_node).pack(),
                    0,
                    raw.source_port,
                    raw.sequence,
                    (raw.sequence + 1) & 0xFFFFFFFF,
                    0,
                    raw.payload,
                ),
            )
