"""What two nodes make of their session keys."""

from __future__ import annotations

import pytest

from pilot.crypto.keys import KeyPair, KeyRefused
from tests.golden import golden

VECTORS = golden("tunnel")
KEYS = VECTORS["keys"]


def pair(who: str) -> KeyPair:
    return KeyPair(bytes.fromhex(KEYS[who]["x25519_private"]), 0)


@pytest.mark.parametrize("name", sorted(VECTORS["derivation"]))
def test_both_sides_derive_the_golden_key(name: str) -> None:
    first, second = name.split("_and_")
    expected = VECTORS["derivation"][name]["aes_256_gcm_key"]
    assert pair(first).agree(pair(second).public).hex() == expected
    assert pair(second).agree(pair(first).public).hex() == expected
    assert pair(first).public.hex() == KEYS[first]["x25519_public"]


@pytest.mark.parametrize("point", [p["x25519_public"] for p in VECTORS["low_order_points"]])
def test_points_of_low_order_are_refused(point: str) -> None:
    with pytest.raises(KeyRefused):
        pair("b").agree(bytes.fromhex(point))


def test_the_top_bit_is_ignored() -> None:
    marked = bytes.fromhex(VECTORS["x25519_high_bit"]["x25519_public"])
    assert pair("a").agree(marked) == pair("a").agree(pair("b").public)


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(KeyRefused):
        pair("a").agree(b"short")


def test_prefixes_never_repeat_and_avoid_the_peers() -> None:
    """Two sessions under one key pair must not share a prefix, not even over the wrap."""
    own = KeyPair(bytes(32), 0xFFFFFFFE)
    assert own.take_prefix() == b"\xff\xff\xff\xfe"
    assert own.take_prefix() == b"\xff\xff\xff\xff"
    assert own.take_prefix({b"\0\0\0\0", b"\0\0\0\1"}) == b"\0\0\0\2"
