"""Reading one setting's value: from a flag, the environment or a configuration file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from pilot.daemon.webhook_url import check_webhook_url
from pilot.errors import InvalidArgument
from pilot.hosting.written import Wanted, read_words

#: Seconds in each unit of a duration.
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}

#: Longest duration, seconds; some thirty years, and far below where timers overflow.
LONGEST = 1e9

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h)")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")

Reader = Callable[[Any], Any]


def text(value: Any) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise InvalidArgument("expected a text")
    return value


def boolean(value: Any) -> bool:
    """A truth value, as JSON or as the words Go's flags know."""
    if isinstance(value, bool):
        return value
    word = value.lower() if isinstance(value, str) else value
    if word in ("true", "t", "1", 1):
        return True
    if word in ("false", "f", "0", 0):
        return False
    raise InvalidArgument(f"expected true or false, not {value!r}")


def duration(value: Any) -> float:
    """Seconds: a plain number, or a sum like C{1m30s} or C{250ms}."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidArgument("expected a duration such as 30s or 1m30s")
    parts = [value + "s"] if _NUMBER.fullmatch(value) else _DURATION.findall(value)
    if not parts or "".join(parts).removesuffix("s") != value.removesuffix("s"):
        raise InvalidArgument(f"{value!r} is no duration; write 30s, 1m30s, 250ms or plain seconds")
    total = 0.0
    for part in parts:
        digits = part.rstrip("nuµμmsh")
        total += float(digits) * UNITS[part[len(digits) :]]
    if total > LONGEST:
        raise InvalidArgument(f"{value!r} is longer than anybody will wait")
    return total


def count(value: Any) -> int:
    """A number of things, 0 or more."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    raise InvalidArgument(f"expected a whole number, 0 or more, not {value!r}")


_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def size(value: Any) -> int:
    """Bytes: a whole number, or one with C{KiB}, C{MiB} or C{GiB} behind it."""
    if isinstance(value, str) and value[-3:] in _UNITS:
        return count(value[:-3].strip()) * _UNITS[value[-3:]]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    raise InvalidArgument(f"expected bytes, such as 1048576 or 256MiB, not {value!r}")


def networks(value: Any) -> tuple[int, ...]:
    """Ids of networks: C{1,2} or a list."""
    items = value if isinstance(value, list) else [part.strip() for part in text(value).split(",")]
    ids = []
    for item in items:
        if item == "":
            continue
        try:
            network = count(item)
        except InvalidArgument:
            network = -1
        if not 0 < network <= 0xFFFF:
            raise InvalidArgument(f"{item!r} is no network id (1 to 65535)")
        ids.append(network)
    return tuple(dict.fromkeys(ids))


def endpoint(default_port: int | None) -> Reader:
    """C{host:port}; with a default port, C{host} is enough."""

    def read(value: Any) -> str:
        host, port = _split(text(value))
        if not port and default_port is not None and host:
            port = str(default_port)
        if not host or not _is_port(port):
            raise InvalidArgument(f"{value!r} is not HOST:PORT")
        return f"{host}:{port}"

    return read


def listen(value: Any) -> str:
    """C{host:port} or C{:port} to listen on; port 0 lets the system pick."""
    host, port = _split(text(value))
    if not _is_port(port):
        raise InvalidArgument(f"{value!r} is not [HOST]:PORT")
    return f"{host}:{port}"


def operators(value: Any) -> str:
    """C{port}, which means this machine only, or C{host:port}; port 0 lets the system pick."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    host, port = _split(text(value))
    if not port:
        host, port = "127.0.0.1", host
    if not host or not _is_port(port):
        raise InvalidArgument(f"{value!r} is not PORT or HOST:PORT")
    return f"{host}:{port}"


def path(value: Any) -> str:
    """A file's path, made absolute; C{~} is the home directory."""
    return os.path.abspath(os.path.expanduser(text(value)))


def identity(value: Any) -> str:
    """As L{path}; an empty one means a key that is forgotten at the end."""
    return path(value) if value else ""


def email(value: Any) -> str:
    """One C{@}, no blanks, a dot inside the domain."""
    address = text(value)
    name, at, domain = address.partition("@")
    if not (name and at and "." in domain.strip(".")) or "@" in domain or " " in address:
        raise InvalidArgument(f"{address!r} is no e-mail address")
    return address


def webhook(value: Any) -> str:
    """An address that events may be posted to."""
    url = text(value)
    check_webhook_url(url)
    return url


def fingerprint(value: Any) -> str:
    """SHA-256 of a certificate in hex, colons allowed."""
    digits = text(value).replace(":", "").lower()
    if not _FINGERPRINT.fullmatch(digits):
        raise InvalidArgument("expected the SHA-256 of a certificate, 64 hex digits")
    return digits


def choice(*allowed: str) -> Reader:
    """One of some words."""

    def read(value: Any) -> str:
        if value not in allowed:
            raise InvalidArgument(f"expected one of {', '.join(allowed)}, not {value!r}")
        return str(value)

    return read


def _split(value: str) -> tuple[str, str]:
    """Host and port; an IPv6 host keeps its brackets."""
    if value.endswith("]") or ":" not in value:
        return value, ""
    host, _, port = value.rpartition(":")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        return "", ""
    return host, port


def _is_port(port: str) -> bool:
    return port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 0xFFFF


def skills(value: Any) -> Wanted:
    """Skills with their options, a text like C{gossip:swarm=kv-store} or a list of such texts."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidArgument("expected the name of a skill")
    return read_words(word for word in words if word)
