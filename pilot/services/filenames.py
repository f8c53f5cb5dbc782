"""From a name that a peer chose to one that is safe to store.

The stored name keeps what was sent as far as that is harmless: C{report.pdf} becomes
C{report-20261120-160042.744.pdf}.  Whatever the bytes, the result is one plain, visible file name
that fits the file system.

@see: the page I{Data exchange}, I{Received files}.
"""

from __future__ import annotations

import unicodedata

MAX_STORED_NAME = 255
"""Bytes of a file name that every usual file system takes."""

KEPT_STEM = 40
"""Bytes of the stem that are kept when a name with an overlong suffix has to be cut."""

_SEPARATORS = "/\\"
_DEVICES = frozenset(
    ("CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10)))
)


def stored_name(name: bytes, stamp: str, copy: int = 0) -> bytes:
    """
    @param name: as sent; any bytes.
    @param stamp: time of arrival, put before the suffix.
    @param copy: tells files of one name and one stamp apart; 0 adds nothing.
    @return: C{stem-stamp.suffix} or C{stem-stamp-copy.suffix}.  Control characters and path
        separators are percent-encoded, bytes that are no UTF-8 are kept, and a name that would be
        hidden, or a device elsewhere, gets an underscore in front.
    """
    text = "".join(map(_harmless, name.decode("utf-8", "surrogateescape")))
    stem, dot, suffix = text.rpartition(".")
    if not dot:
        stem, suffix = text, ""
    base, inner_dot, _ = stem.partition(".")
    if inner_dot and (not base or base.rstrip(" ").upper() in _DEVICES):
        stem = "_" + stem
    mark = f"-{stamp}-{copy}" if copy else f"-{stamp}"
    room = MAX_STORED_NAME - len(mark)
    ending = _cut(dot + suffix, room - min(len(_encode(stem)), KEPT_STEM))
    return _encode(_cut(stem, room - len(_encode(ending))) + mark + ending)


def _harmless(character: str) -> str:
    if unicodedata.category(character) == "Cc" or character in _SEPARATORS:
        return "".join(f"%{byte:02X}" for byte in character.encode())
    return character


def _cut(text: str, room: int) -> str:
    """Whole characters, C{room} bytes of them at most."""
    while len(_encode(text)) > room:
        text = text[:-1]
    return text


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def readable(name: bytes) -> str:
    """@return: a name as text; each byte that is no UTF-8 as U+FFFD."""
    text = name.decode("utf-8", "surrogateescape")
    return "".join("\ufffd" if "\udc80" <= c <= "\udcff" else c for c in text)
