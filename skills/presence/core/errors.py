"""What can go wrong in presence, in the family of every other error here."""

from __future__ import annotations

from pilot.errors import PilotError


class PresenceError(PilotError):
    """Anything the presence skill reports on purpose."""

    code = "invalid_argument"


class BadMessage(PresenceError):
    """Bytes or a document from a peer that are no presence message.  All a decoder raises."""


class BadRecord(PresenceError):
    """Bytes that are no status record, or one that says what cannot be.  All its parser raises."""


class UnknownAgent(PresenceError):
    """Nobody of that name is in the directory."""

    code = "not_found"
