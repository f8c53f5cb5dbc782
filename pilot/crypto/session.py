"""What two nodes share once they agreed on a key: sealing, opening, and what may be opened once.

@see: protocol notes, I{Nonce}, I{The receive window}; golden vectors C{tunnel.json}.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilot.crypto.keys import KeyPair
from pilot.crypto.replay import ReplayWindow
from pilot.errors import PilotError
from pilot.wire.tunnel import MAGIC_SECURE

#: Frames sealed under one key at most.  Keys are changed long before (see the tunnel's settings);
#: this is the wall behind that, as far from the 2**64 of the counter as from what a node can send.
FRAME_LIMIT = 1 << 48

#: Nonce prefixes of a peer that are told apart under one key.  A reference peer draws a new one for
#: every key frame it takes.  Beyond the limit new ones are refused rather than old ones
#: forgotten, for what is forgotten can be replayed.
LANES = 64

_pack_header = Struct(">12sQ").pack
_NODE = Struct(">I")


class Forged(PilotError):
    """A frame that was not sealed with this session's key."""


class Replayed(PilotError):
    """
    A frame whose counter was seen before, or is too old to tell.

    @ivar counter: the frame's counter.
    """

    def __init__(self, counter: int) -> None:
        super().__init__(f"frame {counter} was seen before")
        self.counter = counter


class Exhausted(PilotError):
    """A key that has sealed as many frames as it may, or met as many prefixes."""


class Lane(ReplayWindow):
    """
    The frames that one peer sends under one key and one nonce prefix.

    Everything the hot path needs to open a frame, in one object.

    @ivar session: what it belongs to.
    @ivar head: the first 12 bytes of its frames: magic, node id, prefix.
    @ivar node_id: the peer.
    @ivar decrypt: C{(nonce, ciphertext, C{aad})} to plaintext; raises C{InvalidTag}.
    @ivar aad: what the tag covers besides the packet: the peer's node id, packed.
    @ivar seen_from: for the tunnel: where its last frame came from; None has the next one looked
        at.
    """

    __slots__ = ("aad", "decrypt", "head", "node_id", "seen_from", "session")

    def __init__(self, session: Session, head: bytes) -> None:
        super().__init__()
        self.session = session
        self.head = head
        self.node_id = session.peer_node_id
        self.aad = head[4:8]
        self.decrypt = session.decrypt
        self.seen_from: object = None


class Session:
    """
    One derived key between us and one peer, with its own counter and the peer's windows.

    @ivar own: our pair the key was derived from.
    @ivar peer_public: the peer's public key it was derived from.
    @ivar decrypt: the cipher's.
    @ivar sent: frames sealed so far; also the counter of the last one.
    @ivar lanes: the peer's nonce prefixes under this key, those that proved authentic.
    @ivar confirmed: whether the peer is known to hold the key, because it sealed something with it.
    """

    __slots__ = (
        "_aad",
        "_encrypt",
        "_head",
        "confirmed",
        "decrypt",
        "lanes",
        "own",
        "peer_node_id",
        "peer_public",
        "sent",
    )

    def __init__(self, own: KeyPair, node_id: int, peer_public: bytes, peer_node_id: int) -> None:
        """
        @param node_id: our own.
        @raise KeyRefused: C{peer_public} is of low order.
        """
        # One cipher object a key: making one for each packet would double the price of the packet.
        cipher = AESGCM(own.agree(peer_public))
        self._encrypt, self.decrypt = cipher.encrypt, cipher.decrypt
        self.own = own
        self.peer_public = peer_public
        self.peer_node_id = peer_node_id
        self.lanes: dict[bytes, Lane] = {}
        self.confirmed = False
        self.sent = 0
        self._aad = _NODE.pack(node_id)
        self._head = MAGIC_SECURE + self._aad + own.take_prefix()

    @property
    def prefix(self) -> bytes:
        """The nonce prefix we seal with, 4 bytes."""
        return self._head[8:]

    @property
    def received(self) -> int:
        """Frames opened so far, near enough: the highest counters of all lanes together."""
        return sum(lane.expected for lane in self.lanes.values())

    @property
    def crowded(self) -> bool:
        """Whether the peer has used so many prefixes that a new key is due."""
        return len(self.lanes) > LANES // 2

    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """
        Seal packets into frames; the hot path.

        @return: for each packet two buffers, the frame's header (20 bytes) and its ciphertext:
            ready for a gathering send, never joined.
        @raise Exhausted: the key has served its time; nothing was sealed.
        """
        counter = self.sent
        # Taken before use, so that nothing that goes wrong below can use a counter twice.
        self.sent = counter + len(packets)
        if self.sent > FRAME_LIMIT:
            self.sent = counter
            raise Exhausted("session key used up")
        encrypt, head, aad, pack = self._encrypt, self._head, self._aad, _pack_header
        frames: list[bytes] = []
        add = frames.append
        for packet in packets:
            counter += 1
            header = pack(head, counter)
            add(header)
            add(encrypt(header[8:], packet, aad))
        return frames

    def open(self, frame: bytes) -> tuple[bytes, Lane, bool]:
        """
        Open a frame, whatever its prefix; marks its counter once the tag has verified.

        @param frame: a whole frame, at least 36 bytes, whose node id is the peer's.
        @return: the packet, the lane the frame came in, and whether it is the newest in it.
        @raise Replayed: the counter was seen before.
        @raise Forged: the tag does not verify.
        @raise Exhausted: authentic, but under one prefix too many.
        """
        head, nonce = frame[:12], frame[8:20]
        prefix, counter = nonce[:4], int.from_bytes(nonce[4:], "big")
        lane = self.lanes.get(prefix)
        if lane is not None and not lane.accepts(counter):
            raise Replayed(counter)
        try:
            packet = self.decrypt(nonce, frame[20:], frame[4:8])
        except InvalidTag:
            raise Forged("wrong key or altered frame") from None
        if lane is None:
            if len(self.lanes) >= LANES:
                raise Exhausted("too many nonce prefixes under one key")
            lane = self.lanes[prefix] = Lane(self, head)
            if prefix == self._head[8:]:
                self._change_prefix()
        newest = counter >= lane.expected
        lane.mark(counter)
        return packet, lane, newest

    def _change_prefix(self) -> None:
        """The peer has come upon our own prefix.  The counter goes on, for its window may not look
        at prefixes at all."""
        self._head = self._head[:8] + self.own.take_prefix(self.lanes)
