"""How fast an encrypted overlay stream is, beside what one would use instead.

An echo of 64 MB on loopback, each side a process of its own, through

* a Twisted TCP echo and a Twisted TLS echo;
* two nodes over their encrypted tunnel, driven through endpoints in the process: once with the
  datagrams of 1,200 bytes that cross any Internet path, once with the large ones of loopback;
* two daemons, driven by a third process through the Unix control socket (1,200 bytes, and large).

They run in turn within one call, so that the ratios hold on a noisy machine::

    python benchmarks/stream.py [--megabytes 64] [--rounds 3] [--only NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # for the roles, which run this file again

NAMES = {
    "tcp": "Twisted TCP",
    "tls": "Twisted TLS",
    "node-1200": "pilot, in process, 1,200 B datagrams",
    "node-large": "pilot, in process, large datagrams",
    "socket-1200": "pilot, Unix socket, 1,200 B datagrams",
    "socket-large": "pilot, Unix socket, large datagrams",
}


def main() -> int:
    """Run the measurements, or one role of one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=sorted(NAMES), action="append")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--facts", type=json.loads, default={}, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        import stream_roles

        stream_roles.play(options.role, options.facts)
        return 0
    report(measure_all(options.megabytes << 20, options.rounds, options.only or list(NAMES)))
    return 0


def measure_all(total: int, rounds: int, names: list[str]) -> dict[str, list[dict[str, float]]]:
    """Every measurement once a round, so that all see the same weather."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            show(f"round {number + 1} of {rounds}: {NAMES[name]}")
            with tempfile.TemporaryDirectory(prefix="pilot-bench-") as home:
                result = measure(name, total, Path(home))
            results[name].append({**result, "bytes": total})
    show("")
    return results


def measure(name: str, total: int, home: Path) -> dict[str, float]:
    """One echo of C{total} bytes.  @return: seconds, and CPU seconds of each process."""
    kind, _, size = name.partition("-")
    facts: dict[str, Any] = {"total": total, "home": str(home), "size": size}
    with contextlib.ExitStack() as stack:
        if kind == "socket":
            return measure_socket(stack, facts)
        server = stack.enter_context(Role(f"{kind}-server", facts))
        client = stack.enter_context(Role(f"{kind}-client", {**facts, **server.facts}))
        seconds = client.read()["seconds"]
        return {"seconds": seconds, "server": server.stop(), "client": client.stop()}


def measure_socket(stack: contextlib.ExitStack, facts: dict[str, Any]) -> dict[str, float]:
    """A daemon each side and a program at one of them; the other's echo service answers."""
    far = stack.enter_context(Role("daemon", {**facts, "name": "far"}))
    near = stack.enter_context(Role("daemon", {**facts, **far.facts, "name": "near"}))
    program = {**facts, "socket": near.facts["socket"], "target": far.facts["node_id"]}
    client = stack.enter_context(Role("socket-client", program))
    seconds = client.read()["seconds"]
    return {
        "seconds": seconds,
        "server": far.stop(),
        "client": near.stop(),
        "program": client.stop(),
    }


class Role:
    """A process of this script that plays one part and tells its facts as JSON lines."""

    def __init__(self, role: str, facts: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--role", role, "--facts", json.dumps(facts)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._role = role
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> Role:
        if not self._role.endswith("client"):
            self.facts = self.read()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def read(self) -> dict[str, Any]:
        """The next fact."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._role} ended without a word")
        return dict(json.loads(line))

    def stop(self) -> float:
        """End the process.  @return: its CPU seconds since it was ready."""
        self._process.send_signal(signal.SIGTERM)
        return float(self.read()["cpu"])


def report(results: dict[str, list[dict[str, float]]]) -> None:
    """A table of medians, and each one's ratio to the TLS echo of the same round."""
    print(
        f"echo on loopback, {os.cpu_count()} cores, median of {len(next(iter(results.values())))}"
    )
    print(f"{'':40} {'MB/s':>8} {'of TLS':>8} {'server':>8} {'client':>8} {'program':>8}")
    for name, rounds in results.items():
        speeds = [one["bytes"] / one["seconds"] / 1e6 for one in rounds]
        ratios = [
            tls["seconds"] / one["seconds"]
            for one, tls in zip(rounds, results.get("tls", []), strict=False)
        ]
        cells = [f"{statistics.median(speeds):8.0f}"]
        cells.append(f"{statistics.median(ratios):8.2f}" if ratios else f"{'-':>8}")
        for side in ("server", "client", "program"):
            cpu = [one[side] for one in rounds if side in one]
            cells.append(f"{statistics.median(cpu):7.2f}s" if cpu else f"{'':8}")
        print(f"{NAMES[name]:40} {' '.join(cells)}")


def show(text: str) -> None:
    """Progress, for a person only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def cpu_seconds() -> float:
    """CPU time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
