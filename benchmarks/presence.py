"""What ten thousand agents cost in one presence directory.

Claim: with 10,000 agents, each with a record of nearly 1,000 bytes, 16 tags and a full history of
100 transitions, the core takes less than 100 MB, and C{find} less than 5 ms whatever is asked: any
tag, a rare one, one that nobody has (with the reasons), all of them at once.  A heartbeat of an
agent that is there costs tens of microseconds, which is a percent of a processor at 333 a second.

Run: C{python benchmarks/presence.py [AGENTS]}.  Memory is what the process grew by (resident size);
times are of the processor, so that a busy machine does not count.
"""

from __future__ import annotations

import gc
import random
import resource
import sys
import time
from collections.abc import Callable

from skills.presence.core.config import PresenceConfig
from skills.presence.core.finding import Query
from skills.presence.core.presence import PresenceCore
from skills.presence.core.record import compose, dump

AGENTS = 10_000
TAGS = [f"capability-{number:03}" for number in range(200)]
ROUNDS = 300
CHANGES = 102


def record(node: int, sequence: int) -> bytes:
    """@return: a record of nearly the largest size."""
    rng = random.Random(node)
    tags = (*sorted(rng.sample(TAGS, 14)), f"rack-{node // 40:04}", "everybody")
    return dump(
        compose(
            f"agent-{node}",
            "busy" if rng.random() < 0.3 else "online",
            1.8e9,
            node,
            (1_800_000_000, sequence),
            address=f"0:0000.0000.{node:04X}",
            load=rng.randrange(101),
            slots=rng.randrange(5),
            tags=tags,
            reason="benchmarking " * 12,
            room=1000,
        )
    )


def filled(agents: int) -> tuple[PresenceCore, float]:
    """@return: a coordinator that knows so many agents, each with its history, and the time."""
    core = PresenceCore(
        1,
        now=0.0,
        wall=lambda: 1.8e9,
        rng=random.Random(2),
        config=PresenceConfig(serve=True, swarm=False, signed=False, most=agents + 1),
    )
    core.start(0.0)
    core.peers_changed(
        0.0, [{"node_id": node, "hostname": f"agent-{node}"} for node in range(2, agents + 2)]
    )
    now = 0.0
    for sequence in range(1, CHANGES + 1):
        now += 1.0
        for node in range(2, agents + 2):
            # A change of status each second is more than the history keeps.
            payload = dump(
                {
                    "hostname": f"agent-{node}",
                    "status": "busy" if sequence % 2 else "online",
                    "v": 2,
                    "node": node,
                    "inc": 1_800_000_000,
                    "seq": sequence,
                }
            )
            core.on_record(now, node, payload)
        core.on_timer(now)
    for node in range(2, agents + 2):
        core.on_record(now, node, record(node, 200))
    return core, now


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """@return: median and worst of many calls, milliseconds."""
    took = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        took.append((time.process_time() - start) * 1e3)
    took.sort()
    return took[len(took) // 2], took[-1]


def main() -> None:
    """Fill a directory, and print what it takes and what asking it takes."""
    agents = int(sys.argv[1]) if len(sys.argv) > 1 else AGENTS
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    core, now = filled(agents)
    took = time.process_time() - start
    gc.collect()
    resident = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{agents} agents, {core.stats(now)['available']} of them available")
    print(f"a record with a change of status: {took / agents / (CHANGES + 1) * 1e6:6.1f} us")
    beats = [(node, record(node, 201)) for node in range(2, min(agents, 2000) + 2)]
    start = time.process_time()
    for node, payload in beats:
        core.on_record(now, node, payload)
    took = time.process_time() - start
    print(f"a heartbeat of the largest size:  {took / len(beats) * 1e6:6.1f} us")
    print(f"resident size grew by {resident:.0f} MB")
    print("find                              median     worst   (ms)")
    for name, query in {
        "anybody": Query(),
        "100 of any": Query(limit=100),
        "a tag of 7 in 100": Query(tags=("capability-007",)),
        "a tag of 40 agents": Query(tags=("rack-0003",)),
        "a tag everybody has, picked": Query(tags=("everybody",), pick=True),
        "5 tags": Query(tags=("everybody", *TAGS[:4])),
        "a tag nobody has, with reasons": Query(tags=("nobody",)),
        "65,000 slots, with reasons": Query(min_slots=65_000),
        "too fresh for all, with reasons": Query(max_age=1e-9),
    }.items():
        median, worst = timed(lambda query=query: core.find(now + 1.0, query))  # type: ignore[misc]
        print(f"  {name:32}{median:8.3f}  {worst:8.3f}")


if __name__ == "__main__":
    main()
