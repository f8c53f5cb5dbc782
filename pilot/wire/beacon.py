"""The messages between a node and the beacon: one byte of type, then fixed fields.

Their first byte is below 0x10, which no tunnel frame's is, so both share one socket.

@see: protocol notes, I{The beacon protocol}; golden vectors C{beacon.json}.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import NamedTuple

from pilot.errors import WireError

TYPE_DISCOVER = 0x01
TYPE_DISCOVER_REPLY = 0x02
TYPE_PUNCH_REQUEST = 0x03
TYPE_PUNCH_COMMAND = 0x04
TYPE_RELAY = 0x05
TYPE_RELAY_DELIVER = 0x06
TYPE_SYNC = 0x07

RELAY_HEADER = Struct(">BII")
"""Type, source node, destination node: what stands before a frame on its way to the beacon."""
DELIVER_HEADER = Struct(">BI")
"""Type, source node: what stands before a frame that comes from the beacon."""

MAX_SYNC_NODES = 65535  # by the width of the count; a UDP datagram ends the list at 16375

_ONE_NODE = Struct(">BI")
_TWO_NODES = Struct(">BII")
_SYNC_HEADER = Struct(">BIH")
_PORT = Struct(">H")


class Discover(NamedTuple):
    """
    "Where do you see me?", and: remember me there.

    @ivar node_id: the sender; 0 while it has none.
    """

    node_id: int

    def encode(self) -> bytes:
        """
        @return: the datagram.
        @raise WireError: a number outside its field.
        """
        return _packed(_ONE_NODE, TYPE_DISCOVER, self.node_id)


class DiscoverReply(NamedTuple):
    """
    "I see you there."

    @ivar host: IPv4 or IPv6 address, as text.
    @ivar port: UDP port.
    """

    host: str
    port: int

    def encode(self) -> bytes:
        """
        @return: the datagram.
        @raise WireError: C{host} is no IP address, or a port outside 0..65535.
        """
        return _endpoint(TYPE_DISCOVER_REPLY, self.host, self.port)


class PunchRequest(NamedTuple):
    """
    "Open a hole between me and that node."

    @ivar requester: node id of the sender.
    @ivar target: node id of the other side.
    """

    requester: int
    target: int

    def encode(self) -> bytes:
        """
        @return: the datagram.
        @raise WireError: a number outside its field.
        """
        return _packed(_TWO_NODES, TYPE_PUNCH_REQUEST, self.requester, self.target)


class PunchCommand(NamedTuple):
    """
    "Send to that endpoint now."

    @ivar host: IPv4 or IPv6 address, as text.
    @ivar port: UDP port.
    """

    host: str
    port: int

    def encode(self) -> bytes:
        """
        @return: the datagram.
        @raise WireError: C{host} is no IP address, or a port outside 0..65535.
        """
        return _endpoint(TYPE_PUNCH_COMMAND, self.host, self.port)


class Relay(NamedTuple):
    """
    A tunnel frame to be passed on to C{destination}.

    @ivar source: node id of the sender.
    @ivar destination: node id of the receiver.
    @ivar frame: the tunnel frame, possibly empty.
    """

    source: int
    destination: int
    frame: bytes

    def encode(self) -> bytes:
        """
        @return: the datagram.
        @raise WireError: a number outside its field.
        """
        return _packed(RELAY_HEADER, TYPE_RELAY, self.source, self.destination) + self.frame


class RelayDeliver(NamedTuple):
    """
    A tunnel frame that came through the beacon.

    @ivar source: node id of the sender, claimed.
    @ivar frame: the tunnel frame, possibly empty.
    """

    source: int
    frame: bytes

    def encode(self) -> bytes:
        """
        @return: the datagram.
        @raise WireError: a number outside its field.
        """
        return _packed(DELIVER_HEADER, TYPE_RELAY_DELIVER, self.source) + self.frame


class Sync(NamedTuple):
    """
    One beacon tells another which nodes it serves; replaces what it told before.

    @ivar beacon_id: the sender.
    @ivar nodes: node ids, at most 65535.
    """

    beacon_id: int
    nodes: tuple[int, ...]

    def encode(self) -> bytes:
        """
        @return: the datagram.
        @raise WireError: too many nodes, or a number outside its field.
        """
        header = _packed(_SYNC_HEADER, TYPE_SYNC, self.beacon_id, len(self.nodes))
        return header + _packed(Struct(f">{len(self.nodes)}I"), *self.nodes)


Message = Discover | DiscoverReply | PunchRequest | PunchCommand | Relay | RelayDeliver | Sync


def is_message(datagram: bytes | memoryview) -> bool:
    """@return: whether a datagram on a tunnel socket is the beacon's rather than a tunnel frame."""
    return len(datagram) > 0 and datagram[0] < 0x10


def decode_message(data: bytes | memoryview) -> Message:
    """
    Read one message.  Surplus bytes are ignored where they are not the frame.

    @raise WireError: too short for its type, or of no known type.
    """
    data = bytes(data)
    kind = data[0] if data else -1
    try:
        if kind == TYPE_RELAY_DELIVER:
            return RelayDeliver(DELIVER_HEADER.unpack_from(data)[1], data[DELIVER_HEADER.size :])
        if kind == TYPE_RELAY:
            _, source, destination = RELAY_HEADER.unpack_from(data)
            return Relay(source, destination, data[RELAY_HEADER.size :])
        if kind == TYPE_DISCOVER:
            return Discover(_ONE_NODE.unpack_from(data)[1])
        if kind == TYPE_DISCOVER_REPLY:
            return DiscoverReply(*_read_endpoint(data))
        if kind == TYPE_PUNCH_REQUEST:
            return PunchRequest(*_TWO_NODES.unpack_from(data)[1:])
        if kind == TYPE_PUNCH_COMMAND:
            return PunchCommand(*_read_endpoint(data))
        if kind == TYPE_SYNC:
            _, beacon_id, count = _SYNC_HEADER.unpack_from(data)
            return Sync(beacon_id, Struct(f">{count}I").unpack_from(data, _SYNC_HEADER.size))
    except StructError:
        raise WireError(f"beacon message 0x{kind:02X} too short: {len(data)} bytes") from None
    raise WireError(f"no beacon message: {len(data)} bytes of type {kind}")


def _packed(layout: Struct, *values: int) -> bytes:
    try:
        return layout.pack(*values)
    except StructError as error:
        raise WireError(f"beacon message field out of range: {error}") from None


def _endpoint(kind: int, host: str, port: int) -> bytes:
    try:
        address = _plainest(ip_address(host))
    except ValueError:
        raise WireError(f"no IP address: {host!r}") from None
    return bytes((kind, len(address.packed))) + address.packed + _packed(_PORT, port)


def _read_endpoint(data: bytes) -> tuple[str, int]:
    size = data[1] if len(data) > 1 else 0
    packed = data[2 : 2 + size]
    (port,) = _PORT.unpack_from(data, 2 + size)
    if size == 4:
        return str(IPv4Address(packed)), port
    if size == 16:
        return str(_plainest(IPv6Address(packed))), port
    raise WireError(f"no IP address has {size} bytes")


def _plainest(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address is written as one, whatever kind of socket it was seen on."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
