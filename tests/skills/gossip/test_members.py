"""What is believed of members, and the news about them."""

from __future__ import annotations

from skills.gossip.core.config import GossipConfig
from skills.gossip.core.effects import PeerFacts
from skills.gossip.core.member import Change, Standing
from skills.gossip.core.members import Membership
from skills.gossip.core.messages import ALIVE, LEFT, SUSPECT, News

CONFIG = GossipConfig()
WALL = 1_800_000_000.0
OWN = 1


def membership(**options) -> Membership:
    return Membership(OWN, 100, GossipConfig(**options), 0.0)


def taken(members: Membership) -> list[tuple[Change, int]]:
    changes, members.changes = members.changes, []
    return [(change, node) for change, node, _ in changes]


def told(members: Membership, node: int) -> list[int]:
    return [news.code for news in members.rumors() if news.node == node]


def test_ourselves_are_no_member():
    members = membership()
    assert members.trust([PeerFacts(OWN), PeerFacts(2)]) == [2]
    assert list(members.trusted) == [2]


def test_only_new_peers_are_new():
    members = membership()
    members.trust([PeerFacts(2), PeerFacts(3)])
    assert members.trust([PeerFacts(3), PeerFacts(4)]) == [4]


def test_a_member_joins_with_its_first_message_and_fails_when_nothing_reaches_it():
    members = membership()
    member = members.member(2, 0.0)
    members.heard(member, 0.0, 7, proof=True)
    assert taken(members) == [(Change.JOINED, 2)]
    for at in range(1, 4):
        assert members.usable(2)
        members.undelivered(member, float(at))
        members.undelivered(member, float(at))
    assert not members.usable(2) and list(members.failed) == [2]
    assert taken(members) == [(Change.FAILED, 2)]
    assert told(members, 2) == [SUSPECT]
    members.heard(member, 4.0, 7, proof=True)
    assert members.usable(2) and not members.failed
    assert taken(members) == [(Change.JOINED, 2)]
    assert told(members, 2) == [ALIVE]


def test_one_message_that_arrives_ends_the_count_of_failures():
    members = membership()
    member = members.member(2, 0.0)
    for at in range(20):
        members.undelivered(member, float(at))
        members.undelivered(member, float(at))
        members.heard(member, float(at), proof=False)
    assert members.usable(2)


def test_silence_counts_less_than_failure():
    members = membership()
    member = members.member(2, 0.0)
    for _ in range(9):
        members.silent(member, 0.0)
    assert members.usable(2)
    members.silent(member, 0.0)
    assert not members.usable(2)


def test_proof_of_version_two_wears_off():
    members = membership()
    members.trust([PeerFacts(2), PeerFacts(3, True), PeerFacts(4, False)])
    members.heard(members.member(2, 0.0), 0.0, proof=True)
    assert members.version2(2, 599.0) and not members.version2(2, 600.0)
    assert members.version2(3, 1e6)
    assert not members.version2(4, 0.0)


def test_who_left_does_not_come_back_by_hearsay():
    members = membership()
    member = members.member(2, 0.0)
    members.heard(member, 0.0, 7, proof=True)
    members.left(member, 7, 1.0)
    assert not members.news(2.0, WALL, News(2, 7, 99, ALIVE))
    assert not members.usable(2)
    assert members.news(2.0, WALL, News(2, 8, 0, ALIVE))
    assert members.usable(2)


def test_a_message_overtaken_by_the_good_bye_changes_nothing():
    members = membership()
    member = members.member(2, 0.0)
    members.left(member, 7, 1.0)
    members.heard(member, 1.5, 7, proof=True)
    assert member.standing is Standing.LEFT
    members.heard(member, 1.6, 8, proof=True)
    assert member.standing is Standing.ONLINE


def test_news_about_the_forgotten_does_not_circle():
    members = membership()
    member = members.member(2, 0.0)
    members.heard(member, 0.0, 7, proof=True)
    for at in range(3):
        members.undelivered(member, float(at))
    members.forget(CONFIG.forget + 2.0)
    assert 2 not in members.known and (2, 7) in members.buried()
    at = CONFIG.forget + 3.0
    assert not members.news(at, WALL, News(2, 7, 5, ALIVE))
    assert not members.news(at, WALL, News(2, 7, 5, SUSPECT))
    assert 2 not in members.known
    assert members.news(at, WALL, News(2, 8, 0, ALIVE))


def test_the_departed_survive_a_restart():
    members = membership()
    members.restore({2: 7}, 0.0)
    assert not members.news(1.0, WALL, News(2, 7, 5, ALIVE))
    assert members.news(1.0, WALL, News(2, 8, 0, ALIVE))


def test_we_refute_our_own_death_with_a_higher_incarnation():
    members = membership()
    members.rumors()
    assert members.news(1.0, WALL, News(OWN, 100, 5, SUSPECT))
    assert members.incarnation == 101
    assert members.rumors() == (News(OWN, 101, 0, ALIVE),)
    assert not members.news(1.0, WALL, News(OWN, 100, 9, SUSPECT))
    assert members.incarnation == 101


def test_nobody_drives_our_incarnation_away():
    members = membership()
    members.news(1.0, WALL, News(OWN, 2**53, 5, SUSPECT))
    assert members.incarnation == 100
    members.news(1.0, WALL, News(2, 2**53, 5, LEFT))
    assert members.buried() == []


def test_an_accusation_does_not_outweigh_what_we_heard_ourselves():
    members = membership()
    member = members.member(2, 0.0)
    members.heard(member, 0.0, 7, proof=True)
    members.rumors()
    assert members.news(10.0, WALL, News(2, 7, 3, SUSPECT))
    assert members.usable(2)
    assert News(2, 7, 4, ALIVE) in members.rumors()


def test_an_accusation_counts_when_we_know_no_better():
    members = membership()
    member = members.member(2, 0.0)
    members.heard(member, 0.0, 7, proof=True)
    taken(members)
    assert members.news(60.0, WALL, News(2, 7, 3, SUSPECT))
    assert taken(members) == [(Change.FAILED, 2)]
    assert members.news(61.0, WALL, News(2, 7, 4, ALIVE))
    assert members.usable(2)


def test_news_is_passed_on_a_bounded_number_of_times():
    members = membership()
    members.trust([PeerFacts(node) for node in range(2, 12)])
    members.news(0.0, WALL, News(5, 7, 0, ALIVE))
    times = sum(ALIVE in told(members, 5) for _ in range(100))
    assert 1 < times <= 10


def test_the_table_of_members_is_bounded():
    members = membership(members=10)
    assert len(members.trust([PeerFacts(node) for node in range(2, 40)])) == 10
    for node in range(2, 12):
        members.heard(members.member(node, 0.0), 0.0, proof=True)
    assert members.member(99, 0.0) is None
    assert members.refused == 29
    for node in range(100, 200):
        assert not members.news(0.0, WALL, News(node, 1, 1, ALIVE))
        members.news(0.0, WALL, News(node, 1, 1, LEFT))
    assert len(members.known) == 10 and len(members.buried()) == 10


def test_a_failed_member_makes_room():
    members = membership(members=2)
    members.trust([PeerFacts(2), PeerFacts(3)])
    for node in (2, 3):
        members.heard(members.member(node, 0.0), 0.0, proof=True)
    for at in range(3):
        members.undelivered(members.known[2], float(at))
    assert members.member(4, 3.0) is not None
    assert 2 not in members.known and not members.failed


def test_a_join_is_told_once_however_it_is_learned():
    members = membership()
    assert members.news(0.0, WALL, News(2, 7, 0, ALIVE))
    members.heard(members.member(2, 0.0), 1.0, 7, proof=True)
    assert not members.news(2.0, WALL, News(2, 7, 0, ALIVE))
    assert taken(members) == [(Change.JOINED, 2)]
    members.heard(members.member(2, 0.0), 3.0, 8, proof=True)
    assert taken(members) == [(Change.JOINED, 2)]


def test_a_push_before_the_first_incarnation_is_no_second_join():
    members = membership()
    members.heard(members.member(2, 0.0), 0.0, proof=False)
    members.heard(members.member(2, 0.0), 1.0, 7, proof=True)
    assert taken(members) == [(Change.JOINED, 2)]


def test_joins_of_strangers_are_no_news_in_a_large_swarm():
    members = membership()
    members.partial = True
    assert not members.news(0.0, WALL, News(2, 7, 0, ALIVE))
    assert not members.known
