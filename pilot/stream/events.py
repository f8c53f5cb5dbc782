"""What a connection tells its shell, and the names of its states."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State:
    """States as diagnostics print them (protocol notes, I{States})."""

    CLOSED = "CLOSED"
    SYN_SENT = "SYN_SENT"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT = "FIN_WAIT"
    CLOSE_WAIT = "CLOSE_WAIT"
    TIME_WAIT = "TIME_WAIT"


class CloseCause(Enum):
    """Why a connection is over.  Only C{CLEAN} means that every byte arrived on both sides."""

    CLEAN = "clean"
    REFUSED = "refused"
    RESET = "reset"
    TIMEOUT = "timeout"
    IDLE = "idle"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Established:
    """Both ends know of the connection; data may flow."""


@dataclass(frozen=True, slots=True)
class PeerFinished:
    """
    Nothing more will come: everything the peer sent before its end was delivered.

    It is also said when the program stopped reading and its own end has arrived, because then
    the stream is over for the program, whatever the peer may still do.
    """


@dataclass(frozen=True, slots=True)
class Closed:
    """
    The connection is over and may be forgotten.

    @ivar cause: why.
    @ivar reason: the same for a person, one sentence without a final full stop.
    """

    cause: CloseCause
    reason: str


Event = Established | PeerFinished | Closed
