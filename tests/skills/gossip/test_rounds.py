"""What one round costs and in which order things go: pauses, partners, frames, fairness."""

from __future__ import annotations

import json
from itertools import pairwise

from skills.gossip.core.config import GossipConfig
from skills.gossip.core.hlc import hlc_at
from skills.gossip.core.ledger import fair
from skills.gossip.core.register import FLAG_EPHEMERAL, Register
from skills.gossip.core.registers import Limits
from tests.skills.gossip.net import EPOCH, Swarm


def syns(swarm: Swarm, source: int) -> list[tuple[float, int]]:
    """@return: when a node began to compare, and with whom."""
    return [(at, t) for at, s, t, d in swarm.log if s == source and d["type"] == "gossip_syn"]


def test_pauses_vary_by_a_fifth_and_nobody_marches_in_step() -> None:
    swarm = Swarm(12)
    swarm.run(90.0)
    swarm.log.clear()
    swarm.run(200.0)
    for node in swarm.nodes:
        times = [at for at, _ in syns(swarm, node)]
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert min(pauses) >= 4.0 - 1e-6 and max(pauses) <= 6.0 + 1e-6
        assert len({round(pause, 3) for pause in pauses}) > len(pauses) / 2
    first = sorted(syns(swarm, node)[0][0] for node in swarm.nodes)
    assert first[-1] - first[0] > 1.0, "they do not begin together"


def test_one_partner_while_quiet_and_three_while_there_is_news() -> None:
    swarm = Swarm(12, config=GossipConfig(push=False))
    swarm.run(90.0)
    swarm.log.clear()
    swarm.run(50.0)
    rounds = {at for at, _ in syns(swarm, 1)}
    assert len(syns(swarm, 1)) == len(rounds)
    swarm.log.clear()
    swarm[1].set("k", 1)
    swarm.run(20.0)
    rounds = {at for at, _ in syns(swarm, 1)}
    assert len(syns(swarm, 1)) >= 3 * (len(rounds) - 1) > 0


def test_a_partner_that_cannot_be_reached_is_replaced_at_once_and_twice_at_most() -> None:
    swarm = Swarm(12)
    swarm.run(90.0)
    swarm.cut = lambda source, target: source == 1
    swarm.log.clear()
    swarm.run(6.1, lambda: bool(syns(swarm, 1)))
    began = swarm.now
    swarm.run(1.0)
    tried = syns(swarm, 1)
    assert len(tried) == 3 and len({target for _, target in tried}) == 3
    assert tried[-1][0] - began < 0.5
    swarm.cut = lambda source, target: source == 1 and target == 2
    swarm[3].set("k", 1)
    swarm.run(15.0)
    assert swarm[1].replica.get("k") == 1, "a dead partner holds no round up"


def test_an_exchange_takes_eight_frames_and_the_next_goes_on_where_it_ended() -> None:
    swarm = Swarm(2)
    for number in range(160):
        swarm[1].set(f"k/{number}", "x" * 4000)  # 640 KB: 20 frames at least
    swarm.await_equal(60.0)
    joiner = swarm.add()
    swarm.introduce()
    swarm.log.clear()
    swarm.await_equal(60.0)
    frames: dict[tuple[int, str], int] = {}
    for _, source, target, document in swarm.log:
        if target == joiner.id and document["type"] in ("gossip_ack", "gossip_delta"):
            assert len(json.dumps(document, separators=(",", ":"))) <= 32 * 1024
            if document.get("e"):
                key = source, document["x"]
                frames[key] = frames.get(key, 0) + 1
    assert max(frames.values()) <= 8
    assert len(frames) >= 3, "no single exchange could have carried it all"


def test_nobodys_bulk_stands_before_anothers_few() -> None:
    bulk = [Register.make(f"bulk/{n}", n, hlc_at(EPOCH + n), 1) for n in range(100)]
    few = [Register.make(f"few/{n}", n, hlc_at(EPOCH - n), 2) for n in range(3)]
    alive = Register.make("@3/presence", 1, hlc_at(EPOCH - 900), 3, FLAG_EPHEMERAL)
    order = fair([*bulk, *few, alive])
    assert order[0] == alive, "what is about presence goes first"
    assert {each.key for each in order[1:7] if each.author == 2} == {"few/0", "few/1", "few/2"}
    mine = [each.hlc for each in order if each.author == 1]
    assert mine == sorted(mine, reverse=True), "the newest first"
    assert len(order) == 104


def test_a_difference_that_equal_sums_hide_is_found_by_the_complete_comparison() -> None:
    """As if somebody had found registers whose hashes add up to those of others."""
    swarm = Swarm(2, config=GossipConfig(full_comparison=60.0))
    swarm[1].set("k", 1)
    swarm.await_equal(20.0)
    hidden = Register.make("hidden", 2, hlc_at(EPOCH), 2)
    registers = swarm[2].replica._desk.ledger.map
    registers.merge(hidden, EPOCH + swarm.now)
    registers.digest.remove(hidden)
    assert swarm.converged()
    swarm.run(20.0)
    assert swarm[1].replica.document() == {"k": 1}
    swarm.run(120.0)
    assert swarm[1].replica.get("hidden") == 2


def test_the_doctor_tells_apart_what_is_wrong_with_whom() -> None:
    swarm = Swarm(5)
    swarm[1].set("k", 1)
    swarm.run(60.0)
    swarm.cut = lambda source, target: (source, target) == (1, 3) or target == 4 or source == 4
    swarm[4].set("mine", 1)
    swarm.run(120.0)
    swarm[1].do(swarm[1].replica.survey)
    swarm.run(5.0)
    report = swarm[1].replica.doctor(swarm.now)
    assert (report["asymmetric"], report["silent"], report["skewed"]) == ([3], [4], [])
    assert not report["healthy"]
    swarm.cut = lambda source, target: False
    swarm.run(60.0)
    swarm[1].do(swarm[1].replica.survey)
    swarm.run(5.0)
    assert swarm[1].replica.doctor(swarm.now)["healthy"]


def test_the_doctor_names_a_clock_that_the_swarm_cannot_put_right() -> None:
    """Of two nobody knows who is wrong; three others outvote a wrong clock."""
    swarm = Swarm(2)
    swarm[2].skew = 30.0
    swarm.run(60.0)
    assert swarm[1].replica.doctor(swarm.now)["skewed"] == [2]


def test_a_member_that_will_not_take_what_we_hold_diverges() -> None:
    small = GossipConfig(limits=Limits(keys=3))
    swarm = Swarm(2)
    swarm.add(config=small)
    swarm.introduce()
    swarm.run(20.0)
    for number in range(6):
        swarm[1].set(f"k/{number}", number)
    swarm.run(120.0)
    swarm[1].do(swarm[1].replica.survey)
    swarm.run(5.0)
    report = swarm[1].replica.doctor(swarm.now)
    assert (report["divergent"], report["agreeing"]) == ([3], [2])
    assert swarm[3].replica.status(swarm.now)["counts"]["rejected_keys"] > 0
