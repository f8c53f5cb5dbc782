"""The presence family of pilotctl, against a skill that a test plays."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pilot.ctl.main import main
from skills.presence.ctl import look as command_look
from skills.presence.ctl import own as command_self
from skills.presence.ctl import watch as command_watch

BOB: dict[str, Any] = {
    "hostname": "bob\x1b[2J",
    "node_id": 2,
    "address": "0:0000.0000.0002",
    "status": "busy",
    "claim": "busy",
    "reach": "fresh",
    "confidence": "heartbeat",
    "last_seen": 3.2,
    "since": 61.0,
    "load": 40,
    "slots": 0,
    "tags": ["gpu"],
    "reason": "in\x07dexing",
    "flapping": False,
    "stale_view": False,
}


class Skill:
    """What the commands talk to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.deadline: float | None = None

    def call(self, operation: str, arguments: Any = None, timeout: float = 0.0) -> Any:
        self.asked.append((operation, arguments))
        return self.answers[operation]

    def feed(self, operation: str, arguments: Any, deadline: Any) -> Iterator[dict[str, Any]]:
        self.asked.append((operation, arguments))
        self.deadline = deadline
        yield from self.events


@pytest.fixture
def skill(monkeypatch: pytest.MonkeyPatch) -> Skill:
    """A skill in place of the one on this host."""
    found = Skill()
    for module in (command_self, command_look, command_watch):
        monkeypatch.setattr(module, "client", lambda call: found)
    return found


Output = pytest.CaptureFixture[str]


def data(capsys: Output) -> Any:
    return json.loads(capsys.readouterr().out)["data"]


def test_start(skill: Skill, capsys: Output) -> None:
    skill.answers["start"] = {
        "status": "online",
        "coordinators": ["hub"],
        "swarms": [],
        "interval": 5.0,
        "profile": "wan",
    }
    words = ["presence", "start", "--coordinator", "hub,two", "--swarm", "kv", "--interval", "5s"]
    assert main(words) == 0
    assert skill.asked == [
        (
            "start",
            {"profile": None, "coordinators": ["hub", "two"], "swarms": ["kv"], "interval": 5.0},
        )
    ]
    assert "coordinators: hub (every 5s)" in capsys.readouterr().out
    assert main(["--json", "presence", "start"]) == 0
    assert data(capsys)["interval"] == "5s"
    skill.answers["stop"] = {"status": "offline"}
    assert main(["presence", "stop"]) == 0


def test_set(skill: Skill, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    agents = [
        {"agent": "", "status": "online", "reverts_in": None},
        {"agent": "two", "status": "busy", "reverts_in": 600.0},
    ]
    skill.answers["set"] = {**BOB, "agents": agents}
    monkeypatch.setenv("PILOT_AGENT", "two")
    assert main(["presence", "set", "busy", "--for", "10m", "--slots", "0", "--load", "40"]) == 0
    assert skill.asked[0][1] == {
        "status": "busy",
        "agent": "two",
        "reason": "",
        "duration": 600.0,
        "slots": 0,
        "load": 40,
    }
    assert "this node is busy; what you said holds for 10m0s (two is busy)" in (
        capsys.readouterr().out
    )
    assert main(["--json", "presence", "set", "online", "--agent", ""]) == 0
    assert skill.asked[1][1]["agent"] == ""
    assert data(capsys)["until"] is None
    assert main(["presence", "set", "asleep"]) == 1
    assert main(["presence", "set", "busy", "--slots", "many"]) == 1
    assert len(skill.asked) == 2


def test_serve(skill: Skill, capsys: Output) -> None:
    skill.answers["serve"] = {"serving": True, "agents": 3}
    assert main(["presence", "serve"]) == 0
    assert "agents known: 3" in capsys.readouterr().out
    skill.answers["serve"] = {"serving": False, "agents": 3}
    assert main(["--json", "presence", "serve", "--off"]) == 0
    assert data(capsys) == {"serving": False, "agents": 3}
    assert [given for _, given in skill.asked] == [{"off": False}, {"off": True}]


def test_what_peers_say_cannot_steer_a_terminal(skill: Skill, capsys: Output) -> None:
    skill.answers = {
        "get": BOB,
        "list": {"agents": [BOB], "version": 1, "stale_view": True},
        "find": {"agents": [BOB], "excluded": {}, "known": 1},
        "explain": {
            **BOB,
            "trail": [{"ago": 2.0, "what": "late\x1b", "detail": "\x1b[1m"}],
            "view": {"stale": True, "cause": "exodus"},
            "evidence": {},
        },
        "history": {
            "hostname": "bob\x1b",
            "transitions": [{"ago": 5.0, "from": "online", "to": "busy", "cause": "x\x1b"}],
        },
    }
    for words in (["get", "bob"], ["list"], ["find"], ["explain", "bob"], ["history", "bob"]):
        assert main(["presence", *words]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out and "\x07" not in out
        assert "busy" in out or words == ["find"]


def test_what_is_not_proven_is_said_to_be_so(skill: Skill, capsys: Output) -> None:
    shown = {**BOB, "hostname": "carol", "status": "unknown", "claim": "online", "verified": False}
    skill.answers = {"get": {**shown, "reason": "no trust"}}
    assert main(["presence", "get", "3"]) == 0
    out = capsys.readouterr().out
    assert "carol (unverified, " in out and "unknown; it says online" in out


def test_questions(skill: Skill, capsys: Output) -> None:
    skill.answers["list"] = {"agents": [], "version": 1, "stale_view": False}
    words = ["--status", "busy,away", "--tag", "gpu", "--swarm", "kv", "--coordinator", "hub"]
    assert main(["presence", "list", *words]) == 0
    assert "nobody is there" in capsys.readouterr().out
    assert skill.asked == [
        (
            "list",
            {
                "all": False,
                "status": ["busy", "away"],
                "tag": ["gpu"],
                "swarm": ["kv"],
                "coordinator": "hub",
            },
        )
    ]
    skill.answers["stats"] = {"agents": 2, "status": {"online": 2}, "counters": {}}
    assert main(["--json", "presence", "stats"]) == 0
    assert data(capsys)["by_status"] == {"online": 2}


def test_nobody_found_is_a_failure_with_reasons(skill: Skill, capsys: Output) -> None:
    skill.answers["find"] = {"agents": [], "excluded": {"bob": "it is busy"}, "known": 1}
    words = ["presence", "find", "--min-slots", "2", "--max-age", "1m", "--pick", "1", "--verify"]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "bob: it is busy" in captured.err
    assert skill.asked[0][1] == {"min_slots": 2, "max_age": 60.0, "pick": 1, "verify": True}
    assert main(["--json", "presence", "find"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["data"]["excluded"] == {"bob": "it is busy"}
    error = json.loads(captured.err)
    assert error["code"] == "not_found" and "bob" in error["hint"]
    skill.answers["find"] = {"agents": [], "excluded": {}, "known": 0}
    assert main(["presence", "find"]) == 1
    assert "none is known" in capsys.readouterr().err


def change(hostname: str, **more: Any) -> dict[str, Any]:
    facts = {"hostname": hostname, "node_id": 2, "from": "online", "to": "busy", "event": "changed"}
    return {"event": {**facts, "cause": "claimed", "at": "2026-04-08T10:00:00Z", **more}}


def test_watch(skill: Skill, capsys: Output) -> None:
    skill.events = [
        {"event": {"event": "watching"}},
        change("a"),
        {"dropped": 3},
        change("b\x1b"),
        change("c"),
    ]
    words = ["presence", "watch", "--count", "2", "--timeout", "5s", "--status", "busy"]
    assert main(["--json", *words]) == 0
    captured = capsys.readouterr()
    assert [json.loads(line)["hostname"] for line in captured.out.splitlines()] == ["a", "b\x1b"]
    assert "missed 3 changes" in captured.err
    assert skill.deadline == 5.0 and skill.asked[0][1] == {"host": "", "status": ["busy"]}
    skill.events = [{"event": {"event": "watching"}}, change("a")]
    assert main(["presence", "watch", "--count", "2", "--timeout", "5s"]) == 1
    assert "1 of 2 changes came in time" in capsys.readouterr().err
    assert main(["presence", "watch", "--timeout", "5s"]) == 0
    capsys.readouterr()
    skill.events = [{"event": {"event": "lost", "reason": "hung up"}}]
    assert main(["presence", "watch", "bob", "--coordinator", "hub"]) == 1
    assert "the coordinator is lost: hung up" in capsys.readouterr().err
    assert skill.deadline is None


def test_lines_for_people() -> None:
    events = [
        change("a\x1b")["event"],
        {"event": "flapping", "hostname": "a", "flapping": True},
        {"event": "bulk", "count": 80},
        {"event": "view_stale", "cause": "exodus"},
        {"event": "view_ok", "cause": "exodus"},
        {"event": "changed", "hostname": None, "node_id": random.Random(1).randrange(9)},
    ]
    lines = [command_watch._line(event) for event in events]
    assert all("\x1b" not in line and len(line) > 10 for line in lines)
    assert "online -> busy (claimed)" in lines[0]


def test_without_the_skill(capsys: Output, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PILOT_SOCKET", str(tmp_path / "pilot.sock"))
    assert main(["presence", "list"]) == 1
    assert "twistd pilot-presence" in capsys.readouterr().err


def test_looking_at_the_skill_and_its_commands_costs_little() -> None:
    """Whoever types any other command does not wait for this one."""
    code = """
import sys
import skills.presence.commands, skills.presence.ctl.own
import skills.presence.ctl.look, skills.presence.ctl.watch
assert not {"twisted", "zope", "automat", "cryptography"} & set(sys.modules)
from twisted.plugins import pilot_skills_dropin
assert pilot_skills_dropin.presence.options
assert not {"automat", "cryptography", "skills.presence.service"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
