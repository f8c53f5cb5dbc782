"""Verify before offline: when who is asked, and what ends it."""

from __future__ import annotations

import random
from typing import Any

from skills.presence.core.agenda import Agenda
from skills.presence.core.verifying import Verifier


class Bench:
    """A verifier with its questions noted."""

    def __init__(self, most: int = 10, helpers: tuple[int, ...] = (7, 8, 9)) -> None:
        self.agenda = Agenda()
        self.now = 0.0
        self.asked: list[tuple[float, str, int, int]] = []
        self.verdicts: list[tuple[float, int, dict[str, Any]]] = []
        self._token = 0
        self.verifier = Verifier(
            self.agenda,
            most,
            next_token=self._next,
            ping=lambda token, node: self.asked.append((self.now, "ping", token, node)),
            helpers=lambda node: list(helpers),
            ask=lambda helper, token, node: self.asked.append((self.now, "ask", token, helper)),
            verdict=lambda now, node, evidence: self.verdicts.append((now, node, evidence)),
        )

    def _next(self) -> int:
        self._token += 1
        return self._token

    def run(self, until: float) -> None:
        while (due := self.agenda.due()) is not None and due <= until:
            self.now = due
            self.agenda.run(due)
        self.now = until


def test_two_rounds_of_two_pings_and_three_others() -> None:
    bench = Bench()
    bench.verifier.begin(0.0, 5)
    bench.run(20.0)
    assert [(at, kind) for at, kind, _, _ in bench.asked] == [
        (0.0, "ping"), (1.0, "ping"), (2.0, "ask"), (2.0, "ask"), (2.0, "ask"),
        (9.5, "ping"), (10.5, "ping"), (11.5, "ask"), (11.5, "ask"), (11.5, "ask"),
    ]  # fmt: skip
    (verdict,) = bench.verdicts
    assert verdict[:2] == (14.0, 5)
    assert verdict[2] == {"pings": 4, "asked": [7, 8, 9], "confirmed": 0, "took": 14.0}
    assert len(bench.verifier) == 0


def test_evidence_ends_it_whenever_it_comes() -> None:
    for at in (0.5, 2.5, 6.0, 13.9):
        bench = Bench()
        bench.verifier.begin(0.0, 5)
        bench.run(at)
        bench.verifier.settle(at, 5)
        bench.run(60.0)
        assert bench.verdicts == [] and len(bench.verifier) == 0
        assert all(when <= at for when, *_ in bench.asked)


def test_a_second_begin_changes_nothing_and_a_new_case_is_not_mixed_up_with_the_old() -> None:
    bench = Bench()
    bench.verifier.begin(0.0, 5)
    bench.verifier.begin(0.5, 5)
    bench.run(1.5)
    bench.verifier.settle(1.5, 5)
    bench.verifier.begin(1.6, 5)
    bench.run(30.0)
    assert [verdict[:2] for verdict in bench.verdicts] == [(1.6 + 14.0, 5)]
    assert sum(1 for _, kind, _, _ in bench.asked if kind == "ping") == 2 + 4


def test_the_answers_of_those_asked_are_told_apart() -> None:
    bench = Bench()
    bench.verifier.begin(0.0, 5)
    bench.run(2.0)
    token = next(token for _, kind, token, helper in bench.asked if helper == 8)
    assert bench.verifier.whose(token) == 5
    assert bench.verifier.asked(token, 5, 8)
    assert not bench.verifier.asked(token, 5, 3)  # nobody asked it
    assert not bench.verifier.asked(token, 6, 8)
    assert not bench.verifier.asked(token + 1000, 5, 8)
    bench.verifier.unable(token)
    bench.verifier.unable(99999)
    bench.run(20.0)
    assert bench.verdicts[0][2]["confirmed"] == 1
    assert bench.verifier.whose(token) is None


def test_more_than_allowed_wait_for_their_turn() -> None:
    bench = Bench(most=2)
    for node in range(1, 7):
        bench.verifier.begin(0.0, node)
    assert (len(bench.verifier), bench.verifier.waiting) == (2, 4)
    bench.verifier.settle(0.0, 6)
    bench.run(100.0)
    assert [verdict[:2] for verdict in bench.verdicts] == [
        (14.0, 1), (14.0, 2), (28.0, 3), (28.0, 4), (42.0, 5),
    ]  # fmt: skip


def test_forgetting_leaves_nothing_behind() -> None:
    bench = Bench(most=1)
    bench.verifier.begin(0.0, 1)
    bench.verifier.begin(0.0, 2)
    bench.verifier.forget()
    bench.run(60.0)
    assert bench.verdicts == [] and len(bench.asked) == 1
    bench.verifier.begin(60.0, 1)
    bench.run(100.0)
    assert [verdict[:2] for verdict in bench.verdicts] == [(74.0, 1)]


def false_alarms_an_hour(loss: float, rng: random.Random, lates: int) -> float:
    """
    How often a living agent is given up: a beat is lost, and so is every question about it and
    the beat that comes meanwhile.
    """
    failed = 0
    for _ in range(lates):
        bench = Bench(helpers=())
        bench.verifier.begin(0.0, 5)
        bench.run(14.0)
        rounds = sum(1 for _, kind, _, _ in bench.asked if kind == "ping")
        pings = all(rng.random() < loss for _ in range(rounds))
        others = all(rng.random() < 1 - (1 - loss) ** 2 for _ in range(6))
        failed += pings and others
    return failed / lates * 120 * loss


def test_a_tenth_of_all_exchanges_lost_gives_up_fewer_than_one_in_ten_thousand_hours() -> None:
    rng = random.Random(1)
    # 2,000 lates at a tenth, and what six questions by others are worth is known exactly.
    assert false_alarms_an_hour(0.1, rng, 2000) == 0
    assert 120 * 0.1 * 0.1**4 * (1 - 0.9**2) ** 6 < 1e-4
