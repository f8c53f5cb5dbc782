"""What an observer says of a member's reachability, and what it asks of its shell.

A member is I{fresh} (heard, or vouched for with its newest number), I{suspect} (accused, still
counted as there) or I{gone} (left by its own word, or given up after verification).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from skills.presence.detection.messages import Message

FRESH: Final = "fresh"
SUSPECT: Final = "suspect"
GONE: Final = "gone"

LEFT: Final = "left"
"""The cause of a clean leave; it is final for that incarnation."""


class Send(NamedTuple):
    """
    A datagram to send to a member; nobody waits for it and it may be lost.

    @ivar peer: node number.
    @ivar message: what L{skills.presence.detection.messages.encode} turns into at most 1,000 bytes.
    """

    peer: int
    message: Message


class Reach(NamedTuple):
    """
    A member's reachability changed in our eyes.

    @ivar node_id: the member.
    @ivar inc: its incarnation, 0 when it never told one.
    @ivar state: L{FRESH}, L{SUSPECT} or L{GONE}.
    @ivar cause: C{joined} (first sight), C{returned} (was gone), C{restarted} (a higher
        incarnation), C{heard} (a suspicion is over), C{thawed} (suspicions dropped because we
        doubt ourselves), C{accused}, C{unanswered} (our own probe), C{expired} (our own
        verdict), C{verdict} (a member's, accepted), C{left}, C{lapsed} (known only through
        others who have nothing newer), C{removed} (no member any more).
    @ivar evidence: JSON object: C{seq} (the last number known), C{silent} (seconds since it was
        said, by our clock), C{direct} (whether it said it to us), C{by} (node numbers of those
        who accuse it), C{via} (node that told us, 0: ourselves).
    """

    node_id: int
    inc: int
    state: str
    cause: str
    evidence: dict[str, Any]


class Record(NamedTuple):
    """
    A newer status record of a member came in.

    @ivar node_id: whose record it is, by its own field.
    @ivar record: the JSON object as its owner made it; shared, to be read only.
    @ivar via: who handed it over; the owner itself when equal to C{node_id}, else gossip.
    """

    node_id: int
    record: dict[str, Any]
    via: int


class Frozen(NamedTuple):
    """
    We doubt our own view (or no longer do): while frozen nobody is declared gone.

    @ivar frozen: whether verdicts are held from now on.
    @ivar cause: C{silence} (nothing comes in), C{exodus} (most members lost at once),
        C{stall} (we ourselves stood still), or C{thawed}.
    """

    frozen: bool
    cause: str


class Raised(NamedTuple):
    """
    Our own incarnation had to be raised over a false claim about us; it must be stored.

    @ivar inc: the incarnation from now on.  Our record should be made anew with it.
    """

    inc: int


Effect = Send | Reach | Record | Frozen | Raised
