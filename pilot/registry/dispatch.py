"""One request in, one answer out.

@see: protocol notes of the registry, I{Shape}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pilot.registry import (
    key_requests,
    member_requests,
    network_requests,
    node_requests,
    profile_requests,
    trust_requests,
)
from pilot.registry.callers import Caller
from pilot.registry.directory import Directory
from pilot.registry.fields import Request, text, u32
from pilot.registry.refusal import Refusal

Answer = dict[str, Any]
Handler = Callable[[Directory, Request, Caller, float], Answer]

UNKNOWN = "unknown"
"""What requests of a type that does not exist are counted as."""

NOT_OFFERED = frozenset(
    {
        "get_audit_log",
        "set_webhook",
        "get_webhook",
        "get_webhook_dlq",
        "set_identity_webhook",
        "set_external_id",
        "get_identity",
        "provision_network",
        "get_provision_status",
        "set_audit_export",
        "get_audit_export",
        "set_idp_config",
        "get_idp_config",
        "validate_token",
        "directory_sync",
        "directory_status",
    }
)
"""Requests of the reference's enterprise tier, which this registry answers with an error."""

HANDLERS: dict[str, Handler] = {
    handler.__name__: handler
    for handler in (
        node_requests.register,
        node_requests.lookup,
        node_requests.resolve,
        node_requests.resolve_hostname,
        node_requests.list_nodes,
        node_requests.heartbeat,
        node_requests.deregister,
        node_requests.punch,
        node_requests.beacon_register,
        node_requests.beacon_list,
        profile_requests.set_hostname,
        profile_requests.set_visibility,
        profile_requests.set_tags,
        profile_requests.set_task_exec,
        profile_requests.get_polo_score,
        profile_requests.update_polo_score,
        profile_requests.set_polo_score,
        trust_requests.report_trust,
        trust_requests.revoke_trust,
        trust_requests.check_trust,
        trust_requests.request_handshake,
        trust_requests.poll_handshakes,
        trust_requests.respond_handshake,
        key_requests.rotate_key,
        key_requests.get_key_info,
        key_requests.set_key_expiry,
        network_requests.create_network,
        network_requests.join_network,
        network_requests.leave_network,
        network_requests.list_networks,
        network_requests.delete_network,
        network_requests.rename_network,
        network_requests.get_network_policy,
        network_requests.set_network_policy,
        network_requests.get_expr_policy,
        network_requests.set_expr_policy,
        network_requests.set_network_enterprise,
        member_requests.invite_to_network,
        member_requests.poll_invites,
        member_requests.respond_invite,
        member_requests.kick_member,
        member_requests.promote_member,
        member_requests.demote_member,
        member_requests.transfer_ownership,
        member_requests.get_member_role,
        member_requests.set_member_tags,
        member_requests.get_member_tags,
    )
}


def kind_of(request: Request) -> str:
    """@return: the request's type, or L{UNKNOWN} for one that does not exist."""
    kind = text(request, "type")
    return kind if kind in HANDLERS or kind in NOT_OFFERED else UNKNOWN


def answer(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """
    Carry a request out.

    @param now: Unix seconds.
    @raise Refusal: it is not granted; the message is not masked yet.
    """
    caller.collected = ()
    kind = text(request, "type")
    handler = HANDLERS.get(kind)
    if handler is None:
        if kind in NOT_OFFERED:
            raise Refusal(f"enterprise feature: {kind} is not offered by this registry")
        if kind == "subscribe_replication":
            raise Refusal("replication not configured")
        raise Refusal(f"unknown message type: {kind}")
    for network_id in directory.networks.of(u32(request, "node_id")):
        directory.statistics.by_network[network_id] += 1
    return handler(directory, request, caller, now)
