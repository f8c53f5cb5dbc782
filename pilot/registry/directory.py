"""All that a registry knows, in memory, and which of it is not saved yet.

Nothing here reads a clock or opens anything: the time comes with each call, changes go into the
journal, and whoever serves requests saves what the journal holds before the answer leaves.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from pilot.errors import PilotError
from pilot.registry.beacons import BeaconTable
from pilot.registry.callers import Caller, Callers
from pilot.registry.fields import Request, decode_base64, text
from pilot.registry.limits import DEFAULT_LIMITS, Limits
from pilot.registry.mailboxes import Mailboxes
from pilot.registry.networks import NetworkTable
from pilot.registry.nodes import NodeTable
from pilot.registry.polo import PoloLedger
from pilot.registry.records import (
    Change,
    Invite,
    Journal,
    Letter,
    Member,
    Network,
    Node,
    Table,
)
from pilot.registry.refusal import Refusal
from pilot.registry.statistics import Statistics
from pilot.registry.trustbook import TrustBook

Verify = Callable[[bytes, bytes, bytes], bool]

#: Version of the records' shape, kept with them.
SCHEMA = b"1"
_SCHEMA = "schema"


class DamagedRecords(PilotError):
    """The store holds rows that make no sense; nothing was changed."""


class Directory:
    """
    The registry's state, with what several requests have in common.

    @ivar admin_token: C{""} when none is configured, and then none is accepted.
    """

    def __init__(
        self,
        now: float,
        verify: Verify,
        *,
        admin_token: str = "",
        limits: Limits = DEFAULT_LIMITS,
        rows: Iterable[tuple[Table, Any, bytes]] = (),
    ) -> None:
        """
        @param now: Unix seconds.
        @param verify: tells of a public key, a signature and a text whether they belong together.
        @param rows: what the store holds.
        @raise DamagedRecords: the rows make no sense.
        """
        self.limits = limits
        self.admin_token = admin_token
        self._verify = verify
        self._journal = journal = Journal()
        self.nodes = NodeTable(journal, limits)
        self.networks = NetworkTable(journal, now, limits)
        self.trust = TrustBook(journal, limits)
        self.mailboxes = Mailboxes(journal, limits)
        self.polo = PoloLedger(limits)
        self.beacons = BeaconTable(limits)
        self.callers = Callers(limits)
        self.statistics = Statistics(now)
        self._notices: list[int] = []
        self._beats: dict[int, bytes] = {}
        self._swept = now
        self._restore(rows, now)

    # -- saving --------------------------------------------------------------------------------

    def drain(self) -> list[Change]:
        """@return: what must be saved before any answer given so far may leave."""
        return self._journal.drain()

    def notice(self, node_id: int) -> None:
        """C{node_id} has a new letter."""
        self._notices.append(node_id)

    def take_notices(self) -> list[Caller]:
        """@return: connections to be told of letters, once what was changed is saved."""
        if not self._notices:
            return []
        callers = [c for node_id in self._notices for c in self.callers.listening(node_id)]
        self._notices.clear()
        return callers

    def _restore(self, rows: Iterable[tuple[Table, Any, bytes]], now: float) -> None:
        by_table: dict[Table, list[tuple[Any, bytes]]] = {table: [] for table in Table}
        for table, key, value in rows:
            by_table[table].append((key, value))
        if not any(by_table.values()):
            self._journal.put(Table.META, _SCHEMA, SCHEMA)
            return
        try:
            self._take(by_table, now)
        except (ValueError, TypeError, KeyError, msgspec.DecodeError) as error:
            raise DamagedRecords(
                f"the registry's database holds a damaged record: {error}",
                hint="restore the file from a backup, or move it away to start empty",
            ) from error
        self._journal.drain()

    def _take(self, tables: dict[Table, list[tuple[Any, bytes]]], now: float) -> None:
        meta = dict(tables[Table.META])
        if meta.get(_SCHEMA) != SCHEMA:
            raise ValueError(f"records of version {meta.get(_SCHEMA)!r}, not {SCHEMA!r}")
        for word, value in meta.items():
            self.nodes.restore_meta(word, value)
            self.networks.restore_meta(word, value)
        for _, value in tables[Table.NODE]:
            self.nodes.restore(msgspec.json.decode(value, type=Node), now)
        for (node, peer), value in tables[Table.CONSENT]:
            self.trust.restore(node, peer, value)
        for key, value in sorted(tables[Table.LETTER]):
            self.mailboxes.restore(key, msgspec.json.decode(value, type=Letter))
        for _, value in tables[Table.NETWORK]:
            self.networks.restore(msgspec.json.decode(value, type=Network))
        for (network_id, node_id), value in tables[Table.MEMBER]:
            member = msgspec.json.decode(value, type=Member)
            self.networks.restore_member(network_id, node_id, member)
        for (node_id, network_id), value in tables[Table.INVITE]:
            invite = msgspec.json.decode(value, type=Invite)
            self.networks.restore_invite(node_id, network_id, invite)
        self.nodes.restored()
        self.networks.restored()

    # -- who may -------------------------------------------------------------------------------

    def check_signature(
        self,
        request: Request,
        caller: Caller,
        node: Node,
        signed: bytes,
        now: float,
        *,
        changes: bool = True,
        beat: bool = False,
        missing: str = "signature required for authenticated node",
        wrong: str = "signature verification failed",
    ) -> None:
        """
        See the signature of C{node} over C{signed} in field C{signature}.

        @param changes: whether the request changes or takes something.  As signatures cover
            neither value nor time, whoever overheard one could send it again; so such requests are
            believed from elsewhere only while no connection from the node's own address is active.
        @raise Refusal: it is missing, malformed, wrong, or overheard.
        """
        encoded = text(request, "signature")
        if not encoded:
            raise Refusal(missing)
        try:
            signature = decode_base64(encoded)
        except Refusal as error:
            raise Refusal(f"invalid signature encoding: {error.message}") from None
        self.check_raw_signature(
            caller, node, signed, signature, now, changes=changes, beat=beat, wrong=wrong
        )

    def check_raw_signature(
        self,
        caller: Caller,
        node: Node,
        signed: bytes,
        signature: bytes,
        now: float,
        *,
        changes: bool = True,
        beat: bool = False,
        wrong: str = "signature verification failed",
    ) -> None:
        """
        L{check_signature} for a decoded signature.

        @param beat: whether C{signed} is the text of a heartbeat, the one text signed again and
            again.  The very bytes that were verified for it last, under the same key, need no
            second verification.
        """
        if not beat or self._beats.get(node.id) != signature:
            if not self.is_signed(node.public_key, signature, signed):
                raise Refusal(wrong)
            if beat:
                self._beats[node.id] = signature
        if changes and self.is_elsewhere(caller, node, now):
            self.statistics.overheard += 1
            raise Refusal(f"{wrong}: node {node.id} is active at another address")
        self.callers.prove(caller, node.id, now)

    def is_signed(self, public_key: bytes, signature: bytes, signed: bytes) -> bool:
        """@return: whether the signature is sound."""
        return len(signature) == 64 and self._verify(public_key, signature, signed)

    def is_elsewhere(self, caller: Caller, node: Node, now: float) -> bool:
        """@return: whether the node is active at its own address, and C{caller} is not there."""
        host = host_of(node.real_addr)
        return caller.host != host and self.callers.witness(node.id, host, caller, now)

    def check_admin(self, request: Request) -> None:
        """@raise Refusal: field C{admin_token} is not the configured one."""
        if not self.admin_token:
            raise Refusal("network creation is disabled")
        if not same_text(text(request, "admin_token"), self.admin_token):
            raise Refusal("invalid admin token")

    def is_admin(self, request: Request) -> bool:
        """@return: whether the request carries the configured admin token."""
        return bool(self.admin_token) and same_text(text(request, "admin_token"), self.admin_token)

    def may_see(self, requester: int, node: Node) -> bool:
        """@return: whether C{requester} may learn where C{node} is."""
        return (
            node.public
            or self.trust.trusted(requester, node.id)
            or self.networks.shared(requester, node.id)
        )

    # -- time ----------------------------------------------------------------------------------

    def sweep(self, now: float) -> list[Node]:
        """
        Let what is due expire.  To be called every C{limits.sweep_every} seconds.

        A gap between two calls means that nobody could be heard meanwhile (the machine slept, the
        clock jumped): then everybody gets another chance.

        @return: the nodes that have become dormant.
        """
        if not 0 <= now - self._swept <= self.limits.stale_after / 2:
            self.nodes.grant_grace(now)
        self._swept = now
        silent = self.nodes.silent(now)
        for node in silent:
            self.retire(node, now)
        for node in self.nodes.excess():
            self.nodes.forget(node)
            self.trust.forget(node.id)
            self.mailboxes.forget(node.id)
            self.networks.forget(node.id)
        self.nodes.sweep(now)
        self.trust.sweep(now)
        self.polo.sweep(now)
        self.beacons.sweep(now)
        self.statistics.sample(now, len(self.nodes), self.online(now), self.trust.pairs)
        return silent

    def retire(self, node: Node, now: float) -> None:
        """A live node said goodbye or fell silent."""
        self._beats.pop(node.id, None)
        self.nodes.sleep(node, now)

    def rotate(self, node: Node, public_key: bytes, now: float) -> None:
        """Give a node a new key; @raise Refusal: it is another node's."""
        self.nodes.rotate(node, public_key, now)
        self._beats.pop(node.id, None)

    def online(self, now: float) -> int:
        """@return: live nodes heard of lately."""
        return len(self.nodes) - self.nodes.unheard(now)


def host_of(endpoint: str) -> str:
    """@return: the host of C{host:port}, without brackets."""
    return endpoint.rpartition(":")[0].strip("[]")


def same_text(given: str, wanted: str) -> bool:
    """@return: whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(
        given.encode("utf-8", "surrogatepass"), wanted.encode("utf-8", "surrogatepass")
    )
