"""What ten thousand nodes cost a registry, and how many requests it answers.

A registry runs in a process of its own, on loopback, with its database on disk.  This process plays
the nodes: every one has its own key and its own open connection, registers with proof of its key,
and from then on sends signed heartbeats.

    python benchmarks/registry.py [--nodes 10000] [--seconds 5]

It exits with 1 when the idle registry is not below 200 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pilot.crypto.identity import Identity
from pilot.registry.extensions import registration_text

SERVER = """
import sys
from twisted.internet import reactor
from twisted.logger import globalLogBeginner
globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)
from pilot.registry.connection import ConnectionLimits
from pilot.registry.rendezvous import Rendezvous, RendezvousSettings
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
service = Rendezvous(
    RendezvousSettings("127.0.0.1:0", "127.0.0.1:0", store=sys.argv[1]),
    reactor,
    connection_limits=ConnectionLimits(accepted_per_second=1_000_000),
)
service.started.addCallbacks(
    lambda _: print(service.registry_port, flush=True), lambda f: (print(f), reactor.stop())
)
reactor.callWhenRunning(service.startService)
reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
reactor.run()
"""


class Node:
    """One node: a key and a connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.identity = Identity.generate()

    async def join(self) -> None:
        """Connect and register."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        now, key = int(time.time()), self.identity.public_key_text
        answer = await self.ask(
            {
                "type": "register",
                "listen_addr": ":4000",
                "public_key": key,
                "version": "v1.7.0",
                "lan_addrs": ["192.168.1.5:4000"],
                "proof": self.identity.sign_text(registration_text(key, ":4000", now)),
                "proof_time": now,
                "notify": True,
            }
        )
        self.node_id = answer["node_id"]
        beat = {
            "type": "heartbeat",
            "node_id": self.node_id,
            "signature": self.identity.sign_text(b"heartbeat:%d" % self.node_id),
            "notify": True,
        }
        self.beat = frame(beat)
        self.look = frame({"type": "lookup", "node_id": self.node_id})
        self.tags = [
            frame(
                {
                    "type": "set_tags",
                    "node_id": self.node_id,
                    "tags": [tag],
                    "signature": self.identity.sign_text(b"set_tags:%d" % self.node_id),
                }
            )
            for tag in ("a", "b")
        ]

    async def ask(self, request: dict[str, object]) -> dict[str, object]:
        """@return: the answer."""
        return json.loads(await self.send(frame(request)))

    async def send(self, data: bytes) -> bytes:
        """@return: the body of the answer."""
        self.writer.write(data)
        (size,) = struct.unpack(">I", await self.reader.readexactly(4))
        return await self.reader.readexactly(size)


def frame(request: dict[str, object]) -> bytes:
    """@return: length and body."""
    body = json.dumps(request).encode()
    return struct.pack(">I", len(body)) + body


def usage(pid: int) -> tuple[float, float]:
    """@return: resident megabytes and CPU seconds of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return resident / 1024, ticks / os.sysconf("SC_CLK_TCK")


async def measure(port: int, pid: int, count: int, seconds: float) -> bool:
    """@return: whether the idle registry is small enough."""
    before, _ = usage(pid)
    print(f"registry started          {before:8.1f} MB resident")
    nodes: list[Node] = []
    start, cpu = time.perf_counter(), usage(pid)[1]
    while len(nodes) < count:
        fresh = [Node(port) for _ in range(min(200, count - len(nodes)))]
        await asyncio.gather(*(node.join() for node in fresh))
        nodes += fresh
    took, cpu = time.perf_counter() - start, usage(pid)[1] - cpu
    print(
        f"{count} nodes registered   {usage(pid)[0]:8.1f} MB resident,"
        f" {count / took:7.0f} /s, {cpu / count * 1e6:5.0f} us CPU each (durable)"
    )
    await load(pid, nodes, "first heartbeats", lambda node: node.beat, None)
    for what, choose in (
        ("heartbeats", lambda node: node.beat),
        ("lookups", lambda node: node.look),
        ("set_tags, durable", lambda node: node.tags[int(time.time()) & 1]),
    ):
        await load(pid, nodes, what, choose, seconds)
    await asyncio.sleep(1)
    resident = usage(pid)[0]
    idle = usage(pid)[1]
    await asyncio.sleep(5)
    idle = usage(pid)[1] - idle
    print(f"{count} idle               {resident:8.1f} MB resident, {idle / 5:.1%} CPU")
    for node in nodes:
        node.writer.transport.abort()
    return resident < 200


async def load(
    pid: int,
    nodes: list[Node],
    what: str,
    choose: Callable[[Node], bytes],
    seconds: float | None,
) -> None:
    """
    Let many nodes ask at once.

    @param choose: what a node asks.
    @param seconds: for how long; None lets every node ask once.
    """
    done, start, cpu = 0, time.perf_counter(), usage(pid)[1]
    pending = iter(nodes) if seconds is None else None
    end = start + (seconds or 1e9)

    async def worker(mine: list[Node]) -> None:
        nonlocal done
        if pending is not None:
            for node in pending:
                await node.send(choose(node))
                done += 1
            return
        while time.perf_counter() < end:
            for node in mine:
                await node.send(choose(node))
                done += 1
                if time.perf_counter() >= end:
                    return

    workers = 64
    await asyncio.gather(*(worker(nodes[n::workers]) for n in range(workers)))
    took, cpu = time.perf_counter() - start, usage(pid)[1] - cpu
    print(f"{what:24}  {done / took:8.0f} /s, {cpu / done * 1e6:5.0f} us CPU each")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--nodes", type=int, default=10_000)
    options.add_argument("--seconds", type=float, default=5.0)
    chosen = options.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if chosen.nodes + 100 > hard:
        print(f"only {hard} open files are allowed here: {hard - 100} nodes", file=sys.stderr)
        chosen.nodes = hard - 100
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as home:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, f"{home}/registry.db"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            small = asyncio.run(measure(port, server.pid, chosen.nodes, chosen.seconds))
        finally:
            server.terminate()
            server.wait(30)
    return 0 if small else 1


if __name__ == "__main__":
    sys.exit(main())
