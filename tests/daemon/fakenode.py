"""Two nodes without a network: enough of C{PilotNode} to hold a control socket against."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure

from pilot.address import Address, SocketAddress
from pilot.errors import ConnectionRefused, NotFound, PilotError, PortInUse, RegistryError
from pilot.interfaces import ISegmentReceiver
from pilot.node.endings import StreamReset
from pilot.node.listening import ListeningPort
from pilot.node.streamaddress import PilotStreamAddress

#: Bytes that one end takes before the other end's producer is paused.
WINDOW = 10_000

#: Bytes a segment.
SEGMENT = 4096


class FakeNetwork:
    """Nodes 1, 2, ... that reach each other; a turn of the clock carries what was written."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.nodes: dict[int, FakeNode] = {}
        self.next_port = 49152

    def node(self, hostname: str) -> FakeNode:
        node = FakeNode(self, len(self.nodes) + 1, hostname)
        self.nodes[node.address.node] = node
        return node

    def port(self) -> int:
        self.next_port += 1
        return self.next_port - 1


class FakeStream:
    """One end of a stream, as C{pilot.node.transport.StreamTransport} looks to a protocol."""

    def __init__(self, node: FakeNode, local: PilotStreamAddress, remote: PilotStreamAddress):
        node.last_id += 1
        self.node, self.local, self.remote = node, local, remote
        self.connection_id = node.last_id
        self.connected = True
        self.disconnecting = False
        self.protocol: Any = None
        self.other: FakeStream | None = None
        self.unread: deque[bytes | None] = deque()  # None: the end of the other direction
        self.reading = True
        self.producer: Any = None
        self.paused_producer = False
        self.write_closed = False
        self.read_closed = False
        self.ended = False
        self.written: list[bytes] = []
        node.by_id[self.connection_id] = self

    def start(self, protocol: Any) -> None:
        self.protocol = protocol
        self.segments = ISegmentReceiver.providedBy(protocol)
        protocol.makeConnection(self)

    def getHost(self) -> PilotStreamAddress:
        return self.local

    def getPeer(self) -> PilotStreamAddress:
        return self.remote

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if self.write_closed or not data or self.other is None:
            return
        self.written.append(data)
        for start in range(0, len(data), SEGMENT):
            self.other.unread.append(data[start : start + SEGMENT])
        self.node.network.clock.callLater(0, self.other.turn)
        if self.backlog() > WINDOW and self.producer and not self.paused_producer:
            self.paused_producer = True
            self.producer.pauseProducing()

    def writeSequence(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def backlog(self) -> int:
        assert self.other is not None
        return sum(len(data) for data in self.other.unread if data)

    def turn(self) -> None:
        while self.unread and self.reading and not self.ended:
            data = self.unread.popleft()
            if data is None:
                self.peer_finished()
            elif self.disconnecting:
                pass
            elif self.segments:
                self.protocol.segmentsReceived([data])
            else:
                self.protocol.dataReceived(data)
        other = self.other
        if other and other.paused_producer and other.producer and other.backlog() <= WINDOW // 4:
            other.paused_producer = False
            other.producer.resumeProducing()

    def peer_finished(self) -> None:
        self.read_closed = True
        if IHalfCloseableProtocol.providedBy(self.protocol) and not self.disconnecting:
            self.protocol.readConnectionLost()
            if self.write_closed:
                self.lose(ConnectionDone())
            return
        self.close_write()
        self.lose(ConnectionDone())

    def close_write(self) -> None:
        if not self.write_closed:
            self.write_closed = True
            if self.other is not None:
                self.other.unread.append(None)
                self.node.network.clock.callLater(0, self.other.turn)
            if self.read_closed:
                self.node.network.clock.callLater(0, self.lose, ConnectionDone())

    def loseWriteConnection(self) -> None:
        self.close_write()

    def loseConnection(self) -> None:
        if not self.ended:
            self.disconnecting = True
            if self.producer is None:
                self.close_write()
                if self.other is None or self.other.ended:
                    self.node.network.clock.callLater(0, self.lose, ConnectionDone())

    def dismiss(self) -> None:
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self.loseConnection()

    def abortConnection(self) -> None:
        other = self.other
        if not self.ended:
            self.write_closed = True
            self.lose(ConnectionAborted())
            if other is not None and not other.ended:
                other.reset()

    def reset(self) -> None:
        self.node.network.clock.callLater(0, self.lose, StreamReset("connection reset by peer"))

    def lose(self, reason: Exception) -> None:
        if self.ended:
            return
        self.ended = self.disconnecting = self.write_closed = True
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(reason))
        # As a finished stream it can still be found until something forgets it.

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming and self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None
        if self.disconnecting:
            self.close_write()

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        if not self.reading:
            self.reading = True
            self.node.network.clock.callLater(0, self.turn)

    def stopProducing(self) -> None:
        self.loseConnection()


class FakeNode:
    """Answers as a registered node would; C{slow} holds answers back until they are released."""

    def __init__(self, network: FakeNetwork, node_id: int, hostname: str) -> None:
        self.network = network
        self.address = Address(0, node_id)
        self.hostname = hostname
        self.last_id = 0
        self.by_id: dict[int, FakeStream] = {}
        self.bound: dict[int, Any] = dict.fromkeys((7, 444, 1001, 1002, 1003))
        self.listeners: list[Any] = []
        self.parts = SimpleNamespace(streams=SimpleNamespace(by_id=self.by_id.get))
        self.trusted_nodes: set[int] = set()
        self.waiting: dict[Any, Deferred[Any]] = {}
        self.calls: list[tuple[Any, ...]] = []

    # streams

    def dial(self, target: Any, port: int, factory: Any) -> Deferred[Any]:
        if target.node in self.waiting:
            return self.waiting[target.node]
        other = self.network.nodes.get(target.node)
        if other is None:
            text = f"resolve node {target.node}: registry: node {target.node}: node not found"
            return fail(PilotError(text))
        server = other.bound.get(port)
        if server is None:
            return fail(ConnectionRefused("connection refused"))
        local = PilotStreamAddress(self.address, self.network.port())
        remote = PilotStreamAddress(target, port)
        accepted = server.buildProtocol(local)
        if accepted is None:
            return fail(ConnectionRefused("connection refused"))
        protocol = factory.buildProtocol(remote)
        near, far = FakeStream(self, local, remote), FakeStream(other, remote, local)
        near.other, far.other = far, near
        far.start(accepted)
        near.start(protocol)
        return succeed(protocol)

    def listen(self, port: int, factory: Any) -> Deferred[Any]:
        if port in self.bound:
            return fail(PortInUse(f"port {port} already bound"))
        port = port or self.network.port()
        self.bound[port] = factory
        address = PilotStreamAddress(self.address, port)
        listening = ListeningPort(address, lambda: lambda: self.bound.pop(port, None))
        listening.startListening()
        return succeed(listening)

    # datagrams

    def send_datagram(self, target: Address, port: int, data: bytes) -> Deferred[None]:
        other = self.network.nodes.get(target.node)
        if target.is_broadcast and target.network == 0:
            return fail(PilotError("broadcast on backbone network is not permitted"))
        if other is None:
            text = f"resolve node {target.node}: registry: node {target.node}: node not found"
            return fail(PilotError(text))
        if len(data) > 65535:
            return fail(PilotError(f"marshal: payload too large: {len(data)} bytes (max 65535)"))
        if data:
            source = SocketAddress(self.address, self.network.port())
            for listener in list(other.listeners):
                listener(source, port, data)
        return succeed(None)

    def add_datagram_listener(self, listener: Any) -> Any:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    # questions

    def info(self) -> Deferred[dict[str, Any]]:
        return succeed(
            {
                "node_id": self.address.node,
                "address": str(self.address),
                "hostname": self.hostname,
                "uptime_secs": 90,
                "networks": None,
                "peer_list": [],
                "conn_list": [{"id": number} for number in self.by_id],
                "refused": {"untrusted": 0},
            }
        )

    def health(self) -> dict[str, Any]:
        numbers = dict.fromkeys(("connections", "peers", "bytes_sent", "bytes_recv"), 0)
        return {"status": "ok", "uptime_seconds": 90, **numbers}

    def resolve_hostname(self, hostname: str) -> Deferred[dict[str, Any]]:
        if hostname in self.waiting:
            return self.waiting[hostname]
        for node in self.network.nodes.values():
            if node.hostname == hostname:
                reply = {"node_id": node.address.node, "address": str(node.address)}
                fixed = {"type": "resolve_hostname_ok", "public": True, "hostname": hostname}
                return succeed({**fixed, **reply})
        return fail(RegistryError(f'hostname "{hostname}" not found'))

    def set_hostname(self, hostname: str) -> Deferred[dict[str, Any]]:
        taken = any(node.hostname == hostname != "" for node in self.network.nodes.values())
        if taken or hostname == "localhost" or len(hostname) > 63 or "_" in hostname:
            return fail(RegistryError("invalid hostname: no good"))
        self.hostname = hostname
        return self._ok("set_hostname_ok", hostname=hostname)

    def set_visibility(self, public: bool) -> Deferred[dict[str, Any]]:
        return self._ok("set_visibility_ok", visibility="public" if public else "private")

    def replace_tags(self, tags: list[str]) -> Deferred[dict[str, Any]]:
        if len(tags) > 3:
            return fail(PilotError("maximum 3 tags allowed"))
        if any(" " in tag or not tag or len(tag) > 32 for tag in tags):
            return fail(RegistryError("request failed"))
        stored = list(dict.fromkeys(tag.removeprefix("#") for tag in tags))
        return self._ok("set_tags_ok", tags=stored or None)

    def set_task_exec(self, enabled: bool) -> Deferred[dict[str, Any]]:
        return self._ok("set_task_exec_ok", task_exec=enabled)

    def deregister(self) -> Deferred[dict[str, Any]]:
        return succeed({"type": "deregister_ok"})

    def _ok(self, kind: str, **fields: Any) -> Deferred[dict[str, Any]]:
        return succeed({"type": kind, "node_id": self.address.node, **fields})

    # trust

    def handshake(self, node_id: int, justification: str) -> Deferred[dict[str, Any]]:
        self.calls.append(("handshake", node_id, justification))
        if node_id in self.waiting:
            return self.waiting[node_id]
        return succeed({"node_id": node_id, "status": "sent"})

    def approve(self, node_id: int) -> Deferred[dict[str, Any]]:
        self.trusted_nodes.add(node_id)
        return succeed({"node_id": node_id, "status": "approved"})

    def reject(self, node_id: int, reason: str) -> Deferred[dict[str, Any]]:
        self.calls.append(("reject", node_id, reason))
        return succeed({"node_id": node_id, "status": "rejected"})

    def untrust(self, node_id: int) -> Deferred[dict[str, Any]]:
        if node_id not in self.trusted_nodes:
            return fail(NotFound(f"node {node_id} was not trusted"))
        self.trusted_nodes.discard(node_id)
        return succeed({"node_id": node_id, "status": "revoked"})

    def pending(self) -> Deferred[list[dict[str, Any]]]:
        return succeed([])

    def trusted(self) -> Deferred[list[dict[str, Any]]]:
        return succeed([{"node_id": node} for node in sorted(self.trusted_nodes)])

    # networks

    def network_list(self) -> Deferred[dict[str, Any]]:
        return succeed({"type": "list_networks_ok", "networks": []})

    def network_join(self, network: int, token: str) -> Deferred[dict[str, Any]]:
        self.calls.append(("join", network, token))
        if network == 99:
            return fail(RegistryError("network 99: network not found"))
        address = str(Address(network, self.address.node))
        reply = {"type": "join_network_ok", "network_id": network, "address": address}
        return succeed(reply)

    def network_leave(self, network: int) -> Deferred[dict[str, Any]]:
        return succeed({"type": "leave_network_ok", "network_id": network})

    def network_members(self, network: int) -> Deferred[dict[str, Any]]:
        return succeed({"type": "list_nodes_ok", "nodes": []})

    def network_invite(self, network: int, node_id: int) -> Deferred[dict[str, Any]]:
        reply = {"type": "invite_to_network_ok", "network_id": network, "target_node_id": node_id}
        return succeed(reply)

    def network_invites(self) -> Deferred[dict[str, Any]]:
        return succeed({"type": "poll_invites_ok", "invites": []})

    def network_respond(self, network: int, accept: bool) -> Deferred[dict[str, Any]]:
        reply = {"type": "respond_invite_ok", "accepted": accept, "network_id": network}
        return succeed(reply)

    def member_tags(self, network: int, node_id: int) -> Deferred[dict[str, Any]]:
        if network == 99:
            return fail(RegistryError("network 99: network not found"))
        reply = {"network_id": network, "target_node_id": node_id, "tags": []}
        return succeed({"type": "get_member_tags_ok", **reply})

    def set_member_tags(self, network: int, node_id: int, tags: Any) -> Deferred[dict[str, Any]]:
        reply = {"network_id": network, "target_node_id": node_id, "tags": tags or None}
        return succeed({"type": "set_member_tags_ok", **reply})
