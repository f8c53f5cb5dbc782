"""One detector, whose peers the test plays."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.presence.core.errors import PresenceError
from skills.presence.detection.detector import FLOOD, Detector
from skills.presence.detection.items import MAX_NUMBER, Fresh, Gone, Item, Left, Status, Suspect
from skills.presence.detection.messages import (
    MAX_DATAGRAM,
    Ack,
    Delta,
    Digest,
    Listing,
    Message,
    Nack,
    News,
    Probe,
    ProbeRequest,
    decode,
    encode,
)
from skills.presence.detection.profiles import LAN
from skills.presence.detection.reach import (
    FRESH,
    GONE,
    SUSPECT,
    Effect,
    Frozen,
    Raised,
    Reach,
    Record,
    Send,
)

ME = 1
TOP = (MAX_NUMBER, MAX_NUMBER)


class Bench:
    """A detector whose members answer as the test wishes."""

    def __init__(self, members: int = 6, *, grace: bool = False) -> None:
        self.now = 0.0
        self.detector = Detector(ME, now=0.0, rng=random.Random(4), profile=LAN, incarnation=10)
        self.effects: list[Effect] = []
        self.numbers = dict.fromkeys(range(2, members + 2), (10, 0))
        self.silent: set[int] = set()
        self.answers = True
        self.do(self.detector.members_changed(0.0, [ME, *self.numbers]))
        for node in self.numbers:
            self.tell(node)
        if not grace:
            self.run(LAN.grace + 1.0)
            self.effects.clear()

    def do(self, effects: list[Effect]) -> None:
        """Answer probes at once, as living members do."""
        for effect in effects:
            self.effects.append(effect)
            if not isinstance(effect, Send):
                continue
            assert len(encode(effect.message)) <= MAX_DATAGRAM
            message = effect.message
            if isinstance(message, Probe) and self.lives(effect.peer):
                number = self.numbers[effect.peer]
                answer = Ack(number, message.exchange, effect.peer, number)
                self.do(self.detector.on_message(self.now, effect.peer, answer))
            elif isinstance(message, ProbeRequest) and self.lives(effect.peer):
                self._help(effect.peer, message)

    def _help(self, helper: int, request: ProbeRequest) -> None:
        number = self.numbers[helper]
        answer: Message = Nack(number, request.exchange, request.of, request.seen, 1.0, True)
        if self.lives(request.of):
            answer = Ack(number, request.exchange, request.of, self.numbers[request.of])
        self.do(self.detector.on_message(self.now, helper, answer))

    def lives(self, node: int) -> bool:
        return self.answers and node in self.numbers and node not in self.silent

    def run(self, seconds: float) -> None:
        """Time passes; the members' sequences grow."""
        end = self.now + seconds
        while (due := self.detector.deadline()) is not None and due <= end:
            for node, (inc, _) in self.numbers.items():
                if node not in self.silent:
                    self.numbers[node] = inc, int(due)
            self.now = max(self.now, due)
            self.do(self.detector.on_timer(self.now))
        self.now = end

    def tell(self, node: int, *news: Item) -> None:
        """A member sends news."""
        number = self.numbers.get(node, (1, 1))
        self.do(self.detector.on_message(self.now, node, News(number, news)))

    def reaches(self, node: int) -> list[tuple[str, str]]:
        return [
            (effect.state, effect.cause)
            for effect in self.effects
            if isinstance(effect, Reach) and effect.node_id == node
        ]

    def sent_raises(self) -> list[Effect]:
        return [effect for effect in self.effects if isinstance(effect, Raised)]

    def sent(self, kind: type) -> list[tuple[int, Any]]:
        return [
            (effect.peer, effect.message)
            for effect in self.effects
            if isinstance(effect, Send) and isinstance(effect.message, kind)
        ]

    def told(self) -> list[tuple[int, Item]]:
        return [
            (effect.peer, item)
            for effect in self.effects
            if isinstance(effect, Send) and not isinstance(effect.message, (Digest, Listing))
            for item in effect.message.news
        ]


# -- the dead --------------------------------------------------------------------------------------


def test_a_silent_member_is_suspected_then_given_up() -> None:
    bench = Bench()
    bench.silent.add(4)
    bench.run(60)
    assert bench.reaches(4) == [(SUSPECT, "unanswered"), (GONE, "expired")]
    verdict = next(item for _, item in bench.told() if isinstance(item, Gone))
    assert verdict.node == 4 and verdict.by == ME
    assert bench.detector.reach(4) == GONE and bench.detector.reach(5) == FRESH


def test_confirmations_shorten_the_suspicion() -> None:
    alone, confirmed = Bench(), Bench()
    for bench in (alone, confirmed):
        bench.silent.add(4)
        while bench.detector.reach(4) == FRESH:
            bench.run(0.5)
    for by in (2, 3):
        confirmed.tell(by, Suspect(4, confirmed.numbers[4], by, 0.5, 3.0))
    started = confirmed.now
    while confirmed.detector.reach(4) != GONE:
        confirmed.run(0.25)
        alone.run(0.25)
    assert confirmed.now - started < 6.0
    assert alone.detector.reach(4) == SUSPECT


def test_a_member_that_speaks_again_is_fresh_again() -> None:
    bench = Bench()
    bench.silent.add(4)
    bench.run(60)
    bench.silent.clear()
    bench.numbers[4] = (10, 80)
    bench.tell(4)
    assert bench.reaches(4)[-1] == (FRESH, "returned")
    bench.run(0.1)
    assert any(isinstance(item, Fresh) and item.node == 4 for _, item in bench.told())


def test_a_hint_only_starts_a_probe() -> None:
    bench = Bench()
    bench.do(bench.detector.hint(bench.now, 4))
    assert [peer for peer, _ in bench.sent(Probe)] == [4]
    assert bench.reaches(4) == []


def test_nobody_is_accused_in_the_grace_after_a_start() -> None:
    bench = Bench(grace=True)
    bench.silent.add(4)
    bench.run(LAN.grace - 1.0)
    assert bench.reaches(4) == [(FRESH, "joined")]


def test_an_excused_member_is_not_accused() -> None:
    bench = Bench()
    bench.silent.add(4)
    bench.do(bench.detector.excuse(bench.now, 4))
    bench.run(LAN.grace - 2.0)
    assert bench.reaches(4) == []
    bench.run(60)
    assert bench.reaches(4)[-1] == (GONE, "expired")


def test_any_sign_of_life_clears_a_suspicion() -> None:
    bench = Bench()
    bench.silent.add(4)
    while bench.detector.reach(4) == FRESH:
        bench.run(0.5)
    bench.do(bench.detector.alive(bench.now, 4))
    assert bench.reaches(4)[-1] == (FRESH, "heard")


# -- ourselves -------------------------------------------------------------------------------------


def test_nothing_comes_in_and_nobody_is_judged() -> None:
    bench = Bench()
    bench.answers = False
    bench.run(60)
    frozen = [effect for effect in bench.effects if isinstance(effect, Frozen)]
    assert frozen == [Frozen(True, "silence")]
    assert all(bench.detector.reach(node) != GONE for node in bench.numbers)
    bench.answers = True
    bench.tell(3)
    assert Frozen(False, "thawed") in bench.effects
    assert all(bench.detector.reach(node) == FRESH for node in bench.numbers)


def test_proof_of_our_own_network_lets_the_only_member_be_given_up() -> None:
    bench = Bench(members=1)
    bench.silent.add(2)
    for _ in range(60):
        bench.do(bench.detector.connected(bench.now))
        bench.run(1.0)
    assert bench.reaches(2)[-1] == (GONE, "expired")


def test_standing_still_gives_everybody_grace() -> None:
    bench = Bench()
    bench.silent.add(4)
    while bench.detector.reach(4) == FRESH:
        bench.run(0.5)
    bench.now += 100.0
    bench.do(bench.detector.on_timer(bench.now))
    assert Frozen(True, "stall") in bench.effects
    bench.run(LAN.grace - 2.0)
    assert bench.reaches(4)[-1] == (FRESH, "thawed")


def test_most_members_lost_at_once_is_doubted_for_a_while() -> None:
    bench = Bench(members=9)
    bench.silent.update(range(2, 9))
    bench.run(30)
    assert bench.detector.frozen
    assert all(bench.detector.reach(node) != GONE for node in bench.numbers)
    bench.run(120)  # the others talked to us all the time: it is true
    assert [node for node in bench.numbers if bench.detector.reach(node) == GONE] == list(
        range(2, 9)
    )


@pytest.mark.parametrize("kind", [Suspect, Gone])
def test_an_accusation_of_ourselves_is_answered_with_a_higher_number(kind: type) -> None:
    bench = Bench()
    number = 10, bench.detector.sequence
    bench.tell(3, kind(ME, number, 3, 1.0, 1.0))
    peer, item = bench.told()[-1]
    assert peer == 3 and isinstance(item, Fresh) and item.node == ME and item.number > number
    bench.run(0.1)
    assert len({peer for peer, item in bench.told() if item.node == ME}) >= 3


def test_a_false_farewell_of_ours_makes_us_take_a_new_incarnation() -> None:
    bench = Bench()
    bench.tell(3, Left(ME, (10, 500)))
    assert Raised(11) in bench.effects and bench.detector.incarnation == 11


def test_a_claimed_incarnation_is_outbid_once() -> None:
    bench = Bench()
    bench.tell(3, Fresh(ME, (5_000, 3), 0.0), Fresh(ME, (4_000, 3), 0.0))
    assert [effect for effect in bench.effects if isinstance(effect, Raised)] == [Raised(5_001)]


def test_numbers_at_the_end_of_their_range_do_no_harm() -> None:
    bench = Bench()
    bench.tell(3, Fresh(ME, (MAX_NUMBER, 3), 0.0), Suspect(ME, (10, MAX_NUMBER), 3, 0.0, 0.0))
    assert bench.detector.incarnation == 11
    bench.run(5)


def test_incarnations_are_outbid_and_stored_once_in_a_period() -> None:
    bench = Bench()
    for claimed in range(100, 300):
        bench.tell(3, Fresh(ME, (claimed, 3), 0.0))
    assert bench.sent_raises() == [Raised(101)]
    bench.run(LAN.period)
    assert bench.sent_raises() == [Raised(101), Raised(300)]


def test_a_record_of_ours_that_we_never_made_is_replaced() -> None:
    bench = Bench()
    number = (bench.detector.incarnation, bench.detector.next_sequence())
    own = {"node": ME, "inc": number[0], "seq": number[1], "status": "online"}
    bench.do(bench.detector.set_record(bench.now, own))
    bench.tell(3, Status(ME, number, own, 0.0))
    assert bench.sent_raises() == []
    forged = (number[0], number[1] + 10**6)
    bench.tell(3, Status(ME, forged, {**own, "seq": forged[1], "status": "busy"}, 0.0))
    assert bench.sent_raises() == [Raised(number[0])]
    assert bench.detector.next_sequence() > forged[1]


# -- what others say -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lie",
    [
        Left(4, TOP),
        Gone(4, TOP, 3, 0.0, 0.0),
        Fresh(4, TOP, 0.0),
        Suspect(4, TOP, 3, 0.0, 0.0),
        Status(4, TOP, {"node": 4, "inc": TOP[0], "seq": TOP[1]}, 0.0),
    ],
)
def test_a_number_that_cannot_be_outbid_is_not_believed(lie: Item) -> None:
    bench = Bench()
    for _ in range(3):
        bench.tell(3, lie)
    bench.run(20)
    assert bench.detector.reach(4) == FRESH and bench.reaches(4) == []
    assert bench.detector.record(4) is None
    assert bench.detector.statistics()["counters"]["doubted"] == 3
    assert all(item.number != TOP for _, item in bench.told())


def test_a_clock_that_is_far_ahead_shuts_nobody_out() -> None:
    bench = Bench()
    ahead = (2**34, 5)
    bench.numbers[4] = ahead
    bench.tell(4)
    bench.tell(3, Fresh(4, (ahead[0] + 100, 0), 0.0))
    assert bench.reaches(4)[-1] == (FRESH, "restarted")
    bench.tell(3, Fresh(99, ahead, 0.0))
    assert bench.detector.reach(99) is None
    bench.tell(5, Fresh(99, ahead, 0.0))  # two say so
    assert bench.detector.reach(99) == FRESH


def test_a_member_hears_of_its_farewell_from_whom_it_talks_to() -> None:
    bench = Bench()
    inc, seq = bench.numbers[4]
    bench.tell(3, Left(4, (inc + 7, 0)))
    assert bench.detector.reach(4) == GONE
    bench.tell(4)
    assert (4, Left(4, (inc + 7, 0))) in bench.told()
    bench.numbers[4] = (inc + 8, seq)
    bench.tell(4)
    assert bench.detector.reach(4) == FRESH


def test_inventing_members_costs_their_inventor_only() -> None:
    bench = Bench()
    for at in range(100, 10_500, 60):
        bench.tell(3, *(Fresh(node, (10, 1), 0.0) for node in range(at, at + 60)))
        bench.run(0.1)
    shown = bench.detector.statistics()
    assert shown["members"] == LAN.most and shown["members_refused"] > 0
    bench.do(bench.detector.members_changed(bench.now, [*bench.numbers, 20_000]))
    bench.numbers[20_000] = (10, 1)
    bench.tell(20_000)
    assert bench.detector.reach(20_000) == FRESH
    assert bench.detector.statistics()["members"] == LAN.most


def test_the_loss_of_invented_members_freezes_nobody() -> None:
    bench = Bench()
    for node in range(100, 160):
        bench.tell(3, Fresh(node, (10, 1), 0.0))
        bench.tell(3, Gone(node, (10, 1), 3, 9.0, 9.0))
        bench.tell(3, Fresh(node, (10, 2), 0.0), Suspect(node, (10, 2), 3, 9.0, 9.0))
    bench.run(1)
    assert not bench.detector.frozen
    bench.silent.add(4)
    bench.run(40)
    assert bench.detector.reach(4) == GONE


def test_an_accusation_with_an_old_number_is_refused() -> None:
    bench = Bench()
    inc, seq = bench.numbers[4]
    bench.tell(3, Suspect(4, (inc, seq - 5), 3, 1.0, 5.0))
    peer, item = bench.told()[-1]
    assert peer == 3 and isinstance(item, Fresh) and item.number > (inc, seq - 5)
    assert bench.reaches(4) == []


def test_an_accuser_whose_probe_left_later_may_repeat_it_with_the_newer_number() -> None:
    bench = Bench()
    bench.silent.add(4)
    while bench.detector.reach(4) == FRESH:
        bench.run(0.5)
    inc, seq = bench.numbers[4]
    bench.tell(3, Fresh(4, (inc, seq + 2), 30.0))  # said before our probe left
    assert bench.detector.reach(4) == SUSPECT
    bench.run(0.1)
    accusations = [item for _, item in bench.told() if isinstance(item, Suspect)]
    assert accusations[-1].number == (inc, seq + 2)
    bench.tell(3, Fresh(4, (inc, seq + 3), 0.0))  # said since
    assert bench.detector.reach(4) == FRESH


def test_a_member_we_heard_since_is_not_suspected_on_anybodys_word() -> None:
    bench = Bench()
    bench.tell(4)
    bench.tell(3, Suspect(4, (10, 9_999), 3, 5.0, 6.0))
    assert bench.reaches(4) == []
    assert bench.sent(Probe)[-1][0] == 4


def test_a_claimed_number_is_told_to_its_owner() -> None:
    """Somebody claims a huge number for another: the other hears of it and can outbid it."""
    bench = Bench()
    bench.tell(3, Fresh(4, (9_999, 1), 0.0))
    bench.effects.clear()
    bench.tell(4)
    assert (4, Fresh(4, (9_999, 1), 0.0)) in bench.told()
    assert bench.detector.reach(4) == FRESH


def test_a_farewell_is_final_for_its_incarnation() -> None:
    bench = Bench()
    inc, seq = bench.numbers[4]
    bench.silent.add(4)
    bench.do(
        bench.detector.on_message(bench.now, 4, News((inc, seq + 1), (Left(4, (inc, seq + 1)),)))
    )
    assert bench.reaches(4) == [(GONE, "left")]
    bench.tell(3, Fresh(4, (inc, seq + 50), 0.0))
    bench.tell(4)  # overtaken by its farewell
    bench.run(30)
    assert bench.detector.reach(4) == GONE
    bench.numbers[4] = (inc + 1, 0)
    bench.tell(4)
    assert bench.reaches(4)[-1] == (FRESH, "restarted")


def test_a_farewell_told_by_another_falls_when_the_member_itself_goes_on() -> None:
    bench = Bench()
    inc, seq = bench.numbers[4]
    bench.tell(3, Left(4, (inc, seq + 5)))
    assert bench.reaches(4) == [(GONE, "left")]
    bench.numbers[4] = (inc, seq + 6)
    bench.effects.clear()
    bench.tell(4)
    assert bench.reaches(4) == [(FRESH, "returned")]
    assert (4, Left(4, (inc, seq + 5))) in bench.told()  # so it takes a new incarnation


def test_strangers_are_answered_and_not_believed() -> None:
    bench = Bench()
    bench.do(bench.detector.on_message(bench.now, 99, Probe((1, 1), 5, (Left(4, (10, 99)),))))
    ((peer, answer),) = bench.sent(Ack)
    assert peer == 99 and answer.news == ()
    assert bench.detector.reach(4) == FRESH and bench.detector.reach(99) is None


def test_a_flood_is_cut_off() -> None:
    bench = Bench()
    for at in range(FLOOD + 50):
        bench.do(bench.detector.on_message(bench.now, 3, Probe(bench.numbers[3], at)))
    assert len(bench.sent(Ack)) <= FLOOD
    assert bench.detector.statistics()["counters"]["flooded"] >= 50


# -- helping, knocking, leaving --------------------------------------------------------------------


def test_a_helper_probes_and_reports_either_way() -> None:
    bench = Bench()
    request = ProbeRequest(bench.numbers[3], 77, 4, (10, 1))
    bench.do(bench.detector.on_message(bench.now, 3, request))
    assert bench.sent(Ack) == [(3, bench.sent(Ack)[0][1])]
    assert bench.sent(Ack)[0][1].of == 4 and bench.sent(Ack)[0][1].exchange == 77
    bench.effects.clear()
    bench.silent.add(4)
    bench.do(bench.detector.on_message(bench.now, 3, request))
    bench.run(0.35)
    peer, nack = bench.sent(Nack)[0]
    assert peer == 3 and nack.of == 4 and nack.able and nack.seen == bench.numbers[4]


def test_a_helper_that_does_not_know_the_member_says_so() -> None:
    bench = Bench()
    bench.do(bench.detector.on_message(bench.now, 3, ProbeRequest((10, 1), 77, 99, (1, 1))))
    assert bench.sent(Nack)[0][1].able is False


def test_peers_that_never_answered_are_no_members_and_called_ever_less_often() -> None:
    bench = Bench()
    bench.do(bench.detector.members_changed(bench.now, [*bench.numbers, 50]))
    bench.run(600)
    calls = [peer for peer, _ in bench.sent(Probe)].count(50)
    assert 3 <= calls <= 10
    assert bench.reaches(50) == [] and bench.detector.reach(50) is None


def test_a_member_removed_is_forgotten() -> None:
    bench = Bench()
    bench.do(bench.detector.members_changed(bench.now, [2, 3]))
    assert bench.reaches(4) == [(GONE, "removed")]
    assert bench.detector.reach(4) is None and bench.detector.reach(3) == FRESH


def test_leaving_tells_several_and_ends_everything() -> None:
    bench = Bench()
    bench.do(bench.detector.leave(bench.now))
    told = [(peer, item) for peer, item in bench.told() if isinstance(item, Left)]
    assert len(told) == 6 and {item.node for _, item in told} == {ME}
    assert bench.detector.deadline() is None
    assert bench.detector.on_message(bench.now, 3, Probe((10, 5), 1)) == []
    assert bench.detector.leave(bench.now) == []


# -- records ---------------------------------------------------------------------------------------


def _record(node: int, inc: int, seq: int, **more: Any) -> dict[str, Any]:
    return {"node": node, "inc": inc, "seq": seq, "status": "online", **more}


def test_our_record_is_pushed_at_once_and_once_to_each() -> None:
    bench = Bench()
    record = _record(ME, 10, bench.detector.next_sequence())
    bench.do(bench.detector.set_record(bench.now, record))
    bench.run(0.1)
    pushed = [peer for peer, item in bench.told() if isinstance(item, Status)]
    assert len(pushed) == len(set(pushed)) == 3


@pytest.mark.parametrize(
    "record",
    [
        _record(2, 10, 1),
        _record(ME, 9, 1),
        _record(ME, 10, 999_999),
        {"node": ME},
        _record(ME, 10, 1, reason="x" * 900),
    ],
)
def test_a_record_that_cannot_be_carried_is_refused(record: dict[str, Any]) -> None:
    bench = Bench()
    bench.detector.next_sequence()
    with pytest.raises(PresenceError):
        bench.detector.set_record(bench.now, record)


def test_records_are_ordered_by_their_number_and_forwarded_once() -> None:
    bench = Bench()
    new, old = _record(4, 10, 900), _record(4, 10, 800)
    for record in (new, old, new):
        bench.tell(3, Status(4, (record["inc"], record["seq"]), record, 1.0))
    assert [effect for effect in bench.effects if isinstance(effect, Record)] == [Record(4, new, 3)]
    assert bench.detector.record(4) == new


def test_a_record_from_its_owner_beats_one_somebody_invented() -> None:
    bench = Bench()
    false, true = _record(4, 9_999, 1, status="offline"), _record(4, 10, 5)
    bench.tell(3, Status(4, (9_999, 1), false, 0.0))
    bench.tell(4, Status(4, (10, 5), true, 0.0))
    assert bench.detector.record(4) == true
    bench.tell(4, Status(4, (10, 4), _record(4, 10, 4), 0.0))
    assert bench.detector.record(4) == true


# -- anything --------------------------------------------------------------------------------------

few_nodes = st.integers(0, 9)
few_numbers = st.tuples(st.sampled_from([0, 9, 10, 11, MAX_NUMBER]), st.integers(0, 30))
spans = st.floats(0, 1e8)
some_items = st.one_of(
    st.builds(Fresh, few_nodes, few_numbers, spans),
    st.builds(Suspect, few_nodes, few_numbers, few_nodes, spans, spans),
    st.builds(Gone, few_nodes, few_numbers, few_nodes, spans, spans),
    st.builds(Left, few_nodes, few_numbers),
    st.builds(
        lambda node, number, age: Status(node, number, _record(node, *number), age),
        few_nodes,
        few_numbers,
        spans,
    ),
)
some_news = st.lists(some_items, max_size=3).map(tuple)
exchanges = st.integers(0, 5)
some_messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Probe, few_numbers, exchanges, some_news),
    st.builds(Ack, few_numbers, exchanges, few_nodes, few_numbers, some_news),
    st.builds(ProbeRequest, few_numbers, exchanges, few_nodes, few_numbers, some_news),
    st.builds(
        Nack, few_numbers, exchanges, few_nodes, few_numbers, spans, st.booleans(), some_news
    ),
    st.builds(News, few_numbers, some_news),
    st.builds(Digest, few_numbers, exchanges, st.just((1,) * 64)),
    st.builds(
        Listing,
        few_numbers,
        exchanges,
        st.just(tuple(range(64))),
        st.just(0),
        st.just(2**32 - 1),
        st.lists(st.tuples(few_nodes, few_numbers, st.integers(0, 30)), max_size=4).map(tuple),
    ),
    st.builds(Delta, few_numbers, exchanges, some_news, st.lists(few_nodes, max_size=3).map(tuple)),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("message"), few_nodes, some_messages),
        st.tuples(st.just("time"), st.floats(0, 9), st.none()),
        st.tuples(st.just("alive"), few_nodes, st.none() | few_numbers),
        st.tuples(st.just("hint"), few_nodes, st.none()),
        st.tuples(st.just("members"), st.sets(few_nodes), st.none()),
    ),
    max_size=30,
)


@given(steps=steps)
@settings(deadline=None, max_examples=150)
def test_whatever_happens_the_books_balance(steps: list[tuple[str, Any, Any]]) -> None:
    """Nothing raises, what leaves can be read, counts agree with states, our number only grows."""
    now, detector = 0.0, Detector(ME, now=0.0, rng=random.Random(1), profile=LAN, incarnation=10)
    detector.members_changed(now, range(6))
    number = detector.incarnation, detector.sequence
    for kind, what, more in steps:
        effects: list[Effect] = []
        if kind == "message":
            effects = detector.on_message(now, what, more)
        elif kind == "time":
            now += what
            effects = detector.on_timer(now)
        elif kind == "alive":
            effects = detector.alive(now, what, *(more or ()))
        elif kind == "hint":
            effects = detector.hint(now, what)
        else:
            effects = detector.members_changed(now, what)
        for effect in effects:
            if isinstance(effect, Send):
                assert effect.peer != ME
                data = encode(effect.message)
                assert len(data) <= MAX_DATAGRAM
                assert type(decode(data)) is type(effect.message)
            assert not (isinstance(effect, (Reach, Record)) and effect.node_id == ME)
        states = [detector.reach(node) for node in range(10)]
        statistics = detector.statistics()
        assert statistics["fresh"] == states.count(FRESH)
        assert statistics["suspect"] == states.count(SUSPECT)
        before, number = number, (detector.incarnation, detector.sequence)
        assert number >= before
        assert ((due := detector.deadline()) is not None and due > now - 1e-9) or kind != "time"
