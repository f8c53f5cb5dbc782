"""How fast a swarm looks after its members: three profiles, and every constant with its price."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """
    The tunables of one detector.  All members of a swarm should run the same profile.

    @ivar name: as the operator writes it.
    @ivar period: seconds between two probes of ours (SWIM's T).  Detection time is proportional to
        it, traffic inversely.
    @ivar timeout: least seconds that a probe waits for its answer.
    @ivar helpers: members asked to probe for us when we get no answer; more find more lossy paths
        and cost four datagrams each.
    @ivar lease: periods without accusations of ours after a start, a resume or a rekey.
    @ivar fanout: members that news is pushed to at once.
    @ivar coalesce: seconds that news waits for more.
    @ivar repair: seconds between two comparisons with a random member.
    @ivar reconnect: periods between two probes of somebody given up; half a minute at most.
    @ivar most: members held at most.
    """

    name: str
    period: float
    timeout: float = 0.5
    helpers: int = 3
    lease: float = 15.0
    fanout: int = 3
    coalesce: float = 0.05
    repair: float = 30.0
    reconnect: float = 10.0
    most: int = 10_000

    @property
    def grace(self) -> float:
        """Seconds without accusations after a start, a resume or a rekey."""
        return self.lease * self.period


LAN = Profile("lan", 1.0)
WAN = Profile("wan", 2.0)
ECO = Profile("eco", 10.0)

PROFILES = {profile.name: profile for profile in (LAN, WAN, ECO)}
"""By the name an operator writes."""
