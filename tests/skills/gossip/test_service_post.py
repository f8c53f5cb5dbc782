"""Which message is for which swarm; scripts as members; what goes to the inbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot.errors import InvalidArgument, NotFound
from skills.gossip.shell.post import named_swarm
from tests.skills.gossip.shells import Net, Node, network


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with network(tmp_path) as made:
        yield made


class Script:
    """A member that runs the published shell script: a state, a version, pushes."""

    def __init__(self, node: Node, *swarms: str) -> None:
        self.node = node
        self.state: dict[str, Any] = {}
        self.version = 0
        node.own_tags = [f"swarm-{name}" for name in swarms]

    def push(self, *targets: int) -> None:
        self.version += 1
        for target in targets:
            text = (
                f'{{"type":"gossip_push","version":{self.version},'
                f'"state":{json.dumps(self.state)},"sender":"{self.node.number}"}}'
            )
            self.node.send_message(self.node.net.node(target).address, text).addErrback(
                lambda _: None
            )

    def read(self) -> None:
        for _, payload in self.node.inbox:
            if payload["type"] == "gossip_push" and payload["version"] > self.version:
                self.state = merged(self.state, payload["state"])
                self.version = payload["version"]
        self.node.inbox.clear()


def merged(one: Any, other: Any) -> Any:
    """What jq's `*` does."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **{key: merged(one.get(key), value) for key, value in other.items()}}
    return other


def test_a_script_and_members_come_to_the_same(net: Net) -> None:
    one, two = net.shell(1, swarm="kv"), net.shell(2, swarm="kv")
    script = Script(net.node(3), "kv")
    net.done(one.kv.set("a", {"x": 1}))
    script.state = {"a": {"y": 2}, "s": "from the script"}
    for _ in range(12):
        script.push(1, 2)
        net.pass_time(5.0)
        script.read()
    everything = {"a": {"x": 1, "y": 2}, "s": "from the script"}
    assert one.kv.document() == two.kv.document() == script.state == everything
    script.state["a"]["x"] = 5
    net.done(two.kv.set("t", True))
    for _ in range(4):
        script.push(1)
        net.pass_time(5.0)
        script.read()
    assert one.kv.document() == two.kv.document() == script.state
    assert script.state == {"a": {"x": 5, "y": 2}, "s": "from the script", "t": True}
    assert {row["node_id"]: row["version"] for row in one.kv.members()} == {2: 2, 3: 1}


def test_a_script_is_never_sent_what_it_cannot_read(net: Net) -> None:
    one = net.shell(1, swarm="kv")
    script = Script(net.node(2), "kv")
    net.done(one.kv.set("a", 1))
    net.pass_time(60.0)
    assert {payload["type"] for _, payload in script.node.inbox} == {"gossip_push"}
    assert one.kv.stats()["members"] == 1


def test_a_script_may_run_beside_the_skill(net: Net) -> None:
    """Its pushes are merged elsewhere; what comes for it, the skill has taken."""
    one, two = net.shell(1, swarm="kv"), net.shell(2, swarm="kv")
    net.done(one.kv.set("a", 1))
    net.until(lambda: two.kv.document() == {"a": 1})
    script = Script(net.node(2), "kv")
    script.state = {"s": 1}
    for number in range(6):
        script.state["round"] = number
        script.push(1)
        net.pass_time(5.0)
    assert one.kv.document() == two.kv.document() == {"a": 1, "s": 1, "round": 5}
    assert not script.node.inbox
    (row,) = one.kv.members()
    assert row["version"] == 2


def test_a_push_without_a_name_is_for_the_one_swarm_that_is_shared(net: Net) -> None:
    shell = net.shell(1, swarm=["kv", "other"])
    both, one, none = (
        Script(net.node(2), "kv", "other"),
        Script(net.node(3), "other"),
        Script(net.node(4)),
    )
    net.pass_time(6.0)
    for script in (both, one, none):
        script.state = {f"from-{script.node.number}": True}
        script.push(1)
    net.pass_time(1.0)
    assert shell.kv.document() == {}
    assert shell.service.swarms["other"].document() == {"from-3": True}
    assert [source for source, _ in shell.node.inbox] == [2, 4]
    assert shell.service.statistics()["messages"]["left"] == 2


def test_a_push_that_names_its_swarm_goes_there(net: Net) -> None:
    shell, other = net.shell(1, swarm=["kv", "other"]), net.shell(2, swarm=["kv", "other"])
    net.done(other.kv.set("a", 1))
    net.done(other.service.swarms["other"].set("b", 2))
    net.until(lambda: shell.kv.document() == {"a": 1})
    net.until(lambda: shell.service.swarms["other"].document() == {"b": 2})


def test_strangers_are_not_listened_to(net: Net) -> None:
    net.trust = {frozenset((1, 2))}
    shell = net.shell(1, swarm="kv")
    net.node(3)
    push = {"type": "gossip_push", "version": 1, "state": {"a": 1}, "sender": "3"}
    syn = {"type": "gossip_syn", "v": 2, "swarm": "kv", "x": "1", "sender": "3"}
    named = {**push, "g": {"v": 2, "swarm": "kv", "id": "1", "root": "0" * 16, "n": 0, "e": []}}
    for document in (push, syn, named):
        shell.node.receive(3, json.dumps(document))
    assert shell.kv.document() == {}
    assert [document for _, document in shell.node.inbox] == [push, named]
    assert shell.service.statistics()["messages"]["strangers"] == 3
    assert not shell.kv.members()


def test_trust_that_is_a_second_old_counts(net: Net) -> None:
    net.trust = set()
    shell = net.shell(1, swarm="kv")
    script = Script(net.node(2), "kv")
    net.pass_time(4.0)
    net.trust.add(frozenset((1, 2)))
    script.state = {"a": 1}
    script.push(1)
    net.pass_time(0.5)
    assert shell.kv.document() == {"a": 1}


def test_messages_for_swarms_of_others_go_nowhere(net: Net) -> None:
    shell = net.shell(1, swarm="kv")
    net.node(2)
    net.pass_time(6.0)
    for swarm in ("elsewhere", None, 7, ["kv"], "kv\x00"):
        shell.node.receive(2, json.dumps({"type": "gossip_syn", "v": 2, "swarm": swarm}))
    shell.node.receive(2, json.dumps({"type": "gossip_something", "v": 2}))
    assert not shell.node.inbox
    assert shell.service.statistics()["messages"]["elsewhere"] == 6
    push = {"type": "gossip_push", "version": 1, "state": {}, "g": {"v": 2, "swarm": "elsewhere"}}
    shell.node.receive(2, json.dumps(push))
    assert shell.node.inbox == [(2, push)]


def test_malformed_messages_are_counted_against_their_sender(net: Net) -> None:
    shell, other = net.shell(1, swarm="kv"), net.shell(2, swarm="kv")
    net.node(3)
    net.pass_time(6.0)
    for _ in range(20):
        shell.node.receive(3, json.dumps({"type": "gossip_ack", "v": 2, "swarm": "kv", "x": {}}))
    counts = shell.kv.stats()["counts"]
    assert counts["rejected_malformed"] >= 10 and counts["rejected_muted"] >= 1
    net.done(other.kv.set("a", 1))
    net.until(lambda: shell.kv.document() == {"a": 1})


def test_own_pushes_are_mail_like_any_other(net: Net) -> None:
    shell = net.shell(1, swarm="kv")
    push = {"type": "gossip_push", "version": 1, "state": {"a": 1}, "sender": "1"}
    shell.node.receive(1, json.dumps(push))
    assert shell.node.inbox == [(1, push)]


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"type": "gossip_push"}, None),
        ({"type": "gossip_push", "swarm": "kv"}, None),
        ({"type": "gossip_push", "g": []}, None),
        ({"type": "gossip_push", "g": {"v": True, "swarm": "kv"}}, None),
        ({"type": "gossip_push", "g": {"v": 1, "swarm": "kv"}}, None),
        ({"type": "gossip_push", "g": {"v": 2, "swarm": {}}}, None),
        ({"type": "gossip_push", "g": {"v": 2, "swarm": "kv"}}, "kv"),
        ({"type": "gossip_syn", "swarm": "kv"}, "kv"),
        ({"type": "gossip_syn", "swarm": 3}, None),
    ],
)
def test_the_name_in_a_message(document: Any, name: str | None) -> None:
    assert named_swarm(document) == name


def test_push_sends_what_scripts_send(net: Net) -> None:
    shell = net.shell(1, swarm="kv")
    with pytest.raises(NotFound, match="nobody to push to"):
        shell.call("push")
    script = Script(net.node(2), "kv")
    net.done(shell.kv.set("a", 1))
    net.pass_time(6.0)
    script.node.inbox.clear()
    answer = shell.call("push")
    assert answer["peers"] == [
        {"node_id": 2, "address": "0:0000.0000.0002", "sent": True, "error": None}
    ]
    ((_, payload),) = script.node.inbox
    assert payload["state"] == {"a": 1}
    assert payload["type"] == "gossip_push" and payload["sender"] == "1"
    shell.call("push", data={"b": 2})
    assert script.node.inbox[-1][1]["state"] == {"b": 2}
    assert shell.kv.document() == {"a": 1}
    net.cut.add(frozenset((1, 2)))
    (peer,) = shell.call("push")["peers"]
    assert not peer["sent"] and peer["error"] == "unreachable"


def test_merge_folds_each_message_once(net: Net) -> None:
    shell = net.shell(1, swarm="kv")
    net.node(2)

    def message(name: str, version: int, **state: Any) -> dict[str, Any]:
        payload = {"type": "gossip_push", "version": version, "state": state, "sender": "2"}
        return {"id": name, "from": 2, "payload": payload}

    first, second = message("m1", 1, a=1, b=1), message("m2", 2, a=2, b=1)
    answer = shell.call("merge", messages=[first, second], present=["m1", "m2"])
    assert answer == {"swarm": "kv", "messages": 2, "keys": 3, "refused": 0}
    assert shell.kv.document() == {"a": 2, "b": 1}
    net.done(shell.kv.set("a", 3))
    shell.stop()
    shell.start()
    third = message("m3", 3, a=2, b=1, c=1)
    answer = shell.call("merge", messages=[first, second, third], present=["m1", "m2", "m3"])
    assert (answer["messages"], shell.kv.get("c")) == (1, 1)
    assert shell.kv.get("a") == 3
    # What is no longer there is forgotten.
    shell.call("merge", messages=[message("m4", 4, d=1)], present=["m4"])
    merged_file = shell.kv.storage.path / "merged.json"
    assert json.loads(merged_file.read_text()) == ["m4"]


def test_merge_leaves_pushes_for_other_swarms(net: Net) -> None:
    shell = net.shell(1, swarm="kv")
    payload = {
        "type": "gossip_push",
        "version": 1,
        "state": {"a": 1},
        "sender": "2",
        "g": {"v": 2, "swarm": "other", "id": "1", "root": "0" * 16, "n": 1, "e": []},
    }
    answer = shell.call("merge", messages=[{"id": "m", "from": 2, "payload": payload}])
    assert (answer["messages"], answer["keys"]) == (0, 0)
    for wrong in ([{}], ["m"], [{"id": "m", "from": 2, "payload": {"type": "x"}}]):
        with pytest.raises(InvalidArgument):
            shell.call("merge", messages=wrong)
    spoofed = {"type": "gossip_push", "version": 1, "state": {"a": 1}, "sender": "9"}
    answer = shell.call("merge", messages=[{"id": "s", "from": 2, "payload": spoofed}])
    assert (answer["messages"], answer["refused"]) == (0, 1)
