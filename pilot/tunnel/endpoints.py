"""Where nodes are on the Internet: endpoints as text, as addresses, and which of them to believe.

@see: protocol notes, I{Same-LAN shortcut}, I{Public endpoint at registration}; golden vectors
    C{beacon.json}.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

#: An address as sockets know it, the host an IP literal without brackets.
SocketAddress = tuple[str, int]

_PRIVATE = tuple(
    ip_network(net)
    for net in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
_LAN = tuple(ip_network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
_LINK_LOCAL = ip_network("169.254.0.0/16")

_SIOCGIFADDR = 0xC0206921 if sys.platform == "darwin" else 0x8915


def parse_endpoint(text: object) -> SocketAddress | None:
    """
    Read C{1.2.3.4:5} or C{[::1]:5}.

    @param text: anything, as it came from the registry.
    @return: host and port, an IPv4-mapped address as plain IPv4; None for anything else, names
        included.
    """
    if not isinstance(text, str):
        return None
    host, port = _split(text)
    address = _ip(host)
    if address is None or not (port.isascii() and port.isdigit() and len(port) <= 5):
        return None
    number = int(port)
    return (str(address), number) if 0 < number <= 0xFFFF else None


def format_endpoint(address: SocketAddress) -> str:
    """@return: host and port as text, IPv6 in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(address: SocketAddress) -> bool:
    """@return: whether only this machine is reached there."""
    host = address[0]
    return host.startswith("127.") or host == "::1"


def is_reachable(address: SocketAddress) -> bool:
    """@return: whether a single host may be there at all; not for wildcards, multicast, port 0."""
    ip = _ip(address[0])
    if ip is None or not address[1]:
        return False
    return not (ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255")


def is_private(endpoint: str) -> bool:
    """
    @param endpoint: host and port.
    @return: whether it cannot be anybody's public endpoint: loopback, private or link-local.
        Endpoints that make no sense are not private.
    """
    host, port = _split(endpoint)
    address = _ip(host)
    return bool(port) and address is not None and any(address in net for net in _PRIVATE)


def registered_address(listen: str) -> str:
    """
    @param listen: what the tunnel socket listens on.
    @return: what a node without a public endpoint registers instead.
    """
    host, port = _split(listen)
    if not port:
        return listen
    if host in ("", "0.0.0.0"):
        return f"127.0.0.1:{port}"
    return f"[::1]:{port}" if host == "::" else listen


def lan_match(ours: Iterable[str], theirs: Iterable[object]) -> str:
    """
    Find a neighbour's address.

    @param ours: own LAN endpoints.
    @param theirs: a peer's, as the registry gave them.
    @return: the first of C{theirs} in the same IPv4 /24 as one of C{ours}, or C{""}.
    """
    networks = {_slash24(address) for text in ours if (address := _ipv4(text)) is not None}
    for text in theirs:
        address = _ipv4(text)
        if address is not None and _slash24(address) in networks:
            return str(text)
    return ""


def lan_addresses(port: int) -> list[str]:
    """
    @param port: the tunnel's.
    @return: C{IPv4:port} for each private or link-local IPv4 address of this machine's interfaces.
    """
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            address = _interface_address(probe, name)
            if address is not None and (
                address in _LINK_LOCAL or any(address in net for net in _LAN)
            ):
                found.append(f"{address}:{port}")
    return found


def _interface_address(probe: socket.socket, name: str) -> IPv4Address | None:
    import fcntl  # not on every platform, and needed only here

    request = struct.pack("256s", name.encode()[:15])
    with suppress(OSError):  # an interface that is down, or without an IPv4 address
        return IPv4Address(fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24])
    return None


def _split(text: str) -> tuple[str, str]:
    """Host without brackets, and port; both empty when C{text} is no such pair."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return "", ""
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    return ("", "") if ":" in host or "[" in text else (host, port)


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _ipv4(text: object) -> IPv4Address | None:
    endpoint = parse_endpoint(text)
    address = _ip(endpoint[0]) if endpoint is not None else None
    return address if isinstance(address, IPv4Address) else None


def _slash24(address: IPv4Address) -> bytes:
    return address.packed[:3]
