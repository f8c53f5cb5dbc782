"""Who counts as trusted, and the mailboxes in which trust is asked for."""

from __future__ import annotations

import pytest

from pilot.registry.limits import Limits
from pilot.registry.refusal import Refusal
from tests.registry.support import Desk, identity, sign


@pytest.fixture
def desk() -> Desk:
    """Three private nodes."""
    desk = Desk()
    for n in (1, 2, 3):
        desk.register(n)
    return desk


def trusted(desk: Desk, one: int = 1, other: int = 2) -> bool:
    answer = desk.ask({"type": "check_trust", "node_id": one, "peer_id": other})
    assert (
        answer["trusted"]
        == desk.ask({"type": "check_trust", "node_id": other, "peer_id": one})["trusted"]
    )
    assert answer["trusted"] == may_resolve(desk, one, other) == may_resolve(desk, other, one)
    return bool(answer["trusted"])


def may_resolve(desk: Desk, requester: int, target: int) -> bool:
    request = {"type": "resolve", "node_id": target, "requester_id": requester}
    try:
        desk.ask(sign(identity(requester), request))
    except Refusal:
        return False
    return True


def ask(desk: Desk, one: int, other: int) -> None:
    desk.signed(one, "request_handshake", from_node_id=one, to_node_id=other, justification="hi")


def report(desk: Desk, one: int, other: int) -> None:
    desk.signed(one, "report_trust", node_id=one, peer_id=other)


def respond(desk: Desk, one: int, other: int, accept: bool = True) -> None:
    desk.signed(one, "respond_handshake", node_id=one, peer_id=other, accept=accept)


def revoke(desk: Desk, one: int, other: int) -> None:
    desk.signed(one, "revoke_trust", node_id=one, peer_id=other)


def poll(desk: Desk, node: int) -> tuple[list[int], list[tuple[int, bool]]]:
    answer = desk.signed(node, "poll_handshakes", node_id=node)
    return (
        [r["from_node_id"] for r in answer["requests"]],
        [(r["from_node_id"], r["accept"]) for r in answer["responses"]],
    )


def publish(desk: Desk, node: int) -> None:
    desk.signed(node, "set_visibility", node_id=node, public=True)


@pytest.mark.parametrize("say", [report, respond, ask])
def test_one_side_makes_no_pair(desk: Desk, say: object) -> None:
    say(desk, 1, 2)  # type: ignore[operator]
    assert not trusted(desk)
    assert desk.directory.trust.pairs == 0


def test_asking_and_accepting_makes_one(desk: Desk) -> None:
    ask(desk, 1, 2)
    assert poll(desk, 2) == ([1], [])
    respond(desk, 2, 1)
    assert trusted(desk)
    assert poll(desk, 1) == ([], [(2, True)])
    assert desk.directory.trust.pairs == 1
    assert trusted(desk.restarted())


def test_both_asking_makes_one(desk: Desk) -> None:
    ask(desk, 1, 2)
    ask(desk, 2, 1)
    assert trusted(desk)


def test_a_reject_makes_none_and_can_be_thought_over(desk: Desk) -> None:
    ask(desk, 1, 2)
    respond(desk, 2, 1, accept=False)
    assert not trusted(desk)
    respond(desk, 2, 1)
    assert trusted(desk)


def test_either_side_ends_it_for_both(desk: Desk) -> None:
    report(desk, 1, 2)
    report(desk, 2, 1)
    revoke(desk, 2, 1)
    assert not trusted(desk)
    with pytest.raises(Refusal, match="no trust pair between 1 and 2"):
        revoke(desk, 1, 2)


def test_nobody_else_undoes_a_revocation(desk: Desk) -> None:
    """A daemon that never learnt of it declares its whole list when it registers again."""
    report(desk, 1, 2)
    report(desk, 2, 1)
    revoke(desk, 1, 2)
    desk = desk.restarted()
    report(desk, 2, 1)
    assert not trusted(desk)
    report(desk, 1, 2)
    assert trusted(desk)


def test_a_node_may_trust_itself(desk: Desk) -> None:
    report(desk, 1, 1)
    assert desk.directory.trust.pairs == 1
    revoke(desk, 1, 1)
    assert desk.directory.trust.pairs == 0


class TestVisits:
    """A reference daemon asks a public peer directly: the registry sees it resolve the peer."""

    def test_a_visited_peer_that_consents_makes_a_pair(self, desk: Desk) -> None:
        publish(desk, 2)
        assert may_resolve(desk, 1, 2)
        report(desk, 2, 1)
        assert desk.directory.trust.trusted(1, 2)

    def test_a_peer_that_nobody_visited_does_not(self, desk: Desk) -> None:
        publish(desk, 2)
        report(desk, 2, 1)
        assert not desk.directory.trust.trusted(1, 2)

    def test_asking_the_visitor_is_not_consenting(self, desk: Desk) -> None:
        publish(desk, 2)
        assert may_resolve(desk, 1, 2)
        ask(desk, 2, 1)
        assert not desk.directory.trust.trusted(1, 2)

    def test_a_visit_counts_for_a_day(self, desk: Desk) -> None:
        publish(desk, 2)
        assert may_resolve(desk, 1, 2)
        desk.now += 86_401
        report(desk, 2, 1)
        assert not desk.directory.trust.trusted(1, 2)

    def test_visits_are_swept(self, desk: Desk) -> None:
        publish(desk, 2)
        assert may_resolve(desk, 1, 2)
        desk.directory.trust.sweep(desk.now + 86_399)
        assert desk.directory.trust._visits
        desk.directory.trust.sweep(desk.now + 86_400)
        assert not desk.directory.trust._visits

    def test_a_refused_resolve_is_no_visit(self, desk: Desk) -> None:
        assert not may_resolve(desk, 1, 2)
        report(desk, 2, 1)
        assert not trusted(desk)

    @pytest.mark.parametrize("no", ["revoke", "reject"])
    def test_who_said_no_must_say_yes(self, desk: Desk, no: str) -> None:
        """Visiting a peer after revoking trust in it, or rejecting it, gives it nothing."""
        publish(desk, 2)
        if no == "revoke":
            report(desk, 1, 2)
            revoke(desk, 1, 2)
        else:
            ask(desk, 2, 1)
            respond(desk, 1, 2, accept=False)
        desk = desk.restarted()
        assert may_resolve(desk, 1, 2)
        report(desk, 2, 1)
        assert not desk.directory.trust.trusted(1, 2)
        ask(desk, 1, 2)
        assert desk.directory.trust.trusted(1, 2)

    def test_they_can_be_switched_off(self) -> None:
        desk = Desk(Limits(visit_counts=0.0))
        desk.register(1)
        desk.register(2)
        publish(desk, 2)
        assert may_resolve(desk, 1, 2)
        report(desk, 2, 1)
        assert not desk.directory.trust.trusted(1, 2)

    def test_only_so_many_are_remembered(self) -> None:
        desk = Desk(Limits(visits=1))
        for n in (1, 2, 3):
            desk.register(n)
        publish(desk, 3)
        for n in (1, 2):
            assert may_resolve(desk, n, 3)
        report(desk, 3, 1)
        report(desk, 3, 2)
        assert not desk.directory.trust.trusted(1, 3)
        assert desk.directory.trust.trusted(2, 3)


def test_a_node_declares_so_many_peers_and_no_more() -> None:
    desk = Desk(Limits(consents_per_node=1))
    for n in (1, 2, 3):
        desk.register(n)
    report(desk, 1, 2)
    report(desk, 1, 2)
    with pytest.raises(Refusal, match=r"too many trusted peers \(max 1\)"):
        report(desk, 1, 3)
    revoke(desk, 1, 2)
    report(desk, 1, 3)
    revoke(desk, 1, 3)
    assert list(desk.directory.trust._revoked[1]) == [3]
    assert desk.restarted().directory.trust._revoked == {1: {3: None}}


def test_punching_follows_the_rule_of_resolve(desk: Desk) -> None:
    request = sign(identity(1), {"type": "punch", "requester_id": 1, "node_a": 1, "node_b": 2})
    assert desk.refusal(request) == "punch denied: node 2 is private"
    publish(desk, 2)
    assert desk.ask(request)["node_b_addr"] == "198.51.100.7:40000"
    own = sign(identity(1), {"type": "punch", "requester_id": 1, "node_a": 1, "node_b": 1})
    assert desk.ask(own)["node_a_addr"] == "198.51.100.7:40000"


class TestMailboxes:
    def test_letters_survive_a_restart_and_being_read_does_too(self, desk: Desk) -> None:
        ask(desk, 1, 2)
        respond(desk, 3, 2, accept=False)
        desk = desk.restarted()
        assert poll(desk, 2) == ([1], [(3, False)])
        assert poll(desk.restarted(), 2) == ([], [])

    def test_a_sender_waits_until_its_request_was_read(self, desk: Desk) -> None:
        ask(desk, 1, 2)
        with pytest.raises(Refusal, match="already pending from node 1"):
            ask(desk, 1, 2)
        poll(desk, 2)
        ask(desk, 1, 2)

    def test_requests_are_limited(self) -> None:
        desk = Desk(Limits(requests_per_mailbox=2))
        for n in range(1, 5):
            desk.register(n)
        ask(desk, 2, 1)
        ask(desk, 3, 1)
        with pytest.raises(Refusal, match="handshake inbox full for node 1"):
            ask(desk, 4, 1)

    def test_the_oldest_response_gives_way(self) -> None:
        desk = Desk(Limits(responses_per_mailbox=2))
        for n in range(1, 5):
            desk.register(n)
        ask(desk, 2, 1)
        for n in (2, 3, 4):
            respond(desk, n, 1)
        assert desk.directory.mailboxes.dropped == 1
        assert poll(desk.restarted(), 1) == ([2], [(3, True), (4, True)])

    def test_what_does_not_fit_one_answer_waits_for_the_next(self) -> None:
        desk = Desk(Limits(answer=4096), verify=lambda *_: True)
        for n in range(1, 12):
            desk.register(n)
        for n in range(2, 12):
            fields = {"from_node_id": n, "to_node_id": 1, "justification": "<" * 200}
            desk.signed(n, "request_handshake", **fields)
        seen: list[int] = []
        while requests := poll(desk, 1)[0]:
            assert len(requests) < 5
            seen += requests
        assert seen == list(range(2, 12))

    def test_letters_put_back_do_not_double_a_request(self, desk: Desk) -> None:
        ask(desk, 1, 2)
        letters = desk.directory.mailboxes.collect(2)
        ask(desk, 1, 2)
        desk.directory.mailboxes.put_back(letters)
        assert poll(desk, 2) == ([1], [])
        desk.directory.mailboxes.put_back(letters)
        assert poll(desk, 2) == ([1], [])

    def test_justifications_are_counted_in_bytes(self, desk: Desk) -> None:
        request = {
            "type": "request_handshake",
            "from_node_id": 1,
            "to_node_id": 2,
            "justification": "é" * 513,
        }
        wanted = "justification too large: 1026 bytes (max 1024)"
        assert desk.refusal(sign(identity(1), request)) == wanted
