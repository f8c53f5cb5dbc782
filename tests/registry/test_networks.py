"""Private networks: what the transcripts do not show."""

from __future__ import annotations

from typing import Any

import pytest

from pilot.registry.documents import json_error, parse_duration
from pilot.registry.limits import Limits
from pilot.registry.refusal import Refusal
from tests.registry.support import ADMIN, Answer, Desk, identity, sign


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    for n in (1, 2, 3):
        desk.register(n)
    return desk


def create(desk: Desk, name: str = "net", **fields: Any) -> int:
    request = {"type": "create_network", "node_id": 1, "name": name, "admin_token": ADMIN}
    network_id = desk.ask({**request, **fields})["network_id"]
    assert isinstance(network_id, int)
    return network_id


def join(desk: Desk, node: int, network: int, **fields: Any) -> Answer:
    return desk.signed(node, "join_network", node_id=node, network_id=network, **fields)


def roles(desk: Desk, network: int) -> dict[int, str]:
    members = desk.directory.networks.members(network)
    return {node: member.role for node, member in members.items()}


class TestRoles:
    """The reference takes a node's word for who it is; here it has to show it."""

    rename: Answer = {"type": "rename_network", "network_id": 1, "node_id": 1, "name": "new"}  # noqa: RUF012

    def test_naming_the_owner_is_not_being_it(self, desk: Desk) -> None:
        create(desk)
        assert desk.refusal(self.rename) == "signature required for authenticated node"
        wrong = {**self.rename, "signature": identity(2).sign_text(b"rename_network:1:1")}
        assert desk.refusal(wrong) == "signature verification failed"

    def test_a_signature_shows_it(self, desk: Desk) -> None:
        create(desk)
        signature = identity(1).sign_text(b"rename_network:1:1")
        assert desk.ask({**self.rename, "signature": signature})["name"] == "new"

    def test_so_does_a_connection_that_signed_before(self, desk: Desk) -> None:
        create(desk)
        caller = desk.caller()
        desk.signed(1, "heartbeat", caller, node_id=1)
        assert desk.ask(self.rename, caller)["name"] == "new"

    def test_a_registration_on_the_connection_does_not(self, desk: Desk) -> None:
        create(desk)
        caller = desk.caller()
        desk.register(1, caller)
        assert "signature required" in desk.refusal(self.rename, caller)

    @pytest.mark.parametrize("token", [ADMIN, "net-secret"])
    def test_so_do_both_admin_tokens(self, desk: Desk, token: str) -> None:
        create(desk, network_admin_token="net-secret")
        request = {"type": "rename_network", "network_id": 1, "name": "new", "admin_token": token}
        assert desk.ask(request)["name"] == "new"

    def test_the_token_of_one_network_opens_no_other(self, desk: Desk) -> None:
        create(desk, "one", network_admin_token="secret")
        create(desk, "two")
        request = {"type": "delete_network", "network_id": 2, "admin_token": "secret"}
        assert "node_id required" in desk.refusal(request)
        assert "node_id required" in desk.refusal({**request, "admin_token": ""})


def test_ids_of_networks_are_not_used_again(desk: Desk) -> None:
    """Not even after a restart."""
    create(desk, "one")
    desk.ask({"type": "delete_network", "network_id": 1, "admin_token": ADMIN})
    again = desk.restarted()
    assert create(again, "one") == 2
    assert 0 in again.directory.networks.networks


def test_joining_keeps_its_order_over_restarts(desk: Desk) -> None:
    create(desk)
    for node in (3, 2):
        join(desk, node, 1)
    desk.signed(3, "leave_network", node_id=3, network_id=1)
    join(desk, 3, 1)
    assert list(roles(desk.restarted(), 1)) == [1, 2, 3]
    assert desk.restarted().directory.networks.of(3) == (1,)


def test_a_token_network_wants_the_token_even_from_the_administrator(desk: Desk) -> None:
    create(desk, join_rule="token", token="tk")
    admin = {"type": "join_network", "node_id": 2, "network_id": 1, "admin_token": ADMIN}
    assert desk.refusal(admin) == "invalid token for network 1"
    assert desk.ask({**admin, "token": "tk"})["network_id"] == 1


class TestInvitations:
    @pytest.fixture
    def desk(self) -> Desk:
        """Node 1 owns an invite-only network."""
        desk = Desk(Limits(invites_per_node=2))
        for n in (1, 2, 3):
            desk.register(n)
        create(desk, join_rule="invite", enterprise=True)
        return desk

    @staticmethod
    def invite(desk: Desk, inviter: int, target: int, network: int = 1) -> Answer:
        fields = {"inviter_id": inviter, "network_id": network, "target_node_id": target}
        return desk.signed(inviter, "invite_to_network", **fields)

    @staticmethod
    def respond(desk: Desk, node: int, accept: bool = True) -> Answer:
        fields = {"node_id": node, "network_id": 1, "accept": accept}
        return desk.signed(node, "respond_invite", **fields)

    def test_they_last_until_answered(self, desk: Desk) -> None:
        self.invite(desk, 1, 2)
        assert self.invite(desk, 1, 2)["status"] == "already_invited"
        desk = desk.restarted()
        assert self.respond(desk, 2)["accepted"] is True
        assert roles(desk.restarted(), 1) == {1: "owner", 2: "member"}
        with pytest.raises(Refusal, match="no pending invite"):
            self.respond(desk, 2)

    def test_they_expire(self, desk: Desk) -> None:
        self.invite(desk, 1, 2)
        desk.now += 30 * 86_400 + 1
        with pytest.raises(Refusal, match="has expired"):
            self.respond(desk, 2)
        self.invite(desk, 1, 3)
        desk.now += 30 * 86_400 + 1
        assert desk.signed(3, "poll_invites", node_id=3)["invites"] == []

    def test_members_without_a_say_invite_nobody(self, desk: Desk) -> None:
        with pytest.raises(Refusal, match="inviter 2 is not a member"):
            self.invite(desk, 2, 3)
        self.invite(desk, 1, 2)
        self.respond(desk, 2)
        with pytest.raises(Refusal, match='inviter 2 has role "member"'):
            self.invite(desk, 2, 3)
        with pytest.raises(Refusal, match="already a member"):
            self.invite(desk, 1, 2)

    def test_a_full_network_keeps_the_invitation(self, desk: Desk) -> None:
        self.invite(desk, 1, 2)
        policy = {"type": "set_network_policy", "network_id": 1, "admin_token": ADMIN}
        desk.ask({**policy, "max_members": 1})
        with pytest.raises(Refusal, match="membership limit"):
            self.respond(desk, 2)
        desk.ask({**policy, "max_members": 2})
        self.respond(desk, 2)

    def test_they_are_limited(self, desk: Desk) -> None:
        for name in ("two", "three"):
            create(desk, name, join_rule="invite", enterprise=True)
        for network in (1, 2):
            self.invite(desk, 1, 2, network)
        with pytest.raises(Refusal, match="invite inbox full for node 2"):
            self.invite(desk, 1, 2, 3)

    def test_leaving_or_deleting_drops_them(self, desk: Desk) -> None:
        self.invite(desk, 1, 2)
        self.respond(desk, 2)
        promote = {"type": "promote_member", "network_id": 1, "admin_token": ADMIN}
        desk.ask({**promote, "target_node_id": 2})
        self.invite(desk, 2, 3)
        desk.signed(2, "leave_network", node_id=2, network_id=1)
        assert desk.directory.networks.pending_invites() == 0
        self.invite(desk, 1, 3)
        desk.ask({"type": "delete_network", "network_id": 1, "admin_token": ADMIN})
        assert desk.restarted().directory.networks.pending_invites() == 0
        assert desk.signed(3, "poll_invites", node_id=3)["invites"] == []

    def test_the_owner_stays(self, desk: Desk) -> None:
        leave = sign(identity(1), {"type": "leave_network", "node_id": 1, "network_id": 1})
        assert "must transfer ownership first" in desk.refusal(leave)


def test_roles_come_and_go_with_the_enterprise_flag(desk: Desk) -> None:
    create(desk)
    join(desk, 2, 1)
    flag = {"type": "set_network_enterprise", "network_id": 1, "admin_token": ADMIN}
    desk.ask({**flag, "enterprise": False})
    assert roles(desk, 1) == {1: "", 2: ""}
    desk.ask({**flag, "enterprise": True})
    assert roles(desk.restarted(), 1) == {1: "owner", 2: "member"}


def test_member_tags_of_many_stay_within_one_frame() -> None:
    desk = Desk(Limits(answer=8192), verify=lambda *_: True)
    for n in range(1, 31):
        desk.register(n, desk.caller("127.0.0.1"))
    create(desk)
    for n in range(2, 31):
        join(desk, n, 1)
    request = {"type": "set_member_tags", "network_id": 1, "admin_token": ADMIN}
    for n in (3, 29):
        desk.ask({**request, "target_node_id": n, "tags": ["x"]})
    answer = desk.ask({"type": "get_member_tags", "network_id": 1})
    assert answer["members"] == {"3": ["x"], "29": ["x"]}


def test_documents_are_limited(desk: Desk) -> None:
    long = {"version": 1, "rules": [{"name": "x" * 40_000}]}
    request = {"type": "create_network", "node_id": 1, "name": "n", "admin_token": ADMIN}
    assert "expr_policy too long" in desk.refusal({**request, "expr_policy": long})
    assert "rules too long" in desk.refusal({**request, "rules": "x" * 40_000})
    assert "not an object" in desk.refusal({**request, "rules": [1]})
    assert "not an integer" in desk.refusal({**request, "rules": {"links": 1.5}})
    assert "not a string" in desk.refusal({**request, "rules": {"links": 1, "cycle": 5}})
    assert "token too long" in desk.refusal({**request, "token": "x" * 257})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86_400), ("1h30m", 5400), ("-1.5h", -5400), ("0", 0), ("+.5s", 0.5), ("1ms", 0.001)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", 'time: invalid duration "x"'),
        ("", 'time: invalid duration ""'),
        (".", 'time: invalid duration "."'),
        ("5", 'time: missing unit in duration "5"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("5y", 'time: unknown unit "y" in duration "5y"'),
    ],
)
def test_no_durations(text: str, said: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_duration(text)
    assert caught.value.message == said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "unexpected end of JSON input"),
        (b"", "unexpected end of JSON input"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b"{bad", "invalid character 'b' looking for beginning of object key string"),
        (b"{}x", "invalid character 'x' after top-level value"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
    ],
)
def test_errors_of_json_read_as_the_reference_s(data: bytes, said: str) -> None:
    assert json_error(data) == said
