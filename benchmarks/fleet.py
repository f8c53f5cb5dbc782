"""What a fleet of daemons that run both skills costs, and how fast it is.

Twenty-five daemons and a rendezvous, each a process on loopback; every pair trusts each other
(C{--trust-auto-approve}), presence runs with its fastest profile, and all are members of one gossip
swarm.  Measured are traffic, processor and memory of each, once while nothing happens and once
while a key is written every second; the time until a key is at all others; until a daemon that was
killed is called offline by the others; until one that stops is.

    python benchmarks/fleet.py [--daemons 25] [--seconds 30] [--kills 3]

It exits with 1 when a figure is beyond what the pages I{Gossip} and I{Presence} promise, with room
for a busy machine: a quiet member's gossip costs at most 1 KiB of messages in 5 seconds, a key is
everywhere within 10 seconds, a death is known to all within one and a half times the time that the
simulation gives 99 of 100 of them, a good-bye within 2 seconds.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from fleet_daemons import (
    SWARM,
    Daemon,
    Follower,
    Sample,
    rendezvous,
    until,
    usage,
)

#: Seconds between two comparisons of a quiet member, which a round is.
ROUND = 5.0

#: Seconds that news, the start's eagerness and its grace take to be over.
SETTLING = 45.0

#: Bars: bytes of messages a round, seconds until all have a key, seconds of a good-bye.
QUIET, EVERYWHERE, GOODBYE = 1024.0, 10.0, 2.0


def detection_bar(daemons: int) -> float:
    """
    @return: seconds in which a death is known to all: 9 with 10 members, 4 more for each factor of
        ten, which is what the simulation needs in 99 of 100 cases; and half as much again.
    """
    return 1.5 * (9.0 + 4.0 * max(0.0, math.log10(daemons / 10)))


class Report:
    """The table, and what was beyond a bar."""

    def __init__(self) -> None:
        self.missed = 0

    def say(self, what: str, *figures: str, ok: bool | None = None) -> None:
        """One line."""
        verdict = "" if ok is None else "  ok" if ok else "  MISSED"
        self.missed += ok is False
        print(f"{what:<44}" + "".join(f"{each:>14}" for each in figures) + verdict, flush=True)

    def spread(self, what: str, values: Sequence[float], unit: str, *, bar: float = 0.0) -> None:
        """The least, the median and the most of many; the bar is for the most."""
        low, middle, high = min(values), statistics.median(values), max(values)
        texts = [f"{value:.{_digits(middle)}f} {unit}".rstrip() for value in (low, middle, high)]
        self.say(what, *texts, ok=None if not bar else high <= bar)


def _digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 10 else 2


def introduce(daemons: Sequence[Daemon]) -> float:
    """Have every pair trust each other.  @return: seconds it took."""
    began = time.monotonic()
    for number, daemon in enumerate(daemons):
        for other in daemons[number + 1 :]:
            daemon.trust(other)
    for daemon in daemons:
        until("trust", lambda daemon=daemon: daemon.trusted() == len(daemons) - 1)  # type: ignore[misc]
    return time.monotonic() - began


def gather(daemons: Sequence[Daemon]) -> float:
    """Wait until everybody knows of everybody.  @return: seconds it took."""
    began, others = time.monotonic(), len(daemons) - 1

    def knows(daemon: Daemon) -> bool:
        online = daemon.call("presence", "list", status=["online"])["agents"]
        members = daemon.call("gossip", "status", swarm=SWARM)["members"]
        return len(online) == others + 1 and members == others

    for daemon in daemons:
        until(f"everybody at {daemon.name}", lambda daemon=daemon: knows(daemon), 120.0, 0.5)  # type: ignore[misc]
    return time.monotonic() - began


class Window:
    """What every daemon does in some seconds."""

    def __init__(self, daemons: Sequence[Daemon], registry: int) -> None:
        """@param registry: process of the rendezvous."""
        self._daemons = daemons
        self._registry = registry
        self._began = usage(registry), time.monotonic()
        self._before = [daemon.sample() for daemon in daemons]

    def end(self, report: Report, *, quiet: bool) -> None:
        """Report it."""
        after = [daemon.sample() for daemon in self._daemons]
        used, now = usage(self._registry), time.monotonic()

        def rate(field: Callable[[Sample], float]) -> list[float]:
            return [
                (field(end) - field(start)) / (end.when - start.when)
                for start, end in zip(self._before, after, strict=True)
            ]

        def a_round(values: Iterable[float]) -> list[float]:
            return [value * ROUND for value in values]

        wire = rate(lambda sample: sample.wire)
        report.spread("  wire, sent + received, a second", wire, "B")
        report.spread("  wire, a round of 5 s", a_round(wire), "B")
        report.spread("  datagrams on the wire, a second", rate(lambda s: s.packets), "")
        gossip = a_round(rate(lambda sample: sample.gossip))
        report.spread("  gossip's messages, a round of 5 s", gossip, "B")
        if quiet:
            mean = statistics.mean(gossip)
            report.say("  ... on average", f"{mean:.0f} B", ok=mean <= QUIET)
        # What one sends another receives.
        presence = [2 * value for value in rate(lambda sample: sample.presence)]
        report.spread("  presence's datagrams, a second", presence, "B")
        report.spread("  processor", [100 * value for value in rate(lambda s: s.cpu)], "%")
        report.spread("  resident", [sample.memory for sample in after], "MB")
        seconds = now - self._began[1]
        share = 100 * (used.cpu - self._began[0].cpu) / seconds
        report.say("  rendezvous", f"{share:.2f} %", f"{used.memory:.0f} MB")


def write(daemons: Sequence[Daemon], news: Follower, seconds: int, report: Report) -> None:
    """Write a key every second, each time elsewhere."""
    began, took, medians = time.monotonic(), [], []
    for number in range(seconds):
        time.sleep(max(0.0, began + number - time.monotonic()))
        daemon, key = daemons[number % len(daemons)], f"measured/{number}"
        start = time.monotonic()
        daemon.call("gossip", "set", swarm=SWARM, key=key, value=number)
        heard = news.wait(key, len(daemons), EVERYWHERE)
        if len(heard) < len(daemons):
            raise SystemExit(f"{key} is at {len(heard)} of {len(daemons)} daemons")
        took.append(heard[-1] - start)
        medians.append(statistics.median(heard) - start)
    report.spread("  a key is at the median daemon after", medians, "s")
    report.spread("  a key is at all daemons after", took, "s", bar=EVERYWHERE)


def lose(daemons: list[Daemon], news: Follower, report: Report) -> None:
    """Kill one; the others find out."""
    bar = detection_bar(len(daemons))
    victim = daemons.pop()
    began = time.monotonic()
    victim.process.kill()
    victim.process.wait()
    heard = news.wait((victim.node, "offline"), len(daemons), 2 * bar)
    report.say(f"killed: called offline by {len(heard)} of {len(daemons)}")
    if not heard:
        report.say("  nobody noticed", ok=False)
        return
    figures = heard[0] - began, statistics.median(heard) - began, heard[-1] - began
    texts = [f"{value:.2f} s" for value in figures]
    report.say("  after", *texts, ok=len(heard) == len(daemons) and figures[2] <= bar)


def dismiss(daemons: list[Daemon], news: Follower, report: Report) -> None:
    """Stop one properly; it says good-bye."""
    leaver = daemons.pop()
    began = time.monotonic()
    leaver.process.terminate()
    heard = news.wait((leaver.node, "offline"), len(daemons), 30.0)
    leaver.process.wait(30)
    report.say(f"stopped: called offline by {len(heard)} of {len(daemons)}")
    if heard:
        figures = heard[0] - began, statistics.median(heard) - began, heard[-1] - began
        texts = [f"{value:.2f} s" for value in figures]
        report.say("  after", *texts, ok=len(heard) == len(daemons) and figures[2] <= GOODBYE)
    else:
        report.say("  nobody noticed", ok=False)


def blamed(news: Follower, gone: set[int]) -> list[int]:
    """@return: nodes that somebody called offline although they were there."""
    return [node for node, status in news.heard if status == "offline" and node not in gone]


def measure(
    root: Path, processes: list[subprocess.Popen[bytes]], options: argparse.Namespace
) -> bool:
    """@return: whether every bar holds."""
    report = Report()
    registry, registry_at, beacon_at = rendezvous(root)
    processes.append(registry)
    daemons: list[Daemon] = []
    began = time.monotonic()
    for number in range(options.daemons):
        daemon = Daemon(f"agent-{number:02}", root, registry_at, beacon_at)
        daemons.append(daemon)
        processes.append(daemon.process)
        if number % 4 == 3:  # not all at once: what is measured comes later
            until("a start", lambda daemon=daemon: daemon.info()["node_id"])  # type: ignore[misc]
    for daemon in daemons:
        daemon.node = until(daemon.name, lambda daemon=daemon: daemon.info()["node_id"])  # type: ignore[misc]
    took = time.monotonic() - began
    report.say(f"{len(daemons)} daemons: started in", f"{took:.1f} s")
    report.say("every pair trusts each other after", f"{introduce(daemons):.1f} s")
    report.say("everybody knows everybody after", f"{gather(daemons):.1f} s")
    keys = Follower("gossip", lambda event: event.get("key"), swarm=SWARM)
    changes = Follower("presence", lambda event: (event.get("node_id"), event.get("to")))
    everybody = list(daemons)
    for daemon in daemons:
        keys.follow(daemon)
        changes.follow(daemon)
    time.sleep(SETTLING)

    print(f"\n{'':<44}{'least':>14}{'median':>14}{'most':>14}")
    print("nothing happens")
    window = Window(daemons, registry.pid)
    time.sleep(options.seconds)
    window.end(report, quiet=True)
    print("a key is written every second")
    window = Window(daemons, registry.pid)
    write(daemons, keys, options.seconds, report)
    window.end(report, quiet=False)
    print(f"\n{'':<44}{'first':>14}{'median':>14}{'last':>14}")
    for _ in range(options.kills):
        lose(daemons, changes, report)
        time.sleep(5)
    dismiss(daemons, changes, report)
    gone = {daemon.node for daemon in everybody if daemon not in daemons}
    wrong = blamed(changes, gone)
    report.say("called offline although they were there", str(len(wrong)), ok=not wrong)
    return not report.missed


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--daemons", type=int, default=25)
    options.add_argument("--seconds", type=int, default=30)
    options.add_argument("--kills", type=int, default=3)
    chosen = options.parse_args()
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="pilot-fleet-") as root:
        try:
            return 0 if measure(Path(root), processes, chosen) else 1
        finally:
            for process in processes:
                if process.poll() is None:
                    process.terminate()
            for process in processes:
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


if __name__ == "__main__":
    sys.exit(main())
