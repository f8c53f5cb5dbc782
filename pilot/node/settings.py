"""What a node is told before it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pilot.node.ports import PortLimits


@dataclass(frozen=True)
class NodeSettings:
    """
    Everything that makes one node differ from another.

    @ivar registry: C{host:port} of the registry.
    @ivar beacon: C{host:port} of the beacon, or C{""} for none.
    @ivar identity: file of the Ed25519 key; None makes a key that is forgotten at the end.
    @ivar listen: C{host:port} of the UDP socket; port 0 lets the system pick.
    @ivar endpoint: the public C{host:port} when it is fixed, so that none needs to be discovered.
    @ivar registry_fingerprint: pins the registry's TLS certificate (lower-case hex SHA-256) and
        switches TLS on; C{""} speaks plain TCP.
    @ivar public: whether strangers may connect.
    @ivar networks: ids of private networks to join at the start.
    @ivar keepalive: seconds between heartbeats, and of silence before a stream is probed.
    @ivar idle_timeout: seconds of silence after which a stream is closed.
    @ivar time_wait: seconds for which a finished stream answers late segments.
    @ivar encrypt: False sends everything in the clear, for tests with peers that do the same.
    @ivar echo: whether port 7 answers.
    """

    registry: str
    beacon: str
    identity: Path | None
    listen: str = ":0"
    endpoint: str = ""
    registry_fingerprint: str = ""
    hostname: str = ""
    email: str = ""
    public: bool = False
    encrypt: bool = True
    networks: tuple[int, ...] = ()
    trust_auto_approve: bool = False
    keepalive: float = 60.0
    idle_timeout: float = 120.0
    time_wait: float = 10.0
    limits: PortLimits = field(default_factory=PortLimits)
