"""Services on nodes in memory: joining, spreading, following, leaving."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot.errors import ConnectionFailed, InvalidArgument, NotFound
from skills.gossip.core.errors import BadMessage, Refused
from skills.gossip.shell.tags import NoTagFree
from tests.skills.gossip.shells import Net, network


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with network(tmp_path) as made:
        yield made


def test_what_one_member_writes_another_reads(net: Net) -> None:
    one, two = net.shell(1), net.shell(2)
    one.join()
    two.join()
    net.done(one.kv.set("sensors/kitchen", {"t": 21.5, "on": True}))
    assert one.kv.get("sensors/kitchen/t") == 21.5
    net.until(lambda: two.kv.document() == {"sensors": {"kitchen": {"t": 21.5, "on": True}}})
    net.done(two.kv.delete("sensors/kitchen/on"))
    took = net.until(lambda: one.kv.document() == {"sensors": {"kitchen": {"t": 21.5}}})
    assert took < 1.0
    assert one.kv.root == two.kv.root


def test_members_that_join_at_the_same_time_find_each_other(net: Net) -> None:
    shells = [net.shell(number, swarm="kv") for number in range(1, 6)]
    net.done(shells[0].kv.set("a", 1))
    net.until(lambda: all(shell.kv.document() == {"a": 1} for shell in shells), 15.0)
    assert all(shell.node.own_tags == ["swarm-kv"] for shell in shells)


def test_news_travels_over_those_who_trust_both(net: Net) -> None:
    net.trust = {frozenset((1, 2)), frozenset((2, 3))}
    one, two, three = (net.shell(number, swarm="kv") for number in (1, 2, 3))
    net.done(one.kv.set("a", 1))
    net.until(lambda: three.kv.document() == {"a": 1}, 20.0)
    assert [row["node_id"] for row in one.kv.members() if row["trusted"]] == [2]
    assert {row["node_id"] for row in two.kv.members() if row["trusted"]} == {1, 3}


def test_a_new_friend_is_told_within_three_seconds(net: Net) -> None:
    net.trust = set()
    one, two = (net.shell(number, swarm="kv") for number in (1, 2))
    net.done(one.kv.set("a", 1))
    net.pass_time(20.0)
    assert two.kv.document() == {}
    net.trust.add(frozenset((1, 2)))
    net.until(lambda: two.kv.document() == {"a": 1}, 3.0)


def test_many_peers_are_looked_at_less_often(net: Net) -> None:
    shell = net.shell(1, swarm="kv")
    looks = []
    ask = shell.node.peers
    shell.node.peers = lambda **how: looks.append(how) or ask(**how)
    net.pass_time(40.0)
    looks.clear()
    net.pass_time(10.0)
    assert len(looks) in (9, 10)
    for number in range(2, 252):
        net.node(number)
    net.pass_time(10.0)
    looks.clear()
    net.pass_time(20.0)
    assert len(looks) in (3, 4)


def test_a_join_keeps_the_other_tags_and_a_leave_takes_only_its_own(net: Net) -> None:
    shell = net.shell(1)
    others = ["gpu", "berlin", *(f"tag-{number}" for number in range(7))]
    shell.node.own_tags = list(others)
    shell.join()
    assert shell.node.own_tags == [*others, "swarm-kv"]
    with pytest.raises(NoTagFree, match=r"#gpu #berlin .*#swarm-kv") as caught:
        shell.join("other")
    assert caught.value.hint is not None and "set-tags" in caught.value.hint
    assert list(shell.service.swarms) == ["kv"]
    net.done(shell.service.leave("kv"))
    assert shell.node.own_tags == others
    with pytest.raises(NotFound):
        net.done(shell.service.leave("kv"))


def test_a_tag_that_was_carried_before_is_no_second_one(net: Net) -> None:
    shell = net.shell(1)
    shell.node.own_tags = ["a", "b", "swarm-kv"]
    shell.join()
    assert shell.node.own_tags == ["a", "b", "swarm-kv"]


@pytest.mark.parametrize("name", ["", "KV", "a_b", "-a", "a-", "swarm:x", "a" * 27, None, 7, "ä"])
def test_a_swarm_that_could_be_no_tag_is_refused(net: Net, name: Any) -> None:
    shell = net.shell(1)
    with pytest.raises(InvalidArgument, match="is no name of a swarm"):
        shell.join(name)


@pytest.mark.parametrize(
    "options", [{"fanout": 0}, {"fanout": True}, {"interval": 0.1}, {"signed": "yes"}]
)
def test_options_that_make_no_sense_are_refused(net: Net, options: Any) -> None:
    shell = net.shell(1)
    with pytest.raises(InvalidArgument):
        shell.join(**options)
    assert not shell.service.swarms


def test_a_registry_that_is_away_delays_the_tag_and_nothing_else(net: Net) -> None:
    shell = net.shell(1)
    shell.node.refusing = ConnectionFailed("registry unreachable")
    shell.join()
    assert shell.service.tag("kv") == ""
    assert not shell.kv.stats()["tagged"]
    shell.node.refusing = None
    net.until(lambda: shell.node.own_tags == ["swarm-kv"])
    assert shell.service.tag("kv") == "swarm-kv"


def test_a_tag_that_somebody_overwrites_comes_back(net: Net) -> None:
    shell = net.shell(1)
    shell.join()
    shell.node.own_tags = ["gpu"]
    net.until(lambda: shell.node.own_tags == ["gpu", "swarm-kv"])


def test_swarms_and_what_they_hold_survive_a_restart(net: Net) -> None:
    shell = net.shell(1)
    shell.join(fanout=5, interval=7.0, signed=False)
    net.done(shell.kv.set("a", {"b": [1, 2]}))
    before = shell.kv.stats()
    shell.stop()
    shell.start()
    after = shell.kv.stats()
    assert shell.kv.document() == {"a": {"b": [1, 2]}}
    assert after["options"] == {"fanout": 5, "interval": 7.0, "signed": False}
    assert after["incarnation"] > before["incarnation"]
    assert after["root"] == before["root"]
    assert not after["synced"]


def test_options_that_were_not_given_follow_the_settings(net: Net) -> None:
    shell = net.shell(1)
    shell.join(fanout=5)
    shell.stop()
    shell.given = {"interval": "9s", "fanout": "2"}
    shell.start()
    assert shell.kv.stats()["options"] == {"fanout": 5, "interval": 9.0, "signed": False}
    shell.join(fanout=2)  # as they are anyway, but from now on on purpose
    shell.stop()
    shell.given = {}
    shell.start()
    assert shell.kv.stats()["options"] == {"fanout": 2, "interval": 5.0, "signed": False}


def test_what_is_confirmed_survives_a_kill(net: Net) -> None:
    shell = net.shell(1)
    shell.join()
    net.done(shell.kv.set("a", 1))
    shell.kill()
    shell.start()
    assert shell.kv.document() == {"a": 1}


def test_a_clock_set_back_over_a_restart_does_not_lose_to_the_past(net: Net) -> None:
    shell = net.shell(1)
    shell.join()
    net.done(shell.kv.set("a", "before"))
    shell.kill()
    net.set_wall(-3600.0)
    shell.start()
    net.done(shell.kv.set("a", "after"))
    assert shell.kv.document() == {"a": "after"}


def test_a_wall_clock_that_is_set_back_holds_nothing_up(net: Net) -> None:
    """Timers follow the wall clock; the replica does not, and has them set anew."""
    one, two = net.shell(1, swarm="kv"), net.shell(2, swarm="kv")
    net.until(lambda: two.kv.stats()["synced"])
    net.set_wall(-3600.0)
    net.done(one.kv.set("a", 1))
    assert net.until(lambda: two.kv.document() == {"a": 1}) < 2.0
    rounds = one.kv.stats()["counts"]["rounds"]
    net.pass_time(20.0)
    assert one.kv.stats()["counts"]["rounds"] > rounds


def test_a_swarm_that_is_left_is_forgotten(net: Net) -> None:
    one, two = net.shell(1, swarm="kv"), net.shell(2, swarm="kv")
    net.done(one.kv.set("a", 1))
    net.until(lambda: two.kv.document() == {"a": 1})
    heard: list[str] = []
    one.kv.watch(lambda name, data: heard.append(name))
    net.done(one.service.leave("kv"))
    assert heard == ["gossip.left"]
    net.until(
        lambda: any(row["node_id"] == 1 and row["standing"] == "left" for row in two.kv.members())
    )
    assert not one.home.joinpath("swarms", "kv").exists()
    one.join()
    assert one.kv.document() == {}
    net.until(lambda: one.kv.document() == {"a": 1})


def test_a_swarm_may_be_joined_again_with_other_options(net: Net) -> None:
    one, two = net.shell(1, swarm="kv"), net.shell(2, swarm="kv")
    heard: list[Any] = []
    one.kv.watch(lambda name, data: heard.append((name, data)))
    one.join(fanout=7)
    assert one.kv.stats()["options"]["fanout"] == 7
    net.done(two.kv.set("a", 1))
    net.until(lambda: any(name == "gossip.changed" for name, _ in heard))


def test_watchers_and_subscribers_are_told(net: Net) -> None:
    one, two = net.shell(1, swarm="kv"), net.shell(2, swarm="kv")
    net.until(lambda: two.kv.stats()["synced"])
    heard: list[Any] = []
    stop = two.kv.watch(lambda name, data: heard.append((name, data)))
    two.kv.watch(lambda name, data: stop())  # one that goes while all are told
    net.done(one.kv.set("a", 1))
    net.until(lambda: heard)
    name, data = heard[0]
    assert name == "gossip.changed"
    (change,) = data["changes"]
    assert (change["key"], change["value"], change["author"]) == ("a", 1, 1)
    assert change["previous"] is None and not change["local"]
    assert (name, data) in two.node.announced
    net.done(one.kv.set("a", 2))
    net.until(lambda: two.kv.get("a") == 2)
    net.pass_time(1.0)
    assert len(heard) == 1


def test_large_changes_are_announced_in_portions(net: Net) -> None:
    shell = net.shell(1)
    shell.join()
    heard: list[Any] = []
    shell.kv.watch(lambda name, data: heard.append((name, data)))
    value = "<" * 15_000
    for key in "abcdefgh":
        net.done(shell.kv.set(key, value))
    net.pass_time(0.5)
    (whole,) = [data for name, data in heard if name == "gossip.changed"]
    assert [change["value"] for change in whole["changes"]] == [value] * 8
    told = [data for name, data in shell.node.announced if name == "gossip.changed"]
    changes = [change for data in told for change in data["changes"]]
    assert [change["key"] for change in changes] == list("abcdefgh")
    # Each would be six times as long in the announcement as it is.
    assert all(change["omitted"] and change["value"] is None for change in changes)


def test_sync_tells_how_it_ended(net: Net) -> None:
    one, two = net.shell(1, swarm="kv"), net.shell(2, swarm="kv")
    net.done(one.kv.set("a", 1))
    net.pass_time(7.0)
    result = net.done(one.kv.sync(2))
    assert result["agreed"] and result["peer"] == 2 and result["root"] == two.kv.root
    assert net.done(two.kv.sync())["agreed"]
    net.cut.add(frozenset((1, 2)))
    result = net.done(one.kv.sync(2))
    assert not result["agreed"] and result["cause"] == "unreachable"
    with pytest.raises(NotFound):
        net.done(one.kv.sync(77))


def test_sync_with_nobody_is_an_error(net: Net) -> None:
    shell = net.shell(1)
    shell.join()
    with pytest.raises(NotFound, match="nobody"):
        net.done(shell.kv.sync())


def test_a_partition_heals(net: Net) -> None:
    one, two = net.shell(1, swarm="kv"), net.shell(2, swarm="kv")
    net.pass_time(8.0)
    net.cut.add(frozenset((1, 2)))
    net.done(one.kv.set("a", 1))
    net.done(two.kv.set("b", 2))
    net.pass_time(60.0)
    assert two.kv.document() == {"b": 2}
    net.cut.clear()
    took = net.until(lambda: one.kv.document() == two.kv.document() == {"a": 1, "b": 2})
    assert took <= 35.0


def test_the_doctor_names_who_is_silent(net: Net) -> None:
    shells = [net.shell(number, swarm="kv") for number in (1, 2, 3)]
    net.pass_time(10.0)
    report = shells[0].call("doctor")
    assert report["healthy"] and report["agreeing"] == [2, 3]
    net.cut.add(frozenset((1, 3)))
    net.done(shells[0].kv.set("a", 1))
    net.pass_time(40.0)
    report = shells[0].call("doctor")
    assert not report["healthy"]
    assert 3 in report["silent"] + report["asymmetric"]
    assert report["agreeing"] == [2]


def test_writes_that_cannot_be_are_refused(net: Net) -> None:
    shell = net.shell(1)
    shell.join()
    with pytest.raises(BadMessage):
        net.done(shell.kv.set("a//b", 1))
    with pytest.raises(Refused, match="only node 2"):
        net.done(shell.kv.set("@2/x", 1))
    with pytest.raises(Refused):
        net.done(shell.kv.set("a", "x" * 20_000))
    assert shell.kv.document() == {}


def test_a_value_with_a_time_to_live_goes(net: Net) -> None:
    one, two = net.shell(1, swarm="kv"), net.shell(2, swarm="kv")
    net.done(one.kv.set("a", 1, ttl=20.0))
    net.until(lambda: two.kv.document() == {"a": 1})
    net.pass_time(21.0)
    assert one.kv.document() == two.kv.document() == {}


def test_own_keys_are_signed_and_checked(net: Net) -> None:
    one, two, three = (net.shell(number, swarm="kv") for number in (1, 2, 3))
    net.done(one.kv.set("@1/status", "ready"))
    net.until(
        lambda: all(each.kv.document() == {"@1": {"status": "ready"}} for each in (two, three))
    )
    assert two.service.statistics()["signatures"]["checked"] >= 1


def test_a_signature_of_another_is_none(net: Net) -> None:
    one, two = net.shell(1, swarm="kv", signed="true"), net.shell(2, swarm="kv", signed="true")
    net.done(one.kv.set("a", 1))
    net.until(lambda: two.kv.document() == {"a": 1})
    one.node.identity = net.node(3).identity  # not the key that the registry has named
    net.done(one.kv.set("b", 1))
    net.until(lambda: two.kv.stats()["refused"].get("signature"))
    assert two.kv.document() == {"a": 1}


def test_a_node_that_cannot_sign_writes_nothing(net: Net) -> None:
    shell = net.shell(1)
    shell.join(signed=True)
    shell.node.refusing = ConnectionFailed("the daemon is gone")
    with pytest.raises(ConnectionFailed):
        net.done(shell.kv.set("a", 1))
    assert shell.kv.document() == {}
    shell.node.refusing = None
    net.done(shell.kv.set("a", 2))
    assert shell.kv.document() == {"a": 2}


def test_statistics_are_json(net: Net) -> None:
    one = net.shell(1, swarm="kv")
    net.shell(2, swarm="kv")
    net.pass_time(10.0)
    statistics = json.loads(json.dumps(one.service.statistics()))
    assert statistics["swarms"]["kv"]["members"] == 1
    assert statistics["messages"]["taken"] > 0
    assert statistics["trusted"] == 1


def test_settings_that_make_no_sense_are_named(tmp_path: Path) -> None:
    net = Net(tmp_path)
    for given, word in (
        ({"swarm": "A"}, "swarm"),
        ({"swarm": "a,b,c,d,e,f,g,h,i,j,k"}, "swarm"),
        ({"fanout": "0"}, "fanout"),
        ({"interval": "1h1m"}, "interval"),
        ({"durability": "often"}, "durability"),
    ):
        with pytest.raises(ValueError, match=word):
            net.shell(1, **given)
