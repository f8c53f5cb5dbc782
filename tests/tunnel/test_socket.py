"""The real socket, over loopback, with and without the kernel's help."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pilot.crypto.identity import Identity
from pilot.tunnel import socket as tunnel_socket
from pilot.tunnel.socket import READS_PER_TURN, Offload, UdpSocket, detect_offload
from pilot.tunnel.tunnel import Endpoint, Tunnel
from pilot.wire.packet import PROTO_DATAGRAM, RawPacket, encode_raw
from tests.simulation.tunnels import SimulatedRegistry

BOTH_PATHS = pytest.mark.parametrize("offload", [True, False], ids=["offload", "plain"])


class HandDriven(Clock):
    """A reactor that reads when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[object] = []

    def addReader(self, reader: object) -> None:
        """Remember it."""
        if reader not in self.readers:
            self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        """Forget it."""
        if reader in self.readers:
            self.readers.remove(reader)


class Keeper:
    """Keeps datagrams as they are cut from what arrives."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.sources: list[tuple[str, int]] = []
        self.calls = 0
        self.batches = 0

    def datagrams_received(self, data: bytes, size: int, addr: tuple[str, int]) -> None:
        """Cut and keep."""
        self.calls += 1
        self.sources.append(addr)
        self.datagrams += [data[at : at + size] for at in range(0, len(data), size)]

    def batch_ended(self) -> None:
        """Count the turns."""
        self.batches += 1


class Ends:
    """Sockets for a test, closed after it."""

    def __init__(self) -> None:
        self.reactor = HandDriven()
        self.open: list[UdpSocket] = []

    def make(
        self, host: str = "127.0.0.1", *, offload: bool = True, receiver: Any = None
    ) -> tuple[UdpSocket, Any]:
        """@return: a started socket on a free port and whoever gets its datagrams."""
        sock, keeper = UdpSocket(self.reactor, host, 0, offload=offload), receiver or Keeper()
        sock.start(keeper)
        self.open.append(sock)
        return sock, keeper


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Sockets on loopback."""
    ends = Ends()
    yield ends
    for sock in ends.open:
        sock.close()
    assert ends.reactor.readers == []


def flat(datagrams: Sequence[bytes]) -> list[bytes]:
    """@return: two buffers for each datagram."""
    return [part for data in datagrams for part in (data[:5], data[5:])]


def read_all(sock: UdpSocket, keeper: Keeper, count: int) -> None:
    """Read until so many datagrams are there; loopback delivers before the send returns."""
    for _ in range(1000):
        if len(keeper.datagrams) >= count:
            return
        sock.doRead()
    raise AssertionError(f"{len(keeper.datagrams)} of {count} datagrams")


@BOTH_PATHS
@pytest.mark.parametrize("size", [5, 36, 1200, 4096, 16_000, 40_000, 65_507])
@pytest.mark.parametrize("tail", [0, 4])
def test_batches_arrive_whole_and_in_order(ends: Ends, offload: bool, size: int, tail: int) -> None:
    (here, _), (there, keeper) = ends.make(offload=offload), ends.make(offload=offload)
    count = 150 if size <= 4096 else 5
    datagrams = [number.to_bytes(5, "big") + bytes(size - 5) for number in range(count)]
    if tail:
        datagrams[-1] = datagrams[-1][: size - tail]
    assert here.send_batch(flat(datagrams), 2, size, there.address) == count
    read_all(there, keeper, count)
    assert keeper.datagrams == datagrams
    assert set(keeper.sources) == {here.address}
    assert keeper.batches >= 1


def test_the_kernel_helps_where_it_says_so(ends: Ends) -> None:
    """A batch is taken in far fewer calls than it has datagrams."""
    if detect_offload() != Offload(True, True):
        pytest.skip("this kernel has no segmentation offload")
    (here, _), (there, keeper) = ends.make(), ends.make()
    here.send_batch(flat([bytes(1200)] * 100), 2, 1200, there.address)
    read_all(there, keeper, 100)
    assert keeper.calls <= 10


def test_elsewhere_there_is_no_offload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel_socket.sys, "platform", "darwin")
    assert detect_offload.__wrapped__() == Offload(False, False)


@BOTH_PATHS
def test_single_datagrams(ends: Ends, offload: bool) -> None:
    (here, _), (there, keeper) = ends.make(offload=offload), ends.make(offload=offload)
    assert here.send(b"one", there.address) == 1
    assert here.send_batch([b"t", b"wo"], 2, 3, there.address) == 1
    here.send(b"", there.address)
    read_all(there, keeper, 2)
    assert keeper.datagrams == [b"one", b"two"]


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_one_socket_for_both_families(ends: Ends) -> None:
    """IPv4 addresses look the same whatever socket they come in by."""
    both, keeper = ends.make("")
    four, four_keeper = ends.make("127.0.0.1")
    if ":" not in both.address[0]:
        pytest.skip("no IPv6 here")
    port = both.address[1]
    four.send_batch(flat([bytes(100)] * 10), 2, 100, ("127.0.0.1", port))
    read_all(both, keeper, 10)
    assert set(keeper.sources) == {four.address}
    both.send_batch(flat([bytes(100)] * 10), 2, 100, four.address)
    read_all(four, four_keeper, 10)
    assert set(four_keeper.sources) == {("127.0.0.1", port)}
    try:
        six, six_keeper = ends.make("::1")
    except OSError:
        pytest.skip("no IPv6 loopback")
    six.send(b"six", ("::1", port))
    read_all(both, keeper, 11)
    assert keeper.sources[-1] == six.address
    both.send(b"six", six.address)
    read_all(six, six_keeper, 1)
    assert six_keeper.sources == [("::1", port)]


def test_what_cannot_be_sent_is_lost_and_counted(ends: Ends) -> None:
    """Nothing is raised, whatever the system says."""
    here, _ = ends.make()
    assert here.send(b"x", ("2001:db8::1", 5)) == 0
    assert here.send(bytes(70_000), ("127.0.0.1", 5)) == 0
    assert here.send(b"x", ("127.0.0.1", 70_000)) == 0
    assert here.send(b"x", ("no such host.", 5)) == 0
    assert here.counters["send_lost"] == 4
    assert here.counters["send_errno_EMSGSIZE"] == 1
    here.close()
    assert here.send(b"x", ("127.0.0.1", 5)) == 0
    assert here.send_batch(flat([bytes(10)] * 5), 2, 10, ("127.0.0.1", 5)) == 0


@pytest.mark.parametrize("code", [errno.EMSGSIZE, errno.EINVAL, errno.EIO])
def test_a_path_that_refuses_segmentation_gets_single_datagrams(ends: Ends, code: int) -> None:
    """And is remembered for it."""
    (here, _), (there, keeper) = ends.make(), ends.make()
    real, calls = here._socket, []

    class Refusing:
        """A socket on a path with a small MTU."""

        def sendmsg(self, buffers: Any, control: Any = (), flags: int = 0, to: Any = None) -> int:
            """No segmentation here."""
            calls.append(bool(control))
            if control:
                raise OSError(code, "no")
            return real.sendmsg(buffers, control, flags, to)  # type: ignore[union-attr]

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    here._gso = True
    here._socket = Refusing()  # type: ignore[assignment]
    for _ in range(2):
        assert here.send_batch(flat([bytes(1000)] * 5), 2, 1000, there.address) == 5
    read_all(there, keeper, 10)
    assert calls == [True] + [False] * 10
    assert here.counters["send_lost"] == 0


def test_a_full_system_loses_datagrams_and_goes_on(ends: Ends) -> None:
    (here, _), (there, _) = ends.make(), ends.make()
    real = here._socket

    class Full:
        """A socket whose buffer is full."""

        def sendmsg(self, *args: Any) -> int:
            """No room."""
            raise BlockingIOError(errno.EAGAIN, "full")

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    here._gso = True
    here._socket = Full()  # type: ignore[assignment]
    assert here.send_batch(flat([bytes(1000)] * 200), 2, 1000, there.address) == 0
    assert here.counters["send_lost"] == 200
    assert here.counters["send_errno_EAGAIN"] == 4, "one for each group"


def test_a_closed_port_at_the_other_end_does_not_matter(ends: Ends) -> None:
    """The kernel may report the refusal at a later read; reading goes on."""
    (here, keeper), (there, _), (third, _) = ends.make(), ends.make(), ends.make()
    there.close()
    for _ in range(3):
        here.send(b"knock", there.address)
        here.doRead()
    third.send(b"hello", here.address)
    read_all(here, keeper, 1)
    assert keeper.datagrams == [b"hello"]


def test_a_turn_is_bounded(ends: Ends) -> None:
    """Others have their turn in between; nothing is lost by it."""
    (here, _), (there, keeper) = ends.make(offload=False), ends.make(offload=False)
    for number in range(2 * READS_PER_TURN):
        here.send(b"%d" % number, there.address)
    there.doRead()
    assert len(keeper.datagrams) == READS_PER_TURN
    assert keeper.batches == 1
    read_all(there, keeper, 2 * READS_PER_TURN)


def test_a_receiver_that_fails_is_logged_and_fed_on(
    ends: Ends, nothing_left_behind: list[object]
) -> None:
    class Failing(Keeper):
        """Fails at everything."""

        def datagrams_received(self, data: bytes, size: int, addr: tuple[str, int]) -> None:
            """Fail after having kept it."""
            super().datagrams_received(data, size, addr)
            raise RuntimeError("a bug upstairs")

        def batch_ended(self) -> None:
            """Fail again."""
            raise RuntimeError("another one")

    (here, _), (there, keeper) = ends.make(), ends.make(receiver=Failing())
    here.send(b"one", there.address)
    read_all(there, keeper, 1)
    here.send(b"two", there.address)
    read_all(there, keeper, 2)
    assert len(nothing_left_behind) == 4
    nothing_left_behind.clear()


def test_an_unknown_error_pauses_the_reading_for_a_while(ends: Ends) -> None:
    """Neither deaf for ever nor spinning."""
    sock, keeper = ends.make()
    real = sock._socket

    class Broken:
        """A socket that cannot be read."""

        def recvmsg(self, *args: Any) -> Any:
            """Nobody knows why."""
            raise OSError(errno.EIO, "broken")

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    sock._socket = Broken()  # type: ignore[assignment]
    sock.doRead()
    assert sock not in ends.reactor.readers
    sock._socket = real
    ends.reactor.advance(1.0)
    assert sock in ends.reactor.readers
    sock.send(b"to myself", sock.address)
    read_all(sock, keeper, 1)
    assert sock.counters["receive_errors"] == 1


def test_an_error_that_the_reactor_sees_does_not_end_the_reading(ends: Ends) -> None:
    from twisted.internet.error import ConnectionLost
    from twisted.python.failure import Failure

    sock, _ = ends.make()
    sock.connectionLost(Failure(ConnectionLost()))
    sock.connectionLost(Failure(ConnectionLost()))
    ends.reactor.advance(1.0)
    assert sock in ends.reactor.readers
    sock.connectionLost(Failure(ConnectionLost()))


def test_a_taken_port_is_an_error_at_the_start(ends: Ends) -> None:
    sock, _ = ends.make()
    second = UdpSocket(ends.reactor, *sock.address)
    with pytest.raises(OSError):
        second.start(Keeper())
    assert second.fileno() == -1
    assert second.address == sock.address, "what was asked for"
    second.close()


def test_buffers_are_large(ends: Ends) -> None:
    sock, _ = ends.make()
    assert sock.receive_buffer >= 128 * 1024


# -- on the real reactor -----------------------------------------------------------------------


class Node:
    """A tunnel on the real reactor."""

    def __init__(self, registry: SimulatedRegistry, node_id: int, *, offload: bool) -> None:
        from twisted.internet import reactor

        self.node_id = node_id
        self.received: list[bytes] = []
        self.wanted = 0
        self.enough: Deferred[None] = Deferred()
        identity = Identity.generate()
        self.socket = UdpSocket(reactor, "127.0.0.1", 0, offload=offload)
        self.tunnel = Tunnel(reactor, identity, node_id, self.socket, registry)  # type: ignore[arg-type]
        self.tunnel.packet_sink = self.take
        self.tunnel.start()
        registry.endpoints[node_id] = Endpoint(f"127.0.0.1:{self.tunnel.address[1]}")
        registry.keys[node_id] = identity.public_key

    def take(self, node_id: int, packet: RawPacket) -> None:
        """Keep a payload."""
        self.received.append(packet.payload)
        if len(self.received) == self.wanted:
            self.enough.callback(None)

    def packet(self, to: int, payload: bytes) -> bytes:
        """@return: a packet to a node."""
        ends = (bytes(2) + node.to_bytes(4, "big") for node in (self.node_id, to))
        return encode_raw(0, PROTO_DATAGRAM, *ends, 1, 2, 0, 0, 0, payload)


@BOTH_PATHS
@pytest.mark.parametrize("size", [1100, 15_000, 60_000])
@pytest_twisted.inlineCallbacks
def test_two_tunnels_on_loopback(offload: bool, size: int) -> Any:
    """Resolve, key exchange, then batches of every size in both directions."""
    from twisted.internet import reactor

    registry = SimulatedRegistry()
    a, b = (Node(registry, node_id, offload=offload) for node_id in (1, 2))
    try:
        count = 40 if size <= 15_000 else 6
        payloads = [bytes([number]) * size for number in range(count)]
        for node in (a, b):
            node.wanted = count
        a.tunnel.send(2, [a.packet(2, payload) for payload in payloads])
        yield b.enough.addTimeout(10, reactor)
        b.tunnel.send(1, [b.packet(1, payload) for payload in payloads])
        yield a.enough.addTimeout(10, reactor)
        assert a.received == b.received == payloads
        assert a.tunnel.segment_limit(2) >= 15_000
    finally:
        a.tunnel.close()
        b.tunnel.close()
