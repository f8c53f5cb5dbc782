"""The registry's binary protocol, chosen by a connection's first five bytes.

@see: protocol notes, I{Binary framing and messages}; golden vectors
    C{registry_binary_transcripts.json}.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Any, NamedTuple

from pilot.errors import WireError
from pilot.wire.framing import LENGTH, LengthPrefixedDecoder
from pilot.wire.jsontext import dump
from pilot.wire.registry import MAX_FRAME, decode_body

MAGIC = b"PILT"
VERSION = 1
PREAMBLE = MAGIC + bytes((VERSION,))
"""What a client sends first; the server answers nothing to it."""

TYPE_JSON = 0x00
TYPE_HEARTBEAT = 0x01
TYPE_LOOKUP = 0x02
TYPE_RESOLVE = 0x03
TYPE_HEARTBEAT_OK = 0x81
TYPE_LOOKUP_OK = 0x82
TYPE_RESOLVE_OK = 0x83
TYPE_ERROR = 0xFF

FLAG_KEY_EXPIRES_SOON = 0x01  # of a heartbeat answer: within 24 hours
FLAG_PUBLIC = 0x01  # of a lookup answer
FLAG_TASK_EXEC = 0x02

UNKNOWN_KEY_AGE = 0xFFFFFFFF

_HEARTBEAT = Struct(">I64s")
_RESOLVE = Struct(">II64s")
_NODE = Struct(">I")
_HEARTBEAT_OK = Struct(">QB")
_LOOKUP_OK = Struct(">IBiH")
_U8 = Struct(">B")
_U16 = Struct(">H")


class JsonMessage(NamedTuple):
    """
    A message of the JSON protocol in a binary frame, either direction.

    @ivar message: the object.
    """

    message: dict[str, Any]

    def encode(self) -> bytes:
        """@return: the frame.  @raise WireError: a value that JSON cannot express."""
        return encode_frame(TYPE_JSON, dump(self.message))


class Heartbeat(NamedTuple):
    """
    @ivar node_id: the sender.
    @ivar signature: 64 bytes over the text of a JSON heartbeat.
    """

    node_id: int
    signature: bytes

    def encode(self) -> bytes:
        """@return: the frame.  @raise WireError: a field that does not fit."""
        _check_signature(self.signature)
        return encode_frame(TYPE_HEARTBEAT, _packed(_HEARTBEAT, self.node_id, self.signature))


class Lookup(NamedTuple):
    """@ivar node_id: whom the sender asks about."""

    node_id: int

    def encode(self) -> bytes:
        """@return: the frame.  @raise WireError: a field that does not fit."""
        return encode_frame(TYPE_LOOKUP, _packed(_NODE, self.node_id))


class Resolve(NamedTuple):
    """
    @ivar node_id: whose endpoint is wanted.
    @ivar requester_id: the sender.
    @ivar signature: 64 bytes over the text of a JSON resolve.
    """

    node_id: int
    requester_id: int
    signature: bytes

    def encode(self) -> bytes:
        """@return: the frame.  @raise WireError: a field that does not fit."""
        _check_signature(self.signature)
        payload = _packed(_RESOLVE, self.node_id, self.requester_id, self.signature)
        return encode_frame(TYPE_RESOLVE, payload)


class HeartbeatOk(NamedTuple):
    """
    @ivar time: the registry's clock, Unix seconds.
    @ivar flags: L{FLAG_KEY_EXPIRES_SOON} or 0.
    """

    time: int
    flags: int

    def encode(self) -> bytes:
        """@return: the frame.  @raise WireError: a field that does not fit."""
        return encode_frame(TYPE_HEARTBEAT_OK, _packed(_HEARTBEAT_OK, self.time, self.flags))


class LookupOk(NamedTuple):
    """
    @ivar node_id: the node asked about.
    @ivar flags: sum of L{FLAG_PUBLIC} and L{FLAG_TASK_EXEC}.
    @ivar polo_score: signed, 32 bits.
    @ivar networks: ids of its networks.
    @ivar public_key: raw, 32 bytes (up to 255 fit).
    @ivar hostname: up to 255 bytes of UTF-8.
    @ivar tags: up to 255, each up to 255 bytes of UTF-8.
    @ivar real_addr: C{host:port}, empty unless the node is public.
    @ivar external_id: up to 255 bytes of UTF-8.
    """

    node_id: int
    flags: int
    polo_score: int
    networks: tuple[int, ...]
    public_key: bytes
    hostname: str
    tags: tuple[str, ...]
    real_addr: str
    external_id: str

    def encode(self) -> bytes:
        """@return: the frame.  @raise WireError: a field that does not fit."""
        head = (self.node_id, self.flags, self.polo_score, len(self.networks))
        parts = [
            _packed(_LOOKUP_OK, *head),
            *(_packed(_U16, network) for network in self.networks),
            _counted(_U8, self.public_key),
            _counted(_U8, _utf8(self.hostname)),
            _packed(_U8, len(self.tags)),
            *(_counted(_U8, _utf8(tag)) for tag in self.tags),
            _counted(_U16, _utf8(self.real_addr)),
            _counted(_U8, _utf8(self.external_id)),
        ]
        return encode_frame(TYPE_LOOKUP_OK, b"".join(parts))


class ResolveOk(NamedTuple):
    """
    @ivar node_id: the node asked about.
    @ivar real_addr: C{host:port}.
    @ivar lan_addrs: C{host:port} each.
    @ivar key_age_days: whole days, or L{UNKNOWN_KEY_AGE}.
    """

    node_id: int
    real_addr: str
    lan_addrs: tuple[str, ...]
    key_age_days: int

    def encode(self) -> bytes:
        """@return: the frame.  @raise WireError: a field that does not fit."""
        parts = [
            _packed(_NODE, self.node_id),
            _counted(_U16, _utf8(self.real_addr)),
            _packed(_U16, len(self.lan_addrs)),
            *(_counted(_U16, _utf8(address)) for address in self.lan_addrs),
            _packed(_NODE, self.key_age_days),
        ]
        return encode_frame(TYPE_RESOLVE_OK, b"".join(parts))


class ErrorMessage(NamedTuple):
    """@ivar text: what went wrong; up to 65535 bytes of UTF-8."""

    text: str

    def encode(self) -> bytes:
        """@return: the frame.  @raise WireError: a text that does not fit."""
        return encode_frame(TYPE_ERROR, _counted(_U16, _utf8(self.text)))


Request = JsonMessage | Heartbeat | Lookup | Resolve
Answer = JsonMessage | HeartbeatOk | LookupOk | ResolveOk | ErrorMessage


def encode_frame(kind: int, payload: bytes) -> bytes:
    """
    @return: length, type, payload.
    @raise WireError: a type that is no byte.
    """
    return _packed(LENGTH, 1 + len(payload)) + _packed(_U8, kind) + payload


class FrameDecoder(LengthPrefixedDecoder[tuple[int, bytes]]):
    """The frames after the preamble, as (type, payload); the caller decodes what they say."""

    __slots__ = ()

    limit = MAX_FRAME

    def _decode(self, data: bytes, start: int, end: int, frames: list[tuple[int, bytes]]) -> None:
        if start == end:
            raise WireError("a frame without a type")
        frames.append((data[start], data[start + 1 : end]))


def decode_request(kind: int, payload: bytes) -> Request:
    """
    @param kind: the frame's type.
    @raise WireError: with the text that the error frame answers; the connection survives.
    """
    if kind == TYPE_JSON:
        return _decode_json(payload)
    if kind == TYPE_HEARTBEAT:
        _check_length("heartbeat", payload, _HEARTBEAT.size)
        return Heartbeat(*_HEARTBEAT.unpack_from(payload))
    if kind == TYPE_LOOKUP:
        _check_length("lookup", payload, _NODE.size)
        return Lookup(*_NODE.unpack_from(payload))
    if kind == TYPE_RESOLVE:
        _check_length("resolve", payload, _RESOLVE.size)
        return Resolve(*_RESOLVE.unpack_from(payload))
    raise WireError(f"unknown message type 0x{kind:02x}")


def decode_answer(kind: int, payload: bytes) -> Answer:
    """
    @param kind: the frame's type.
    @raise WireError: too short, malformed JSON, or no answer at all.
    """
    if kind == TYPE_JSON:
        return _decode_json(payload)
    fields = _Fields(payload)
    try:
        if kind == TYPE_HEARTBEAT_OK:
            return HeartbeatOk(*fields.take(_HEARTBEAT_OK))
        if kind == TYPE_LOOKUP_OK:
            node_id, flags, score, count = fields.take(_LOOKUP_OK)
            networks = tuple(fields.take(Struct(f">{count}H")))
            return LookupOk(
                node_id,
                flags,
                score,
                networks,
                fields.counted(_U8),
                fields.text(_U8),
                tuple(fields.text(_U8) for _ in range(fields.number(_U8))),
                fields.text(_U16),
                fields.text(_U8),
            )
        if kind == TYPE_RESOLVE_OK:
            return ResolveOk(
                fields.number(_NODE),
                fields.text(_U16),
                tuple(fields.text(_U16) for _ in range(fields.number(_U16))),
                fields.number(_NODE),
            )
        if kind == TYPE_ERROR:
            return ErrorMessage(fields.text(_U16))
    except StructError:
        raise WireError(f"answer 0x{kind:02x} too short: {len(payload)} bytes") from None
    raise WireError(f"unknown message type 0x{kind:02x}")


class _Fields:
    """A payload read from front to back; raises L{StructError} at its end."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def take(self, layout: Struct) -> tuple[Any, ...]:
        values = layout.unpack_from(self._data, self._position)
        self._position += layout.size
        return values

    def number(self, layout: Struct) -> int:
        value: int = self.take(layout)[0]
        return value

    def counted(self, count: Struct) -> bytes:
        value: bytes = self.take(Struct(f">{self.number(count)}s"))[0]
        return value

    def text(self, count: Struct) -> str:
        return self.counted(count).decode("utf-8", "replace")


def _decode_json(payload: bytes) -> JsonMessage:
    try:
        return JsonMessage(decode_body(payload))
    except WireError as error:
        raise WireError(f"json decode: {error.message}") from None


def _check_length(name: str, payload: bytes, size: int) -> None:
    if len(payload) < size:
        raise WireError(f"{name} request too short: {len(payload)} bytes")


def _check_signature(signature: bytes) -> None:
    if len(signature) != 64:
        raise WireError(f"a signature is 64 bytes, not {len(signature)}")


def _packed(layout: Struct, *values: Any) -> bytes:
    try:
        return layout.pack(*values)
    except StructError as error:
        raise WireError(f"field out of range: {error}") from None


def _counted(count: Struct, value: bytes) -> bytes:
    return _packed(count, len(value)) + value


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
