"""The nodes: ids, keys, hostnames, who is live and who is dormant.

A node that falls silent or says goodbye is not forgotten, it becomes dormant: it cannot be looked
up and its hostname is free, but under the same key it comes back as what it was.

@see: protocol notes of the registry, I{Data model} and I{Liveness}.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from itertools import islice

from pilot.registry.callers import Caller
from pilot.registry.limits import DEFAULT_LIMITS, Limits
from pilot.registry.names import check_hostname
from pilot.registry.records import Journal, Node, Table
from pilot.registry.refusal import Refusal, node_not_found

_MAX_ID = 0xFFFFFFFF
_NEXT = "next_node"


class NodeTable:
    """
    All nodes by id.

    @ivar live: nodes that can be found.
    @ivar dormant: departed ones, the longest gone first.
    """

    __slots__ = (
        "_by_age",
        "_by_key",
        "_hostnames",
        "_journal",
        "_limits",
        "_new_from",
        "_next",
        "dormant",
        "live",
    )

    def __init__(self, journal: Journal, limits: Limits = DEFAULT_LIMITS) -> None:
        self._journal = journal
        self._limits = limits
        self.live: dict[int, Node] = {}
        self.dormant: dict[int, Node] = {}
        self._by_key: dict[bytes, int] = {}
        self._hostnames: dict[str, int] = {}
        # Live ids with the time that reaping counts from, in the order of that time.  It is
        # last_seen but for nodes read from the store, which count from the moment of reading.
        self._by_age: dict[int, float] = {}
        self._new_from: dict[str, tuple[float, int]] = {}
        self._next = 1

    def get(self, node_id: int) -> Node:
        """@raise Refusal: C{node N: node not found}."""
        node = self.live.get(node_id)
        if node is None:
            raise node_not_found(node_id)
        return node

    def by_key(self, public_key: bytes) -> Node | None:
        """@return: the node, live or dormant, that has this key."""
        node_id = self._by_key.get(public_key)
        if node_id is None:
            return None
        return self.live.get(node_id) or self.dormant.get(node_id)

    def by_hostname(self, hostname: str) -> Node | None:
        """@return: the live node of that name."""
        node_id = self._hostnames.get(hostname)
        return None if node_id is None else self.live.get(node_id)

    def create(self, public_key: bytes, caller: Caller, now: float) -> Node:
        """
        Give a key that was never seen an id.

        @raise Refusal: no room, no ids left, or too many from this address.
        """
        self._check_room()
        if self._next > _MAX_ID:
            raise Refusal("node ID space exhausted")
        self._count_new(caller.host, now)
        node = Node(self._next, public_key, key_created=now)
        self._next += 1
        self._journal.put(Table.META, _NEXT, b"%d" % self._next)
        self._by_key[public_key] = node.id
        self.live[node.id] = node
        self.touch(node, now)
        return node

    def wake(self, node: Node, now: float) -> None:
        """
        A dormant node is back: as it was, its hostname included if nobody took it.

        @raise Refusal: no room.
        """
        self._check_room()
        del self.dormant[node.id]
        node.dormant_since = 0.0
        self.live[node.id] = node
        if node.hostname and self._hostnames.setdefault(node.hostname, node.id) != node.id:
            node.hostname = ""
        self.touch(node, now)

    def sleep(self, node: Node, now: float) -> None:
        """A live node is gone, for now."""
        del self.live[node.id]
        del self._by_age[node.id]
        if self._hostnames.get(node.hostname) == node.id:
            del self._hostnames[node.hostname]
        node.dormant_since = now
        self.dormant[node.id] = node
        self._journal.put(Table.NODE, node.id, node)

    def touch(self, node: Node, now: float) -> None:
        """A live node gave a sign of life."""
        node.last_seen = now
        self._by_age.pop(node.id, None)
        self._by_age[node.id] = now

    def changed(self, node: Node) -> None:
        """Have the node's record saved."""
        self._journal.put(Table.NODE, node.id, node)

    def rename(self, node: Node, hostname: str) -> None:
        """
        @param hostname: C{""} gives the name up.
        @raise Refusal: not a hostname, or another node's; in the words that C{register} uses.
        """
        if hostname:
            check_hostname(hostname)
            if self._hostnames.get(hostname, node.id) != node.id:
                raise Refusal(f'hostname "{hostname}" already in use')
        if node.hostname:
            self._hostnames.pop(node.hostname, None)
        if hostname:
            self._hostnames[hostname] = node.id
        node.hostname = hostname
        self.changed(node)

    def rotate(self, node: Node, public_key: bytes, now: float) -> None:
        """
        Give a live node a new key.

        @raise Refusal: the key is another node's.
        """
        if self._by_key.get(public_key, node.id) != node.id:
            raise Refusal("invalid new_public_key: it belongs to another node")
        del self._by_key[node.public_key]
        self._by_key[public_key] = node.id
        node.public_key = public_key
        node.key_rotated = now
        node.rotations += 1
        self.touch(node, now)
        self.changed(node)

    def silent(self, now: float) -> list[Node]:
        """@return: live nodes that were silent too long."""
        found = []
        for node_id, since in self._by_age.items():
            if now - since <= self._limits.stale_after:
                break
            found.append(self.live[node_id])
        return found

    def excess(self) -> list[Node]:
        """@return: dormant nodes that are too many to remember, the longest gone first."""
        count = len(self.dormant) - self._limits.dormant_nodes
        return [] if count <= 0 else list(islice(self.dormant.values(), count))

    def forget(self, node: Node) -> None:
        """A dormant node will not be known again; its id is not used again either."""
        del self.dormant[node.id]
        del self._by_key[node.public_key]
        self._journal.delete(Table.NODE, node.id)

    def grant_grace(self, now: float) -> None:
        """The silence up to now was ours: count every live node's from here."""
        self._by_age = dict.fromkeys(self._by_age, now)

    def unheard(self, now: float) -> int:
        """@return: live nodes not heard of lately, which only a grace keeps."""
        old = now - self._limits.stale_after
        count = 0
        for node_id in self._by_age:
            if self.live[node_id].last_seen > old:
                break
            count += 1
        return count

    def sweep(self, now: float) -> None:
        """Forget how many ids each address was given in a window that has passed."""
        old = now - self._limits.registration_window
        for host in [h for h, (start, _) in self._new_from.items() if start <= old]:
            del self._new_from[host]

    def restore(self, node: Node, now: float) -> None:
        """Take a record of the store."""
        self._by_key[node.public_key] = node.id
        self._next = max(self._next, node.id + 1)
        if node.dormant_since:
            self.dormant[node.id] = node
            return
        self.live[node.id] = node
        self._by_age[node.id] = now
        if node.hostname:
            self._hostnames[node.hostname] = node.id

    def restore_meta(self, word: str, value: bytes) -> None:
        """Take a row of the store that may be ours."""
        if word == _NEXT:
            self._next = max(self._next, int(value))

    def restored(self) -> None:
        """All rows were taken."""
        order = sorted(self.dormant.values(), key=lambda node: node.dormant_since)
        self.dormant = {node.id: node for node in order}

    def __iter__(self) -> Iterator[Node]:
        return iter(self.live.values())

    def __len__(self) -> int:
        return len(self.live)

    def _check_room(self) -> None:
        if len(self.live) >= self._limits.nodes:
            raise Refusal("registry full")

    def _count_new(self, host: str, now: float) -> None:
        if _is_loopback(host):
            return
        start, count = self._new_from.get(host, (now, 0))
        if now - start >= self._limits.registration_window:
            start, count = now, 0
        if count >= self._limits.new_nodes_per_host:
            raise Refusal(f"too many registrations from {host}")
        self._new_from[host] = (start, count + 1)
        if len(self._new_from) > self._limits.registration_hosts:
            del self._new_from[next(iter(self._new_from))]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
