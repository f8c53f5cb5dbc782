"""What the control socket's frames hold; the frames themselves are L{pilot.wire.ipcframes}.

Each payload is a small tuple with C{encode()} (the payload's bytes) and C{decode(payload)}.  A
payload too short raises with the very text the reference answers in its error frame.

@see: protocol notes, I{Local IPC protocol}; golden vectors C{ipc_transcripts.json}.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Any, NamedTuple

from pilot.address import Address
from pilot.errors import WireError
from pilot.wire.ipcframes import (
    ERROR_CODE,
    MAX_FRAME,
    MAX_SEND_DATA,
    Command,
    FrameDecoder,
    encode_frame,
    encode_json,
)

__all__ = [
    "ERROR_CODE",
    "MAX_FRAME",
    "MAX_SEND_DATA",
    "Accept",
    "Bind",
    "BindOk",
    "Close",
    "CloseOk",
    "Command",
    "ConnData",
    "ConnId",
    "Dial",
    "DialOk",
    "Error",
    "Flag",
    "FrameDecoder",
    "Handshake",
    "HandshakeSub",
    "Managed",
    "ManagedAction",
    "ManagedSub",
    "Network",
    "NetworkSub",
    "RecvFrom",
    "SendTo",
    "decode_text",
    "encode_frame",
    "encode_json",
    "encode_text",
]


class HandshakeSub(IntEnum):
    """First byte of a L{Command.HANDSHAKE}."""

    REQUEST = 0x01
    APPROVE = 0x02
    REJECT = 0x03
    PENDING = 0x04
    TRUSTED = 0x05
    REVOKE = 0x06


class NetworkSub(IntEnum):
    """First byte of a L{Command.NETWORK}."""

    LIST = 0x01
    JOIN = 0x02
    LEAVE = 0x03
    MEMBERS = 0x04
    INVITE = 0x05
    POLL_INVITES = 0x06
    RESPOND_INVITE = 0x07


class ManagedSub(IntEnum):
    """First byte of a L{Command.MANAGED}."""

    SCORE = 0x01
    STATUS = 0x02
    RANKINGS = 0x03
    CYCLE = 0x04
    POLICY = 0x05
    MEMBER_TAGS = 0x06


class ManagedAction(IntEnum):
    """Second byte of L{ManagedSub.POLICY} and L{ManagedSub.MEMBER_TAGS}."""

    GET = 0x00
    SET = 0x01


_U16 = Struct(">H")
_U32 = Struct(">I")
_ADDRESS_PORT = Struct(">HIH")
_ACCEPT = Struct(">HIHIH")
_RECV_FROM = Struct(">HIHH")
_NETWORK_NODE = Struct(">HI")
_NETWORK_FLAG = Struct(">HB")
_SCORE = Struct(">HIi")
_ACTION_NETWORK = Struct(">BH")
_ACTION_NETWORK_NODE = Struct(">BHI")


class Bind(NamedTuple):
    """
    L{Command.BIND} and L{Command.BIND_OK}.

    @ivar port: virtual port.
    """

    port: int

    def encode(self) -> bytes:
        """@return: the payload."""
        return _packed(_U16, self.port)

    @classmethod
    def decode(cls, payload: bytes) -> Bind:
        """@raise WireError: too short."""
        return cls(*_read(_U16, payload, "bind: missing port"))


class Dial(NamedTuple):
    """
    L{Command.DIAL}.

    @ivar address: whom to dial.
    @ivar port: virtual port there.
    """

    address: Address
    port: int

    def encode(self) -> bytes:
        """@return: the payload."""
        return _packed(_ADDRESS_PORT, *self.address, self.port)

    @classmethod
    def decode(cls, payload: bytes) -> Dial:
        """@raise WireError: too short."""
        network, node, port = _read(_ADDRESS_PORT, payload, "dial: missing address/port")
        return cls(Address(network, node), port)


class ConnId(NamedTuple):
    """
    L{Command.DIAL_OK}, L{Command.CLOSE} and L{Command.CLOSE_OK}.

    @ivar conn_id: the daemon's number of a stream.
    """

    conn_id: int

    def encode(self) -> bytes:
        """@return: the payload."""
        return _packed(_U32, self.conn_id)

    @classmethod
    def decode(cls, payload: bytes) -> ConnId:
        """@raise WireError: too short."""
        return cls(*_read(_U32, payload, "close: missing conn_id"))


DialOk = Close = CloseOk = ConnId
BindOk = Bind


class Accept(NamedTuple):
    """
    L{Command.ACCEPT}.

    @ivar local_port: the bound virtual port.
    @ivar conn_id: the daemon's number of the new stream.
    @ivar remote: who dialled.
    @ivar remote_port: from which port.
    """

    local_port: int
    conn_id: int
    remote: Address
    remote_port: int

    def encode(self) -> bytes:
        """@return: the payload."""
        return _packed(_ACCEPT, self.local_port, self.conn_id, *self.remote, self.remote_port)

    @classmethod
    def decode(cls, payload: bytes) -> Accept:
        """@raise WireError: too short."""
        local_port, conn_id, network, node, port = _read(_ACCEPT, payload, "accept: too short")
        return cls(local_port, conn_id, Address(network, node), port)


class ConnData(NamedTuple):
    """
    L{Command.SEND} and L{Command.RECV}.

    @ivar conn_id: the daemon's number of a stream.
    @ivar data: bytes of that stream.
    """

    conn_id: int
    data: bytes

    def encode(self) -> bytes:
        """@return: the payload."""
        return _packed(_U32, self.conn_id) + self.data

    @classmethod
    def decode(cls, payload: bytes) -> ConnData:
        """@raise WireError: too short."""
        return cls(_read(_U32, payload, "send: missing conn_id")[0], payload[4:])


class SendTo(NamedTuple):
    """
    L{Command.SEND_TO}.

    @ivar address: the receiver, or every member of a network.
    @ivar port: virtual port there.
    @ivar data: the datagram.
    """

    address: Address
    port: int
    data: bytes

    def encode(self) -> bytes:
        """@return: the payload."""
        return _packed(_ADDRESS_PORT, *self.address, self.port) + self.data

    @classmethod
    def decode(cls, payload: bytes) -> SendTo:
        """@raise WireError: too short."""
        network, node, port = _read(_ADDRESS_PORT, payload, "sendto: missing address/port")
        return cls(Address(network, node), port, payload[_ADDRESS_PORT.size :])


class RecvFrom(NamedTuple):
    """
    L{Command.RECV_FROM}.

    @ivar source: the sender.
    @ivar source_port: its port.
    @ivar destination_port: the port it was sent to here.
    @ivar data: the datagram.
    """

    source: Address
    source_port: int
    destination_port: int
    data: bytes

    def encode(self) -> bytes:
        """@return: the payload."""
        header = _packed(_RECV_FROM, *self.source, self.source_port, self.destination_port)
        return header + self.data

    @classmethod
    def decode(cls, payload: bytes) -> RecvFrom:
        """@raise WireError: too short."""
        fields = _read(_RECV_FROM, payload, "recvfrom: too short")
        network, node, source_port, destination_port = fields
        address = Address(network, node)
        return cls(address, source_port, destination_port, payload[_RECV_FROM.size :])


class Error(NamedTuple):
    """
    L{Command.ERROR}.

    @ivar code: always L{ERROR_CODE}.
    @ivar text: what went wrong.
    """

    code: int
    text: str

    def encode(self) -> bytes:
        """@return: the payload."""
        return _packed(_U16, self.code) + encode_text(self.text)

    @classmethod
    def decode(cls, payload: bytes) -> Error:
        """@raise WireError: too short."""
        return cls(_read(_U16, payload, "error: too short")[0], decode_text(payload[2:]))


class Flag(NamedTuple):
    """
    L{Command.SET_VISIBILITY} (public?) and L{Command.SET_TASK_EXEC} (on?).

    @ivar on: yes or no.
    """

    on: bool

    def encode(self) -> bytes:
        """@return: the payload."""
        return b"\x01" if self.on else b"\x00"

    @classmethod
    def decode(cls, payload: bytes, command: str = "set_visibility") -> Flag:
        """
        @param command: C{"set_visibility"} or C{"set_task_exec"}, for the error's text.
        @raise WireError: empty.
        """
        if not payload:
            raise WireError(f"{command}: missing value")
        return cls(payload[0] == 1)


class Handshake(NamedTuple):
    """
    L{Command.HANDSHAKE}.

    @ivar sub: what to do.
    @ivar node_id: the peer; 0 where there is none.
    @ivar text: justification of a request, reason of a rejection; else empty.
    """

    sub: HandshakeSub
    node_id: int = 0
    text: str = ""

    def encode(self) -> bytes:
        """@return: the payload."""
        head = bytes((self.sub,))
        if self.sub in _WITHOUT_NODE:
            return head
        return head + _packed(_U32, self.node_id) + encode_text(self.text)

    @classmethod
    def decode(cls, payload: bytes) -> Handshake:
        """@raise WireError: no sub-command, an unknown one, or no node."""
        sub = HandshakeSub(_sub_command(payload, "handshake", len(HandshakeSub)))
        if sub in _WITHOUT_NODE:
            return cls(sub)
        missing = f"handshake {sub.name.lower()}: missing node_id"
        (node_id,) = _read(_U32, payload, missing, 1)
        text = payload[5:] if sub in (HandshakeSub.REQUEST, HandshakeSub.REJECT) else b""
        return cls(sub, node_id, decode_text(text))


_WITHOUT_NODE = (HandshakeSub.PENDING, HandshakeSub.TRUSTED)


class Network(NamedTuple):
    """
    L{Command.NETWORK}.

    @ivar sub: what to do.
    @ivar network_id: of which network; 0 where there is none.
    @ivar node_id: whom to invite; else 0.
    @ivar accept: the answer to an invitation; else false.
    @ivar token: the token to join with; else empty.
    """

    sub: NetworkSub
    network_id: int = 0
    node_id: int = 0
    accept: bool = False
    token: str = ""

    def encode(self) -> bytes:
        """@return: the payload."""
        head, sub = bytes((self.sub,)), self.sub
        if sub in (NetworkSub.LIST, NetworkSub.POLL_INVITES):
            return head
        if sub == NetworkSub.INVITE:
            return head + _packed(_NETWORK_NODE, self.network_id, self.node_id)
        if sub == NetworkSub.RESPOND_INVITE:
            return head + _packed(_NETWORK_FLAG, self.network_id, self.accept)
        head += _packed(_U16, self.network_id)
        return head + encode_text(self.token) if sub == NetworkSub.JOIN else head

    @classmethod
    def decode(cls, payload: bytes) -> Network:
        """@raise WireError: no sub-command, an unknown one, or fields missing."""
        sub = NetworkSub(_sub_command(payload, "network", len(NetworkSub)))
        if sub in (NetworkSub.LIST, NetworkSub.POLL_INVITES):
            return cls(sub)
        if sub == NetworkSub.INVITE:
            missing = "network invite: missing network_id or target_node_id"
            return cls(sub, *_read(_NETWORK_NODE, payload, missing, 1))
        if sub == NetworkSub.RESPOND_INVITE:
            missing = "network respond-invite: missing network_id or accept flag"
            network_id, flag = _read(_NETWORK_FLAG, payload, missing, 1)
            return cls(sub, network_id, accept=flag == 1)
        missing = f"network {sub.name.lower()}: missing network_id"
        (network_id,) = _read(_U16, payload, missing, 1)
        token = payload[3:] if sub == NetworkSub.JOIN else b""
        return cls(sub, network_id, token=decode_text(token))


class Managed(NamedTuple):
    """
    L{Command.MANAGED}.

    @ivar sub: what to do.
    @ivar network_id: of which network; 0 or C{None} (left out): whichever there is.
    @ivar node_id: of a score or of member tags; else 0.
    @ivar delta: of a score, signed; else 0.
    @ivar topic: of a score; else empty.
    @ivar action: of a policy or of member tags.
    @ivar document: JSON text to set; else empty.
    """

    sub: ManagedSub
    network_id: int | None = None
    node_id: int = 0
    delta: int = 0
    topic: str = ""
    action: ManagedAction = ManagedAction.GET
    document: bytes = b""

    def encode(self) -> bytes:
        """@return: the payload."""
        head, network_id = bytes((self.sub,)), self.network_id or 0
        if self.sub == ManagedSub.SCORE:
            score = _packed(_SCORE, network_id, self.node_id, self.delta)
            return head + score + encode_text(self.topic)
        if self.sub == ManagedSub.POLICY:
            return head + _packed(_ACTION_NETWORK, self.action, network_id) + self.document
        if self.sub == ManagedSub.MEMBER_TAGS:
            fields = (self.action, network_id, self.node_id)
            return head + _packed(_ACTION_NETWORK_NODE, *fields) + self.document
        return head if self.network_id is None else head + _packed(_U16, network_id)

    @classmethod
    def decode(cls, payload: bytes) -> Managed:
        """@raise WireError: no sub-command, an unknown one or action, or fields missing."""
        sub = ManagedSub(_sub_command(payload, "managed", len(ManagedSub)))
        if sub == ManagedSub.SCORE:
            missing = "managed score: missing fields (need netID + nodeID + delta)"
            network_id, node_id, delta = _read(_SCORE, payload, missing, 1)
            topic = decode_text(payload[1 + _SCORE.size :])
            return cls(sub, network_id, node_id, delta, topic)
        if sub == ManagedSub.POLICY:
            missing = "managed policy: missing sub-sub-command and network_id"
            action, network_id = _read(_ACTION_NETWORK, payload, missing, 1)
            document = _document(payload, 1 + _ACTION_NETWORK.size, action, "policy", "policy")
            return cls(sub, network_id, action=ManagedAction(action), document=document)
        if sub == ManagedSub.MEMBER_TAGS:
            missing = "managed member-tags: missing action, network_id, or node_id"
            action, network_id, node_id = _read(_ACTION_NETWORK_NODE, payload, missing, 1)
            start = 1 + _ACTION_NETWORK_NODE.size
            document = _document(payload, start, action, "member-tags", "tags")
            return cls(sub, network_id, node_id, action=ManagedAction(action), document=document)
        # A network of one byte counts as none, in the reference too.
        return cls(sub, _U16.unpack_from(payload, 1)[0] if len(payload) >= 3 else None)


def encode_text(text: str) -> bytes:
    """@return: UTF-8; what UTF-8 cannot express becomes U+FFFD."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode("utf-8")


def decode_text(data: bytes) -> str:
    """@return: the text that runs to the end of a frame; invalid UTF-8 becomes U+FFFD."""
    return data.decode("utf-8", "replace")


def _packed(layout: Struct, *values: int) -> bytes:
    try:
        return layout.pack(*values)
    except StructError as error:
        raise WireError(f"field out of range: {error}") from None


def _read(layout: Struct, payload: bytes, missing: str, offset: int = 0) -> tuple[Any, ...]:
    try:
        return layout.unpack_from(payload, offset)
    except StructError:
        raise WireError(missing) from None


def _sub_command(payload: bytes, command: str, count: int) -> int:
    if not payload:
        raise WireError(f"{command}: missing sub-command")
    sub = payload[0]
    if not 1 <= sub <= count:
        raise WireError(f"{command}: unknown sub-command 0x{sub:02X}")
    return sub


def _document(payload: bytes, start: int, action: int, command: str, what: str) -> bytes:
    if action == ManagedAction.GET:
        return b""
    if action != ManagedAction.SET:
        raise WireError(f"managed {command}: unknown action 0x{action:02X}")
    if len(payload) == start:
        raise WireError(f"managed {command} set: missing {what} JSON")
    return payload[start:]
