"""Virtual addresses and ports: C{0:0000.0000.002A}, with or without C{:80}."""

from __future__ import annotations

import re
from struct import Struct
from typing import NamedTuple

from pilot.errors import AddressError

PORT_PING = 0  # control packets only
PORT_ECHO = 7
PORT_HANDSHAKE = 444  # trust handshake
PORT_STDIO = 1000  # the default port of `pilotctl connect`
PORT_DATA_EXCHANGE = 1001
PORT_EVENT_STREAM = 1002
PORT_TASK_SUBMIT = 1003
EPHEMERAL_PORTS = range(49152, 65536)

BROADCAST_NODE = 0xFFFFFFFF

_PACKED = Struct(">HI")
# [0-9], never \d, and \Z, never $: the grammar is ASCII and has no final newline.
_DECIMAL = re.compile(r"[0-9]+\Z")
_HEX = re.compile(r"[0-9a-fA-F]{4}\Z")


class Address(NamedTuple):
    """
    A node as seen from a network: six bytes on the wire.

    @ivar network: network id, 0..65535; 0 is the backbone, which every node is on.
    @ivar node: node id, 0..2**32-1, the same in every network.
    @see: protocol notes, I{Addresses and ports}.
    """

    network: int
    node: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """
        Read C{D:XXXX.HHHH.LLLL}: the network in decimal and again in hex, then the node id in hex.

        @raise AddressError: anything else, signs, blanks, prefixes and non-ASCII digits included.
        """
        left, colon, right = text.partition(":")
        if not colon:
            raise AddressError(f"invalid address: {_quoted(text)} (expected N:XXXX.YYYY.YYYY)")
        network = _decimal(left, 0xFFFF)
        if network is None:
            raise AddressError(f"invalid network ID: {_quoted(left)}: expected 0 to 65535")
        groups = right.split(".")
        if len(groups) != 3:
            raise AddressError(
                f"invalid address: {_quoted(right)} (expected 3 dot-separated hex groups)"
            )
        for group in groups:
            if len(group.encode("utf-8", "surrogatepass")) != 4:
                raise AddressError(f"invalid hex group: {_quoted(group)} (expected 4 digits)")
        echoed = _hex_group(groups[0])
        if echoed != network:
            raise AddressError(f"network mismatch: decimal {network} != hex 0x{echoed:04X}")
        return cls(network, _hex_group(groups[1]) << 16 | _hex_group(groups[2]))

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Address:
        """Read six bytes; every six bytes are an address.

        @raise AddressError: not six bytes.
        """
        if len(data) != 6:
            raise AddressError(f"an address is 6 bytes, not {len(data)}")
        return cls(*_PACKED.unpack(data))

    def pack(self) -> bytes:
        """@return: the six bytes of the wire."""
        return _PACKED.pack(self.network, self.node)

    def __str__(self) -> str:
        return f"{self.network}:{self.network:04X}.{self.node >> 16:04X}.{self.node & 0xFFFF:04X}"

    @property
    def is_broadcast(self) -> bool:
        """Whether this names every member of its network."""
        return self.node == BROADCAST_NODE


class SocketAddress(NamedTuple):
    """An address and a virtual port: C{0:0000.0000.002A:80}."""

    address: Address
    port: int

    @classmethod
    def parse(cls, text: str) -> SocketAddress:
        """
        Split at the last colon.

        @raise AddressError: no port, no address, or a port outside 0..65535.
        """
        left, colon, right = text.rpartition(":")
        if not colon:
            raise AddressError(f"invalid socket address: {_quoted(text)} (no port)")
        address = Address.parse(left)
        port = _decimal(right, 0xFFFF)
        if port is None:
            raise AddressError(f"invalid port: {_quoted(right)}: expected 0 to 65535")
        return cls(address, port)

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


def _decimal(text: str, limit: int) -> int | None:
    # Stripping the zeros first bounds the conversion, however long the text is.
    digits = text.lstrip("0") or "0"
    if not _DECIMAL.match(text) or len(digits) > len(str(limit)) or int(digits) > limit:
        return None
    return int(digits)


def _hex_group(group: str) -> int:
    if not _HEX.match(group):
        raise AddressError(f"invalid hex group: {_quoted(group)}: expected 4 hex digits")
    return int(group, 16)


def _quoted(text: str) -> str:
    return '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
