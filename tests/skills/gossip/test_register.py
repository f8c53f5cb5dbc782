"""Registers: their form, their order, who may write them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.gossip.core.errors import BadMessage
from skills.gossip.core.register import (
    FLAG_TOMBSTONE,
    MAX_KEY,
    Register,
    ancestors,
    check_value,
    join_key,
    owner,
    split_key,
)
from tests.skills.gossip.strategies import SIGNATURE, junk, registers, rivals, segments

HLC = "0190a1b2c3d40001"


@given(registers())
@settings(deadline=None)
def test_the_json_shape_comes_back(register: Register) -> None:
    """A register survives JSON, with its rank, its sum and its size."""
    again = Register.from_list(json.loads(json.dumps(register.to_list())))
    assert again == register
    assert (again.rank, again.sum, again.size) == (register.rank, register.sum, register.size)
    compact = json.dumps(register.to_list(), separators=(",", ":"), ensure_ascii=False)
    assert json.loads(compact) == register.to_list()


@given(st.one_of(junk, st.lists(junk, min_size=5, max_size=6)))
@settings(deadline=None)
def test_any_json_is_a_register_or_refused(parts: object) -> None:
    """The decoder raises nothing but its own error, and what it takes can be hashed."""
    try:
        register = Register.from_list(parts)
    except BadMessage:
        return
    assert register.size > 0
    assert Register.from_list(register.to_list()) == register


@pytest.mark.parametrize(
    "parts",
    [
        ["k", 1, HLC, 1],
        ["k", 1, HLC, 1, 0, "", 0],
        ["", 1, HLC, 1, 0],
        ["a//b", 1, HLC, 1, 0],
        ["a/b/c/d/e/f/g/h/i", 1, HLC, 1, 0],
        ["~", 1, HLC, 1, 0],
        ["a~2", 1, HLC, 1, 0],
        ["é" * 129, 1, HLC, 1, 0],
        ["k\n" + "x" * MAX_KEY, 1, HLC, 1, 0],
        ["k", 1, HLC.upper(), 1, 0],
        ["k", 1, HLC + "\n", 1, 0],
        ["k", 1, HLC, -1, 0],
        ["k", 1, HLC, 2**32, 0],
        ["k", 1, HLC, True, 0],
        ["k", 1, HLC, 1, 8],
        ["k", 1, HLC, 1, FLAG_TOMBSTONE],
        ["k", 1, HLC, 1, 2],
        ["k", 1, HLC, 1, 0, SIGNATURE],
        ["k", 2**64, HLC, 1, 0],
        ["k", float("nan"), HLC, 1, 0],
        ["k", ["\ud800"], HLC, 1, 0],
        ["k", {"\ud800": 1}, HLC, 1, 0],
    ],
)
def test_malformed_registers_are_refused(parts: list[object]) -> None:
    """Each of these breaks one rule."""
    with pytest.raises(BadMessage):
        Register.from_list(parts)


def test_depth_is_bounded() -> None:
    """Sixteen levels are fine, one more is not, and neither are a hundred thousand."""
    value: object = 1
    for level in range(1, 18):
        value = [value] if level % 2 else {"x": value}
        if level <= 16:
            check_value(value)
    with pytest.raises(BadMessage):
        check_value(value)
    for _ in range(100_000):
        value = [value]
    with pytest.raises(BadMessage):
        check_value(value)


@given(st.lists(segments, min_size=1, max_size=8))
@settings(deadline=None)
def test_keys_keep_their_segments(path: list[str]) -> None:
    """Slashes, tildes and empty segments come back from a key."""
    key = join_key(path)
    assert split_key(key) == tuple(path)
    assert len(ancestors(key)) == len(path) - 1
    assert all(key.startswith(above + "/") for above in ancestors(key))


@given(rivals, rivals, rivals)
@settings(deadline=None)
def test_the_order_is_total(one: Register, two: Register, three: Register) -> None:
    """Of two different registers exactly one wins; winning is transitive and agrees with rank."""
    assert one.beats(two) == (one.rank > two.rank)
    if one.key == two.key:
        assert one.beats(two) + two.beats(one) + (one == two) == 1
    if one.beats(two) and two.beats(three):
        assert one.beats(three)


def test_values_that_python_takes_for_equal_are_told_apart() -> None:
    """1, 1.0, true and null written or deleted at one moment are different registers."""
    some = [
        Register("k", 1, HLC, 1),
        Register("k", 1.0, HLC, 1),
        Register("k", True, HLC, 1),
        Register("k", None, HLC, 1),
        Register("k", None, HLC, 1, FLAG_TOMBSTONE),
        Register("k", [1], HLC, 1),
        Register("k", [True], HLC, 1),
    ]
    assert len(set(some)) == len({each.sum for each in some}) == len(some)


def test_the_order_of_names_in_an_object_does_not_matter() -> None:
    """Two programs may write the same object differently."""
    assert Register("k", {"a": 1, "b": 2}, HLC, 1) == Register("k", {"b": 2, "a": 1}, HLC, 1)


@pytest.mark.parametrize(
    ("key", "node"),
    [
        ("@7", 7),
        ("@7/presence", 7),
        ("@0/x", 0),
        ("@4294967295/x", 4294967295),
        ("@4294967296/x", None),
        ("@07/x", None),
        ("@x/y", None),
        ("@/x", None),
        ("a/@7", None),
        ("@\u0667/x", None),
    ],
)
def test_owners(key: str, node: int | None) -> None:
    """Only a plain node id after the sign makes a key somebody's own."""
    assert owner(key) == node


def test_size_is_that_of_compact_json() -> None:
    """What quotas and frames count is what travels, in UTF-8."""
    register = Register("é", {"a": ["ü", 1.5]}, HLC, 1)
    assert register.size == len('["é",{"a":["ü",1.5]},"0190a1b2c3d40001",1,0]'.encode())
