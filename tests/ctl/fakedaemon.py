"""A daemon's control socket in a thread, without a daemon: it answers what a test tells it to."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pilot.wire.ipcframes import Command, FrameDecoder, encode_frame, encode_json

Frame = tuple[int, bytes]
Answer = Callable[[int, bytes], list[Frame]]

ERROR = Command.ERROR


def error(text: str) -> Frame:
    """@return: an error frame."""
    return ERROR, b"\x00\x01" + text.encode()


def reply(command: int, value: Any) -> Frame:
    """@return: a JSON reply."""
    return command, encode_json(value)


class FakeDaemon:
    """
    Listens on C{path} and gives each frame of each client to C{answer}.

    @param greeting: bytes for each client, unasked.

    @ivar path: of the socket.
    @ivar received: every frame that came, from whomever.
    @ivar clients: how many have connected.
    """

    def __init__(self, answer: Answer, greeting: bytes = b"") -> None:
        self._directory = tempfile.mkdtemp(prefix="pilot-test-", dir="/tmp")
        self.path = os.path.join(self._directory, "s")
        self.received: list[Frame] = []
        self.clients = 0
        self._answer = answer
        self._greeting = greeting
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> FakeDaemon:
        self._listener.bind(self.path)
        self._listener.listen(16)
        self._spawn(self._accept)
        return self

    def __exit__(self, *details: object) -> None:
        for each in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        # What a client wrote before it left is still read: sockets are closed last.
        for thread in self._threads:
            thread.join(5)
        for each in (self._listener, *self._connections):
            each.close()
        shutil.rmtree(self._directory)

    def push(self, *frames: Frame) -> None:
        """Send frames to every client, unasked."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.sendall(b"".join(encode_frame(*frame) for frame in frames))

    def hang_up(self) -> None:
        """End every connection."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _spawn(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.clients += 1
            self._connections.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        decoder = FrameDecoder()
        try:
            connection.sendall(self._greeting)
            while data := connection.recv(1 << 20):
                for command, payload in decoder.feed(data):
                    self.received.append((command, payload))
                    frames = self._answer(command, payload)
                    with contextlib.suppress(OSError):  # the client has left
                        connection.sendall(b"".join(encode_frame(*frame) for frame in frames))
        except OSError:
            return


def echoing(info: dict[str, Any] | None = None) -> Answer:
    """@return: answers of a daemon whose every peer echoes, as the reference's cuts segments."""
    ids = iter(range(1, 1 << 30))

    def answer(command: int, payload: bytes) -> list[Frame]:
        if command == Command.INFO:
            return [reply(Command.INFO_OK, info or {"node_id": 1, "address": "0:0000.0000.0001"})]
        if command == Command.DIAL:
            return [(Command.DIAL_OK, next(ids).to_bytes(4, "big"))]
        if command == Command.SEND:
            head, data = payload[:4], payload[4:]
            return [(Command.RECV, head + data[at : at + 4096]) for at in range(0, len(data), 4096)]
        if command == Command.CLOSE:
            return [(Command.CLOSE_OK, payload[:4]), (Command.CLOSE_OK, payload[:4])]
        if command == Command.SEND_TO:
            return []
        return [error(f"unknown command: 0x{command:02X}")]

    return answer


def silent(command: int, payload: bytes) -> list[Frame]:
    """Answers of a daemon that hangs."""
    return []


@contextlib.contextmanager
def listening_nowhere() -> Iterator[str]:
    """@return: the path of a socket file nobody listens behind."""
    directory = tempfile.mkdtemp(prefix="pilot-test-", dir="/tmp")
    path = os.path.join(directory, "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
        own.bind(path)
    try:
        yield path
    finally:
        shutil.rmtree(directory)


def parse(line: bytes) -> Any:
    """@return: the one JSON value of a line."""
    return json.loads(line)
