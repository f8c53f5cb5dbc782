"""Whatever happens: a registry that starts from what was saved is the same registry."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pilot.registry.directory import DamagedRecords, Directory
from pilot.registry.limits import Limits
from pilot.registry.records import Table
from pilot.registry.refusal import Refusal
from tests.registry.support import ADMIN, START, Desk, identity, key_text

NODES = st.integers(1, 4)
NETWORKS = st.integers(1, 2)
SIGNED = {"signature": "A" * 86 + "=="}


class AnyOrder(RuleBasedStateMachine):
    """Requests in any order, restarts in between."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = self.fresh()
        for number in (1, 2, 3, 4):
            self.desk.register(number)
        self.create(1, "n", "open")
        self.create(2, "m", "invite")

    @staticmethod
    def fresh(rows: Any = ()) -> Desk:
        limits = Limits(dormant_nodes=2, responses_per_mailbox=3, consents_per_node=3)
        return Desk(limits, rows=rows, verify=lambda *_: True)

    def ask(self, kind: str, **fields: Any) -> None:
        with suppress(Refusal):
            self.desk.ask({"type": kind, **SIGNED, **fields})

    @rule(number=NODES, hostname=st.sampled_from(["", "a", "b"]))
    def register(self, number: int, hostname: str) -> None:
        with suppress(Refusal):
            self.desk.register(number, hostname=hostname)

    @rule(node=NODES, kind=st.sampled_from(["deregister", "heartbeat", "poll_handshakes"]))
    def alone(self, node: int, kind: str) -> None:
        self.ask(kind, node_id=node)

    @rule(node=NODES, public=st.booleans(), tags=st.lists(st.sampled_from("xyz"), max_size=3))
    def describe(self, node: int, public: bool, tags: list[str]) -> None:
        self.ask("set_visibility", node_id=node, public=public)
        self.ask("set_tags", node_id=node, tags=tags)

    @rule(node=NODES, number=st.integers(1, 9))
    def rotate(self, node: int, number: int) -> None:
        self.ask("rotate_key", node_id=node, new_public_key=key_text(identity(number)))

    @rule(
        node=NODES,
        peer=NODES,
        kind=st.sampled_from(["report_trust", "revoke_trust", "respond_handshake", "resolve"]),
        accept=st.booleans(),
    )
    def pairs(self, node: int, peer: int, kind: str, accept: bool) -> None:
        self.ask(kind, node_id=node, peer_id=peer, requester_id=peer, accept=accept)

    @rule(node=NODES, peer=NODES)
    def handshake(self, node: int, peer: int) -> None:
        self.ask("request_handshake", from_node_id=node, to_node_id=peer)

    @rule(node=NODES, name=st.sampled_from("nmo"), rule=st.sampled_from(["open", "invite"]))
    def create(self, node: int, name: str, rule: str) -> None:
        fields = {"name": name, "join_rule": rule, "enterprise": rule == "invite"}
        self.ask("create_network", node_id=node, admin_token=ADMIN, **fields)

    @rule(
        node=NODES,
        network=NETWORKS,
        kind=st.sampled_from(["join_network", "leave_network", "respond_invite"]),
    )
    def membership(self, node: int, network: int, kind: str) -> None:
        self.ask(kind, node_id=node, network_id=network, accept=True)

    @rule(node=NODES, peer=NODES, network=NETWORKS)
    def invite(self, node: int, peer: int, network: int) -> None:
        fields = {"inviter_id": node, "target_node_id": peer, "network_id": network}
        self.ask("invite_to_network", admin_token=ADMIN, **fields)

    @rule(
        network=NETWORKS,
        other=NODES,
        kind=st.sampled_from(
            ["delete_network", "kick_member", "promote_member", "set_network_enterprise"]
        ),
        enterprise=st.booleans(),
    )
    def govern(self, network: int, other: int, kind: str, enterprise: bool) -> None:
        fields = {"target_node_id": other, "enterprise": enterprise}
        self.ask(kind, network_id=network, admin_token=ADMIN, **fields)

    @rule(seconds=st.sampled_from([10, 200, 400]))
    def wait(self, seconds: int) -> None:
        self.desk.sweep(seconds)

    @rule()
    def restart(self) -> None:
        again = self.fresh([(t, k, v) for (t, k), v in self.desk.kept.items()])
        again.now = self.desk.now
        again.directory.sweep(again.now)
        again.save()
        self.desk = again

    @invariant()
    def nothing_is_lost(self) -> None:
        rows = [(table, key, value) for (table, key), value in self.desk.kept.items()]
        assert portrait(self.desk.directory) == portrait(self.fresh(rows).directory)

    @invariant()
    def counts_are_right(self) -> None:
        directory = self.desk.directory
        everybody = [*directory.nodes.live, *directory.nodes.dormant]
        pairs = sum(directory.trust.trusted(a, b) for a in everybody for b in everybody if a <= b)
        assert pairs == directory.trust.pairs == directory.trust.links_within(everybody)
        names = [node.hostname for node in directory.nodes if node.hostname]
        assert len(names) == len(set(names))


def portrait(directory: Directory) -> Any:
    """@return: everything that should survive, comparable."""
    nodes, networks = directory.nodes, directory.networks
    return {
        "live": {n: {**record(node), "last_seen": 0} for n, node in sorted(nodes.live.items())},
        "dormant": {n: record(node) for n, node in nodes.dormant.items()},
        "next": (nodes._next, networks._next),
        "networks": {n: record(network) for n, network in sorted(networks.networks.items())},
        "members": [
            (n, [(m, member.role, member.tags) for m, member in networks.members(n).items()])
            for n in sorted(networks.networks)
        ],
        "of": {n: set(held) for n, held in sorted(networks._of.items())},
        "invites": {
            n: sorted((i, record(invite)["time"]) for i, invite in held.items())
            for n, held in networks._invites.items()
        },
        "given": {n: peers for n, peers in directory.trust._given.items() if peers},
        "revoked": {n: set(peers) for n, peers in directory.trust._revoked.items() if peers},
        "letters": {
            reader: [record(letter) for letter in box.values()]
            for reader, box in sorted(directory.mailboxes._boxes.items())
        },
    }


def record(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__ if name != "policy"}


AnyOrder.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def rows_of_one_node() -> list[tuple[Table, Any, bytes]]:
    desk = Desk()
    desk.register(1)
    return [(table, key, value) for (table, key), value in desk.kept.items()]


@pytest.mark.parametrize(
    "damage",
    [
        (Table.META, "schema", b"7"),
        (Table.META, "next_node", b"x"),
        (Table.NODE, 1, b"{"),
        (Table.NODE, 1, b'{"id":"x","public_key":""}'),
        (Table.CONSENT, (1, 2), b"maybe"),
        (Table.LETTER, 1, b"[]"),
        (Table.MEMBER, (9, 1), b'{"order":1}'),
        (Table.INVITE, (1, 1), json.dumps({"inviter": None}).encode()),
    ],
)
def test_rows_that_make_no_sense_stop_the_start(damage: tuple[Table, Any, bytes]) -> None:
    """Nothing is guessed, nothing written over."""
    rows = [row for row in rows_of_one_node() if row[:2] != damage[:2]]
    with pytest.raises(DamagedRecords) as caught:
        Directory(START, lambda *_: True, rows=[*rows, damage])
    assert caught.value.hint


def test_the_backbone_is_there_whatever_the_rows_say() -> None:
    rows = [row for row in rows_of_one_node() if row[:2] != (Table.NETWORK, 0)]
    directory = Directory(START, lambda *_: True, rows=rows)
    assert directory.networks.get(0).name == "backbone"
