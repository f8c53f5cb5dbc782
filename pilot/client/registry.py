"""One question to a registry over TCP, blocking: what C{pilotctl} asks without a daemon.

@see: protocol notes, I{JSON framing} of the registry.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from pilot.errors import InvalidArgument, RegistryError, RegistryUnavailable, WireError
from pilot.wire.registry import FrameDecoder, encode_frame

DEFAULT_PORT = 9000
"""Of a registry that is named without one."""

REGISTRY_TIMEOUT = 10.0
"""Seconds for the whole exchange, connecting included."""


class Unanswered(RegistryUnavailable):
    """The request went out and no answer came: it may have been carried out."""


def ask_registry(
    registry: str, message: dict[str, Any], *, timeout: float = REGISTRY_TIMEOUT
) -> dict[str, Any]:
    """
    Send one request and wait for its answer.

    @param registry: C{host:port} or C{host}, an IPv6 host in brackets.
    @param message: the request.
    @return: the answer.
    @raise RegistryError: the registry refused; the message is its own text.
    @raise Unanswered: it took the request, and was not heard of again, or not as a registry.
    @raise RegistryUnavailable: it cannot be reached.
    """
    host, port = split_endpoint(registry)
    ends = time.monotonic() + timeout
    problem = f"cannot reach registry at {registry}"
    hint = f"check that the registry is running at {registry}, or set PILOT_REGISTRY"
    try:
        connection = socket.create_connection((host, port), timeout)
    except (OSError, UnicodeError):
        raise RegistryUnavailable(problem, hint=hint) from None
    with connection:
        try:
            connection.sendall(encode_frame(message))
            answer = _answer(connection, ends)
        except (OSError, WireError):
            raise Unanswered(f"{problem}: no answer", hint=hint) from None
    refusal = answer.get("error")
    if isinstance(refusal, str):
        raise RegistryError(refusal)
    return answer


def split_endpoint(text: str) -> tuple[str, int]:
    """
    @param text: C{host:port} or C{host}.
    @raise InvalidArgument: anything else.
    """
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
        raise InvalidArgument(f'invalid registry address "{text}"', hint="expected host:port")
    return host, int(port)


def _answer(connection: socket.socket, ends: float) -> dict[str, Any]:
    decoder = FrameDecoder()
    while True:
        remaining = ends - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        connection.settimeout(remaining)
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError
        for answer in decoder.feed(data):
            if answer.get("type") != "notify":  # news that nobody here asked for
                return answer
