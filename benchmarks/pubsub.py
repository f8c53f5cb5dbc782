"""How fast events get from one publisher to many subscribers, beside what one would use instead.

One publisher, 1, 10 and 100 subscribers, events of 16 bytes to 64 KiB, all on loopback:

* Pilot: three daemons (broker, publisher, subscribers); programs sit at the control
  sockets, every byte crosses two encrypted tunnels;
* Redis, NATS and Mosquitto, where they are installed: one server, programs on plain TCP.

Each is asked for its throughput (the publisher keeps a bounded number of events under way), for the
delay of events at a modest fixed rate, and for that delay beside a subscriber that has stopped
reading.  They run in turn within one call, so that the ratios hold on a noisy machine::

    python benchmarks/pubsub.py [--seconds 2] [--sizes 16,1024,65536] [--subscribers 1,10,100]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # for the roles, which run this file again

from pubsub_roles import Counters, play
from pubsub_systems import SYSTEMS, start_server

#: Bytes and events under way at most while the throughput is measured.
WINDOW_BYTES, WINDOW_EVENTS = 1 << 20, 10_000
#: Deliveries and bytes a second, all subscribers together, while delays are measured.
MODEST_EVENTS, MODEST_BYTES = 4000, 16 << 20
#: Beside the stopped subscriber: others, bytes of an event, events a second, seconds, rounds.
OTHERS, STOPPED_SIZE, STOPPED_RATE, STOPPED_SECONDS, STOPPED_ROUNDS = 5, 4096, 1000, 5, 3

_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Run the measurements, or one role of one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--sizes", type=_numbers, default=[16, 1024, 65536])
    parser.add_argument("--subscribers", type=_numbers, default=[1, 10, 100])
    parser.add_argument("--only", choices=sorted(SYSTEMS), action="append")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--facts", type=json.loads, default={}, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        play(options.role, options.facts)
        return 0
    names = present(options.only or list(SYSTEMS))
    print(f"{os.cpu_count()} cores, loopback; out: deliveries a second, all subscribers together")
    print(_HEAD)
    for size in options.sizes:
        for subscribers in options.subscribers:
            results = {name: measure(name, size, subscribers, options.seconds) for name in names}
            report(size, subscribers, results)
    print(f"\nbeside a subscriber that has stopped reading: {OTHERS} others,")
    print(f"{STOPPED_RATE} events a second of {STOPPED_SIZE} bytes")
    for name in names:
        report_stopped(name)
    return 0


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def present(wanted: list[str]) -> list[str]:
    """@return: the systems that are there; a word about the others."""
    there = []
    for name in wanted:
        system = SYSTEMS[name]
        if not system.program or system.installed():
            there.append(name)
        else:
            print(f"{system.name}: left out, {system.program} is not installed")
    return there


# -- measuring ---------------------------------------------------------------------------------


class Part:
    """A process of this script that plays a role and tells its facts as JSON lines."""

    def __init__(self, role: str, facts: dict[str, Any]) -> None:
        self._role = role
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--role", role, "--facts", json.dumps(facts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> dict[str, Any]:
        """The next fact."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._role} ended without a word")
        return dict(json.loads(line))

    def order(self, order: Any) -> dict[str, Any]:
        """Ask for something.  @return: the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.read()


class Broker:
    """
    A running broker.

    @ivar where: what a publisher and a subscriber connect to.
    """

    def __init__(self, name: str, home: Path, stack: contextlib.ExitStack) -> None:
        self.name = name
        self._daemons: list[Part] = []
        if name == "pilot":
            self._start_pilot(home, stack)
            return
        system = SYSTEMS[name]()
        path = system.installed()
        assert path is not None
        process, port = start_server(system, path, home)
        stack.callback(_end, process)
        self._pids = [process.pid]
        self.publisher_at: Any = port
        self.subscriber_at: Any = port

    def _start_pilot(self, home: Path, stack: contextlib.ExitStack) -> None:
        facts: dict[str, Any] = {"home": str(home)}
        told = {}
        for name in ("broker", "publisher", "subscribers"):
            part = Part("daemon", {**facts, "name": name})
            stack.callback(_end, part.process)
            told[name] = part.read()
            facts["registry"] = told[name]["registry"]
            self._daemons.append(part)
        self._pids = [part.process.pid for part in self._daemons]
        target = told["broker"]["node_id"]
        self.publisher_at = [told["publisher"]["socket"], target]
        self.subscriber_at = [told["subscribers"]["socket"], target]

    def cpu(self) -> list[float]:
        """CPU seconds so far of the broker, and of it with the daemons of its clients."""
        used = [_cpu(pid) for pid in self._pids]
        return [used[0], sum(used)]

    def memory(self) -> float:
        """Most MiB the broker has had."""
        with open(f"/proc/{self._pids[0]}/status", encoding="ascii") as file:
            (line,) = (line for line in file if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def dropped(self) -> int | None:
        """Have our broker say what it has dropped; others do not tell."""
        return int(self._daemons[0].order("figures")["dropped"]) if self._daemons else None


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()


def _cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Run:
    """
    A broker with a publisher and its subscribers.

    @ivar broker: it.
    @ivar publisher: the publishing process.
    """

    def __init__(
        self, stack: contextlib.ExitStack, name: str, size: int, subscribers: int, stopped: int
    ) -> None:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pilot-bench-")))
        self.broker = Broker(name, home, stack)
        Counters.create(home / "counters", subscribers)
        facts = {
            "system": name,
            "size": size,
            "subscribers": subscribers,
            "stopped": stopped,
            "counters": str(home / "counters"),
        }
        self._listeners = Part("subscribers", {**facts, "where": self.broker.subscriber_at})
        stack.callback(_end, self._listeners.process)
        self._listeners.read()
        self.publisher = Part("publisher", {**facts, "where": self.broker.publisher_at})
        stack.callback(_end, self.publisher.process)
        self.publisher.read()

    def delays(self, rate: float, seconds: float) -> list[float]:
        """@return: milliseconds from publisher to subscriber, sorted."""
        self._listeners.order("forget")
        self.publisher.order({"what": "pace", "rate": rate, "seconds": seconds})
        return [each * 1000 for each in self._listeners.order("tell")["latencies"]]


@contextlib.contextmanager
def running(name: str, size: int, subscribers: int, stopped: int = 0) -> Iterator[Run]:
    """Everything that one measurement needs; all of it ends with the block."""
    with contextlib.ExitStack() as stack:
        yield Run(stack, name, size, subscribers, stopped)


def measure(name: str, size: int, subscribers: int, seconds: float) -> dict[str, Any]:
    """Throughput and delay of one broker."""
    with running(name, size, subscribers) as run:
        window = max(16, min(WINDOW_EVENTS, WINDOW_BYTES // size))
        order = {
            "what": "throughput",
            "window": window,
            "batch": max(1, min(window // 4, (64 << 10) // size)),
            "seconds": seconds,
        }
        run.publisher.order({**order, "seconds": 0.3})  # warm
        before = run.broker.cpu()
        result = run.publisher.order(order)
        after = run.broker.cpu()
        rate = min(MODEST_EVENTS / subscribers, MODEST_BYTES / size / subscribers)
        delays = run.delays(rate, seconds)
        return {
            **result,
            "cpu": [late - early for early, late in zip(before, after, strict=True)],
            "memory": run.broker.memory(),
            "p50": percentile(delays, 0.5),
            "p99": percentile(delays, 0.99),
            "dropped": run.broker.dropped(),
        }


def percentile(values: list[float], part: float) -> float:
    """@return: a value that C{part} of them do not exceed."""
    return values[min(len(values) - 1, int(len(values) * part))] if values else float("nan")


# -- reporting ---------------------------------------------------------------------------------

_HEAD = (
    f"{'bytes':>6} {'subs':>4} {'':10} {'in/s':>9} {'out/s':>10} {'MB/s':>7} {'p50 ms':>7} "
    f"{'p99 ms':>7} {'CPU s':>6} {'all':>6} {'MiB':>5} {'lost':>6}  ours to it"
)


def report(size: int, subscribers: int, results: dict[str, dict[str, Any]]) -> None:
    """A line a broker."""
    ours = results.get("pilot")
    for name, result in results.items():
        out = result["delivered"] / result["seconds"]
        cells = [
            f"{size:6} {subscribers:4} {SYSTEMS[name].name:10}",
            f"{result['published'] / result['seconds']:9,.0f} {out:10,.0f}",
            f"{out * size / 1e6:7.1f} {result['p50']:7.2f} {result['p99']:7.2f}",
            f"{result['cpu'][0]:6.2f} {result['cpu'][1]:6.2f} {result['memory']:5.0f}",
            f"{result['lost']:6}",
        ]
        if ours is not None and name != "pilot":
            cells.append(f" {ours['delivered'] / ours['seconds'] / out:.2f}")
        print(" ".join(cells), flush=True)


def report_stopped(name: str) -> None:
    """
    The others' p99 without and with a stopped subscriber, by turns: the median of all seconds, so
    that what else the machine does in some of them does not count, and the worst second.
    """
    found: dict[int, list[float]] = {0: [], 1: []}
    dropped = None
    for _ in range(STOPPED_ROUNDS):
        for stopped, values in found.items():
            with running(name, STOPPED_SIZE, OTHERS, stopped) as run:
                run.delays(STOPPED_RATE, 2.0)  # warm; every buffer of the stopped one is full then
                for _ in range(STOPPED_SECONDS):
                    values.append(percentile(run.delays(STOPPED_RATE, 1.0), 0.99))
                dropped = run.broker.dropped()
    without, beside = (statistics.median(values) for values in found.values())
    told = "" if dropped is None else f"; {dropped} events dropped for it"
    print(
        f"{SYSTEMS[name].name:10} p99 {without:.2f} ms without (worst second {max(found[0]):.1f}), "
        f"{beside:.2f} ms with it ({max(found[1]):.1f}): {beside / without:.2f} times{told}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
