"""Session keys: an X25519 pair, and what two nodes make of theirs.

@see: protocol notes, I{Key exchange and encryption}; golden vectors C{tunnel.json}.
"""

from __future__ import annotations

from collections.abc import Container

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pilot.errors import PilotError

KEY_SIZE = 32  # bytes: private, public, shared and derived alike
PREFIX_SIZE = 4  # bytes of a nonce before its counter

_INFO = b"pilot-tunnel-v1"
_PREFIXES = 1 << 8 * PREFIX_SIZE


class KeyRefused(PilotError):
    """A public key with which no secret can be shared (one of low order)."""

    code = "connection_failed"


class KeyPair:
    """
    One X25519 pair, and the nonce prefixes that are used under it.

    Both ends of a tunnel seal with the same derived key, so a nonce must never be used twice by
    either of them.  Prefixes are therefore given out by counting from a random start, once each for
    the life of the pair, whatever sessions come and go under it.

    @ivar public: the public key, 32 bytes.
    """

    __slots__ = ("_next_prefix", "_private", "public")

    def __init__(self, private: bytes, first_prefix: int) -> None:
        """
        @param private: 32 secret bytes.
        @param first_prefix: 0..2**32-1, random.
        """
        self._private = X25519PrivateKey.from_private_bytes(private)
        self._next_prefix = first_prefix
        self.public = self._private.public_key().public_bytes_raw()

    def agree(self, peer_public: bytes) -> bytes:
        """
        @param peer_public: the other side's public key, 32 bytes.
        @return: the key that both sides seal with, 32 bytes, for AES-256.
        @raise KeyRefused: the result would not depend on our own key.
        """
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(peer_public))
        except ValueError as error:
            raise KeyRefused(f"unusable session key: {error}") from None
        return HKDF(SHA256(), KEY_SIZE, None, _INFO).derive(shared)

    def take_prefix(self, avoid: Container[bytes] = ()) -> bytes:
        """
        @param avoid: prefixes that the peer has used.
        @return: a nonce prefix never returned before, 4 bytes.
        """
        while True:
            prefix = self._next_prefix.to_bytes(PREFIX_SIZE, "big")
            self._next_prefix = (self._next_prefix + 1) % _PREFIXES
            if prefix not in avoid:
                return prefix
