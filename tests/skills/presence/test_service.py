"""Presence on whole nodes: what agents see of each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pilot.errors import InvalidArgument, PilotError
from skills.presence.service import Stopped
from skills.presence.shell.courier import PORT
from tests.skills.presence.village import Village


@pytest.fixture
def village(tmp_path: Path) -> Iterator[Village]:
    """Three nodes; presence runs where a test opens it."""
    found = Village(tmp_path)
    yield found
    found.close()


def pair(village: Village) -> None:
    village.open("alice")
    village.open("bob", slots="2", tag="gpu")
    village.until(lambda: village.status("alice", "bob") == "online")
    village.until(lambda: village.status("bob", "alice") == "online")


def test_two_agents_see_each_other(village: Village) -> None:
    pair(village)
    bob = village.call("alice", "get", host="bob")
    assert (bob["hostname"], bob["node_id"], bob["address"]) == ("bob", 2, "0:0000.0000.0002")
    assert (bob["status"], bob["slots"], bob["tags"]) == ("online", 2, ["gpu"])
    assert bob["verified"] and not bob["stale_view"]
    found = village.call("alice", "find", tag="gpu")
    assert [agent["hostname"] for agent in found["agents"]] == ["bob"]


def test_a_new_friend_is_seen_within_three_seconds(village: Village) -> None:
    for name in ("alice", "carol"):
        village.open(name, profile="wan")
    village.run(20.0)
    assert village.status("alice", "carol") == ""
    village.world.introduce(village.houses["alice"].node, village.carol.node)
    village.run(3.0)
    assert village.status("alice", "carol") == village.status("carol", "alice") == "online"


def test_what_an_agent_says_is_seen_at_once_and_reverts(village: Village) -> None:
    pair(village)
    own = village.call("bob", "set", status="busy", reason="indexing", duration=20.0)
    assert own["status"] == "busy" and own["agents"][0]["reverts_in"] == 20.0
    took = village.until(lambda: village.status("alice", "bob") == "busy")
    assert took < 2.0
    found = village.call("alice", "find")
    assert found["agents"] == [] and "indexing" in found["excluded"]["bob"]
    assert village.until(lambda: village.status("alice", "bob") == "online") < 22.0


def test_several_local_agents_speak_for_one_node(village: Village) -> None:
    service = village.open("alice")
    village.call("alice", "set", status="away", agent="one")
    assert village.call("alice", "own")["status"] == "away"
    village.call("alice", "set", status="online", agent="two", slots=1)
    assert village.call("alice", "own")["status"] == "online"
    village.call("alice", "set", status="busy", agent="one")
    assert village.call("alice", "own")["status"] == "busy"
    assert service.statistics()["taking_part"]


def test_a_clean_stop_is_seen_within_two_seconds(village: Village) -> None:
    pair(village)
    village.shut("bob")
    assert village.until(lambda: village.status("alice", "bob") == "offline") < 2.0
    assert village.call("alice", "explain", host="bob")["trail"]


def test_a_crash_is_noticed_by_the_swarm(village: Village) -> None:
    pair(village)
    village.run(20.0)  # the grace after the start
    village.crash("bob")
    # Nobody else is there who could confirm it, so that it takes the longest possible time.
    assert village.until(lambda: village.status("alice", "bob") == "offline") < 30.0
    history = village.call("alice", "history", host="bob")["transitions"]
    assert [each["to"] for each in history] == ["online", "offline"]


def publish(village: Village, name: str, target: str, **record: Any) -> None:
    document = {"timestamp": "2026-04-08T10:00:00Z", **record}
    payload = json.dumps(document).encode()
    village.wait(village.houses[name].node.publish(target, "presence.status", payload))


def test_a_shell_loop_feeds_the_directory(village: Village) -> None:
    """Who only publishes by hand is known to the coordinator, until it is gone."""
    village.open("bob", serve=True)
    publish(village, "carol", "bob", hostname="carol", status="online")
    village.until(lambda: village.status("bob", "carol") == "online")
    assert village.call("bob", "get", host="carol")["address"] == "0:0000.0000.0003"
    found = village.call("bob", "find")
    assert [agent["hostname"] for agent in found["agents"]] == ["carol"]
    for _ in range(4):
        village.run(30.0)
        publish(village, "carol", "bob", hostname="carol", status="online")
    village.crash("carol")
    assert village.until(lambda: village.status("bob", "carol") == "offline", 90.0) < 56.0
    assert village.presence["bob"].pinger.counters["silent"] == 4


def test_who_answers_pings_is_not_given_up(village: Village) -> None:
    """Its loop is late, its node is there: an echo stream tells."""
    village.open("bob", serve=True)
    publish(village, "carol", "bob", hostname="carol", status="online")
    village.until(lambda: village.status("bob", "carol") == "online")
    from pilot.address import PORT_ECHO
    from pilot.services.echo import EchoFactory

    village.wait(village.carol.node.listen(PORT_ECHO, EchoFactory()))
    village.run(120.0)
    assert village.status("bob", "carol") == "online"
    assert village.presence["bob"].pinger.counters["echoed"] >= 1


def test_a_name_that_is_not_ones_own_is_never_found(village: Village) -> None:
    village.open("bob", serve=True)
    publish(village, "carol", "bob", hostname="alice", status="online")
    village.run(3.0)
    assert village.call("bob", "find")["agents"] == []
    listed = village.call("bob", "list")["agents"]
    assert [agent["hostname"] for agent in listed] == ["bob"]
    everybody = village.call("bob", "list", all=True)["agents"]
    assert [each["confidence"] for each in everybody if each["hostname"] == "alice"] == [
        "unverified"
    ]


def test_a_coordinator_tells_those_who_watch(village: Village) -> None:
    """Carol and alice do not know each other; bob tells alice."""
    village.open("bob", serve=True)
    village.open("alice", coordinator="bob")
    publish(village, "carol", "bob", hostname="carol", status="busy")
    village.until(lambda: village.status("alice", "carol") == "busy")
    assert village.call("alice", "get", host="carol")["confidence"] != "unverified"


def test_a_coordinator_is_asked_over_a_stream(village: Village) -> None:
    village.open("bob", serve=True)
    village.open("alice")
    publish(village, "carol", "bob", hostname="carol", status="online")
    village.until(lambda: village.status("bob", "carol") == "online")
    assert village.status("alice", "carol") == ""
    listed = village.call("alice", "list", coordinator="bob")
    assert {agent["hostname"] for agent in listed["agents"]} >= {"bob", "carol"}
    assert set(listed) == {"agents", "version", "stale_view"}
    got = village.call("alice", "get", host="carol", coordinator="bob")
    assert got["status"] == "online"
    found = village.call("alice", "find", coordinator="bob", tag="gpu")
    assert found["agents"] == [] and "carol" in found["excluded"]
    with pytest.raises(PilotError, match="no agent 'dave'"):
        village.call("alice", "get", host="dave", coordinator="bob")
    village.call("bob", "serve", off=True)
    with pytest.raises(PilotError, match="keeps no directory"):
        village.call("alice", "list", coordinator="bob")


def test_watching_a_coordinator(village: Village) -> None:
    village.open("bob", serve=True)
    village.open("alice")
    events: list[dict[str, Any]] = []
    end = village.presence["alice"].feeds()["watch"]({"coordinator": "bob"}, events.append)
    village.until(lambda: {"event": "watching"} in events)
    publish(village, "carol", "bob", hostname="carol", status="away")
    village.until(lambda: any(event.get("hostname") == "carol" for event in events))
    village.shut("bob")
    village.until(lambda: any(event["event"] == "lost" for event in events))
    end()


def test_watching_here(village: Village) -> None:
    pair(village)
    service = village.presence["alice"]
    everything: list[dict[str, Any]] = []
    busy: list[dict[str, Any]] = []
    ends = [
        service.feeds()["watch"]({}, everything.append),
        service.feeds()["watch"]({"host": "bob", "status": ["busy"]}, busy.append),
        service.feeds()["watch"]({"host": "carol"}, lambda event: None),
    ]
    for status in ("away", "busy"):
        village.call("bob", "set", status=status)
        village.until(lambda status=status: village.status("alice", "bob") == status)
        village.run(3.0)
    assert [each["to"] for each in everything if each.get("hostname") == "bob"] == ["away", "busy"]
    assert [each.get("to") for each in busy] == [None, "busy"]
    assert busy[1]["from"] == "away" and busy[1]["cause"] == "claimed"
    for end in ends:
        end()
    assert len(service.watchers) == 0


def test_what_was_said_and_chosen_lasts(village: Village) -> None:
    service = village.open("alice")
    first = village.call("alice", "own")
    village.call("alice", "set", status="busy", slots=3, reason="long work")
    village.call("alice", "set", status="away", agent="two", duration=500.0)
    village.call("alice", "start", interval=60.0, profile="eco", coordinators=["bob"])
    assert service.choices.profile == "eco"
    village.shut("alice")
    village.run(3.0)
    again = village.open("alice", profile="wan")
    assert again.choices.interval == 60.0 and again.choices.coordinators == ("bob",)
    own = village.call("alice", "own")
    assert own["status"] == "busy" and own["reason"] == "long work"
    assert {agent["agent"] for agent in own["agents"]} == {"", "two"}
    assert first["status"] == "online"
    stored = village.directory / "alice" / "skills" / "presence" / "incarnation"
    assert int(stored.read_text()) > 1_775_642_400


def test_options_win_over_what_was_chosen(village: Village) -> None:
    village.open("alice")
    village.call("alice", "start", interval=60.0)
    village.shut("alice")
    assert village.open("alice", interval="5s").choices.interval == 5.0


def test_stopped_is_stopped_until_started(village: Village) -> None:
    pair(village)
    assert village.call("bob", "stop") == {"status": "offline"}
    assert village.until(lambda: village.status("alice", "bob") == "offline") < 2.0
    for operation in ("own", "list", "set"):
        with pytest.raises(Stopped):
            village.call("bob", operation, status="online")
    assert village.call("bob", "stop") == {"status": "offline"}
    assert village.presence["bob"].statistics()["taking_part"] is False
    assert village.call("bob", "start")["status"] == "online"
    village.until(lambda: village.status("alice", "bob") == "online")


def test_stopping_wins_over_a_start_under_way(village: Village) -> None:
    service = village.open("alice")
    village.call("alice", "stop")
    waiting: Deferred[dict[str, Any]] = Deferred()
    service.node = service.surroundings._node = SlowNode(service.node, waiting)
    starting = Deferred.fromCoroutine(service.begin())
    village.call("alice", "stop")
    waiting.callback({})
    village.wait(starting)
    assert service.engine is None


class SlowNode:
    """A node whose info takes a while."""

    def __init__(self, node: Any, waiting: Deferred[dict[str, Any]]) -> None:
        self._node = node
        self.info = lambda: waiting

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)


def test_swarms_are_tags(village: Village) -> None:
    village.wait(village.houses["alice"].node.set_tags(["gpu"]))
    village.open("alice", swarm="kv-store")
    assert village.wait(village.node("alice").tags()) == ["gpu", "swarm-kv-store"]
    village.open("bob")
    village.run(20.0)
    assert village.presence["alice"].statistics()["swarm"]["ours"] == 0  # bob is not of it
    village.call("bob", "start", swarms=["kv-store"])
    took = village.until(lambda: village.status("alice", "bob") == "online", 90.0)
    assert took < 80.0
    assert village.call("alice", "list", swarm="kv-store")["agents"]
    with pytest.raises(InvalidArgument, match="no room for the tag"):
        village.call("alice", "start", swarms=["kv-store", *(f"other-{n}" for n in range(9))])
    assert village.presence["alice"].choices.swarms == ("kv-store",)


def test_a_script_on_the_own_node(village: Village) -> None:
    """The page's loop against the own broker is a local agent like any other."""
    village.open("bob")
    publish(village, "bob", "self", hostname="bob", status="busy")
    village.until(lambda: village.call("bob", "own")["status"] == "busy")
    publish(village, "bob", "self", hostname="carol", status="away")
    publish(village, "bob", "self", hostname="bob", status="sleepy")
    village.run(1.0)
    assert village.call("bob", "own")["status"] == "busy"
    village.run(76.0)  # the script has ended
    assert village.call("bob", "own")["status"] == "online"


def test_news_is_announced(village: Village) -> None:
    """On the own broker, to the webhook, and never back into the directory."""
    heard: list[str] = []
    node = village.houses["alice"].node
    node.watch_events("presence.", lambda source, topic, payload: heard.append(topic))
    pair(village)
    village.call("bob", "set", status="busy")
    village.until(lambda: village.status("alice", "bob") == "busy")
    village.run(3.0)
    assert {"presence.status", "presence.changed"} <= set(heard)
    stats = village.presence["alice"].statistics()
    assert stats["unverified"] == 0 and stats["agents"] == 2


def test_rubbish_costs_its_sender_only(village: Village) -> None:
    pair(village)
    bob, alice = village.houses["bob"].node, village.houses["alice"].node
    for data in (b"\xff" * 900, b'{"v":1}', b'{"t":"pong","n":12}', b'{"t":"ping","n":x}', b"[]"):
        village.wait(bob.send_datagram(alice.address, PORT, data))
    for document in ({"type": "presence_x"}, {"type": "presence_delta"}, {"type": "presence_"}):
        village.wait(bob.send_message(alice.address, document))
    for payload in (b"", b"{}", b"[" * 5000, json.dumps({"hostname": 1, "status": []}).encode()):
        village.wait(bob.publish(alice.address, "presence.status", payload))
    village.run(2.0)
    assert village.status("alice", "bob") == "online"
    assert village.houses["alice"].inbox == []
    stats = village.presence["alice"].statistics()
    assert stats["counters"]["malformed"] >= 4


def test_floods_are_cut_off(village: Village) -> None:
    pair(village)
    bob, alice = village.houses["bob"].node, village.houses["alice"].node
    for number in range(600):
        bob.send_datagram(alice.address, PORT, b'{"t":"ping","n":%d}' % number)
    for _ in range(80):
        bob.publish(alice.address, "presence.status", b"{}")
    village.run(2.0)
    stats = village.presence["alice"].statistics()
    assert stats["too_fast"]["datagrams"] > 0 and stats["too_fast"]["records"] > 0
    village.run(5.0)
    assert village.status("alice", "bob") == "online"


def test_it_runs_on_when_the_disk_is_full(
    village: Village, monkeypatch: pytest.MonkeyPatch
) -> None:
    village.open("alice", serve=True)
    service = village.presence["alice"]
    home = village.directory / "alice" / "skills" / "presence"

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("skills.presence.shell.storage.os.fsync", full)
        village.call("alice", "set", status="busy")
        assert service.statistics()["storage"]["error"] == "No space left on device"
        assert village.call("alice", "own")["status"] == "busy"
    village.call("alice", "set", status="away")
    assert service.statistics()["storage"]["error"] is None
    assert not [path for path in home.iterdir() if path.name.startswith(".")]


def test_torn_files_are_set_aside(village: Village) -> None:
    home = village.directory / "alice" / "skills" / "presence"
    home.mkdir(parents=True)
    for name in ("incarnation", "choices.json", "intents.json", "directory"):
        (home / name).write_bytes(b'{"serve": tr')
    service = village.open("alice", serve=True)
    assert village.call("alice", "own")["status"] == "online"
    assert service.storage.counters["damaged"] == 3
    assert (home / "choices.json.damaged").exists()


def test_a_coordinators_directory_outlives_it(village: Village) -> None:
    village.open("bob", serve=True)
    publish(village, "carol", "bob", hostname="carol", status="online")
    village.until(lambda: village.status("bob", "carol") == "online")
    village.shut("bob")
    village.run(5.0)
    village.open("bob", serve=True)
    carol = village.call("bob", "get", host="carol")
    assert carol["status"] == "online" and carol["confidence"] == "stale_view"
    assert village.call("bob", "list")["stale_view"] is True
    publish(village, "carol", "bob", hostname="carol", status="online")
    village.run(2.0)
    assert village.call("bob", "get", host="carol")["confidence"] == "heartbeat"


def test_searching_with_a_ping(village: Village) -> None:
    pair(village)
    found = village.call("alice", "find", verify=True, pick=1)
    assert [agent["hostname"] for agent in found["agents"]] == ["bob"]
    assert village.presence["alice"].pinger.counters["answered"] == 1
    with pytest.raises(InvalidArgument):
        village.call("alice", "find", verify=True, coordinator="bob")


def test_beside_the_daemon(tmp_path: Path) -> None:
    """The same service in a process of its own."""
    village = Village(tmp_path, remote=True)
    try:
        pair(village)
        village.call("alice", "set", status="away")
        village.until(lambda: village.status("bob", "alice") == "away")
        village.shut("alice")
        assert village.until(lambda: village.status("bob", "alice") == "offline") < 2.0
    finally:
        village.close()


def test_a_clock_that_is_set_harms_nobody(village: Village) -> None:
    pair(village)
    village.run(20.0)
    for village.skew in (3600.0, -3600.0, 0.0):
        village.run(10.0)
        assert village.status("alice", "bob") == village.status("bob", "alice") == "online"


def test_questions_that_make_no_sense(village: Village) -> None:
    village.open("alice")
    for operation, given in (
        ("get", {}),
        ("get", {"host": "nobody"}),
        ("set", {"status": "asleep"}),
        ("set", {"status": "busy", "slots": -1}),
        ("set", {"status": "busy", "load": 101}),
        ("set", {"status": "busy", "duration": "10m"}),
        ("list", {"status": ["gone"]}),
        ("find", {"tag": ["GPU"]}),
        ("find", {"limit": 0}),
        ("find", {"max_age": -1}),
        ("start", {"interval": 0.1}),
        ("start", {"profile": "fast"}),
        ("start", {"coordinators": ["no such name"]}),
        ("start", {"swarms": ["-"]}),
        ("serve", {"off": "yes"}),
    ):
        with pytest.raises(PilotError):
            village.call("alice", operation, **given)
