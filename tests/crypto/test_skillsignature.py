"""Signatures for skills: good for what they were given for, and for nothing else."""

from __future__ import annotations

import pytest

from pilot.crypto.identity import Identity, verify
from pilot.crypto.skillsignature import MAX_DATA, signed_bytes, verify_skill
from pilot.errors import InvalidArgument

KEY = Identity.from_seed(b"s" * 32)


def test_what_is_signed_names_its_purpose() -> None:
    """The published layout: prefix, domain, a zero byte, the data."""
    assert signed_bytes("gossip/v2", b"x\0y") == b"pilot-skill/gossip/v2\0x\0y"


def test_a_signature_holds_for_its_own_purpose_only() -> None:
    """Not for another domain, other data, or the bare data as the registry would sign it."""
    signature = KEY.sign(signed_bytes("gossip/v2", b"data"))
    assert verify_skill(KEY.public_key, signature, "gossip/v2", b"data")
    assert not verify_skill(KEY.public_key, signature, "presence", b"data")
    assert not verify_skill(KEY.public_key, signature, "gossip/v2", b"date")
    assert not verify(KEY.public_key, signature, b"data")


@pytest.mark.parametrize("domain", ["", "Gossip", "a b", "a\0b", "é", "x" * 65, "a\n"])
def test_a_domain_cannot_be_anything(domain: str) -> None:
    """In particular it cannot hold the zero byte that ends it."""
    with pytest.raises(InvalidArgument):
        signed_bytes(domain, b"")
    assert not verify_skill(KEY.public_key, b"s" * 64, domain, b"")


def test_what_is_signed_is_bounded() -> None:
    """A digest does for what is longer."""
    signed_bytes("a", b"x" * MAX_DATA)
    with pytest.raises(InvalidArgument):
        signed_bytes("a", b"x" * (MAX_DATA + 1))
