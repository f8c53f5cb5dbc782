"""Replicas that were away: longer than deletions are remembered, or than members are."""

from __future__ import annotations

from skills.gossip.core.config import GossipConfig
from skills.gossip.core.hlc import hlc_at
from skills.gossip.core.register import FLAG_TOMBSTONE, Register
from tests.skills.gossip.net import EPOCH, Swarm

HOUR = 3600.0
#: Rare rounds make days of simulated time cheap.
SLOW = GossipConfig(interval=200.0, patience=30.0)


def switch_off(swarm: Swarm, node_id: int) -> None:
    swarm[node_id].up = False


def switch_on(swarm: Swarm, node_id: int) -> None:
    swarm[node_id].start()
    swarm.introduce()


def test_a_short_absence_changes_nothing():
    swarm = Swarm(3, config=SLOW)
    swarm[3].set("k", 1)
    swarm.await_equal(300.0)
    switch_off(swarm, 3)
    swarm.run(2 * HOUR)
    switch_on(swarm, 3)
    assert not swarm[3].replica.status(swarm.now)["lagging"]


def test_after_a_day_and_more_what_was_deleted_does_not_come_back():
    swarm = Swarm(4, config=SLOW)
    swarm[1].set("gone", 1)
    swarm[1].set("kept", 1)
    swarm[3].set("mine", "old")
    swarm.await_equal(600.0)
    switch_off(swarm, 3)
    swarm[1].delete("gone")
    swarm[1].set("new", 1)
    swarm.run(40 * HOUR)
    assert not swarm[1].replica._desk.ledger.map.deleted(), "the tombstone has had its day"
    switch_on(swarm, 3)
    node = swarm[3]
    assert node.replica.status(swarm.now)["lagging"]
    assert node.replica.get("gone") == 1, "reads are served at once"
    node.set("mine too", 2)
    swarm.await_equal(600.0)
    swarm.run(600.0)
    expected = {"kept": 1, "mine": "old", "new": 1, "mine too": 2}
    for each in swarm.nodes.values():
        assert each.replica.document() == expected
    assert not node.replica.status(swarm.now)["lagging"] and node.replica.synced
    node.start()
    assert node.replica.document() == expected, "the journal tells the same"


def test_a_process_that_was_asleep_lags_too():
    swarm = Swarm(3, config=SLOW)
    swarm[1].set("gone", 1)
    swarm.await_equal(600.0)
    asleep = swarm[3]
    swarm.cut = lambda source, target: 3 in (source, target)
    swarm[1].delete("gone")
    swarm.run(40 * HOUR)
    swarm.cut = lambda source, target: False
    swarm.run(HOUR)
    assert swarm.converged()
    assert asleep.replica.document() == {}


def test_when_everybody_was_away_nothing_is_lost():
    swarm = Swarm(3, config=SLOW)
    swarm[1].set("k", 1)
    swarm[2].set("m", 2)
    swarm.await_equal(600.0)
    for node_id in (1, 2, 3):
        switch_off(swarm, node_id)
    swarm.run(100 * HOUR)
    for node_id in (1, 2, 3):
        switch_on(swarm, node_id)
    swarm[1].set("after", 3)
    swarm.run(HOUR)
    for each in swarm.nodes.values():
        assert each.replica.document() == {"k": 1, "m": 2, "after": 3}
        assert not each.replica.status(swarm.now)["lagging"]


def test_a_dormant_tombstone_ends_what_comes_back():
    swarm = Swarm(3, config=SLOW)
    swarm[1].set("k", 1)
    swarm.await_equal(600.0)
    old = swarm[1].replica.items()[0]
    swarm[1].delete("k")
    swarm.run(30 * HOUR)
    assert not swarm[1].replica._desk.ledger.map.deleted()
    swarm[2].replica._desk.ledger.map.clear()
    swarm[2].replica._desk.ledger.map.merge(old, EPOCH + swarm.now)
    swarm.run(HOUR)
    for each in swarm.nodes.values():
        assert each.replica.document() == {}


def test_expiry_is_told_to_the_journal():
    swarm = Swarm(2, config=GossipConfig(interval=HOUR, heal=HOUR))
    swarm[1].set("k", 1)
    swarm[1].delete("k")
    swarm.run(32 * 24 * HOUR)
    assert swarm[1].replica._desk.ledger.map.all_dormant() == []
    swarm[1].start()
    registers = swarm[1].replica._desk.ledger.map
    assert not list(registers.all()) and not registers.all_dormant()


def test_an_old_tombstone_in_the_journal_rests_after_a_restart():
    swarm = Swarm(1)
    node = swarm[1]
    old = Register("k", None, hlc_at(EPOCH - 2 * 24 * HOUR), 1, FLAG_TOMBSTONE)
    node.journal = [("register", old.to_list())]
    node.start()
    registers = node.replica._desk.ledger.map
    assert len(registers) == 0 and registers.dormant("k") is not None


def test_rubbish_in_the_journal_is_skipped():
    swarm = Swarm(1)
    node = swarm[1]
    node.journal = [
        ("register", ["k", 1]),
        ("register", ["k", 1, "0" * 16, 1, 0]),
        ("left", 7),
        ("left", [5, 9]),
        ("reserve", "x"),
        ("contact", "never"),
        ("unheard of", None),
        ("gone", ["k"]),
    ]
    node.start()
    assert node.replica.get("k") == 1


def test_a_wall_clock_set_back_stops_nothing():
    swarm = Swarm(5)
    swarm[2].set("k", 1)
    swarm.await_equal(20.0)
    swarm[2].skew = -HOUR
    swarm[2].set("k", 2)
    swarm.await_equal(20.0)
    assert swarm[1].replica.get("k") == 2


def test_membership_of_a_forgotten_member_does_not_circle():
    swarm = Swarm(4, config=SLOW)
    swarm.run(HOUR)
    swarm[4].do(swarm[4].replica.leave)
    swarm[4].up = False
    swarm.run(26 * HOUR)
    swarm.log.clear()
    swarm.run(4 * HOUR)
    told = [
        news for _, _, _, document in swarm.log for news in document.get("hb", []) if news[0] == 4
    ]
    assert told == []
    node = swarm[1]
    node.start()
    assert 4 not in node.replica._desk.members.known
