"""Gossip under every condition that it must hold in: the real replicas on simulated links.

Ten to fifty nodes, seeded; times are simulated seconds.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from skills.gossip.core.config import GossipConfig
from tests.simulation.swarm import healing
from tests.simulation.swarm.gossip_field import GossipField, encode
from tests.simulation.swarm.links import DATAGRAM, STREAM, LinkModel

#: What a swarm may take to agree after the last write, on streams.
SOON = 15.0


def value_everywhere(field: GossipField, key: str) -> set[Any]:
    """@return: the values that nodes show at a key; C{None} for nodes without it."""
    return {json.dumps(node.replica.document().get(key)) for node in field.nodes.values()}


def agreed(field: GossipField, within: float = SOON) -> float:
    """Let time pass until all show the same; @return: the seconds it took."""
    start = field.scheduler.now
    assert field.run_until_agreed(start + within), f"no agreement within {within} s"
    return field.scheduler.now - start


# -- links -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.1, 0.3])
def test_loss_reordering_and_duplication(loss: float) -> None:
    """Raw legs that lose, double and hold back: everybody ends up with every last write."""
    field = GossipField(
        30,
        seed=11,
        carriage=DATAGRAM,
        link=LinkModel(loss=loss, duplicate=0.2, reorder=0.3, held_back=2.0),
    )
    chance = random.Random(5)
    field.scheduler.run_until(10)
    for number in range(40):
        field.nodes[chance.randint(1, 30)].set(f"key{number % 8}", number)
        field.scheduler.advance(0.5)
    agreed(field, 60)
    document = field.nodes[1].replica.document()
    assert set(document) == {f"key{number}" for number in range(8)}
    before = [node.replica.items() for node in field.nodes.values()]
    field.scheduler.advance(30)  # what still circles changes nothing
    assert [node.replica.items() for node in field.nodes.values()] == before


def test_concurrent_writes_of_one_key_end_the_same_everywhere() -> None:
    """All nodes write the same key at the same moment."""
    field = GossipField(25, seed=12)
    field.scheduler.run_until(10)
    for node in field.nodes.values():
        node.set("who", node.node_id)
    agreed(field)
    assert len(value_everywhere(field, "who")) == 1
    assert value_everywhere(field, "who") != {"null"}


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_a_partition_with_writes_and_deletes_on_both_sides(loss: float) -> None:
    """It heals in time, no write is lost and nothing deleted returns."""
    outcome = healing.measure(healing.HealCase(20, loss=loss, writes=8, seed=3))
    assert outcome.lost == 0 and outcome.undead == 0
    assert outcome.seconds <= 35


def test_both_halves_serve_during_a_partition() -> None:
    """What is written on one side is read there, and not beyond, until it heals."""
    field = GossipField(20, seed=13)
    field.network.partition(20, 200, range(1, 11))
    field.scheduler.run_until(30)
    field.nodes[3].set("here", 1)
    field.nodes[15].set("there", 2)
    field.scheduler.advance(SOON)
    for node_id, node in field.nodes.items():
        assert node.replica.document() == ({"here": 1} if node_id <= 10 else {"there": 2})
    field.scheduler.run_until(200)
    agreed(field, 35)
    assert field.nodes[1].replica.document() == {"here": 1, "there": 2}


# -- nodes that come and go ------------------------------------------------------------------------


def test_churn() -> None:
    """A tenth of the nodes goes, and as many come, each minute: joiners are in step at once."""
    size, field = 30, GossipField(30, seed=14)
    chance = random.Random(6)
    field.scheduler.run_until(10)
    for number in range(100):
        field.nodes[1].set(f"state/{number}", "x" * 40)
    field.scheduler.run_until(30)
    late: list[float] = []
    for newcomer in range(size + 1, size + 16):
        gone = chance.choice([node_id for node_id in field.nodes if node_id != 1])
        if newcomer % 2:
            field.nodes[gone].turn(field.nodes[gone].replica.leave)
        field.scheduler.advance(1)
        field.crash(gone)
        joined = field.scheduler.now
        node = field.join(newcomer, field.nodes)
        for other in field.nodes.values():
            other.meet(field.nodes)
        while node.replica.document() != field.nodes[1].replica.document():
            field.scheduler.advance(0.1)
            assert field.scheduler.now < joined + 60
        late.append(field.scheduler.now - joined)
        field.scheduler.advance(19)
    field.nodes[1].set("last", True)
    agreed(field)
    # Two exchanges: the first begins within an interval, the second at the next.
    assert max(late) <= 2 * GossipConfig().interval * 1.2 + 2
    now = field.scheduler.now
    for node in field.nodes.values():
        assert len(node.replica.members(now)) <= size + 15


def test_a_crashed_node_returns_with_what_it_held() -> None:
    """Same node, larger incarnation: in step with all that happened meanwhile."""
    field = GossipField(15, seed=15)
    field.scheduler.run_until(10)
    field.nodes[4].set("before", 1)
    field.scheduler.run_until(25)
    field.crash(4)
    field.nodes[5].set("meanwhile", 2)
    field.nodes[6].delete("before")
    field.scheduler.run_until(120)
    field.join(4, field.nodes, incarnation=2)
    agreed(field)
    assert field.nodes[4].replica.document() == {"meanwhile": 2}


def test_a_stalled_process_catches_up() -> None:
    """Thirty seconds without running: the others go on, and it is in step soon after."""
    field = GossipField(20, seed=16)
    for stalled in (7, 8):
        field.network.stall(stalled, 20, 50)
    field.scheduler.run_until(25)
    for number in range(30):
        field.nodes[1 + number % 6].set(f"key{number}", number)
    field.scheduler.run_until(45)
    others = [node_id for node_id in field.nodes if node_id not in (7, 8)]
    assert field.agree(others)
    assert field.nodes[7].replica.document() == {}
    field.scheduler.run_until(50)
    agreed(field)
    assert len(field.nodes[8].replica.document()) == 30


# -- clocks ----------------------------------------------------------------------------------------


def test_clocks_an_hour_apart() -> None:
    """Each node's clock is up to an hour wrong: the later of two writes wins, whoever makes it."""
    chance = random.Random(7)
    offsets = {node_id: chance.uniform(-3600, 3600) for node_id in range(1, 21)}
    field = GossipField(20, seed=17, wall_offsets=offsets.__getitem__)
    field.scheduler.run_until(60)
    for turn, writer in enumerate(chance.sample(sorted(field.nodes), 10)):
        field.nodes[writer].set("turn", turn)
        field.scheduler.advance(SOON)
        assert value_everywhere(field, "turn") == {str(turn)}, f"turn {turn}, node {writer}"


@pytest.mark.parametrize("offset", [3600.0, -3600.0])
def test_one_wrong_clock_neither_wins_nor_loses(offset: float) -> None:
    """Its writes count as if its clock were right: later ones beat them, they beat earlier ones."""
    field = GossipField(15, seed=18, wall_offsets=lambda node_id: offset if node_id == 9 else 0.0)
    field.scheduler.run_until(60)
    for turn, writer in enumerate((1, 9, 2, 9, 3)):
        field.nodes[writer].set("turn", turn)
        field.scheduler.advance(SOON)
        assert value_everywhere(field, "turn") == {str(turn)}, f"turn {turn}, node {writer}"


def test_a_clock_that_is_set_back() -> None:
    """What a node writes after its clock jumped back still beats what it wrote before."""
    field = GossipField(15, seed=19)
    field.scheduler.run_until(60)
    field.nodes[9].set("turn", 0)
    field.scheduler.advance(1)
    field.nodes[9].station.wall_offset = -3600.0
    for turn, writer in enumerate((9, 9, 1, 9), start=1):
        field.nodes[writer].set("turn", turn)
        field.scheduler.advance(SOON)
        assert value_everywhere(field, "turn") == {str(turn)}, f"turn {turn}, node {writer}"


def test_eight_hours_of_sleep() -> None:
    """A laptop wakes up: it gets what it missed, and what it wrote before is not lost."""
    field = GossipField(8, seed=20, config=GossipConfig(interval=60.0))
    field.scheduler.run_until(200)
    field.network.stall(3, 201, 201 + 8 * 3600, asleep=True)
    field.nodes[3].set("mine", "before")
    field.scheduler.run_until(4 * 3600)
    field.nodes[5].set("theirs", "meanwhile")
    field.scheduler.run_until(201 + 8 * 3600)
    agreed(field, 180)
    assert field.nodes[3].replica.document() == {"mine": "before", "theirs": "meanwhile"}
    field.nodes[3].set("theirs", "after")
    field.scheduler.advance(SOON)
    assert value_everywhere(field, "theirs") == {'"after"'}


# -- abuse -----------------------------------------------------------------------------------------


class Attacker:
    """A trusted member that sends whatever it likes."""

    def __init__(self, field: GossipField, node_id: int) -> None:
        self.field, self.node_id = field, node_id
        self.heard: list[dict[str, Any]] = []
        field.network.attach(node_id, self._hear)
        for node in field.nodes.values():
            node.meet([*field.nodes, node_id])

    def _hear(self, source: int, message: Any) -> None:
        self.heard.append(json.loads(message))

    def send(self, document: Any) -> None:
        """To everybody."""
        data = document if isinstance(document, bytes) else encode(document)
        for node_id in self.field.nodes:
            self.field.network.send(self.node_id, node_id, data, carriage=STREAM)

    def push(self, registers: list[Any], **parts: Any) -> dict[str, Any]:
        """@return: a push of version 2."""
        state = {entry[0]: entry[1] for entry in registers}
        extension = {"v": 2, "swarm": self.field.name, "id": "00000001", "root": "0" * 16}
        return {
            "type": "gossip_push",
            "version": 1,
            "state": state,
            "sender": str(self.node_id),
            "g": {**extension, "n": len(registers), "e": registers},
            **parts,
        }


def stamp(field: GossipField, ahead: float = 0.0) -> str:
    """@return: a hybrid time so many seconds ahead of the truth."""
    wall = field.nodes[1].station.wall() + ahead
    return f"{int(wall * 1000) << 16:016x}"


def under_attack(seed: int) -> tuple[GossipField, Attacker]:
    """@return: ten honest nodes and an eleventh that is not."""
    field = GossipField(10, seed=seed)
    field.scheduler.run_until(10)
    field.nodes[1].set("honest", 1)
    field.scheduler.advance(SOON)
    return field, Attacker(field, 99)


def unharmed(field: GossipField) -> None:
    """Honest nodes still agree, keep what they had and learn in time."""
    field.nodes[2].set("news", "good")
    agreed(field)
    document = field.nodes[5].replica.document()
    assert document["honest"] == 1 and document["news"] == "good"


def rejected(field: GossipField) -> int:
    """@return: how many nodes told that they refused something."""
    return sum(bool(node.event_counts["gossip.rejected"]) for node in field.nodes.values())


def about(field: GossipField, attribute: str) -> tuple[list[Any], list[Any]]:
    """@return: what members say of the attacker, and of each other."""
    rows = [
        row
        for node in field.nodes.values()
        for row in node.replica.members(field.scheduler.now)
        if attribute in row
    ]
    return (
        [row[attribute] for row in rows if row["node_id"] == 99],
        [row[attribute] for row in rows if row["node_id"] != 99],
    )


def test_malformed_messages() -> None:
    """Any nonsense in any place: refused, and in the end not even read any more."""
    field, attacker = under_attack(21)
    chance = random.Random(8)
    junk: list[Any] = [
        None,
        True,
        -1,
        2**70,
        1e308,
        "x",
        [],
        {},
        [[]],
        {"": ""},
        "\ud800",
        [None] * 9,
    ]
    shape = attacker.push([["k", 1, stamp(field), 99, 0]])
    for _ in range(60):
        document = json.loads(json.dumps(shape))
        part = document if chance.random() < 0.5 else document["g"]
        part[chance.choice([*part, "v"])] = chance.choice(junk)
        document["type"] = chance.choice(
            ["gossip_push", "gossip_syn", "gossip_ack", "gossip_delta", "gossip_leave", "gossip_?"]
        )
        attacker.send(json.dumps(document).encode())
        attacker.send(
            json.dumps({"type": document["type"], "v": 2, "x": chance.choice(junk)}).encode()
        )
        field.scheduler.advance(0.2)
    assert rejected(field) == 10
    muted, honest = about(field, "muted")
    assert muted == [True] * 10 and not any(honest)
    unharmed(field)


def test_oversized_messages() -> None:
    """Values, keys and messages beyond the limits do not get in."""
    field, attacker = under_attack(22)
    for entry in (
        ["big", "x" * 20_000, stamp(field), 99, 0],
        ["k" * 300, 1, stamp(field), 99, 0],
        ["a/" * 9 + "a", 1, stamp(field), 99, 0],
        ["deep", json.loads("[" * 20 + "]" * 20), stamp(field), 99, 0],
    ):
        attacker.send(attacker.push([entry]))
    attacker.send(
        {"type": "gossip_syn", "v": 2, "swarm": field.name, "x": "1", "pad": "x" * 90_000}
    )
    field.scheduler.advance(5)
    unharmed(field)
    assert set(field.nodes[4].replica.document()) == {"honest", "news"}


def test_spoofed_senders() -> None:
    """Nobody speaks for another: not in the sender's field and not under another's own keys."""
    field, attacker = under_attack(23)
    attacker.send(attacker.push([["a", 1, stamp(field), 99, 0]], sender="1"))
    attacker.send(attacker.push([["@1/mine", "stolen", stamp(field), 99, 0]]))
    attacker.send(attacker.push([["@1/mine", "forged", stamp(field), 1, 0]]))
    field.scheduler.advance(10)
    for node in field.nodes.values():
        shown = node.replica.document()
        assert "a" not in shown and "@1" not in shown
    unharmed(field)


def test_writes_from_the_future() -> None:
    """A register dated an hour ahead is not taken, and does not drag clocks along."""
    field, attacker = under_attack(24)
    attacker.send(attacker.push([["honest", "future", stamp(field, 3600), 99, 0]]))
    attacker.send(attacker.push([["honest", "end of time", "f" * 16, 99, 0]]))
    field.scheduler.advance(10)
    unharmed(field)
    horizon = stamp(field, 120)
    assert all(
        register.hlc < horizon for node in field.nodes.values() for register in node.replica.items()
    )


def test_replayed_messages() -> None:
    """An old message again changes nothing, however often it comes."""
    field, attacker = under_attack(25)
    old = attacker.push([["theirs", "old", stamp(field), 99, 0]])
    attacker.send(old)
    field.scheduler.advance(5)
    field.nodes[3].set("theirs", "new")
    agreed(field)
    for _ in range(20):
        attacker.send(old)
        field.scheduler.advance(0.5)
    assert value_everywhere(field, "theirs") == {'"new"'}
    field.nodes[3].delete("theirs")
    agreed(field)
    attacker.send(old)
    field.scheduler.advance(10)
    assert value_everywhere(field, "theirs") == {"null"}
    unharmed(field)


def test_a_flood_of_keys_stays_within_the_authors_quota() -> None:
    """A thousand keys an author, whatever it sends; the others write on."""
    field, attacker = under_attack(26)
    for batch in range(60):
        registers = [[f"flood/{batch}/{n}", n, stamp(field), 99, 0] for n in range(50)]
        attacker.send(attacker.push(registers, version=batch + 1))
        field.scheduler.advance(1)
    for node in field.nodes.values():
        flood = [register for register in node.replica.items() if register.author == 99]
        assert len(flood) <= 1_000
    assert rejected(field) == 10
    field.nodes[2].set("news", "good")
    field.scheduler.advance(SOON)
    assert value_everywhere(field, "news") == {'"good"'}
    assert value_everywhere(field, "honest") == {"1"}


def test_a_flood_of_messages_costs_only_its_sender() -> None:
    """Thousands of messages a second: most go unread, and the rest of the swarm keeps its pace."""
    field, attacker = under_attack(27)
    answers = len(attacker.heard)
    syn = {"type": "gossip_syn", "v": 2, "swarm": field.name, "sender": "99", "inc": 1}
    syn |= {"hlc": stamp(field), "root": "1" * 16, "n": 5, "recent": [], "hb": []}
    for number in range(3_000):
        attacker.send({**syn, "x": f"{number:08x}"})
        if not number % 300:
            field.scheduler.advance(0.1)
    field.scheduler.advance(1)
    assert len(attacker.heard) - answers < 10 * 300
    dropped, honest = about(field, "dropped")
    assert min(dropped) > 2_000 and not any(honest)
    unharmed(field)


# -- mixed fleets ----------------------------------------------------------------------------------


class SeedScript:
    """
    The shell loop of the original page, literally: push to three every 5 s, merge what is newer.

    @ivar strange: messages it could make nothing of.
    """

    def __init__(self, field: GossipField, node_id: int, others: list[int]) -> None:
        self.field, self.node_id, self.others = field, node_id, others
        self.version, self.state = 1, {}  # type: int, dict[str, Any]
        self.strange: list[dict[str, Any]] = []
        self._rng = field.rng.node(node_id)
        self._station = field.network.attach(node_id, self._hear)
        self._station.clock.callLater(self._rng.uniform(0, 5), self._push)

    def set(self, key: str, value: Any) -> None:
        """Write, as such scripts do: a new value and a higher version."""
        self.state = {**self.state, key: value}
        self.version += 1

    def _push(self) -> None:
        document = {
            "type": "gossip_push",
            "version": self.version,
            "state": self.state,
            "sender": str(self.node_id),
            "timestamp": str(int(self._station.wall())),
        }
        for peer in self._rng.sample(self.others, min(3, len(self.others))):
            self.field.network.send(self.node_id, peer, encode(document))
        self._station.clock.callLater(5.0, self._push)

    def _hear(self, source: int, message: Any) -> None:
        document = json.loads(message)
        if document.get("type") != "gossip_push":
            self.strange.append(document)
        elif document["version"] > self.version:
            self.state = merged(self.state, document["state"])
            self.version = document["version"]


def merged(mine: Any, theirs: Any) -> Any:
    """@return: C{jq '.[0] * .[1]'}."""
    if not (isinstance(mine, dict) and isinstance(theirs, dict)):
        return theirs
    both = {**mine, **theirs}
    return {
        key: merged(mine[key], value) if key in mine and key in theirs else value
        for key, value in both.items()
    }


def live(state: dict[str, Any]) -> dict[str, Any]:
    """@return: what is not deleted."""
    return {key: value for key, value in state.items() if value is not None}


def test_a_mixed_fleet() -> None:
    """Seed scripts and replicas agree on live keys; scripts never get what they cannot read."""
    field = GossipField(7, seed=28)
    everyone = list(range(1, 11))
    scripts = [
        SeedScript(field, node_id, [n for n in everyone if n != node_id]) for node_id in (8, 9, 10)
    ]
    for node in field.nodes.values():
        node.meet(everyone, v2=None)
    field.scheduler.run_until(60)
    field.nodes[1].set("ours", {"a": 1})
    scripts[0].set("theirs", 2)
    field.scheduler.run_until(150)
    wanted = {"ours": {"a": 1}, "theirs": 2}
    assert [node.replica.document() for node in field.nodes.values()] == [wanted] * 7
    assert [live(script.state) for script in scripts] == [wanted] * 3
    field.nodes[2].delete("theirs")
    scripts[1].set("more", 3)
    field.scheduler.run_until(300)
    wanted = {"ours": {"a": 1}, "more": 3}
    assert [node.replica.document() for node in field.nodes.values()] == [wanted] * 7
    assert [live(script.state) for script in scripts] == [wanted] * 3
    assert [script.strange for script in scripts] == [[], [], []]
