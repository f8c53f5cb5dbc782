"""How a registry is reached: over TCP, or over TLS with a pinned certificate.

@see: protocol notes of the registry, I{TLS}.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from zope.interface import implementer

from pilot.errors import InvalidArgument

DIAL_TIMEOUT = 5.0
"""Seconds for one attempt to connect."""

_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")


def registry_endpoint(
    reactor: Any, address: str, tls_fingerprint: str | None = None
) -> IStreamClientEndpoint:
    """
    @param address: C{host:port}, an IPv6 address in brackets.
    @param tls_fingerprint: SHA-256 of the server's certificate, 64 lower-case hexadecimal digits;
        None for plain TCP.
    @raise InvalidArgument: one of them makes no sense.
    """
    host, port = split_address(address)
    endpoint: Any
    if isIPAddress(host):
        endpoint = TCP4ClientEndpoint(reactor, host, port, timeout=DIAL_TIMEOUT)
    elif isIPv6Address(host):
        endpoint = TCP6ClientEndpoint(reactor, host, port, timeout=DIAL_TIMEOUT)
    else:
        endpoint = HostnameEndpoint(reactor, host, port, timeout=DIAL_TIMEOUT)
    if tls_fingerprint is None:
        return endpoint  # type: ignore[no-any-return]  # three classes of one interface
    if not _FINGERPRINT.match(tls_fingerprint):
        raise InvalidArgument(
            f"invalid certificate fingerprint {tls_fingerprint!r}",
            hint="expected the SHA-256 as 64 lower-case hexadecimal digits without colons",
        )
    return wrapClientTLS(PinnedCertificate(tls_fingerprint), endpoint)


def split_address(address: str) -> tuple[str, int]:
    """
    @return: host, without brackets, and port of C{host:port}.
    @raise InvalidArgument: it is neither.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not host or not re.match(r"[0-9]{1,5}\Z", port) or int(port) > 0xFFFF:
        raise InvalidArgument(f"invalid address {address!r}", hint="expected HOST:PORT")
    return host, int(port)


@implementer(IOpenSSLClientConnectionCreator)
class PinnedCertificate:
    """
    Takes one server certificate and no other; names, dates and issuers do not matter.
    """

    def __init__(self, fingerprint: str) -> None:
        """@param fingerprint: SHA-256 of the certificate's DER, lower-case hexadecimal."""
        self._fingerprint = fingerprint
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_2_VERSION)
        self._context.set_verify(SSL.VERIFY_PEER, self._verify)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """@return: a connection that checks the pin."""
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        return connection

    def _verify(
        self, connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int
    ) -> bool:
        if depth:
            return True  # whoever signed it is of no interest
        der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        return hashlib.sha256(der).hexdigest() == self._fingerprint
