"""A swarm of replicas: what spreads, how fast, and what it costs."""

from __future__ import annotations

import pytest

from pilot.errors import NotFound
from skills.gossip.core.config import GossipConfig
from skills.gossip.core.errors import BadMessage, Refused
from tests.skills.gossip.net import NAME, Swarm


def quiet(swarm: Swarm) -> None:
    """Wait until nobody is hot any more."""
    swarm.run(90.0)


@pytest.mark.parametrize("v2", [True, None])
def test_a_key_set_on_one_is_read_on_all(v2):
    swarm = Swarm(10, v2=v2)
    swarm.run(20.0)
    swarm[1].set("sensors/roof", {"temperature": 21.5, "ok": True})
    swarm.await_equal(10.0)
    for node in swarm.nodes.values():
        assert node.replica.get("sensors/roof/temperature") == 21.5
        assert node.replica.document() == {"sensors": {"roof": {"temperature": 21.5, "ok": True}}}
        assert node.replica.synced


def test_news_is_pushed_and_does_not_wait_for_the_timer():
    swarm = Swarm(30, config=GossipConfig(interval=1000.0))
    swarm[1].set("k", 1)
    swarm.run(2.0)
    holding = sum(node.replica.root == swarm[1].replica.root for node in swarm.nodes.values())
    assert holding >= 25


def test_without_push_the_timer_alone_spreads():
    swarm = Swarm(30, config=GossipConfig(push=False))
    quiet(swarm)
    swarm.sent.clear()
    swarm[1].set("k", 1)
    assert swarm.await_equal(40.0) > 1.0
    assert not swarm.sent["gossip_push"]


def test_an_update_travels_three_times_per_node_and_is_never_forwarded_twice():
    swarm = Swarm(60)
    quiet(swarm)
    swarm.log.clear()
    swarm[1].set("k", 1)
    swarm.run(15.0)
    assert swarm.converged()
    copies = sum(
        1 for _, _, _, document in swarm.log if document.get("e") or document.get("g", {}).get("e")
    )
    assert copies <= 3.5 * 60
    pushes = [source for _, source, _, d in swarm.log if d["type"] == "gossip_push"]
    assert max(pushes.count(node) for node in set(pushes)) == 3


def test_a_burst_of_writes_is_one_push():
    swarm = Swarm(5)
    quiet(swarm)
    swarm.log.clear()
    for number in range(20):
        swarm[1].set(f"k{number}", number)
    swarm.run(0.1)
    assert [s for _, s, _, d in swarm.log if d["type"] == "gossip_push"].count(1) == 3
    swarm.await_equal(10.0)


def test_a_quiet_swarm_costs_less_than_a_kibibyte_a_round():
    swarm = Swarm(12)
    for number in range(200):
        swarm[1 + number % 12].set(f"k/{number}", "x" * 100)
    swarm.await_equal(30.0)
    quiet(swarm)
    swarm.bytes = 0
    swarm.run(300.0)
    per_round = 2 * swarm.bytes / 12 / (300.0 / 5.0)
    assert per_round <= 1024


@pytest.mark.parametrize("loss", [0.1, 0.3])
def test_lost_messages_are_made_up_for(loss):
    swarm = Swarm(30, loss=loss, seed=3)
    swarm.run(10.0)
    for node in range(1, 31):
        swarm[node].set(f"k/{node}", node)
    swarm.await_equal(60.0)


def test_concurrent_writers_end_with_one_winner():
    swarm = Swarm(20)
    quiet(swarm)
    for node in range(1, 21):
        swarm[node].set("k", node)
    swarm.await_equal(15.0)
    winner = swarm[1].replica.get("k")
    assert all(node.replica.get("k") == winner for node in swarm.nodes.values())


def test_both_halves_of_a_partition_write_and_meet_again():
    swarm = Swarm(16, seed=5)
    quiet(swarm)
    swarm.cut = lambda source, target: (source <= 8) != (target <= 8)
    swarm[1].set("left", 1)
    swarm[9].set("right", 2)
    swarm[2].set("both", "left")
    swarm[10].set("both", "right")
    swarm.run(300.0)
    assert swarm[8].replica.document() == {"left": 1, "both": "left"}
    swarm.cut = lambda source, target: False
    assert swarm.await_equal(35.0) <= 35.0
    assert swarm[1].replica.document() == {"left": 1, "right": 2, "both": "right"}


def test_a_deleted_key_stays_deleted_across_a_partition():
    swarm = Swarm(6)
    swarm[1].set("k/a", 1)
    swarm[1].set("k/b", 2)
    swarm.await_equal(20.0)
    swarm.cut = lambda source, target: (source <= 3) != (target <= 3)
    swarm[1].delete("k/a")
    swarm.run(120.0)
    assert swarm[4].replica.get("k") == {"a": 1, "b": 2}
    swarm.cut = lambda source, target: False
    swarm.await_equal(35.0)
    assert swarm[4].replica.get("k") == {"b": 2}


def test_a_joiner_is_synced_by_one_exchange():
    swarm = Swarm(5)
    for number in range(50):
        swarm[1].set(f"k/{number}", "x" * 50)
    quiet(swarm)
    joiner = swarm.add()
    swarm.introduce()
    swarm.log.clear()
    swarm.run(10.0, lambda: joiner.replica.root == swarm[1].replica.root)
    assert joiner.replica.root == swarm[1].replica.root
    mine = [d["type"] for _, s, t, d in swarm.log if joiner.id in (s, t)]
    assert mine.count("gossip_syn") <= 2
    swarm.run(10.0)
    assert joiner.replica.synced
    pushed = [d for _, s, _, d in swarm.log if s == joiner.id and d["type"] == "gossip_push"]
    assert not pushed, "what is news to a joiner is no news"


def test_a_joiner_takes_a_large_state_in_frames():
    swarm = Swarm(3)
    for number in range(300):
        swarm[1 + number % 3].set(f"k/{number}", "x" * 4000)
    swarm.run(60.0, swarm.converged)
    joiner = swarm.add()
    swarm.introduce()
    swarm.log.clear()
    swarm.await_equal(40.0)
    assert len(joiner.replica.items()) == 300
    import json

    assert max(len(json.dumps(d)) for _, _, _, d in swarm.log) <= 33 * 1024


def test_a_large_difference_is_found_without_sending_what_is_equal():
    swarm = Swarm(2)
    for number in range(400):
        swarm[1].set(f"k/{number}", "x" * 500)
    swarm.await_equal(60.0)
    swarm.cut = lambda source, target: True
    for number in range(100):
        swarm[1].set(f"k/{number}", "one")
        swarm[2].set(f"m/{number}", "two")
    swarm.run(60.0)
    swarm.cut = lambda source, target: False
    swarm.bytes = 0
    swarm.await_equal(60.0)
    assert swarm.bytes < 120_000
    assert len(swarm[1].replica.items()) == 500


def test_two_authors_in_one_instant_are_told_apart():
    swarm = Swarm(2, delay=(0.5, 0.5))
    quiet(swarm)
    swarm[1].set("k", "one")
    swarm[2].set("k", "two")
    one, two = (swarm[n].replica.items()[0] for n in (1, 2))
    assert one.hlc == two.hlc
    swarm.await_equal(40.0)
    assert swarm[1].replica.get("k") == "two"


def test_a_restart_serves_reads_at_once_and_says_that_it_is_not_synced():
    swarm = Swarm(4)
    swarm[1].set("k", 1)
    swarm.await_equal(20.0)
    node = swarm[2]
    node.up = False
    swarm[1].set("k", 2)
    swarm.run(30.0)
    node.start()
    assert node.replica.get("k") == 1 and not node.replica.synced
    swarm.introduce()
    swarm.await_equal(10.0)
    swarm.run(10.0)
    assert node.replica.get("k") == 2 and node.replica.synced
    assert node.named("gossip.synced")


def test_the_clock_continues_above_what_was_written_before_a_restart():
    swarm = Swarm(1)
    node = swarm[1]
    node.set("k", "before")
    before = node.replica.items()[0].hlc
    node.up = False
    node.skew = -3600.0
    node.start()
    node.set("k", "after")
    assert node.replica.get("k") == "after"
    assert node.replica.items()[0].hlc > before


def test_a_snapshot_stands_for_the_journal():
    swarm = Swarm(2)
    swarm[1].set("a/b", [1, {"c": None}])
    swarm[1].set("gone", 1)
    swarm[1].delete("gone")
    swarm.await_equal(20.0)
    node = swarm[2]
    node.journal = list(node.replica.snapshot())
    root = node.replica.root
    node.start()
    assert node.replica.root == root


def test_a_ttl_ends_a_value_everywhere():
    swarm = Swarm(4)
    swarm[1].set("k", 1, ttl=40.0)
    swarm.await_equal(20.0)
    assert swarm[3].replica.get("k") == 1
    swarm.run(50.0)
    assert swarm.converged()
    with pytest.raises(NotFound):
        swarm[3].replica.get("k")


def test_what_is_ephemeral_goes_with_its_author():
    swarm = Swarm(4)
    swarm[1].set("k", 1, ttl=1e6)
    swarm[1].set("kept", 1)
    swarm.await_equal(20.0)
    swarm[1].up = False
    swarm.run(300.0)
    assert swarm[2].replica.document() == {"kept": 1}
    assert swarm.converged()
    swarm[1].start()
    swarm.introduce()
    swarm.await_equal(60.0)
    assert swarm[1].replica.document() == {"kept": 1}


def test_a_member_that_leaves_is_gone_and_one_that_dies_fails():
    swarm = Swarm(5)
    quiet(swarm)
    swarm[5].do(swarm[5].replica.leave)
    swarm.run(10.0)
    for node in range(1, 5):
        assert swarm[node].named("gossip.member_left")[0]["node_id"] == 5
    assert swarm[5].replica.deadline() is None
    swarm[4].up = False
    swarm.run(120.0)
    for node in range(1, 4):
        assert 4 in [each["node_id"] for each in swarm[node].named("gossip.member_failed")]


def test_a_member_that_comes_back_is_met_again():
    swarm = Swarm(4)
    quiet(swarm)
    swarm[4].up = False
    swarm[1].set("k", 1)
    swarm.run(200.0)
    swarm[4].start()
    swarm[4].do(lambda now: [])
    swarm.introduce()
    swarm.await_equal(35.0)
    swarm.run(60.0)
    standing = {row["node_id"]: row["standing"] for row in swarm[1].replica.members(swarm.now)}
    assert standing[4] == "online"


def test_sync_tells_when_both_agree():
    swarm = Swarm(4, config=GossipConfig(push=False, interval=1000.0))
    swarm[1].set("k", 1)
    swarm[3].set("m", 1)
    swarm[1].do(lambda now: swarm[1].replica.sync(now, 3))
    swarm.run(2.0)
    assert swarm[1].named("gossip.synced")[-1]["peer"] == 3
    assert swarm[1].replica.root == swarm[3].replica.root != swarm[2].replica.root


def test_sync_with_nobody_or_somebody_unreachable():
    alone = Swarm(1)
    with pytest.raises(NotFound):
        alone[1].replica.sync(0.0)
    swarm = Swarm(2)
    swarm[2].up = False
    swarm[1].do(lambda now: swarm[1].replica.sync(now, 2))
    swarm.run(3.0)
    assert swarm[1].named("gossip.diverged")[-1]["cause"] == "unreachable"


def test_changes_tell_what_was_overwritten():
    swarm = Swarm(2)
    swarm[1].set("k", 1)
    swarm.await_equal(10.0)
    swarm[2].set("k", 2)
    swarm.await_equal(10.0)
    swarm.run(1.0)
    change = swarm[1].named("gossip.changed")[-1]["changes"][-1]
    assert (change["key"], change["value"], change["author"], change["local"]) == ("k", 2, 2, False)
    assert change["previous"]["value"] == 1 and change["previous"]["author"] == 1


def test_a_complete_comparison_finds_nothing_wrong_and_goes_unnoticed():
    swarm = Swarm(3, config=GossipConfig(full_comparison=20.0))
    swarm[1].set("k", 1)
    swarm.run(200.0)
    nonces = [d for _, _, _, d in swarm.log if d.get("nonce")]
    assert len(nonces) >= 10
    assert swarm.converged()
    assert not swarm[1].named("gossip.diverged")


def test_members_reached_only_through_others_are_known_and_updated():
    """A chain: each trusts only its neighbours."""
    from skills.gossip.core.effects import PeerFacts

    swarm = Swarm(5, know=False)
    for node_id, node in swarm.nodes.items():
        facts = [PeerFacts(each, True) for each in (node_id - 1, node_id + 1) if 1 <= each <= 5]
        node.do(lambda now, node=node, facts=facts: node.replica.members_changed(now, facts))
    swarm.run(30.0)
    swarm[1].set("k", 1)
    swarm.await_equal(10.0)
    quiet(swarm)
    joined = {data["node_id"] for data in swarm[1].named("gossip.member_joined")}
    assert joined == {2, 3, 4, 5}
    targets = {target for _, source, target, _ in swarm.log if source == 1}
    assert targets == {2}


def test_refused_local_writes():
    swarm = Swarm(1)
    replica = swarm[1].replica
    with pytest.raises(Refused):
        replica.local_set(0.0, "@7/presence", 1)
    with pytest.raises(BadMessage):
        replica.local_set(0.0, "a//b", 1)
    with pytest.raises(Refused):
        replica.local_set(0.0, "k", "x" * 20_000)
    with pytest.raises(NotFound):
        replica.get("k")
    replica.on_timer(0.0)
    assert replica.local_delete(0.0, "k") == []


def test_replace_hides_what_was_deeper():
    swarm = Swarm(2)
    swarm[1].set("k", {"a": 1, "b": 2})
    swarm[1].set("k", {"c": 3}, replace=True)
    swarm[1].set("k", {"d": 4})
    swarm.await_equal(10.0)
    assert swarm[2].replica.get("k") == {"c": 3, "d": 4}


def test_status_and_doctor():
    swarm = Swarm(5)
    swarm[1].set("k", 1)
    swarm.run(60.0)
    swarm[1].do(swarm[1].replica.survey)
    swarm.run(5.0)
    status = swarm[1].replica.status(swarm.now)
    assert status["swarm"] == NAME and status["synced"] and status["keys"] == 1
    report = swarm[1].replica.doctor(swarm.now)
    assert report["agreeing"] == [2, 3, 4, 5] and report["healthy"]
    swarm[3].up = False
    swarm.run(120.0)
    report = swarm[1].replica.doctor(swarm.now)
    assert report["silent"] == [3] and not report["healthy"]


def test_the_same_seed_gives_the_same_history():
    def history():
        swarm = Swarm(8, seed=11, loss=0.1)
        swarm[1].set("k", 1)
        swarm.run(60.0)
        return swarm.log

    assert history() == history()
