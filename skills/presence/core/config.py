"""The tunables of presence, with units, source, and the price of moving them."""

from __future__ import annotations

from dataclasses import dataclass

from skills.presence.detection.profiles import WAN, Profile

LEASES: float = 2.5
"""Heartbeats in a lease: one may be lost and the next be late (30 s give the lease of 75 s)."""


@dataclass(frozen=True)
class PresenceConfig:
    """
    How one node takes part.

    @ivar coordinators: whom we publish our record to, and whose directory we watch: hostnames,
        addresses or node numbers.
    @ivar watch: whether we watch their directories, so that C{find} knows whom they know.
    @ivar serve: whether others may watch our directory, and it is stored.
    @ivar swarm: whether the trusted peers form a swarm that watches over its members.
    @ivar profile: how fast the swarm looks after its members.
    @ivar interval: seconds between two heartbeats to a coordinator, each varied by a fifth.  Fewer
        seconds detect a crash sooner and cost traffic in proportion.
    @ivar signed: whether our records are signed, so that others may pass them on.
    @ivar most: agents in the directory.
    @ivar verifying: verifications under way at once; more of them give up a crashed data centre
        sooner, and ping more nodes at once when it was our own fault.
    @ivar forget: seconds after which an offline agent is forgotten.
    @ivar tombstone: seconds for which watchers are told that it was.
    @ivar saving: seconds between two snapshots to disk.
    """

    coordinators: tuple[str, ...] = ()
    watch: bool = True
    serve: bool = False
    swarm: bool = True
    profile: Profile = WAN
    interval: float = 30.0
    signed: bool = True
    most: int = 10_000
    verifying: int = 256
    forget: float = 7 * 86_400.0
    tombstone: float = 86_400.0
    saving: float = 60.0

    @property
    def lease(self) -> float:
        """Seconds for which a heartbeat speaks for its agent."""
        return LEASES * self.interval
