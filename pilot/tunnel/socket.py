"""One UDP socket that takes and gives many datagrams per system call where the kernel can.

Linux cuts one large send into datagrams of one size (segmentation offload, GSO) and hands
neighbouring datagrams of one sender over in one piece (GRO).  Elsewhere, and for paths that refuse
it, datagrams go one by one; nothing above notices.
"""

from __future__ import annotations

import errno
import functools
import socket
import struct
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.tunnel.endpoints import SocketAddress

log = Logger()

# Linux, <linux/udp.h> and <asm-generic/socket.h>; not in Python's socket module.
_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33

#: Datagrams in one offloaded send; older kernels refuse more.
MAX_SEGMENTS = 64

#: Bytes in one offloaded send.  A little below the 65,507 of UDP: what with its headers exceeds
#: 65,536 is cut up before it is delivered, at several times the price.
MAX_SEND = 65_000

#: Bytes asked for as socket buffers.  A burst that does not fit is lost in the kernel.
RECEIVE_BUFFER = 8 << 20
SEND_BUFFER = 4 << 20

#: System calls, and bytes, read in one turn of the reactor before others have theirs.
READS_PER_TURN = 64
BYTES_PER_TURN = 1 << 20

#: Seconds without reading after an error that nothing is known about, lest it spin.
READ_PAUSE = 1.0

#: Paths remembered as unable to segment, and addresses remembered in their socket form.
REMEMBERED_PATHS = 1024

_NO_OFFLOAD = (errno.EMSGSIZE, errno.EINVAL, errno.EIO)

# What the network may answer to an earlier send, on the next read.
_STRAY_ERRORS = (
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EMSGSIZE,
    errno.EINTR,
)


class Receiver(Protocol):
    """Whoever gets what a socket received."""

    def datagrams_received(self, data: bytes, size: int, addr: SocketAddress) -> None:
        """
        @param data: datagrams of one sender, one behind the other.
        @param size: where to cut: every C{size} bytes; the last may be shorter.
        """

    def batch_ended(self) -> None:
        """Everything that one turn of the reactor brought has been handed over."""


class DatagramSocket(Protocol):
    """What the tunnel needs of a socket; the in-memory network of the tests has one too."""

    @property
    def address(self) -> SocketAddress:
        """Where it is bound; the port is the real one once started."""

    @property
    def receive_buffer(self) -> int:
        """Bytes of received datagrams that the system keeps while nobody reads."""

    @property
    def counters(self) -> Counter[str]:
        """Errors and losses by name."""

    def start(self, receiver: Receiver) -> None:
        """Bind, and read from now on."""

    def send_batch(
        self, buffers: Sequence[bytes], parts: int, size: int, addr: SocketAddress
    ) -> int:
        """
        Send datagrams to one address.

        @param buffers: their pieces, C{parts} for each datagram.
        @param size: bytes of each datagram; only the last may have fewer.
        @return: how many the system took.  Nothing is ever raised.
        """

    def send(self, datagram: bytes, addr: SocketAddress) -> int:
        """Send one datagram.  @return: 1 if the system took it, else 0."""

    def close(self) -> None:
        """Stop reading and let go of the port."""


class Offload(NamedTuple):
    """What the kernel does for us."""

    send: bool
    receive: bool


@functools.cache
def detect_offload() -> Offload:
    """@return: whether two datagrams in one send arrive as two, tried once over loopback."""
    if not sys.platform.startswith("linux"):
        return Offload(False, False)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there,
    ):
        there.settimeout(0.5)
        try:
            there.bind(("127.0.0.1", 0))
            here.sendmsg([b"12", b"3"], [_segment(2)], 0, there.getsockname())
            sends = [there.recv(8), there.recv(8)] == [b"12", b"3"]
        except OSError:
            sends = False
        try:
            there.setsockopt(_SOL_UDP, _UDP_GRO, 1)
        except OSError:
            return Offload(sends, False)
    return Offload(sends, True)


@implementer(IReadDescriptor)
class UdpSocket:
    """
    The tunnel's socket on a reactor.

    @ivar counters: C{send_lost} datagrams the system did not take, C{send_failed} the calls, by
        C{send_errno_NAME} as well, C{receive_errors}.
    """

    def __init__(self, reactor: Any, host: str, port: int, *, offload: bool = True) -> None:
        """
        Opens nothing yet.

        @param reactor: an C{IReactorFDSet} and C{IReactorTime}.
        @param host: an IP literal; C{""} takes IPv4 and, where there is one, IPv6.
        @param port: 0 lets the system choose.
        @param offload: False keeps to one datagram per system call.
        """
        self.counters: Counter[str] = Counter()
        self.receive_buffer = 0
        self._reactor = reactor
        self._wanted = (host, port)
        self._offload = offload
        self._gso = False
        self._gro = False
        self._socket: socket.socket | None = None
        self._receiver: Receiver | None = None
        self._resume: Any = None
        self._mapped = False
        self._unsegmented: set[SocketAddress] = set()
        self._segment_control: dict[int, list[tuple[int, int, bytes]]] = {}
        self._to_kernel: dict[SocketAddress, tuple[Any, ...]] = {}
        self._from_kernel: dict[tuple[Any, ...], SocketAddress] = {}

    @property
    def address(self) -> SocketAddress:
        """Where it is bound; the port is the real one once started."""
        if self._socket is None:
            return self._wanted
        host, port = self._socket.getsockname()[:2]
        return host, port

    def start(self, receiver: Receiver) -> None:
        """
        Bind, and read from now on.

        @raise OSError: the port is taken, or the host is not ours.
        """
        self._socket = sock = self._bound()
        self._receiver = receiver
        self._enlarge(sock)
        if self._offload:
            offload = detect_offload()
            self._gso = offload.send
            if offload.receive:
                with suppress(OSError):
                    sock.setsockopt(_SOL_UDP, _UDP_GRO, 1)
                    self._gro = True
        self._reactor.addReader(self)

    def close(self) -> None:
        """Stop reading and let go of the port."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self._reactor.removeReader(self)
            if self._resume is not None:
                self._resume.cancel()
                self._resume = None
            sock.close()

    # -- sending -------------------------------------------------------------------------------

    def send(self, datagram: bytes, addr: SocketAddress) -> int:
        """Send one datagram.  @return: 1 if the system took it, else 0."""
        return self._send_one((datagram,), addr)

    def send_batch(
        self, buffers: Sequence[bytes], parts: int, size: int, addr: SocketAddress
    ) -> int:
        """
        Send datagrams to one address, as few system calls as possible.

        @param buffers: their pieces, C{parts} for each datagram.
        @param size: bytes of each datagram; only the last may have fewer.
        @return: how many the system took.
        """
        total = len(buffers)
        fit = MAX_SEND // size
        if fit < 2 or total == parts or not self._gso or addr in self._unsegmented:
            return self._send_each(buffers, parts, addr)
        control = self._segment_control.get(size)
        if control is None:
            if len(self._segment_control) >= REMEMBERED_PATHS:
                self._segment_control.clear()
            control = self._segment_control[size] = [_segment(size)]
        step = parts * (fit if fit < MAX_SEGMENTS else MAX_SEGMENTS)
        if self._socket is None:
            return 0
        sendmsg = self._socket.sendmsg
        destination = addr if not self._mapped else self._destination(addr)
        sent = 0
        for start in range(0, total, step):
            group = buffers if total <= step else buffers[start : start + step]
            try:
                sendmsg(group, control, 0, destination)
            except OSError as error:
                if error.errno in _NO_OFFLOAD:
                    self._no_segmentation(addr)
                    return sent + self._send_each(buffers[start:], parts, addr)
                self._failed(error, len(group) // parts)
            else:
                sent += len(group) // parts
        return sent

    def _send_each(self, buffers: Sequence[bytes], parts: int, addr: SocketAddress) -> int:
        if len(buffers) == parts:
            return self._send_one(buffers, addr)
        return sum(
            self._send_one(buffers[start : start + parts], addr)
            for start in range(0, len(buffers), parts)
        )

    def _send_one(self, buffers: Sequence[bytes], addr: SocketAddress) -> int:
        if self._socket is None:
            return 0
        try:
            self._socket.sendmsg(
                buffers, (), 0, addr if not self._mapped else self._destination(addr)
            )
        except (OSError, ValueError, OverflowError) as error:
            self._failed(error, 1)
            return 0
        return 1

    def _failed(self, error: Exception, datagrams: int) -> None:
        """A datagram that could not be sent is one that got lost; whoever needs it repeats it."""
        self.counters["send_failed"] += 1
        self.counters["send_lost"] += datagrams
        number = error.errno if isinstance(error, OSError) else None
        name = errno.errorcode.get(number or 0, type(error).__name__)
        if not self.counters[f"send_errno_{name}"]:
            log.warn("a send failed and counts as lost, as do those to come: {error}", error=error)
        self.counters[f"send_errno_{name}"] += 1

    def _no_segmentation(self, addr: SocketAddress) -> None:
        """The datagrams exceed the path's MTU, or its device cannot compute checksums."""
        if len(self._unsegmented) >= REMEMBERED_PATHS:
            self._unsegmented.clear()
        self._unsegmented.add(addr)
        log.debug("no segmentation offload towards {addr}", addr=addr)

    def _destination(self, addr: SocketAddress) -> tuple[Any, ...]:
        destination = self._to_kernel.get(addr)
        if destination is None:
            host, port = addr
            destination = (host if ":" in host else f"::ffff:{host}", port)
            if len(self._to_kernel) >= REMEMBERED_PATHS:
                self._to_kernel.clear()
            self._to_kernel[addr] = destination
        return destination

    # -- receiving -----------------------------------------------------------------------------

    def doRead(self) -> None:
        """Take what is there, up to this turn's share."""
        sock, receiver = self._socket, self._receiver
        if sock is None or receiver is None:
            return
        receive, mapped = sock.recvmsg, self._mapped
        space = socket.CMSG_SPACE(4) if self._gro else 0
        budget = BYTES_PER_TURN
        for _ in range(READS_PER_TURN):
            try:
                data, control, _flags, addr = receive(65536, space)
            except BlockingIOError:
                break
            except OSError as error:
                self.counters["receive_errors"] += 1
                if error.errno in _STRAY_ERRORS:
                    continue
                self._pause_reading(error)
                break
            size = int.from_bytes(control[0][2], sys.byteorder) if control else len(data)
            if not data:
                continue
            try:
                receiver.datagrams_received(data, size, self._source(addr) if mapped else addr)
            except Exception:
                log.failure("datagrams from {addr} not handled", addr=addr)
            budget -= len(data)
            if budget <= 0 or self._socket is None:
                break
        try:
            receiver.batch_ended()
        except Exception:
            log.failure("a batch of datagrams not brought to its end")

    def _source(self, addr: tuple[Any, ...]) -> SocketAddress:
        source = self._from_kernel.get(addr)
        if source is None:
            host: str = addr[0]
            if host.startswith("::ffff:") and "." in host:
                host = host[7:]
            source = (host, addr[1])
            if len(self._from_kernel) >= REMEMBERED_PATHS:
                self._from_kernel.clear()
            self._from_kernel[addr] = source
        return source

    def _pause_reading(self, error: object) -> None:
        log.error("the tunnel socket cannot be read for now: {error}", error=error)
        self._reactor.removeReader(self)
        if self._resume is None:
            self._resume = self._reactor.callLater(READ_PAUSE, self._resume_reading)

    def _resume_reading(self) -> None:
        self._resume = None
        if self._socket is not None:
            self._reactor.addReader(self)

    # -- for the reactor -----------------------------------------------------------------------

    def fileno(self) -> int:
        """@return: the descriptor, -1 when closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """@return: what the reactor calls this in its log."""
        return "tunnel"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw an error on the descriptor; a socket without a connection lives on."""
        if self._socket is not None:
            self._pause_reading(reason.value)

    # -- setting up ----------------------------------------------------------------------------

    def _bound(self) -> socket.socket:
        host, port = self._wanted
        if host == "" and socket.has_ipv6:
            with suppress(OSError):
                return self._bind(socket.AF_INET6, "::", port)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return self._bind(family, host or "0.0.0.0", port)

    def _bind(self, family: socket.AddressFamily, host: str, port: int) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
            sock.setblocking(False)
            sock.bind((host, port))
        except BaseException:
            sock.close()
            raise
        self._mapped = family == socket.AF_INET6
        return sock

    def _enlarge(self, sock: socket.socket) -> None:
        for plain, forced, wanted in (
            (socket.SO_RCVBUF, _SO_RCVBUFFORCE, RECEIVE_BUFFER),
            (socket.SO_SNDBUF, _SO_SNDBUFFORCE, SEND_BUFFER),
        ):
            if sys.platform.startswith("linux"):
                with suppress(OSError):  # needs a privilege
                    sock.setsockopt(socket.SOL_SOCKET, forced, wanted)
                    continue
            _set_largest(sock, plain, wanted)
        self.receive_buffer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def _set_largest(sock: socket.socket, option: int, size: int) -> None:
    """Linux grants what it may without a word; others refuse what is too much."""
    while size >= 1 << 16:
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, size)
        except OSError:
            size //= 2
        else:
            return


def _segment(size: int) -> tuple[int, int, bytes]:
    return _SOL_UDP, _UDP_SEGMENT, struct.pack("=H", size)
