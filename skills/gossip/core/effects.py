"""What a replica orders its shell to do, and what the shell tells a replica about its members.

Effects are carried out in the order given: a L{Persist} that comes before a L{Send} is written
before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from skills.gossip.core.register import Register


class PeerFacts(NamedTuple):
    """
    A trusted peer that may be a member of the swarm.

    @ivar node_id: its node number.
    @ivar v2: C{True}: the caller knows by itself, now, that the peer speaks version 2;
        C{False}: known not to; C{None}: the replica finds out.
    @ivar hostname: for people; may be empty.
    """

    node_id: int
    v2: bool | None = None
    hostname: str = ""


class Send(NamedTuple):
    """
    Send a message as one JSON frame; then call C{sent} or C{send_failed} of the replica.

    @ivar peer: the node number.
    @ivar document: JSON-ready; shared between sends, so it must not be changed.
    """

    peer: int
    document: dict[str, Any]


class Event(NamedTuple):
    """
    News for the application.  C{data} always holds C{"swarm"}: its name.

    C{gossip.changed}: C{{"changes": [{"key", "value", "deleted", "author", "hlc", "local",
    "previous": {"value", "deleted", "author", "hlc"} | None}, ...]}}, what changed since the last
    such event, at most one event per coalescing pause.
    C{gossip.synced}: C{{"peer", "root"}}: a partner holds the same; told when the replica was not
    in step before, and for every C{sync} that was asked for.
    C{gossip.diverged}: C{{"peer", "root", "theirs", "cause"}}: a partner keeps differing, or a
    C{sync} that was asked for did not end in agreement.
    C{gossip.rejected}: C{{"peer", "reason", "key", "count"}}: something a peer sent was refused;
    at most one event a second, C{count} since the last.
    C{gossip.member_joined}, C{gossip.member_left}, C{gossip.member_failed}:
    C{{"node_id", "incarnation"}}.

    @ivar name: one of these.
    @ivar data: JSON-ready.
    """

    name: str
    data: dict[str, Any]


class Persist(NamedTuple):
    """
    Append records to the journal.

    @ivar records: pairs of kind and JSON-ready data, see L{skills.gossip.core.restoring}.
    @ivar urgent: a local write, or a bound of the clock: to be on disk before what follows leaves
        (when the operator wants durable writes).
    """

    records: tuple[tuple[str, Any], ...]
    urgent: bool = False


class Sign(NamedTuple):
    """
    Sign an own register; then call C{signed} of the replica.  Until then it is not written.

    @ivar register: the register; C{signing_bytes} of L{skills.gossip.core.signing} is what to sign.
    """

    register: Register


class Verify(NamedTuple):
    """
    Check a signature; then call C{verified} of the replica.

    @ivar register: the register; its author is the node whose key must have signed.
    """

    register: Register


Effect = Send | Event | Persist | Sign | Verify
