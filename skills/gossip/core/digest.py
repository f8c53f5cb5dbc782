"""Sums over a set of registers, by which two members see whether, and where, they differ.

Each register adds 64 bits of a BLAKE2b hash to the root and 48 of them to one of 256 buckets,
chosen by its key.  Addition forgets the order and can be undone, so a write costs the same
however large the set is.

@see: the page I{Gossip}, I{Finding differences}.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from hashlib import blake2b

from skills.gossip.core.errors import BadMessage
from skills.gossip.core.register import Register

BUCKETS = 256
SUM_BYTES = 6  # of a bucket, in a message
_ROOT = (1 << 64) - 1
_SUM = (1 << 48) - 1


class Digest:
    """
    The sums of one set.

    @ivar nonce: what its hashes are keyed with; empty for the standing digest, whose hashes the
        registers keep for themselves.
    """

    __slots__ = ("_buckets", "_root", "nonce")

    def __init__(self, nonce: str = "") -> None:
        """@param nonce: up to 64 characters of ASCII."""
        self.nonce = nonce
        self._root = 0
        # Sparse: a process may hold thousands of replicas with a handful of registers each.
        self._buckets: dict[int, int] = {}

    @classmethod
    def rekeyed(cls, nonce: str, registers: Iterable[Register]) -> Digest:
        """
        A digest made anew under another key: what was crafted to collide does so no longer.

        @param nonce: 16 hex digits, fresh.
        """
        digest = cls(nonce)
        for register in registers:
            digest.add(register)
        return digest

    def add(self, register: Register) -> None:
        """A register has come into the set."""
        self._apply(register, self._sum_of(register))

    def remove(self, register: Register) -> None:
        """A register has left the set."""
        self._apply(register, -self._sum_of(register))

    def _sum_of(self, register: Register) -> int:
        if not self.nonce:
            return register.sum
        keyed = blake2b(register.naming(), digest_size=8, key=self.nonce.encode())
        return int.from_bytes(keyed.digest(), "big")

    def _apply(self, register: Register, change: int) -> None:
        self._root = (self._root + change) & _ROOT
        bucket = bucket_of(register.key_hash)
        self._buckets[bucket] = (self._buckets.get(bucket, 0) + change) & _SUM

    @property
    def root(self) -> str:
        """16 hex digits; equal for equal sets, all zeros for the empty one."""
        return f"{self._root:016x}"

    def buckets(self) -> list[int]:
        """@return: 256 sums of 48 bits."""
        return [self._buckets.get(bucket, 0) for bucket in range(BUCKETS)]

    def pack(self) -> str:
        """@return: the buckets as they travel: base64 of 256 x 6 bytes, 2,048 characters."""
        return b64encode(
            b"".join(each.to_bytes(SUM_BYTES, "big") for each in self.buckets())
        ).decode()

    def differing(self, packed: str) -> list[int]:
        """
        @param packed: another's buckets, as they travel.
        @return: the numbers of those that differ from ours.
        @raise BadMessage: it is no such text.
        """
        return [
            bucket
            for bucket, (ours, theirs) in enumerate(
                zip(self.buckets(), unpack_buckets(packed), strict=True)
            )
            if ours != theirs
        ]


def bucket_of(key_hash: str) -> int:
    """@return: the bucket, 0..255, of a key's hash."""
    return int(key_hash[:2], 16)


def unpack_buckets(packed: str) -> list[int]:
    """
    @return: 256 sums of 48 bits.

    @raise BadMessage: the text is not base64 of 1,536 bytes.
    """
    try:
        data = b64decode(packed, validate=True)
    except ValueError:
        raise BadMessage("bucket sums are not base64") from None
    if len(data) != BUCKETS * SUM_BYTES:
        raise BadMessage("bucket sums are not 256 of 6 bytes")
    return [
        int.from_bytes(data[at : at + SUM_BYTES], "big") for at in range(0, len(data), SUM_BYTES)
    ]
