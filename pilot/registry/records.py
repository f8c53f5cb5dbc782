"""What is kept: nodes, networks, members, letters, invitations, and how each is written down.

Every record is a row of its own under a key, so that a change writes little.  The writing is JSON
with short stable names; fields at their default are left out.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import msgspec


class Table(enum.Enum):
    """The tables of the store, by the key their rows have."""

    META = "meta"  # a word
    NODE = "node"  # node id
    CONSENT = "consent"  # node id, peer id
    LETTER = "letter"  # running number
    NETWORK = "network"  # network id
    MEMBER = "member"  # network id, node id
    INVITE = "invite"  # node id, network id


Key = str | int | tuple[int, int]


class Change(NamedTuple):
    """
    One row as it is from now on.

    @ivar value: C{None} when the row is gone.
    """

    table: Table
    key: Key
    value: bytes | None


class Node(msgspec.Struct, omit_defaults=True, gc=False):
    """
    A node, live or dormant.  Times are Unix seconds.

    @ivar public_key: 32 bytes.
    @ivar real_addr: C{host:port}; the host is that of its registration's TCP connection.
    @ivar tags: normalised.
    @ivar version: as reported, or C{""}.
    @ivar key_created: when the node's first key was seen.
    @ivar key_rotated: last rotation, 0 for never.
    @ivar key_expires: 0 for never.
    @ivar dormant_since: 0 while the node is live.
    """

    id: int
    public_key: bytes
    real_addr: str = ""
    owner: str = ""
    lan_addrs: tuple[str, ...] = ()
    public: bool = False
    hostname: str = ""
    tags: tuple[str, ...] = ()
    polo_score: int = 0
    task_exec: bool = False
    version: str = ""
    external_id: str = ""
    key_created: float = 0.0
    key_rotated: float = 0.0
    rotations: int = 0
    key_expires: float = 0.0
    last_seen: float = 0.0
    dormant_since: float = 0.0

    def key_age_days(self, now: float) -> int:
        """@return: whole days since the key was created or last rotated."""
        return max(0, int((now - (self.key_rotated or self.key_created)) // 86_400))


class Policy(msgspec.Struct, omit_defaults=True):
    """
    What members of a network agreed on; enforced by their daemons, but for the size.

    @ivar max_members: 0 for no limit of its own.
    @ivar allowed_ports: empty for all.
    """

    max_members: int = 0
    allowed_ports: list[int] = []
    description: str = ""


class Network(msgspec.Struct, omit_defaults=True):
    """
    A network's own row.  Its members have rows of their own.

    @ivar join_rule: C{open}, C{token}, C{invite}; anything else lets nobody in.
    @ivar rules: of a managed network, as given; for daemons to act on.
    @ivar expr_policy: a policy document, as given; for daemons to act on.
    @ivar created: Unix seconds.
    """

    id: int
    name: str
    created: float
    join_rule: str = "open"
    token: str = ""
    admin_token: str = ""
    enterprise: bool = False
    policy: Policy = msgspec.field(default_factory=Policy)
    rules: dict[str, Any] | None = None
    expr_policy: dict[str, Any] | None = None


class Member(msgspec.Struct, omit_defaults=True):
    """
    One node's place in one network.

    @ivar order: rank in joining order.
    @ivar role: C{owner}, C{admin}, C{member}, or C{""} when roles were wiped.
    """

    order: int
    role: str = ""
    tags: tuple[str, ...] = ()


class Letter(msgspec.Struct, omit_defaults=True, gc=False):
    """
    A handshake request or response that waits for its reader.

    @ivar to: the reader's node id.
    @ivar sender: node id.
    @ivar accept: None in a request; the answer in a response.
    @ivar time: Unix seconds.
    """

    to: int
    sender: int
    time: int
    justification: str = ""
    accept: bool | None = None


class Invite(msgspec.Struct, gc=False):
    """@ivar time: Unix seconds."""

    inviter: int
    time: int


def encode(record: msgspec.Struct) -> bytes:
    """@return: the text of a row."""
    return msgspec.json.encode(record)


class Journal:
    """
    Which rows differ from the store.

    The tables of the directory mark keys; whoever saves drains them, once per answer.
    """

    __slots__ = ("_marked",)

    def __init__(self) -> None:
        self._marked: dict[tuple[Table, Key], msgspec.Struct | bytes | None] = {}

    def put(self, table: Table, key: Key, record: msgspec.Struct | bytes) -> None:
        """The row under C{key} is C{record}, as it stands when the journal is drained."""
        self._marked[table, key] = record

    def delete(self, table: Table, key: Key) -> None:
        """The row under C{key} is gone."""
        self._marked[table, key] = None

    def drain(self) -> list[Change]:
        """@return: what changed since the last time."""
        if not self._marked:
            return []
        changes = [
            Change(table, key, encode(r) if isinstance(r, msgspec.Struct) else r)
            for (table, key), r in self._marked.items()
        ]
        self._marked.clear()
        return changes
