"""Members that know only the pushes of version 1: scripts, and daemons of other makes."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from skills.gossip.core.compat import paged
from skills.gossip.core.config import GossipConfig
from skills.gossip.core.effects import Effect
from skills.gossip.core.errors import BadMessage, Refused
from tests.skills.gossip.net import Swarm


class Script:
    """The seed's loop: a state, a version, the merge rule; and everything it was ever sent."""

    def __init__(self, swarm: Swarm, node_id: int) -> None:
        self.swarm = swarm
        self.id = node_id
        self.state: dict[str, Any] = {}
        self.version = 0
        self.inbox: list[tuple[int, dict[str, Any]]] = []
        swarm.others[node_id] = self.receive

    def receive(self, source: int, document: dict[str, Any]) -> None:
        self.inbox.append((source, document))
        if document["type"] == "gossip_push" and document["version"] > self.version:
            self.state = merged(self.state, document["state"])
            self.version = document["version"]

    def push(self, target: int, **extra: Any) -> None:
        document = {
            "type": "gossip_push",
            "version": self.version,
            "state": self.state,
            "sender": str(self.id),
            **extra,
        }
        self.swarm.carry(self.id, target, document)


def merged(mine: Any, theirs: Any) -> Any:
    """The C{*} of jq."""
    if not (isinstance(mine, dict) and isinstance(theirs, dict)):
        return theirs
    return {**mine, **{name: merged(mine.get(name), value) for name, value in theirs.items()}}


def mixed(count: int = 3, **options: Any) -> tuple[Swarm, Script]:
    swarm = Swarm(count, know=False, **options)
    script = Script(swarm, 900)
    swarm.introduce()
    return swarm, script


def test_a_script_gets_the_whole_state_and_nothing_else():
    swarm, script = mixed()
    swarm[1].set("a", {"x": 1, "y": [1, 2]})
    swarm.run(20.0)
    swarm[2].set("b", 2)
    swarm.run(30.0)
    assert script.state == {"a": {"x": 1, "y": [1, 2]}, "b": 2}
    assert {document["type"] for _, document in script.inbox} == {"gossip_push"}
    assert all(document["g"]["v"] == 2 for _, document in script.inbox)


def test_what_a_script_wrote_spreads():
    swarm, script = mixed()
    swarm.run(10.0)
    script.state = {"k": {"deep": 10}}
    script.version += 1
    script.push(1)
    swarm.await_equal(10.0)
    assert swarm[3].replica.get("k/deep") == 10
    assert swarm[3].replica.items()[0].author == 900


def test_a_script_is_not_told_more_often_than_it_would_tell():
    swarm, script = mixed(1)
    for number in range(100):
        swarm[1].set("k", number)
        swarm.run(0.5)
    assert 5 <= len(script.inbox) <= 11
    swarm.run(30.0)
    count = len(script.inbox)
    assert script.state == {"k": 99}
    swarm.run(500.0)
    assert len(script.inbox) == count, "nothing has changed, so there is nothing to tell"


def test_versions_grow_with_every_push():
    swarm, script = mixed(1)
    for number in range(20):
        swarm[1].set("k", number)
        swarm.run(6.0)
    versions = [document["version"] for _, document in script.inbox]
    assert versions == sorted(set(versions))
    assert versions[0] >= 1_800_000_000_000


def test_a_script_that_repeats_old_values_overwrites_nothing():
    swarm, script = mixed()
    script.state = {"k": "old", "gone": 1}
    script.push(1)
    swarm.await_equal(15.0)
    swarm[2].set("k", "new")
    swarm[2].delete("gone")
    swarm.await_equal(15.0)
    for _ in range(5):
        swarm.carry(900, 1, {"type": "gossip_push", "version": 7, "state": {"k": "old", "gone": 1}})
        swarm.run(5.0)
    assert swarm[3].replica.document() == {"k": "new"}
    swarm.carry(900, 1, {"type": "gossip_push", "version": 8, "state": {"k": "newer", "gone": 1}})
    swarm.await_equal(15.0)
    assert swarm[3].replica.document() == {"k": "newer"}


def test_deletions_are_told_as_null():
    swarm, script = mixed(1)
    swarm[1].set("a", {"x": 1, "y": 2})
    swarm.run(10.0)
    swarm[1].delete("a/x")
    swarm.run(20.0)
    assert script.state == {"a": {"x": None, "y": 2}}
    script.push(1)
    swarm.run(5.0)
    assert swarm[1].replica.document() == {"a": {"y": 2}}


def test_a_large_state_comes_in_frames():
    swarm, script = mixed(1, delay=(0.05, 0.05))
    for number in range(100):
        swarm[1].set(f"k/{number}", "x" * 3000)
    swarm.run(60.0)
    assert len(script.state["k"]) == 100
    assert max(len(json.dumps(document)) for _, document in script.inbox) <= 32 * 1024


def test_pages_make_up_the_document_again():
    document = {
        "small": 1,
        "large": {str(number): "x" * 50 for number in range(100)},
        "deep": {"a": {"b": {str(number): number for number in range(200)}}},
        "empty": {},
        "list": list(range(10)),
    }
    pages = paged(document, 500)
    assert len(pages) > 5
    whole: dict[str, Any] = {}
    for page in pages:
        assert len(json.dumps(page, separators=(",", ":"))) <= 500
        whole = merged(whole, page)
    assert whole == document


def test_a_member_that_nobody_knows_makes_itself_known():
    """Nothing is known of anybody: introductions do it, and each needs one push."""
    swarm = Swarm(2, v2=None)
    swarm.run(60.0)
    kinds = [document["type"] for _, _, _, document in swarm.log]
    assert 1 <= kinds.count("gossip_push") <= 2
    assert swarm[1].replica.synced and swarm[2].replica.synced


def test_proof_wears_off_and_is_renewed_without_anything_a_script_could_not_read():
    swarm = Swarm(2, v2=None)
    swarm.run(60.0)
    swarm.cut = lambda source, target: True
    swarm.run(700.0)
    swarm.cut = lambda source, target: False
    swarm.log.clear()
    swarm.run(60.0)
    assert swarm.log[0][3]["type"] == "gossip_push" and swarm.log[0][3]["state"] == {}
    swarm[1].set("k", 1)
    swarm.await_equal(10.0)


def test_a_member_that_went_back_to_version_1_is_believed():
    swarm = Swarm(2, v2=None)
    swarm.run(60.0)
    swarm[2].up = False
    del swarm.nodes[2]
    script = Script(swarm, 2)
    swarm.run(620.0)
    script.push(1)
    swarm.run(1.0)
    script.inbox.clear()
    swarm[1].set("k", 1)
    swarm.run(60.0)
    assert {document["type"] for _, document in script.inbox} == {"gossip_push"}
    assert script.state == {"k": 1}


def test_a_signed_swarm_takes_nothing_from_scripts():
    swarm, script = mixed(1, config=GossipConfig(signed=True))
    script.state = {"k": 1}
    script.push(1)
    swarm.run(2.0)
    assert swarm[1].replica.document() == {}
    assert swarm[1].named("gossip.rejected")[0]["reason"] == "unsigned"


def test_a_script_may_write_its_own_keys_and_nobody_else_s():
    swarm, script = mixed(1)
    script.state = {"@900": {"mood": "good"}, "@1": {"mood": "bad"}}
    script.push(1)
    swarm.run(2.0)
    assert swarm[1].replica.document() == {"@900": {"mood": "good"}}


def test_pushes_kept_elsewhere_are_folded_in():
    swarm = Swarm(3)
    swarm.run(20.0)
    replica = swarm[1].replica
    kept = {"type": "gossip_push", "version": 4, "state": {"k": {"a": 1, "b": 2}}, "sender": "900"}
    folded = []
    swarm[1].do(lambda now: _folded(replica.fold(now, 900, kept), folded))
    swarm[1].do(lambda now: _folded(replica.fold(now, 900, kept), folded))
    assert folded == [2, 0]
    swarm.await_equal(10.0)
    assert swarm[3].replica.get("k") == {"a": 1, "b": 2}
    assert 900 not in [row["node_id"] for row in replica.members(swarm.now)]
    with pytest.raises(Refused):
        replica.fold(swarm.now, 901, kept)
    with pytest.raises(BadMessage):
        replica.fold(swarm.now, 900, {"type": "gossip_leave", "v": 2})


def _folded(result: tuple[int, list[Effect]], numbers: list[int]) -> list[Effect]:
    numbers.append(result[0])
    return result[1]


def test_a_push_by_hand_goes_to_a_few_members():
    swarm = Swarm(6)
    swarm[1].set("k", 1)
    swarm.await_equal(10.0)
    swarm.run(60.0)
    for data, state in ((None, {"k": 1}), ({"m": 2}, {"m": 2})):
        swarm.log.clear()
        swarm[1].do(lambda now, data=data: swarm[1].replica.push_now(now, data))
        pushes = [d for _, _, _, d in swarm.log if d["type"] == "gossip_push"]
        assert [d["state"] for d in pushes] == [state] * 3
        assert all("g" not in d for d in pushes)
    swarm.run(20.0)
    assert swarm.converged()
    assert swarm[2].replica.document() == {"k": 1, "m": 2}


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_literal_merge_of_the_seed_reads_our_pushes():
    swarm, script = mixed(1)
    swarm[1].set("a", {"x": 1, "y": {"z": [1]}})
    swarm.run(10.0)
    swarm[1].set("a/y/z", [2])
    swarm[1].set("b", None)
    swarm.run(10.0)
    state = "{}"
    for _, document in script.inbox:
        both = state + json.dumps(document["state"])
        state = subprocess.run(
            ["jq", "-s", "-c", ".[0] * .[1]"],
            input=both,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert json.loads(state) == {"a": {"x": 1, "y": {"z": [2]}}, "b": None} == script.state
