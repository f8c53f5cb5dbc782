"""What gossip refuses."""

from __future__ import annotations

from pilot.errors import PilotError


class GossipError(PilotError):
    """Anything the gossip skill reports on purpose."""

    code = "invalid_argument"


class BadMessage(GossipError):
    """A message, a register or a stored record that is not of the form it must have."""


class Refused(GossipError):
    """
    A well-formed write or entry that is not taken.

    @ivar reason: one word for counters and for the sender: C{"keys"}, C{"value"}, C{"future"}...
    """

    def __init__(self, reason: str, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message or f"refused: {reason}", hint=hint)
        self.reason = reason
