"""The brokers that C{pubsub.py} compares: how each is started and what its clients say.

Clients are plain sockets with the fewest bytes the protocol allows, so that what is measured is the
broker.  Every event of a run has one topic and one size, so a subscriber can count by dividing.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

from pilot.wire.eventstream import encode_event
from pilot.wire.ipc import Address, Command, Dial, FrameDecoder, encode_frame

TOPIC = b"t"
_SERVER_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


class Link:
    """
    One client's connection.

    @ivar socket: to wait on.
    """

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    def exchange(self, said: bytes, answer: bytes | int) -> None:
        """Say something and wait for the answer: these bytes, or any so many."""
        self.socket.sendall(said)
        wanted = answer if isinstance(answer, int) else len(answer)
        heard = b""
        while len(heard) < wanted:
            piece = self.socket.recv(wanted - len(heard))
            if not piece:
                raise SystemExit(f"hung up after {said!r}")
            heard += piece
        if isinstance(answer, bytes) and heard != answer:
            raise SystemExit(f"{heard!r} instead of {answer!r}")

    def publish(self, frames: bytes) -> None:
        """Send what L{System.frame} gave, any number of them."""
        self.socket.sendall(frames)

    def receive(self) -> bytes:
        """@return: bytes of events, as they came, without what encloses them."""
        return self.socket.recv(1 << 18)


class PingedLink(Link):
    """One whose server sends C{PING} between events, which is none."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(connected)
        self._held = b""

    def receive(self) -> bytes:
        """As in L{Link}; what may be the beginning of a ping waits for the rest."""
        data = (self._held + super().receive()).replace(_PING, b"")
        cut = next((n for n in range(len(_PING) - 1, 0, -1) if data.endswith(_PING[:n])), 0)
        self._held = data[len(data) - cut :]
        return data[: len(data) - cut]


_PING = b"PING\r\n"


class System:
    """
    A broker.

    @cvar name: what the report calls it.
    @cvar link: what its clients' connections are.
    @cvar program: the server to look for; empty: it is ours.
    @cvar confirms: whether a subscriber knows when it is subscribed.
    """

    name = ""
    program = ""
    confirms = True
    link = Link

    @classmethod
    def installed(cls) -> str | None:
        """@return: the server's path."""
        return shutil.which(cls.program) or shutil.which(cls.program, path=_SERVER_PATH)

    def command(self, path: str, port: int, home: Path) -> list[str]:
        """@return: how to start the server."""
        raise NotImplementedError

    def connect(self, where: Any) -> Link:
        """@return: a connection that can publish."""
        link = self.link(socket.create_connection(("127.0.0.1", where)))
        link.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.greet(link)
        return link

    def greet(self, link: Link) -> None:
        """Say what comes before everything else."""

    def subscribe(self, link: Link) -> None:
        """Subscribe and wait until that is confirmed."""
        raise NotImplementedError

    def frame(self, payload: bytes) -> bytes:
        """@return: what publishes one event."""
        raise NotImplementedError

    def delivered(self, payload: bytes) -> bytes:
        """@return: what a subscriber gets for it."""
        raise NotImplementedError


class Redis(System):
    name = "Redis"
    program = "redis-server"

    def command(self, path: str, port: int, home: Path) -> list[str]:
        return [path, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(home)]

    def subscribe(self, link: Link) -> None:
        reply = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nt\r\n:1\r\n"
        link.exchange(b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nt\r\n", reply)

    def frame(self, payload: bytes) -> bytes:
        return b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nt\r\n$%d\r\n%s\r\n" % (len(payload), payload)

    def delivered(self, payload: bytes) -> bytes:
        return b"*3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$%d\r\n%s\r\n" % (len(payload), payload)

    def connect(self, where: Any) -> Link:
        link = super().connect(where)
        link.exchange(b"CLIENT REPLY OFF\r\nPING\r\n", b"")  # publishers want no answers
        return link


class RedisSubscriber(Redis):
    def connect(self, where: Any) -> Link:
        return System.connect(self, where)


class Nats(System):
    name = "NATS"
    program = "nats-server"
    link = PingedLink

    def command(self, path: str, port: int, home: Path) -> list[str]:
        return [path, "-a", "127.0.0.1", "-p", str(port)]

    def greet(self, link: Link) -> None:
        while link.socket.recv(1) != b"\n":
            pass
        link.exchange(b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n', b"PONG\r\n")

    def subscribe(self, link: Link) -> None:
        link.exchange(b"SUB t 1\r\nPING\r\n", b"PONG\r\n")

    def frame(self, payload: bytes) -> bytes:
        return b"PUB t %d\r\n%s\r\n" % (len(payload), payload)

    def delivered(self, payload: bytes) -> bytes:
        return b"MSG t 1 %d\r\n%s\r\n" % (len(payload), payload)


class Mosquitto(System):
    name = "Mosquitto"
    program = "mosquitto"

    def command(self, path: str, port: int, home: Path) -> list[str]:
        config = home / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"
            "max_queued_messages 0\nlog_dest none\n"
        )
        return [path, "-c", str(config)]

    def greet(self, link: Link) -> None:
        name = b"%d-%d" % (id(link), time.monotonic_ns())
        body = b"\0\4MQTT\4\2\0\0" + struct.pack(">H", len(name)) + name
        link.exchange(_mqtt(0x10, body), b"\x20\2\0\0")

    def subscribe(self, link: Link) -> None:
        link.exchange(_mqtt(0x82, b"\0\1\0\1t\0"), b"\x90\3\0\1\0")

    def frame(self, payload: bytes) -> bytes:
        return _mqtt(0x30, b"\0\1t" + payload)

    delivered = frame


def _mqtt(kind: int, body: bytes) -> bytes:
    size, encoded = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        encoded.append(digit | 0x80 if size else digit)
        if not size:
            return bytes((kind,)) + bytes(encoded) + body


class PilotLink(Link):
    """A program at the control socket of its daemon."""

    def __init__(self, path: str, target: int) -> None:
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(path)
        super().__init__(connected)
        self.socket.sendall(encode_frame(Command.DIAL, Dial(Address(0, target), 1002).encode()))
        self._decoder = FrameDecoder()
        while True:
            for command, payload in self._decoder.feed(self.socket.recv(4096)):
                if command == Command.DIAL_OK:
                    self._number = payload
                    return
                raise SystemExit(f"the dial failed: {payload!r}")

    def publish(self, frames: bytes) -> None:
        self.socket.sendall(encode_frame(Command.SEND, self._number + frames))

    def receive(self) -> bytes:
        return b"".join(
            payload[4:]
            for command, payload in self._decoder.feed(self.socket.recv(1 << 18))
            if command == Command.RECV
        )


class Pilot(System):
    name = "Pilot"
    confirms = False

    def connect(self, where: Any) -> Link:
        link = PilotLink(*where)
        link.publish(encode_event(b"-"))  # the first event subscribes
        return link

    def subscribe(self, link: Link) -> None:
        link.publish(encode_event(TOPIC))

    def frame(self, payload: bytes) -> bytes:
        return encode_event(TOPIC, payload)

    delivered = frame


class PilotSubscriber(Pilot):
    def connect(self, where: Any) -> Link:
        return PilotLink(*where)


SYSTEMS: dict[str, type[System]] = {
    "pilot": Pilot,
    "redis": Redis,
    "nats": Nats,
    "mosquitto": Mosquitto,
}
#: Where subscribing begins otherwise than publishing.
SUBSCRIBERS: dict[str, type[System]] = {
    **SYSTEMS,
    "pilot": PilotSubscriber,
    "redis": RedisSubscriber,
}


def free_port() -> int:
    """@return: a TCP port that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(system: System, path: str, home: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start a server and wait until it listens.  @return: its process and its port."""
    port = free_port()
    process = subprocess.Popen(
        system.command(path, port, home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except ConnectionRefusedError:
            time.sleep(0.05)
    process.kill()
    raise SystemExit(f"{path} does not listen")
