"""News that is passed on."""

from __future__ import annotations

from skills.presence.detection.items import Fresh, Gone, Left, Status, Suspect
from skills.presence.detection.rumors import Rumors, aged, carries, packed


def _suspect(node: int, by: int) -> Suspect:
    return Suspect(node, (1, 5), by, 1.0, 2.0)


def test_a_rumor_is_carried_a_bounded_number_of_times() -> None:
    rumors = Rumors()
    rumors.add(0.0, Left(7, (1, 2)), 0)
    limit = carries(100)
    assert limit == 9
    assert sum(len(rumors.carry(1.0, 800, limit)) for _ in range(50)) == limit
    assert len(rumors) == 0


def test_life_and_record_are_two_rumors_and_the_newest_counts() -> None:
    rumors = Rumors()
    record = Status(7, (1, 3), {"node": 7, "inc": 1, "seq": 3}, 0.0)
    rumors.add(0.0, Fresh(7, (1, 2), 0.0), 0)
    rumors.add(0.0, record, 0)
    rumors.add(0.0, Fresh(7, (1, 4), 0.0), 0)
    assert list(rumors.carry(0.0, 800, 9)) == [record, Fresh(7, (1, 4), 0.0)]
    assert len(rumors) == 2
    assert [rumor.item.number for rumor in rumors.take_hot()] == [(1, 3), (1, 4)]
    assert rumors.take_hot() == []


def test_each_accuser_is_news_until_anything_else_is_known() -> None:
    rumors = Rumors()
    for by in (1, 2, 3):
        rumors.add(0.0, _suspect(7, by), by)
    assert len(rumors) == 3 and len(rumors.take_hot()) == 3
    rumors.add(0.0, Fresh(7, (1, 6), 0.0), 0)
    assert [type(item) for item in rumors.carry(0.0, 800, 9)] == [Fresh]
    rumors.add(0.0, _suspect(7, 1), 1)
    rumors.add(0.0, Gone(7, (1, 6), 1, 0.0, 0.0), 0)
    assert [type(item) for item in rumors.carry(0.0, 800, 9)] == [Gone]


def test_spans_grow_while_news_waits() -> None:
    rumors = Rumors()
    rumors.add(10.0, _suspect(7, 1), 1)
    assert rumors.carry(12.5, 800, 9) == (Suspect(7, (1, 5), 1, 3.5, 4.5),)
    assert aged(Left(7, (1, 2)), 5.0) == Left(7, (1, 2))


def test_the_queue_is_bounded_and_the_oldest_goes() -> None:
    rumors = Rumors(most=3)
    for node in (1, 2, 3):
        rumors.add(0.0, Left(node, (1, 1)), 0)
    rumors.carry(0.0, 50, 9)  # carries node 1 along
    rumors.add(0.0, Left(4, (1, 1)), 0)
    assert len(rumors) == 3 and rumors.dropped == 1 and len(rumors.hot) <= 6
    assert {item.node for item in rumors.carry(0.0, 800, 9)} == {2, 3, 4}


def test_those_carried_least_go_first_and_only_what_fits() -> None:
    rumors = Rumors()
    rumors.add(0.0, Left(1, (1, 1)), 0)
    rumors.carry(0.0, 800, 9)
    rumors.add(0.0, Left(2, (1, 1)), 0)
    assert [item.node for item in rumors.carry(0.0, 60, 9)] == [2]


def test_items_are_packed_into_datagrams() -> None:
    items = [(Left(node, (1, 1)), 40) for node in range(7)]
    loads = packed(items, 100)
    assert [len(load) for load in loads] == [2, 2, 2, 1]
    assert packed([(Left(1, (1, 1)), 500)], 100) == [(Left(1, (1, 1)),)]


def test_what_waits_is_bounded_whatever_comes() -> None:
    rumors = Rumors(most=10)
    for sequence in range(1000):
        rumors.add(0.0, Suspect(7, (1, sequence), 3, 1.0, 2.0), 3)
        rumors.add(0.0, Fresh(sequence, (1, 1), 0.0), 3)
    assert len(rumors) == 10 and len(rumors.hot) <= 20
    assert len(rumors.take_hot()) == 10
