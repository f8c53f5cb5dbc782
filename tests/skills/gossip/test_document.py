"""Documents: leaves, hiding, and that only the set of registers counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.gossip.core.document import assemble, flatten, look_up
from skills.gossip.core.errors import BadMessage
from skills.gossip.core.hlc import hlc_at
from skills.gossip.core.register import FLAG_TOMBSTONE, Register, split_key
from tests.skills.gossip.strategies import WALL, rivals, scalars, segments

documents = st.dictionaries(
    segments,
    st.recursive(
        scalars | st.lists(scalars, max_size=2),
        lambda inner: st.dictionaries(segments, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def at(second: int, key: str, value: Any = None, *, deleted: bool = False) -> Register:
    return Register(key, value, hlc_at(WALL + second), 1, FLAG_TOMBSTONE if deleted else 0)


@given(documents)
@settings(deadline=None)
def test_a_document_comes_back_from_its_leaves(document: dict[str, Any]) -> None:
    """Cutting and assembling gives the same document, empty objects and odd names included."""
    leaves = flatten("", document)
    assert assemble(at(0, key, value) for key, value in leaves) == document
    for key, value in leaves:
        assert look_up(document, split_key(key)) is value


def test_an_object_is_cut_down_to_the_eighth_segment() -> None:
    """What lies deeper stays whole."""
    deep: Any = {"i": {"j": 1}}
    for name in "hgfedcba":
        deep = {name: deep}
    assert flatten("", deep) == [("a/b/c/d/e/f/g/h", {"i": {"j": 1}})]
    assert flatten("x/y", {"a": {"b": 1}, "c": []}) == [("x/y/a/b", 1), ("x/y/c", [])]
    assert flatten("k", {}) == [("k", {})]
    assert flatten("", {}) == []


def test_a_leaf_whose_key_is_too_long_is_refused() -> None:
    """The error is ours."""
    with pytest.raises(BadMessage):
        flatten("a", {"b" * 300: 1})


@given(st.lists(rivals, max_size=6), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_only_the_set_counts(some: list[Register], rng: Any) -> None:
    """The order in which registers are given changes nothing, nor do repetitions."""
    unique = list({(each.key, each.rank): each for each in some}.values())
    shuffled = [*unique]
    rng.shuffle(shuffled)
    assert assemble(unique) == assemble(shuffled + unique[:1])


@given(st.lists(rivals, max_size=6))
@settings(deadline=None)
def test_assembling_changes_no_register(some: list[Register]) -> None:
    """Registers are shared; a document made of them is cut and grown without touching them."""
    before = [repr(each) for each in some]
    assemble(some)
    assert [repr(each) for each in some] == before


def test_a_prefix_hides_what_is_older_below_it() -> None:
    """And only that: what is newer stays on top of it."""
    old, new = at(1, "a/b", 1), at(3, "a/c", 2)
    assert assemble([old, new, at(2, "a", {"z": 0})]) == {"a": {"z": 0, "c": 2}}
    assert assemble([old, new, at(2, "a", 5)]) == {"a": {"c": 2}}
    assert assemble([old, new, at(4, "a", 5)]) == {"a": 5}
    assert assemble([old, new, at(2, "a", deleted=True)]) == {"a": {"c": 2}}
    assert assemble([old, new, at(4, "a", deleted=True)]) == {}


def test_a_tombstone_cuts_a_leaf_out_of_an_older_object() -> None:
    """The object that was written stays, even empty."""
    whole = at(1, "a", {"b": 1, "c": {"d": 2}})
    assert assemble([whole, at(2, "a/b", deleted=True)]) == {"a": {"c": {"d": 2}}}
    assert assemble([whole, at(2, "a/c/d", deleted=True)]) == {"a": {"b": 1, "c": {}}}
    assert assemble([whole, at(0, "a/b", deleted=True)]) == {"a": {"b": 1, "c": {"d": 2}}}


def test_parents_nobody_wrote_vanish_with_their_last_child() -> None:
    """Whether their tombstones are still there or not makes no difference."""
    assert assemble([at(1, "a/b/c", deleted=True), at(0, "x", 1)]) == {"x": 1}
    assert assemble([at(1, "a/b/c", 1), at(2, "a/b", deleted=True)]) == {}


def test_what_is_hidden_has_no_effect() -> None:
    """A scalar shows again once the newer leaf below it is deleted, by whichever key."""
    scalar, leaf = at(1, "a", 5), at(2, "a/b/c", 1)
    assert assemble([scalar, leaf]) == {"a": {"b": {"c": 1}}}
    assert assemble([scalar, leaf, at(3, "a/b", deleted=True)]) == {"a": 5}
    assert assemble([scalar, at(3, "a/b/c", deleted=True)]) == {"a": 5}
