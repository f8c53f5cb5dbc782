"""What is remembered of a peer: one small record a state, and what is still owed to it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Requested(NamedTuple):
    """
    We have asked the peer and wait for its answer.

    @ivar asked_at: own Unix time of the first request; repeating it does not move this.
    @ivar justification: the text that went with the latest request.
    @ivar drained: whether the registry's mailbox was emptied right before we asked.  Then every
        answer in it is younger than the request, whatever the clocks say.
    """

    asked_at: float
    justification: str = ""
    drained: bool = False


class Pending(NamedTuple):
    """
    The peer has asked us and waits for the user.

    @ivar public_key: its Ed25519 key in base64, C{""} when the registry could not be asked.
    @ivar received_at: own Unix time.
    """

    public_key: str
    justification: str
    received_at: float


class Trusted(NamedTuple):
    """
    The peer may connect.

    @ivar public_key: its Ed25519 key in base64, C{""} if it was never learnt.
    @ivar approved_at: own Unix time.
    @ivar mutual: true at the side that asked, and when both did.
    @ivar network: the network whose membership granted the trust, 0 for none.
    """

    public_key: str
    approved_at: float
    mutual: bool
    network: int = 0


class Revoked(NamedTuple):
    """
    Trust was taken back here.

    @ivar revoked_at: own Unix time.
    @ivar by_user: false when a membership ended; then a new membership grants trust again.
    """

    revoked_at: float
    by_user: bool = True


#: What is known of a peer; None is a stranger.
Record = Requested | Pending | Trusted | Revoked | None


class Step(StrEnum):
    """One thing that a decision makes us do, towards the peer (port 444) or the registry."""

    ASK = "ask"  #: bring the peer our request, directly or through the registry
    REPORT = "report"  #: tell the registry of the trust
    ACCEPT = "accept"  #: tell the peer directly
    RESPOND = "respond"  #: leave the acceptance in the peer's mailbox
    REJECT = "reject"  #: tell the peer directly
    DECLINE = "decline"  #: leave the rejection in the peer's mailbox
    REVOKE = "revoke"  #: tell the peer directly
    UNPAIR = "unpair"  #: have the registry forget the trust


class Errand(NamedTuple):
    """
    What is still to be done after a decision about a peer; it survives a restart.

    @ivar steps: what is left, in the order of L{Step}.
    @ivar text: justification or reason that goes with it.
    @ivar since: own Unix time of the decision.
    """

    node_id: int
    steps: tuple[Step, ...]
    text: str
    since: float


def ordered(steps: set[Step]) -> tuple[Step, ...]:
    """@return: the steps in their fixed order, each once."""
    return tuple(step for step in Step if step in steps)
