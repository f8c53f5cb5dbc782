"""What the presence core asks of its shell.

Each entry point of L{skills.presence.core.presence.PresenceCore} returns a list of these.  Whatever
has a C{token} is answered, once, through the method named there; an answer that never comes is
harmless.
"""

from __future__ import annotations

from typing import Any, NamedTuple

STATUS_TOPIC = "presence.status"
"""The topic agents publish their records under."""
SIGNATURE_DOMAIN = "presence/v2"
"""What records are signed for, see C{IPilotNode.sign}."""


class Datagram(NamedTuple):
    """
    Send a datagram to a trusted peer on the virtual port of presence; it may be lost.

    @ivar peer: node number.
    @ivar data: JSON, at most 1,000 bytes.
    """

    peer: int
    data: bytes


class Publish(NamedTuple):
    """
    Publish our record at a coordinator; answered by C{published(now, target, ok)}.

    @ivar target: the coordinator as configured: hostname, address or node number.
    @ivar topic: L{STATUS_TOPIC}.
    @ivar payload: JSON, at most 1,000 bytes.
    """

    target: str
    topic: str
    payload: bytes


class Message(NamedTuple):
    """
    Send a JSON document (C{type} begins with C{presence_}) over the data exchange; when it could
    not be delivered, say so with C{message_failed(now, target)}.

    @ivar target: a coordinator as configured, or the node number of one who watches us.
    @ivar document: at most 64 KiB as JSON; to be read only.
    """

    target: str | int
    document: dict[str, Any]


class Ping(NamedTuple):
    """
    Ask a node for a sign of life: one packet each way, or an echo stream that is open anyway.
    Answered by C{pinged(now, token, ok)}.

    @ivar timeout: seconds to wait for the answer.
    """

    token: int
    node_id: int
    timeout: float


class Verify(NamedTuple):
    """
    Does C{hostname} resolve to this node?  Answered by C{verified(now, token, ok)}: C{None} when
    that could not be found out.
    """

    token: int
    hostname: str
    node_id: int


class CheckSignature(NamedTuple):
    """
    Did that node sign this for L{SIGNATURE_DOMAIN}?  Answered by C{verified(now, token, ok)}:
    C{None} when its key could not be had.
    """

    token: int
    node_id: int
    data: bytes
    signature: bytes


class Sign(NamedTuple):
    """
    Sign a record of ours for L{SIGNATURE_DOMAIN}.  Answered by C{signed(now, token, signature)},
    C{None} when that failed: it goes unsigned then.
    """

    token: int
    data: bytes


class Change(NamedTuple):
    """
    News for webhooks, for whoever subscribes to the own broker, and for local watchers.

    @ivar name: C{presence.changed}, C{presence.bulk}, C{presence.flapping}, C{presence.view_stale},
        C{presence.view_ok} or C{presence.status} (our own record, when it changed).
    @ivar data: JSON object::

        presence.changed     {"node","hostname","from","to","cause","evidence":{..},"version"}
        presence.bulk        {"count","to":{status: count},"agents":[[hostname,node,from,to]..100],
                              "version"}
        presence.flapping    {"node","hostname","flapping":true|false,"penalty"}
        presence.view_stale  {"cause"}        presence.view_ok  {"cause"}
    """

    name: str
    data: dict[str, Any]


class Persist(NamedTuple):
    """
    Store this durably, replacing what was stored under the same name.

    @ivar name: C{incarnation} or C{directory}.
    @ivar data: what the next core is given as C{incarnation} (decimal) or C{restored}.
    """

    name: str
    data: bytes


class Found(NamedTuple):
    """
    A search whose results were to be pinged first is done.

    @ivar token: as C{search} returned it.
    @ivar result: a L{skills.presence.core.finding.Result}.
    """

    token: int
    result: Any


Effect = (
    Datagram | Publish | Message | Ping | Verify | CheckSignature | Sign | Change | Persist | Found
)
