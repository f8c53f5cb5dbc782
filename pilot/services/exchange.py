"""What data exchange allows its peers, and what it remembers of a frame until that is answered."""

from __future__ import annotations

from dataclasses import dataclass

from pilot.wire.dataexchange import Head, encode_confirmation, encode_refusal


@dataclass(frozen=True)
class ExchangeLimits:
    """
    What one peer, and all of them together, may take of this node.

    @ivar connections: open at once.
    @ivar connections_per_peer: of one node.
    @ivar pending_frames: frames of one connection that wait for the disk; then reading stops.
    @ivar pending_bytes: bytes of one connection that wait for the disk; then reading stops.
    @ivar small_message: bytes up to which a message waits in memory until it is complete; a larger
        one waits on disk.
    @ivar patience: seconds for a frame to make progress, or for the peer to take answers.
    @ivar slowest: bytes a second that frames have to come with on average, after C{patience}.
    @ivar idle: seconds that a connection may be open between two frames.
    """

    connections: int = 512
    connections_per_peer: int = 64
    pending_frames: int = 256
    pending_bytes: int = 1024 * 1024
    small_message: int = 64 * 1024
    patience: float = 60.0
    slowest: float = 1024.0
    idle: float = 300.0


class Pending:
    """
    A frame from its head to its answer.

    @ivar kind: its type.
    @ivar size: bytes of its content.
    @ivar name: of a file.
    @ivar answer: the frame that answers it, once that is known.
    """

    __slots__ = ("answer", "kind", "name", "size")

    def __init__(self, head: Head) -> None:
        self.kind, self.size, self.name = head
        self.answer: bytes | None = None

    def confirm(self) -> None:
        """It is handled."""
        self.answer = encode_confirmation(self.kind, self.size)

    def refuse(self, reason: str) -> None:
        """It cannot be stored."""
        self.answer = encode_refusal(self.kind, reason)
