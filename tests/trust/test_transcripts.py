"""The recorded scenarios of the reference, step by step, on our nodes.

Every reply, every message on port 444 and every trust file afterwards must be the recorded one;
what is different on purpose stands in the tables below, with the reason.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pilot.errors import PilotError
from pilot.wire.handshake import decode_handshake
from tests.golden import golden
from tests.trust.world import Node, World

SCENARIOS = {scenario["name"]: scenario for scenario in golden("trust_transcripts")["scenarios"]}
SEEDS = golden("trust_transcripts")["seeds"]
PUBLIC = "ABF"

#: Scenarios that were recorded one after the other, on the same nodes.
RUNS = (
    (
        "direct_request_approve",
        "already_trusted",
        "revoke",
        "direct_reject",
        "mutual_auto_approve",
        "edge_cases",
    ),
    ("relay_request_approve", "relay_private_revoke", "relay_reject", "relay_mutual"),
    ("same_network", "trust_after_leaving_network"),
    ("revoke_not_delivered_then_resurrected",),
    ("private_asks_public_reject", "private_asks_public_approve", "auto_approve"),
    ("stale_mailbox_approval_undoes_revoke",),
    ("one_sided_report_trust_opens_private_node",),
)

#: Replies that differ: (scenario, client, number of the reply to that client).
REPLIES: dict[tuple[str, str, int], Any] = {
    # "already_trusted" is a status that pilotctl knows; "sent" would not be true.
    ("already_trusted", "a1", 0): {"node_id": 2, "status": "already_trusted"},
    # A request of a peer that is trusted by now is no longer listed.
    ("mutual_auto_approve", "b1", 2): {"pending": []},
    # Refused here, with the reason, instead of a masked error of the registry.
    ("relay_request_approve", "c1", 2): "justification too long: 1025 bytes (max 1024)",
    # The revocation arrives, so there is nothing left to revoke at the other side.
    ("relay_private_revoke", "d1", 0): {"trusted": []},
    ("relay_private_revoke", "d1", 1): "node 1 was not trusted",
    ("relay_mutual", "d1", 3): "node 1 was not trusted",
    # Trust that a network granted ends with it.
    ("trust_after_leaving_network", "c1", 0): {"trusted": []},
    ("trust_after_leaving_network", "d1", 0): {"trusted": []},
    # The revocation arrives, and nothing is resurrected.
    ("revoke_not_delivered_then_resurrected", "d1", 2): {"trusted": []},
    ("revoke_not_delivered_then_resurrected", "d1", 3): {"trusted": []},
    # A stale approval in the mailbox revives nothing.
    ("stale_mailbox_approval_undoes_revoke", "a1", 4): {"trusted": []},
}

#: The same for the lists in the trust files afterwards: (scenario, seed of the node).
FILES: dict[tuple[str, str], dict[str, list[int]]] = {
    ("mutual_auto_approve", "B"): {"trusted": [1], "pending": []},
    ("edge_cases", "A"): {"trusted": [2], "pending": []},  # nobody has to trust himself
    ("edge_cases", "B"): {"trusted": [1], "pending": []},
    ("relay_private_revoke", "D"): {"trusted": [], "pending": []},
    ("relay_mutual", "C"): {"trusted": [], "pending": []},  # recorded before its last steps
    ("relay_mutual", "D"): {"trusted": [], "pending": []},
    ("trust_after_leaving_network", "C"): {"trusted": [], "pending": []},
    ("trust_after_leaving_network", "D"): {"trusted": [], "pending": []},
    ("revoke_not_delivered_then_resurrected", "D"): {"trusted": [], "pending": []},
    ("stale_mailbox_approval_undoes_revoke", "A"): {"trusted": [], "pending": []},
}

#: The same for messages on port 444, by scenario: (from, to, type).
MESSAGES: dict[str, list[tuple[int, int, str]]] = {
    "edge_cases": [],  # a node does not ask itself
    # The approval is reported before the peer is dialled, so the dial succeeds.
    "relay_request_approve": [(2, 1, "handshake_accept")],
    "revoke_not_delivered_then_resurrected": [
        (2, 1, "handshake_accept"),
        (1, 2, "handshake_revoke"),
    ],
    "relay_mutual": [
        (2, 1, "handshake_request"),
        (1, 2, "handshake_accept"),
        (1, 2, "handshake_revoke"),
    ],
    # The peer is told before the registry drops the pair, so it can still be resolved.
    "relay_private_revoke": [(1, 2, "handshake_revoke")],
    "trust_after_leaving_network": [(2, 1, "handshake_revoke")],
    # Not recorded.
    "auto_approve": [(1, 4, "handshake_request"), (4, 1, "handshake_accept")],
}


class Replay:
    """The clients of one recorded run, turned to our nodes."""

    def __init__(self, world: World, run: tuple[str, ...]) -> None:
        self.world = world
        self.nodes: dict[str, Node] = {}
        self.letters: dict[int, str] = {}
        for name in run:
            for node_id, facts in SCENARIOS[name]["nodes"].items():
                self._node(int(node_id), facts["public_key_b64"])

    def _node(self, node_id: int, key: str) -> None:
        letter = next(x for x, seed in SEEDS.items() if seed["public_key_b64"] == key)
        if letter in self.nodes:
            return
        self.letters[node_id] = letter
        seed = bytes.fromhex(SEEDS[letter]["seed_hex"])
        self.nodes[letter] = self.world.node(
            node_id, seed=seed, public=letter in PUBLIC, auto_approve=letter == "F"
        )

    def play(self, name: str) -> None:
        scenario = SCENARIOS[name]
        if name == "same_network":
            for node in self.nodes.values():
                self.world.registry.networks[node.node_id] = {1}
                node.trust.networks_changed([0, 1])
        del self.world.sent[:]
        counts: dict[str, int] = {}
        steps = iter(scenario["ipc"])
        asked_last = False
        for step in steps:
            client = step["client"]
            if step["dir"] == "note" and "report_trust sent for node 1" in step["note"]:
                self.world.registry.consents.add((1, 2))
            if step["dir"] != "send":
                continue
            node = self.nodes.get(client[0].upper())
            if step["name"] == "Network":  # the only one recorded here: leave network 1
                self.world.registry.networks[node.node_id] = set()
                node.trust.networks_changed([0])
                self.world.pump(400, 0.5)
            elif step["name"] == "Deregister":
                node.trust.reregistered()
                self.world.pump(10)
            asking = self._call(node, step)
            if asking is None:
                continue
            sub, call = asking
            if not (sub == 1 and asked_last):
                self.world.pump(65, 0.1)
            asked_last = sub == 1
            reply = self._reply(call)
            recorded = next(s for s in steps if s["client"] == client and s["dir"] == "recv")
            number = counts.get(client, 0)
            counts[client] = number + 1
            self.check(name, client, number, reply, recorded)
        self.world.pump(65, 0.1)

    def _call(self, node: Node, step: dict[str, Any]) -> Any:
        if step["name"] != "Handshake" or "sub" not in step["fields"]:
            return None
        sub = int(step["fields"]["sub"], 16)
        rest = bytes.fromhex(step["fields"]["rest_hex"])
        trust = node.trust
        if sub in (4, 5):
            listing = trust.pending if sub == 4 else trust.trusted
            return sub, lambda: {"pending" if sub == 4 else "trusted": listing()}
        if not 1 <= sub <= 6 or len(rest) < 4:
            return None
        peer, text = int.from_bytes(rest[:4], "big"), rest[4:].decode()
        return sub, {
            1: lambda: trust.handshake(peer, text),
            2: lambda: trust.approve(peer),
            3: lambda: trust.reject(peer, text),
            6: lambda: trust.untrust(peer),
        }[sub]

    def _reply(self, call: Any) -> Any:
        try:
            reply = call()
            return self.world.wait(reply) if isinstance(reply, Deferred) else reply
        except PilotError as error:
            return error.message

    def check(self, name: str, client: str, number: int, reply: Any, step: dict[str, Any]) -> None:
        fields = step["fields"]
        recorded: Any = fields.get("json")
        if recorded is None:
            recorded = fields["message"].partition(": ")[2]
        expected = REPLIES.get((name, client, number), recorded)
        assert comparable(reply) == comparable(expected), (name, client, number)

    def check_files(self, name: str) -> None:
        for letter, node in self.nodes.items():
            recorded = SCENARIOS[name]["trust_files_after"].get(f"node of seed {letter}")
            left_over = letter == "D" and name in RUNS[4]  # from a run before that one
            if recorded is None or left_over:
                continue
            have = json.loads(node.path.read_bytes())
            if (name, letter) in FILES:
                for kind, peers in FILES[name, letter].items():
                    assert [entry["node_id"] for entry in have.get(kind) or []] == peers
                continue
            ours = {key: have[key] for key in ("trusted", "pending") if key in have}
            assert comparable(ours) == comparable(recorded), (name, letter)

    def check_messages(self, name: str) -> None:
        sent = [(s, t, decode_handshake(data)) for s, t, data in self.world.sent]
        if name in MESSAGES:
            assert [(s, t, message.type) for s, t, message in sent] == MESSAGES[name]
            return
        recorded = [
            (p["src_node"], p["dst_node"], decode_handshake(p["payload"].encode()))
            for p in SCENARIOS[name]["port444"]
            if p.get("payload")
        ]
        assert [(s, t, m._replace(timestamp=0)) for s, t, m in sent] == [
            (s, t, m._replace(timestamp=0)) for s, t, m in recorded
        ]


def comparable(value: Any) -> Any:
    """Without times, in order, and without the key that relayed requests lack in the reference."""
    if isinstance(value, dict):
        times = ("approved_at", "received_at", "public_key")
        return {k: comparable(v) for k, v in value.items() if k not in times}
    if isinstance(value, list):
        return sorted((comparable(v) for v in value), key=lambda v: v["node_id"])
    return value


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run[0])
def test_run(world: World, run: tuple[str, ...]) -> None:
    replay = Replay(world, run)
    for name in run:
        replay.play(name)
        replay.check_files(name)
        replay.check_messages(name)


def test_every_scenario_is_played() -> None:
    assert {name for run in RUNS for name in run} == set(SCENARIOS)
