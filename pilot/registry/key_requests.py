"""Requests about keys: rotating one, how old it is, when it expires.

@see: protocol notes of the registry, I{rotate_key, get_key_info}.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pilot.registry.authority import require_signature, require_signature_or_admin
from pilot.registry.callers import Caller
from pilot.registry.directory import Directory
from pilot.registry.fields import Request, quoted, rfc3339, text, u32
from pilot.registry.node_requests import address, decode_key
from pilot.registry.refusal import Refusal

Answer = dict[str, Any]

_LONGEST_EXPIRY = 3650 * 86_400.0  # seconds


def rotate_key(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node changes its key, by the word of the old one."""
    if not text(request, "signature"):
        raise Refusal("rotate_key requires a valid signature")
    new_key = text(request, "new_public_key")
    if not new_key:
        raise Refusal("rotate_key requires new_public_key")
    public_key = decode_key(new_key, "new_public_key")
    node = directory.nodes.get(u32(request, "node_id"))
    require_signature(directory, request, caller, node, now, "rotate_key", node.id)
    directory.rotate(node, public_key, now)
    directory.statistics.events["key_rotations"] += 1
    return {
        "type": "rotate_key_ok",
        "node_id": node.id,
        "address": address(node.id),
        "public_key": new_key,
    }


def get_key_info(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """How old a node's key is."""
    node = directory.nodes.get(u32(request, "node_id"))
    answer: Answer = {
        "type": "get_key_info_ok",
        "node_id": node.id,
        "created_at": rfc3339(node.key_created),
        "rotate_count": node.rotations,
        "key_age_days": node.key_age_days(now),
    }
    if node.key_rotated:
        answer["rotated_at"] = rfc3339(node.key_rotated)
    if node.key_expires:
        answer["expires_at"] = rfc3339(node.key_expires)
    return answer


def set_key_expiry(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A member of an enterprise network says until when its key is good."""
    node = directory.nodes.get(u32(request, "node_id"))
    require_signature_or_admin(directory, request, caller, node, now, "set_key_expiry", node.id)
    networks = directory.networks
    if not any(networks.get(n).enterprise for n in networks.of(node.id)):
        raise Refusal("enterprise feature: key expiry requires an enterprise network")
    until = text(request, "expires_at")
    answer: Answer = {"type": "set_key_expiry_ok", "node_id": node.id}
    if until in ("", "never"):
        node.key_expires = 0.0
    else:
        expires = _moment(until)
        if expires <= now:
            raise Refusal("expires_at must be in the future")
        if expires - now > _LONGEST_EXPIRY:
            raise Refusal("expires_at must be within 3650 days")
        node.key_expires = expires
        answer["expires_at"] = rfc3339(expires)
    directory.nodes.changed(node)
    return answer


def _moment(value: str) -> float:
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None or "T" not in value:
            raise ValueError
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise Refusal(
            f'invalid expires_at: parsing time {quoted(value)} as "2006-01-02T15:04:05Z07:00":'
            f' cannot parse {quoted(value)} as "2006"'
        ) from None
