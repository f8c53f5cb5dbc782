"""Skills of others that raise wherever they can, in a real daemon found by C{PYTHONPATH}."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.fleet import Fleet, demo, fleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

#: A module that Twisted finds, with a skill for every way to go wrong and one that does not.
PLUGINS = """
from twisted.application.service import Service
from twisted.plugin import IPlugin
from zope.interface import implementer

from pilot.iskill import ISkill, ISkillReport


@implementer(ISkillReport)
class Works(Service):
    def __init__(self, node, settings):
        self.node, self.settings, self.beats = node, settings, 0

    def startService(self):
        super().startService()
        self.beat()

    def beat(self):
        self.beats += 1
        self.settings.reactor.callLater(0.05, self.beat)

    def statistics(self):
        return {"beats": self.beats}


class AtStart(Works):
    def startService(self):
        raise RuntimeError("at the start")


class LaterAtStart(Works):
    async def startService(self):
        await self.node.tags()
        raise RuntimeError("a little after the start")


class InCallback(Works):
    def startService(self):
        super().startService()
        self.node.watch_events("test.", self.heard)

    def heard(self, source, topic, payload):
        raise RuntimeError("in a callback")


class InTimer(Works):
    def beat(self):
        self.settings.reactor.callLater(0.2, self.ring)

    def ring(self):
        raise RuntimeError("in a timer")


class InStatistics(Works):
    def statistics(self):
        raise RuntimeError("in its statistics")


@implementer(IPlugin, ISkill)
class Skill:
    summary, port, options = "For tests.", None, ()

    def __init__(self, name, service):
        self.name, self.service = name, service

    def make_skill(self, node, settings):
        return self.service(node, settings)


def at_making(node, settings):
    raise RuntimeError("when it is made")


works = Skill("works", Works)
made = Skill("at-making", at_making)
start = Skill("at-start", AtStart)
later = Skill("later-at-start", LaterAtStart)
callback = Skill("in-callback", InCallback)
timer = Skill("in-timer", InTimer)
told = Skill("in-statistics", InStatistics)
"""

#: Each skill that fails, and what it says.
FAULTS = {
    "at-making": "when it is made",
    "at-start": "at the start",
    "later-at-start": "a little after the start",
    "in-callback": "in a callback",
    "in-timer": "in a timer",
}


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as net:
        net.start_rendezvous()
        yield net


def test_each_fails_alone(net: Fleet, tmp_path: Path) -> None:
    """All in one daemon, a module that cannot even be imported included."""
    plugins = tmp_path / "site" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "faulty_skills.py").write_text(PLUGINS)
    (plugins / "torn_skill.py").write_text("raise RuntimeError('when it is loaded')\n")

    agent = demo.Agent("alice", tmp_path, net.registry, net.beacon)
    paths = (str(tmp_path / "site"), os.environ.get("PYTHONPATH", ""))
    agent.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    daemon = [sys.executable, str(demo.BIN / "twistd"), "--nodaemon", "--pidfile=", "pilot"]
    wanted = [*FAULTS, "torn", "works", "in-statistics", "gossip:swarm=fine"]
    skills = [word for name in wanted for word in ("--skill", name)]
    log = tmp_path / "daemon.log"
    with demo.running([*daemon, "--listen", "127.0.0.1:0", *skills], agent.environment, log) as (
        process
    ):
        demo.until("the daemon", lambda: agent("info")["node_id"])
        agent("publish", "self", "test.poison", "--data", "poison")

        def reports() -> dict[str, Any]:
            return {skill["name"]: skill for skill in agent("info")["skills"]}

        def all_failed() -> bool:
            found = reports()
            return all(found[name]["failures"] for name in (*FAULTS, "torn"))

        demo.until("all to fail", all_failed)
        found = reports()
        for name, why in FAULTS.items():
            assert why in log.read_text() and found[name]["failures"] >= 1, name
        for name in ("at-making", "at-start", "later-at-start"):
            assert found[name]["error"] == f"RuntimeError: {FAULTS[name]}"
        assert found["torn"]["state"] == "failed" and "torn_skill" in found["torn"]["error"]
        # What a skill says of itself is not what it does.
        assert found["in-statistics"]["state"] == "running"
        assert "in its statistics" in found["in-statistics"]["statistics_error"]

        # The daemon and the good ones go on, and those that failed are tried again.
        beats = found["works"]["beats"]
        demo.until("beats", lambda: reports()["works"]["beats"] > beats + 5)
        found = reports()
        assert found["works"]["failures"] == found["gossip"]["failures"] == 0
        demo.until("a second try", lambda: reports()["at-start"]["starts"] >= 2)
        assert agent("gossip", "set", "fine", "all", "well")["stored"]
        agent("send-message", "self", "--data", "hello")
        assert process.poll() is None
    assert process.returncode in (0, -signal.SIGTERM)  # as twistd ends
