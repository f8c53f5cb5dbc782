"""Presence at its edges: what memory it takes, what starts a look, and ourselves among others."""

from __future__ import annotations

import gc
import json
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import fail

from pilot.errors import PilotError
from skills.presence.core.config import PresenceConfig
from skills.presence.core.effects import Datagram, Ping
from skills.presence.core.finding import Query
from skills.presence.core.presence import PresenceCore
from skills.presence.detection.messages import ProbeRequest
from tests.skills.presence.test_detector import ME, Bench
from tests.skills.presence.village import Village


def test_memory_for_ten_thousand_agents_stays_below_100_megabytes() -> None:
    """Each with nearly the largest record and a full history; everything that exists counts."""
    core = PresenceCore(
        1,
        now=0.0,
        wall=lambda: 1.8e9,
        rng=random.Random(2),
        config=PresenceConfig(serve=True, swarm=False, signed=False),
    )
    core.start(0.0)
    nodes = range(2, 32)
    core.peers_changed(0.0, [{"node_id": node, "hostname": f"a{node}"} for node in nodes])
    tracemalloc.start()
    try:
        for sequence in range(1, 105):
            for node in nodes:
                status = "busy" if sequence % 2 else "online"
                core.on_record(float(sequence), node, _record(node, sequence, status))
            core.on_timer(float(sequence))
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    (shown,) = core.find(105.0, Query(tags=("rack-2",))).agents
    assert len(core.history(105.0, shown["hostname"])) == 100
    assert taken / len(nodes) < 10_000


def _record(node: int, sequence: int, status: str) -> bytes:
    document = {
        "hostname": f"a{node}", "status": status, "v": 2, "node": node, "inc": 1, "seq": sequence,
        "load": node % 100, "slots": 3, "tags": [f"rack-{node}", *(f"can-{n}" for n in range(15))],
        "reason": "x" * 180,
    }  # fmt: skip
    return json.dumps(document).encode()


def test_three_others_are_asked_once_a_probe_is_late() -> None:
    bench = Bench(8)
    bench.silent.add(4)
    while not bench.sent(ProbeRequest):
        bench.run(0.05)
    bench.run(0.05)
    asked = bench.sent(ProbeRequest)
    assert len({peer for peer, _ in asked}) == 3 and {message.of for _, message in asked} == {4}
    assert ME not in {peer for peer, _ in asked} and 4 not in {peer for peer, _ in asked}


def test_a_node_among_its_own_peers_does_not_talk_to_itself() -> None:
    """Lists of peers, tags and directories may all name it."""
    core = PresenceCore(
        7,
        now=0.0,
        wall=lambda: 1.8e9,
        rng=random.Random(1),
        config=PresenceConfig(signed=False),
        hostname="me",
    )
    effects = core.start(0.0)
    effects += core.peers_changed(
        0.0, [{"node_id": node, "hostname": f"a{node}"} for node in (6, 7, 8)]
    )
    effects += core.on_record(1.0, 7, json.dumps({"hostname": "me", "status": "away"}).encode())
    effects += core.hint(1.0, 7)
    while (due := core.deadline()) is not None and due < 120.0:
        effects += core.on_timer(due)
    reached = {effect.peer for effect in effects if isinstance(effect, Datagram)}
    assert reached == {6, 8}
    assert 7 not in {effect.node_id for effect in effects if isinstance(effect, Ping)}
    assert core.get(120.0, "me")["status"] == "online"


@pytest.fixture
def village(tmp_path: Path) -> Iterator[Village]:
    village = Village(tmp_path)
    yield village
    village.close()


def test_a_message_that_does_not_arrive_starts_a_look_and_no_more(
    village: Village, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed connection is a hint: the one it led to is pinged at once, and answers."""
    service = village.open("bob", serve=True)
    village.open("alice", coordinator=["bob"])
    village.until(lambda: village.status("alice", "bob") == "online")
    engine: Any = service.engine
    hints: list[int] = []
    plain = engine.core.hint

    def hint(now: float, node: int) -> Any:
        hints.append(node)
        return plain(now, node)

    monkeypatch.setattr(engine.core, "hint", hint)
    monkeypatch.setattr(
        service.node, "send_message", lambda *args: fail(PilotError("connection reset"))
    )
    village.call("bob", "set", status="busy")
    village.until(lambda: hints)
    alice: Any = village.houses["alice"].node.address
    assert hints[0] == alice.node
    village.run(5.0)
    assert village.status("bob", "alice") == "online"
