"""Snapshots of old scripts: what they write, and what they must not undo."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.gossip.core import snapshots
from skills.gossip.core.errors import BadMessage
from skills.gossip.core.hlc import hlc_at
from skills.gossip.core.register import FLAG_TOMBSTONE, Register
from skills.gossip.core.registers import RegisterMap
from skills.gossip.core.snapshots import SnapshotBook
from tests.skills.gossip.strategies import WALL, junk

SCRIPT = 45981
DAY = 86400.0


class Member:
    """A replica as far as scripts are concerned."""

    def __init__(self) -> None:
        self.registers = RegisterMap()
        self.book = SnapshotBook()
        self.seconds = 0.0

    def write(self, key: str, value: Any, *, author: int = 1, deleted: bool = False) -> None:
        self.seconds += 1
        flags = FLAG_TOMBSTONE if deleted else 0
        register = Register.make(key, value, hlc_at(WALL + self.seconds), author, flags)
        self.registers.merge(register, WALL + self.seconds)

    def hear(self, state: dict[str, Any], sender: int = SCRIPT) -> list[tuple[str, Any]]:
        writes = self.book.writes_of(sender, state, self.registers)
        for key, value in writes:
            self.write(key, value, author=sender)
        return writes


def jq_merge(one: Any, two: Any) -> Any:
    """The C{*} of jq, as the script merges."""
    if type(one) is dict and type(two) is dict:
        merged = dict(one)
        for name, value in two.items():
            merged[name] = jq_merge(one[name], value) if name in one else value
        return merged
    return two


def test_the_first_snapshot_only_fills_in() -> None:
    """What is known, live or deleted, stays; what is not is taken."""
    member = Member()
    member.write("live", 1)
    member.write("gone", None, deleted=True)
    member.write("deep/er", 1)
    writes = member.hear({"live": 0, "gone": 0, "new": {"a": 1}, "deep": 3, "live2": None})
    assert writes == [("new/a", 1), ("live2", None)]
    assert member.registers.document()["live"] == 1


def test_a_dormant_tombstone_is_known_too() -> None:
    """A script that was away for days does not bring the dead back."""
    member = Member()
    member.write("gone", None, deleted=True)
    member.registers.expire(WALL + 2 * DAY)
    assert member.hear({"gone": {"a": 1}}) == []
    assert member.hear({"gone": {"a": 1}}) == []


def test_later_snapshots_write_what_changed() -> None:
    """And nothing else: the rest is an old script repeating itself."""
    member = Member()
    member.hear({"a": 1, "b": {"c": 2}})
    member.write("a", "ours")
    member.write("b/c", None, deleted=True)
    assert member.hear({"a": 1, "b": {"c": 2}}) == []
    assert member.hear({"a": 1, "b": {"c": 3}}) == [("b/c", 3)]
    assert member.hear({"a": 2, "b": {"c": 3}}) == [("a", 2)]
    assert member.hear({"a": 2}) == []
    assert member.hear({"a": 2, "b": {"c": 3}}) == []
    assert member.registers.document() == {"a": 2, "b": {"c": 3}}


def test_what_is_the_same_here_is_no_write() -> None:
    """The script has learnt a value of ours."""
    member = Member()
    member.hear({"a": 1})
    member.write("a", 2)
    assert member.hear({"a": 2}) == []
    assert member.hear({"a": 2.0}) == [("a", 2.0)]


def test_an_echo_of_what_it_was_told_is_no_write() -> None:
    """Even one that is out of date when it comes; a change of its own is one."""
    member = Member()
    member.hear({"a": 0})
    member.write("a", 1)
    member.book.told(SCRIPT, {"a": 1})
    member.write("a", 2)
    assert member.hear({"a": 1}) == []
    assert member.hear({"a": 5}) == [("a", 5)]
    assert member.hear({"a": 1}) == [("a", 1)]


def test_being_told_is_not_having_spoken() -> None:
    """The first snapshot of a script is still a first one."""
    member = Member()
    member.write("a", 1)
    member.book.told(SCRIPT, {"a": 1})
    member.write("a", 2)
    assert member.hear({"a": 0, "b": 1}) == [("b", 1)]


def test_null_and_the_deleted() -> None:
    """We say null for what is deleted; hearing it back says nothing."""
    member = Member()
    member.hear({"a": 1, "b": 1})
    member.write("a", None, deleted=True)
    assert member.hear({"a": None, "b": None}) == [("b", None)]
    assert member.registers.document() == {"b": None}


def test_an_empty_object_does_not_empty_an_object() -> None:
    """Merging with it changes nothing; over a scalar it is a value."""
    member = Member()
    member.hear({"x": 1})
    member.write("a/b", 1)
    member.write("c", 1)
    assert member.hear({"x": 1, "a": {}, "c": {}}) == [("c", {})]
    assert member.registers.document() == {"x": 1, "a": {"b": 1}, "c": {}}


def test_senders_do_not_mix() -> None:
    """Each has its own previous snapshot."""
    member = Member()
    assert member.hear({"a": 1}, sender=1) == [("a", 1)]
    assert member.hear({"a": 2}, sender=2) == []
    assert member.hear({"a": 3}, sender=2) == [("a", 3)]
    assert member.hear({"a": 1}, sender=1) == []
    member.book.forget(2)
    assert member.hear({"a": 4}, sender=2) == []


states = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.sampled_from([0, 1, "x", [1]]),
        lambda inner: st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)


@given(states, st.lists(states, min_size=1, max_size=4))
@settings(deadline=None)
def test_one_script_alone_is_followed_as_jq_would(
    first: dict[str, Any], pushes: list[dict[str, Any]]
) -> None:
    """A script whose state only grows by merging: we show what its own merge shows."""
    member = Member()
    state: dict[str, Any] = {}
    for each in [first, *pushes]:
        state = jq_merge(state, each)
        member.hear(deepcopy(state))
        assert member.registers.document() == state


@given(st.lists(st.dictionaries(st.text(max_size=2), junk, max_size=4), max_size=3))
@settings(deadline=None)
def test_any_state_is_taken(pushes: list[dict[str, Any]]) -> None:
    """Bad leaves are counted and cost nothing but themselves."""
    member = Member()
    for state in pushes:
        member.hear({**state, "good": 1})
        assert member.registers.document().get("good") == 1
        member.book.told(SCRIPT, state)


def test_snapshots_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In leaves, in what is remembered of one sender, and of all."""
    monkeypatch.setattr(snapshots, "MAX_LEAVES", 10)
    monkeypatch.setattr(snapshots, "MAX_REMEMBERED", 25)
    member = Member()
    with pytest.raises(BadMessage):
        member.hear({str(number): number for number in range(11)})
    for sender in range(1, 10):
        for start in range(0, 40, 10):
            member.hear({str(start + number): number for number in range(10)}, sender=sender)
    assert member.book._remembered == sum(map(len, member.book._senders.values())) <= 25
    assert member.book.forgotten == 7
    assert all(len(each.said) <= 10 for each in member.book._senders.values())
