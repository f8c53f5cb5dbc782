"""Which addresses a webhook may have (protocol notes, I{SetWebhook})."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from urllib.parse import urlsplit

from pilot.errors import InvalidArgument

#: Names under which clouds hand out credentials to whoever asks from inside.
METADATA_HOSTS = frozenset({"metadata.google.internal", "metadata.google.com"})

_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)

_LOCAL_MULTICAST = IPv4Network("224.0.0.0/24")


def check_webhook_url(url: str) -> None:
    """
    Names are not resolved for the check; loopback and private addresses are allowed.

    @raise InvalidArgument: no http or https address, or one of the link-local network or of a
        cloud's metadata service.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        parts.port  # noqa: B018  # the property raises for a port out of range
    except ValueError as error:
        raise InvalidArgument(f"invalid webhook URL: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise InvalidArgument(f'webhook URL must use http or https scheme, got "{parts.scheme}"')
    if not host:
        raise InvalidArgument("invalid webhook URL: no host in it")
    if host in METADATA_HOSTS:
        raise InvalidArgument(f"webhook URL cannot target cloud metadata endpoint {host}")
    if is_link_local(host):
        raise InvalidArgument(f"webhook URL cannot target link-local address {host}")
    ascii_host(host)


def ascii_host(host: str) -> str:
    """
    @return: a host as a request has it: a name in ASCII, or an address, in brackets with a colon.
    @raise InvalidArgument: it is neither.
    """
    if ":" in host:
        try:
            address = IPv6Address(host)
            if address.scope_id is not None:
                raise ValueError(host)
            return f"[{address}]"
        except ValueError:
            raise InvalidArgument(f"invalid webhook URL: {host!r} is no address") from None
    try:
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        name = ""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"invalid webhook URL: {host!r} is no host name")
    return name


def is_link_local(host: str) -> bool:
    """@return: whether this is a literal address of the link-local network; a name is none."""
    address = _literal(host)
    return address is not None and _is_link_local(address)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_link_local(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return address.is_link_local or address in _LOCAL_MULTICAST
    return address.is_link_local or (address.is_multicast and address.packed[1] & 0xF == 2)
