"""What loss costs a stream, beside what it costs the reference.

Transfers of 4 MiB over simulated links in virtual time: the figures are seconds of that time,
medians of three seeds, and do not depend on the machine.  The column of the reference holds what
was measured with the reference itself over links with the same properties
(C{tests/vectors/stream_loss_figures.json}); "resets" and "hangs" are runs of it that never
completed.

Run it as C{python benchmarks/stream_loss.py}.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pilot.stream.config import StreamConfig  # noqa: E402
from tests.simulation.reference import ReferenceEnd  # noqa: E402
from tests.simulation.stream_pair import End, Link, LinkConfig, World  # noqa: E402

SIZE = 4 * 1024 * 1024
SPACING = 0.00025  # seconds between two packets of the link
SEEDS = (1, 2, 3)
PATIENCE = 1000.0

Build = Callable[[World, Link, random.Random], Any]


def modern(world: World, link: Link, rng: random.Random) -> End:
    """@return: one of ours with datagrams of 1,200 bytes."""
    end = End(world, link, StreamConfig(), rng)
    end.segment_limit = 1130
    return end


def classic(world: World, link: Link, rng: random.Random) -> End:
    """@return: one of ours that speaks classic, with segments as large as the reference's."""
    end = End(world, link, StreamConfig(offer_modern=False), rng)
    end.segment_limit = 4096
    return end


def reference(world: World, link: Link, rng: random.Random) -> ReferenceEnd:
    """@return: a model of the reference."""
    return ReferenceEnd(world, link)


def transfer(near: Build, far: Build, rtt: float, loss: float, seed: int, echo: bool) -> float:
    """@return: virtual seconds from the first byte written until the last one was read."""
    rng = random.Random(seed)
    world = World()
    config = LinkConfig(delay=(rtt / 2, rtt / 2), loss=loss, spacing=SPACING)
    there, back = Link(world, config, rng), Link(world, config, rng)
    dialler, acceptor = near(world, there, rng), far(world, back, rng)
    there.receive, back.receive = acceptor.packet, dialler.packet
    data = random.Random(seed).randbytes(SIZE)
    returned = 0

    def send_back(end: End) -> None:
        nonlocal returned
        if end.connection is not None and len(end.got) > returned:
            end.connection.write(bytes(end.got[returned:]))
            returned = len(end.got)

    if echo:
        acceptor.on_turn = send_back
    dialler.dial()
    world.run(world.now + PATIENCE, lambda: is_open(dialler) and is_open(acceptor))
    start = world.now
    write(dialler, data)
    reader = dialler if echo else acceptor
    if not world.run(start + PATIENCE, lambda: len(reader.got) >= SIZE):
        return float("inf")
    assert bytes(reader.got) == data
    return world.now - start


def is_open(end: Any) -> bool:
    """@return: whether data may flow."""
    return end.state == "ESTABLISHED" if isinstance(end, ReferenceEnd) else end.established


def write(end: Any, data: bytes) -> None:
    """Have the program of C{end} write C{data}."""
    if isinstance(end, ReferenceEnd):
        end.write(data)
    else:
        end.connection.write(data)
        end.touch()


def measured(kind: str, rtt: float, loss: float) -> str:
    """@return: what the reference itself took."""
    figures = json.loads((ROOT / "tests/vectors/stream_loss_figures.json").read_text())
    runs = [
        run
        for run in figures[kind]
        if (run["spacing_ms"], run["rtt_ms"], run["loss"]) == (SPACING * 1000, rtt * 1000, loss)
    ]
    done = [run["seconds"] for run in runs if run["outcome"] == "complete"]
    failed = [run["outcome"] for run in runs if run["outcome"] != "complete"]
    text = f"{statistics.median(done):.2f}" if done else "-"
    return text + "".join(f" +{failed.count(each)} {each}" for each in sorted(set(failed)))


def main() -> None:
    """Print the tables."""
    columns: dict[str, tuple[Build, Build]] = {
        "modern": (modern, modern),
        "classic": (classic, classic),
        "ours to ref.": (classic, reference),
        "ref. to ours": (reference, classic),
    }
    for kind, echo in (("one_way", False), ("echo", True)):
        pairs = {name: builds for name, builds in columns.items() if not (echo and "ref." in name)}
        print(f"{kind.replace('_', ' ')}, 4 MiB, virtual seconds")
        names = "".join(f"{name:>14}" for name in pairs)
        print(f"{'RTT':>6}{'loss':>6}{'reference':>18}{names}")
        for rtt in (0.001, 0.04):
            for loss in (0.0, 0.01, 0.05, 0.1):
                cells = ""
                for near, far in pairs.values():
                    times = [transfer(near, far, rtt, loss, seed, echo) for seed in SEEDS]
                    cells += f"{statistics.median(times):14.2f}"
                ref = measured(kind, rtt, loss)
                print(f"{rtt * 1000:4.0f}ms{loss:6.0%}{ref:>18}{cells}", flush=True)
        print()


if __name__ == "__main__":
    main()
