"""Members that are hostile, broken, or at odds with the time: they harm nobody but themselves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.gossip.core.config import GossipConfig
from skills.gossip.core.hlc import hlc_at
from skills.gossip.core.messages import Delta, Leave, Push, Shuffle, Syn
from skills.gossip.core.register import FLAG_EPHEMERAL, FLAG_SIGNED, Register
from skills.gossip.core.registers import Limits
from tests.skills.gossip.net import EPOCH, GOOD, NAME, Swarm

EVIL = 666


def push(*registers: Register, sender: str = str(EVIL), swarm: str = NAME) -> dict[str, Any]:
    return Push(sender, 1, {}, "", 2, swarm, "abc", "0" * 16, 1, registers).encode()


def tell(swarm: Swarm, document: dict[str, Any], peer: int = EVIL, size: int = 100) -> None:
    swarm[1].do(lambda now: swarm[1].replica.on_message(now, peer, document, size))


def register(
    key: str, value: Any, *, at: float = EPOCH, author: int = EVIL, **more: Any
) -> Register:
    return Register.make(key, value, hlc_at(at), author, **more)


def reasons(swarm: Swarm) -> dict[str, int]:
    counts = swarm[1].replica.status(swarm.now)["counts"]
    return {
        name.removeprefix("rejected_"): count
        for name, count in counts.items()
        if name.startswith("rejected_")
    }


@pytest.mark.parametrize(
    "document",
    [
        push(register("k", 1), sender="1"),
        push(register("k", 1), sender="7"),
        Syn(NAME, "ab", 7, 1, hlc_at(EPOCH), "0" * 16, 0).encode(),
        Leave(NAME, 7, 2**40).encode(),
    ],
)
def test_nobody_speaks_in_another_s_name(document):
    swarm = Swarm(1)
    tell(swarm, document)
    assert reasons(swarm) == {"sender": 1}
    assert swarm[1].replica.document() == {}


def test_another_swarm_s_messages_are_not_for_us():
    swarm = Swarm(1)
    tell(swarm, push(register("k", 1), swarm="other"))
    assert reasons(swarm) == {"swarm": 1}


def test_a_name_that_is_no_number_is_a_script_s_own_affair():
    swarm = Swarm(1)
    tell(swarm, {"type": "gossip_push", "version": "3", "state": {"k": 1}, "sender": "agent-x"})
    assert swarm[1].replica.document() == {"k": 1}


def test_rubbish_gets_its_sender_muted_and_nobody_else():
    swarm = Swarm(2)
    for _ in range(10):
        tell(swarm, {"type": "gossip_syn", "v": 2, "x": []})
    tell(swarm, push(register("k", 1)))
    assert swarm[1].replica.document() == {}
    swarm[2].set("honest", 1)
    swarm.await_equal(10.0)
    assert swarm[1].replica.get("honest") == 1
    swarm.run(300.0)
    tell(swarm, push(register("k", 1, at=EPOCH + swarm.now)))
    assert swarm[1].replica.get("k") == 1


def test_a_flood_is_cut_to_its_budget():
    swarm = Swarm(1)
    for number in range(500):
        tell(swarm, push(register(f"k{number}", 1)))
    assert len(swarm[1].replica.items()) == 100
    assert reasons(swarm) == {"rate": 400}
    swarm.run(5.0)
    tell(swarm, push(register("big", 1)), size=600 * 1024)
    assert reasons(swarm)["rate"] == 401


def test_quotas_hold_and_are_told():
    swarm = Swarm(2, config=GossipConfig(limits=Limits(author_keys=5)))
    many = [register(f"k{number}", 1, author=2) for number in range(9)]
    swarm.carry(2, 1, push(*many, sender="2"))
    swarm.run(0.5)
    assert len(swarm[1].replica.items()) == 5
    nacks = [d for _, s, _, d in swarm.log if d["type"] == "gossip_nack"]
    assert [(each["reason"], each["count"]) for each in nacks] == [("author_keys", 4)]


def test_the_future_is_refused_and_taken_when_it_has_come():
    swarm = Swarm(3)
    swarm.run(60.0)
    future = register("k", 1, at=EPOCH + swarm.now + 300.0, author=2)
    # It is on 2 because 2 had a wrong clock when it wrote.
    swarm[2].replica._desk.ledger.map.merge(future, EPOCH + swarm.now)
    swarm.run(120.0)
    assert not swarm[1].replica.items()
    assert not swarm[1].replica.status(swarm.now)["hot"], "what is refused keeps nobody busy"
    assert not swarm[2].replica.status(swarm.now)["hot"]
    before = swarm.bytes
    swarm.run(100.0)
    assert 2 * (swarm.bytes - before) / 3 / 20 < 1500
    swarm.run(240.0)
    assert swarm[1].replica.get("k") == swarm[3].replica.get("k") == 1


def test_a_clock_that_is_an_hour_wrong_is_corrected_and_wins_nothing():
    swarm = Swarm(6)
    swarm[6].skew = 3600.0
    swarm.run(60.0)
    assert abs(swarm[6].replica.status(swarm.now)["offset"] + 3600.0) < 1.0
    assert abs(swarm[1].replica.status(swarm.now)["offset"]) < 1.0
    swarm[6].set("k", "wrong clock")
    swarm.await_equal(10.0)
    swarm.run(1.0)
    swarm[1].set("k", "right clock")
    swarm.await_equal(10.0)
    assert swarm[6].replica.get("k") == "right clock"
    # Corrected, it is no more off than anybody; before, the others saw it.
    assert swarm[1].replica.doctor(swarm.now)["divergent"] == []


def test_another_s_keys_are_not_written():
    swarm = Swarm(1)
    tell(swarm, push(register("@7/presence", 1)))
    tell(swarm, push(register("@7/presence", 1, author=7)))
    assert swarm[1].replica.document() == {}
    assert reasons(swarm) == {"owner": 1, "unsigned": 1}
    tell(swarm, push(register(f"@{EVIL}/presence", "mine")))
    assert swarm[1].replica.get(f"@{EVIL}/presence") == "mine"


def test_own_keys_are_signed_and_spread_through_others():
    swarm = Swarm(4, know=False)
    from skills.gossip.core.effects import PeerFacts

    for node_id, node in swarm.nodes.items():  # a chain
        facts = [PeerFacts(each, True) for each in (node_id - 1, node_id + 1) if 1 <= each <= 4]
        node.do(lambda now, node=node, facts=facts: node.replica.members_changed(now, facts))
    swarm[1].set("@1/presence", {"status": "busy"})
    swarm.await_equal(30.0)
    swarm.run(1.0)
    assert swarm[4].replica.get("@1/presence/status") == "busy"


def test_forged_signatures_are_refused():
    swarm = Swarm(1)
    forged = register("@7/k", 1, author=7, flags=FLAG_SIGNED, signature="B" * 86 + "==")
    tell(swarm, push(forged))
    swarm.run(1.0)
    assert swarm[1].replica.document() == {}
    good = register("@7/k", 2, author=7, flags=FLAG_SIGNED, signature=GOOD)
    tell(swarm, push(good))
    swarm.run(1.0)
    assert swarm[1].replica.get("@7/k") == 2


def test_a_signed_swarm_signs_everything_and_takes_nothing_else():
    swarm = Swarm(5, config=GossipConfig(signed=True))
    swarm[1].set("k", {"a": 1, "b": 2})
    swarm[1].set("m", 1)
    swarm.run(0.5)
    swarm[1].delete("m")
    swarm.await_equal(20.0)
    swarm.run(5.0)
    assert swarm[5].replica.document() == {"k": {"a": 1, "b": 2}}
    tell(swarm, push(register("k", 1, at=EPOCH + swarm.now)))
    assert reasons(swarm) == {"unsigned": 1}
    node = swarm[5]
    node.journal = list(node.replica.snapshot())
    node.start()
    assert node.replica.document() == {"k": {"a": 1, "b": 2}}


def test_a_write_without_a_signature_is_not_made():
    swarm = Swarm(1, config=GossipConfig(signed=True))
    swarm[1]._sign = lambda each: swarm[1].do(
        lambda now: swarm[1].replica.signed(now, each.key, each.hlc, "")
    )
    swarm[1].set("k", 1)
    swarm.run(1.0)
    assert swarm[1].replica.document() == {}


def test_hearsay_about_us_is_answered_with_a_higher_incarnation():
    swarm = Swarm(3)
    swarm.run(40.0)
    before = swarm[1].replica.status(swarm.now)["incarnation"]
    news = {"hb": [[1, before, 9, 1], [2, before + 10**9, 0, 3]]}
    syn = Syn(NAME, "ab", 3, before, hlc_at(EPOCH), swarm[1].replica.root, 0).encode()
    tell(swarm, {**syn, **news}, peer=3)
    assert swarm[1].replica.status(swarm.now)["incarnation"] == before + 1
    swarm.run(60.0)
    assert swarm[1].replica.doctor(swarm.now)["healthy"]
    assert not swarm[2].named("gossip.member_left")


def test_questions_cannot_cost_more_than_a_budget():
    """Asking for everything over and over gets about as many bytes as one may send."""
    swarm = Swarm(2)
    for number in range(200):
        swarm[1].set(f"k{number}", "x" * 4000)
    swarm.cut = lambda source, target: target != EVIL
    swarm.log.clear()
    for number in range(90):
        want = tuple(f"{each:02x}" for each in range(256))
        tell(swarm, Delta(NAME, f"{number:x}", (), want).encode())
    sent = sum(len(str(d)) for _, _, target, d in swarm.log if target == EVIL)
    assert sent < 700_000


def test_tables_stay_bounded():
    config = GossipConfig(members=50, answering=8, unproven=20)
    swarm = Swarm(1, config=config)
    for node in range(1000, 1200):
        syn = Syn(NAME, "ab", node, 1, hlc_at(EPOCH), "1" * 16, 5).encode()
        tell(swarm, syn, peer=node)
        signed = register(f"@{node}/k", 1, author=node, flags=FLAG_SIGNED, signature=GOOD)
        tell(swarm, push(signed, sender=str(node)), peer=node)
        tell(swarm, Shuffle(NAME, "ab", tuple(range(64)), "join").encode(), peer=node)
    replica = swarm[1].replica
    assert len(replica.members(0.0)) <= 50
    assert len(replica._exchanges._answering) <= 8
    assert len(replica._desk.ledger.unproven) <= 20


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
SEEDS = [
    push(register("k", 1)),
    push(),
    {"type": "gossip_push", "version": 1, "state": {"a": 1}, "sender": str(EVIL)},
    Syn(NAME, "ab", EVIL, 1, hlc_at(EPOCH), "1" * 16, 5, (("a" * 16, "b" * 16),)).encode(),
    Delta(NAME, "ab", (register("k", 1),), ("ab", "a" * 16), (("a" * 16, "b" * 16),)).encode(),
    {"type": "gossip_ack", "v": 2, "swarm": NAME, "x": "ab", "hlc": "0" * 16, "root": "1" * 16},
    Leave(NAME, EVIL, 3).encode(),
    Shuffle(NAME, "ab", (1, 2), "sample").encode(),
    {"type": "gossip_nack", "v": 2, "swarm": NAME, "reason": "keys"},
]


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_no_message_breaks_a_replica(data):
    swarm = Swarm(2)
    swarm[1].set("k", 0)
    for _ in range(data.draw(st.integers(1, 4))):
        document = dict(data.draw(st.sampled_from(SEEDS)))
        for name in data.draw(st.sets(st.sampled_from(sorted(document)), max_size=2)):
            document[name] = data.draw(json_values)
        tell(swarm, document)
        swarm.run(1.0)
    swarm[2].set("honest", 1)
    swarm.run(20.0, lambda: bool(swarm[1].replica.items("honest")))
    assert swarm[1].replica.get("honest") == 1


def test_an_ephemeral_register_of_a_departed_author_is_not_taken():
    swarm = Swarm(2)
    swarm.run(10.0)
    syn = Syn(NAME, "ab", EVIL, 5, hlc_at(EPOCH), "1" * 16, 5).encode()
    tell(swarm, syn)
    tell(swarm, Leave(NAME, EVIL, 5).encode())
    swarm.run(200.0)
    gone = register("k", 1, at=EPOCH + swarm.now, flags=FLAG_EPHEMERAL)
    tell(swarm, push(gone, sender="2"), peer=2)
    assert swarm[1].replica.document() == {}
    assert swarm[1].replica.status(swarm.now)["refused"] == {"absent": 1}
