"""What a client of the control socket may ask of the node beyond the reference's commands.

One command with a JSON object in and one out; C{op} says what is wanted.

@see: the reference page I{Control socket extensions}.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from pilot.daemon.ipc_interests import Interests
from pilot.daemon.ipc_requests import enveloped
from pilot.errors import InvalidArgument
from pilot.wire.ipc import encode_json

if TYPE_CHECKING:
    from pilot.node.node import PilotNode

#: Bytes of JSON after which the rest of the peers is left to the next request.
PAGE = 256 * 1024

Request = dict[str, Any]


def node_request(
    node: PilotNode, interests: Interests, payload: bytes
) -> Coroutine[Any, Any, bytes]:
    """@return: the reply to come."""

    async def work(request: Request) -> dict[str, Any]:
        op = request.get("op")
        if op == "claim":
            interests.claim(_texts(request, "prefixes"))
            return {}
        if op == "watch":
            interests.watch(_texts(request, "prefixes"))
            return {}
        handler = _HANDLERS.get(op) if isinstance(op, str) else None
        if handler is None:
            raise InvalidArgument(f"no such operation: {str(op)[:40]}")
        return await handler(node, request)

    return enveloped(work, payload)


async def _peers(node: PilotNode, request: Request) -> dict[str, Any]:
    after = _integer(request, "after", -1)
    known = await node.parts.peers.peers(fresh=request.get("fresh") is True)
    left = [entry for entry in known if entry["node_id"] > after]
    page: list[dict[str, Any]] = []
    size = 0
    for entry in left:
        size += len(encode_json(entry))
        if page and size > PAGE:
            break
        page.append(entry)
    return {"peers": page, "more": len(page) < len(left)}


async def _tags(node: PilotNode, request: Request) -> dict[str, Any]:
    return {"tags": await node.tags()}


async def _set_tags(node: PilotNode, request: Request) -> dict[str, Any]:
    return {"tags": await node.set_tags(_texts(request, "tags"))}


async def _announce(node: PilotNode, request: Request) -> dict[str, Any]:
    data = request.get("data")
    if not isinstance(data, dict):
        raise InvalidArgument("announce: data is no object")
    node.announce(_text(request, "name"), data, publish=request.get("publish") is not False)
    return {}


async def _sign(node: PilotNode, request: Request) -> dict[str, Any]:
    try:
        data = base64.b64decode(_text(request, "data"), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument("sign: data is not base64") from None
    return {"signature": _base64(await node.sign(_text(request, "domain"), data))}


async def _public_key(node: PilotNode, request: Request) -> dict[str, Any]:
    return {"public_key": _base64(await node.public_key(_integer(request, "node_id")))}


_HANDLERS: dict[str, Callable[[PilotNode, Request], Awaitable[dict[str, Any]]]] = {
    "peers": _peers,
    "tags": _tags,
    "set_tags": _set_tags,
    "announce": _announce,
    "sign": _sign,
    "public_key": _public_key,
}

#: All operations; two of them belong to the client that asks.
OPERATIONS = ("claim", "watch", *_HANDLERS)


def _text(request: Request, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} is no text")
    return value


def _texts(request: Request, name: str) -> list[str]:
    value = request.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidArgument(f"{name} is no list of texts")
    return value


def _integer(request: Request, name: str, default: int | None = None) -> int:
    value = request.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not -1 <= value <= 0xFFFFFFFF:
        raise InvalidArgument(f"{name} is no node id")
    return value


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
