"""Keys of authors: who is asked for them, how often, and who waits."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from pilot.errors import NotFound
from skills.gossip.core.register import FLAG_SIGNED, Register
from skills.gossip.shell.proofs import KEY_LIFE, LOOKUPS, UNKNOWN_LIFE, WAITING, Proofs

TIME, SIGNATURE = "0190a1b2c3d40001", "A" * 86 + "=="


class Registry:
    """Answers for keys when the test says so."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.open: list[Deferred[bytes]] = []

    def public_key(self, node_id: int) -> Deferred[bytes]:
        answer: Deferred[bytes] = Deferred()
        self.asked.append(node_id)
        self.open.append(answer)
        return answer

    def refuse_all(self) -> None:
        while self.open:
            self.open.pop(0).errback(NotFound("no such node"))


class Desk:
    def __init__(self) -> None:
        self.now = 0.0
        self.registry = Registry()
        node: Any = self.registry
        self.proofs = Proofs(node, lambda: self.now)
        self.results: list[bool] = []

    def check(self, author: int) -> None:
        register = Register(f"@{author}/x", 1, TIME, author, FLAG_SIGNED, SIGNATURE)
        holds = self.proofs.holds("s", register)
        Deferred.fromCoroutine(holds).addCallback(self.results.append)


def test_invented_authors_cause_no_storm_of_questions() -> None:
    desk = Desk()
    for author in range(1, 1001):
        desk.check(author)
    assert len(desk.registry.asked) == LOOKUPS
    assert desk.results == [False] * (1000 - WAITING)
    desk.registry.refuse_all()
    assert len(desk.registry.asked) == WAITING and len(desk.results) == 1000
    assert desk.proofs.unknown == 1000


def test_an_author_without_a_key_is_asked_for_once_in_a_while() -> None:
    desk = Desk()
    for _ in range(50):
        desk.check(7)
    assert desk.registry.asked == [7]
    desk.registry.refuse_all()
    desk.check(7)
    assert desk.registry.asked == [7] and desk.results == [False] * 51
    desk.now = UNKNOWN_LIFE
    desk.check(7)
    assert desk.registry.asked == [7, 7]


def test_a_key_is_used_for_a_while() -> None:
    desk = Desk()
    for _ in range(3):
        desk.check(7)
    desk.registry.open.pop().callback(b"k" * 32)
    desk.check(7)
    assert desk.registry.asked == [7]
    assert desk.proofs.checked == 4 and desk.proofs.unknown == 0
    desk.now = KEY_LIFE
    desk.check(7)
    assert desk.registry.asked == [7, 7]
