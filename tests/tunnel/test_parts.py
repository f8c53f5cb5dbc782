"""The small parts: endpoints, queues, buckets, identities, the lifecycle."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from automat._core import NoTransition
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from pilot.errors import RegistryUnavailable
from pilot.tunnel.config import TunnelConfig
from pilot.tunnel.endpoints import (
    format_endpoint,
    is_loopback,
    is_private,
    is_reachable,
    lan_addresses,
    lan_match,
    parse_endpoint,
    registered_address,
)
from pilot.tunnel.identities import IdentityCache
from pilot.tunnel.lifecycle import lifecycle_machine
from pilot.tunnel.limits import Incidents, TokenBucket
from pilot.tunnel.queues import SendQueues
from tests.golden import golden

BEACON = golden("beacon")

# -- endpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BEACON["lan_match"], ids=str)
def test_neighbours(case: dict[str, Any]) -> None:
    assert lan_match(case["ours"], case["theirs"]) == case["match"]


@pytest.mark.parametrize("case", BEACON["private_check"], ids=str)
def test_private_addresses(case: dict[str, Any]) -> None:
    assert is_private(case["address"]) is case["treated_as_private"]


@pytest.mark.parametrize("case", BEACON["local_address_substitution"], ids=str)
def test_what_is_registered_instead(case: dict[str, str]) -> None:
    assert registered_address(case["listen"]) == case["registered_as"]


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.0.2.1:4000", ("192.0.2.1", 4000)),
        ("[2001:db8::1]:5", ("2001:db8::1", 5)),
        ("[::ffff:192.0.2.1]:5", ("192.0.2.1", 5)),
        ("2001:db8::1:5", None),
        ("192.0.2.1", None),
        ("192.0.2.1:0", None),
        ("192.0.2.1:65536", None),
        ("192.0.2.1:-1", None),
        ("192.0.2.1:1_0", None),
        ("192.0.2.1:99999999999999999999", None),
        ("192.0.2.01:5", None),
        ("[192.0.2.1:5", None),
        ("host.example:5", None),
        (":5", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_endpoints(text: object, endpoint: tuple[str, int] | None) -> None:
    assert parse_endpoint(text) == endpoint
    if endpoint is not None and "ffff" not in str(text):
        assert format_endpoint(endpoint) == text


@given(st.text(max_size=40))
def test_any_text_is_an_endpoint_or_none(text: str) -> None:
    parse_endpoint(text)
    is_private(text)
    registered_address(text)
    assert lan_match(["10.0.0.1:5"], [text]) in ("", text)


def test_own_addresses() -> None:
    """Whatever interfaces this machine has, they are given as private IPv4 endpoints."""
    for endpoint in lan_addresses(4000):
        assert is_private(endpoint) and endpoint.endswith(":4000")
        parsed = parse_endpoint(endpoint)
        assert parsed is not None and not is_loopback(parsed)


def test_where_nobody_can_be() -> None:
    assert is_reachable(("192.0.2.1", 5)) and is_reachable(("2001:db8::1", 5))
    for host in ("0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "name"):
        assert not is_reachable((host, 5))
    assert is_loopback(("127.9.9.9", 1)) and is_loopback(("::1", 1))
    assert not is_loopback(("128.0.0.1", 1))


# -- queues and buckets ------------------------------------------------------------------------


def test_queues_keep_order_age_and_bounds() -> None:
    counters: Counter[str] = Counter()
    queues = SendQueues(TunnelConfig(queue_packets=3, queue_peers=2, queue_age=5.0), counters)
    assert queues.put(1, [b"a", b"b"], 0.0)
    assert queues.put(1, [b"c", b"d"], 4.0)
    assert queues.put(2, [b"x"], 4.0)
    assert not queues.put(3, [b"y"], 4.0)
    assert (len(queues), 1 in queues, 3 in queues) == (2, True, False)
    assert queues.take(1, 5.5) == [b"c", b"d"]
    assert queues.take(1, 5.5) == []
    assert counters == {"queue_dropped": 1, "queue_refused": 1, "queue_stale": 1}


def test_stale_queues_make_room() -> None:
    counters: Counter[str] = Counter()
    queues = SendQueues(TunnelConfig(queue_peers=2, queue_age=5.0), counters)
    queues.put(1, [b"a"], 0.0)
    queues.put(2, [b"b"], 3.0)
    assert queues.put(3, [b"c"], 6.0)
    assert len(queues) == 2
    assert counters["queue_stale"] == 1


def test_a_bucket_refills() -> None:
    bucket = TokenBucket(2.0, 0.0, capacity=3.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(0.5) and not bucket.take(0.6)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_incidents_are_logged_once_and_then_summed_up() -> None:
    clock, said = Clock(), []
    log = Logger(observer=said.append)
    incidents = Incidents(clock, log)
    for _ in range(10):
        incidents.note("flood", "too much from {who}", who="{braces}")
    incidents.note("other", "something else")
    clock.advance(61)
    incidents.note("flood", "too much from {who}", who="you")
    assert [(event["kind"], event["left_out"]) for event in said] == [
        ("flood", 0),
        ("other", 0),
        ("flood", 9),
    ]


# -- identities --------------------------------------------------------------------------------


class Registry:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Deferred[bytes | None]]] = []

    def identity_key(self, node_id: int) -> Deferred[bytes | None]:
        """Have a question wait."""
        answer: Deferred[bytes | None] = Deferred()
        self.asked.append((node_id, answer))
        return answer

    def answer(self, key: bytes | None) -> None:
        """Answer the last question."""
        self.asked[-1][1].callback(key)


class Identities:
    """A cache, its clock, its registry, and what came of the questions."""

    def __init__(self, **limits: Any) -> None:
        self.clock, self.registry = Clock(), Registry()
        self.counters: Counter[str] = Counter()
        config = TunnelConfig(**limits)
        self.cache = IdentityCache(self.clock, self.registry, config, self.counters)
        self.got: list[bytes | None] = []

    def ask(self, node_id: int, offered: bytes | None = None, *, urgent: bool = False) -> None:
        """Ask, and keep the answer."""
        self.cache.ask(node_id, offered, self.got.append, urgent=urgent)


def test_a_key_is_asked_for_once() -> None:
    world = Identities()
    world.ask(1, b"key")
    assert world.got == []
    world.registry.answer(b"key")
    world.ask(1, b"key")
    assert world.got == [b"key", b"key"]
    assert len(world.registry.asked) == 1


def test_the_last_question_during_a_lookup_counts() -> None:
    world = Identities()
    for _ in range(3):
        world.ask(1, b"key")
    world.registry.answer(b"key")
    assert world.got == [b"key"]
    assert world.counters["lookups_superseded"] == 2


def test_a_lookup_has_a_deadline() -> None:
    world = Identities()
    world.ask(1)
    world.clock.advance(5.0)
    assert world.got == [None]
    world.ask(1)
    assert world.got == [None, None], "not asked again at once"
    world.clock.advance(2.0)
    world.ask(1)
    assert len(world.registry.asked) == 2
    world.cache.close()


def test_no_key_is_remembered_for_a_while_unless_it_is_urgent() -> None:
    world = Identities()
    world.ask(1)
    world.registry.answer(None)
    world.ask(1)
    assert len(world.registry.asked) == 1
    world.ask(1, urgent=True)
    assert len(world.registry.asked) == 2
    world.registry.answer(b"registered meanwhile")
    assert world.got == [None, None, b"registered meanwhile"]


def test_another_key_is_looked_up_but_not_at_every_claim() -> None:
    world = Identities()
    world.ask(1, b"old")
    world.registry.answer(b"old")
    world.ask(1, b"claimed")
    assert world.got == [b"old", b"old"], "too soon to ask again"
    world.clock.advance(10.0)
    world.ask(1, b"claimed")
    world.registry.answer(b"new")
    assert world.got[-1] == b"new"
    assert len(world.registry.asked) == 2


def test_an_old_key_is_refreshed_and_serves_meanwhile() -> None:
    world = Identities()
    world.ask(1, b"key")
    world.registry.answer(b"key")
    world.clock.advance(601.0)
    world.ask(1, b"key")
    assert world.got == [b"key", b"key"]
    assert len(world.registry.asked) == 2
    world.registry.asked[-1][1].errback(RegistryUnavailable("away"))
    world.ask(1, b"key")
    assert world.got[-1] == b"key", "better than none"


def test_lookups_are_bounded_but_for_our_own() -> None:
    world = Identities(lookups=2)
    for node_id in range(5):
        world.ask(node_id)
    assert len(world.registry.asked) == 2
    assert world.counters["lookups_refused"] == 3
    world.ask(9, urgent=True)
    assert len(world.registry.asked) == 3
    world.cache.close()
    assert world.got == []


def test_memory_is_bounded() -> None:
    world = Identities(identities=3)
    for node_id in range(10):
        world.ask(node_id)
        world.registry.answer(b"key")
    assert len(world.cache._known) == 3
    world.cache.forget(9)
    world.ask(9)
    assert len(world.registry.asked) == 11
    world.cache.close()


# -- the lifecycle -----------------------------------------------------------------------------

SESSION = object()


class Recorder:
    """Does nothing, and remembers what it was asked to do."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.done.append(name)


INPUTS: dict[str, tuple[Any, ...]] = {
    "wanted": (),
    "offered": (SESSION,),
    "confirmed": (SESSION,),
    "aged": (),
    "missed": (),
    "exhausted": (),
}

ROADS: dict[str, list[str]] = {
    "unknown": [],
    "keying": ["wanted"],
    "established": ["wanted", "offered"],
    "rekeying": ["wanted", "offered", "aged"],
    "lost": ["wanted", "offered", "missed"],
}

# state, input: next state, what is done
STEPS: dict[tuple[str, str], tuple[str, list[str]]] = {
    ("unknown", "wanted"): ("keying", ["call"]),
    ("unknown", "offered"): ("established", ["adopt"]),
    ("unknown", "aged"): ("unknown", []),
    ("unknown", "missed"): ("unknown", []),
    ("unknown", "exhausted"): ("unknown", []),
    ("keying", "wanted"): ("keying", ["hurry"]),
    ("keying", "offered"): ("established", ["adopt"]),
    ("keying", "aged"): ("keying", []),
    ("keying", "missed"): ("keying", []),
    ("keying", "exhausted"): ("lost", ["give_up"]),
    ("established", "wanted"): ("established", []),
    ("established", "offered"): ("rekeying", ["try_out"]),
    ("established", "confirmed"): ("established", ["promote"]),
    ("established", "aged"): ("rekeying", ["renew"]),
    ("established", "missed"): ("lost", ["search"]),
    ("established", "exhausted"): ("established", []),
    ("rekeying", "wanted"): ("rekeying", []),
    ("rekeying", "offered"): ("rekeying", ["try_out"]),
    ("rekeying", "confirmed"): ("established", ["promote"]),
    ("rekeying", "aged"): ("rekeying", []),
    ("rekeying", "missed"): ("rekeying", []),
    ("rekeying", "exhausted"): ("established", ["withdraw"]),
    ("lost", "wanted"): ("lost", ["search", "hurry"]),
    ("lost", "offered"): ("established", ["adopt"]),
    ("lost", "confirmed"): ("established", ["promote"]),
    ("lost", "aged"): ("lost", []),
    ("lost", "missed"): ("lost", ["search"]),
    ("lost", "exhausted"): ("lost", ["give_up"]),
}


@pytest.mark.parametrize("state", sorted(ROADS))
@pytest.mark.parametrize("happening", sorted(INPUTS))
def test_every_step_of_the_lifecycle(state: str, happening: str) -> None:
    """All that may happen in each state; a session cannot be confirmed where there is none."""
    recorder = Recorder()
    life = lifecycle_machine(recorder)
    for step in ROADS[state]:
        getattr(life, step)(*INPUTS[step])
    assert life.state_name() == state
    recorder.done.clear()
    if (state, happening) not in STEPS:
        with pytest.raises(NoTransition):
            getattr(life, happening)(*INPUTS[happening])
        return
    getattr(life, happening)(*INPUTS[happening])
    assert (life.state_name(), recorder.done) == STEPS[state, happening]
