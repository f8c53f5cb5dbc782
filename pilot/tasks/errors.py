"""What may not be done with a task."""

from __future__ import annotations

from pilot.errors import PilotError


class InvalidState(PilotError):
    """The task is not in the state that this needs."""

    code = "invalid_state"


class Expired(PilotError):
    """The task was to be accepted within a minute."""

    code = "expired"


class TaskFileError(PilotError):
    """A file of the user, or of the task, cannot be read or written."""

    code = "internal_error"
