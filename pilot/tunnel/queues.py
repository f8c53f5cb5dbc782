"""Packets that wait for a key: bounded by number, by peers, and by age."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from pilot.tunnel.config import TunnelConfig


class SendQueues:
    """
    One short queue for each peer whose key is not there yet.

    @ivar counters: gets C{queue_dropped} (the oldest made room), C{queue_refused} (too many
        peers), C{queue_stale} (waited too long).
    """

    def __init__(self, config: TunnelConfig, counters: Counter[str]) -> None:
        self.counters = counters
        self._config = config
        self._queues: dict[int, deque[tuple[float, bytes]]] = {}

    def __len__(self) -> int:
        return len(self._queues)

    def __contains__(self, node_id: int) -> bool:
        return node_id in self._queues

    def put(self, node_id: int, packets: Iterable[bytes], now: float) -> bool:
        """
        Keep packets for later.

        @return: False if too many peers have a queue already, none of them stale; then nothing
            was kept.
        """
        queue = self._queues.get(node_id)
        if queue is None:
            if len(self._queues) >= self._config.queue_peers and not self._sweep(now):
                self.counters["queue_refused"] += 1
                return False
            queue = self._queues[node_id] = deque()
        for packet in packets:
            if len(queue) >= self._config.queue_packets:
                queue.popleft()
                self.counters["queue_dropped"] += 1
            queue.append((now, packet))
        return True

    def take(self, node_id: int, now: float) -> list[bytes]:
        """@return: what waits for C{node_id} and is not stale, in order; its queue is gone."""
        queue = self._queues.pop(node_id, ())
        oldest = now - self._config.queue_age
        fresh = [packet for at, packet in queue if at >= oldest]
        self._count_stale(len(queue) - len(fresh))
        return fresh

    def drop(self, node_id: int) -> None:
        """The peer is gone, and so is what waited for it."""
        self._count_stale(len(self._queues.pop(node_id, ())))

    def _count_stale(self, packets: int) -> None:
        if packets:
            self.counters["queue_stale"] += packets

    def _sweep(self, now: float) -> bool:
        """Make room among peers whose youngest packet is stale."""
        oldest = now - self._config.queue_age
        stale = [node for node, queue in self._queues.items() if queue[-1][0] < oldest]
        for node_id in stale:
            self.drop(node_id)
        return bool(stale)
