"""What the operator chooses: as options of the skill, and with C{pilotctl presence start}."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from pilot.errors import InvalidArgument
from pilot.hosting.settings import SkillSettings
from skills.presence.core.config import PresenceConfig
from skills.presence.core.record import MAX_SLOTS, MAX_TAGS, is_tag
from skills.presence.detection.profiles import PROFILES

SWARM_TAG: Final = "swarm-"
"""What a swarm's tag in the registry begins with."""
INTERVAL: Final = (2.0, 1200.0)
"""Bounds of the seconds between two heartbeats; a lease is two and a half of them."""
MAX_COORDINATORS: Final = 8
NODE_TAGS: Final = 10
"""Tags a node may have at the registry."""
MAX_SWARMS: Final = NODE_TAGS

OPTIONS: Final[tuple[tuple[str, Any, str], ...]] = (
    ("coordinator", (), "Coordinator to announce this agent to (repeatable)."),
    ("swarm", (), "Swarm whose members are watched, and joined with a tag (repeatable)."),
    ("interval", "30s", "Pause between two heartbeats to a coordinator."),
    ("profile", "wan", "How fast the members of a swarm are looked after: lan, wan or eco."),
    ("serve", False, "Be a coordinator: let others watch the directory."),
    ("tag", (), "Tag of this agent, beside those in the registry (repeatable)."),
    ("slots", "", "Tasks this agent takes at once, unless it says otherwise."),
)
"""As L{pilot.iskill.ISkill.options}."""

_SWARM = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,24}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Choices:
    """
    How this node takes part.

    @ivar coordinators: whom it is announced to: hostnames, addresses or node numbers.
    @ivar swarms: names of the swarms whose members are watched; none: all trusted peers are.
    @ivar interval: seconds between two heartbeats.
    @ivar profile: C{lan}, C{wan} or C{eco}.
    @ivar serve: whether others may watch the directory.
    """

    coordinators: tuple[str, ...] = ()
    swarms: tuple[str, ...] = ()
    interval: float = 30.0
    profile: str = "wan"
    serve: bool = False

    def changed(self, given: Mapping[str, Any]) -> Choices:
        """
        @param given: JSON values by the names of the attributes; C{None} and other names are left
            alone.
        @raise InvalidArgument: a value that cannot be meant.
        """
        known = {field.name for field in fields(self)}
        changes: dict[str, Any] = {
            name: _CHECKS[name](value)
            for name, value in given.items()
            if name in known and value is not None
        }
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """@return: JSON-ready, what L{changed} takes."""
        return {
            "coordinators": list(self.coordinators),
            "swarms": list(self.swarms),
            "interval": self.interval,
            "profile": self.profile,
            "serve": self.serve,
        }

    @property
    def tags(self) -> tuple[str, ...]:
        """The registry tags of the swarms."""
        return tuple(SWARM_TAG + swarm for swarm in self.swarms)

    @property
    def period(self) -> float:
        """Seconds between two probes of the swarm."""
        return PROFILES[self.profile].period

    def config(self) -> PresenceConfig:
        """@return: what the core is told."""
        return PresenceConfig(
            coordinators=self.coordinators,
            serve=self.serve,
            profile=PROFILES[self.profile],
            interval=self.interval,
        )


def chosen(settings: SkillSettings) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Read the options.

    @return: what was chosen, as L{Choices.changed} takes it, and what the agent says of itself
        before it says anything: C{tags} and C{slots}.
    @raise ValueError: an option makes no sense.
    """
    given: dict[str, Any] = {}
    defaults = {name: default for name, default, _ in OPTIONS}
    try:
        if settings["coordinator"] != defaults["coordinator"]:
            given["coordinators"] = _coordinators(settings.texts("coordinator"))
        if settings["swarm"] != defaults["swarm"]:
            given["swarms"] = _swarms(settings.texts("swarm"))
        if settings["interval"] != defaults["interval"]:
            given["interval"] = settings.duration("interval", *INTERVAL)
        if settings["profile"] != defaults["profile"]:
            given["profile"] = _profile(settings.text("profile"))
        if settings["serve"] != defaults["serve"]:
            given["serve"] = settings.switch("serve")
    except InvalidArgument as error:
        raise ValueError(error.message) from None
    tags = tuple(dict.fromkeys(settings.texts("tag")))
    if len(tags) > MAX_TAGS or not all(map(is_tag, tags)):
        raise ValueError(f"tag: at most {MAX_TAGS}, each 1 to 32 of a-z, 0-9 and the hyphen")
    slots = None if settings["slots"] in ("", None) else settings.integer("slots", 0, MAX_SLOTS)
    return given, {"tags": tags, "slots": slots}


def swarm_tag(name: str) -> str:
    """@return: the tag of a swarm.  @raise InvalidArgument: no swarm can be called so."""
    bare = name.removeprefix("swarm:")
    if not _SWARM.fullmatch(bare):
        raise InvalidArgument(
            f"no swarm can be called {name[:60]!r}",
            hint="1 to 26 of a-z, 0-9 and the hyphen, which stands neither first nor last",
        )
    return SWARM_TAG + bare


def _texts(value: Any, what: str, most: int) -> list[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise InvalidArgument(f"{what}: expected texts, not {str(value)[:60]!r}")
    if len(value) > most:
        raise InvalidArgument(f"{what}: {most} at most")
    return list(value)


def _coordinators(value: Any) -> tuple[str, ...]:
    names = _texts(value, "coordinator", MAX_COORDINATORS)
    for name in names:
        if not 1 <= len(name) <= 253 or not name.isprintable() or " " in name:
            raise InvalidArgument(f"coordinator: {name[:60]!r} is no name of a node")
    return tuple(dict.fromkeys(names))


def _swarms(value: Any) -> tuple[str, ...]:
    names = _texts(value, "swarm", MAX_SWARMS)
    return tuple(dict.fromkeys(swarm_tag(name).removeprefix(SWARM_TAG) for name in names))


def _interval(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgument("interval: expected seconds")
    if not INTERVAL[0] <= value <= INTERVAL[1]:
        raise InvalidArgument(f"interval: {value:g} s is not in {INTERVAL[0]:g}..{INTERVAL[1]:g} s")
    return float(value)


def _profile(value: Any) -> str:
    if not isinstance(value, str) or value not in PROFILES:
        raise InvalidArgument(f"profile: expected {', '.join(PROFILES)}, not {str(value)[:40]!r}")
    return value


def _serve(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument("serve: expected true or false")
    return value


_CHECKS: Final = {
    "coordinators": _coordinators,
    "swarms": _swarms,
    "interval": _interval,
    "profile": _profile,
    "serve": _serve,
}


def is_member(tags: Iterable[str], swarm_tags: Iterable[str]) -> bool:
    """@return: whether a peer with these tags belongs to one of our swarms."""
    wanted = set(swarm_tags)
    return not wanted or not wanted.isdisjoint(tags)
