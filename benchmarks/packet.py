"""What a packet costs, by the CRC it is checked with.

Claim: C{pilot.wire.packet} encodes a packet of internet size in less than a microsecond, decodes it
in less than one, and by choosing between isal and zlib by length keeps up with the better of the
two at every size, once the work around it is counted: opening and sealing, and the short copies
that a stream makes.

Run: C{python benchmarks/packet.py}.  All columns are microseconds a packet, the best of many
rounds.
"""

from __future__ import annotations

import sys
import timeit
import zlib
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilot.wire import checksum, packet

SIZES = (0, 300, 1130, 2000, 4000, 16000, 65000)  # payload bytes
ROUNDS, CALLS = 15, 3000
SOURCE, DESTINATION, NONCE = bytes(6), bytes(6), bytes(12)


def best(work: Callable[[], object]) -> float:
    """@return: microseconds a call."""
    return min(timeit.repeat(work, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


def measure(size: int) -> str:
    """@return: encode, decode, encode and seal, open and decode and copy."""
    aead = AESGCM(bytes(32))
    payload = bytes(size)

    def encode() -> bytes:
        return packet.encode_raw(2, 1, SOURCE, DESTINATION, 1, 2, 3, 4, 5, payload)

    def receive() -> None:
        data = packet.decode_raw(aead.decrypt(NONCE, sealed, None)).payload
        _ = data[:20], data[20:60], b"".join((data, b""))

    encoded = encode()
    sealed = aead.encrypt(NONCE, encoded, None)
    columns = (
        best(encode),
        best(lambda: packet.decode_raw(encoded)),
        best(lambda: aead.encrypt(NONCE, encode(), None)),
        best(receive),
    )
    return "  ".join(f"{column:7.2f}" for column in columns)


def main() -> None:
    """Print one line for each size and policy."""
    if checksum.crc32 is zlib.crc32:
        sys.exit("isal is not installed: there is nothing to compare")
    isal = checksum.crc32
    policies: dict[str, tuple[Callable[..., int], int]] = {
        "by length": (isal, checksum.SHORT),
        "isal": (isal, 0),
        "zlib": (zlib.crc32, 0),
    }
    print("payload  checksum    encode   decode     seal  receive")
    for size in SIZES:
        for name, (crc32, short) in policies.items():
            vars(packet).update(crc32=crc32, SHORT=short)
            print(f"{size:7}  {name:9}  {measure(size)}")


if __name__ == "__main__":
    main()
