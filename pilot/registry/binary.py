"""Requests of the binary protocol.

Its native messages are not masked, and word one error differently.

@see: protocol notes of the registry, I{Binary framing and messages}.
"""

from __future__ import annotations

from pilot.errors import WireError
from pilot.registry import dispatch
from pilot.registry.callers import Caller
from pilot.registry.codec import decode_json, encode_json
from pilot.registry.directory import Directory
from pilot.registry.documents import json_error
from pilot.registry.fields import Request, text
from pilot.registry.networks import BACKBONE
from pilot.registry.node_requests import beat, locate
from pilot.registry.records import Node
from pilot.registry.refusal import MASKED, Refusal, visible
from pilot.wire import registry_binary as wire
from pilot.wire.registry import signing_text

_NOT_FOUND = ": node not found"


def failure() -> bytes:
    """@return: the frame that says no more than that something went wrong."""
    return wire.ErrorMessage(MASKED).encode()


def answer(
    directory: Directory, kind: int, payload: bytes, caller: Caller, now: float
) -> tuple[str, bytes, bool]:
    """
    Carry out the request in one frame.

    @return: what it counts as, the frame that answers, and whether that says no.
    """
    name = dispatch.UNKNOWN
    try:
        if kind == wire.TYPE_JSON:
            return _answer_json(directory, _read_json(payload), caller, now)
        request = wire.decode_request(kind, payload)
        name = type(request).__name__.lower()
        if isinstance(request, wire.Heartbeat):
            return name, _heartbeat(directory, request, caller, now), False
        if isinstance(request, wire.Resolve):
            return name, _resolve(directory, request, caller, now), False
        assert isinstance(request, wire.Lookup)
        return name, _lookup(directory, request), False
    except Refusal as error:
        message = error.message
        if message.endswith(_NOT_FOUND):
            message = message.removesuffix(_NOT_FOUND) + ": not found"
    except WireError as error:
        message = error.message
    return name, wire.ErrorMessage(message[:1024]).encode(), True


def _answer_json(
    directory: Directory, request: Request, caller: Caller, now: float
) -> tuple[str, bytes, bool]:
    if text(request, "type") == "subscribe_replication":
        raise Refusal("replication not supported over binary protocol")
    try:
        message, failed = dispatch.answer(directory, request, caller, now), False
    except Refusal as error:
        message, failed = {"type": "error", "error": visible(error.message)}, True
    frame = wire.encode_frame(wire.TYPE_JSON, encode_json(message))
    return dispatch.kind_of(request), frame, failed


def _read_json(payload: bytes) -> Request:
    try:
        return decode_json(payload)
    except WireError:
        start = payload.lstrip()[:1]
        kinds = {b"[": "array", b'"': "string", b"t": "bool", b"f": "bool"}
        kind = kinds.get(start, "number")
        valid = _is_json(payload)
        message = (
            f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
            if valid
            else json_error(payload)
        )
        raise Refusal(f"json decode: {message}") from None


def _is_json(payload: bytes) -> bool:
    try:
        decode_json(b'{"":' + payload + b"}")
    except WireError:
        return False
    return True


def _heartbeat(directory: Directory, request: wire.Heartbeat, caller: Caller, now: float) -> bytes:
    node = directory.nodes.get(request.node_id)
    signed = signing_text("heartbeat", node.id)
    directory.check_raw_signature(
        caller, node, signed, request.signature, now, changes=False, beat=True
    )
    soon = wire.FLAG_KEY_EXPIRES_SOON if beat(directory, node, now) else 0
    return wire.HeartbeatOk(int(now), soon).encode()


def _lookup(directory: Directory, request: wire.Lookup) -> bytes:
    node = directory.nodes.get(request.node_id)
    flags = wire.FLAG_PUBLIC * node.public | wire.FLAG_TASK_EXEC * node.task_exec
    return wire.LookupOk(
        node.id,
        flags,
        node.polo_score,
        (BACKBONE, *directory.networks.of(node.id)),
        node.public_key,
        node.hostname,
        node.tags,
        node.real_addr if node.public else "",
        node.external_id,
    ).encode()


def _resolve(directory: Directory, request: wire.Resolve, caller: Caller, now: float) -> bytes:
    def authenticate(asking: Node) -> None:
        signed = signing_text("resolve", request.requester_id, request.node_id)
        directory.check_raw_signature(caller, asking, signed, request.signature, now, changes=False)

    node = locate(directory, request.node_id, request.requester_id, now, authenticate)
    return wire.ResolveOk(node.id, node.real_addr, node.lan_addrs, node.key_age_days(now)).encode()
