"""Any order of decisions, faults and restarts: nobody is trusted without the own user's word."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from pilot.trust.store import TrustStore
from tests.trust.world import World

NODES = (1, 2, 3)
PAIRS = tuple(permutations(NODES, 2))

DECISIONS = st.tuples(
    st.sampled_from(("handshake", "approve", "reject", "untrust")), st.sampled_from(PAIRS)
)
FAULTS = st.one_of(
    st.tuples(st.just("pause"), st.sampled_from((0.005, 0.02, 0.3, 3.0, 70.0))),
    st.tuples(st.just("away"), st.booleans()),
    st.tuples(st.just("cut"), st.sampled_from(PAIRS)),
    st.tuples(st.just("mend"), st.sampled_from(PAIRS)),
    st.tuples(st.just("restart"), st.sampled_from(NODES)),
    st.tuples(st.just("stale approval"), st.sampled_from(PAIRS)),
    st.tuples(st.just("lose state"), st.just(None)),
    st.tuples(st.just("disk full"), st.sampled_from(NODES)),
    st.tuples(st.just("disk free"), st.sampled_from(NODES)),
)


@given(
    steps=st.lists(st.one_of(DECISIONS, FAULTS, FAULTS), max_size=40),
    public=st.sets(st.sampled_from(NODES)),
    notifies=st.booleans(),
    strict=st.booleans(),
)
@settings(max_examples=120)
def test_trust_needs_the_own_users_word(
    steps: list[tuple[str, object]], public: set[int], notifies: bool, strict: bool
) -> None:
    with TemporaryDirectory() as directory:
        world = World(Path(directory))
        world.registry.notifies, world.registry.strict = notifies, strict
        nodes = {n: world.node(n, public=n in public) for n in NODES}
        wanted: set[tuple[int, int]] = set()

        def check() -> None:
            for node, peer in PAIRS:
                trust = nodes[node].trust
                if trust.is_trusted(peer):
                    assert (node, peer) in wanted
                elif not nodes[node].public:
                    assert not trust.allows(peer, 80)

        for what, about in steps:
            if what in ("handshake", "approve", "reject", "untrust"):
                node, peer = about  # type: ignore[misc]
                done = getattr(nodes[node].trust, what)(peer)
                saved = not nodes[node].disk_full
                if what in ("handshake", "approve"):
                    wanted.add((node, peer))
                elif what == "untrust" and saved:
                    wanted.discard((node, peer))
                done.addErrback(lambda failure: None)
            elif what == "pause":
                world.pump(float(about), min(float(about), 0.1))  # type: ignore[arg-type]
            elif what == "away":
                world.registry.away = bool(about)
            elif what == "cut":
                world.cut.add(frozenset(about))  # type: ignore[arg-type]
            elif what == "mend":
                world.cut.discard(frozenset(about))  # type: ignore[arg-type]
            elif what == "restart":
                nodes[about].restart()  # type: ignore[index]
            elif what == "stale approval":
                node, peer = about  # type: ignore[misc]
                world.registry.responses.setdefault(node, []).append(
                    {
                        "from_node_id": peer,
                        "accept": True,
                        "timestamp": world.registry.now() - 10,
                    }
                )
            elif what == "lose state":
                world.registry.lose_state()
                for one in nodes.values():
                    one.trust.reregistered()
            else:
                nodes[about].disk_full = what == "disk full"  # type: ignore[index]
            check()
        world.registry.away = False
        world.cut.clear()
        for one in nodes.values():
            one.disk_full = False
        world.pump(300, 0.5)
        check()
        for one in nodes.values():
            kept = TrustStore(one.path).load().records
            assert {n: type(r) for n, r in kept.items()} == {
                n: type(one.trust.record(n)) for n in NODES if one.trust.record(n) is not None
            }
        world.stop()


@given(
    steps=st.lists(st.one_of(DECISIONS, FAULTS), max_size=25),
    public=st.sets(st.sampled_from((1, 2))),
    notifies=st.booleans(),
)
@settings(max_examples=80)
def test_a_revocation_arrives_in_the_end(
    steps: list[tuple[str, object]], public: set[int], notifies: bool
) -> None:
    """Whatever the two nodes do while it cannot be delivered, short of trusting each other anew."""
    with TemporaryDirectory() as directory:
        world = World(Path(directory))
        world.registry.notifies = notifies
        a, b = (world.node(n, public=n in public) for n in (1, 2))
        world.wait(a.trust.handshake(2))
        world.wait(b.trust.poll())
        world.pump(0.5)
        world.wait(b.trust.approve(1))
        world.pump(70, 0.5)
        assert a.state(2) == b.state(1) == "trusted"
        if notifies:
            b.stop()
        else:
            world.cut.add(frozenset((1, 2)))
        world.wait(a.trust.untrust(2))
        for what, about in steps:
            if what == "pause":
                world.pump(float(about), min(float(about), 0.1))  # type: ignore[arg-type]
            elif what == "away":
                world.registry.away = bool(about)
            elif what == "restart":
                a.restart()
        world.registry.away = False
        world.cut.clear()
        if not b.up:
            b.start()
        world.pump(2 * 3600, 2.0)
        assert b.state(1) == "none"
        assert not world.registry.paired(1, 2)
        world.stop()
