"""Digests: equal exactly for equal sets, and telling where two differ."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.gossip.core.digest import BUCKETS, Digest, bucket_of, unpack_buckets
from skills.gossip.core.errors import BadMessage
from skills.gossip.core.register import Register
from tests.skills.gossip.strategies import junk, registers, rivals

sets = st.lists(registers() | rivals, max_size=8, unique_by=lambda each: (each.key, each.rank))


def digest_of(some: list[Register]) -> Digest:
    return Digest.rekeyed("", some)


@given(sets, sets)
@settings(deadline=None)
def test_equal_means_equal_sets(one: list[Register], two: list[Register]) -> None:
    """Roots and buckets are equal if and only if the sets are, under any key."""
    same = set(one) == set(two)
    first, second = digest_of(one), digest_of(two)
    assert (first.root == second.root) == same
    assert (first.buckets() == second.buckets()) == same
    keyed = Digest.rekeyed("00ff" * 4, one).root, Digest.rekeyed("00ff" * 4, two).root
    assert (keyed[0] == keyed[1]) == same


@given(sets, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_what_was_added_can_be_removed(some: list[Register], rng: object) -> None:
    """In any order; nothing remains."""
    digest = digest_of(some)
    again = Digest()
    for register in reversed(some):
        again.add(register)
    assert digest.root == again.root
    assert digest.buckets() == again.buckets()
    for register in some:
        digest.remove(register)
    assert digest.root == "0" * 16
    assert digest.buckets() == [0] * BUCKETS


@given(sets, sets)
@settings(deadline=None)
def test_the_buckets_that_differ_hold_the_differences(
    one: list[Register], two: list[Register]
) -> None:
    """No more and no fewer, after the way over the wire."""
    first, second = digest_of(one), digest_of(two)
    packed = second.pack()
    assert len(packed) == 2048
    expected = {bucket_of(each.key_hash) for each in set(one) ^ set(two)}
    assert set(first.differing(packed)) == expected
    assert unpack_buckets(packed) == second.buckets()


def test_another_key_gives_another_root() -> None:
    """So a collision made for one key is none under the next."""
    some = [Register("k", 1, "0190a1b2c3d40001", 1)]
    roots = {Digest.rekeyed(nonce, some).root for nonce in ("", "0" * 16, "0" * 15 + "1")}
    assert len(roots) == 3


@given(junk.map(str) | st.text("AB=\n", max_size=3000))
@settings(deadline=None)
def test_packed_buckets_are_read_or_refused(text: str) -> None:
    """Any text at all."""
    with pytest.raises(BadMessage):
        unpack_buckets(text)
