"""How fast a swarm looks after its members: three profiles, and every constant with its price."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """
    The tunables of one detector.  All members of a swarm should run the same profile.

    @ivar name: as the operator writes it.
    @ivar period: seconds between two probes of ours (SWIM's T).  Detection and traffic are both
        proportional to it.
    @ivar lease: periods without accusations after a start, a resume or a rekey.
    """

    name: str
    period: float
    lease: float = 15.0

    @property
    def grace(self) -> float:
        """Seconds without accusations after a start, a resume or a rekey."""
        return self.lease * self.period


LAN = Profile("lan", 1.0)
WAN = Profile("wan", 2.0)
ECO = Profile("eco", 10.0)

PROFILES = {profile.name: profile for profile in (LAN, WAN, ECO)}
