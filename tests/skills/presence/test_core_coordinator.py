"""A coordinator and its agents: who is there, who is given up, and when."""

from __future__ import annotations

import json
from typing import Any

from skills.presence.core.finding import Query
from skills.presence.detection.profiles import LAN
from tests.skills.presence.world import World

HUB = 1


def fleet(count: int, seed: int = 0, *, watch: bool = True, **keywords: Any) -> World:
    """A coordinator, and agents that publish to it."""
    world = World(seed, **keywords)
    world.add(HUB, "hub", serve=True, swarm=False)
    for node in range(2, count + 2):
        world.add(node, coordinators=("hub",), swarm=False, watch=watch)
    world.trust()
    return world


def test_agents_come_into_the_directory_with_their_record() -> None:
    world = fleet(3)
    world.run(5)
    hub = world.nodes[HUB]
    assert hub.status("agent2") == "online"
    shown = hub.presence.get(world.now, "agent2")
    assert shown["confidence"] == "heartbeat"
    assert shown["verified"] and shown["version"] == 2
    assert shown["last_seen"] < 5
    assert {agent["hostname"] for agent in hub.presence.agents(world.now)} == {
        "hub",
        "agent2",
        "agent3",
        "agent4",
    }


def test_watchers_learn_what_their_coordinator_knows() -> None:
    world = fleet(3)
    world.run(5)
    seen = world.nodes[3].presence.get(world.now, "agent2")
    assert (seen["status"], seen["confidence"]) == ("online", "gossip")
    world.nodes[2].call("set_intent", "busy", reason="training")
    world.run(1)
    seen = world.nodes[3].presence.get(world.now, "agent2")
    assert (seen["status"], seen["reason"]) == ("busy", "training")


def test_a_crash_is_seen_within_55_seconds_and_after_40_on_average() -> None:
    took = []
    for seed in range(12):
        world = fleet(8, seed)
        world.run(100 + seed * 2.9)
        world.nodes[4].alive = False
        crashed = world.now
        while world.nodes[HUB].status("agent4") != "offline":
            world.run(0.25)
            assert world.now - crashed <= 56
        took.append(world.now - crashed)
    assert max(took) <= 55.5
    assert 33 <= sum(took) / len(took) <= 46


def test_a_clean_leave_is_seen_at_once() -> None:
    world = fleet(3)
    world.run(100)
    world.nodes[3].call("leave")
    world.run(1)
    assert world.nodes[HUB].status("agent3") == "offline"
    assert world.nodes[2].status("agent3") == "offline"
    assert world.nodes[HUB].presence.history(world.now, "agent3")[-1]["cause"] == "left"


def test_an_agent_that_returns_with_a_new_incarnation_is_seen_at_once() -> None:
    world = fleet(6)
    world.run(100)
    node = world.nodes[3]
    before = world.nodes[HUB].presence.explain(world.now, "agent3")["inc"]
    node.alive = False
    world.run(70)
    assert world.nodes[HUB].status("agent3") == "offline"
    world.start(node)
    world.trust()
    world.run(2)
    assert world.nodes[HUB].status("agent3") == "online"
    assert world.nodes[HUB].presence.explain(world.now, "agent3")["inc"] > before


def test_loss_of_a_tenth_gives_nobody_up() -> None:
    """Target (f): 40 agents for two hours, a tenth of everything lost, beats often late."""
    world = fleet(40, 7, watch=False, loss=0.1)
    world.run(7200)
    hub = world.nodes[HUB]
    offline = [data for data in hub.names("presence.changed") if data["to"] == "offline"]
    assert offline == []
    assert hub.names("presence.bulk") == []
    assert hub.presence.stats(world.now)["counters"]["pings"] > 100  # it did have to ask


def test_the_script_of_the_page_is_an_agent() -> None:
    world = fleet(5)
    script = world.script(50, "myagent", HUB)
    world.trust()
    world.run(100)
    hub = world.nodes[HUB]
    shown = hub.presence.get(world.now, "myagent")
    assert (shown["status"], shown["version"], shown["verified"]) == ("online", 1, True)
    script.status_file = "busy"  # type: ignore[attr-defined]
    world.run(32)
    assert hub.status("myagent") == "busy"
    crashed = world.now
    script.alive = False
    while hub.status("myagent") != "offline":
        world.run(0.5)
        assert world.now - crashed <= 56


def test_a_script_that_ended_on_a_living_node_is_not_found_and_lapses() -> None:
    world = fleet(3)
    script = world.script(50, "myagent", HUB)
    world.trust()
    world.run(100)
    script.looping = False  # type: ignore[attr-defined]
    hub = world.nodes[HUB].presence
    world.run(110)
    assert hub.get(world.now, "myagent")["status"] == "online"
    assert hub.get(world.now, "myagent")["confidence"] == "suspect"
    names = [agent["hostname"] for agent in hub.find(world.now, Query(limit=9)).agents]
    assert "myagent" not in names and "agent2" in names
    world.run(260)
    assert hub.get(world.now, "myagent")["status"] == "offline"
    assert hub.history(world.now, "myagent")[-1]["cause"] == "lapsed"
    world.nodes[HUB].call("alive", 50)
    assert hub.get(world.now, "myagent")["status"] == "offline"


def test_hints_start_a_verification_at_once_and_decide_nothing() -> None:
    world = fleet(4)
    world.run(100)
    hub = world.nodes[HUB]
    hub.call("hint", 3)
    world.run(20)
    assert hub.status("agent3") == "online"
    world.nodes[3].alive = False
    hub.call("hint", 3)
    world.run(16)
    assert hub.status("agent3") == "offline"
    explained = hub.presence.explain(world.now, "agent3")
    assert explained["evidence"]["pings"] == 4
    assert len(explained["evidence"]["asked"]) >= 2
    assert "something looked wrong" in [step["detail"] for step in explained["trail"]]
    assert any(step["what"].startswith("given up") for step in explained["trail"])


def test_others_are_asked_before_an_agent_is_given_up() -> None:
    """We cannot reach it, three others can: it stays."""
    world = fleet(5)
    world.run(100)
    hub, target = world.nodes[HUB], world.nodes[3]
    plain = world.reachable
    world.reachable = lambda a, b: plain(a, b) and {a, b} != {hub, target}  # type: ignore[method-assign]
    world.run(120)
    assert hub.status("agent3") == "online"
    assert hub.presence.get(world.now, "agent3")["confidence"] == "gossip"


# -- the faults that must not matter -----------------------------------------------------------


def test_fault_loss_reorder_and_duplication() -> None:
    world = fleet(20, 3, watch=False, loss=0.2, duplicate=0.3, delay=(0.01, 3.0))
    world.run(1800)
    hub = world.nodes[HUB]
    assert [data for data in hub.names("presence.changed") if data["to"] == "offline"] == []


def test_fault_partition_far_half_offline_and_one_bulk_on_heal() -> None:
    world = fleet(140, 5, watch=False)
    world.run(100)
    hub = world.nodes[HUB]
    for node in range(82, 142):
        world.nodes[node].side = 1
    hub.changes.clear()
    world.run(90)
    assert hub.status("agent100") == "offline" and hub.status("agent50") == "online"
    hub.changes.clear()
    for node in world.nodes.values():
        node.side = 0
    for node in range(82, 142):  # their next heartbeats find the way
        world.nodes[node].call("identity_changed", f"agent{node}", "", ())
    world.run(10)
    assert hub.status("agent100") == "online"
    bulks = hub.names("presence.bulk")
    assert len(bulks) == 1 and bulks[0]["count"] == 60
    assert hub.names("presence.changed") == []


def test_fault_partition_the_minority_doubts_itself() -> None:
    world = fleet(20, 5)
    world.run(100)
    hub = world.nodes[HUB]
    for node in range(2, 18):
        world.nodes[node].side = 1
    world.run(58)
    assert hub.presence.view(world.now)["stale"]
    assert hub.names("presence.view_stale") == [{"cause": "exodus"}]
    shown = hub.presence.get(world.now, "agent5")
    assert (shown["status"], shown["confidence"]) == ("online", "stale_view")
    assert hub.presence.get(world.now, "agent20")["confidence"] != "stale_view"
    for node in world.nodes.values():
        node.side = 0
    world.run(45)
    assert not hub.presence.view(world.now)["stale"]
    assert hub.names("presence.view_ok") == [{"cause": "exodus"}]
    assert [data for data in hub.names("presence.changed") if data["to"] == "offline"] == []


def test_fault_most_agents_are_gone_indeed() -> None:
    """Our own network is proved to work: in the end they are given up."""
    world = fleet(20, 5)
    world.run(100)
    hub = world.nodes[HUB]
    for node in range(2, 18):
        world.nodes[node].alive = False
    world.run(240)
    assert hub.status("agent5") == "offline"
    assert not hub.presence.view(world.now)["stale"]


def test_fault_churn_leaves_no_ghosts() -> None:
    world = fleet(30, 9)
    world.run(100)
    for minute in range(20):
        for step in range(3):
            node = world.nodes[2 + (minute * 3 + step) % 30]
            if not node.alive or step == 0:
                world.start(node)
            elif step == 1:
                node.call("leave")
                node.alive = False
            else:
                node.alive = False
        world.trust()
        world.run(60)
    world.run(60)
    hub = world.nodes[HUB]
    for node in list(world.nodes.values())[1:]:
        assert hub.status(node.hostname) == ("online" if node.alive else "offline")
    assert len(hub.presence.agents(world.now, everybody=True)) == 31


def test_fault_clocks_an_hour_off_change_nothing() -> None:
    world = fleet(6, 2)
    world.nodes[3].offset = 3600.0
    world.nodes[4].offset = -3600.0
    world.run(200)
    hub = world.nodes[HUB].presence
    for name in ("agent3", "agent4"):
        shown = hub.get(world.now, name)
        assert shown["status"] == "online" and shown["last_seen"] < 40
        assert 195 <= shown["since"] <= 201
    world.nodes[3].offset = -3600.0
    world.nodes[HUB].offset = -7200.0
    world.nodes[3].call("set_intent", "busy")
    world.run(200)
    assert hub.get(world.now, "agent3")["status"] == "busy"
    assert not hub.view(world.now)["stale"]


def test_fault_a_jump_of_the_clock_costs_a_lease_of_patience() -> None:
    """Wall time jumps ahead of monotonic time: we slept, or it looks like it."""
    world = fleet(6, 2)
    world.run(200)
    hub = world.nodes[HUB]
    hub.offset = 8 * 3600.0
    world.run(20)
    assert hub.presence.view(world.now)["cause"] == "resume"
    world.run(100)
    assert not hub.presence.view(world.now)["stale"]
    assert {agent["status"] for agent in hub.presence.agents(world.now)} == {"online"}


def test_fault_malformed_oversized_replayed_and_spoofed_records() -> None:
    world = fleet(4)
    world.run(100)
    hub = world.nodes[HUB]
    record = next(
        effect.payload for _, effect in world.nodes[3].sent if type(effect).__name__ == "Publish"
    )
    hostile = [
        b"", b"{", b"[]", b"null", b'"online"', b"\xff\xfe", b"[" * 5000, b"{}",
        b'{"hostname":"agent3"}', b'{"hostname":"agent3","status":"dead"}',
        b'{"hostname":"","status":"online"}', b'{"hostname":"a\\u001b[2J","status":"online"}',
        b'{"hostname":"agent3","status":"online","v":2}',
        b'{"hostname":"' + b"x" * 1000 + b'","status":"online"}',
        json.dumps({"hostname": "agent3", "status": "online", "v": 2, "node": 3, "inc": True,
                    "seq": 1}).encode(),
    ]  # fmt: skip
    for payload in hostile:
        hub.call("on_record", 3, payload)
    assert hub.presence.stats(world.now)["counters"]["malformed"] == len(hostile)
    hub.call("on_record", 3, record)  # replayed
    hub.call("on_record", 4, b'{"hostname":"agent3","status":"offline","timestamp":"x"}')
    hub.call("on_record", 4, record.replace(b'"seq":1', b'"seq":999').replace(b"online", b"away"))
    world.run(1)
    shown = hub.presence.get(world.now, "agent3")
    assert (shown["status"], shown["verified"]) == ("online", True)
    unverified = [
        agent
        for agent in hub.presence.agents(world.now, everybody=True)
        if agent["confidence"] == "unverified"
    ]
    assert len(unverified) == 1 and unverified[0]["source"] == 4
    found = hub.presence.find(world.now, Query(limit=9)).agents
    assert all(agent["verified"] for agent in found)


def test_fault_a_record_that_some_readers_refuse_costs_nobody_else() -> None:
    world = fleet(4)
    world.run(100)
    hub = world.nodes[HUB]
    known = world.nodes[4].presence
    for extra in ("1e400", "NaN", "9" * 400, "[" * 130 + "]" * 130):
        record = (
            '{"hostname":"agent3","status":"busy","timestamp":"x","v":2,"node":3,'
            f'"inc":1800000000,"seq":9,"new":{extra}}}'
        )
        hub.call("on_record", 3, record.encode())
        news = f'{{"v":1,"k":"news","n":[1800000000,9],"news":[["r",{record},0]]}}'
        hub.call("on_datagram", 3, news.encode())
    world.nodes[5].call("set_intent", "away")
    world.run(5)
    assert hub.status("agent3") == "online"
    assert known.get(world.now, "agent5")["status"] == "away"


def test_fault_a_forged_number_does_not_shut_the_owner_out() -> None:
    world = fleet(4)
    world.run(100)
    hub = world.nodes[HUB]
    forged = {"hostname": "agent3", "status": "offline", "timestamp": "x", "v": 2, "node": 3,
              "inc": 2**50, "seq": 1, "sig": "A" * 86 + "=="}  # fmt: skip
    hub.call("on_record", 4, json.dumps(forged).encode())
    world.run(60)
    assert hub.status("agent3") == "online"
    assert hub.presence.stats(world.now)["counters"]["forged"] == 1


def test_fault_a_coordinator_that_stood_still_doubts_itself() -> None:
    world = fleet(10, 4)
    world.run(100)
    hub = world.nodes[HUB]
    hub.stalled_until = world.now + 60
    world.run(61)
    assert hub.presence.view(world.now)["cause"] == "stall"
    world.run(120)
    assert not hub.presence.view(world.now)["stale"]
    assert [data for data in hub.names("presence.changed") if data["to"] == "offline"] == []


def test_fault_an_agent_that_stood_still_30_seconds_stays() -> None:
    world = fleet(10, 4)
    world.run(100)
    world.nodes[5].stalled_until = world.now + 30
    world.run(120)
    hub = world.nodes[HUB]
    assert [data for data in hub.names("presence.changed") if data["to"] == "offline"] == []


def test_fault_coordinator_restart_shows_stale_entries_and_gives_nobody_up() -> None:
    world = fleet(30, 6)
    world.run(200)
    hub = world.nodes[HUB]
    hub.alive = False
    world.run(20)
    dead = world.nodes[10]
    dead.alive = False
    watcher = world.nodes[3]
    world.run(80)
    assert watcher.presence.view(world.now)["cause"] == "coordinator"
    seen = watcher.presence.get(world.now, "agent5")
    assert (seen["status"], seen["confidence"]) == ("online", "stale_view")
    hub.changes.clear()
    world.start(hub)
    world.trust()
    assert hub.presence.get(world.now, "agent5")["confidence"] == "stale_view"
    assert hub.presence.get(world.now, "agent5")["status"] == "online"
    assert hub.presence.view(world.now)["cause"] == "restart"
    world.run(70)
    assert hub.presence.get(world.now, "agent5")["confidence"] == "heartbeat"
    assert [data for data in hub.names("presence.changed") if data["to"] == "offline"] == []
    assert not watcher.presence.view(world.now)["stale"]
    assert watcher.presence.get(world.now, "agent5")["confidence"] == "gossip"
    world.run(40)
    assert hub.status("agent10") == "offline"  # it was verified, not given up with the rest
    assert hub.status("agent5") == "online"


def test_fault_what_a_dead_coordinator_said_is_doubted_when_the_swarm_gives_it_up() -> None:
    """Nobody waits for the next question to it to fail, nor for the next one when it is back."""
    world = World(7)
    world.add(HUB, "hub", serve=True, profile=LAN)
    for node in range(2, 7):
        world.add(node, coordinators=("hub",), profile=LAN)
    world.add(7, coordinators=("hub",), swarm=False)  # known to the others only by the hub
    pairs = [(one, other) for one in range(1, 7) for other in range(one)] + [(HUB, 7)]
    world.trust(everybody=False, pairs=pairs)
    world.run(30)
    hub, agent = world.nodes[HUB], world.nodes[2]
    assert agent.presence.get(world.now, "agent7")["confidence"] == "gossip"
    hub.alive = False
    world.run(12)
    assert agent.status("hub") == "offline"
    shown = agent.presence.get(world.now, "agent7")
    assert (shown["status"], shown["confidence"]) == ("online", "stale_view")
    world.start(hub)
    world.trust(everybody=False, pairs=pairs)
    world.run(5)
    shown = agent.presence.get(world.now, "agent7")
    assert (shown["status"], shown["confidence"]) == ("online", "gossip")


def test_a_member_of_the_swarm_is_not_left_to_the_coordinator_that_told_of_it_first() -> None:
    world = World(8)
    world.add(HUB, "hub", serve=True, swarm=False)
    for node in (2, 3):
        world.add(node, coordinators=("hub",), profile=LAN)
    names = [{"node_id": node, "hostname": f"agent{node}"} for node in (2, 3)]
    world.nodes[HUB].call("peers_changed", names)
    hub = {"node_id": HUB, "hostname": "hub", "member": False}
    named = world.named
    shown = (HUB, 2, 3, "hub")  # the registry does not know the other names yet
    world.named = lambda target: named(target) if target in shown else None  # type: ignore[method-assign]
    for node, other in ((2, 3), (3, 2)):
        facts = [hub, {"node_id": other, "hostname": ""}]
        world.nodes[node].call("peers_changed", facts)
    world.run(20)
    agent = world.nodes[2].presence
    assert agent.explain(world.now, "agent3")["judged_by"] == f"coordinator {HUB}"
    world.nodes[2].call("peers_changed", [hub, {"node_id": 3, "hostname": "agent3"}])
    assert agent.explain(world.now, "agent3")["judged_by"] == "the swarm"
    assert agent.get(world.now, "agent3")["status"] == "online"


def test_fault_reconnects_are_spread() -> None:
    world = fleet(60, 6)
    world.run(200)
    hub = world.nodes[HUB]
    hub.alive = False
    world.run(100)
    world.start(hub)
    world.trust()
    arrived: list[float] = []
    plain = hub.call

    def call(method: str, *args: object, **keywords: object) -> None:
        if method == "on_record":
            arrived.append(world.now)
        plain(method, *args, **keywords)

    hub.call = call  # type: ignore[method-assign]
    world.run(40)
    assert len(arrived) >= 60
    busiest = max(sum(1 for other in arrived if at <= other < at + 1) for at in arrived)
    assert busiest <= 15


def test_fault_mixed_fleet_v1_readers_see_v1_fields() -> None:
    world = fleet(2)
    world.script(50, "myagent", HUB)
    world.trust()
    world.run(40)
    payload = next(
        effect.payload for _, effect in world.nodes[2].sent if type(effect).__name__ == "Publish"
    )
    assert list(json.loads(payload))[:3] == ["hostname", "status", "timestamp"]
    assert payload.startswith(b'{"hostname":"agent2","status":"online","timestamp":"20')
    statuses = {agent["hostname"]: agent["version"] for agent in
                world.nodes[HUB].presence.agents(world.now)}  # fmt: skip
    assert statuses["agent2"] == 2 and statuses["myagent"] == 1


def test_a_script_beside_a_daemon_counts_if_it_is_the_busier() -> None:
    world = fleet(2)
    world.run(50)
    hub = world.nodes[HUB]
    script = json.dumps({"hostname": "agent2", "status": "busy", "timestamp": "x"}).encode()
    hub.call("on_record", 2, script)
    assert hub.status("agent2") == "busy"
    world.run(30)
    assert hub.status("agent2") == "busy"
    world.run(130)
    assert hub.status("agent2") == "online"


def test_fault_two_coordinators_are_merged_by_number() -> None:
    world = World(1)
    world.add(1, "hub", serve=True, swarm=False)
    world.add(2, "hub2", serve=True, swarm=False)
    for node in range(3, 8):
        world.add(node, coordinators=("hub", "hub2"), swarm=False)
    world.add(9, "watcher", coordinators=("hub", "hub2"), swarm=False)
    world.trust()
    world.run(100)
    watcher = world.nodes[9]
    assert watcher.status("agent4") == "online"
    # One of them cannot reach an agent; the other one still sees it.
    plain = world.reachable
    cut = {world.nodes[1], world.nodes[4]}
    others = [world.nodes[node] for node in (3, 5, 6, 7, 9)]
    world.reachable = lambda a, b: (  # type: ignore[method-assign]
        plain(a, b) and {a, b} != cut and not (b is world.nodes[4] and a in others)
    )
    world.run(100)
    assert world.nodes[1].status("agent4") == "offline"
    assert world.nodes[2].status("agent4") == "online"
    assert watcher.status("agent4") == "online"
    world.nodes[4].alive = False
    world.run(100)
    assert watcher.status("agent4") == "offline"


def test_a_gap_in_the_deltas_is_asked_for_again() -> None:
    world = fleet(5)
    world.run(50)
    watcher = world.nodes[3]
    plain = watcher.call
    dropped = []

    def call(method: str, *args: object, **keywords: object) -> None:
        if method == "on_message" and not dropped:
            dropped.append(args)
            return
        plain(method, *args, **keywords)

    world.run(0.5)
    watcher.call = call  # type: ignore[method-assign]
    world.nodes[4].call("set_intent", "busy")
    world.run(1)
    assert dropped and watcher.status("agent4") == "online"
    world.nodes[5].call("set_intent", "away")
    world.run(3)
    assert watcher.status("agent4") == "busy" and watcher.status("agent5") == "away"
    assert watcher.presence.stats(world.now)["counters"]["gaps"] >= 1


def test_the_same_seed_gives_the_same_run() -> None:
    runs = []
    for _ in range(2):
        world = fleet(6, 11, loss=0.2)
        world.run(300)
        runs.append([node.changes for node in world.nodes.values()])
    assert runs[0] == runs[1]
