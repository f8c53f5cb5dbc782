"""The registry's JSON protocol: framing, strictness, and the texts that requests sign.

@see: protocol notes, I{Transport} and I{Keys and signatures} of the registry.
"""

from __future__ import annotations

from pilot.errors import WireError
from pilot.wire.framing import LENGTH, LengthPrefixedDecoder
from pilot.wire.jsontext import dump, load

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing costs pilotctl a tenth of its start-up
    from typing import Any

    Message = dict[str, Any]
else:
    Message = dict

MAX_FRAME = 65536
"""Largest body, in bytes, of a request and of an answer."""

SIGNED_FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "heartbeat": ("heartbeat", ("node_id",)),
    "resolve": ("resolve", ("requester_id", "node_id")),
    "set_hostname": ("set_hostname", ("node_id",)),
    "set_visibility": ("set_visibility", ("node_id",)),
    "set_tags": ("set_tags", ("node_id",)),
    "set_task_exec": ("set_task_exec", ("node_id",)),
    "report_trust": ("report_trust", ("node_id", "peer_id")),
    "revoke_trust": ("revoke_trust", ("node_id", "peer_id")),
    "request_handshake": ("handshake", ("from_node_id", "to_node_id")),
    "poll_handshakes": ("poll_handshakes", ("node_id",)),
    "respond_handshake": ("respond", ("node_id", "peer_id")),
    "rotate_key": ("rotate", ("node_id",)),
    "set_key_expiry": ("set_key_expiry", ("node_id",)),
    "deregister": ("deregister", ("node_id",)),
    "punch": ("punch", ("node_a", "node_b")),
    "join_network": ("join_network", ("node_id", "network_id")),
    "leave_network": ("leave_network", ("node_id", "network_id")),
    "invite_to_network": ("invite", ("inviter_id", "network_id", "target_node_id")),
    "poll_invites": ("poll_invites", ("node_id",)),
    "respond_invite": ("respond_invite", ("node_id", "network_id")),
}
"""By request type: the first word of the signed text, and the fields whose ids follow it."""


def encode_frame(message: Message) -> bytes:
    """
    @param message: a request or an answer.
    @return: length and body.  The body may be longer than L{MAX_FRAME}, which only a receiver
        minds: whoever builds answers of unknown size compares.
    @raise WireError: a value that JSON cannot express.
    """
    body = dump(message)
    return LENGTH.pack(len(body)) + body


def decode_body(body: bytes) -> Message:
    """
    Read the body of one frame.

    @return: the object; C{null} counts as an empty one.
    @raise WireError: malformed JSON, or another kind of value.
    """
    message = load(body)
    if message is None:
        return {}
    if not isinstance(message, dict):
        raise WireError(f"a message is a JSON object, not {_json_kind(message)}")
    return message


class FrameDecoder(LengthPrefixedDecoder[Message]):
    """
    The frames of one connection, either direction.

    C{feed(data)} returns the objects completed; it raises L{pilot.wire.framing.FramingError}, a
    L{WireError}, where the reference closes without an answer.
    """

    __slots__ = ()

    limit = MAX_FRAME

    def _decode(self, data: bytes, start: int, end: int, frames: list[Message]) -> None:
        frames.append(decode_body(data[start:end]))


def signing_text(request_type: str, *ids: int) -> bytes:
    """
    The text that a request signs.

    @param request_type: as in the request's C{type}, one of L{SIGNED_FIELDS}.
    @param ids: the ids of the fields listed there, in that order.
    @raise WireError: a type that signs nothing, or another number of ids.
    """
    if request_type not in SIGNED_FIELDS:
        raise WireError(f"a request {request_type!r} is not signed")
    word, fields = SIGNED_FIELDS[request_type]
    if len(ids) != len(fields):
        raise WireError(f"a request {request_type!r} signs {len(fields)} ids, not {len(ids)}")
    return ":".join((word, *map(str, ids))).encode("ascii")


def _json_kind(value: Any) -> str:
    return {list: "an array", str: "a string", bool: "a boolean"}.get(type(value), "a number")
