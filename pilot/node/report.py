"""What a node says of itself: the info and health replies, answered from memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from pilot import _version
from pilot.address import Address

if TYPE_CHECKING:
    from pilot.node.service import NodeParts


class Report:
    """
    Collects the counters of all parts (protocol notes, I{Info}, I{Health}).

    @ivar sections: what others add to the info reply: its key, and what gives the value.
    """

    def __init__(self, clock: IReactorTime, parts: NodeParts) -> None:
        self._clock = clock
        self._parts = parts
        self._started = clock.seconds()
        self.sections: dict[str, Callable[[], Any]] = {}

    def info(self) -> dict[str, Any]:
        """
        @return: every field of the control socket's info reply, and of ours C{public}, C{tags},
            C{registry_connected} and C{refused} (name of a limit to how often it turned somebody
            away).
        """
        parts = self._parts
        node_id = parts.registry.node_id or 0
        tunnel = parts.tunnel.counters()
        peers = [self.peer(entry) for entry in parts.tunnel.peers()]
        return {
            "node_id": node_id,
            "address": str(Address(0, node_id)),
            "hostname": parts.profile.hostname,
            "uptime_secs": self._uptime(),
            "connections": parts.streams.open_count(),
            "ports": len(parts.ports),
            "peers": len(peers),
            "encrypted_peers": sum(1 for peer in peers if peer["encrypted"]),
            "authenticated_peers": sum(1 for peer in peers if peer["authenticated"]),
            "encrypt": parts.settings.encrypt,
            "identity": parts.settings.identity is not None,
            "public_key": parts.identity.public_key_text,
            "email": parts.settings.email,
            **{name: tunnel[name] for name in _TUNNEL_COUNTERS},
            "handshake_pending_count": len(parts.trust.pending()),
            "version": _version.__version__,
            "networks": parts.networks.entries(node_id),
            "peer_list": peers,
            "conn_list": parts.streams.statistics(),
            "public": parts.profile.public,
            "tags": parts.profile.tags or [],
            # The registration learns of a loss with its next heartbeat, the connection at once.
            "registry_connected": parts.registration.connected and parts.registry.connected,
            "refused": self.refused(),
            **{name: section() for name, section in self.sections.items()},
        }

    def health(self) -> dict[str, Any]:
        """@return: the health reply."""
        tunnel = self._parts.tunnel.counters()
        return {
            "status": "ok",
            "uptime_seconds": self._uptime(),
            "connections": self._parts.streams.open_count(),
            "peers": len(self._parts.tunnel.peers()),
            "bytes_sent": tunnel["bytes_sent"],
            "bytes_recv": tunnel["bytes_recv"],
        }

    def refused(self) -> dict[str, int]:
        """@return: how often each named limit turned somebody away."""
        parts = self._parts
        total = parts.ports.refused + parts.streams.refused + parts.datagrams.refused
        return dict(sorted(total.items()))

    def _uptime(self) -> int:
        return round(self._clock.seconds() - self._started)

    def peer(self, entry: dict[str, Any]) -> dict[str, Any]:
        """@return: C{entry}, which has a C{node_id}, with what is known of that node beside it."""
        facts = self._parts.directory.facts(entry["node_id"])
        return {
            **entry,
            "address": str(Address(0, entry["node_id"])),
            "hostname": facts.hostname if facts else "",
            "tags": list(facts.tags) if facts else [],
        }


_TUNNEL_COUNTERS = (
    "bytes_sent",
    "bytes_recv",
    "pkts_sent",
    "pkts_recv",
    "tunnel_encryption_success",
    "tunnel_encryption_failure",
)
