"""Which addresses a webhook may have (protocol notes, I{SetWebhook})."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from urllib.parse import urlsplit

from pilot.errors import InvalidArgument

#: Names under which clouds hand out credentials to whoever asks from inside.
METADATA_HOSTS = frozenset({"metadata.google.internal", "metadata.google.com"})

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
    address = _literal(host)
    if address is not None and _is_link_local(address):
        raise InvalidArgument(f"webhook URL cannot target link-local address {host}")


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
