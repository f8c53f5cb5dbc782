"""Who may do what: a signature, the admin token, or a role in a network.

@see: protocol notes of the registry, I{Admin token} and I{Role rule}.
"""

from __future__ import annotations

from pilot.registry.callers import Caller
from pilot.registry.directory import Directory, same_text
from pilot.registry.extensions import registration_text, role_text
from pilot.registry.fields import Request, decode_base64, text, u32
from pilot.registry.records import Network, Node
from pilot.registry.refusal import Refusal
from pilot.wire.registry import signing_text

PROOF_LASTS = 300.0
"""Seconds that the clocks of a node and the registry may differ for a proof to count."""


def require_signature(
    directory: Directory,
    request: Request,
    caller: Caller,
    node: Node,
    now: float,
    kind: str,
    *ids: int,
    changes: bool = True,
) -> None:
    """@raise Refusal: no sound signature of C{node} for this request."""
    directory.check_signature(request, caller, node, signing_text(kind, *ids), now, changes=changes)


def require_signature_or_admin(
    directory: Directory,
    request: Request,
    caller: Caller,
    node: Node,
    now: float,
    kind: str,
    *ids: int,
) -> None:
    """@raise Refusal: neither; the error is that of the signature."""
    try:
        require_signature(directory, request, caller, node, now, kind, *ids)
    except Refusal:
        if not directory.is_admin(request):
            raise


def has_admin_token(directory: Directory, request: Request, network: Network) -> bool:
    """@return: whether the request carries the registry's or the network's admin token."""
    return directory.is_admin(request) or bool(
        network.admin_token and same_text(text(request, "admin_token"), network.admin_token)
    )


def require_role(
    directory: Directory,
    request: Request,
    caller: Caller,
    network: Network,
    now: float,
    *allowed: str,
) -> None:
    """
    The role rule, but that naming a node is not being it.

    The node in C{node_id} must have shown a signature on this connection, or sign this request
    (L{pilot.registry.extensions.role_text}).

    @raise Refusal: no token, and no such role or no proof.
    """
    if has_admin_token(directory, request, network):
        return
    node_id = u32(request, "node_id")
    if not node_id:
        raise Refusal("rbac: node_id required for role-based authorization")
    member = directory.networks.members(network.id).get(node_id)
    role = member.role if member is not None else ""
    if not role:
        raise Refusal(f"rbac: node {node_id} has no role in network {network.id}")
    if role not in allowed:
        raise Refusal(
            f'rbac: node {node_id} has role "{role}", requires one of [{" ".join(allowed)}]'
        )
    if node_id in caller.proven:
        return
    signed = role_text(text(request, "type"), node_id, network.id)
    directory.check_signature(request, caller, directory.nodes.get(node_id), signed, now)


def proven_registration(
    directory: Directory, request: Request, public_key: bytes, now: float
) -> bool:
    """
    Whether a registration shows that its sender has the key it names.

    C{proof_time}, Unix seconds, is signed too and keeps a proof from being used again later.

    @return: C{False} too when the time is too far off, as a clock may be wrong.
    @raise Refusal: there is a proof, and it is false.
    """
    if "proof" not in request:
        return False
    moment = u32(request, "proof_time")
    signed = registration_text(text(request, "public_key"), text(request, "listen_addr"), moment)
    try:
        signature = decode_base64(text(request, "proof"))
    except Refusal:
        signature = b""
    if not directory.is_signed(public_key, signature, signed):
        raise Refusal("invalid registration proof")
    return abs(now - moment) <= PROOF_LASTS
