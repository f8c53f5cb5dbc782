"""Registering, being found, falling silent, coming back."""

from __future__ import annotations

import pytest

from pilot.registry.extensions import registration_text
from pilot.registry.limits import Limits
from pilot.registry.refusal import Refusal
from tests.registry.support import ADMIN, START, Desk, identity, key_text, sign


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_ids_grow_and_stay(desk: Desk) -> None:
    assert [desk.register(n) for n in (1, 2, 1, 3)] == [1, 2, 1, 3]


def test_the_endpoint_is_the_port_of_the_client_at_its_own_address(desk: Desk) -> None:
    """What a client claims to be its host is ignored; IPv6 is put in brackets."""
    for listen, host, wanted in (
        ("203.0.113.9:4000", "198.51.100.7", "198.51.100.7:4000"),
        (":4000", "198.51.100.7", "198.51.100.7:4000"),
        ("[2001:db8::1]:4000", "198.51.100.7", "198.51.100.7:4000"),
        ("", "198.51.100.7", "198.51.100.7:40980"),
        ("not-an-address", "198.51.100.7", "198.51.100.7:40980"),
        ("1:2:3", "198.51.100.7", "198.51.100.7:40980"),
        ("1.2.3.4:", "198.51.100.7", "198.51.100.7:40980"),
        ("1.2.3.4:notaport", "198.51.100.7", "198.51.100.7:notaport"),
        ("1.2.3.4:" + "9" * 40, "198.51.100.7", "198.51.100.7:40980"),
        (":4000", "2001:db8::7", "[2001:db8::7]:4000"),
    ):
        caller = desk.caller(host, 40980)
        request = {"type": "register", "public_key": key_text(identity(1)), "listen_addr": listen}
        assert desk.ask(request, caller)["observed_addr"] == wanted


def test_texts_without_a_limit_in_the_reference_have_one(desk: Desk) -> None:
    key = key_text(identity(1))
    for field, length in (("owner", 321), ("version", 65)):
        request = {"type": "register", "public_key": key, field: "x" * length}
        assert desk.refusal(request) == f"{field} too long (max {length - 1} bytes)"
    desk.register(1, lan_addrs=["a:1"] * 50 + ["x" * 200, ""])
    assert len(desk.directory.nodes.live[1].lan_addrs) == 16


def test_a_silent_node_goes_after_five_minutes(desk: Desk) -> None:
    """Heartbeats keep it; it cannot be found afterwards, and its name is free."""
    desk.register(1, hostname="one")
    desk.register(2)
    for _ in range(6):
        desk.sweep(60)
        desk.signed(2, "heartbeat", node_id=2)
    assert list(desk.directory.nodes.live) == [2]
    assert desk.refusal({"type": "lookup", "node_id": 1}) == "node 1: node not found"
    desk.signed(2, "set_hostname", node_id=2, hostname="one")


def test_nothing_but_signs_of_life_keeps_a_node(desk: Desk) -> None:
    """Neither being looked up nor having its score changed does."""
    caller = desk.caller()
    desk.register(1)
    desk.register(2, caller)
    for _ in range(31):
        desk.sweep(10)
        desk.signed(2, "heartbeat", node_id=2)
        if desk.directory.nodes.live.get(1):
            desk.ask({"type": "lookup", "node_id": 1})
            desk.ask({"type": "update_polo_score", "node_id": 1, "delta": 1}, caller)
    assert list(desk.directory.nodes.live) == [2]


@pytest.mark.parametrize("how", ["goodbye", "silence", "restart"])
def test_a_node_comes_back_as_what_it_was(desk: Desk, how: str) -> None:
    """Tags, visibility, flag, score, networks, key age; its name too if nobody took it."""
    caller = desk.caller()
    desk.register(1, caller, hostname="one", owner="a@example.com", version="v2")
    desk.register(2, caller)
    desk.signed(1, "set_tags", caller, node_id=1, tags=["web"])
    desk.signed(1, "set_visibility", caller, node_id=1, public=True)
    desk.signed(1, "set_task_exec", caller, node_id=1, enabled=True)
    desk.ask({"type": "update_polo_score", "node_id": 1, "delta": 4}, caller)
    desk.ask({"type": "create_network", "node_id": 1, "name": "n", "admin_token": ADMIN})
    before = desk.ask({"type": "lookup", "node_id": 1})
    if how == "goodbye":
        desk.signed(1, "deregister", caller, node_id=1)
    elif how == "silence":
        desk.sweep(400)
    else:
        desk = desk.restarted()
    if how != "restart":
        assert 1 not in desk.directory.nodes.live
        desk = desk.restarted()
    desk.register(1)
    after = desk.ask({"type": "lookup", "node_id": 1})
    assert after == {**before, "real_addr": after["real_addr"]}
    assert after["networks"] == [0, 1]


def test_a_name_taken_meanwhile_stays_with_who_took_it(desk: Desk) -> None:
    desk.register(1, hostname="one")
    desk.signed(1, "deregister", node_id=1)
    desk.register(2, hostname="one")
    desk.register(1)
    assert "hostname" not in desk.ask({"type": "lookup", "node_id": 1})
    assert desk.restarted().directory.nodes.by_hostname("one").id == 2  # type: ignore[union-attr]


def test_after_a_restart_everybody_has_five_minutes(desk: Desk) -> None:
    """However old the stored times are: nobody could be heard while the registry was away."""
    desk.register(1)
    desk.now += 10_000
    again = desk.restarted()
    again.sweep(290)
    assert list(again.directory.nodes.live) == [1]
    assert again.directory.online(again.now) == 0
    again.sweep(20)
    assert not again.directory.nodes.live


def test_a_sleeping_machine_or_a_jumping_clock_forgets_nobody(desk: Desk) -> None:
    desk.register(1)
    desk.sweep(10)
    desk.now += 100_000
    assert desk.directory.sweep(desk.now) == []
    desk.now -= 200_000
    assert desk.directory.sweep(desk.now) == []
    desk.sweep(310)
    assert not desk.directory.nodes.live


def test_heartbeats_are_verified_each_time(desk: Desk) -> None:
    """A garbled signature never passes, however recently a good one did."""
    desk.register(1)
    desk.signed(1, "heartbeat", node_id=1)
    good = sign(identity(1), {"type": "heartbeat", "node_id": 1})
    for bad in ("", "AAAA", sign(identity(2), good)["signature"]):
        assert "signature" in desk.refusal({**good, "signature": bad})
    assert desk.ask(good)["time"] == int(desk.now)


def test_a_heartbeat_of_the_old_key_is_nothing_after_a_rotation(desk: Desk) -> None:
    """The signature that was verified last does not outlive the key it was verified with."""
    desk.register(1)
    old = sign(identity(1), {"type": "heartbeat", "node_id": 1})
    desk.ask(old)
    desk.signed(1, "rotate_key", node_id=1, new_public_key=key_text(identity(9)))
    assert desk.refusal(old) == "signature verification failed"
    desk.signed(9, "heartbeat", node_id=1)
    assert desk.register(9) == 1
    assert desk.register(1) == 2


def test_a_key_of_another_node_cannot_be_rotated_to(desk: Desk) -> None:
    """Neither of a live one nor of one that left."""
    desk.register(1)
    desk.register(2)
    request = {"type": "rotate_key", "node_id": 1, "new_public_key": key_text(identity(2))}
    assert "another node" in desk.refusal(sign(identity(1), request))
    desk.signed(2, "deregister", node_id=2)
    assert "another node" in desk.refusal(sign(identity(1), request))


class TestMovingALiveNode:
    """Reference daemons register unsigned; anybody knows their keys."""

    def test_a_stranger_cannot_while_the_node_is_active_at_its_place(self, desk: Desk) -> None:
        own = desk.caller("198.51.100.7")
        desk.register(1, own, listen_addr=":4000")
        desk.signed(1, "heartbeat", own, node_id=1)
        thief = {"type": "register", "public_key": key_text(identity(1)), "listen_addr": ":1"}
        said = desk.refusal(thief, desk.caller("203.0.113.66"))
        assert said.startswith("node 1 is already registered")
        assert desk.directory.nodes.live[1].real_addr == "198.51.100.7:4000"
        assert desk.directory.statistics.moves_refused == 1

    def test_from_its_own_address_it_may(self, desk: Desk) -> None:
        """A daemon restarted without goodbye, while its old connection lingers."""
        own = desk.caller("198.51.100.7")
        desk.register(1, own, listen_addr=":4000")
        desk.signed(1, "heartbeat", own, node_id=1)
        desk.register(1, desk.caller("198.51.100.7"), listen_addr=":4001")
        assert desk.directory.nodes.live[1].real_addr == "198.51.100.7:4001"

    def test_once_its_own_connection_is_silent_or_gone_it_may_move(self, desk: Desk) -> None:
        own = desk.caller("198.51.100.7")
        desk.register(1, own)
        desk.signed(1, "heartbeat", own, node_id=1)
        desk.now += 131
        desk.register(1, desk.caller("203.0.113.66"))
        back = desk.caller("203.0.113.66")
        desk.signed(1, "heartbeat", back, node_id=1)
        desk.directory.callers.gone(back)
        desk.register(1, desk.caller("192.0.2.5"))

    def test_with_proof_of_its_key_it_may_move_at_any_time(self, desk: Desk) -> None:
        own = desk.caller("198.51.100.7")
        desk.register(1, own)
        desk.signed(1, "heartbeat", own, node_id=1)
        desk.register(1, desk.caller("192.0.2.5"), **proof(int(desk.now)))
        assert desk.directory.nodes.live[1].real_addr.startswith("192.0.2.5:")

    def test_an_old_proof_is_none(self, desk: Desk) -> None:
        """What was overheard once cannot be used for ever."""
        own = desk.caller("198.51.100.7")
        desk.register(1, own)
        desk.signed(1, "heartbeat", own, node_id=1)
        with pytest.raises(Refusal, match="already registered"):
            desk.register(1, desk.caller("192.0.2.5"), **proof(int(desk.now) - 301))

    def test_a_false_proof_is_refused_outright(self, desk: Desk) -> None:
        with pytest.raises(Refusal, match="invalid registration proof"):
            desk.register(1, **{**proof(int(START)), "proof_time": int(START) + 1})

    def test_overheard_signatures_do_nothing_from_elsewhere(self, desk: Desk) -> None:
        """While the node is active at its own address, that is; else who knows where it is now."""
        own = desk.caller("198.51.100.7")
        desk.register(1, own)
        desk.signed(1, "heartbeat", own, node_id=1)
        elsewhere = desk.caller("203.0.113.66")
        for kind in ("deregister", "poll_handshakes"):
            overheard = sign(identity(1), {"type": kind, "node_id": 1})
            assert "active at another address" in desk.refusal(overheard, elsewhere)
        assert desk.directory.statistics.overheard == 2
        desk.directory.callers.gone(own)
        desk.signed(1, "deregister", elsewhere, node_id=1)


def proof(moment: int, listen_addr: str = ":4000") -> dict[str, object]:
    who = identity(1)
    signed = registration_text(key_text(who), listen_addr, moment)
    return {"listen_addr": listen_addr, "proof_time": moment, "proof": who.sign_text(signed)}


def test_the_registry_can_be_full() -> None:
    desk = Desk(Limits(nodes=2))
    desk.register(1)
    desk.register(2)
    with pytest.raises(Refusal, match="registry full"):
        desk.register(3)
    desk.signed(1, "deregister", node_id=1)
    assert desk.register(3) == 3
    with pytest.raises(Refusal, match="registry full"):
        desk.register(1)


def test_one_address_gets_so_many_ids_a_day() -> None:
    desk = Desk(Limits(new_nodes_per_host=2))
    for n in (1, 2):
        desk.register(n)
    with pytest.raises(Refusal, match=r"too many registrations from 198\.51\.100\.7"):
        desk.register(3)
    desk.register(1)
    desk.register(3, desk.caller("203.0.113.1"))
    for n in range(4, 9):
        desk.register(n, desk.caller("127.0.0.1"))
    desk.sweep(86_400)
    desk.register(10)


def test_those_longest_gone_are_forgotten_when_there_are_too_many() -> None:
    """With their trust and letters; their ids are not used again."""
    desk = Desk(Limits(dormant_nodes=1))
    for n in (1, 2, 3):
        desk.register(n)
    desk.signed(3, "report_trust", node_id=3, peer_id=1)
    desk.signed(3, "request_handshake", from_node_id=3, to_node_id=1)
    for n in (1, 2):
        desk.signed(n, "deregister", node_id=n)
        desk.now += 1
    desk.sweep(10)
    assert list(desk.directory.nodes.dormant) == [2]
    again = desk.restarted()
    assert again.register(1) == 4
    assert again.register(2) == 2
    assert not again.signed(1, "poll_handshakes", node_id=4)["requests"]


def test_keys_expire(desk: Desk) -> None:
    """An expired key's heartbeat does not count, so its node falls silent."""
    desk.register(1)
    create = {"type": "create_network", "node_id": 1, "name": "n", "admin_token": ADMIN}
    desk.ask({**create, "enterprise": True})
    desk.signed(1, "set_key_expiry", node_id=1, expires_at="2026-11-21T10:37:28+00:00")
    assert "key_expiry_warning" not in desk.signed(1, "heartbeat", node_id=1)
    desk.sweep(200)
    assert desk.signed(1, "heartbeat", node_id=1)["key_expiry_warning"] is True
    desk.now += 86_400
    beat = sign(identity(1), {"type": "heartbeat", "node_id": 1})
    assert desk.refusal(beat) == "node 1: key expired at 2026-11-21T10:37:28Z"


@pytest.mark.parametrize(
    "when",
    ["soon", "2030-01-01", "2030-01-01T00:00:00", "2001-01-01T00:00:00Z", "9999-01-01T00:00:00Z"],
)
def test_odd_expiry_times_are_refused(desk: Desk, when: str) -> None:
    desk.register(1)
    create = {"type": "create_network", "node_id": 1, "name": "n", "admin_token": ADMIN}
    desk.ask({**create, "enterprise": True})
    request = {"type": "set_key_expiry", "node_id": 1, "expires_at": when}
    assert "expires_at" in desk.refusal(sign(identity(1), request))


def test_private_names_are_shown_to_those_who_may_know(desk: Desk) -> None:
    """Claiming to be a friend is not being one: a signature or the friend's own connection is."""
    desk.register(1, hostname="one")
    friend = desk.caller()
    desk.register(2, friend)
    desk.signed(1, "report_trust", node_id=1, peer_id=2)
    desk.signed(2, "report_trust", node_id=2, peer_id=1)
    asked = {"type": "resolve_hostname", "hostname": "one"}
    for requester in (0, 2, 99):
        assert "not found" in desk.refusal({**asked, "requester_id": requester})
    assert desk.ask({**asked, "requester_id": 2}, friend)["node_id"] == 1
    signature = identity(2).sign_text(b"resolve_hostname:2:one")
    signed = {**asked, "requester_id": 2, "signature": signature}
    assert desk.ask(signed)["node_id"] == 1
    assert "verification" in desk.refusal({**signed, "hostname": "two"})


def test_members_are_listed_to_members(desk: Desk) -> None:
    member, stranger = desk.caller(), desk.caller()
    desk.register(1, member)
    desk.register(2, stranger)
    create = {"type": "create_network", "node_id": 1, "name": "n", "admin_token": ADMIN}
    desk.ask({**create, "network_admin_token": "net-secret"})
    asked = {"type": "list_nodes", "network_id": 1}
    assert [n["node_id"] for n in desk.ask(asked, member)["nodes"]] == [1]
    for token in (ADMIN, "net-secret"):
        assert desk.ask({**asked, "admin_token": token}, stranger)["nodes"]
    assert "not a member" in desk.refusal(asked, stranger)
    assert "not a member" in desk.refusal({**asked, "admin_token": ""}, stranger)


def test_a_long_listing_stays_within_one_frame(desk: Desk) -> None:
    """It loses what matters least first, and says when it loses members."""
    fast = Desk(Limits(answer=8192), verify=lambda *_: True)
    for n in range(1, 41):
        caller = fast.caller("127.0.0.1")
        node = fast.register(n, caller, hostname=f"host-{n}", version="v1.2.3")
        tags = [f"tag-{n}-{i}" for i in range(10)]
        fast.ask({"type": "set_tags", "node_id": node, "tags": tags, "admin_token": ADMIN})
    asked = {"type": "list_nodes", "network_id": 0, "admin_token": ADMIN}
    answer = fast.ask(asked)
    assert len(answer["nodes"]) == 40
    assert "truncated" not in answer
    assert all("hostname" in n and "tags" not in n for n in answer["nodes"])
    for n in range(41, 301):
        fast.register(n, fast.caller("127.0.0.1"))
    answer = fast.ask(asked)
    assert answer["truncated"] is True
    assert 60 < len(answer["nodes"]) < 300
