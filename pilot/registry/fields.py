"""Reading the fields of a request as the reference does: a wrong type is a default, never an error.

@see: protocol notes of the registry, I{Reading field values} and I{Keys and signatures}.
"""

from __future__ import annotations

import binascii
import re
from datetime import UTC, datetime
from typing import Any

from pilot.registry.refusal import Refusal

Request = dict[str, Any]

_ALPHABET = {
    ord(c): i
    for i, c in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
_USUAL = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==|[A-Za-z0-9+/]=))?\Z")
_SHORT_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
_IGNORED = b"\r\n"
_PAD = ord("=")


def u32(request: Request, name: str) -> int:
    """@return: the id in field C{name}, 0 when it is missing or none."""
    return _unsigned(request.get(name), 0xFFFFFFFF)


def u16(request: Request, name: str) -> int:
    """@return: the network id in field C{name}, 0 when it is missing or none."""
    return _unsigned(request.get(name), 0xFFFF)


def text(request: Request, name: str) -> str:
    """@return: the string in field C{name}, C{""} when it is missing or none."""
    value = request.get(name)
    return value if type(value) is str else ""


def flag(request: Request, name: str) -> bool:
    """@return: whether field C{name} is C{true}."""
    return request.get(name) is True


def texts(request: Request, name: str) -> list[str]:
    """@return: the strings in the array of field C{name}; other members are skipped."""
    value = request.get(name)
    return [item for item in value if type(item) is str] if type(value) is list else []


def number(request: Request, name: str) -> float | None:
    """@return: the number in field C{name}, or None.  A boolean is no number."""
    value = request.get(name)
    return value if type(value) is int or type(value) is float else None


def size(value: str) -> int:
    """@return: length in bytes of UTF-8, which all limits count."""
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))


def decode_base64(value: str) -> bytes:
    """
    Read base64 as the reference's decoder: standard alphabet, padded, CR and LF skipped.

    @raise Refusal: C{illegal base64 data at input byte N}.
    """
    if _USUAL.match(value):
        return binascii.a2b_base64(value)
    return _decode_slowly(value.encode("utf-8", "surrogatepass"))


def rfc3339(moment: float) -> str:
    """@return: C{moment}, Unix seconds, as text with whole seconds in UTC."""
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def quoted(value: str) -> str:
    """@return: C{value} in double quotes, with escapes for what cannot be printed."""
    if value.isprintable() and '"' not in value and "\\" not in value:
        return f'"{value}"'
    return '"' + "".join(_escaped(c) for c in value) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    short = _SHORT_ESCAPES.get(char)
    if short is not None:
        return short
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _unsigned(value: Any, limit: int) -> int:
    if (type(value) is int or type(value) is float) and 0 <= value <= limit:
        return int(value)
    return 0


def _decode_slowly(data: bytes) -> bytes:
    """Accept what strictness refuses but the reference takes, or say where it goes wrong."""
    out = bytearray()
    position, end = 0, len(data)
    while True:
        quantum: list[int] = []
        while len(quantum) < 4:
            if position == end:
                if quantum:
                    raise _illegal(position - len(quantum))
                return bytes(out)
            byte = data[position]
            position += 1
            if byte in _ALPHABET:
                quantum.append(_ALPHABET[byte])
            elif byte == _PAD:
                return bytes(out + _last_quantum(data, position, quantum))
            elif byte not in _IGNORED:
                raise _illegal(position - 1)
        out += _joined(quantum)[:3]


def _last_quantum(data: bytes, position: int, quantum: list[int]) -> bytes:
    """@param position: just behind the first padding character."""
    if len(quantum) < 2:
        raise _illegal(position - 1)
    if len(quantum) == 2:
        position = _skip(data, position)
        if position == len(data):
            raise _illegal(position)
        if data[position] != _PAD:
            raise _illegal(position - 1)
        position += 1
    position = _skip(data, position)
    if position < len(data):
        raise _illegal(position)
    return _joined(quantum)[: len(quantum) - 1]


def _joined(quantum: list[int]) -> bytes:
    value = 0
    for digit in [*quantum, 0, 0][:4]:
        value = value << 6 | digit
    return value.to_bytes(3, "big")


def _skip(data: bytes, position: int) -> int:
    while position < len(data) and data[position] in _IGNORED:
        position += 1
    return position


def _illegal(position: int) -> Refusal:
    return Refusal(f"illegal base64 data at input byte {position}")
