"""The frames of the tunnel socket: four magic bytes, then what they announce.

@see: protocol notes, I{Every datagram on the tunnel socket}; golden vectors C{tunnel.json}.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import NamedTuple

from pilot.errors import WireError
from pilot.wire.packet import HEADER_SIZE

MAGIC_PLAIN = b"PILT"
MAGIC_SECURE = b"PILS"
MAGIC_KEY = b"PILK"
MAGIC_AUTH = b"PILA"
MAGIC_PUNCH = b"PILP"

NONCE_SIZE = 12  # bytes: prefix 4, counter 8
TAG_SIZE = 16  # bytes
KEY_SIZE = 32  # bytes, X25519 and Ed25519 public keys alike
SIGNATURE_SIZE = 64  # bytes

SECURE_HEADER = Struct(">4sI12s")
"""Magic, node id of the sender, nonce: what stands before the ciphertext, 20 bytes."""

_NODE = Struct(">I")
_KEY = Struct(">4sI32s")
_AUTH = Struct(">4sI32s32s64s")
_PLAIN_MIN = 4 + HEADER_SIZE
_SECURE_MIN = SECURE_HEADER.size + TAG_SIZE


class PlainFrame(NamedTuple):
    """
    A packet in the clear.

    @ivar packet: an encoded packet, 34 bytes or more.
    """

    packet: bytes

    def encode(self) -> bytes:
        """@return: the datagram."""
        return MAGIC_PLAIN + self.packet


class SecureFrame(NamedTuple):
    """
    A sealed packet.

    @ivar node_id: the sender; also what the seal authenticates besides the packet.
    @ivar nonce: 12 bytes, a prefix of 4 and a counter of 8.
    @ivar ciphertext: 16 bytes or more, the authentication tag at the end.
    """

    node_id: int
    nonce: bytes
    ciphertext: bytes

    def encode(self) -> bytes:
        """
        @return: the datagram.
        @raise WireError: a node id or a nonce that does not fit.
        """
        if len(self.nonce) != NONCE_SIZE:
            raise WireError(f"a nonce is {NONCE_SIZE} bytes, not {len(self.nonce)}")
        return MAGIC_SECURE + _node(self.node_id) + self.nonce + self.ciphertext


class KeyExchange(NamedTuple):
    """
    A session key offered without proof of who offers it.

    @ivar node_id: the sender, claimed.
    @ivar public_key: X25519, 32 bytes.
    """

    node_id: int
    public_key: bytes

    def encode(self) -> bytes:
        """
        @return: the datagram.
        @raise WireError: a node id or a key that does not fit.
        """
        return MAGIC_KEY + _node(self.node_id) + _sized(self.public_key, KEY_SIZE)


class AuthenticatedKeyExchange(NamedTuple):
    """
    A session key, signed with the sender's identity.

    @ivar node_id: the sender.
    @ivar public_key: X25519, 32 bytes.
    @ivar identity_key: Ed25519, 32 bytes; worth nothing until compared with the registry's.
    @ivar signature: Ed25519 over L{signed_bytes}, 64 bytes, not verified here.
    """

    node_id: int
    public_key: bytes
    identity_key: bytes
    signature: bytes

    def encode(self) -> bytes:
        """
        @return: the datagram.
        @raise WireError: a node id, a key or a signature that does not fit.
        """
        return (
            MAGIC_AUTH
            + _node(self.node_id)
            + _sized(self.public_key, KEY_SIZE)
            + _sized(self.identity_key, KEY_SIZE)
            + _sized(self.signature, SIGNATURE_SIZE)
        )


class Punch:
    """Nothing but a reason for a NAT to let the answer in."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Punch)

    def __hash__(self) -> int:
        return hash(Punch)

    def __repr__(self) -> str:
        return "Punch()"

    def encode(self) -> bytes:
        """@return: the datagram."""
        return MAGIC_PUNCH


Frame = PlainFrame | SecureFrame | KeyExchange | AuthenticatedKeyExchange | Punch


def decode_frame(data: bytes | memoryview) -> Frame:
    """
    Tell the five frames apart.  Surplus bytes after those of fixed size are ignored.

    @raise WireError: shorter than its kind demands, or of no known kind.
    """
    data = bytes(data)
    magic, size = data[:4], len(data)
    if magic == MAGIC_SECURE and size >= _SECURE_MIN:
        _, node_id, nonce = SECURE_HEADER.unpack_from(data)
        return SecureFrame(node_id, nonce, data[SECURE_HEADER.size :])
    if magic == MAGIC_PLAIN and size >= _PLAIN_MIN:
        return PlainFrame(data[4:])
    if magic == MAGIC_AUTH and size >= _AUTH.size:
        return AuthenticatedKeyExchange(*_AUTH.unpack_from(data)[1:])
    if magic == MAGIC_KEY and size >= _KEY.size:
        return KeyExchange(*_KEY.unpack_from(data)[1:])
    if magic == MAGIC_PUNCH:
        return Punch()
    if magic in (MAGIC_SECURE, MAGIC_PLAIN, MAGIC_AUTH, MAGIC_KEY):
        raise WireError(f"{magic.decode('ascii')} frame too short: {size} bytes")
    raise WireError(f"no tunnel frame: {size} bytes beginning with {magic.hex() or 'nothing'}")


def signed_bytes(node_id: int, public_key: bytes) -> bytes:
    """
    @param node_id: the sender of an authenticated key exchange.
    @param public_key: the X25519 key it offers, 32 bytes.
    @return: the 40 bytes that its identity signs.
    @raise WireError: a node id or a key that does not fit.
    """
    return b"auth" + _node(node_id) + _sized(public_key, KEY_SIZE)


def _node(node_id: int) -> bytes:
    try:
        return _NODE.pack(node_id)
    except StructError:
        raise WireError(f"no node id: {node_id}") from None


def _sized(value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise WireError(f"{size} bytes wanted, not {len(value)}")
    return value
