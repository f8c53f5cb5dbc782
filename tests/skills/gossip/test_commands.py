"""C{pilotctl gossip}: what the commands ask, print and return; and the page that lists them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from pilot.client.skillcalls import SkillClient, SkillError
from pilot.errors import PilotError
from skills.gossip.commands import COMMANDS
from skills.gossip.shell.calls import Calls
from skills.gossip.shell.options import OPTIONS
from tests.ctl.conftest import Run, run
from tests.skills.gossip.shells import Net, Shell, network

assert run  # a fixture of the command line's own tests

PAGE = (Path(__file__).parents[3] / "docs" / "skills" / "gossip.md").read_text()
SECTIONS = dict(re.findall(r"^### `([^`]+)`\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))


class Hall:
    """The service that the commands reach, as over a socket."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.shell: Shell | None = None
        self.events: list[dict[str, Any]] = []

    def call(self, client: Any, name: str, arguments: Any = None, timeout: Any = None) -> Any:
        if self.shell is None:
            raise SkillError("the gossip skill does not run here", code="not_running")
        request = json.loads(json.dumps(arguments or {}))
        function = self.shell.service.calls()[name]

        async def ask() -> Any:
            return await maybeDeferred(function, request)

        try:
            answer = self.net.done(Deferred.fromCoroutine(ask()))
        except PilotError as error:
            raise SkillError(error.message, code=error.code, hint=error.hint) from None
        return json.loads(json.dumps(answer))

    def feed(
        self, client: Any, name: str, arguments: Any = None, deadline: Any = None
    ) -> Iterator[dict[str, Any]]:
        self.feed_deadline = deadline
        yield from self.events


@pytest.fixture
def hall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hall]:
    with network(tmp_path / "net") as net:
        made = Hall(net)
        made.shell = net.shell(1)
        monkeypatch.setattr(SkillClient, "call", lambda *words: made.call(*words))
        monkeypatch.setattr(SkillClient, "feed", lambda *words: made.feed(*words))
        yield made


def test_every_command_has_its_section() -> None:
    assert list(SECTIONS) == [command.usage.removeprefix("pilotctl ") for command in COMMANDS]


def test_every_field_is_named() -> None:
    for command in COMMANDS:
        section = SECTIONS[command.usage.removeprefix("pilotctl ")]
        assert "Data" in section
        for field in re.findall(
            r"[a-z_]+", re.sub(r"\(.*?\)|^.*?line:|if not agreed", "", command.returns)
        ):
            assert f"`{field}`" in section, (command.name, field)


def test_the_page_names_the_settings_and_the_calls(hall: Hall) -> None:
    for name, _, _ in OPTIONS:
        assert f"| `{name}` |" in PAGE
    assert hall.shell is not None
    calls = Calls(hall.shell.service, None)  # type: ignore[arg-type]
    for name in (*calls.calls(), *calls.feeds()):
        assert f"`{name}`" in PAGE.split("## The skill's socket")[1]


def test_looking_at_the_skill_and_its_commands_costs_little() -> None:
    code = """
import sys
import skills.gossip.commands, skills.gossip.ctl.swarms, skills.gossip.ctl.values
import skills.gossip.ctl.messages, skills.gossip.ctl.watch
assert not {"twisted", "zope", "msgspec", "cryptography"} & set(sys.modules)
from twisted.plugins import pilot_skills_dropin
assert pilot_skills_dropin.gossip.options
assert not {"msgspec", "cryptography", "skills.gossip.service"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_day_with_a_swarm(hall: Hall, run: Run, tmp_path: Path) -> None:
    joined = run("--json", "gossip", "join", "kv", "--fanout", "4", "--interval", "6s").data
    assert joined == {"swarm": "kv", "tag": "swarm-kv", "members": 0, "keys": 0, "synced": False}
    assert run("--json", "gossip", "status", "kv").data["options"]["interval"] == 6.0
    data = run("--json", "gossip", "set", "kv", "a/b", '{"x": 1, "y": [true, null]}').data
    assert data["value"] == {"x": 1, "y": [True, None]} and data["stored"]
    assert run("--json", "gossip", "set", "kv", "text", "{not json").data["value"] == "{not json"
    assert run("--json", "gossip", "set", "kv", "null", "null").data["value"] is None
    assert run("--json", "gossip", "set", "kv", "n", "-5").data["value"] == -5
    assert run("--json", "gossip", "get", "kv", "a/b/y").data["value"] == [True, None]
    keys = run("--json", "gossip", "keys", "kv", "--prefix", "a").data["keys"]
    assert [each["key"] for each in keys] == ["a/b/x", "a/b/y"]
    state = {"a": {"b": {"x": 1, "y": [True, None]}}, "text": "{not json", "null": None, "n": -5}
    dumped = run("--json", "gossip", "dump", "kv")
    assert dumped.data == {"swarm": "kv", "state": state}
    assert run("--json", "gossip", "del", "kv", "a").data["deleted"] == 2
    gone = run("--json", "gossip", "get", "kv", "a")
    assert gone.status == 1 and gone.problem["code"] == "not_found"
    assert run("--json", "gossip", "del", "kv", "a").problem["code"] == "not_found"
    file = tmp_path / "dump.json"
    file.write_bytes(dumped.raw)
    assert run("--json", "gossip", "import", "kv", str(file)).data == {"swarm": "kv", "keys": 5}
    file.write_text(json.dumps({"a": {"b": {"x": 2}}}))
    run("--json", "gossip", "import", "kv", str(file))
    assert run("--json", "gossip", "get", "kv", "a/b/x").data["value"] == 2
    assert run("--json", "gossip", "get", "kv").data["value"]["text"] == "{not json"
    swarms = run("--json", "gossip", "swarms").data["swarms"]
    assert [each["swarm"] for each in swarms] == ["kv"]
    assert run("--json", "gossip", "leave", "kv").data == {"swarm": "kv", "left": True}
    assert run("--json", "gossip", "swarms").data == {"swarms": []}


def test_what_people_see(hall: Hall, run: Run) -> None:
    net = hall.net
    other = net.shell(2, swarm="kv")
    assert "in no swarm" in run("gossip", "swarms").out
    assert "joined kv: 1 other member(s)" in run("gossip", "join", "kv").out
    evil = "\x1b]0;owned\x07\u202e"
    net.done(other.kv.set("k", evil))
    net.done(other.kv.set(f"{evil}/x", {"a": 1}))
    net.until(lambda: hall.shell and len(hall.shell.kv.document()) == 2)
    for words in (
        ("swarms",),
        ("members", "kv"),
        ("keys", "kv"),
        ("dump", "kv"),
        ("get", "kv", "k"),
        ("status", "kv"),
        ("sync", "kv", "node-2"),
        ("doctor", "kv"),
        ("push", "kv"),
        ("merge", "kv"),
    ):
        seen = run("gossip", *words)
        assert seen.status == 0, (words, seen)
        assert seen.out.strip() and "\x1b" not in seen.out and "\u202e" not in seen.out, words
    assert run("gossip", "get", "kv", "k").out == "\\x1b]0;owned\\x07\\u202e\n"
    assert "nothing is wrong" in run("gossip", "doctor", "kv").out


def test_sync_and_doctor_tell_by_their_status(hall: Hall, run: Run) -> None:
    net = hall.net
    run("gossip", "join", "kv")
    nobody = run("--json", "gossip", "sync", "kv")
    assert nobody.status == 1 and nobody.problem["code"] == "not_found"
    other = net.shell(2, swarm="kv")
    net.until(lambda: other.kv.stats()["synced"])
    assert run("--json", "gossip", "sync", "kv", "2").data["agreed"] is True
    net.cut.add(frozenset((1, 2)))
    apart = run("--json", "gossip", "sync", "kv", "2")
    assert apart.status == 1
    assert apart.data["agreed"] is False and apart.data["cause"] == "unreachable"
    net.pass_time(20.0)
    report = run("--json", "gossip", "doctor", "kv")
    assert report.status == 1 and not report.data["healthy"]
    (finding, *_) = report.data["findings"]
    assert finding["member"] == "0:0000.0000.0002" and finding["hint"]
    assert run("--json", "gossip", "push", "kv").status == 1


def test_large_documents_come_in_parts(hall: Hall, run: Run, tmp_path: Path) -> None:
    assert hall.shell is not None
    hall.shell.join()
    state = {f"k{number}": {"v": "<" * 9_000, "n": number} for number in range(100)}
    file = tmp_path / "state.json"
    file.write_text(json.dumps(state))
    assert run("--json", "gossip", "import", "kv", str(file)).data["keys"] == 200
    assert hall.shell.call("get")["pages"] > 1
    assert run("--json", "gossip", "dump", "kv").data["state"] == state
    assert len(run("--json", "gossip", "keys", "kv").data["keys"]) == 200


def test_an_import_over_a_limit_says_where_it_stopped(hall: Hall, run: Run, tmp_path: Path) -> None:
    assert hall.shell is not None
    hall.shell.join()
    file = tmp_path / "state.json"
    file.write_text(json.dumps({f"k{number:04d}": number for number in range(1200)}))
    refused = run("--json", "gossip", "import", "kv", str(file))
    assert refused.problem["code"] == "invalid_argument"
    assert "author_keys" in refused.problem["message"]
    assert "k1000" in refused.problem["message"]
    assert len(hall.shell.kv.document()) == 1000
    hall.shell.kill()
    hall.shell.start()
    assert len(hall.shell.kv.document()) == 1000


@pytest.mark.parametrize("content", ["[1]", "{", "", "\x00"])
def test_only_objects_are_imported(hall: Hall, run: Run, tmp_path: Path, content: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)
    assert run("--json", "gossip", "import", "kv", str(file)).problem["code"] == "invalid_argument"
    missing = run("--json", "gossip", "import", "kv", str(tmp_path / "none"))
    assert missing.problem["code"] == "not_found"


@pytest.mark.parametrize(
    "words",
    [
        ("set", "kv", "a//b", "1"),
        ("set", "kv", "a", "1", "--ttl", "0"),
        ("set", "kv", "a", "1", "--ttl", "soon"),
        ("set", "kv", "a", json.dumps("x" * 17_000)),
        ("set", "kv", "@7/a", "1"),
        ("get", "kv", "a//b"),
        ("del", "kv", ""),
        ("join", "Kv"),
        ("join", "kv", "--fanout", "0"),
        ("join", "kv", "--interval", "1ms"),
        ("push", "kv", "--data", "[1]"),
    ],
)
def test_what_cannot_be_meant_is_refused(hall: Hall, run: Run, words: tuple[str, ...]) -> None:
    assert hall.shell is not None
    hall.shell.join()
    refused = run("--json", "gossip", *words)
    assert refused.status == 1
    assert refused.problem["code"] == "invalid_argument"


def test_watch_prints_a_line_a_change(hall: Hall, run: Run) -> None:
    change = {
        "key": "a\x1b",
        "value": {"x": "\u202e"},
        "deleted": False,
        "author": 2,
        "hlc": "0" * 16,
        "local": False,
        "previous": {"value": 1, "deleted": False, "author": 1, "hlc": "0" * 16},
    }
    deleted = {**change, "value": None, "deleted": True, "previous": None}
    hall.events = [{"event": change}, {"dropped": 3}, {"event": deleted}, {"event": change}]
    seen = run("--json", "gossip", "watch", "kv", "--count", "2", "--timeout", "9s")
    assert [json.loads(line) for line in seen.out.splitlines()] == [change, deleted]
    assert (seen.status, hall.feed_deadline) == (0, 9.0)
    seen = run("gossip", "watch", "kv", "--count", "2")
    assert seen.out.splitlines() == [
        'a\\x1b = {"x":"\\u202e"}  by 2  (was 1)',
        "a\\x1b deleted  by 2",
    ]
    assert "missed 3" in seen.err
    short = run("--json", "gossip", "watch", "kv", "--count", "9", "--timeout", "1s")
    assert short.status == 1 and "timeout" in short.err and len(short.out.splitlines()) == 3
    assert run("--json", "gossip", "watch", "kv", "--timeout", "1s").status == 0
    hall.events = [{"event": {"left": True}}]
    assert "not_found" in run("--json", "gossip", "watch", "kv").err


def test_the_feed_passes_what_matches(hall: Hall) -> None:
    assert hall.shell is not None
    hall.shell.join()
    sent: list[Any] = []
    feeds = hall.shell.service.feeds()
    end = feeds["watch"]({"swarm": "kv", "prefix": "a/"}, sent.append)
    for key in ("a/b", "ab", "a"):
        hall.net.done(hall.shell.kv.set(key, 1))
    hall.net.pass_time(0.5)
    assert [event["key"] for event in sent] == ["a/b", "a"]
    end()
    end()
    hall.net.done(hall.shell.kv.set("a", 2))
    hall.net.pass_time(0.5)
    assert len(sent) == 2


def test_merge_reads_the_inbox(hall: Hall, run: Run, tmp_path: Path) -> None:
    assert hall.shell is not None
    hall.shell.join()
    inbox = tmp_path / ".pilot" / "inbox"
    inbox.mkdir(parents=True)
    for number, payload in enumerate(
        (
            {"type": "gossip_push", "version": 1, "state": {"a": 1}, "sender": "2"},
            {"type": "gossip_push", "version": 2, "state": {"a": 2}, "sender": "2"},
            {"type": "something"},
        )
    ):
        message = {
            "type": "TEXT",
            "from": "0:0000.0000.0002",
            "data": json.dumps(payload),
            "received_at": f"2026-11-21T14:00:0{number}Z",
        }
        (inbox / f"TEXT-20261121-14000{number}.000.json").write_text(json.dumps(message))
    merged = run("--json", "gossip", "merge", "kv").data
    assert merged == {"swarm": "kv", "messages": 2, "keys": 2, "refused": 0}
    assert run("--json", "gossip", "get", "kv", "a").data["value"] == 2
    assert run("--json", "gossip", "merge", "kv").data["messages"] == 0
    assert len(list(inbox.iterdir())) == 3


def test_without_the_skill_it_says_how_to_start_it(run: Run) -> None:
    missing = run("--json", "gossip", "swarms")
    assert missing.problem["code"] == "not_running"
    assert "--skill gossip" in missing.problem["hint"]
