"""Signatures that a node gives for its skills, apart from all others it gives.

A node's key also signs what the registry and its peers believe.  So that no skill can be made to
forge such a statement, what a skill has signed begins with words that no other statement begins
with, and names what it is for.
"""

from __future__ import annotations

import re

from pilot.crypto.identity import verify
from pilot.errors import InvalidArgument

MAX_DATA = 64 * 1024
"""Most bytes that are signed at once; sign a digest of what is longer."""

_PREFIX = b"pilot-skill/"
_DOMAIN = re.compile(r"[a-z0-9._/-]{1,64}", re.ASCII)


def signed_bytes(domain: str, data: bytes) -> bytes:
    """
    @param domain: what the signature is for: 1 to 64 characters of C{a-z 0-9 . _ / -}.
    @return: what is in fact signed.
    @raise InvalidArgument: no such domain, or more than L{MAX_DATA} bytes.
    """
    if not _DOMAIN.fullmatch(domain):
        raise InvalidArgument(
            f"invalid signature domain {domain[:80]!r}: expected 1 to 64 of a-z 0-9 . _ / -"
        )
    if len(data) > MAX_DATA:
        raise InvalidArgument(f"too long to sign: {len(data)} bytes (max {MAX_DATA})")
    return _PREFIX + domain.encode("ascii") + b"\0" + data


def verify_skill(public_key: bytes, signature: bytes, domain: str, data: bytes) -> bool:
    """
    @return: whether C{signature} is that of C{public_key} over C{data} for C{domain}; False too
        for keys and signatures of a wrong length, and for what is never signed.
    """
    try:
        return verify(public_key, signature, signed_bytes(domain, data))
    except InvalidArgument:
        return False
