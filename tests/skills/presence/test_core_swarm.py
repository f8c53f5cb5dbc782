"""Presence without a coordinator: the peers of a swarm watch over each other."""

from __future__ import annotations

import json
import re
from typing import Any

from skills.presence.core.effects import Datagram
from skills.presence.core.finding import Query
from skills.presence.core.record import parse
from skills.presence.detection.profiles import LAN
from tests.skills.presence.world import World


def swarm(count: int, seed: int = 0, **keywords: Any) -> World:
    world = World(seed, **keywords)
    for node in range(1, count + 1):
        world.add(node, profile=LAN)
    world.trust()
    return world


def views(world: World, host: str) -> list[str]:
    """What each other living node says of one."""
    return [
        node.status(host) for node in world.nodes.values() if node.alive and node.hostname != host
    ]


def test_everybody_knows_everybody_within_seconds() -> None:
    world = swarm(8)
    world.run(12)
    for node in world.nodes.values():
        agents = node.presence.agents(world.now)
        assert len(agents) == 8 and {agent["status"] for agent in agents} == {"online"}
    shown = world.nodes[1].presence.get(world.now, "agent5")
    assert shown["confidence"] in ("direct", "gossip") and shown["last_seen"] < 12


def test_names_that_the_registry_tells_later_are_believed_then() -> None:
    """Where trust is young it says no at first; a status that does not change is not sent again."""
    world = World(3)
    for node in range(1, 21):
        world.add(node, profile=LAN)
    facts = [{"node_id": node, "hostname": ""} for node in range(1, 21)]
    world.named = lambda target: None  # type: ignore[method-assign]
    for each in world.nodes.values():
        each.call("peers_changed", facts)
    world.run(30)
    assert {each.presence.stats(world.now)["agents"] for each in world.nodes.values()} == {1}
    world.trust()
    world.run(2)
    assert views(world, "agent3") == ["online"] * 19
    world.trust()
    assert world.nodes[1].presence.stats(world.now)["unverified"] == 0


def test_a_change_of_status_is_seen_at_once() -> None:
    world = swarm(10, 1)
    world.run(20)
    world.nodes[3].call("set_intent", "busy", reason="training", slots=0)
    world.run(2)
    assert views(world, "agent3") == ["busy"] * 9
    assert world.nodes[7].presence.get(world.now, "agent3")["reason"] == "training"
    found = world.nodes[7].presence.find(world.now, Query(limit=20)).agents
    assert len(found) == 8 and "agent3" not in {agent["hostname"] for agent in found}


def test_a_crash_is_seen_by_all() -> None:
    world = swarm(10, 2)
    world.run(30)
    world.nodes[4].alive = False
    world.run(12)
    assert views(world, "agent4") == ["offline"] * 9
    explained = world.nodes[1].presence.explain(world.now, "agent4")
    assert explained["judged_by"] == "the swarm"
    (given_up,) = (step for step in explained["trail"] if "given up" in step["what"])
    assert given_up["detail"].startswith("silent for ")
    assert given_up["evidence"]["silent"] > 1.0


def test_who_cannot_reach_an_agent_is_not_waited_for() -> None:
    """One agent knows two others that do not know each other."""
    world = World(5)
    for node in (1, 2, 3):
        world.add(node, profile=LAN)
    world.trust(everybody=False, pairs=((1, 2), (1, 3)))
    world.run(30)
    world.nodes[3].alive = False
    world.run(12)
    assert world.nodes[1].status("agent3") == "offline"
    assert world.nodes[1].status("agent2") == "online"


def test_a_clean_leave_is_visible_within_two_seconds() -> None:
    world = swarm(10, 3)
    world.run(30)
    world.nodes[4].call("leave")
    world.nodes[4].alive = False
    world.run(2)
    assert views(world, "agent4") == ["offline"] * 9


def test_a_rejoin_with_a_new_incarnation_is_visible_within_two_seconds() -> None:
    world = swarm(10, 4)
    world.run(30)
    node = world.nodes[4]
    node.alive = False
    world.run(15)
    assert views(world, "agent4") == ["offline"] * 9
    world.start(node)
    world.trust()
    world.run(2)
    assert views(world, "agent4") == ["online"] * 9


def test_a_short_rest_under_the_stall_limit_changes_nothing() -> None:
    world = swarm(10, 5)
    world.run(30)
    for node in world.nodes.values():
        node.changes.clear()
    world.nodes[4].stalled_until = world.now + 3
    world.run(40)
    assert views(world, "agent4") == ["online"] * 9


def test_fault_stalled_for_30_seconds_it_doubts_itself_and_is_refuted_on_return() -> None:
    world = swarm(10, 6)
    world.run(30)
    stalled = world.nodes[4]
    stalled.stalled_until = world.now + 30
    stalled.changes.clear()
    world.run(33)
    assert views(world, "agent4") == ["online"] * 9
    assert [data for data in stalled.names("presence.changed") if data["to"] == "offline"] == []


def test_fault_partition_and_heal() -> None:
    world = swarm(12, 7)
    world.run(30)
    for node in range(1, 5):
        world.nodes[node].side = 1
    world.run(40)
    small, large = world.nodes[2].presence, world.nodes[8].presence
    assert {large.get(world.now, node)["status"] for node in range(1, 5)} == {"offline"}
    far = [small.get(world.now, node) for node in range(5, 13)]
    assert all(agent["status"] == "offline" or agent["confidence"] == "stale_view" for agent in far)
    for node in world.nodes.values():
        node.side = 0
    world.run(35)
    for node in world.nodes.values():
        assert {agent["status"] for agent in node.presence.agents(world.now)} == {"online"}
        assert len(node.presence.agents(world.now)) == 12
        assert not node.presence.view(world.now)["stale"]


def test_fault_loss_duplication_and_skewed_clocks() -> None:
    world = swarm(10, 8, loss=0.1, duplicate=0.2)
    for node in world.nodes.values():
        node.offset = (node.node_id - 5) * 900.0
    world.run(400)
    for node in world.nodes.values():
        offline = [data for data in node.names("presence.changed") if data["to"] == "offline"]
        assert offline == []


def test_fault_hostile_datagrams_cost_nothing_but_a_counter() -> None:
    world = swarm(4, 9)
    world.run(20)
    node = world.nodes[1]
    hostile: list[Any] = [
        b"", b"{", b"[]", b"\xff", b"[" * 1500, b"x" * 3000, {}, {"v": 1}, {"v": 1, "k": []},
        {"v": 1, "k": "verify"}, {"v": 1, "k": "verify", "x": -1, "of": 2},
        {"v": 1, "k": "verified", "x": 1, "of": 2, "ok": "yes"},
        {"v": 1, "k": "probe", "n": [1, 2], "x": "no"},
    ]  # fmt: skip
    for data in hostile:
        node.call("on_datagram", 2, data)
    assert node.presence.stats(world.now)["counters"]["malformed"] == len(hostile)
    node.call("on_datagram", 2, {"v": 1, "k": "verified", "x": 1, "of": 3, "ok": True})
    assert node.presence.stats(world.now)["counters"]["uninvited"] == 1
    for token in range(500):
        node.call("on_datagram", 2, {"v": 1, "k": "verify", "x": token, "of": 3})
    assert node.presence.stats(world.now)["counters"]["errands_refused"] >= 400


def test_fault_a_record_from_other_hands_needs_its_owners_signature() -> None:
    world = swarm(5, 10)
    world.run(20)
    record = parse(
        next(
            effect.data["sig"] and effect.data  # type: ignore[union-attr]
            for _, effect in world.nodes[3].sent
            if getattr(effect, "name", "") == "presence.status"
        )
    )
    forged = {**record.document, "status": "busy", "seq": record.document["seq"] + 10**6}
    unsigned = {key: value for key, value in forged.items() if key != "sig"}
    node = world.nodes[1]
    node.call("on_record", 2, json.dumps(forged).encode())
    node.call("on_record", 2, json.dumps(unsigned).encode())
    world.run(5)
    assert node.status("agent3") == "online"
    counters = node.presence.stats(world.now)["counters"]
    assert counters["forged"] == 1 and counters["unsigned_news"] == 1


def test_datagrams_fit_one_packet_and_carry_no_endpoints() -> None:
    world = swarm(12, 11)
    for node in world.nodes.values():
        node.call("identity_changed", node.hostname, "0:0000.0000.0001", ["gpu"] * 16)
    world.run(30)
    for node in world.nodes.values():
        for _, effect in node.sent:
            if isinstance(effect, Datagram):
                assert len(effect.data) <= 1000
                assert not re.search(rb"\d+\.\d+\.\d+\.\d+:\d+", effect.data)


def test_a_node_that_does_not_take_part_never_answers() -> None:
    world = World(12)
    world.add(1, profile=LAN)
    world.add(2, swarm=False)
    world.trust()
    world.run(30)
    assert not any(isinstance(effect, Datagram) for _, effect in world.nodes[2].sent)
    assert len(world.nodes[1].presence.agents(world.now)) == 1
