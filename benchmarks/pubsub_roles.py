"""The parts of C{pubsub.py}, each a process: daemons, one publisher, all subscribers.

Publisher and subscribers share one file of counters: how many events each subscriber has got.  By
it the publisher keeps a bounded number of events under way, as a publisher that minds its
subscribers would, so that every broker is measured at what it delivers, not at what it drops.
"""

from __future__ import annotations

import json
import mmap
import select
import struct
import sys
import time
from pathlib import Path
from typing import Any

from pubsub_systems import SUBSCRIBERS, SYSTEMS, Link, System

_TIME = struct.Struct(">d")
#: Seconds without any progress after which a run counts as stuck.
STUCK = 5.0


def tell(fact: dict[str, Any]) -> None:
    """One JSON line for the script that measures."""
    print(json.dumps(fact), flush=True)


class Counters:
    """How many events each subscriber has got, shared between processes."""

    def __init__(self, path: str, count: int) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * count)
        self.view = memoryview(self._map).cast("Q")

    @staticmethod
    def create(path: Path, count: int) -> None:
        """Make the file."""
        path.write_bytes(bytes(8 * count))


def play(role: str, facts: dict[str, Any]) -> None:
    """Play C{role} to its end."""
    {"daemon": _daemon, "subscribers": _subscribers, "publisher": _publisher}[role](facts)


# -- subscribers -------------------------------------------------------------------------------


class _Subscriber:
    """One of them: counts, and takes the time of whole events while that is wanted."""

    def __init__(self, system: System, link: Link, size: int) -> None:
        payload = bytes(size)
        delivered = system.delivered(payload)
        self.link = link
        self._size = len(delivered)
        self._at = delivered.rindex(payload) if size else 0
        self._pending = b""
        self._bytes = 0

    def receive(self, latencies: list[float]) -> int:
        """Take what has come.  @return: events so far."""
        data = self.link.receive()
        if not data:
            return self._bytes // self._size
        before, self._bytes = self._bytes, self._bytes + len(data)
        if before // self._size == self._bytes // self._size:
            self._pending += data
            return before // self._size
        data = self._pending + data
        now, size, at = time.monotonic(), self._size, self._at
        for start in range(0, len(data) - size + 1, size):
            (sent,) = _TIME.unpack_from(data, start + at)
            if sent:
                latencies.append(now - sent)
        self._pending = data[len(data) - len(data) % size :]
        return self._bytes // size


def _subscribers(facts: dict[str, Any]) -> None:
    system = SUBSCRIBERS[facts["system"]]()
    count = facts["subscribers"]
    links = []
    for _ in range(count + facts["stopped"]):
        link = system.connect(facts["where"])
        system.subscribe(link)
        links.append(link)
        if not system.confirms:
            time.sleep(0.025)  # a node takes fifty connection requests a second from one peer
    if not system.confirms:
        time.sleep(0.5)
    counters = Counters(facts["counters"], count).view
    poll = select.epoll()
    readers: dict[int, tuple[int, _Subscriber]] = {}
    for number, link in enumerate(links[:count]):
        readers[link.socket.fileno()] = number, _Subscriber(system, link, facts["size"])
        poll.register(link.socket.fileno(), select.EPOLLIN)
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    latencies: list[float] = []
    tell({"ready": True})
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == sys.stdin.fileno():
                if not sys.stdin.readline():
                    return
                latencies.sort()
                tell({"latencies": latencies[:: max(1, len(latencies) // 20_000)]})
                latencies.clear()
                continue
            number, reader = readers[descriptor]
            counters[number] = reader.receive(latencies)


# -- the publisher -----------------------------------------------------------------------------


def _publisher(facts: dict[str, Any]) -> None:
    system = SYSTEMS[facts["system"]]()
    link = system.connect(facts["where"])
    counters = Counters(facts["counters"], facts["subscribers"]).view
    tell({"ready": True})
    sent = 0
    for line in sys.stdin:
        order = json.loads(line)
        if order["what"] == "throughput":
            sent, result = _flood(system, link, counters, sent, facts["size"], order)
        else:
            sent, result = _pace(system, link, counters, sent, facts["size"], order)
        tell(result)


def _flood(
    system: System, link: Link, counters: Any, sent: int, size: int, order: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Publish as fast as the slowest subscriber gets it."""
    window, batch = order["window"], order["batch"]
    frame = system.frame(bytes(size))
    many = frame * batch
    first, began = sent, time.monotonic()
    moved_at, moved = began, min(counters)
    while (now := time.monotonic()) - began < order["seconds"]:
        slowest = min(counters)
        if slowest != moved:
            moved, moved_at = slowest, now
        room = min(window - (sent - slowest), batch)
        if room * 2 < batch and room < window:
            if now - moved_at > STUCK:
                break
            time.sleep(0.0002)
            continue
        link.publish(many if room == batch else frame * room)
        sent += room
    ended = _drain(counters, sent)
    total = sum(counters) - first * len(counters)
    return sent, {
        "published": sent - first,
        "delivered": total,
        "seconds": ended - began,
        "lost": (sent - first) * len(counters) - total,
    }


def _pace(
    system: System, link: Link, counters: Any, sent: int, size: int, order: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Publish at a fixed rate, each event with the time it leaves."""
    first = sent
    began = time.monotonic()
    rest = bytes(size - _TIME.size)
    while (now := time.monotonic()) - began < order["seconds"]:
        due = began + (sent - first) / order["rate"]
        if due > now:
            time.sleep(due - now)
        link.publish(system.frame(_TIME.pack(time.monotonic()) + rest))
        sent += 1
    _drain(counters, sent)
    return sent, {"published": sent - first, "lost": sent * len(counters) - sum(counters)}


def _drain(counters: Any, sent: int) -> float:
    """Wait until everything is there, or nothing moves any more.  @return: since when."""
    total, moved_at = sum(counters), time.monotonic()
    while total < sent * len(counters) and time.monotonic() - moved_at < STUCK:
        time.sleep(0.0005)
        now = sum(counters)
        if now != total:
            total, moved_at = now, time.monotonic()
    return moved_at


# -- daemons -----------------------------------------------------------------------------------


def _daemon(facts: dict[str, Any]) -> None:
    from twisted.internet.task import react

    react(_run_daemon, (facts,))


async def _run_daemon(reactor: Any, facts: dict[str, Any]) -> None:
    """A node with its control socket and its broker; the first one brings the rendezvous."""
    from twisted.internet.defer import Deferred
    from twisted.internet.protocol import Protocol
    from twisted.internet.stdio import StandardIO

    from pilot.address import PORT_EVENT_STREAM
    from pilot.crypto.identity import Identity
    from pilot.daemon.ipc import IpcServer
    from pilot.daemon.ipc_service import ControlSocketService
    from pilot.node.service import NodeService
    from pilot.node.settings import NodeSettings
    from pilot.registry.rendezvous import Rendezvous, RendezvousSettings
    from pilot.services.eventstream import EventStreamFactory

    registry = facts.get("registry")
    if registry is None:
        rendezvous = Rendezvous(
            RendezvousSettings(registry_addr="127.0.0.1:0", beacon_addr="127.0.0.1:0"), reactor
        )
        rendezvous.startService()
        await rendezvous.started
        registry = f"127.0.0.1:{rendezvous.registry_port}"
    settings = NodeSettings(
        registry=registry, beacon="", identity=None, listen="127.0.0.1:0", public=True
    )
    nodes = NodeService(reactor, settings, Identity.generate(), None)
    nodes.startService()
    await nodes.started
    events = EventStreamFactory(reactor)
    await nodes.node.listen(PORT_EVENT_STREAM, events)
    path = str(Path(facts["home"]) / f"{facts['name']}.sock")
    ControlSocketService(reactor, path, IpcServer(nodes.node, reactor)).startService()
    node_id = nodes.node.own_address().node
    tell({"registry": registry, "socket": path, "node_id": node_id})
    asked: Deferred[None] = Deferred()

    class Orders(Protocol):
        """Anything on standard input, its end included, is the order to stop."""

        def dataReceived(self, data: bytes) -> None:
            tell(events.statistics())

        def connectionLost(self, reason: object = None) -> None:
            asked.callback(None)

    StandardIO(Orders(), reactor=reactor)
    await asked
