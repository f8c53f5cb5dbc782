"""The requests of the control socket that are a question and a JSON answer.

Each handler is a coroutine of (server, payload) that returns the payload of the reply; a
C{PilotError} becomes the Error frame, so its text is what protocol notes, I{Error frames}, lists.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from pilot.daemon.webhook_url import check_webhook_url
from pilot.errors import InvalidArgument, PilotError, RegistryError, WireError
from pilot.node.node import no_tasks
from pilot.wire import ipc
from pilot.wire.ipc import (
    MAX_FRAME,
    Command,
    HandshakeSub,
    ManagedAction,
    ManagedSub,
    NetworkSub,
    decode_text,
    encode_json,
)
from pilot.wire.ipc_extensions import Extension
from pilot.wire.jsontext import load

if TYPE_CHECKING:
    from pilot.daemon.ipc import IpcServer

Handler = Callable[["IpcServer", bytes], Coroutine[Any, Any, bytes]]


def error_text(error: PilotError) -> str:
    """@return: the words of an Error frame; the registry's own are marked as such."""
    if isinstance(error, RegistryError):
        return f"registry: {error.message}"
    return error.message


async def _info(server: IpcServer, payload: bytes) -> bytes:
    reply = dict(await server.node.info())
    reply["refused"] = {**reply.get("refused", {}), **server.refused}
    encoded = encode_json(reply)
    while len(encoded) >= MAX_FRAME and (reply["conn_list"] or reply["peer_list"]):
        # A longer frame would end the client's connection; the totals beside the lists stay true.
        for name in ("conn_list", "peer_list"):
            reply[name] = reply[name][: len(reply[name]) // 2]
        reply["truncated"] = True
        encoded = encode_json(reply)
    return encoded


async def _health(server: IpcServer, payload: bytes) -> bytes:
    return encode_json(server.node.health())


async def _handshake(server: IpcServer, payload: bytes) -> bytes:
    sub, node_id, text = ipc.Handshake.decode(payload)
    node = server.node
    if sub is HandshakeSub.PENDING:
        return encode_json({"pending": await node.pending()})
    if sub is HandshakeSub.TRUSTED:
        return encode_json({"trusted": await node.trusted()})
    if sub is HandshakeSub.REQUEST:
        reply = await _prefixed("handshake request", node.handshake(node_id, text))
    elif sub is HandshakeSub.APPROVE:
        reply = await _prefixed("handshake approve", node.approve(node_id))
    elif sub is HandshakeSub.REJECT:
        reply = await _prefixed("handshake reject", node.reject(node_id, text))
    else:
        reply = await _prefixed("handshake revoke", node.untrust(node_id))
    return encode_json(reply)


async def _resolve_hostname(server: IpcServer, payload: bytes) -> bytes:
    if not payload:
        raise InvalidArgument("resolve_hostname: missing hostname")
    asked = server.node.resolve_hostname(decode_text(payload))
    return encode_json(await _prefixed("resolve_hostname", asked))


async def _set_hostname(server: IpcServer, payload: bytes) -> bytes:
    asked = server.node.set_hostname(decode_text(payload))
    return encode_json(await _prefixed("set_hostname", asked))


async def _set_visibility(server: IpcServer, payload: bytes) -> bytes:
    public = ipc.Flag.decode(payload).on
    return encode_json(await _prefixed("set_visibility", server.node.set_visibility(public)))


async def _deregister(server: IpcServer, payload: bytes) -> bytes:
    return encode_json(await _prefixed("deregister", server.node.deregister()))


async def _set_tags(server: IpcServer, payload: bytes) -> bytes:
    tags = _string_list(payload, "set_tags: invalid JSON")
    return encode_json(await _prefixed("set_tags", server.node.replace_tags(tags)))


async def _set_task_exec(server: IpcServer, payload: bytes) -> bytes:
    enabled = ipc.Flag.decode(payload, "set_task_exec").on
    return encode_json(await _prefixed("set_task_exec", server.node.set_task_exec(enabled)))


async def _set_webhook(server: IpcServer, payload: bytes) -> bytes:
    url = decode_text(payload)
    if url:
        check_webhook_url(url)
    if server.set_webhook is not None:
        await server.set_webhook(url)
    elif url:
        raise PilotError("this daemon delivers no webhooks")
    return encode_json({"webhook": url})


async def enveloped(work: Callable[[dict[str, Any]], Awaitable[Any]], payload: bytes) -> bytes:
    """
    Have a JSON request done.  Codes and hints of errors matter to scripts and skills, and the Error
    frame has no room for them: so errors are replies, too.

    @param work: done with the request; a C{PilotError} is the answer.
    @return: the reply, C{{"status": "ok", "data": ...}} or C{{"status": "error", "code": ...,
        "message": ...}}, perhaps with C{hint}.
    """
    try:
        request = load(payload)
        if not isinstance(request, dict):
            raise InvalidArgument("expected an object")
        reply: dict[str, Any] = {"status": "ok", "data": await work(request)}
    except PilotError as error:
        reply = {"status": "error", "code": error.code, "message": error_text(error)}
        if error.hint:
            reply["hint"] = error.hint
    return encode_json(reply)


async def _task(server: IpcServer, payload: bytes) -> bytes:
    async def work(request: dict[str, Any]) -> dict[str, Any]:
        if server.tasks is None:
            raise no_tasks()
        return await server.tasks(request)

    return await enveloped(work, payload)


async def _network(server: IpcServer, payload: bytes) -> bytes:
    sub, network, node_id, accept, token = ipc.Network.decode(payload)
    node = server.node
    asked: dict[NetworkSub, Callable[[], Awaitable[dict[str, Any]]]] = {
        NetworkSub.LIST: node.network_list,
        NetworkSub.JOIN: lambda: node.network_join(network, token),
        NetworkSub.LEAVE: lambda: node.network_leave(network),
        NetworkSub.MEMBERS: lambda: node.network_members(network),
        NetworkSub.INVITE: lambda: node.network_invite(network, node_id),
        NetworkSub.POLL_INVITES: node.network_invites,
        NetworkSub.RESPOND_INVITE: lambda: node.network_respond(network, accept),
    }
    name = sub.name.lower().replace("_", "-")
    return encode_json(await _prefixed(f"network {name}", asked[sub]()))


async def _managed(server: IpcServer, payload: bytes) -> bytes:
    # Managed networks need an engine that decides about membership; this daemon runs none, and
    # says so in the words that clients know.
    request = ipc.Managed.decode(payload)
    network = request.network_id or 0
    if request.sub is ManagedSub.SCORE:
        raise PilotError(f"managed: no engine for network {network}")
    if request.sub is ManagedSub.POLICY:
        if request.action is ManagedAction.SET:
            raise PilotError("managed policy set: this daemon runs no policy engine")
        reply = {"type": "managed_policy_ok", "network_id": network, "engine": "none"}
        return encode_json(reply)
    if request.sub is ManagedSub.MEMBER_TAGS:
        return encode_json(await _member_tags(server, request, network))
    raise PilotError("managed: no active managed networks")


async def _member_tags(server: IpcServer, request: ipc.Managed, network: int) -> Any:
    if request.action is ManagedAction.GET:
        asked = server.node.member_tags(network, request.node_id)
        return await _prefixed("member-tags get", asked)
    tags = _string_list(request.document, "member-tags set: invalid tags JSON")
    asked = server.node.set_member_tags(network, request.node_id, tags)
    return await _prefixed("member-tags set", asked)


async def _prefixed(prefix: str, asked: Awaitable[Any]) -> Any:
    try:
        return await asked
    except PilotError as error:
        raise PilotError(f"{prefix}: {error_text(error)}", hint=error.hint) from error


def _string_list(payload: bytes, complaint: str) -> list[str]:
    try:
        value = load(payload) if payload else None
    except WireError as error:
        raise InvalidArgument(f"{complaint}: {error.message.removeprefix(_MALFORMED)}") from None
    if not payload:
        raise InvalidArgument(f"{complaint}: unexpected end of JSON input")
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidArgument(f"{complaint}: expected an array of strings")
    return value


_MALFORMED = "malformed JSON: "

#: What answers which command; the reply's command is one more.
REQUESTS: dict[int, Handler] = {
    Command.INFO: _info,
    Command.HANDSHAKE: _handshake,
    Command.RESOLVE_HOSTNAME: _resolve_hostname,
    Command.SET_HOSTNAME: _set_hostname,
    Command.SET_VISIBILITY: _set_visibility,
    Command.DEREGISTER: _deregister,
    Command.SET_TAGS: _set_tags,
    Command.SET_WEBHOOK: _set_webhook,
    Command.SET_TASK_EXEC: _set_task_exec,
    Command.NETWORK: _network,
    Command.HEALTH: _health,
    Command.MANAGED: _managed,
    Extension.TASK: _task,
}


def answered_from_memory(command: int, payload: bytes) -> bool:
    """@return: whether the answer costs nothing and should tell what the requests before did."""
    if command == Command.HANDSHAKE:
        return payload[:1] in _TRUST_LISTS
    return command in (Command.INFO, Command.HEALTH)


_TRUST_LISTS = (bytes((HandshakeSub.PENDING,)), bytes((HandshakeSub.TRUSTED,)))
