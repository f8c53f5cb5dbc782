"""Requests about nodes: registering, finding, staying alive, leaving.

@see: protocol notes of the registry, I{TIER 1 requests}.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable
from typing import Any

from pilot.address import Address
from pilot.registry.authority import (
    has_admin_token,
    proven_registration,
    require_signature,
    require_signature_or_admin,
)
from pilot.registry.callers import Caller
from pilot.registry.directory import Directory
from pilot.registry.extensions import NOTIFY, hostname_text
from pilot.registry.fields import (
    Request,
    decode_base64,
    flag,
    quoted,
    rfc3339,
    size,
    text,
    texts,
    u16,
    u32,
)
from pilot.registry.fitting import fit
from pilot.registry.networks import BACKBONE
from pilot.registry.records import Member, Node
from pilot.registry.refusal import Refusal
from pilot.wire.registry import signing_text

Answer = dict[str, Any]

PROTOCOL_VERSION = 1

_WARN_BEFORE_EXPIRY = 86_400.0  # seconds
_MAX_PORT_TEXT = 32  # bytes
#: What a list may lose first when it grows beyond one frame.
_LISTING_EXTRAS = ("version", "external_id", "last_seen", "member_tags", "tags", "hostname")


def register(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A key asks for its id, a known one for its own."""
    key_text = text(request, "public_key")
    if not key_text:
        raise Refusal("registration requires public_key")
    public_key = decode_key(key_text, "public key")
    owner = _bounded(request, "owner", directory.limits.owner)
    version = _bounded(request, "version", directory.limits.version)
    proven = proven_registration(directory, request, public_key, now)
    node = directory.nodes.by_key(public_key)
    if node is None:
        node = directory.nodes.create(public_key, caller, now)
    elif node.dormant_since:
        directory.nodes.wake(node, now)
    else:
        if not proven and directory.is_elsewhere(caller, node, now):
            directory.statistics.moves_refused += 1
            raise Refusal(
                f"node {node.id} is already registered at another address and active there"
                " (proof of its key required)"
            )
        directory.nodes.touch(node, now)
    node.real_addr = _endpoint(text(request, "listen_addr"), caller)
    node.lan_addrs = _lan_addresses(directory, request)
    node.version = version or node.version
    node.owner = node.owner or owner
    directory.nodes.changed(node)
    if proven:
        directory.callers.prove(caller, node.id, now)
    else:
        directory.callers.claim(caller, node.id)
    directory.statistics.events["registrations"] += 1
    answer: Answer = {
        "type": "register_ok",
        "node_id": node.id,
        "network_id": BACKBONE,
        "address": address(node.id),
        "public_key": key_text,
        "observed_addr": node.real_addr,
        "protocol_version": PROTOCOL_VERSION,
    }
    hostname = text(request, "hostname")
    if hostname:
        try:
            directory.nodes.rename(node, hostname)
            answer["hostname"] = hostname
        except Refusal as error:
            answer["hostname_error"] = error.message
    if node.external_id:
        answer["external_id"] = node.external_id
    _subscribe(directory, request, caller, node, answer)
    return answer


def lookup(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """What anybody may know of a node."""
    node = directory.nodes.get(u32(request, "node_id"))
    answer: Answer = {
        "type": "lookup_ok",
        "node_id": node.id,
        "address": address(node.id),
        "networks": [BACKBONE, *directory.networks.of(node.id)],
        "public_key": encode_key(node.public_key),
    }
    return _described(answer, node)


def resolve(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """Where a node is, for those who may know."""
    target, requester = u32(request, "node_id"), u32(request, "requester_id")
    node = locate(
        directory,
        target,
        requester,
        now,
        lambda asking: require_signature(
            directory, request, caller, asking, now, "resolve", requester, target, changes=False
        ),
    )
    answer: Answer = {
        "type": "resolve_ok",
        "node_id": node.id,
        "real_addr": node.real_addr,
        "key_age_days": node.key_age_days(now),
    }
    if node.lan_addrs:
        answer["lan_addrs"] = node.lan_addrs
    return answer


def locate(
    directory: Directory,
    target: int,
    requester: int,
    now: float,
    authenticate: Callable[[Node], None],
) -> Node:
    """
    The rule of C{resolve}, for all encodings.

    @param authenticate: called with the requester's record; raises if it is not the requester.
    @raise Refusal: not allowed, or unknown.
    """
    asking = directory.nodes.live.get(requester)
    if asking is None:
        raise Refusal(f"resolve denied: requester node {requester} is not registered")
    authenticate(asking)
    node = directory.nodes.get(target)
    if not directory.may_see(requester, node):
        raise Refusal(f"resolve denied: node {target} is private (establish mutual trust first)")
    if requester != target:
        directory.trust.visit(requester, target, now)
    return node


def resolve_hostname(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """Who has a name, unless that is none of the requester's business."""
    hostname = text(request, "hostname")
    if not hostname:
        raise Refusal("hostname required")
    node = directory.nodes.by_hostname(hostname)
    requester = _requester(directory, request, caller, hostname, now)
    if node is None or not (
        node.public or requester == node.id or (requester and directory.may_see(requester, node))
    ):
        raise Refusal(f"hostname {quoted(hostname)} not found")
    return {
        "type": "resolve_hostname_ok",
        "node_id": node.id,
        "address": address(node.id),
        "public": node.public,
        "hostname": hostname,
    }


def list_nodes(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """The members of a network, for its members; all nodes, for the administrator."""
    network_id = u16(request, "network_id")
    if network_id == BACKBONE:
        if not directory.is_admin(request):
            raise Refusal(
                "listing backbone nodes is not permitted (use lookup with a specific node_id)"
            )
        entries = [_entry(directory, node.id, BACKBONE, None) for node in directory.nodes]
    else:
        network = directory.networks.get(network_id)
        members = directory.networks.members(network_id)
        if not has_admin_token(directory, request, network) and not any(
            node_id in members for node_id in caller.proven | caller.claimed
        ):
            raise Refusal(f"this connection is not a member of network {network_id}")
        entries = [_entry(directory, n, network_id, member) for n, member in members.items()]
    answer: Answer = {"type": "list_nodes_ok", "nodes": entries}
    return fit(answer, "nodes", _LISTING_EXTRAS, directory.limits.answer)


def heartbeat(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node is alive."""
    node = directory.nodes.get(u32(request, "node_id"))
    signed = signing_text("heartbeat", node.id)
    directory.check_signature(request, caller, node, signed, now, changes=False, beat=True)
    answer: Answer = {"type": "heartbeat_ok", "time": int(now)}
    if beat(directory, node, now):
        answer["key_expiry_warning"] = True
    _subscribe(directory, request, caller, node, answer)
    return answer


def beat(directory: Directory, node: Node, now: float) -> bool:
    """
    A heartbeat whose signature is sound, in any encoding.

    @return: whether the key expires within 24 hours.
    @raise Refusal: it has expired.
    """
    if node.key_expires:
        if now >= node.key_expires:
            raise Refusal(f"node {node.id}: key expired at {rfc3339(node.key_expires)}")
        directory.nodes.touch(node, now)
        return node.key_expires - now < _WARN_BEFORE_EXPIRY
    directory.nodes.touch(node, now)
    return False


def deregister(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A node says goodbye."""
    node = directory.nodes.live.get(u32(request, "node_id"))
    if node is not None:
        require_signature_or_admin(directory, request, caller, node, now, "deregister", node.id)
        directory.retire(node, now)
        directory.statistics.events["deregistrations"] += 1
    return {"type": "deregister_ok"}


def punch(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """Both ends' endpoints, under the rule of C{resolve}."""
    requester = u32(request, "requester_id")
    a, b = u32(request, "node_a"), u32(request, "node_b")
    if requester not in (a, b):
        raise Refusal("punch denied: requester must be participant")
    asking = directory.nodes.get(requester)
    require_signature(directory, request, caller, asking, now, "punch", a, b, changes=False)
    node_a, node_b = directory.nodes.get(a), directory.nodes.get(b)
    other = node_b if requester == a else node_a
    if other is not asking and not directory.may_see(requester, other):
        raise Refusal(f"punch denied: node {other.id} is private")
    return {
        "type": "punch_ok",
        "node_a": a,
        "node_a_addr": node_a.real_addr,
        "node_b": b,
        "node_b_addr": node_b.real_addr,
    }


def beacon_register(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """A beacon says where it is."""
    beacon_id, where = u32(request, "beacon_id"), text(request, "addr")
    if not beacon_id:
        raise Refusal("beacon_id required")
    if not where:
        raise Refusal("addr required")
    if size(where) > directory.limits.address:
        raise Refusal(f"addr too long (max {directory.limits.address} bytes)")
    directory.beacons.register(beacon_id, where, now)
    return {"type": "beacon_register_ok", "beacon_id": beacon_id}


def beacon_list(directory: Directory, request: Request, caller: Caller, now: float) -> Answer:
    """Where the beacons are."""
    beacons = [{"id": n, "addr": where} for n, where in directory.beacons.listed(now)]
    answer: Answer = {"type": "beacon_list_ok", "beacons": beacons}
    return fit(answer, "beacons", (), directory.limits.answer)


def address(node_id: int, network_id: int = BACKBONE) -> str:
    """@return: a node's address as text."""
    return str(Address(network_id, node_id))


def decode_key(key_text: str, what: str) -> bytes:
    """
    @param what: the name of the field in errors.
    @raise Refusal: no base64 of 32 bytes.
    """
    try:
        key = decode_base64(key_text)
    except Refusal as error:
        raise Refusal(f"invalid {what}: decode public key: {error.message}") from None
    if len(key) != 32:
        raise Refusal(f"invalid {what}: invalid public key size: {len(key)}")
    return key


def encode_key(public_key: bytes) -> str:
    """@return: a key as text."""
    return b2a_base64(public_key, newline=False).decode("ascii")


def _subscribe(
    directory: Directory, request: Request, caller: Caller, node: Node, answer: Answer
) -> None:
    if flag(request, NOTIFY) and directory.callers.want_notice(caller, node.id):
        answer[NOTIFY] = True
        if directory.mailboxes.waiting(node.id):
            directory.notice(node.id)


def _requester(
    directory: Directory, request: Request, caller: Caller, hostname: str, now: float
) -> int:
    """@return: the node that asks for a name, if it is known to be that node; else 0."""
    requester = u32(request, "requester_id")
    node = directory.nodes.live.get(requester)
    if node is None:
        return 0
    if text(request, "signature"):
        signed = hostname_text(requester, hostname)
        directory.check_signature(request, caller, node, signed, now, changes=False)
        return requester
    return requester if caller.is_known_as(requester) else 0


def _described(answer: Answer, node: Node) -> Answer:
    """What lookups and listings have in common."""
    answer["public"] = node.public
    answer["polo_score"] = node.polo_score
    if node.hostname:
        answer["hostname"] = node.hostname
    if node.tags:
        answer["tags"] = node.tags
    if node.task_exec:
        answer["task_exec"] = True
    if node.public:
        answer["real_addr"] = node.real_addr
    if node.external_id:
        answer["external_id"] = node.external_id
    if node.version:
        answer["version"] = node.version
    return answer


def _entry(directory: Directory, node_id: int, network_id: int, member: Member | None) -> Answer:
    entry: Answer = {"node_id": node_id, "address": address(node_id, network_id)}
    if member is not None and member.role:
        entry["role"] = member.role
    if member is not None and member.tags:
        entry["member_tags"] = member.tags
    node = directory.nodes.live.get(node_id)
    if node is None:
        entry["offline"] = True
        return entry
    entry["last_seen"] = rfc3339(node.last_seen)
    return _described(entry, node)


def _bounded(request: Request, name: str, limit: int) -> str:
    value = text(request, name)
    if size(value) > limit:
        raise Refusal(f"{name} too long (max {limit} bytes)")
    return value


def _lan_addresses(directory: Directory, request: Request) -> tuple[str, ...]:
    limits = directory.limits
    addresses = [a for a in texts(request, "lan_addrs") if 0 < size(a) <= limits.address]
    return tuple(addresses[: limits.lan_addresses])


def _endpoint(listen_addr: str, caller: Caller) -> str:
    """The port of what the client listens on, at the address it comes from."""
    host = f"[{caller.host}]" if ":" in caller.host else caller.host
    return f"{host}:{_port_of(listen_addr) or caller.port}"


def _port_of(listen_addr: str) -> str:
    host, colon, port = listen_addr.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    plain = not any(c in "[]" for c in host + port) and (bracketed or ":" not in host)
    return port if colon and plain and size(port) <= _MAX_PORT_TEXT else ""
