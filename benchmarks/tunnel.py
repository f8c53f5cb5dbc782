"""What a sealed datagram costs: two tunnels in one process, one way over real loopback sockets.

The sender seals and sends a burst, then the receiver takes it; each side's CPU time is measured
apart, with the packets ready made and thrown away on arrival, so that only the tunnel counts::

    python benchmarks/tunnel.py [--megabytes 200] [--rounds 3] [--plain-sockets]

Each line: datagram size, microseconds a frame to send and to receive, of which AES-GCM and CRC-32,
frames and megabytes a second if one core did both, and if each side has its own.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from pilot.address import Address
from pilot.crypto.identity import Identity
from pilot.tunnel.inbound import SEAL_SIZE
from pilot.tunnel.socket import UdpSocket, detect_offload
from pilot.tunnel.tunnel import Endpoint, Tunnel
from pilot.wire.checksum import crc32
from pilot.wire.packet import HEADER_SIZE, PROTO_DATAGRAM, encode_raw

SIZES = (1200, 4096, 16_000, 32_000, 60_000)

#: Bytes sent before the receiver has its turn; well inside the socket buffer.
BURST = 512 * 1024


class HandDriven(Clock):
    """A reactor that reads when it is told to."""

    def addReader(self, reader: Any) -> None:
        """Reading is done by hand."""

    removeReader = addReader


class Registry:
    """Knows both nodes."""

    def __init__(self) -> None:
        self.endpoints: dict[int, Endpoint] = {}
        self.keys: dict[int, bytes] = {}

    def resolve(self, node_id: int) -> Deferred[Endpoint]:
        """@return: where a node is."""
        return succeed(self.endpoints[node_id])

    def moved(self, node_id: int) -> None:
        """Nobody moves."""

    def identity_key(self, node_id: int) -> Deferred[bytes | None]:
        """@return: a node's key."""
        return succeed(self.keys[node_id])


def pair(offload: bool) -> tuple[Tunnel, UdpSocket, Tunnel, UdpSocket]:
    """@return: two tunnels that share a key."""
    clock, registry = HandDriven(), Registry()
    sides = []
    for node_id in (1, 2):
        identity = Identity.generate()
        sock = UdpSocket(clock, "127.0.0.1", 0, offload=offload)
        tunnel = Tunnel(clock, identity, node_id, sock, registry)
        tunnel.start()
        registry.endpoints[node_id] = Endpoint(f"127.0.0.1:{sock.address[1]}")
        registry.keys[node_id] = identity.public_key
        sides += [tunnel, sock]
    first, here, second, there = sides
    first.send(2, [packet(b"first")])
    for _ in range(5):
        there.doRead()
        here.doRead()
    assert all(tunnel.peers()[0]["state"] == "established" for tunnel in (first, second))
    return first, here, second, there


def packet(payload: bytes) -> bytes:
    """@return: a packet from node 1 to node 2."""
    ends = Address(0, 1).pack(), Address(0, 2).pack()
    return encode_raw(0, PROTO_DATAGRAM, *ends, 1, 2, 0, 0, 0, payload)


def crypto_cost(payload: bytes) -> float:
    """@return: seconds to seal or open and to checksum one packet, the least of several runs."""
    seal = AESGCM(os.urandom(32)).encrypt
    nonce, aad, plain = bytes(12), bytes(4), packet(payload)
    best = 1.0
    for _ in range(7):
        began = time.perf_counter()
        for _ in range(500):
            seal(nonce, plain, aad)
            crc32(plain)
        best = min(best, (time.perf_counter() - began) / 500)
    return best


def measure(size: int, megabytes: int, offload: bool) -> tuple[float, float]:
    """@return: seconds a frame, to send and to receive."""
    sender, _, receiver, there = pair(offload)
    burst = [packet(os.urandom(size - SEAL_SIZE - HEADER_SIZE)) for _ in range(BURST // size)]
    arrived = 0

    def take(node_id: int, raw: object) -> None:
        nonlocal arrived
        arrived += 1

    receiver.packet_sink = take
    turns = max(1, megabytes * 1_000_000 // (size * len(burst)))
    sending = receiving = 0.0
    for _ in range(turns):
        began = time.process_time()
        sender.send(2, burst)
        sent = time.process_time()
        wanted = arrived + len(burst)
        for _ in range(1000):
            there.doRead()
            if arrived >= wanted:
                break
        receiving += time.process_time() - sent
        sending += sent - began
    lost = turns * len(burst) - arrived
    if lost:
        print(f"  {lost} of {turns * len(burst)} datagrams were lost")
    sender.close()
    receiver.close()
    return sending / max(arrived, 1), receiving / max(arrived, 1)


def main() -> None:
    """Measure all sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=200, help="per size and round")
    parser.add_argument("--rounds", type=int, default=3, help="the best one counts")
    parser.add_argument("--plain-sockets", action="store_true", help="without GSO and GRO")
    options = parser.parse_args()
    offload = not options.plain_sockets
    print(f"kernel offload: {detect_offload() if offload else 'not used'}")
    print("  bytes    send  receive  crypto   one core both ways      a core each")
    for size in SIZES:
        runs = [measure(size, options.megabytes, offload) for _ in range(options.rounds)]
        send, receive = min(run[0] for run in runs), min(run[1] for run in runs)
        crypto = crypto_cost(os.urandom(size - SEAL_SIZE - HEADER_SIZE))
        both, slower = send + receive, max(send, receive)
        print(
            f"{size:>7} {send * 1e6:>6.2f}u {receive * 1e6:>7.2f}u {crypto * 1e6:>6.2f}u"
            f" {1 / both:>10,.0f}/s {size / both / 1e6:>6.0f} MB/s"
            f" {1 / slower:>10,.0f}/s {size / slower / 1e6:>6.0f} MB/s"
        )


if __name__ == "__main__":
    main()
