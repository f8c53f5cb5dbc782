"""Requests by which a node describes itself, and those about its score.

@see: protocol notes of the registry, I{set_hostname...} and I{Polo score}.
"""

from __future__ import annotations

from typing import Any

from pilot.registry.authority import require_signature_or_admin
from pilot.registry.callers import Caller
from pilot.registry.directory import Directory
from pilot.registry.fields import Request, flag, number, text, texts, u32
from pilot.registry.names import check_hostname, normal_tags
from pilot.registry.node_requests import address
from pilot.registry.records import Node
from pilot.registry.refusal import Refusal

Answer = dict[str, Any]


def set_hostname(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node takes a name or gives it up."""
    hostname = text(request, "hostname")
    if hostname:
        try:
            check_hostname(hostname)
        except Refusal as error:
            raise Refusal(f"invalid hostname: {error.message}") from None
    node = _own(directory, request, caller, now)
    directory.nodes.rename(node, hostname)
    return {"type": "set_hostname_ok", "node_id": node.id, "hostname": hostname}


def set_visibility(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node shows or hides where it is."""
    node = _own(directory, request, caller, now)
    node.public = flag(request, "public")
    directory.nodes.changed(node)
    visibility = "public" if node.public else "private"
    return {"type": "set_visibility_ok", "node_id": node.id, "visibility": visibility}


def set_tags(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node says what it is for."""
    tags = normal_tags(texts(request, "tags"), directory.limits.tags, "tags")
    node = _own(directory, request, caller, now)
    node.tags = tags
    directory.nodes.changed(node)
    return {"type": "set_tags_ok", "node_id": node.id, "tags": tags or None}


def set_task_exec(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node says whether it takes tasks."""
    node = _own(directory, request, caller, now)
    node.task_exec = flag(request, "enabled")
    directory.nodes.changed(node)
    return {"type": "set_task_exec_ok", "node_id": node.id, "task_exec": node.task_exec}


def get_polo_score(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node's score, for anybody."""
    return _score("get_polo_score_ok", _scored(directory, request))


def update_polo_score(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """Add to a score."""
    limit = directory.limits.polo
    delta = number(request, "delta")
    if delta is None:
        raise Refusal("update_polo_score requires delta field")
    if not -limit <= delta <= limit:
        raise Refusal(f"polo score delta out of range (max {limit})")
    node = _scored(directory, request)
    score = max(-limit, min(limit, node.polo_score + int(delta)))
    _set_score(directory, caller, node, request, score, now)
    return _score("update_polo_score_ok", node)


def set_polo_score(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """Replace a score."""
    limit = directory.limits.polo
    score = number(request, "polo_score")
    if score is None:
        raise Refusal("set_polo_score requires polo_score field")
    if not -limit <= score <= limit:
        raise Refusal(f"polo score out of range (max {limit})")
    node = _scored(directory, request)
    _set_score(directory, caller, node, request, int(score), now)
    return _score("set_polo_score_ok", node)


def _own(directory: Directory, request: Request, caller: Caller, now: float) -> Node:
    node = directory.nodes.get(u32(request, "node_id"))
    kind = text(request, "type")
    require_signature_or_admin(directory, request, caller, node, now, kind, node.id)
    return node


def _scored(directory: Directory, request: Request) -> Node:
    node_id = u32(request, "node_id")
    node = directory.nodes.live.get(node_id)
    if node is None:
        raise Refusal(f"node {node_id} not found")
    return node


def _set_score(
    directory: Directory, caller: Caller, node: Node, request: Request, score: int, now: float
) -> None:
    if not directory.is_admin(request):
        directory.polo.check(caller, node, score, now)
    if score != node.polo_score:
        node.polo_score = score
        directory.nodes.changed(node)


def _score(kind: str, node: Node) -> Answer:
    return {
        "type": kind,
        "node_id": node.id,
        "address": address(node.id),
        "polo_score": node.polo_score,
    }
