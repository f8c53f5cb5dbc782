"""C{twistd pilot-NAME}: a skill as a process of its own, against a running daemon."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from pilot.client import places
from pilot.client.remote import RemoteNode, connect_node
from pilot.daemon import values
from pilot.daemon.flags import FlagOptions, parameters
from pilot.daemon.setting import Setting, decide
from pilot.daemon.skillsocket import socket_opener
from pilot.daemon.twistd import TwistdRoot
from pilot.errors import InvalidArgument, PilotError
from pilot.hosting.hosted import HostedSkill
from pilot.hosting.settings import SkillSettings
from pilot.hosting.written import read_config
from pilot.skills import find_skills, skill_home

log = Logger()

#: Seconds between two attempts to reach the daemon, at first and at most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0

OWN_SETTINGS = (
    Setting(
        "socket",
        values.path,
        places.DEFAULT_SOCKET,
        "Control socket of the daemon.",
        "PILOT_SOCKET",
        environment_first=True,
    ),
    Setting(
        "log-level",
        values.choice("debug", "info", "warn", "error"),
        "info",
        "Least severe messages to log: debug, info, warn or error.",
    ),
    Setting("log-format", values.choice("text", "json"), "text", "Log as text or as json."),
)


class SkillOptions(FlagOptions):
    """
    The options of one skill, and those every skill has.

    @ivar skill: the skill.
    @ivar skill_given: what was written for it: in the configuration file, and over that in the
        options.
    @ivar socket: the daemon's control socket.
    @ivar home: the directory of the node's files.
    """

    skill: ClassVar[Any]

    def settle(self) -> None:
        """Decide everything.  @raise InvalidArgument: there is no such option."""
        given = dict(self.given)
        named = given.pop("config", None)
        path = named or places.config_path()
        config = places.read_config(path, required=named is not None)
        own = {one.name: given.pop(one.name, None) for one in OWN_SETTINGS}
        found = decide(OWN_SETTINGS, own, config, path, os.environ)
        self.socket: str = found["socket"]
        self.home = Path(places.home()).absolute()
        name = self.skill.name
        flags = {key: _single(value) for key, value in given.items()}
        self.skill_given = {**read_config(config.get("skills")).get(name, {}), **flags}
        try:
            SkillSettings(name, self.skill.options, self.skill_given, Path(), None)
        except ValueError as error:
            raise InvalidArgument(f"skills, {name} in {path}: {error}") from None


def skill_options(name: str) -> SkillOptions:
    """
    @return: the options of one skill.
    @raise usage.UsageError: there is no such skill, or it is broken.
    """
    installed = find_skills()
    if name in installed.broken:
        raise usage.UsageError(f"skill {name} is broken: {installed.broken[name]}")
    if name not in installed.skills:
        known = ", ".join(installed.skills) or "none"
        raise usage.UsageError(f"no skill {name!r} is installed; installed: {known}")
    found = installed.skills[name]
    texts = [one for one in found.options if not isinstance(one[1], bool)]

    class Options(SkillOptions):
        skill = found
        program = f"pilot-{name}"
        longdesc = (
            f"{found.summary} It runs beside a daemon. Options can also stand in"
            f' ~/.pilot/config.json, under "skills", "{name}".'
        )
        optFlags: ClassVar[list[Any]] = [
            [key, None, text] for key, default, text in found.options if isinstance(default, bool)
        ]
        optParameters: ClassVar[list[Any]] = [
            *([key, None, None, _help(text, default)] for key, default, text in texts),
            *parameters(OWN_SETTINGS),
            ["config", None, None, "JSON file to read instead of ~/.pilot/config.json."],
        ]
        lists = frozenset(key for key, _, _ in texts)

    return Options()


class SkillProcess(Service):
    """
    One skill on a daemon that may go away and come back.

    @ivar started: Deferred of None once the skill was started on the daemon; it fails with the
        C{PilotError} that makes it pointless: the skill runs already, its settings make no sense.
    """

    def __init__(self, options: SkillOptions, reactor: Any, rng: Random | None = None) -> None:
        self.started: Deferred[None] = Deferred()
        self._socket = options.socket
        self._reactor = reactor
        self._rng = rng or Random()
        self._attempts = 0
        self._again: IDelayedCall | None = None
        self._node: RemoteNode | None = None
        self._connecting: Deferred[None] | None = None
        self._detaching: Deferred[None] | None = None
        self.hosted = HostedSkill(
            options.skill,
            options.skill_given,
            skill_home(options.home, options.skill.name),
            reactor,
            socket_opener(options.socket, reactor),
            rng=self._rng,
        )
        self.hosted.on_misconfigured = self._give_up

    def startService(self) -> None:
        """Claim the skill and look for the daemon."""
        super().startService()
        try:
            self.hosted.open()
        except PilotError:
            self.started.errback()
            return
        self._connect()

    async def stopService(self) -> None:
        """Stop the skill and hang up."""
        self.running = 0
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._connecting is not None:
            self._connecting.cancel()
        if self._detaching is not None:
            await self._detaching
        await self.hosted.close()
        node, self._node = self._node, None
        if node is not None:
            node.close()

    def _connect(self) -> None:
        self._again = None
        self._connecting = Deferred.fromCoroutine(self._attach())
        self._connecting.addErrback(_unforeseen)

    async def _attach(self) -> None:
        try:
            node = await connect_node(self._reactor, self._socket)
        except PilotError as error:
            self._later(error.message)
            return
        finally:
            self._connecting = None
        self._node = node
        self._attempts = 0
        node.on_disconnect = self._lost
        log.info("connected to the daemon at {socket}", socket=self._socket)
        self.hosted.attach(node)
        if not self.started.called:
            self.started.callback(None)

    def _lost(self) -> None:
        if self.running:
            self._node = None
            self._detaching = Deferred.fromCoroutine(self._detach())
            self._detaching.addErrback(_unforeseen)

    async def _detach(self) -> None:
        await self.hosted.detach()
        self._detaching = None
        if self.running:
            self._later("the connection ended")

    def _later(self, reason: str) -> None:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._attempts, 8))
        pause *= self._rng.uniform(0.5, 1.0)
        self._attempts += 1
        self.hosted.error = f"no daemon answers at {self._socket}"
        log.warn(
            "no daemon at {socket}: {reason}; next attempt in {pause:.1f} s",
            socket=self._socket,
            reason=reason,
            pause=pause,
        )
        self._again = self._reactor.callLater(pause, self._connect)

    def _give_up(self, reason: str) -> None:
        error = InvalidArgument(f"skill {self.hosted.name}: {reason}")
        if not self.started.called:
            self.started.errback(error)


class AnySkillOptions(usage.Options):
    """
    C{twistd pilot-skill NAME [options]}.

    @ivar chosen: the options of the skill that was named.
    """

    synopsis = "NAME [options of the skill]"
    longdesc = "Runs any installed skill beside a daemon; NAME --help lists its options."
    chosen: SkillOptions

    def parseArgs(self, name: str = "", *words: str) -> None:
        """The skill, and what it is told."""
        if not name:
            known = ", ".join(find_skills().skills) or "none"
            raise usage.UsageError(f"name a skill; installed: {known}")
        self.chosen = skill_options(name)
        self.chosen.parseOptions(words)


Options = AnySkillOptions


def makeService(options: Any, reactor: Any = None) -> TwistdRoot:
    """@return: the service of a skill's process, not started."""
    if reactor is None:
        from twisted.internet import reactor  # late: importing it installs it
    chosen: SkillOptions = options.chosen if isinstance(options, AnySkillOptions) else options
    return TwistdRoot(SkillProcess(chosen, reactor), reactor, options.parent, chosen.given)


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _help(text: str, default: Any) -> str:
    if default in (None, "", (), []):
        return text
    shown = ", ".join(map(str, default)) if isinstance(default, list | tuple) else default
    return f"{text.removesuffix('.')} (default: {shown})."


def _unforeseen(failure: Failure) -> None:
    if not failure.check(CancelledError):
        log.failure("the way to the daemon", failure)
