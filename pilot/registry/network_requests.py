"""Requests about private networks: making, joining, leaving, listing, governing them.

@see: protocol notes of the registry, I{TIER 2: private networks}.
"""

from __future__ import annotations

from typing import Any

from pilot.registry.authority import require_role, require_signature_or_admin
from pilot.registry.callers import Caller
from pilot.registry.directory import Directory, same_text
from pilot.registry.documents import read_policy, read_rules
from pilot.registry.fields import Request, flag, size, text, u16, u32
from pilot.registry.fitting import fit
from pilot.registry.names import check_network_name
from pilot.registry.networks import ADMIN, BACKBONE, MEMBER, OWNER
from pilot.registry.node_requests import address
from pilot.registry.records import Network, Policy
from pilot.registry.refusal import Refusal

Answer = dict[str, Any]

_MAX_MEMBERS = 10_000
_MAX_PORTS = 100
_MAX_DESCRIPTION = 256  # bytes
_LISTING_EXTRAS = ("description", "rules")


def create_network(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """The administrator founds a network for a node."""
    directory.check_admin(request)
    limits = directory.limits
    rules = read_rules(request, limits.document)
    expr_policy = read_policy(request, limits.document)
    name = text(request, "name")
    check_network_name(name)
    join_rule = text(request, "join_rule") or "open"
    enterprise = flag(request, "enterprise")
    if join_rule == "invite" and not enterprise:
        raise Refusal("enterprise feature: invite-only networks require the enterprise flag")
    secrets = {field: text(request, field) for field in ("token", "network_admin_token")}
    for field, value in (*secrets.items(), ("join_rule", join_rule)):
        if size(value) > limits.token:
            raise Refusal(f"{field} too long (max {limits.token} bytes)")
    node_id = u32(request, "node_id")
    if node_id not in directory.nodes.live:
        raise Refusal(f"node {node_id} not registered")
    network = Network(
        directory.networks.next_id(),
        name,
        now,
        join_rule=join_rule,
        token=secrets["token"],
        admin_token=secrets["network_admin_token"],
        enterprise=enterprise,
        rules=rules,
        expr_policy=expr_policy,
    )
    directory.networks.create(network)
    directory.networks.join(network, node_id, OWNER)
    answer: Answer = {
        "type": "create_network_ok",
        "network_id": network.id,
        "name": name,
        "enterprise": enterprise,
    }
    if rules is not None:
        answer["managed"] = True
    return answer


def join_network(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node enters a network, if its rule lets it."""
    node_id, network_id = u32(request, "node_id"), u16(request, "network_id")
    if network_id == BACKBONE:
        raise Refusal("cannot join the backbone network")
    node = directory.nodes.live.get(node_id)
    if node is None:
        raise Refusal(f"node {node_id} not registered")
    require_signature_or_admin(
        directory, request, caller, node, now, "join_network", node_id, network_id
    )
    network = directory.networks.get(network_id)
    _check_join_rule(network, text(request, "token"))
    if node_id in directory.networks.members(network_id):
        raise Refusal(f"node {node_id} already in network {network_id}")
    directory.networks.check_room(network)
    directory.networks.join(network, node_id, MEMBER)
    answer: Answer = {
        "type": "join_network_ok",
        "network_id": network_id,
        "address": address(node_id, network_id),
    }
    if network.rules is not None:
        answer["rules"] = network.rules
    if network.expr_policy is not None:
        answer["expr_policy"] = network.expr_policy
    return answer


def leave_network(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node leaves a network."""
    node_id, network_id = u32(request, "node_id"), u16(request, "network_id")
    if network_id == BACKBONE:
        raise Refusal("cannot leave the backbone network")
    node = directory.nodes.get(node_id)
    require_signature_or_admin(
        directory, request, caller, node, now, "leave_network", node_id, network_id
    )
    network = directory.networks.get(network_id)
    if network.enterprise and directory.networks.owner(network_id) == node_id:
        raise Refusal("cannot leave network: owner must transfer ownership first")
    directory.networks.member(network_id, node_id)
    directory.networks.leave(network_id, node_id)
    directory.networks.drop_invites_of(node_id, network_id)
    return {"type": "leave_network_ok", "network_id": network_id}


def list_networks(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """All networks, without their secrets."""
    answer: Answer = {
        "type": "list_networks_ok",
        "networks": [_listed(directory, network) for network in directory.networks],
    }
    return fit(answer, "networks", _LISTING_EXTRAS, directory.limits.answer)


def delete_network(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """The owner dissolves a network."""
    network = _governed(directory, request, caller, now, "delete", OWNER)
    directory.networks.delete(network)
    return {"type": "delete_network_ok", "network_id": network.id}


def rename_network(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A network gets another name."""
    network = _governed(directory, request, caller, now, "rename", OWNER, ADMIN)
    name = text(request, "name")
    check_network_name(name)
    directory.networks.rename(network, name)
    return {"type": "rename_network_ok", "network_id": network.id, "name": name}


def get_network_policy(
    directory: Directory, request: Request, caller: Caller, now: float
) -> Answer:
    """What daemons of members enforce."""
    network = directory.networks.get(u16(request, "network_id"))
    return _policy("get_network_policy_ok", network, network.policy.allowed_ports)


def set_network_policy(
    directory: Directory, request: Request, caller: Caller, now: float
) -> Answer:
    """Change some of it; absent fields keep their value."""
    network = directory.networks.get(u16(request, "network_id"))
    require_role(directory, request, caller, network, now, OWNER, ADMIN)
    if not network.enterprise:
        raise Refusal("enterprise feature: requires enterprise network")
    network.policy = _changed_policy(directory, network, request)
    directory.networks.changed(network)
    directory.statistics.events["policy_changes"] += 1
    return _policy("set_network_policy_ok", network, network.policy.allowed_ports or None)


def get_expr_policy(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """The policy document, if there is one."""
    network = directory.networks.get(u16(request, "network_id"))
    answer: Answer = {"type": "get_expr_policy_ok", "network_id": network.id}
    if network.expr_policy is not None:
        answer["expr_policy"] = network.expr_policy
    return answer


def set_expr_policy(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """Replace or clear the policy document."""
    network = directory.networks.get(u16(request, "network_id"))
    require_role(directory, request, caller, network, now, OWNER, ADMIN)
    given = request.get("expr_policy")
    if given is None:
        raise Refusal("expr_policy field is required")
    answer: Answer = {"type": "set_expr_policy_ok", "network_id": network.id}
    network.expr_policy = read_policy(request, directory.limits.document)
    if network.expr_policy is None:
        answer["cleared"] = True
    directory.networks.changed(network)
    directory.statistics.events["policy_changes"] += 1
    return answer


def set_network_enterprise(
    directory: Directory, request: Request, caller: Caller, now: float
) -> Answer:
    """The administrator gives a network roles, or takes them away."""
    if not directory.is_admin(request):
        raise Refusal("set_network_enterprise requires admin token")
    network_id, enterprise = u16(request, "network_id"), flag(request, "enterprise")
    if network_id == BACKBONE:
        raise Refusal("cannot set enterprise on the backbone network")
    network = directory.networks.get(network_id)
    directory.networks.set_enterprise(network, enterprise)
    return {
        "type": "set_network_enterprise_ok",
        "network_id": network_id,
        "enterprise": enterprise,
    }


def _governed(
    directory: Directory, request: Request, caller: Caller, now: float, what: str, *roles: str
) -> Network:
    network_id = u16(request, "network_id")
    if network_id == BACKBONE:
        raise Refusal(f"cannot {what} the backbone network")
    network = directory.networks.get(network_id)
    require_role(directory, request, caller, network, now, *roles)
    return network


def _check_join_rule(network: Network, token: str) -> None:
    if network.join_rule == "token":
        if not same_text(token, network.token):
            raise Refusal(f"invalid token for network {network.id}")
    elif network.join_rule == "invite":
        raise Refusal("invite-only networks require invite_to_network + respond_invite flow")
    elif network.join_rule != "open":
        raise Refusal(f"unknown join rule: {network.join_rule}")


def _listed(directory: Directory, network: Network) -> Answer:
    if network.id == BACKBONE:
        members = len(directory.nodes)
    else:
        members = len(directory.networks.members(network.id))
    entry: Answer = {
        "id": network.id,
        "name": network.name,
        "members": members,
        "join_rule": network.join_rule,
        "enterprise": network.enterprise,
        "created": int(network.created),
    }
    if network.enterprise and network.policy.max_members:
        entry["max_members"] = network.policy.max_members
    if network.enterprise and network.policy.description:
        entry["description"] = network.policy.description
    if network.rules is not None:
        entry["managed"] = True
        entry["rules"] = network.rules
    if network.expr_policy is not None:
        entry["has_expr_policy"] = True
    return entry


def _policy(kind: str, network: Network, allowed_ports: list[int] | None) -> Answer:
    return {
        "type": kind,
        "network_id": network.id,
        "max_members": network.policy.max_members,
        "allowed_ports": allowed_ports,
        "description": network.policy.description,
    }


def _changed_policy(directory: Directory, network: Network, request: Request) -> Policy:
    old = network.policy
    policy = Policy(old.max_members, old.allowed_ports, old.description)
    if "max_members" in request:
        policy.max_members = _whole(
            request["max_members"],
            0,
            _MAX_MEMBERS,
            (f"invalid max_members (must be integer 0-{_MAX_MEMBERS})"),
        )
        count = len(directory.networks.members(network.id))
        if 0 < policy.max_members < count:
            raise Refusal(
                f"cannot set max_members to {policy.max_members}:"
                f" network already has {count} members"
            )
    if "allowed_ports" in request:
        policy.allowed_ports = _ports(request["allowed_ports"])
    if "description" in request:
        policy.description = text(request, "description")
        if size(policy.description) > _MAX_DESCRIPTION:
            raise Refusal(f"policy description too long (max {_MAX_DESCRIPTION} chars)")
    return policy


def _ports(given: Any) -> list[int]:
    wrong = "invalid port number in allowed_ports (must be integer 1-65535)"
    if given is None:
        return []
    if not isinstance(given, list):
        raise Refusal(wrong)
    if len(given) > _MAX_PORTS:
        raise Refusal(f"too many allowed_ports (max {_MAX_PORTS})")
    return list(dict.fromkeys(_whole(port, 1, 0xFFFF, wrong) for port in given))


def _whole(value: Any, least: int, most: int, wrong: str) -> int:
    if type(value) not in (int, float) or not least <= value <= most or value != int(value):
        raise Refusal(wrong)
    return int(value)
