"""What a swarm in which nothing happens costs its nodes."""

from __future__ import annotations

from typing import NamedTuple

from skills.gossip.core.register import Register
from skills.gossip.core.restoring import Restored
from tests.simulation.swarm.gossip_field import GossipField
from tests.simulation.swarm.links import EPOCH
from tests.simulation.swarm.rng import RngTree

#: Seconds until nobody is hot any more, and seconds that are measured then.
_SETTLE, _MEASURED = 120.0, 60.0

#: Seconds of a round.
_ROUND = 5.0


class IdleCase(NamedTuple):
    """
    @ivar keys: registers that all nodes hold.
    """

    size: int
    keys: int
    seed: int = 1


def state_of(keys: int) -> dict[str, Register]:
    """@return: so many registers, written an hour ago."""
    stamp = int((EPOCH - 3600) * 1000) << 16
    registers = {}
    for number in range(keys):
        key = f"sensor/{number}/reading"
        registers[key] = Register(key, number, f"{stamp + number:016x}", 1)
    return registers


def restored_from(registers: dict[str, Register]) -> Restored:
    """@return: what a journal with these would give; the registers themselves are shared."""
    restored = Restored()
    restored.registers.update(registers)
    restored.contact = EPOCH
    return restored


def measure(case: IdleCase) -> float:
    """@return: application bytes per node and round, sent and received."""
    tree = RngTree(case.seed).subtree("idle", *case)
    registers = state_of(case.keys)
    field = GossipField(
        case.size, tree, codec=True, record=False, restored=lambda: restored_from(registers)
    )
    field.scheduler.run_until(_SETTLE)
    before = field.total("sent_bytes") + field.total("received_bytes")
    field.scheduler.advance(_MEASURED)
    after = field.total("sent_bytes") + field.total("received_bytes")
    return (after - before) / case.size / (_MEASURED / _ROUND)
