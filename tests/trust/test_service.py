"""Two and more nodes around one registry: trust is made, refused, ended, and survives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from pilot.errors import InvalidArgument, NotFound, RegistryError, RegistryUnavailable
from pilot.trust.store import TrustNotSaved
from pilot.wire.handshake import decode_handshake
from tests.trust.world import Node, World


def kinds(world: World) -> list[tuple[int, int, str]]:
    """The messages on port 444 so far: from, to, type without its prefix."""
    return [
        (source, target, decode_handshake(data).type.removeprefix("handshake_"))
        for source, target, data in world.sent
    ]


def befriend(world: World, asker: Node, answerer: Node) -> None:
    """The long way: ask, wait, approve, wait."""
    world.wait(asker.trust.handshake(answerer.node_id, "hello"))
    world.wait(answerer.trust.poll())
    world.wait(answerer.trust.approve(asker.node_id))
    world.pump(5)
    assert asker.state(answerer.node_id) == answerer.state(asker.node_id) == "trusted"


# -- making trust ----------------------------------------------------------------------------------


def test_public_nodes_ask_and_approve_directly(world: World) -> None:
    a, b = world.node(1, public=True), world.node(2, public=True)
    assert world.wait(a.trust.handshake(2, "let us talk")) == {"node_id": 2, "status": "sent"}
    world.pump(1)
    [request] = b.trust.pending()
    assert request == {
        "node_id": 1,
        "public_key": a.identity.public_key_text,
        "justification": "let us talk",
        "received_at": int(world.clock.seconds() - 1),
    }
    assert world.wait(b.trust.approve(1)) == {"node_id": 1, "status": "approved"}
    world.pump(1)
    assert kinds(world) == [(1, 2, "request"), (2, 1, "accept")]
    [theirs], [ours] = a.trust.trusted(), b.trust.trusted()
    assert theirs["mutual"] is True
    assert ours["mutual"] is False
    assert theirs["public_key"] == b.identity.public_key_text
    assert b.trust.pending() == []
    assert world.registry.types(1) == ["report_trust"]
    assert world.registry.types(2) == ["report_trust", "respond_handshake"]


def test_private_nodes_trust_each_other_within_a_second_of_the_approval(world: World) -> None:
    """With a registry that notifies nobody waits for a poll."""
    world.registry.notifies = world.registry.strict = True
    a, b = world.node(1), world.node(2)
    world.pump(100)
    world.wait(a.trust.handshake(2, "hi"))
    world.pump(1)
    assert [r["justification"] for r in b.trust.pending()] == ["hi"]
    world.pump(500)
    world.wait(b.trust.approve(1))
    world.pump(1)
    assert a.state(2) == b.state(1) == "trusted"
    assert world.registry.paired(1, 2)


def test_private_nodes_do_not_wait_a_minute_on_a_registry_that_cannot_notify(world: World) -> None:
    a, b = world.node(1), world.node(2)
    world.pump(100)
    world.wait(a.trust.handshake(2, "hi"))
    world.wait(b.trust.poll())
    world.wait(b.trust.approve(1))
    world.pump(2)
    assert a.state(2) == "trusted"


def test_polling_fades_from_every_second_to_the_calm_interval(world: World) -> None:
    node = world.node(1)
    world.node(2)
    world.pump(1)

    def polls(seconds: float) -> int:
        before = sum(kind == "poll_handshakes" for _, kind, _ in world.registry.log)
        world.pump(seconds)
        return sum(kind == "poll_handshakes" for _, kind, _ in world.registry.log) - before

    calm = polls(600)
    assert calm <= 22  # two nodes, once a minute each
    world.wait(node.trust.handshake(2))
    assert 4 <= polls(10) <= 12
    polls(600)
    assert polls(600) == pytest.approx(calm, abs=2)


def test_a_private_node_is_answered_by_a_public_one_through_the_pair(world: World) -> None:
    a, b = world.node(1), world.node(2, public=True)
    befriend(world, a, b)
    assert kinds(world) == [(1, 2, "request"), (2, 1, "accept")]


def test_a_strict_registry_gets_both_consents_when_the_request_went_directly(
    world: World,
) -> None:
    world.registry.strict = world.registry.notifies = True
    a, b = world.node(1), world.node(2, public=True)
    befriend(world, a, b)
    assert world.registry.paired(1, 2)


def test_both_ask_and_nobody_has_to_approve(world: World) -> None:
    a, b = world.node(1, public=True), world.node(2, public=True)
    world.wait(a.trust.handshake(2, "first"))
    world.pump(1)
    world.wait(b.trust.handshake(1, "me too"))
    world.pump(1)
    assert a.state(2) == b.state(1) == "trusted"
    assert b.trust.pending() == []
    assert all(record["mutual"] for node in (a, b) for record in node.trust.trusted())
    reason = {"peer_node_id": 1, "reason": "mutual"}
    assert ("handshake.auto_approved", reason) in b.events


def test_private_nodes_that_both_ask_trust_each_other(world: World) -> None:
    a, b = world.node(1), world.node(2)
    one, other = a.trust.handshake(2, "a asks"), b.trust.handshake(1, "b asks")
    world.wait(one)
    world.wait(other)
    world.pump(10)
    assert a.state(2) == b.state(1) == "trusted"
    assert all(record["mutual"] for node in (a, b) for record in node.trust.trusted())


@pytest.mark.parametrize("public", (True, False))
def test_both_ask_with_a_restart_in_between(world: World, public: bool) -> None:
    """Our own open request survives a restart, so theirs still meets it."""
    a, b = world.node(1, public=public), world.node(2, public=public)
    world.wait(a.trust.handshake(2, "first"))
    world.pump(70)
    a.restart()
    assert a.state(2) == "requested"
    b.stop()
    b.path.unlink()  # it has forgotten that it was asked
    b.start()
    world.wait(b.trust.handshake(1, "me too"))
    world.pump(120)
    assert a.state(2) == b.state(1) == "trusted"


def test_an_approval_after_a_restart_of_the_asking_node_counts(world: World) -> None:
    a, b = world.node(1), world.node(2)
    world.wait(a.trust.handshake(2))
    world.pump(70)
    a.restart()
    world.wait(b.trust.approve(1))
    world.pump(70)
    assert a.state(2) == "trusted"


def test_auto_approve(world: World) -> None:
    a, b = world.node(1), world.node(2, auto_approve=True)
    world.wait(a.trust.handshake(2, "auto"))
    world.pump(70)
    assert a.state(2) == b.state(1) == "trusted"
    assert b.trust.trusted()[0]["mutual"] is False
    event = ("handshake.auto_approved", {"peer_node_id": 1, "reason": "auto_approve"})
    assert event in b.events


def test_members_of_one_network_need_no_approval(world: World) -> None:
    a, b = world.node(1), world.node(2)
    world.registry.networks = {1: {9, 1}, 2: {1, 9, 4}}
    a.trust.networks_changed([0, 1, 9])
    b.trust.networks_changed([0, 1, 4, 9])
    a.trust.allows(2, 80)
    b.trust.allows(1, 80)
    world.pump(1)
    world.wait(a.trust.handshake(2, "same net"))
    world.pump(1)
    [ours], [theirs] = a.trust.trusted(), b.trust.trusted()
    assert (ours["mutual"], ours["network"]) == (True, 0)
    assert (theirs["mutual"], theirs["network"]) == (False, 1)


def test_trusted_nodes_are_not_asked_again(world: World) -> None:
    a, b = world.node(1, public=True), world.node(2, public=True)
    befriend(world, a, b)
    sent = len(world.sent)
    reply = world.wait(a.trust.handshake(2, "again"))
    assert reply == {"node_id": 2, "status": "already_trusted"}
    world.pump(5)
    assert len(world.sent) == sent


def test_a_peer_that_lost_its_state_is_assured_when_it_asks_again(world: World) -> None:
    a, b = world.node(1, public=True), world.node(2, public=True)
    befriend(world, a, b)
    a.stop()
    a.path.unlink()
    a.start()
    world.wait(a.trust.handshake(2, "who was that"))
    world.pump(5)
    assert a.state(2) == b.state(1) == "trusted"


def test_asking_oneself_changes_nothing(world: World) -> None:
    node = world.node(1)
    assert world.wait(node.trust.handshake(1, "self")) == {"node_id": 1, "status": "sent"}
    world.pump(5)
    assert node.trust.trusted() == []
    assert node.trust.allows(1, 80)


def test_asking_takes_the_relay_soon_when_the_dial_hangs(world: World) -> None:
    a, b = world.node(1), world.node(2, public=True)
    world.cut.add(frozenset((1, 2)))
    world.wait(a.trust.handshake(2, "hello"), 4)
    world.pump(60)
    assert b.state(1) == "pending"
    assert world.registry.types(1) == ["request_handshake"]


def test_the_relayed_request_takes_the_dial_back(world: World) -> None:
    """Else the peer would be asked twice, and the second time when it may have answered."""
    a, b = world.node(1), world.node(2)
    world.pump(1)
    world.registry.networks = {1: {5}, 2: {5}}
    world.wait(a.trust.handshake(2))
    world.pump(0.5)
    assert world.registry.types(1) == ["request_handshake"]
    b.trust.networks_changed([5])  # from now on its gate would let the dial in
    world.pump(30)
    assert (1, 2, "request") not in kinds(world)


def test_an_automatic_acceptance_that_finds_no_way_goes_through_the_mailbox(
    world: World,
) -> None:
    a, b = world.node(1, public=True), world.node(2, public=True, auto_approve=True)
    asking = a.trust.handshake(2)
    while not world.sent:
        world.clock.advance(0.01)
    world.cut.add(frozenset((1, 2)))
    world.wait(asking)
    world.pump(120)
    assert kinds(world) == [(1, 2, "request")]
    assert a.state(2) == b.state(1) == "trusted"


# -- errors of asking ------------------------------------------------------------------------------


def test_an_unknown_node_is_an_error_and_leaves_nothing_behind(world: World) -> None:
    node = world.node(1)
    with pytest.raises(RegistryError) as caught:
        world.wait(node.trust.handshake(99, "x"))
    assert caught.value.message == "handshake relay: registry: node 99: node not found"
    world.pump(2)
    assert node.state(99) == "none"
    assert b"99" not in node.path.read_bytes()


def test_a_second_relayed_request_is_refused_until_the_peer_has_polled(world: World) -> None:
    a, b = world.node(1), world.node(2)
    world.wait(a.trust.handshake(2, "let me in"))
    with pytest.raises(RegistryError) as caught:
        world.wait(a.trust.handshake(2, "let me in"))
    text = "handshake relay: registry: handshake request already pending from node 1"
    assert caught.value.message == text
    assert a.state(2) == "requested"
    world.pump(70)
    world.wait(b.trust.approve(1))
    world.pump(70)
    assert a.state(2) == "trusted"


def test_a_request_that_is_pending_although_we_forgot_it_is_remembered(world: World) -> None:
    """Else the approval, when it comes, would be taken for one nobody asked for."""
    a = world.node(1)
    world.node(2)
    world.wait(a.trust.handshake(2))
    a.stop()
    a.path.unlink()
    a.start()
    with pytest.raises(RegistryError):
        world.wait(a.trust.handshake(2))
    assert a.state(2) == "requested"


def test_an_absent_registry_is_an_error_of_asking(world: World) -> None:
    node = world.node(1)
    world.node(2)
    world.registry.away = True
    with pytest.raises(RegistryUnavailable):
        world.wait(node.trust.handshake(2))
    assert node.state(2) == "none"


@pytest.mark.parametrize(
    ("text", "complaint"),
    (("j" * 1025, "1025 bytes (max 1024)"), ("<" * 1024, "with its escapes")),
)
def test_a_long_justification_is_refused_not_cut(world: World, text: str, complaint: str) -> None:
    node = world.node(1)
    with pytest.raises(InvalidArgument, match="justification too long") as caught:
        world.wait(node.trust.handshake(2, text))
    assert complaint in caught.value.message


@pytest.mark.parametrize("node_id", (-1, 2**32))
def test_node_ids_are_checked(world: World, node_id: int) -> None:
    node = world.node(1)
    for call in (node.trust.handshake, node.trust.approve, node.trust.reject, node.trust.untrust):
        with pytest.raises(InvalidArgument):
            world.wait(call(node_id))


# -- refusing --------------------------------------------------------------------------------------


def test_a_direct_rejection(world: World) -> None:
    a, b = world.node(1, public=True), world.node(2, public=True)
    world.wait(a.trust.handshake(2, "please"))
    world.pump(1)
    reply = world.wait(b.trust.reject(1, "not today"))
    assert reply == {"node_id": 1, "status": "rejected"}
    world.pump(5)
    assert a.state(2) == b.state(1) == "none"
    assert decode_handshake(world.sent[-1][2]).reason == "not today"
    assert ("handshake.rejected", {"peer_node_id": 1, "reason": "not today"}) in b.events


def test_a_rejection_answers_the_user_at_once_and_reaches_a_private_peer(world: World) -> None:
    """The direct message finds no way; the mailbox does, and nobody waits 39 seconds."""
    a, b = world.node(1), world.node(2)
    world.wait(a.trust.handshake(2))
    world.wait(b.trust.poll())
    assert b.trust.reject(1, "no").called
    world.pump(5)
    assert a.state(2) == "none"


def test_nothing_pending_is_approved_without_effect_and_rejected_all_the_same(
    world: World,
) -> None:
    a, b = world.node(1, public=True), world.node(2, public=True)
    assert world.wait(a.trust.approve(2)) == {"node_id": 2, "status": "approved"}
    world.pump(2)
    assert world.sent == []
    world.wait(b.trust.handshake(1))
    world.pump(1)
    a.stop()
    a.path.unlink()
    a.start()
    assert world.wait(a.trust.reject(2, "lost you")) == {"node_id": 2, "status": "rejected"}
    world.pump(2)
    assert b.state(1) == "none"


def test_a_trusted_node_is_not_told_that_it_is_rejected(world: World) -> None:
    a, b = world.node(1, public=True), world.node(2, public=True)
    befriend(world, a, b)
    sent = len(world.sent)
    world.wait(a.trust.reject(2, "oops"))
    world.pump(5)
    assert len(world.sent) == sent
    assert a.state(2) == "trusted"


# -- ending trust ----------------------------------------------------------------------------------


def test_revoking_tells_the_peer_first_and_the_registry_then(world: World) -> None:
    a, b = world.node(1), world.node(2)
    befriend(world, a, b)
    world.registry.log.clear()
    assert world.wait(a.trust.untrust(2)) == {"node_id": 2, "status": "revoked"}
    assert a.dropped == [("streams", 2)]
    world.pump(3)
    assert kinds(world)[-1] == (1, 2, "revoke")
    assert (a.state(2), b.state(1)) == ("revoked", "none")
    assert a.dropped == [("streams", 2), ("tunnel", 2)]
    assert b.dropped == [("streams", 1), ("tunnel", 1)]
    assert not world.registry.paired(1, 2)
    assert not a.trust.allows(2, 80)
    assert not b.trust.allows(1, 80)
    assert a.names()[-1] == "trust.revoked"
    assert b.names()[-1] == "trust.revoked_by_peer"
    assert "respond_handshake" not in world.registry.types(1)
    with pytest.raises(NotFound, match="node 2 was not trusted"):
        world.wait(a.trust.untrust(2))


def test_untrust_takes_requests_of_either_side_back_and_still_says_not_trusted(
    world: World,
) -> None:
    a, b = world.node(1, public=True), world.node(2, public=True)
    world.wait(a.trust.handshake(2))
    world.pump(1)
    for node, peer in ((a, 2), (b, 1)):
        with pytest.raises(NotFound, match="was not trusted"):
            world.wait(node.trust.untrust(peer))
        assert node.state(peer) == "none"


def test_a_stale_approval_in_the_mailbox_does_not_undo_a_revocation(world: World) -> None:
    """The copy that every approval leaves there answers a request that is long settled."""
    a, b = world.node(1, public=True), world.node(2, public=True)
    world.pump(1)
    world.wait(a.trust.handshake(2))
    a.trust.notify_supported = True  # no hurried polls: the mailbox stays full
    world.wait(b.trust.poll())
    world.wait(b.trust.approve(1))
    for _ in range(4):
        world.clock.advance(0.05)
    assert a.state(2) == "trusted"
    assert world.registry.responses[1]
    world.wait(a.trust.untrust(2))
    world.pump(70)
    assert world.registry.responses.get(1) is None
    assert (a.state(2), b.state(1)) == ("revoked", "none")


def test_a_stale_approval_does_not_answer_a_new_request(world: World) -> None:
    """The mailbox is emptied before we ask anew, whatever the clocks of all sides say."""
    world.registry.skew = 500.0
    a, b = world.node(1), world.node(2)
    world.registry.responses[1] = [
        {"from_node_id": 2, "accept": True, "timestamp": world.registry.now() + 999}
    ]
    world.wait(a.trust.handshake(2))
    world.pump(5)
    assert (a.state(2), b.state(1)) == ("requested", "none")
    world.pump(70)
    world.wait(b.trust.approve(1))
    world.pump(70)
    assert a.state(2) == "trusted"


@pytest.mark.parametrize(("age", "state"), ((30, "requested"), (0, "trusted")))
def test_without_an_emptied_mailbox_the_age_of_an_approval_decides(
    world: World, age: int, state: str
) -> None:
    world.registry.skew = -400.0
    a = world.node(1, public=True)
    world.node(2, public=True)
    world.pump(1)
    a.trust.registry_time(world.registry.now())
    world.registry.away = True
    asking = a.trust.handshake(2)
    world.clock.advance(0.01)  # the mailbox could not be read
    world.registry.away = False
    world.wait(asking)
    world.registry.responses[1] = [
        {"from_node_id": 2, "accept": True, "timestamp": world.registry.now() - age}
    ]
    world.wait(a.trust.poll())
    assert a.state(2) == state


def test_a_revocation_finds_a_private_peer_that_was_away(world: World) -> None:
    """
    Its node was down when it was revoked.  The direct message goes on being tried; the registry's
    mailbox has the hint that makes the peer look.
    """
    a, b = world.node(1), world.node(2)
    befriend(world, a, b)
    b.stop()
    world.wait(a.trust.untrust(2))
    world.pump(120)
    assert not world.registry.paired(1, 2)
    b.start()
    assert b.state(1) == "trusted"
    world.pump(10)
    assert b.state(1) == "none"
    assert ("trust.revoked_by_peer", {"peer_node_id": 1}) in b.events


def test_a_revocation_is_delivered_when_the_peer_resurrects_the_pair(world: World) -> None:
    """A peer that never heard of it reports its trust again: that makes it reachable again."""
    a, b = world.node(1), world.node(2)
    befriend(world, a, b)
    b.stop()
    world.wait(a.trust.untrust(2))
    world.pump(60)
    world.registry.responses.clear()  # the hint is lost, too
    b.start()
    b.trust.reregistered()
    world.pump(1)
    assert world.registry.paired(1, 2)
    assert not a.trust.allows(2, 80)
    world.pump(120)
    assert kinds(world)[-1] == (1, 2, "revoke")
    assert b.state(1) == "none"
    assert not world.registry.paired(1, 2)


def test_a_revocation_that_waits_in_the_mailbox_is_not_overtaken_by_the_report(
    world: World,
) -> None:
    """The registry of the reference would make the pair again, and the hint would be worthless."""
    a, b = world.node(1), world.node(2)
    befriend(world, a, b)
    world.cut.add(frozenset((1, 2)))
    b.trust.notify_supported = True
    world.wait(a.trust.untrust(2))
    world.pump(12)
    assert world.registry.responses[2]
    b.trust.reregistered()
    world.pump(20)
    assert b.state(1) == "none"
    assert not world.registry.paired(1, 2)


def test_a_rejection_in_the_mailbox_is_no_revocation_while_the_pair_stands(
    world: World,
) -> None:
    a, b = world.node(1), world.node(2)
    befriend(world, a, b)
    rejection = {"from_node_id": 2, "accept": False, "timestamp": world.registry.now()}
    world.registry.responses[1] = [rejection]
    world.pump(70)
    assert a.state(2) == "trusted"
    checks = [kind for _, kind, _ in world.registry.log if kind == "check_trust"]
    assert len(checks) == 1
    # One that is older than the trust is not even looked into.
    world.registry.responses[1] = [{**rejection, "timestamp": world.registry.now() - 9999}]
    world.registry.consents.clear()
    world.pump(70)
    assert a.state(2) == "trusted"


def test_an_undeliverable_revocation_is_given_up_after_a_week(world: World) -> None:
    a, b = world.node(1), world.node(2)
    befriend(world, a, b)
    b.stop()
    world.wait(a.trust.untrust(2))
    for _ in range(6 * 144):
        world.clock.advance(600)
    assert '"owed"' in a.path.read_text()
    for _ in range(2 * 144):
        world.clock.advance(600)
    assert '"owed"' not in a.path.read_text()
    counters = a.trust.counters()
    assert counters["errands.given_up"] == 1
    assert counters["errands.attempts"] < 250


def test_an_undelivered_revocation_survives_a_restart(world: World) -> None:
    a, b = world.node(1, public=True), world.node(2, public=True)
    befriend(world, a, b)
    world.cut.add(frozenset((1, 2)))
    world.wait(a.trust.untrust(2))
    world.registry.responses.clear()
    world.pump(60)
    world.registry.responses.clear()
    a.restart()
    world.cut.clear()
    world.pump(10)
    assert b.state(1) == "none"


def test_a_revoked_peer_that_knocks_is_told_soon(world: World) -> None:
    a, b = world.node(1), world.node(2, public=True)
    befriend(world, a, b)
    world.cut.add(frozenset((1, 2)))
    world.wait(a.trust.untrust(2))
    world.pump(1200)  # the pauses between attempts are long by now
    b.trust.stop()
    b.start()
    world.cut.clear()
    before = len(world.sent)
    assert not a.trust.allows(2, 80)
    world.pump(15)
    assert kinds(world)[before:] == [(1, 2, "revoke")]


def test_revocations_carry_fresh_times(world: World) -> None:
    """A reference peer drops what is older than five minutes."""
    a, b = world.node(1, public=True), world.node(2, public=True)
    befriend(world, a, b)
    world.cut.add(frozenset((1, 2)))
    world.wait(a.trust.untrust(2))
    world.pump(900)
    world.cut.clear()
    world.pump(1500)
    assert kinds(world)[-1] == (1, 2, "revoke")
    assert decode_handshake(world.sent[-1][2]).timestamp > world.clock.seconds() - 1501


def test_asking_again_takes_an_undelivered_revocation_back(world: World) -> None:
    """Else its next attempt would hit the trust that was made after it."""
    a, b = world.node(1), world.node(2, public=True)
    befriend(world, a, b)
    world.cut.add(frozenset((1, 2)))
    world.wait(a.trust.untrust(2))
    world.pump(5)
    world.cut.clear()
    world.registry.responses.clear()
    world.wait(a.trust.handshake(2, "sorry"))
    world.pump(600)
    assert a.state(2) == b.state(1) == "trusted"
    assert (1, 2, "revoke") not in kinds(world)


def test_the_peers_of_a_slow_clock_believe_its_revocation_through_the_registry(
    world: World,
) -> None:
    """Its message looks older than the trust; the pair at the registry decides."""
    a, b = world.node(1, public=True), world.node(2, public=True)
    a.slow_clock = 120.0
    befriend(world, a, b)
    world.wait(a.trust.untrust(2))
    world.pump(1)
    assert b.state(1) == "trusted"
    assert b.trust.counters()["incoming.stale_revoke"] == 1
    world.pump(10)
    assert b.state(1) == "none"


def test_the_users_revocation_is_not_undone_by_a_rule(world: World) -> None:
    a, b = world.node(1), world.node(2, public=True, auto_approve=True)
    world.wait(a.trust.handshake(2))
    world.pump(5)
    world.wait(b.trust.untrust(1))
    world.pump(5)
    world.wait(a.trust.handshake(2, "once more"))
    world.pump(5)
    assert b.state(1) == "pending"


def test_trust_by_membership_ends_with_the_membership(world: World) -> None:
    a, b = world.node(1), world.node(2)
    world.registry.networks = {1: {5}, 2: {5}}
    for node in (a, b):
        node.trust.networks_changed([5])
    b.trust.allows(1, 444)
    world.pump(1)
    world.wait(a.trust.handshake(2))
    world.pump(1)
    assert b.trust.trusted()[0]["network"] == 5
    world.registry.networks[1] = set()
    world.pump(400)
    assert (a.state(2), b.state(1)) == ("none", "revoked")
    assert not world.registry.paired(1, 2)
    # Unlike a revocation by the user, this one does not outlive a new membership.
    world.registry.networks[1] = {5}
    a.trust.networks_changed([5])
    b.trust.allows(1, 444)
    world.pump(60)
    b.trust.allows(1, 444)
    world.pump(1)
    world.wait(a.trust.handshake(2))
    world.pump(5)
    assert b.state(1) == "trusted"


def test_trust_by_membership_moves_to_another_shared_network(world: World) -> None:
    a, b = world.node(1), world.node(2)
    world.registry.networks = {1: {5, 6}, 2: {5, 6}}
    for node in (a, b):
        node.trust.networks_changed([5, 6])
    b.trust.allows(1, 444)
    world.pump(1)
    world.wait(a.trust.handshake(2))
    world.pump(1)
    world.registry.networks = {1: {6}, 2: {6}}
    b.trust.networks_changed([6])
    world.pump(1)
    assert b.trust.trusted()[0]["network"] == 6


# -- the registry goes and comes -------------------------------------------------------------------


def test_an_approval_while_the_registry_is_away_is_made_good_later(world: World) -> None:
    a, b = world.node(1), world.node(2)
    world.wait(a.trust.handshake(2))
    world.wait(b.trust.poll())
    world.registry.away = True
    world.wait(b.trust.approve(1))
    world.pump(300)
    b.restart()
    world.pump(30)
    world.registry.away = False
    world.pump(150)
    assert a.state(2) == b.state(1) == "trusted"
    assert world.registry.paired(1, 2)


def test_a_registry_without_memory_is_told_everything_again(world: World) -> None:
    """Trust is reported by both sides, few at a time; a request that lay there is filed anew."""
    a, b, c = (world.node(n) for n in (1, 2, 3))
    befriend(world, a, b)
    world.wait(a.trust.handshake(3, "and you?"))
    world.registry.lose_state()
    for node in (a, b, c):
        node.trust.reregistered()
    world.pump(70)
    assert world.registry.paired(1, 2)
    assert c.state(1) == "pending"
    assert c.trust.pending()[0]["justification"] == "and you?"


def test_a_new_node_id_after_registration_is_used_in_signatures(world: World) -> None:
    a, b = world.node(1, public=True), world.node(2, public=True)
    world.registry.register(7, a.identity.public_key_text, True)
    a.trust.reregistered(7)
    a.node_id = 7
    world.pump(1)
    world.wait(a.trust.handshake(2))
    world.pump(1)
    assert b.trust.pending()[0]["node_id"] == 7


def test_a_lookup_that_fails_at_first_does_not_lose_the_request(world: World) -> None:
    """The sender never repeats by itself."""
    a, b = world.node(1, public=True), world.node(2, public=True)
    a.trust.handshake(2, "first")
    while not world.sent:
        world.clock.advance(0.01)
    world.registry.away = True
    world.pump(5)
    assert b.trust.pending() == []
    world.registry.away = False
    world.pump(5)
    assert [r["justification"] for r in b.trust.pending()] == ["first"]


def test_a_revocation_is_believed_under_the_known_key_while_the_registry_is_away(
    world: World,
) -> None:
    a, b = world.node(1, public=True), world.node(2, public=True)
    befriend(world, a, b)
    world.wait(a.trust.untrust(2))
    world.clock.advance(0.02)
    world.registry.away = True
    world.pump(60)
    assert b.state(1) == "none"


# -- the file --------------------------------------------------------------------------------------


def test_a_full_disk_means_an_error_and_no_change(world: World) -> None:
    """What could not be written did not happen: no state, no message, no event."""
    a, b = world.node(1, public=True), world.node(2, public=True)
    world.wait(a.trust.handshake(2))
    world.pump(1)
    b.disk_full = True
    events, file = list(b.events), b.path.read_bytes()
    for call in (
        lambda: b.trust.approve(1),
        lambda: b.trust.reject(1),
        lambda: b.trust.handshake(3),
    ):
        with pytest.raises(TrustNotSaved, match="No space left on device"):
            world.wait(call())
    world.pump(5)
    assert (b.state(1), a.state(2)) == ("pending", "requested")
    assert b.events == events
    assert b.path.read_bytes() == file
    assert kinds(world) == [(1, 2, "request")]
    b.disk_full = False
    world.wait(b.trust.approve(1))
    world.pump(5)
    assert a.state(2) == "trusted"


def test_a_request_that_a_full_disk_refused_is_kept_and_tried_again(world: World) -> None:
    a, b = world.node(1), world.node(2)
    b.disk_full = True
    world.wait(a.trust.handshake(2, "hi"))
    world.pump(70)
    assert b.trust.pending() == []
    b.disk_full = False
    world.pump(70)
    assert [r["justification"] for r in b.trust.pending()] == ["hi"]


def test_a_node_without_an_identity_file_keeps_its_trust_in_memory(world: World) -> None:
    node = world.node(1)
    node.stop()
    assert not node.path.exists() or json.loads(node.path.read_bytes()) == {"trusted": None}


def test_a_listener_that_fails_keeps_nothing_from_being_done(
    world: World, nothing_left_behind: Any
) -> None:
    a, b = world.node(1, public=True), world.node(2, public=True)
    world.wait(a.trust.handshake(2))
    world.pump(1)
    b.events = None  # type: ignore[assignment]  # whatever is raised now, fails
    world.wait(b.trust.approve(1))
    world.pump(1)
    assert a.state(2) == b.state(1) == "trusted"
    assert len(nothing_left_behind) == 1
    nothing_left_behind.clear()


# -- floods ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("public", (True, False))
def test_at_most_256_requests_wait(world: World, public: bool) -> None:
    """Directly or through the mailbox; a repeat still replaces its own entry."""
    victim = world.node(1, public=public)
    askers = [world.node(n, seed=n.to_bytes(32, "big")) for n in range(2, 272)]
    for start in range(0, len(askers), 40):
        asking = [node.trust.handshake(1, "hi") for node in askers[start : start + 40]]
        for one in asking:
            world.wait(one)
        world.wait(victim.trust.poll())
        world.pump(0.5)
    assert len(victim.trust.pending()) == 256
    assert victim.trust.counters()["incoming.pending_full"] >= 14
    world.wait(askers[0].trust.handshake(1, "changed"))
    world.wait(victim.trust.poll())
    world.pump(1)
    assert victim.trust.pending()[-1]["justification"] == "changed"


def test_our_own_open_requests_are_limited(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr("pilot.trust.service.MAX_REQUESTED", 3)
    node = world.node(1)
    for peer in range(2, 7):
        world.node(peer)
    for peer in (2, 3, 4):
        world.wait(node.trust.handshake(peer))
    with pytest.raises(Exception, match="3 requests wait for an answer already"):
        world.wait(node.trust.handshake(5))
    with pytest.raises(NotFound):
        world.wait(node.trust.untrust(4))
    world.wait(node.trust.handshake(5))


def test_revocations_remembered_are_limited(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr("pilot.trust.ledger.MAX_REVOKED", 2)
    node = world.node(1, public=True, auto_approve=True)
    for peer in (2, 3, 4):
        other = world.node(peer, public=True)
        world.wait(other.trust.handshake(1))
        world.pump(1)
        world.wait(node.trust.untrust(peer))
        world.pump(1)
    assert [node.state(peer) for peer in (2, 3, 4)] == ["none", "revoked", "revoked"]


# -- the gate --------------------------------------------------------------------------------------


def test_a_private_node_lets_in_whom_it_trusts_and_nobody_else(world: World) -> None:
    a, b, c = (world.node(n) for n in (1, 2, 3))
    befriend(world, a, b)
    assert a.trust.allows(2, 80)
    assert a.trust.allows(2, 444)
    assert not a.trust.allows(3, 80)
    assert not a.trust.allows(3, 444)
    world.registry.consents.add((3, 1))  # what one side tells the registry opens nothing
    world.pump(70)
    assert not a.trust.allows(3, 80)
    assert not c.trust.allows(1, 80)


def test_a_node_that_we_asked_may_come_to_port_444_only(world: World) -> None:
    a = world.node(1)
    world.node(2)
    world.wait(a.trust.handshake(2))
    assert a.trust.allows(2, 444)
    assert not a.trust.allows(2, 80)


def test_a_public_node_lets_everybody_in(world: World) -> None:
    node = world.node(1, public=True)
    assert node.trust.allows(99, 80)
    node.trust.public = False
    assert not node.trust.allows(99, 80)


def test_a_member_is_let_in_at_its_second_attempt(world: World) -> None:
    """The gate never waits for the registry; the look-up is done when the dial is repeated."""
    a, _ = world.node(1), world.node(2)
    world.registry.networks = {1: {5}, 2: {5}}
    a.trust.networks_changed([0, 5])
    assert not a.trust.allows(2, 80)
    world.pump(0.5)
    assert a.trust.allows(2, 80)
    world.registry.away = True
    world.pump(600)
    assert a.trust.allows(2, 80)  # an absent registry does not cut members off at once
    world.pump(900)
    assert not a.trust.allows(2, 80)  # nor is it believed for ever


def test_a_member_that_left_is_shut_out_after_a_minute(world: World) -> None:
    a, _ = world.node(1), world.node(2)
    world.registry.networks = {1: {5}, 2: {5}}
    a.trust.networks_changed([5])
    a.trust.allows(2, 80)
    world.pump(1)
    world.registry.networks[2] = set()
    assert a.trust.allows(2, 80)
    world.pump(61)
    a.trust.allows(2, 80)
    world.pump(1)
    assert not a.trust.allows(2, 80)


def test_strangers_cost_few_lookups(world: World) -> None:
    node = world.node(1)
    world.registry.networks = {1: {5}}
    node.trust.networks_changed([5])
    world.pump(1)
    world.registry.log.clear()
    for _ in range(10):
        for stranger in range(100, 120):
            assert not node.trust.allows(stranger, 80)
        world.pump(0.5)
    assert sum(kind == "lookup" for _, kind, _ in world.registry.log) == 20
    for stranger in range(1000, 2000):
        node.trust.allows(stranger, 80)
    assert node.trust.counters()["networks.busy"] == 1000 - 32


def test_without_networks_strangers_cost_nothing(world: World) -> None:
    node = world.node(1)
    world.pump(1)
    world.registry.log.clear()
    for stranger in range(100, 200):
        assert not node.trust.allows(stranger, 80)
    world.pump(1)
    assert world.registry.log == []


# -- clocks ----------------------------------------------------------------------------------------


def warnings() -> tuple[list[str], Any]:
    lines: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_level"].name in ("warn", "error", "critical"):
            lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    return lines, lambda: globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize("slow", (320.0, -45.0))
def test_a_wrong_clock_is_named_and_the_relay_works_all_the_same(world: World, slow: float) -> None:
    a, b = world.node(1), world.node(2, public=True)
    a.slow_clock = slow
    lines, done = warnings()
    a.trust.registry_time(world.registry.now())
    world.wait(a.trust.handshake(2))
    world.pump(5)
    done()
    assert b.trust.pending() == []
    assert b.trust.counters()["messages.time"] == 1
    assert sum("clock" in line for line in lines) == 2  # one at either side
    world.cut.add(frozenset((1, 2)))
    world.wait(a.trust.handshake(2))
    world.pump(70)
    world.wait(b.trust.approve(1))
    world.pump(70)
    assert a.state(2) == b.state(1) == "trusted"


def test_a_right_clock_is_not_worth_a_word(world: World) -> None:
    node = world.node(1)
    lines, done = warnings()
    node.trust.registry_time(world.clock.seconds() + 2)
    done()
    assert lines == []


def test_a_stopped_service_leaves_no_timer(world: World) -> None:
    """In the middle of everything it knows to do."""
    a, b = world.node(1), world.node(2, public=True)
    befriend(world, a, b)
    world.node(3)
    world.cut.add(frozenset((1, 2)))
    a.trust.untrust(2)
    a.trust.handshake(3)
    b.trust.reject(3)
    world.clock.advance(0.05)
    world.stop()
    assert isinstance(world.clock, Clock)
