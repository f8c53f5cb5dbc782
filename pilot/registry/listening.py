"""Taking ports, and saying what is wrong when one cannot be had."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.error import CannotListenError

from pilot.errors import InvalidArgument, PortInUse

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def listening_address(text: str) -> tuple[str, int]:
    """
    @param text: C{host:port} or C{:port}, an IPv6 address in brackets.
    @return: interface, C{""} for all, and port.
    @raise InvalidArgument: it is neither.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 0xFFFF:
        raise InvalidArgument(f"invalid address {text!r}", hint="expected HOST:PORT or :PORT")
    return host, int(port)


def listen(what: str, address: str, take: Callable[[int, str], Any]) -> Any:
    """
    Take a port; without a host on all interfaces, of IPv6 and IPv4 alike where there is IPv6.

    @param what: what listens there, for the error.
    @param address: C{host:port} or C{:port}.
    @param take: called with port and interface.
    @return: what C{take} returned.
    @raise PortInUse: the port cannot be had.
    """
    host, port = listening_address(address)
    try:
        if host:
            return take(port, host)
        try:
            return take(port, "::")
        except CannotListenError as error:
            if getattr(error.socketError, "errno", None) not in _NO_IPV6:
                raise
            return take(port, "")
    except CannotListenError as error:
        reason = getattr(error.socketError, "strerror", None) or error.socketError
        raise PortInUse(
            f"the {what} cannot listen on {address}: {reason}",
            hint="stop what uses the port, or choose another address",
        ) from error


def plain_host(host: str) -> str:
    """@return: C{host}; an IPv4 address seen by a socket of both families in its own form."""
    plain = host.removeprefix("::ffff:")
    return plain if "." in plain else host
