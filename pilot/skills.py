"""Finding the installed skills, and hosting those that are wanted on one node."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import twisted.plugins
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.plugin import getCache
from twisted.python.modules import getModule
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from pilot.errors import InvalidArgument, NotFound
from pilot.hosting.hosted import HostedSkill, OpenSocket
from pilot.hosting.settings import SkillSettings
from pilot.hosting.written import NAME, Wanted
from pilot.iskill import ISkill

log = Logger()

#: Options that C{twistd pilot-NAME} has for every skill.
RESERVED_OPTIONS = ("socket", "config", "log-level", "log-format", "help", "version")


#: Skills with their settings, as they were given.
Chosen = list[tuple[Any, dict[str, Any]]]


class Installed(NamedTuple):
    """
    What there is.

    @ivar skills: the sound ones, by name.
    @ivar broken: why a plugin was left out, by the skill's name, or the module's when not even that
        could be found out.
    """

    skills: dict[str, Any]
    broken: dict[str, str]


class BrokenSkill:
    """Stands where a skill was wanted that cannot be loaded."""

    summary = ""
    port = None
    options = ()

    def __init__(self, name: str, error: str) -> None:
        self.name = name
        self._error = error

    def make_skill(self, node: object, settings: object) -> Any:
        """@raise ValueError: always."""
        raise ValueError(self._error)


def find_skills() -> Installed:
    """Look through the plugins; what is broken is logged and left out."""
    skills: dict[str, Any] = {}
    broken: dict[str, str] = {}
    # Like getPlugins(ISkill), which would log the broken ones without saying what they are.
    dropins = getCache(twisted.plugins)
    for module in getModule("twisted.plugins").iterModules():
        if module.name.rpartition(".")[2] not in dropins:
            _leave_out(broken, module.name, _import_error(module))
    for dropin in dropins.values():
        for plugin in dropin.plugins:
            name = f"{dropin.moduleName}.{plugin.name}"
            try:
                skill: Any = ISkill(plugin, None)
            except Exception as error:
                _leave_out(broken, name, error)
                continue
            if skill is None:
                continue
            name = getattr(skill, "name", name)
            try:
                _check(skill)
                if name in skills:
                    raise Invalid(f"there is another skill {name!r}")
            except Exception as error:
                _leave_out(broken, str(name), error)
            else:
                skills[name] = skill
    return Installed(dict(sorted(skills.items())), broken)


def choose(wanted: Wanted, installed: Installed) -> Chosen:
    """
    @return: each skill that is wanted, with its settings as they were given; in place of a broken
        one a L{BrokenSkill}.
    @raise NotFound: there is no such skill; the hint says which ones there are.
    @raise InvalidArgument: a skill has no such option.
    """
    chosen: Chosen = []
    for name, given in wanted.items():
        skill = installed.skills.get(name)
        if skill is None:
            chosen.append((_missing(name, installed), {}))
            continue
        try:
            SkillSettings(name, skill.options, given, Path(), None)
        except ValueError as error:
            raise InvalidArgument(f"skill {name}: {error}") from None
        chosen.append((skill, given))
    return chosen


class SkillHost(Service):
    """
    The skills of one daemon.

    @ivar hosted: them, by name.
    """

    name = "skills"

    def __init__(
        self,
        chosen: Chosen,
        home: Path,
        reactor: Any,
        open_socket: OpenSocket,
        node: Any,
    ) -> None:
        """
        @param chosen: see L{choose}.
        @param home: the directory of the node's files.
        @param node: provides L{pilot.interfaces.IPilotNode}.
        """
        self._node = node
        rng = random.Random()
        self.hosted = {
            skill.name: HostedSkill(
                skill, given, skill_home(home, skill.name), reactor, open_socket, rng=rng
            )
            for skill, given in chosen
        }

    def startService(self) -> None:
        """Start every skill; how that goes is told by L{report}."""
        super().startService()
        for hosted in self.hosted.values():
            hosted.attach(self._node)

    def stopService(self) -> Deferred[Any]:
        """Stop every skill."""
        super().stopService()
        return DeferredList(
            [Deferred.fromCoroutine(hosted.close()) for hosted in self.hosted.values()]
        )

    def report(self) -> list[dict[str, Any]]:
        """@return: JSON-ready, one object a skill; see L{HostedSkill.report}."""
        return [hosted.report() for hosted in self.hosted.values()]


def skill_home(home: Path, name: str) -> Path:
    """@return: a skill's directory for what must last, below that of the node's files."""
    return home / "skills" / name


def _missing(name: str, installed: Installed) -> BrokenSkill:
    if name in installed.broken:
        return BrokenSkill(name, installed.broken[name])
    # A module that cannot be imported does not tell which skills it would have brought.
    modules = [each for each in installed.broken if "." in each]
    if modules:
        return BrokenSkill(name, f"not found, and these cannot be loaded: {', '.join(modules)}")
    raise NotFound(
        f"no skill {name!r} is installed",
        hint="installed: " + (", ".join(installed.skills) or "none"),
    )


def _check(skill: Any) -> None:
    """@raise Exception: the skill is not what L{ISkill} says."""
    verifyObject(ISkill, skill)
    if not isinstance(skill.name, str) or not NAME.fullmatch(skill.name):
        raise Invalid(f"{skill.name!r} is no name of a skill")
    if skill.port is not None and not 1 <= skill.port <= 65535:
        raise Invalid(f"port {skill.port} is not in 1..65535")
    for name, _, text in skill.options:
        if not NAME.fullmatch(name) or name in RESERVED_OPTIONS or not isinstance(text, str):
            raise Invalid(f"option {name!r} is malformed, or called like one that every skill has")


def _leave_out(broken: dict[str, str], name: str, error: BaseException) -> None:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    broken[name] = reason
    log.error("skill or plugin {name} left out: {error}", name=name, error=reason)


def _import_error(module: Any) -> BaseException:
    try:
        module.load()
    except Exception as error:
        return error
    return ImportError("it could not be loaded")
