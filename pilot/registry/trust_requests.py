"""Requests about trust, and the mailboxes through which private nodes ask for it.

@see: protocol notes of the registry, I{report_trust...} and I{request_handshake...}.
"""

from __future__ import annotations

from typing import Any

from pilot.registry.authority import require_signature
from pilot.registry.callers import Caller
from pilot.registry.directory import Directory
from pilot.registry.fields import Request, flag, size, text, u32
from pilot.registry.refusal import Refusal
from pilot.wire.registry import signing_text

Answer = dict[str, Any]


def report_trust(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node declares that it trusts a peer."""
    node = directory.nodes.get(u32(request, "node_id"))
    peer = directory.nodes.get(u32(request, "peer_id"))
    require_signature(directory, request, caller, node, now, "report_trust", node.id, peer.id)
    directory.trust.agree(node.id, peer.id, now)
    directory.statistics.events["trust_reports"] += 1
    return {"type": "report_trust_ok"}


def revoke_trust(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node takes its trust in a peer back, and the peer's in it."""
    node = directory.nodes.get(u32(request, "node_id"))
    peer = u32(request, "peer_id")
    require_signature(directory, request, caller, node, now, "revoke_trust", node.id, peer)
    if not directory.trust.revoke(node.id, peer):
        raise Refusal(f"no trust pair between {node.id} and {peer}")
    directory.statistics.events["trust_revocations"] += 1
    return {"type": "revoke_trust_ok"}


def check_trust(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """Whether two nodes trust each other, or are in one network."""
    one, other = u32(request, "node_id"), u32(request, "peer_id")
    live = directory.nodes.live
    trusted = directory.trust.trusted(one, other) or (
        one in live and other in live and directory.networks.shared(one, other)
    )
    return {"type": "check_trust_ok", "trusted": trusted}


def request_handshake(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node asks another for trust."""
    justification = text(request, "justification")
    limit = directory.limits.justification
    if size(justification) > limit:
        raise Refusal(f"justification too large: {size(justification)} bytes (max {limit})")
    sender = directory.nodes.get(u32(request, "from_node_id"))
    target = directory.nodes.get(u32(request, "to_node_id"))
    directory.check_signature(
        request,
        caller,
        sender,
        signing_text("request_handshake", sender.id, target.id),
        now,
        missing="handshake request requires signature",
        wrong="handshake request signature verification failed",
    )
    directory.trust.ask(sender.id, target.id)
    directory.mailboxes.ask(sender.id, target.id, justification, now)
    directory.notice(target.id)
    directory.statistics.events["handshake_requests"] += 1
    return {"type": "request_handshake_ok", "status": "delivered"}


def poll_handshakes(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node empties its mailbox."""
    node = directory.nodes.get(u32(request, "node_id"))
    require_signature(directory, request, caller, node, now, "poll_handshakes", node.id)
    letters = directory.mailboxes.collect(node.id)
    if directory.mailboxes.waiting(node.id):
        directory.notice(node.id)  # one answer could not carry them all
    caller.collected = letters
    requests = [
        {"from_node_id": x.sender, "justification": x.justification, "timestamp": x.time}
        for x in letters
        if x.accept is None
    ]
    responses = [
        {"from_node_id": x.sender, "accept": x.accept, "timestamp": x.time}
        for x in letters
        if x.accept is not None
    ]
    return {"type": "poll_handshakes_ok", "requests": requests, "responses": responses}


def respond_handshake(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node answers one that asked it for trust."""
    node = directory.nodes.get(u32(request, "node_id"))
    peer = directory.nodes.get(u32(request, "peer_id"))
    accept = flag(request, "accept")
    directory.check_signature(
        request,
        caller,
        node,
        signing_text("respond_handshake", node.id, peer.id),
        now,
        missing="handshake response requires signature",
        wrong="handshake response signature verification failed",
    )
    if accept:
        directory.trust.agree(node.id, peer.id, now)
    else:
        directory.trust.reject(node.id, peer.id)
    directory.mailboxes.respond(node.id, peer.id, accept, now)
    directory.notice(peer.id)
    return {"type": "respond_handshake_ok", "accept": accept, "peer_id": peer.id}
