"""The registry's certificate: the operator's own, or one made for the occasion.

@see: protocol notes of the registry, I{TLS}.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto
from twisted.internet.ssl import CertificateOptions

from pilot.errors import InvalidArgument

_LIFETIME = timedelta(days=365)


def load_certificate(certificate: Path, key: Path) -> tuple[CertificateOptions, str]:
    """
    @param certificate: PEM, the server's own certificate first.
    @param key: PEM.
    @return: what a server needs, and the fingerprint that clients pin.
    @raise InvalidArgument: they cannot be read, or do not belong together.
    """
    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        return _options(chain, private)
    except (OSError, ValueError, TypeError, SSL.Error) as error:
        raise InvalidArgument(
            f"cannot use the certificate {certificate} with the key {key}: {error}",
            hint="both must be PEM files, and the key that of the certificate",
        ) from error


def make_certificate(now: float) -> tuple[CertificateOptions, str]:
    """
    Make a self-signed one.

    @param now: Unix seconds.
    @return: what a server needs, and the fingerprint that clients pin.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Pilot Protocol")])
    start = datetime.fromtimestamp(int(now), UTC)
    names = [
        x509.DNSName("localhost"),
        x509.IPAddress(ip_address("127.0.0.1")),
        x509.IPAddress(ip_address("::1")),
    ]
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _LIFETIME)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _options([certificate], key)


def _options(chain: list[x509.Certificate], key: Any) -> tuple[CertificateOptions, str]:
    first: Any
    first, *rest = chain
    others: Any = rest
    try:
        options = CertificateOptions(privateKey=key, certificate=first, extraCertChain=others)
        context = options.getContext()
    except TypeError:  # an older pyOpenSSL takes objects of its own only
        options = CertificateOptions(
            privateKey=crypto.PKey.from_cryptography_key(key),
            certificate=crypto.X509.from_cryptography(first),
            extraCertChain=[crypto.X509.from_cryptography(other) for other in others],
        )
        context = options.getContext()
    context.check_privatekey()
    der = first.public_bytes(serialization.Encoding.DER)
    return options, hashlib.sha256(der).hexdigest()
