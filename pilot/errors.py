"""The error family: what went wrong, as a person and as a program reads it.

Every error carries a machine-readable C{code} (the closed list of C{docs/reference/pilotctl.md}), a
message that says what happened, and, where there is one, a C{hint} that says what to do next.  The
command line, the control socket and the log print the same three.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing costs pilotctl a tenth of its start-up
    from typing import ClassVar


class PilotError(Exception):
    """Anything this project reports on purpose.

    @cvar code: machine-readable error code.
    @ivar message: what happened, one sentence without a final full stop.
    @ivar hint: what to do next, or C{None}.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WireError(PilotError):
    """Bytes or text that do not follow the protocol.  The only error a decoder raises."""

    code = "invalid_argument"


class AddressError(WireError):
    """Text that is no Pilot address."""


class InvalidArgument(PilotError):
    """The caller asked for something that cannot be meant."""

    code = "invalid_argument"


class NotFound(PilotError):
    """A name, a node, a file or a record that does not exist (or may not be seen)."""

    code = "not_found"


class AlreadyExists(PilotError):
    """What was to be made is there already, or is in use by another."""

    code = "already_exists"


class NotRunning(PilotError):
    """No daemon answers behind the control socket."""

    code = "not_running"


class TimedOut(PilotError):
    """No answer in time."""

    code = "timeout"


class ConnectionFailed(PilotError):
    """A peer, the daemon or the registry refused, failed, or could not be reached."""

    code = "connection_failed"


class ConnectionRefused(ConnectionFailed):
    """The peer answered a dial with a reset: nothing listens on that port."""


class DialTimeout(ConnectionFailed):
    """The peer never answered a dial."""


class ConnectionReset(ConnectionFailed):
    """An established stream was aborted; bytes may be missing.  Never a clean end."""


class PortInUse(ConnectionFailed):
    """The virtual port is bound already."""


class MessageRefused(ConnectionFailed):
    """The peer got a message and said that it does not take it; the message says why."""


class RegistryError(ConnectionFailed):
    """The registry answered with an error; the message is the registry's own text."""


class RegistryUnavailable(ConnectionFailed):
    """The registry cannot be reached, or did not answer in time."""
