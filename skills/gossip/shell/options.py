"""What can be set: for the whole skill when it is started, and for a swarm when it is joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilot.errors import InvalidArgument
from skills.gossip.shell.naming import check_swarm

if TYPE_CHECKING:
    from pilot.hosting.settings import SkillSettings
    from skills.gossip.core.config import GossipConfig

#: When a write is forced to the disk: before C{set} returns, within a second, or when the system
#: likes.
DURABILITIES = ("write", "interval", "none")

#: As L{pilot.iskill.ISkill.options}.
OPTIONS: tuple[tuple[str, Any, str], ...] = (
    ("swarm", (), "A swarm to join at the start (repeatable)."),
    ("fanout", 3, "Members that are told of news at once."),
    ("interval", "5s", "Pause between two comparisons with another member."),
    ("signed", False, "Take only what its author has signed."),
    (
        "durability",
        "write",
        "When a write is forced to the disk: write (before it is confirmed), interval (within a"
        " second) or none (when the system likes).",
    ),
)

#: Swarms a node may be in: each has a tag, and a node has ten.
MAX_SWARMS = 10

FANOUT = (1, 64)
INTERVAL = (0.5, 3600.0)  # seconds


@dataclass(frozen=True)
class SwarmOptions:
    """
    How one swarm is run here.

    @ivar fanout: members that are told of news at once.
    @ivar interval: seconds between two comparisons.
    @ivar signed: whether only what is signed is taken.
    """

    fanout: int = 3
    interval: float = 5.0
    signed: bool = False

    def changed(self, given: Mapping[str, Any]) -> SwarmOptions:
        """
        @param given: C{{"fanout": int, "interval": seconds, "signed": bool}}, each optional; other
            names are left alone.
        @raise InvalidArgument: a value that cannot be meant.
        """
        fanout = given.get("fanout", self.fanout)
        interval = given.get("interval", self.interval)
        signed = given.get("signed", self.signed)
        if type(fanout) is not int or not FANOUT[0] <= fanout <= FANOUT[1]:
            raise InvalidArgument(f"fanout: expected {FANOUT[0]} to {FANOUT[1]}, not {fanout!r}")
        if (
            isinstance(interval, bool)
            or not isinstance(interval, int | float)
            or not INTERVAL[0] <= interval <= INTERVAL[1]
        ):
            raise InvalidArgument(
                f"interval: expected {INTERVAL[0]:g} to {INTERVAL[1]:g} seconds, not {interval!r}"
            )
        if type(signed) is not bool:
            raise InvalidArgument(f"signed: expected true or false, not {signed!r}")
        return SwarmOptions(fanout, float(interval), signed)

    def config(self) -> GossipConfig:
        """@return: what a replica is told."""
        from skills.gossip.core.config import GossipConfig  # late: listing the options costs little

        return GossipConfig(fanout=self.fanout, interval=self.interval, signed=self.signed)

    def to_dict(self) -> dict[str, Any]:
        """@return: JSON-ready, what L{changed} takes."""
        return {"fanout": self.fanout, "interval": self.interval, "signed": self.signed}


@dataclass(frozen=True)
class GossipSettings:
    """
    @ivar swarms: to be joined at the start.
    @ivar defaults: for swarms that are joined without options of their own.
    @ivar durability: one of L{DURABILITIES}.
    """

    swarms: tuple[str, ...]
    defaults: SwarmOptions
    durability: str

    @classmethod
    def read(cls, settings: SkillSettings) -> GossipSettings:
        """@raise ValueError: an option makes no sense."""
        durability = settings.text("durability")
        if durability not in DURABILITIES:
            raise ValueError(f"durability: expected {', '.join(DURABILITIES)}, not {durability!r}")
        defaults = SwarmOptions(
            settings.integer("fanout", *FANOUT),
            settings.duration("interval", *INTERVAL),
            settings.switch("signed"),
        )
        swarms = _names(settings.texts("swarm"))
        if len(swarms) > MAX_SWARMS:
            raise ValueError(f"swarm: {len(swarms)} swarms; a node can be in {MAX_SWARMS}")
        return cls(tuple(swarms), defaults, durability)


def _names(given: Iterable[str]) -> list[str]:
    try:
        return list(dict.fromkeys(check_swarm(name) for name in given))
    except InvalidArgument as error:
        raise ValueError(f"swarm: {error.message} ({error.hint})") from None
