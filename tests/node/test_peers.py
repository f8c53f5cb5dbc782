"""What is known of trusted peers: answered at once, refreshed at a modest pace."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pilot.errors import RegistryError
from pilot.node.directory import PeerDirectory
from pilot.node.peers import LOOKUP_RATE, LOOKUPS_AT_ONCE, KnownPeers

KEY = "A" * 43 + "="


class Registry:
    """Answers look-ups after a while, and counts those under way."""

    def __init__(self, clock: Clock, delay: float = 0.0) -> None:
        self.clock, self.delay = clock, delay
        self.asked: list[tuple[float, int]] = []
        self.under_way = self.most = 0
        self.unknown: set[int] = set()

    def lookup(self, node_id: int) -> Deferred[dict[str, Any]]:
        self.asked.append((self.clock.seconds(), node_id))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        done: Deferred[dict[str, Any]] = Deferred()

        def answer() -> None:
            self.under_way -= 1
            if node_id in self.unknown:
                done.errback(RegistryError(f"node {node_id}: node not found"))
            else:
                done.callback({"public_key": KEY, "hostname": f"n{node_id}", "tags": ["t"]})

        if self.delay:
            self.clock.callLater(self.delay, answer)
        else:
            answer()
        return done


class Office:
    def __init__(self, count: int, delay: float = 0.0) -> None:
        self.clock = Clock()
        self.registry = Registry(self.clock, delay)
        registry: Any = self.registry
        self.directory = PeerDirectory(self.clock, registry)
        self.trusted = [{"node_id": n, "public_key": KEY} for n in range(1, count + 1)]
        self.known = KnownPeers(self.clock, self.directory, lambda: self.trusted)

    def ask(self, **how: bool) -> list[list[dict[str, Any]]]:
        """@return: a list that will hold the answer."""
        answers: list[list[dict[str, Any]]] = []
        self.known.peers(**how).addCallback(answers.append)
        return answers


def test_a_first_answer_waits_a_moment() -> None:
    """For all when they are few, for a second when they are many or the registry is slow."""
    few = Office(3, delay=0.05)
    answers = few.ask()
    assert not answers
    few.clock.pump([0.05] * 4)
    assert [each["hostname"] for each in answers[0]] == ["n1", "n2", "n3"]
    slow = Office(3, delay=30)
    answers = slow.ask()
    slow.clock.advance(1.0)
    assert [each["hostname"] for each in answers[0]] == ["", "", ""]
    assert answers[0][0]["public_key"] == KEY
    slow.known.close()


def test_a_thousand_peers_are_no_storm() -> None:
    """The registry is asked evenly, and nothing gets older than a minute while somebody asks."""
    office = Office(1000, delay=0.1)
    for second in range(400):
        if second % 5 == 0:
            answers = office.ask()
        office.clock.pump([0.05] * 20)
        assert answers or second % 5 == 0
        if second > 60:
            ages = [office.directory.age(n) for n in range(1, 1001)]
            assert max(1e9 if age is None else age for age in ages) <= 60.0
    times = [when for when, _ in office.registry.asked]
    assert office.registry.most <= LOOKUPS_AT_ONCE
    for start in range(0, 390, 10):
        within = sum(start <= when < start + 10 for when in times)
        assert within <= 10 * LOOKUP_RATE + LOOKUPS_AT_ONCE
    office.known.close()
    office.clock.advance(1)
    assert not office.clock.getDelayedCalls()


def test_nobody_asks_nobody_looks() -> None:
    """Ten peers cost nothing while nobody wants to know, and little while somebody does."""
    office = Office(10)
    office.ask()
    office.clock.pump([1.0] * 120)
    assert len(office.registry.asked) == 10
    office.ask()
    office.clock.pump([1.0] * 2)
    assert len(office.registry.asked) == 20
    for _ in range(60):
        office.ask()
        office.clock.advance(0.5)
    assert len(office.registry.asked) == 20


def test_who_is_not_known_is_not_asked_about_again_and_again() -> None:
    office = Office(2)
    office.registry.unknown = {2}
    for _ in range(100):
        assert [each["tags"] for each in office.ask()[0]] == [["t"], []]
        office.clock.advance(0.1)
    assert len(office.registry.asked) == 2


def test_a_single_question_can_have_it_fresh() -> None:
    """Five seconds old is fresh enough; older than that is waited for."""
    office = Office(2)
    office.ask()
    office.clock.advance(3)
    office.ask(fresh=True)
    assert len(office.registry.asked) == 2
    office.clock.advance(3)
    assert office.ask(fresh=True)
    assert len(office.registry.asked) == 4


def test_the_end_leaves_nobody_waiting() -> None:
    office = Office(9, delay=30)
    answers = office.ask()
    office.clock.advance(0.2)
    office.known.close()
    assert len(answers) == 1
    office.clock.advance(60)
    assert not office.clock.getDelayedCalls()
    assert len(office.registry.asked) <= LOOKUPS_AT_ONCE
