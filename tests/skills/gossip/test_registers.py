"""The map: merge laws, deleting for good, quotas; and a model of replicas that part and meet."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from skills.gossip.core.digest import Digest, bucket_of
from skills.gossip.core.document import assemble, look_up
from skills.gossip.core.hlc import hlc_at
from skills.gossip.core.register import (
    FLAG_EPHEMERAL,
    FLAG_TOMBSTONE,
    Register,
    split_key,
)
from skills.gossip.core.registers import (
    HOLDERS,
    Kind,
    Limits,
    RegisterMap,
    Usage,
    holders,
)
from tests.skills.gossip.strategies import WALL, rivals

DAY = 86400.0


def at(
    second: float, key: str, value: Any = None, *, author: int = 1, deleted: bool = False
) -> Register:
    flags = FLAG_TOMBSTONE if deleted else 0
    return Register.make(key, value, hlc_at(WALL + second), author, flags)


def merged(some: list[Register], wall: float = WALL) -> RegisterMap:
    registers = RegisterMap()
    for register in some:
        registers.merge(register, wall)
    return registers


def check(registers: RegisterMap) -> None:
    """Whatever happened: all that is kept beside the registers agrees with them."""
    held = list(registers.all())
    assert len(registers) == len(held)
    assert registers.bytes == sum(each.size for each in held)
    assert registers.root == Digest.rekeyed("", held).root
    assert registers.digest.buckets() == Digest.rekeyed("", held).buckets()
    assert registers.document() == assemble(held)
    authors = {each.author for each in held}
    for author in authors | {99}:
        own = [each for each in held if each.author == author]
        assert registers.author_usage(author) == Usage(len(own), sum(each.size for each in own))
        assert registers.of_author(author) == own
    for each in held:
        assert registers.get(each.key) is each
        assert registers.with_hash(each.key_hash) is each
        assert each in registers.in_buckets((bucket_of(each.key_hash),))
        below = {other.key for other in held if (other.key + "/").startswith(each.key + "/")}
        assert {other.key for other in registers.at_and_below(each.key)} == below


@given(st.lists(rivals, max_size=4))
@settings(deadline=None)
def test_merging_in_any_order_gives_the_same(some: list[Register]) -> None:
    """Commutative and associative: every order ends in the same set and document."""
    results = [merged(list(order)) for order in permutations(some)]
    assert len({each.root for each in results}) == 1
    assert all(each.document() == results[0].document() for each in results)
    check(results[0])


@given(st.lists(rivals, max_size=8))
@settings(deadline=None)
def test_merging_again_changes_nothing(some: list[Register]) -> None:
    """Idempotent, and it says so."""
    registers = merged(some)
    before, changes = registers.root, registers.changes
    for each in some:
        outcome = registers.merge(each, WALL)
        assert outcome.kind in (Kind.SAME, Kind.OLD)
        assert (outcome.kind is Kind.OLD) == (registers.get(each.key) != each)
    assert (registers.root, registers.changes) == (before, changes)


@given(st.lists(rivals, max_size=8))
@settings(deadline=None)
def test_asking_for_a_part_agrees_with_the_whole(some: list[Register]) -> None:
    """What shows at a key is what the document has there; live registers are what shows."""
    registers = merged(some)
    keys = [each.key for each in some] + ["a", "b/c"]
    parts = {key: registers.visible(key, "nothing") for key in keys}
    whole = registers.document()
    for key, part in parts.items():
        assert part == look_up(whole, split_key(key), "nothing")
    live = registers.live()
    for each in live:
        assert not each.deleted
        assert registers.visible(each.key, "nothing") != "nothing"
        if type(each.value) is not dict:
            assert registers.visible(each.key) is each.value
    for prefix in ("a", "a/b"):
        below = {each.key for each in registers.live(prefix)}
        assert below == {each.key for each in live if (each.key + "/").startswith(prefix + "/")}


def test_outcomes() -> None:
    """Each says what a sender, and a watcher, should be told."""
    registers = RegisterMap()
    first, second = at(1, "k", 1), at(2, "k", 2)
    assert registers.merge(first, WALL) == (Kind.NEW, None, "")
    assert registers.merge(first, WALL) == (Kind.SAME, None, "")
    assert registers.merge(second, WALL) == (Kind.NEW, first, "")
    assert registers.merge(first, WALL) == (Kind.OLD, second, "")


def test_recent_changes_come_first() -> None:
    """A key that changed again is recent again."""
    registers = merged([at(1, "a", 1), at(2, "b", 1), at(3, "c", 1)])
    registers.merge(at(4, "a", 2), WALL)
    assert [each.key for each in registers.recent(2)] == ["a", "c"]
    assert [each.key for each in registers.recent(8)] == ["a", "c", "b"]


def test_dropping_leaves_no_trace() -> None:
    """What is dropped can come back."""
    ephemeral = Register("k", 1, hlc_at(WALL), 7, FLAG_EPHEMERAL)
    registers = merged([ephemeral, at(1, "x", 1)])
    assert registers.ephemeral(7) == [ephemeral]
    assert registers.ephemeral(8) == []
    assert registers.drop("k") is ephemeral
    assert registers.drop("k") is None
    assert registers.merge(ephemeral, WALL).kind is Kind.NEW
    registers.clear()
    check(registers)
    assert registers.root == RegisterMap().root


# -- deleting ----------------------------------------------------------------------------------


def test_a_tombstone_rests_after_a_day_and_stops_what_it_deleted() -> None:
    """A holder answers an older value with the tombstone, and takes a newer one."""
    gone = at(1, "k", deleted=True)
    registers = merged([gone])
    assert registers.expire(WALL + DAY) == ([], [])
    assert registers.expire(WALL + DAY + 2) == ([], [gone])
    assert len(registers) == 0
    assert registers.dormant("k") is gone
    assert registers.all_dormant() == [gone]
    assert registers.merge(at(0, "k", 1), WALL + DAY + 2) == (Kind.OLD, gone, "")
    assert registers.merge(at(0, "k/deeper", 1), WALL + DAY + 2) == (Kind.OLD, gone, "")
    assert registers.merge(gone, WALL + DAY + 2).kind is Kind.SAME
    assert registers.merge(at(2, "k", 2), WALL + DAY + 2).kind is Kind.NEW
    assert registers.dormant("k") is None


def test_holders_forget_after_thirty_days() -> None:
    """And others at once."""
    gone = at(0, "k", deleted=True)
    registers = merged([gone])
    registers.expire(WALL + DAY + 1)
    assert registers.expire(WALL + 30 * DAY - 1) == ([], [])
    assert registers.expire(WALL + 30 * DAY) == ([gone], [])
    assert registers.dormant("k") is None
    other = RegisterMap(keeps=lambda key: False)
    other.merge(gone, WALL)
    assert other.expire(WALL + DAY + 1) == ([gone], [])
    assert other.merge(gone, WALL + DAY + 1).kind is Kind.SAME
    assert (len(other), other.dormant("k")) == (0, None)


def test_a_dormant_tombstone_ends_a_value_that_came_back() -> None:
    """Even at a member that does not keep it; there it rests for another day."""
    gone, value = at(1, "k", deleted=True), at(0, "k", 1)
    other = RegisterMap(keeps=lambda key: False)
    other.merge(value, WALL + 2 * DAY)
    assert other.merge(gone, WALL + 2 * DAY) == (Kind.NEW, value, "")
    assert len(other) == 0
    assert other.merge(value, WALL + 2 * DAY) == (Kind.OLD, gone, "")
    check(other)


def test_a_late_tombstone_also_ends_what_lies_below_its_key() -> None:
    """With the next expiry."""
    other = RegisterMap(keeps=lambda key: False)
    value = at(0, "k/a", 1)
    other.merge(value, WALL + 2 * DAY)
    other.merge(at(1, "k", deleted=True), WALL + 2 * DAY)
    assert other.expire(WALL + 2 * DAY) == ([value], [])
    assert other.document() == {}


def test_what_a_tombstone_hides_goes_with_it() -> None:
    """Or the deleted leaves would show again."""
    hidden, gone = at(0, "a/b", 1), at(1, "a", deleted=True)
    registers = merged([hidden, gone, at(2, "a/c", 3)])
    dropped, rested = registers.expire(WALL + DAY + 3)
    assert (dropped, rested) == ([hidden], [gone])
    assert registers.document() == {"a": {"c": 3}}
    assert registers.merge(hidden, WALL + DAY + 3) == (Kind.OLD, gone, "")


def test_a_tombstone_that_cuts_an_older_object_stays() -> None:
    """Until somebody writes the object anew."""
    gone = at(1, "a/b", deleted=True)
    registers = merged([at(0, "a", {"b": 1, "c": 2}), gone])
    assert registers.expire(WALL + 2 * DAY) == ([], [])
    assert registers.document() == {"a": {"c": 2}}
    assert merged([at(0, "a", {"b": 1}), gone], WALL + 2 * DAY).document() == {"a": {}}
    registers.merge(at(5, "a", 7), WALL)
    assert registers.expire(WALL + 2 * DAY) == ([gone], [])


def test_an_object_that_comes_late_is_cut_by_a_dormant_tombstone() -> None:
    """It returns to the set, as it does where the object was known all the time."""
    whole, gone = at(0, "a", {"b": 1, "c": 2}), at(1, "a/b", deleted=True)
    late, early = merged([gone]), merged([whole, gone])
    late.expire(WALL + 2 * DAY)
    early.expire(WALL + 2 * DAY)
    assert late.dormant("a/b") is gone
    assert late.merge(whole, WALL + 2 * DAY).kind is Kind.NEW
    assert late.document() == early.document() == {"a": {"c": 2}}
    assert late.root == early.root
    check(late)


def test_a_value_hidden_for_a_day_is_dropped() -> None:
    """An object that was replaced does not cost its old leaves for ever."""
    hidden, whole = at(0, "a/b", 1), at(1, "a", [1])
    registers = merged([hidden, whole])
    assert registers.expire(WALL + DAY + 2) == ([hidden], [])
    assert registers.merge(hidden, WALL + DAY + 2) == (Kind.OLD, whole, "")
    assert registers.document() == {"a": [1]}


@given(st.lists(rivals, max_size=8), st.booleans())
@settings(deadline=None)
def test_expiry_never_changes_the_document(some: list[Register], keeps: bool) -> None:
    """However tombstones and values lie above each other."""
    registers = RegisterMap(keeps=lambda key: keeps)
    for each in some:
        registers.merge(each, WALL)
    before = registers.document()
    registers.expire(WALL + 5 * DAY)
    assert registers.document() == before
    check(registers)
    roots = registers.root
    for each in some:
        registers.merge(each, WALL + 5 * DAY)
        if keeps:
            assert registers.document() == before
    assert registers.root == roots or not keeps


def test_dormant_tombstones_are_bounded() -> None:
    """The one that came first makes room."""
    registers = RegisterMap(Limits(dormant=2))
    for name in "abc":
        registers.merge(at(0, name, deleted=True), WALL)
    registers.expire(WALL + 2 * DAY)
    assert [each.key for each in registers.all_dormant()] == ["b", "c"]


def test_all_members_agree_on_the_holders() -> None:
    """Three of them; one that leaves is replaced, the others stay."""
    members = list(range(100, 200))
    chosen = holders("k", members)
    assert len(set(chosen)) == HOLDERS
    assert holders("k", reversed(members)) == chosen
    fewer = holders("k", [each for each in members if each != chosen[0]])
    assert set(chosen[1:]) < set(fewer)
    assert holders("k", [5]) == [5]
    counts: dict[int, int] = {}
    for number in range(1000):
        for holder in holders(f"key/{number}", members):
            counts[holder] = counts.get(holder, 0) + 1
    assert len(counts) == 100
    assert max(counts.values()) < 70


# -- quotas ------------------------------------------------------------------------------------


def refusal(registers: RegisterMap, register: Register) -> str:
    outcome = registers.merge(register, WALL)
    assert (outcome.kind is Kind.REFUSED) == bool(outcome.reason)
    check(registers)
    return outcome.reason


def test_each_quota_refuses_for_its_reason() -> None:
    """And counts what it refused."""
    registers = RegisterMap(Limits(keys=2, value=50, bytes=10_000, author_keys=1))
    assert refusal(registers, at(0, "a", "x" * 49)) == "value"
    assert refusal(registers, at(0, "a", "x" * 48)) == ""
    assert refusal(registers, at(0, "b", 1)) == "author_keys"
    assert refusal(registers, at(1, "a", 1)) == ""
    assert refusal(registers, at(0, "b", 1, author=2)) == ""
    assert refusal(registers, at(0, "c", 1, author=3)) == "keys"
    assert refusal(registers, at(2, "b", 1, author=1)) == "author_keys"
    assert registers.refused == {"value": 1, "author_keys": 2, "keys": 1}
    small = at(0, "a", "x" * 10)
    assert refusal(RegisterMap(Limits(bytes=small.size - 1)), small) == "bytes"
    assert refusal(RegisterMap(Limits(author_bytes=small.size - 1)), small) == "author_bytes"
    registers = RegisterMap(Limits(author_bytes=small.size))
    assert refusal(registers, small) == ""
    assert refusal(registers, at(1, "a", "y" * 10)) == ""
    assert refusal(registers, at(2, "a", "y" * 11)) == "author_bytes"


def test_a_deletion_of_what_is_held_is_never_refused() -> None:
    """Not even of an author who has nothing left; the number of keys does not grow by it."""
    registers = RegisterMap(Limits(keys=1, author_keys=1))
    registers.merge(at(0, "a", 1, author=1), WALL)
    registers.limits = Limits(keys=1, author_keys=0, bytes=0)
    assert refusal(registers, at(1, "a", author=2, deleted=True)) == ""
    assert refusal(registers, at(1, "b", author=2, deleted=True)) == "keys"


def test_the_default_limits() -> None:
    """As they are written down for users."""
    limits = Limits()
    assert (limits.keys, limits.bytes, limits.value) == (10_000, 8 << 20, 16 << 10)
    assert (limits.author_keys, limits.author_bytes) == (1_000, 1 << 20)


# -- parting and meeting -----------------------------------------------------------------------


class Swarm(RuleBasedStateMachine):
    """
    Three replicas write and delete, part, meet in pairs and expire, each with all tombstones.

    Against the plainest model: all registers ever written, assembled.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wall = WALL
        self.maps = [RegisterMap() for _ in range(3)]
        self.written: list[Register] = []
        self.step = 0

    def write(self, who: int, key: str, value: Any, deleted: bool) -> None:
        self.step += 1
        self.wall += 1
        register = Register.make(
            key, value, hlc_at(self.wall), who + 1, FLAG_TOMBSTONE if deleted else 0
        )
        assert self.maps[who].merge(register, self.wall).kind is Kind.NEW
        self.written.append(register)

    @rule(
        who=st.integers(0, 2),
        key=st.sampled_from(["a", "a/b", "a/b/c", "a/d", "e"]),
        value=st.sampled_from([1, 2, {}, {"b": 1}, {"b": {"c": 1}}, [0]]),
    )
    def set(self, who: int, key: str, value: Any) -> None:
        self.write(who, key, value, deleted=False)

    @rule(who=st.integers(0, 2), key=st.sampled_from(["a", "a/b", "a/b/c", "a/d", "e"]))
    def delete(self, who: int, key: str) -> None:
        self.write(who, key, None, deleted=True)

    @rule(one=st.integers(0, 2), other=st.integers(0, 2))
    def meet(self, one: int, other: int) -> None:
        self.exchange(self.maps[one], self.maps[other])

    @rule(days=st.floats(0.1, 3))
    def time_passes(self, days: float) -> None:
        self.wall += days * DAY

    @rule(who=st.integers(0, 2))
    def expire(self, who: int) -> None:
        before = self.maps[who].document()
        self.maps[who].expire(self.wall)
        # Something may go that a resting tombstone has ended; nothing may appear.
        assert len(str(self.maps[who].document())) <= len(str(before))

    def exchange(self, one: RegisterMap, other: RegisterMap) -> None:
        for here, there in ((one, other), (other, one)):
            for register in list(here.all()):
                outcome = there.merge(register, self.wall)
                if outcome.kind is Kind.OLD and outcome.other is not None:
                    here.merge(outcome.other, self.wall)

    @invariant()
    def consistent(self) -> None:
        for each in self.maps:
            check(each)

    def teardown(self) -> None:
        """All meet at last, at one time: everybody shows what was written, deletions included."""
        if self.wall - WALL > 25 * DAY:
            return  # longer than dormant tombstones live: nothing is promised
        for _ in range(3):
            for each in self.maps:
                each.expire(self.wall)
            for one in self.maps:
                for other in self.maps:
                    self.exchange(one, other)
        roots = {each.root for each in self.maps}
        expected = assemble(merged_plain(self.written))
        assert len(roots) == 1
        assert all(each.document() == expected for each in self.maps)


def merged_plain(written: list[Register]) -> list[Register]:
    """@return: the winner of each key."""
    winners: dict[str, Register] = {}
    for register in written:
        held = winners.get(register.key)
        if held is None or register.rank > held.rank:
            winners[register.key] = register
    return list(winners.values())


TestSwarm = Swarm.TestCase
TestSwarm.settings = settings(deadline=None, max_examples=60, stateful_step_count=25)
