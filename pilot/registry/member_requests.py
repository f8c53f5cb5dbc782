"""Requests about the members of a network: invitations, roles, tags.

@see: protocol notes of the registry, I{Invitations} and I{Administration}.
"""

from __future__ import annotations

from typing import Any

from pilot.registry.authority import (
    has_admin_token,
    require_role,
    require_signature,
)
from pilot.registry.callers import Caller
from pilot.registry.directory import Directory
from pilot.registry.fields import Request, flag, texts, u16, u32
from pilot.registry.names import normal_tags
from pilot.registry.networks import ADMIN, BACKBONE, MEMBER, OWNER
from pilot.registry.records import Network
from pilot.registry.refusal import Refusal, node_not_found

Answer = dict[str, Any]


def invite_to_network(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A member with a say invites a node."""
    inviter, target = u32(request, "inviter_id"), u32(request, "target_node_id")
    network_id = u16(request, "network_id")
    if inviter == target:
        raise Refusal("cannot invite yourself")
    node = directory.nodes.live.get(inviter)
    if node is None:
        raise Refusal(f"inviter {node_not_found(inviter).message}")
    try:
        require_signature(
            directory, request, caller, node, now, "invite_to_network", inviter, network_id, target
        )
    except Refusal:
        known = directory.networks.networks.get(network_id)
        if known is None or not has_admin_token(directory, request, known):
            raise
    network = _enterprise(directory, network_id)
    if network.join_rule != "invite":
        raise Refusal(f"network {network_id} is not invite-only (rule: {network.join_rule})")
    if not has_admin_token(directory, request, network):
        _check_inviter(directory, network, inviter)
    if target not in directory.nodes.live:
        raise Refusal(f"target {node_not_found(target).message}")
    if target in directory.networks.members(network_id):
        raise Refusal(f"node {target} is already a member of network {network_id}")
    answer: Answer = {
        "type": "invite_to_network_ok",
        "network_id": network_id,
        "target_node_id": target,
    }
    if network_id in directory.networks.invites(target, now):
        answer["status"] = "already_invited"
        return answer
    directory.networks.add_invite(target, network_id, inviter, now)
    directory.statistics.events["invites_sent"] += 1
    return answer


def poll_invites(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """The invitations that wait for a node; they stay until answered."""
    node = directory.nodes.get(u32(request, "node_id"))
    require_signature(directory, request, caller, node, now, "poll_invites", node.id, changes=False)
    invites = [
        {"network_id": network_id, "inviter_id": invite.inviter, "timestamp": invite.time}
        for network_id, invite in directory.networks.invites(node.id, now).items()
    ]
    return {"type": "poll_invites_ok", "invites": invites}


def respond_invite(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node accepts an invitation or declines it."""
    network = _enterprise(directory, u16(request, "network_id"))
    node = directory.nodes.get(u32(request, "node_id"))
    require_signature(directory, request, caller, node, now, "respond_invite", node.id, network.id)
    accept = flag(request, "accept")
    networks = directory.networks
    invite = networks.invite(node.id, network.id)
    if invite is None:
        raise Refusal(f"no pending invite for node {node.id} to network {network.id}")
    if networks.expired(invite, now):
        networks.drop_invite(node.id, network.id)
        raise Refusal(f"invite for node {node.id} to network {network.id} has expired")
    if accept:
        if node.id in networks.members(network.id):
            networks.drop_invite(node.id, network.id)
            raise Refusal(f"node {node.id} is already a member of network {network.id}")
        networks.check_room(network)
        networks.join(network, node.id, MEMBER)
    networks.drop_invite(node.id, network.id)
    directory.statistics.events["invites_accepted" if accept else "invites_rejected"] += 1
    return {"type": "respond_invite_ok", "accepted": accept, "network_id": network.id}


def kick_member(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """Somebody with a say ends another's membership."""
    if u16(request, "network_id") == BACKBONE:
        raise Refusal("cannot kick from the backbone network")
    network = _governed(directory, request, caller, now, OWNER, ADMIN)
    target = u32(request, "target_node_id")
    if directory.networks.member(network.id, target).role == OWNER:
        raise Refusal("cannot kick the network owner")
    directory.networks.leave(network.id, target)
    directory.networks.drop_invites_of(target, network.id)
    directory.statistics.events["rbac_kick"] += 1
    return _about("kick_member_ok", network, target)


def promote_member(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """The owner makes a member an admin."""
    return _change_role(directory, request, caller, now, "promote", ADMIN, "an admin")


def demote_member(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """The owner makes an admin a member."""
    return _change_role(directory, request, caller, now, "demote", MEMBER, "a member")


def transfer_ownership(
    directory: Directory, request: Request, caller: Caller, now: float
) -> Answer:
    """The owner hands the network over and stays as an admin."""
    network = _governed(directory, request, caller, now, OWNER)
    new = u32(request, "new_owner_id")
    if not new:
        raise Refusal("new_owner_id is required")
    old = directory.networks.owner(network.id)
    if old is None:
        raise Refusal(f"network {network.id} has no owner")
    if old == new:
        raise Refusal(f"node {new} is already the owner")
    directory.networks.member(network.id, new).role = OWNER
    directory.networks.member(network.id, old).role = ADMIN
    directory.networks.member_changed(network.id, new)
    directory.networks.member_changed(network.id, old)
    directory.statistics.events["rbac_transfer_ownership"] += 1
    return {
        "type": "transfer_ownership_ok",
        "network_id": network.id,
        "old_owner": old,
        "new_owner": new,
    }


def get_member_role(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A member's role, for anybody."""
    network = directory.networks.get(u16(request, "network_id"))
    target = u32(request, "target_node_id")
    answer = _about("get_member_role_ok", network, target)
    answer["role"] = directory.networks.member(network.id, target).role
    return answer


def set_member_tags(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """Somebody with a say describes a member."""
    network = directory.networks.get(u16(request, "network_id"))
    require_role(directory, request, caller, network, now, OWNER, ADMIN)
    target = u32(request, "target_node_id")
    tags = normal_tags(texts(request, "tags"), directory.limits.tags, "member tags")
    directory.networks.member(network.id, target).tags = tags
    directory.networks.member_changed(network.id, target)
    answer = _about("set_member_tags_ok", network, target)
    answer["tags"] = tags or None
    return answer


def get_member_tags(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """The tags of one member or of all, for anybody."""
    network = directory.networks.get(u16(request, "network_id"))
    target = u32(request, "target_node_id")
    if target:
        answer = _about("get_member_tags_ok", network, target)
        answer["tags"] = directory.networks.member(network.id, target).tags
        return answer
    # An entry of untagged members is left out once there are too many for one answer.
    members = directory.networks.members(network.id)
    room = directory.limits.answer // 512
    tagged = {
        str(node_id): member.tags
        for node_id, member in members.items()
        if member.tags or len(members) <= room
    }
    while len(tagged) > room:
        tagged.popitem()
    return {"type": "get_member_tags_ok", "network_id": network.id, "members": tagged}


def _change_role(
    directory: Directory,
    request: Request,
    caller: Caller,
    now: float,
    verb: str,
    role: str,
    named: str,
) -> Answer:
    network = _governed(directory, request, caller, now, OWNER)
    target = u32(request, "target_node_id")
    member = directory.networks.member(network.id, target)
    if member.role == OWNER:
        raise Refusal(f"cannot {verb} the owner")
    if member.role == role:
        raise Refusal(f"node {target} is already {named}")
    member.role = role
    directory.networks.member_changed(network.id, target)
    directory.statistics.events[f"rbac_{verb}"] += 1
    answer = _about(f"{verb}_member_ok", network, target)
    answer["role"] = role
    return answer


def _governed(
    directory: Directory, request: Request, caller: Caller, now: float, *roles: str
) -> Network:
    network = directory.networks.get(u16(request, "network_id"))
    require_role(directory, request, caller, network, now, *roles)
    return _enterprise(directory, network.id)


def _enterprise(directory: Directory, network_id: int) -> Network:
    network = directory.networks.get(network_id)
    if not network.enterprise:
        raise Refusal("enterprise feature: requires enterprise network")
    return network


def _check_inviter(directory: Directory, network: Network, inviter: int) -> None:
    member = directory.networks.members(network.id).get(inviter)
    if member is None:
        raise Refusal(f"inviter {inviter} is not a member of network {network.id}")
    if member.role not in (OWNER, ADMIN):
        raise Refusal(f'rbac: inviter {inviter} has role "{member.role}", requires owner or admin')


def _about(kind: str, network: Network, target: int) -> Answer:
    return {"type": kind, "network_id": network.id, "target_node_id": target}
