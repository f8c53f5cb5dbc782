"""The core by itself: our own status, limits, and the entry points."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from skills.presence.core.config import PresenceConfig
from skills.presence.core.effects import (
    Change,
    Effect,
    Message,
    Persist,
    Ping,
    Publish,
    Sign,
    Verify,
)
from skills.presence.core.errors import PresenceError, UnknownAgent
from skills.presence.core.finding import Query
from skills.presence.core.presence import PresenceCore
from tests.skills.presence.strategies import statuses


def core_of(**keywords: Any) -> PresenceCore:
    config = PresenceConfig(**{"swarm": False, "signed": False, **keywords.pop("config", {})})
    return PresenceCore(
        1, now=0.0, wall=lambda: 1.8e9, rng=random.Random(1), config=config, hostname="me",
        **keywords,
    )  # fmt: skip


def advance(core: PresenceCore, until: float) -> list[tuple[float, Effect]]:
    effects = []
    while (due := core.deadline()) is not None and due <= until:
        effects += [(due, effect) for effect in core.on_timer(due)]
    return effects


def published(effects: list[Effect]) -> list[dict[str, Any]]:
    return [json.loads(effect.payload) for effect in effects if isinstance(effect, Publish)]


def test_nothing_happens_before_the_start_and_after_the_end() -> None:
    core = core_of(config={"coordinators": ("hub",)})
    assert core.deadline() is None
    assert core.on_record(0.0, 2, b"{}") == [] and core.on_timer(5.0) == []
    core.start(0.0)
    assert core.deadline() is not None
    effects = core.leave(1.0)
    assert published(effects)[0]["status"] == "offline"
    assert core.deadline() is None
    assert core.leave(2.0) == [] and core.on_datagram(2.0, 2, b"{}") == []
    assert (
        core.alive(2.0, 2) == [] and core.connected(2.0) == [] and core.pinged(2.0, 1, True) == []
    )
    assert core.on_message(2.0, 2, {}) == [] and core.hint(2.0, 2) == []


def test_the_incarnation_is_above_the_last_one_and_stored_first() -> None:
    core = core_of(incarnation=1_900_000_000)
    assert core.start(0.0)[0] == Persist("incarnation", b"1900000001")


def test_heartbeats_are_every_30_seconds_varied_by_a_fifth() -> None:
    core = core_of(config={"coordinators": ("hub",), "watch": False})
    assert len(published(core.start(0.0))) == 1
    times = [at for at, effect in advance(core, 3000.0) if isinstance(effect, Publish)]
    gaps = [after - before for before, after in pairwise(times)]
    assert all(24 <= gap <= 36 for gap in gaps)
    assert 29 <= sum(gaps) / len(gaps) <= 31 and max(gaps) - min(gaps) > 5


def test_numbers_grow_and_a_change_is_published_at_once() -> None:
    core = core_of(config={"coordinators": ("hub", "hub2")})
    first = published(core.start(0.0))
    assert len(first) == 2 and first[0]["seq"] == first[1]["seq"]
    effects = core.set_intent(5.0, "busy", reason="training", duration=60.0)
    (one, two) = published(effects)
    assert one == two and one["status"] == "busy" and one["seq"] > first[0]["seq"]
    told = [e for e in effects if isinstance(e, Change) and e.name == "presence.status"]
    assert [change.data["status"] for change in told] == ["busy"]
    assert core.set_intent(6.0, "busy", reason="training", duration=60.0) == []
    own = core.own(6.0)
    assert own["status"] == "busy" and own["agents"][0]["reverts_in"] == 60.0
    reverted = [
        (at, json.loads(effect.payload)["status"])
        for at, effect in advance(core, 70.0)
        if isinstance(effect, Publish)
    ]
    assert (66.0, "online") in reverted


def test_changes_within_a_second_are_published_together() -> None:
    core = core_of(config={"coordinators": ("hub",), "watch": False})
    core.start(0.0)
    assert len(published(core.set_intent(5.0, "busy"))) == 1
    assert published(core.set_intent(5.2, "away")) == []
    assert published(core.set_intent(5.4, "online")) == []
    later = [(at, e) for at, e in advance(core, 8.0) if isinstance(e, Publish)]
    assert [(at, json.loads(e.payload)["status"]) for at, e in later] == [(6.0, "online")]


def test_a_failed_heartbeat_is_repeated_with_growing_pauses() -> None:
    core = core_of(config={"coordinators": ("hub",), "watch": False})
    core.start(0.0)
    now, gaps = 0.0, []
    for _ in range(8):
        core.published(now, "hub", False)
        due = core.deadline()
        while not any(isinstance(effect, Publish) for effect in core.on_timer(due or 0.0)):
            due = core.deadline()
        gaps.append((due or 0.0) - now)
        now = due or 0.0
    assert gaps[0] <= 2.1 and all(gap <= 36 for gap in gaps) and gaps[-1] > 5
    core.published(now, "unheard of", False)


def test_records_wait_for_their_signature_and_go_without_it_if_need_be() -> None:
    core = core_of(config={"coordinators": ("hub",), "signed": True})
    effects = core.start(0.0)
    (sign,) = [effect for effect in effects if isinstance(effect, Sign)]
    assert published(effects) == []
    (record,) = published(core.signed(0.1, sign.token, bytes(64)))
    assert record["sig"] == "A" * 86 + "=="
    assert core.signed(0.2, sign.token, bytes(64)) == []
    effects = core.set_intent(5.0, "busy")
    (sign,) = [effect for effect in effects if isinstance(effect, Sign)]
    (record,) = published(core.signed(5.1, sign.token, None))
    assert "sig" not in record
    assert core.stats(6.0)["counters"]["unsigned"] == 1


def test_a_new_name_is_told() -> None:
    core = core_of(config={"coordinators": ("hub",)})
    core.start(0.0)
    (record,) = published(core.identity_changed(3.0, "new", "0:0000.0000.0001", ["gpu", "Bad!"]))
    assert (record["hostname"], record["tags"]) == ("new", ["gpu"])
    assert core.get(3.0, "new")["node"] == 1
    with pytest.raises(UnknownAgent):
        core.get(3.0, "me")


def test_what_is_out_of_range_is_refused_and_changes_nothing() -> None:
    core = core_of()
    core.start(0.0)
    with pytest.raises(PresenceError):
        core.set_intent(1.0, "dead")
    assert core.own(1.0)["status"] == "online"
    for host in ("nobody", 77, ""):
        for ask in (core.get, core.explain, core.history):
            with pytest.raises(UnknownAgent):
                ask(1.0, host)


def test_a_name_is_verified_before_its_record_counts() -> None:
    core = core_of()
    core.start(0.0)
    effects = core.on_record(1.0, 2, b'{"hostname":"bob","status":"online"}')
    (verify,) = [effect for effect in effects if isinstance(effect, Verify)]
    assert (verify.hostname, verify.node_id) == ("bob", 2)
    assert core.get(1.5, "bob")["confidence"] == "unverified"
    assert core.explain(1.5, "bob")["trail"][0]["what"] == "unverified"
    for host in ("bob", "2", 2, "0:0000.0000.0002"):
        shown = core.get(1.5, host)
        assert (shown["node"], shown["hostname"], shown["verified"]) == (2, "bob", False)
    assert core.history(1.5, "2") == []
    core.verified(2.0, verify.token, True)
    assert core.get(2.0, "bob")["verified"]
    assert core.agents(2.0, everybody=True)[0]["hostname"] == "bob"
    assert len(core.agents(2.0, everybody=True)) == 2


def test_a_name_that_cannot_be_resolved_is_asked_for_with_the_next_record() -> None:
    core = core_of()
    core.start(0.0)
    advance(core, 0.9)
    (verify,) = core.on_record(1.0, 2, b'{"hostname":"bob","status":"online"}')
    assert isinstance(verify, Verify)
    core.verified(2.0, verify.token, None)
    (again,) = core.on_record(31.0, 2, b'{"hostname":"bob","status":"online"}')
    assert isinstance(again, Verify)
    core.verified(32.0, again.token, False)
    assert core.on_record(61.0, 2, b'{"hostname":"bob","status":"online"}') == []
    assert "does not lead back" in core.get(61.0, "bob")["reason"]


def test_a_replayed_or_late_record_never_overrides() -> None:
    core = core_of()
    core.start(0.0)
    core.peers_changed(0.0, [{"node_id": 2, "hostname": "bob"}])
    for number, status in (((5, 7), "busy"), ((5, 6), "offline"), ((4, 99), "offline"),
                           ((5, 7), "away")):  # fmt: skip
        record = {"hostname": "bob", "status": status, "v": 2, "node": 2, "inc": number[0],
                  "seq": number[1]}  # fmt: skip
        core.on_record(1.0, 2, json.dumps(record).encode())
    assert core.get(1.0, "bob")["status"] == "busy"
    assert core.stats(1.0)["counters"]["old"] == 3


def test_version_1_is_ordered_by_arrival() -> None:
    core = core_of()
    core.start(0.0)
    core.peers_changed(0.0, [{"node_id": 2, "hostname": "bob"}])
    for year, status in (("2030", "online"), ("2020", "busy"), ("1970", "away")):
        record = {"hostname": "bob", "status": status, "timestamp": f"{year}-01-01T00:00:00Z"}
        core.on_record(1.0, 2, json.dumps(record).encode())
        assert core.get(1.0, "bob")["status"] == status


def test_an_offline_agent_is_forgotten_after_a_week_and_cannot_return_as_a_replay() -> None:
    core = core_of()
    core.start(0.0)
    core.peers_changed(0.0, [{"node_id": 2, "hostname": "bob"}])
    record = {"hostname": "bob", "status": "offline", "v": 2, "node": 2, "inc": 5, "seq": 7}
    core.on_record(1.0, 2, json.dumps(record).encode())
    advance(core, 6.9 * 86400.0)
    assert core.get(6.9 * 86400.0, "bob")["status"] == "offline"
    now = 7.1 * 86400.0
    advance(core, now)
    with pytest.raises(UnknownAgent):
        core.get(now, "bob")
    core.on_record(now, 2, json.dumps({**record, "status": "online"}).encode())
    assert [agent["hostname"] for agent in core.agents(now)] == ["me"]
    core.on_record(now, 2, json.dumps({**record, "status": "online", "seq": 8}).encode())
    assert core.get(now, "bob")["status"] == "online"


def test_a_restart_shows_the_directory_as_it_was_and_does_not_believe_it() -> None:
    core = core_of(config={"serve": True})
    core.start(0.0)
    core.peers_changed(0.0, [{"node_id": 2, "hostname": "bob"}])
    core.on_record(1.0, 2, b'{"hostname":"bob","status":"busy"}')
    (saved,) = [effect for effect in core.leave(10.0) if isinstance(effect, Persist)]
    again = core_of(config={"serve": True}, restored=saved.data)
    again.start(0.0)
    shown = again.get(1.0, "bob")
    assert (shown["status"], shown["confidence"], shown["last_seen"]) == ("busy", "stale_view", 10)
    assert again.view(1.0) == {"stale": True, "cause": "restart", "for": 1.0}
    assert again.history(1.0, "bob")[0]["cause"] == "restored"
    again.on_record(2.0, 2, b'{"hostname":"bob","status":"online"}')
    assert again.find(2.0, Query()).agents == []  # its name has to be verified anew
    for rubbish in (b"", b"{", b"[]", b'{"v":1,"entries":[1,{}]}', b"\xff" * 100):
        broken = core_of(restored=rubbish)
        broken.start(0.0)
        assert broken.stats(0.0)["agents"] == 1


def test_watchers_are_told_in_a_chain_of_small_messages() -> None:
    core = core_of(config={"serve": True})
    core.start(0.0)
    core.peers_changed(0.0, [{"node_id": n, "hostname": f"a{n}"} for n in range(2, 602)])
    for node in range(2, 602):
        record = {"hostname": f"a{node}", "status": "online", "v": 2, "node": node, "inc": 1,
                  "seq": 1, "reason": "r" * 200, "tags": ["t" * 32] * 16}  # fmt: skip
        core.on_record(1.0, node, json.dumps(record).encode())
    watcher = PresenceCore(
        9999, now=0.0, wall=lambda: 1.8e9, rng=random.Random(2),
        config=PresenceConfig(swarm=False, coordinators=("hub",), signed=False),
    )  # fmt: skip
    watcher.start(0.0)
    asks = [effect for _, effect in advance(watcher, 1.5) if isinstance(effect, Message)]
    rounds = now = 0
    while asks:
        rounds += 1
        now = 2 + rounds
        answers = [
            effect
            for effect in core.on_message(float(now), 9999, asks[0].document)
            if isinstance(effect, Message)
        ]
        assert answers and len(answers) <= 8
        for answer in answers:
            assert answer.target == 9999
            text = json.dumps(answer.document)
            assert len(text) < 64 * 1024
            watcher.on_message(float(now), 1, json.loads(text))
        asks = [effect for _, effect in advance(watcher, now + 0.5) if isinstance(effect, Message)]
    assert rounds == 3
    assert watcher.stats(10.0)["agents"] == 601 + 1
    assert watcher.get(10.0, "a300")["status"] == "online"
    # Nobody else may tell it anything, nor the coordinator without being asked.
    forged = {**answers[-1].document, "version": 10**6, "x": 12345}
    watcher.on_message(10.0, 1, forged)
    watcher.on_message(10.0, 666, {**forged, "x": answers[-1].document["x"]})
    assert watcher.stats(10.0)["counters"]["uninvited"] == 2


def test_messages_that_make_no_sense_are_counted() -> None:
    core = core_of(config={"serve": True})
    core.start(0.0)
    for document in ({}, {"type": "presence_new"}, {"type": ["x"]}):
        core.on_message(1.0, 2, document)
    assert core.stats(1.0)["counters"]["unknown_messages"] == 3
    for document in ({"type": "presence_watch"}, {"type": "presence_delta", "x": "1"}):
        core.on_message(1.0, 2, document)
    assert core.stats(1.0)["counters"]["malformed"] == 2


def test_a_watcher_that_asks_too_often_is_not_answered() -> None:
    core = core_of(config={"serve": True})
    core.start(0.0)
    ask = {"type": "presence_watch", "v": 1, "x": 1, "epoch": "", "version": 0}
    answers = [bool(core.on_message(1.0, 2, ask)) for _ in range(50)]
    assert sum(answers) == 20
    assert core.stats(1.0)["counters"]["asks_refused"] == 30
    core.message_failed(2.0, 2)
    assert core.stats(2.0)["watchers"] == 0


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, the core stands, and stays within its bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.offset = 1.8e9
        self.core = PresenceCore(
            1, now=0.0, wall=lambda: self.offset + self.now, rng=random.Random(1),
            config=PresenceConfig(serve=True, coordinators=("hub",), most=6, verifying=2),
            hostname="me",
        )  # fmt: skip
        self.tokens: list[int] = []
        self.take(self.core.start(0.0))
        names = [{"node_id": node, "hostname": f"a{node}"} for node in range(2, 6)]
        self.take(self.core.peers_changed(0.0, names))

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            token = getattr(effect, "token", None)
            if token is not None:
                self.tokens = [*self.tokens[-20:], token]
            if isinstance(effect, Change):
                json.dumps(effect.data)

    @rule(seconds=st.sampled_from((0.01, 0.3, 1.0, 5.0, 41.0)))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := self.core.deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self.take(self.core.on_timer(self.now))
        self.now = until

    @rule(seconds=st.sampled_from((30.0, 4000.0)))
    def stand_still(self, seconds: float) -> None:
        self.now += seconds

    @rule(by=st.sampled_from((-3600.0, 3600.0)))
    def set_clock(self, by: float) -> None:
        self.offset += by

    @rule(node=st.integers(2, 9), status=statuses, modern=st.booleans(), seq=st.integers(0, 5))
    def record(self, node: int, status: str, modern: bool, seq: int) -> None:
        record: dict[str, Any] = {"hostname": f"a{node}", "status": status}
        if modern:
            record |= {"v": 2, "node": node, "inc": 1 + seq // 3, "seq": seq, "tags": ["gpu"]}
        self.take(self.core.on_record(self.now, node, json.dumps(record).encode()))

    @rule(data=st.data(), ok=st.sampled_from((True, False, None)))
    def answer(self, data: st.DataObject, ok: bool | None) -> None:
        if self.tokens:
            token = data.draw(st.sampled_from(self.tokens))
            self.take(self.core.pinged(self.now, token, bool(ok)))
            self.take(self.core.verified(self.now, token, ok))
            self.take(self.core.signed(self.now, token, bytes(64) if ok else None))

    @rule(node=st.integers(2, 9))
    def hear(self, node: int) -> None:
        self.take(self.core.alive(self.now, node))

    @rule(node=st.integers(2, 9))
    def doubt(self, node: int) -> None:
        self.take(self.core.hint(self.now, node))
        self.take(self.core.excuse(self.now, node))

    @rule(status=statuses, duration=st.none() | st.just(20.0))
    def say(self, status: str, duration: float | None) -> None:
        self.take(self.core.set_intent(self.now, status, duration=duration))

    @rule(ok=st.booleans())
    def outcome(self, ok: bool) -> None:
        self.take(self.core.published(self.now, "hub", ok))
        if not ok:
            self.take(self.core.message_failed(self.now, "hub"))

    @rule()
    def watch(self) -> None:
        ask = {"type": "presence_watch", "v": 1, "x": 1, "epoch": "", "version": 0}
        self.take(self.core.on_message(self.now, 3, ask))

    @invariant()
    def holds(self) -> None:
        stats = self.core.stats(self.now)
        assert stats["agents"] <= 6 and stats["verifying"] <= 2
        assert sum(stats["status"].values()) == stats["agents"]
        due = self.core.deadline()
        assert due is not None
        for agent in self.core.find(self.now, Query(limit=10)).agents:
            assert agent["status"] == "online" and agent["verified"] and not agent["flapping"]
            assert agent["node"] != 1
        for agent in self.core.agents(self.now, everybody=True):
            assert agent["last_seen"] >= 0 and agent["since"] >= 0
            if agent["verified"]:
                explained = self.core.explain(self.now, agent["node"])
                assert len(json.dumps(explained)) < 8000
                assert self.core.history(self.now, agent["node"])
        PresenceCore(
            2, now=0.0, wall=lambda: 0.0, rng=random.Random(1),
            restored=self.core.snapshot(self.now),
        ).start(0.0)  # fmt: skip


AnyOrder.TestCase.settings = settings(deadline=None, max_examples=30, stateful_step_count=40)
TestAnyOrder = AnyOrder.TestCase


def test_pings_have_a_time_to_answer() -> None:
    core = core_of()
    core.start(0.0)
    core.peers_changed(0.0, [{"node_id": 2, "hostname": "bob"}])
    core.on_record(1.0, 2, b'{"hostname":"bob","status":"online"}')
    pings = [effect for effect in core.hint(2.0, 2) if isinstance(effect, Ping)]
    assert [(ping.node_id, ping.timeout) for ping in pings] == [(2, 2.0)]
    core.pinged(3.0, pings[0].token, True)
    assert core.get(3.0, 2)["confidence"] == "direct"
    assert core.stats(3.0)["verifying"] == 0
