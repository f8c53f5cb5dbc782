"""The beacons that other beacons ask for; nodes never do.

@see: protocol notes of the registry, I{beacon_register, beacon_list}.
"""

from __future__ import annotations

from pilot.registry.limits import DEFAULT_LIMITS, Limits
from pilot.registry.refusal import Refusal


class BeaconTable:
    """Where each beacon said it is; not saved, since each says it again every 30 s."""

    __slots__ = ("_beacons", "_limits")

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._beacons: dict[int, tuple[str, float]] = {}  # the longest silent first

    def register(self, beacon_id: int, address: str, now: float) -> None:
        """@raise Refusal: too many are listed."""
        self.sweep(now)
        if beacon_id not in self._beacons and len(self._beacons) >= self._limits.beacons:
            raise Refusal(f"too many beacons (max {self._limits.beacons})")
        self._beacons.pop(beacon_id, None)
        self._beacons[beacon_id] = (address, now)

    def listed(self, now: float) -> list[tuple[int, str]]:
        """@return: id and address of each beacon heard of lately."""
        self.sweep(now)
        return [(beacon_id, address) for beacon_id, (address, _) in self._beacons.items()]

    def sweep(self, now: float) -> None:
        """Forget the silent."""
        while self._beacons:
            first = next(iter(self._beacons))
            if now - self._beacons[first][1] < self._limits.beacon_lasts:
                return
            del self._beacons[first]
