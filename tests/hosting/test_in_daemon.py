"""Skills in whole daemons, inside and beside, on loopback."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from pilot.client.skillcalls import SkillClient, SkillError
from pilot.daemon import service as service_module
from pilot.daemon import skill_tap
from pilot.daemon.service import DaemonService
from pilot.daemon.skill_tap import SkillProcess
from pilot.errors import AlreadyExists, InvalidArgument, NotFound
from pilot.skills import Installed
from tests.daemon.test_loopback import places
from tests.daemon.test_service import daemon, stopped
from tests.hosting.fakes import FakeSkill, Servant

reactor: Any = _reactor


def install(monkeypatch: pytest.MonkeyPatch, *skills: Any) -> None:
    found = Installed({skill.name: skill for skill in skills}, {"torn": "ImportError: torn"})
    monkeypatch.setattr(service_module, "find_skills", lambda: found)


def named(name: str, behaviour: Any = lambda servant: None) -> FakeSkill:
    skill = FakeSkill(behaviour)
    skill.name = name
    return skill


async def until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("it did not come to pass")


def listen(servant: Servant) -> None:
    def heard(source: Any, topic: str, payload: bytes) -> None:
        if payload == b"poison":
            raise RuntimeError("poisoned")

    servant.node.watch_events("test.", heard)


@pytest_twisted.ensureDeferred
async def test_good_and_bad_skills_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_left_behind: list[Failure]
) -> None:
    """Whatever is wrong with the others, the good one and the daemon go on."""
    skills = [named("good"), named("ill", lambda servant: 1 / 0), named("allergic", listen)]
    install(monkeypatch, *skills, named("vain"))
    flags = {"skill": ["good", "ill", "allergic", "vain:pace=never", "torn"]}
    service = daemon(tmp_path / "a", places(), monkeypatch, **flags)
    service.startService()
    await service.started
    service.node.announce("test.poison", {})
    await service.node.publish("self", "test.x", b"poison")
    assert service.skills is not None
    await until(lambda: service.skills.hosted["allergic"].failures)  # type: ignore[union-attr]
    info = await service.node.info()
    states = {skill["name"]: (skill["state"], skill["error"]) for skill in info["skills"]}
    assert states["good"] == ("running", None)
    assert states["ill"] == ("failed", "ZeroDivisionError: division by zero")
    assert states["allergic"][1] == "RuntimeError: poisoned"
    assert states["vain"] == ("failed", "pace: expected a duration such as 30s, not 'never'")
    assert states["torn"] == ("failed", "ImportError: torn")
    good = next(skill for skill in info["skills"] if skill["name"] == "good")
    assert good["beats"] == 3 and good["port"] == 4000
    client = SkillClient("good", service._settings.socket)
    assert await deferToThread(client.call, "echo", {"a": 1}) == {"a": 1}
    await stopped(service)
    assert skills[0].made[0].stopped == 1
    assert not list((tmp_path / "a").glob("*.sock"))
    nothing_left_behind.clear()


@pytest_twisted.ensureDeferred
async def test_a_mistake_in_a_name_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, named("good"))
    for word, error in (("goood", NotFound), ("good:pase=1s", InvalidArgument)):
        service = daemon(tmp_path / "a", places(), monkeypatch, skill=[word])
        service.startService()
        with pytest.raises(error):
            await service.started
        await stopped(service)
    assert not (tmp_path / "a" / "identity.json").exists()


def process(skill: Any, service: DaemonService, **given: Any) -> SkillProcess:
    settings = service._settings
    options: Any = SimpleNamespace(
        skill=skill, skill_given=given, socket=settings.socket, home=settings.home
    )
    return SkillProcess(options, reactor, Random(1))


@pytest_twisted.ensureDeferred
async def test_a_skill_beside_a_daemon_that_comes_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same code as inside; its socket stays, and so does its turn."""
    monkeypatch.setattr(skill_tap, "FIRST_PAUSE", 0.05)
    skill = named("good", listen)
    loopback = places()
    first = daemon(tmp_path / "a", loopback, monkeypatch)
    beside = process(skill, first)
    beside.startService()
    await until(lambda: beside.hosted.error)
    client = SkillClient("good", first._settings.socket)
    with pytest.raises(SkillError, match="no daemon answers at"):
        await deferToThread(client.call, "echo")
    first.startService()
    await first.started
    await beside.started
    assert await deferToThread(client.call, "echo") == {}
    await stopped(first)
    await until(lambda: beside.hosted.state == "stopped")
    second = daemon(tmp_path / "a", loopback, monkeypatch)
    second.startService()
    await second.started
    await until(lambda: beside.hosted.state == "running")
    assert len(skill.made) == 2 and skill.made[0].stopped == 1
    assert await deferToThread(client.call, "echo") == {}
    await beside.stopService()
    await stopped(second)


@pytest_twisted.ensureDeferred
async def test_one_instance_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a daemon that runs it inside, and beside another process; also the other way."""
    skill = named("good")
    install(monkeypatch, skill)
    loopback = places()
    inside = daemon(tmp_path / "a", loopback, monkeypatch, skill="good")
    inside.startService()
    await inside.started
    beside = process(skill, inside)
    beside.startService()
    with pytest.raises(AlreadyExists, match="the good skill runs here already"):
        await beside.started
    await beside.stopService()
    await stopped(inside)
    beside = process(skill, inside)
    beside.startService()
    again = daemon(tmp_path / "a", loopback, monkeypatch, skill="good")
    again.startService()
    await again.started
    assert again.skills is not None
    (report,) = again.skills.report()
    assert report["state"] == "failed" and "runs here already" in report["error"]
    await beside.stopService()
    await until(lambda: again.skills.hosted["good"].state == "running")  # type: ignore[union-attr]
    await stopped(again)


@pytest_twisted.ensureDeferred
async def test_a_process_whose_settings_make_no_sense_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = daemon(tmp_path / "a", places(), monkeypatch)
    service.startService()
    await service.started
    beside = process(named("good"), service, pace="never")
    beside.startService()
    with pytest.raises(InvalidArgument, match="skill good: pace: expected a duration"):
        await beside.started
    await beside.stopService()
    await stopped(service)
