"""One register: a key, its value, and what decides between two writers.

Two registers of one key are ordered by C{rank}; the larger wins, everywhere.  A register is never
changed once made and may be shared by any number of replicas; what is costly to know of it (its
size, its hash) is worked out once, when first asked for.

JSON shape: C{[key, value, hlc, author, flags]}, with the signature as a sixth element if there is
one.

@see: the page I{Gossip}, I{Registers}.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

import msgspec

from skills.gossip.core.errors import BadMessage

FLAG_TOMBSTONE = 1  # the key is deleted; the value is null
FLAG_SIGNED = 2  # carries a signature of its author
FLAG_EPHEMERAL = 4  # lives as long as its author is present
FLAGS = FLAG_TOMBSTONE | FLAG_SIGNED | FLAG_EPHEMERAL

MAX_SEGMENTS = 8
MAX_KEY = 256  # bytes of UTF-8
MAX_DEPTH = 16  # arrays and objects inside each other
MAX_NODE = 0xFFFFFFFF

# A segment that is the empty text is written "~2", so that no key and no segment is ever empty
# and the empty prefix always means the whole map.
_SEGMENT = r"(?:~2|(?:[^/~]|~[01])+)"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,{MAX_SEGMENTS - 1}}}")
_HLC = re.compile(r"[0-9a-f]{16}")
_SIGNATURE = re.compile(r"[A-Za-z0-9+/]{86}==")
_OWNER = re.compile(r"@(0|[1-9][0-9]{0,9})")
_LEAST, _MOST = -(2**63), 2**64 - 1  # integers that every JSON reader in use keeps exact

_canonical = msgspec.json.Encoder(order="sorted").encode
_plain = msgspec.json.Encoder().encode


class Register:
    """
    A write that won so far.  Equal means: same key and same rank.

    @ivar key: path of 1..8 segments, C{"a/b/c"}.
    @ivar value: any JSON value, to be treated as read-only; C{None} in a tombstone.
    @ivar hlc: when it was written, 16 hex digits (L{skills.gossip.core.hlc}).
    @ivar author: node id of the writer.
    @ivar flags: bits C{FLAG_*}.
    @ivar signature: base64 of the author's Ed25519 signature, or C{""}.
    """

    __slots__ = (
        "_hash",
        "_key_hash",
        "_rank",
        "_size",
        "_sum",
        "author",
        "flags",
        "hlc",
        "key",
        "signature",
        "value",
    )

    key: Final[str]
    value: Final[Any]
    hlc: Final[str]
    author: Final[int]
    flags: Final[int]
    signature: Final[str]

    def __init__(
        self, key: str, value: Any, hlc: str, author: int, flags: int = 0, signature: str = ""
    ) -> None:
        """Take parts that are known to be sound; L{make} is for those that are not."""
        self.key = key
        self.value = value
        self.hlc = hlc
        self.author = author
        self.flags = flags
        self.signature = signature
        self._hash: bytes | None = None
        self._rank: tuple[str, int, bytes] | None = None
        self._sum: int | None = None
        self._key_hash: str | None = None
        self._size = 0

    @classmethod
    def make(
        cls,
        key: object,
        value: object,
        hlc: object,
        author: object,
        flags: object = 0,
        signature: object = "",
    ) -> Register:
        """
        Check every part, then make the register.

        @raise BadMessage: a part is not of its form, or a tombstone holds a value, or the flag for
            a signature and the signature do not come together.
        """
        if (
            type(key) is not str
            or type(hlc) is not str
            or type(author) is not int
            or type(flags) is not int
            or type(signature) is not str
        ):
            raise BadMessage("a part of a register has the wrong type")
        check_key(key)
        if _HLC.fullmatch(hlc) is None:
            raise BadMessage("a register's time is not 16 hex digits")
        if not 0 <= author <= MAX_NODE:
            raise BadMessage("a register's author is no node id")
        if not 0 <= flags <= FLAGS:
            raise BadMessage("a register has unknown flags")
        if flags & FLAG_SIGNED:
            if _SIGNATURE.fullmatch(signature) is None:
                raise BadMessage("a register's signature is malformed")
        elif signature:
            raise BadMessage("a register has a signature and does not say so")
        if flags & FLAG_TOMBSTONE:
            if value is not None:
                raise BadMessage("a tombstone has a value")
        else:
            check_value(value)
        return cls(key, value, hlc, author, flags, signature)

    @classmethod
    def from_list(cls, parts: object) -> Register:
        """
        Read the JSON shape.

        @raise BadMessage: it is anything else.
        """
        if type(parts) is not list or not 5 <= len(parts) <= 6:
            raise BadMessage("a register is not a list of 5 or 6 elements")
        return cls.make(*parts)

    def to_list(self) -> list[Any]:
        """@return: the JSON shape; the value is not copied."""
        if self.signature:
            return [self.key, self.value, self.hlc, self.author, self.flags, self.signature]
        return [self.key, self.value, self.hlc, self.author, self.flags]

    @property
    def deleted(self) -> bool:
        """Whether this is a tombstone."""
        return bool(self.flags & FLAG_TOMBSTONE)

    @property
    def value_hash(self) -> bytes:
        """16 bytes that tell this value, with its flags, from every other."""
        if self._hash is None:
            encoded = _canonical(self.value)
            self._hash = blake2b(encoded, digest_size=16, salt=bytes([self.flags])).digest()
        return self._hash

    @property
    def rank(self) -> tuple[str, int, bytes]:
        """What decides: the later time, then the larger author, then the larger hash."""
        if self._rank is None:
            self._rank = (self.hlc, self.author, self.value_hash)
        return self._rank

    @property
    def size(self) -> int:
        """Bytes of the JSON shape, compact and in UTF-8: what quotas and frames count."""
        if not self._size:
            self._size = len(_plain(self.to_list()))
        return self._size

    @property
    def key_hash(self) -> str:
        """L{key_hash} of the key."""
        if self._key_hash is None:
            self._key_hash = key_hash(self.key)
        return self._key_hash

    @property
    def sum(self) -> int:
        """
        64 bits that name this register in sums over a set of them.

        The signature is no part of it: two copies that differ in nothing else are the same write.
        """
        if self._sum is None:
            self._sum = int.from_bytes(blake2b(self.naming(), digest_size=8).digest(), "big")
        return self._sum

    def naming(self) -> bytes:
        """@return: the bytes that hashes over this register cover; no two registers share them."""
        return b"%s\0%s\0%d\0%d\0%s" % (
            self.key.encode(),
            self.hlc.encode(),
            self.author,
            self.flags,
            self.value_hash,
        )

    def beats(self, other: Register) -> bool:
        """@return: whether this one wins against another; no hash is computed without need."""
        if self.hlc != other.hlc:
            return self.hlc > other.hlc
        if self.author != other.author:
            return self.author > other.author
        return self.value_hash > other.value_hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Register):
            return NotImplemented
        return self is other or (
            self.hlc == other.hlc
            and self.key == other.key
            and self.author == other.author
            and self.value_hash == other.value_hash
        )

    def __hash__(self) -> int:
        return hash((self.key, self.hlc, self.author))

    def __repr__(self) -> str:
        return f"Register{tuple(self.to_list())!r}"


def check_key(key: str) -> str:
    """
    @return: the key, if it is one.

    @raise BadMessage: not 1..8 segments, a stray C{~}, more than 256 bytes, or no Unicode text.
    """
    if _KEY.fullmatch(key) is None:
        raise BadMessage(
            "a key is not a path of 1 to 8 segments",
            hint='write "/" as "~1", "~" as "~0" and an empty segment as "~2"',
        )
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError:
        raise BadMessage("a key is not Unicode text") from None
    if size > MAX_KEY:
        raise BadMessage(f"a key is longer than {MAX_KEY} bytes")
    return key


def join_key(segments: Iterable[str]) -> str:
    """
    @return: the key of a path of plain segments.

    @raise BadMessage: no segment, more than 8, or more than 256 bytes in all.
    """
    return check_key("/".join(map(escape_segment, segments)))


def split_key(key: str) -> tuple[str, ...]:
    """@return: the plain segments of a key."""
    if "~" not in key:
        return tuple(key.split("/"))
    return tuple(
        "" if part == "~2" else part.replace("~1", "/").replace("~0", "~")
        for part in key.split("/")
    )


def escape_segment(segment: str) -> str:
    """@return: a plain segment as it stands in a key."""
    return segment.replace("~", "~0").replace("/", "~1") or "~2"


def ancestors(key: str) -> list[str]:
    """@return: the keys above a key, the shortest first."""
    found: list[str] = []
    at = key.find("/")
    while at >= 0:
        found.append(key[:at])
        at = key.find("/", at + 1)
    return found


def key_hash(key: str) -> str:
    """@return: 16 hex digits that stand for a key; the first two are its bucket."""
    return blake2b(key.encode(), digest_size=8).hexdigest()


def owner(key: str) -> int | None:
    """@return: the node that alone may write this key, if it begins with C{@<node id>}."""
    if not key.startswith("@"):
        return None
    match = _OWNER.fullmatch(key.partition("/")[0])
    if match is None or int(match[1]) > MAX_NODE:
        return None
    return int(match[1])


def check_value(value: object, depth: int = MAX_DEPTH) -> None:
    """
    Accept what survives the way through any JSON reader unchanged.

    @raise BadMessage: something else than JSON, an integer beyond 64 bits, a number that is not
        finite, text that is not Unicode, or more than 16 arrays and objects inside each other.
    """
    kind = type(value)
    if kind is str:
        if not value.isascii():  # type: ignore[attr-defined]
            try:
                value.encode()  # type: ignore[attr-defined]
            except UnicodeEncodeError:
                raise BadMessage("a value holds text that is not Unicode") from None
    elif kind is int:
        if not _LEAST <= value <= _MOST:  # type: ignore[operator]
            raise BadMessage("a value holds an integer beyond 64 bits")
    elif kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise BadMessage("a value holds a number that is not finite")
    elif kind is list or kind is dict:
        if depth <= 0:
            raise BadMessage(f"a value is nested deeper than {MAX_DEPTH} levels")
        if kind is dict:
            for name in value:  # type: ignore[attr-defined]
                if type(name) is not str:
                    raise BadMessage("a value holds an object with a name that is no text")
                check_value(name)
            value = value.values()  # type: ignore[attr-defined]
        for each in value:  # type: ignore[attr-defined]
            check_value(each, depth - 1)
    elif value is not None and kind is not bool:
        raise BadMessage("a value is not JSON")
