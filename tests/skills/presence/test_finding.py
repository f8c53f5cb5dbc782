"""Who is available for work."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from skills.presence.core.config import PresenceConfig
from skills.presence.core.effects import Found, Ping
from skills.presence.core.errors import PresenceError
from skills.presence.core.finding import Finder, Query
from skills.presence.core.presence import PresenceCore


def hub(agents: int, **config: Any) -> PresenceCore:
    core = PresenceCore(
        1,
        now=0.0,
        wall=lambda: 1.8e9,
        rng=random.Random(1),
        config=PresenceConfig(swarm=False, signed=False, **config),
        hostname="hub",
    )
    core.start(0.0)
    facts = [{"node_id": node, "hostname": f"a{node}"} for node in range(2, agents + 2)]
    core.peers_changed(0.0, facts)
    return core


def say(core: PresenceCore, now: float, node: int, seq: int = 1, **fields: Any) -> None:
    record = {"hostname": f"a{node}", "status": "online", "v": 2, "node": node, "inc": 1,
              "seq": seq, **fields}  # fmt: skip
    core.on_record(now, node, json.dumps(record).encode())


def names(core: PresenceCore, now: float, **query: Any) -> list[str]:
    return [agent["hostname"] for agent in core.find(now, Query(**query)).agents]


def test_only_those_that_accept_work_match_and_are_there() -> None:
    core = hub(10)
    say(core, 1.0, 2, tags=["gpu", "linux"])
    say(core, 1.0, 3, tags=["gpu"], status="busy", reason="training")
    say(core, 1.0, 4, tags=["gpu"], status="away")
    say(core, 1.0, 5, tags=["gpu"], status="offline")
    say(core, 1.0, 6, tags=["gpu"], slots=0)
    say(core, 1.0, 7, tags=["gpu"], slots=2)
    say(core, 1.0, 8, tags=["linux"])
    assert sorted(names(core, 2.0, tags=("gpu",), limit=9)) == ["a2", "a7"]
    assert names(core, 2.0, tags=("gpu",), limit=9, min_slots=2) == ["a7"]
    assert names(core, 2.0, tags=("gpu", "linux"), limit=9) == ["a2"]
    assert names(core, 60.0, tags=("gpu",), limit=9, max_age=30.0) == []
    assert sorted(names(core, 60.0, tags=("gpu",), limit=9, max_age=59.5)) == ["a2", "a7"]


def test_an_empty_result_has_the_reason_for_each() -> None:
    core = hub(10)
    say(core, 1.0, 2, tags=["gpu"], status="busy", reason="training")
    say(core, 1.0, 3, tags=["gpu"], slots=0)
    say(core, 1.0, 4, tags=["gpu"], slots=1)
    say(core, 1.0, 5)
    core.on_record(1.0, 6, b'{"hostname":"elsewhere","status":"online"}')
    result = core.find(2.0, Query(tags=("gpu",), min_slots=2))
    assert result.agents == [] and result.known == 5
    reasons = {each["hostname"]: each["reason"] for each in result.excluded}
    assert reasons["a2"] == "it is busy: training"
    assert reasons["a3"] == "it has no free slot"
    assert reasons["a4"] == "it has 1 free slots of 2"
    assert reasons["a5"] == "it has no tag gpu"
    assert reasons["elsewhere"].startswith("unverified")
    assert "hub" not in reasons
    reasons = {
        each["hostname"]: each["reason"] for each in core.find(101.0, Query(tags=("gpu",))).excluded
    }
    assert reasons["a4"] == "its last sign of life is 100 s old, more than 75 s"


def test_the_least_loaded_first_by_chance_among_the_two_best() -> None:
    core = hub(5)
    for node, load in ((2, 10), (3, 12), (4, 60), (5, 90)):
        say(core, 1.0, node, load=load)
    chosen = Counter(names(core, 2.0)[0] for _ in range(400))
    assert set(chosen) == {"a2", "a3"}
    assert 140 < chosen["a2"] < 260
    orders = {tuple(names(core, 2.0, limit=4)) for _ in range(200)}
    assert all(order.index("a5") >= 2 for order in orders)


def test_equals_share_the_work() -> None:
    core = hub(40)
    for node in range(2, 42):
        say(core, 1.0, node)
    chosen = Counter(names(core, 2.0)[0] for _ in range(2000))
    assert len(chosen) == 40 and max(chosen.values()) < 120


def test_soft_claims_spread_a_burst_for_five_seconds() -> None:
    core = hub(10)
    for node in range(2, 12):
        say(core, 1.0, node, load=node)
    burst = [names(core, 2.0, pick=True)[0] for _ in range(10)]
    assert len(set(burst)) == 10
    assert len(names(core, 2.0, pick=True)) == 1  # all are claimed: better one of them than none
    assert names(core, 8.0)[0] in ("a2", "a3")


def test_an_agent_with_slots_takes_as_many_claims() -> None:
    core = hub(3)
    say(core, 1.0, 2, slots=3, load=0)
    say(core, 1.0, 3, slots=1, load=90)
    burst = Counter(names(core, 2.0, pick=True)[0] for _ in range(4))
    assert burst == {"a2": 3, "a3": 1}


@pytest.mark.parametrize(
    "query",
    [
        Query(limit=0), Query(limit=1001), Query(min_slots=-1), Query(max_age=0.0),
        Query(max_age=float("nan")), Query(tags=("a",) * 17),
    ],
)  # fmt: skip
def test_a_query_out_of_range_is_refused(query: Query) -> None:
    with pytest.raises(PresenceError):
        hub(1).find(0.0, query)


def test_a_search_pings_and_replaces_who_is_silent() -> None:
    core = hub(5)
    for node, load in ((2, 1), (3, 2), (4, 50)):
        say(core, 1.0, node, load=load)
    token, effects = core.search(2.0, Query(limit=1, pick=True))
    pings = {effect.node_id: effect.token for effect in effects if isinstance(effect, Ping)}
    assert set(pings) == {2, 3, 4}
    results = []
    for node, ok in ((2, False), (3, False), (4, True)):
        results += [
            effect for effect in core.pinged(2.5, pings[node], ok) if isinstance(effect, Found)
        ]
    (found,) = results
    assert found.token == token
    assert [agent["hostname"] for agent in found.result.agents] == ["a4"]
    assert core.stats(2.5)["verifying"] == 2  # the silent ones are looked after


def test_a_search_nobody_answers_says_so() -> None:
    core = hub(5)
    say(core, 1.0, 2)
    _token, _ = core.search(2.0, Query())
    found = [effect for effect in core.on_timer(4.1) if isinstance(effect, Found)]
    assert found[0].result.agents == []
    assert found[0].result.excluded[0]["reason"] == "it does not answer"
    _token, effects = core.search(5.0, Query(tags=("nobody",)))
    assert [effect for effect in effects if isinstance(effect, Found)]


def test_searches_are_bounded() -> None:
    core = hub(2)
    say(core, 1.0, 2)
    for _ in range(256):
        core.search(2.0, Query())
    with pytest.raises(PresenceError):
        core.search(2.0, Query())
    core.on_timer(4.5)
    core.search(4.5, Query())


def test_a_search_looks_at_few_entries_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The index by load and tags does the work: nothing walks the directory."""
    core = hub(3000)
    for node in range(2, 3002):
        say(core, 1.0, node, load=node % 100, tags=["all", f"rack-{node // 30}"])
    looked = []
    suits, objection = Finder._suits, Finder.objection

    def counted(plain: Any) -> Any:
        def counting(self: Finder, now: float, entry: Any, query: Query) -> Any:
            looked.append(entry.node)
            return plain(self, now, entry, query)

        return counting

    monkeypatch.setattr(Finder, "_suits", counted(suits))
    monkeypatch.setattr(Finder, "objection", counted(objection))
    for query, most in (
        (Query(), 2),
        (Query(limit=10), 11),
        (Query(tags=("all",)), 2),
        (Query(tags=("rack-7", "all")), 30),
        (Query(tags=("rack-7", "rack-8")), 100),
        (Query(tags=("nobody",)), 100),
    ):
        looked.clear()
        core.find(2.0, query)
        assert len(looked) <= most, query
