"""Taking ports, and saying what is wrong when one cannot be had."""

from __future__ import annotations

from twisted.internet.error import CannotListenError

from pilot.errors import InvalidArgument, PortInUse


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


def port_in_use(what: str, address: str, error: CannotListenError) -> PortInUse:
    """@return: the error for a C{what} that cannot listen."""
    reason = getattr(error.socketError, "strerror", None) or error.socketError
    return PortInUse(
        f"the {what} cannot listen on {address}: {reason}",
        hint="stop what uses the port, or choose another address",
    )
