"""Agents with presence on whole nodes, in memory and in simulated time."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute

from pilot.hosting.settings import SkillSettings
from skills.presence.service import PresenceService
from skills.presence.shell.choices import OPTIONS
from tests.client.nodeapi import House, Street

EPOCH = 1_775_642_400.0


class Village:
    """
    Alice, Bob and Carol, who trust each other, on one registry.

    @ivar presence: the services that run, by name.
    """

    def __init__(self, directory: Path, *, remote: bool = False) -> None:
        self.directory = directory
        self.street = Street(directory, remote=remote)
        self.world = self.street.world
        self.clock = self.world.internet
        self.carol = House(self.street, "carol")
        self.houses = {"alice": self.street.alice, "bob": self.street.bob, "carol": self.carol}
        self.world.introduce(self.carol.node, self.houses["bob"].node)
        self.presence: dict[str, PresenceService] = {}
        self.skew = 0.0
        self.remote = remote

    def node(self, name: str) -> Any:
        """@return: the node that a skill of that agent works with."""
        return self.street.asked if name == "alice" else self.houses[name].node

    def settings(self, name: str, **given: Any) -> SkillSettings:
        """@return: settings of the skill on that node."""
        home = self.directory / name / "skills" / "presence"
        return SkillSettings("presence", OPTIONS, given, home, self.clock, random.Random(name))

    def open(self, name: str, **given: Any) -> PresenceService:
        """Start presence on a node."""
        service = PresenceService(
            self.node(name),
            self.settings(name, **{"profile": "lan", **given}),
            monotonic=self.clock.seconds,
            wall=lambda: EPOCH + self.skew + self.clock.seconds(),
            in_thread=execute,
        )
        self.presence[name] = service
        self.wait(service.startService())
        return service

    def shut(self, name: str) -> None:
        """Stop it."""
        self.wait(self.presence.pop(name).stopService())

    def crash(self, name: str) -> None:
        """A node is gone without a word, and its presence with it."""
        service = self.presence.pop(name, None)
        if service is not None and service.engine is not None:
            service.surroundings.stop()
            service.pinger.close()
            service.engine.close()
        self.world.crash(name)

    def call(self, name: str, operation: str, **given: Any) -> Any:
        """Ask the skill on a node something, as a command does."""
        result = self.presence[name].calls()[operation](given)
        if hasattr(result, "send") or isinstance(result, Deferred):
            return self.wait(result)
        return result

    def status(self, name: str, host: str) -> str:
        """@return: how C{host} is in the eyes of C{name}, C{""} when unknown there."""
        for agent in self.call(name, "list", all=True)["agents"]:
            if agent["hostname"] == host:
                return str(agent["status"])
        return ""

    def until(self, condition: Callable[[], Any], patience: float = 60.0) -> float:
        """Let time pass until it is so.  @return: seconds that took."""
        began = self.clock.seconds()
        self.clock.until(condition, patience)
        return float(self.clock.seconds() - began)

    def wait(self, work: Any) -> Any:
        """Let time pass until that is done.  @return: its result."""
        return self.world.wait(work)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run(seconds, 0.05)

    def close(self) -> None:
        """Everybody goes home."""
        for name in list(self.presence):
            self.shut(name)
        self.carol.close()
        self.street.close()
