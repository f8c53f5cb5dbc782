"""Tasks from the command line: the recorded session between two nodes, and what goes wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pilot.ctl.console import MAX_ROWS
from pilot.daemon.ipc_requests import REQUESTS, error_text
from pilot.errors import PilotError
from pilot.services import tasksubmitter
from pilot.tasks.document import ACCEPTED, EXECUTING, NEW
from pilot.tasks.store import TaskFolder
from pilot.wire.ipc_extensions import Extension, HelloOk
from tests.ctl.conftest import Outcome, Run
from tests.ctl.fakedaemon import FakeDaemon, Frame, error
from tests.ctl.test_startup import HEAVY, imported
from tests.ctl.test_transcripts import check_text
from tests.ctl.transcripts import ENTRIES, Entry, differences, uses_json
from tests.services.taskworld import TaskWorld
from tests.tasks.test_lifecycle import FRESH

NAMES = {"A": "node-a", "B": "node-b"}

IDS = {f"<TASK_ID_{n}>": f"{9 - n}0000000-0000-0000-0000-000000000000" for n in range(1, 6)}
"""In the record the later task has the smaller id."""


class Town:
    """Two nodes with task services, and a control socket each; time passes while one is asked."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
        self.world = TaskWorld(directory)
        self._patch = monkeypatch
        self._run = run
        self._directory = directory
        self._daemons: dict[str, FakeDaemon] = {}
        monkeypatch.setattr("time.time", self.world.wall)
        ids = iter(IDS.values())
        monkeypatch.setattr(tasksubmitter, "new_task_id", lambda: next(ids))
        one, other = (self.world.start(name, public=True) for name in NAMES.values())
        self.world.introduce(one, other)
        for name in NAMES.values():
            self.open(name)

    def open(self, name: str) -> None:
        """Serve tasks at a node, and open its control socket."""
        node = self.world.services[name].node
        service = self.world.serve(name, node)
        server: Any = SimpleNamespace(node=node, tasks=service.control)

        def answer(command: int, payload: bytes) -> list[Frame]:
            if command == Extension.HELLO:
                return [(Extension.HELLO_OK, HelloOk(1, 0, node.own_address()).encode())]
            try:
                reply = self.world.wait(REQUESTS[command](server, payload), 300.0)
            except PilotError as refusal:
                return [error(error_text(refusal))]
            return [(command + 1, reply)]

        self._daemons[name] = FakeDaemon(answer)
        self._daemons[name].__enter__()

    def __call__(self, who: str, *words: str) -> Outcome:
        """Run C{pilotctl} as one of the two."""
        name = NAMES[who]
        self._patch.setenv("PILOT_SOCKET", self._daemons[name].path)
        self._patch.setenv("PILOT_HOME", str(self._directory / name))
        return self._run(*words)

    def close(self) -> None:
        """Close the sockets, and stop the nodes."""
        for daemon in self._daemons.values():
            daemon.__exit__()
        self.world.close()


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Iterator[Town]:
    town = Town(tmp_path, monkeypatch, run)
    yield town
    town.close()


def entry(number: int) -> Entry:
    (found,) = (each for each in ENTRIES if each["id"] == f"tasks-{number:03}")
    return found


def filled(text: str, directory: Path) -> str:
    for placeholder, task_id in IDS.items():
        text = text.replace(placeholder, task_id)
    return text.replace("<DIR>", str(directory))


def check(recorded: Entry, got: Outcome, directory: Path) -> None:
    assert got.status == recorded["exit_code"], (recorded["id"], got)
    wanted_out, wanted_err = (
        filled(recorded[stream], directory) for stream in ("stdout", "stderr")
    )
    if not uses_json(recorded):
        check_text(wanted_out, got.out)
        check_text(wanted_err, got.err)
    elif wanted_out:
        assert not differences(json.loads(wanted_out), json.loads(got.out)), recorded["id"]
    else:
        wanted, actual = json.loads(wanted_err), got.problem
        assert actual["code"] == wanted["code"], recorded["id"]
        assert actual["message"] == wanted["message"], recorded["id"]
        assert ("hint" in actual) == ("hint" in wanted)


def test_the_recorded_session(town: Town, tmp_path: Path) -> None:
    """Submit, decline, accept, execute, results, the gate, and every refusal in between."""
    (tmp_path / "x.py").touch()
    (tmp_path / "r.zip").touch()
    (tmp_path / "report.md").write_bytes(b"# done\n")
    for number in range(1, 35):
        recorded = entry(number)
        if recorded["args"][1:2] == ["lookup"]:  # asks the registry itself
            continue
        if number == 29:  # our worker tells that it has succeeded on a connection of its own
            recorded = {**recorded, "stdout": recorded["stdout"].replace("COMPLETED", "SUCCEEDED")}
        words = [filled(word, tmp_path) for word in recorded["args"]]
        check(recorded, town(recorded["as"], *words), tmp_path)
    assert town.world.scores() == (-1, 1)


def test_the_submitter_is_gone(town: Town, tmp_path: Path) -> None:
    """Accepting works and says so; results do not, and nothing is lost or changed by trying."""
    for name in ("first", "second"):
        town("A", "--json", "task", "submit", "node-b", "--task", name)
    first, second = list(IDS.values())[:2]
    assert town("B", "--json", "task", "accept", "--id", first).status == 0
    town.world.leave("node-a")
    accepted = town("B", "task", "accept", "--id", second)
    assert "(submitter notification failed)" in accepted.out
    assert accepted.err == "the submitter cannot be reached now; it will be told later\n"
    refused = town("B", "--json", "task", "send-results", "--id", first, "--results", "x")
    assert refused.problem["code"] == "connection_failed"
    assert refused.problem["message"].startswith("cannot connect to submitter 0:0000.0000.0001")
    assert refused.problem["hint"] == "check that 0:0000.0000.0001 is reachable"
    listed = town("B", "--json", "task", "list").data["tasks"]
    assert {each["status"] for each in listed} == {"ACCEPTED"}


def test_the_queue_is_in_the_order_of_acceptance(town: Town) -> None:
    for name in ("t1", "t2"):
        town("A", "task", "submit", "node-b", "--task", name)
    for task_id in list(IDS.values())[:2]:
        town("B", "task", "accept", "--id", task_id)
    queue = town("B", "--json", "task", "queue").data
    assert [each["description"] for each in queue["queue"]] == ["t1", "t2"]
    assert queue["count"] == 2
    assert town("B", "--json", "task", "execute").data["task_description"] == "t1"


def test_too_late(town: Town) -> None:
    """As recorded (C{tasks-039}); the daemon has cancelled it soon after."""
    town("A", "task", "submit", "node-b", "--task", "x")
    task_id = IDS["<TASK_ID_1>"]
    folder = TaskFolder(town.world.path("node-b") / "received")
    found = folder.load(task_id)
    assert found is not None
    deadline = found.accept_deadline
    assert deadline is not None
    town.world.internet.until(lambda: town.world.wall() > deadline, 90.0)
    late = town("B", "--json", "task", "accept", "--id", task_id)
    if folder.load(task_id) == found:
        assert late.problem["code"] == "expired"
    town.world.internet.run(12.0, 0.1)
    late = town("B", "--json", "task", "accept", "--id", task_id)
    assert late.problem["message"] == f"task {task_id} is already CANCELLED"


def test_unreachable_nodes(town: Town) -> None:
    """A switched-off service, and nobody (C{reach-045}, C{trust-private-025})."""
    town.world.leave("node-b")
    for target in ("node-b", "77"):
        failed = town("A", "--json", "task", "submit", target, "--task", "x")
        assert failed.status == 1
        assert failed.problem["code"] == "connection_failed"
        assert "(task submit port 1003)" in failed.problem["message"]
        assert failed.problem["hint"].startswith("check that ")
    assert not town("A", "--json", "task", "list").data["tasks"]


def test_ids_that_try_to_be_paths(run: Run, tmp_path: Path) -> None:
    folder = TaskFolder(tmp_path / ".pilot" / "tasks" / "received")
    folder.save(FRESH)
    (tmp_path / ".pilot" / "x.json").write_bytes(FRESH.encode())
    for task_id in ("../../x", str(tmp_path / ".pilot" / "x"), "."):
        assert run("--json", "task", "accept", "--id", task_id).problem["code"] == "not_found"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Tasks, and no daemon."""
    path = tmp_path / ".pilot" / "tasks" / "received"
    folder = TaskFolder(path)
    folder.save(FRESH._replace(task_id="new", created_at="2999-01-01T00:00:00Z"))
    folder.save(FRESH._replace(task_id="old", status=NEW))
    folder.save(FRESH._replace(task_id="taken", status=ACCEPTED))
    folder.save(FRESH._replace(task_id="running", status=EXECUTING))
    (path / "notes.txt").write_text("no task")
    (path / "spoilt.json").write_text("{")
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["accept", "--id", "new"],
        ["decline", "--id", "new", "--justification", "no"],
        ["execute"],
        ["send-results", "--id", "running", "--results", "x"],
    ],
)
def test_without_a_daemon_nothing_changes(run: Run, files: Path, words: list[str]) -> None:
    """The reference changes the file first and then fails (C{tasks-050})."""
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    assert run("--json", "task", *words).problem["code"] == "not_running"
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_what_can_be_refused_without_a_daemon(run: Run, files: Path) -> None:
    for words, code in (
        (["accept", "--id", "old"], "expired"),
        (["accept", "--id", "taken"], "invalid_state"),
        (["accept", "--id", "spoilt"], "not_found"),
        (["send-results", "--id", "new", "--results", "x"], "invalid_state"),
        (["send-results", "--id", "running", "--file", "x.py"], "invalid_argument"),
        (["send-results", "--id", "running", "--file", "x.md"], "internal_error"),
        (["send-results", "--id", "running", "--file", str(files) + ".md"], "internal_error"),
    ):
        assert run("--json", "task", *words).problem["code"] == code, words


def test_a_daemon_that_knows_nothing_of_tasks(
    run: Run, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another implementation's, ours without the service, and one that talks nonsense."""
    hello = (Extension.HELLO_OK, bytes((1, 0)) + bytes(6))
    refusal = b'{"status":"error","code":"internal","message":"this daemon takes no tasks"}'
    for answer, code in (
        (lambda command, payload: [error("unknown command")], "unavailable"),
        (
            lambda command, payload: [
                hello if command == Extension.HELLO else (Extension.TASK_OK, refusal)
            ],
            "internal",
        ),
        (
            lambda command, payload: [hello if command == Extension.HELLO else error("no")],
            "connection_failed",
        ),
    ):
        with FakeDaemon(answer) as daemon:
            monkeypatch.setenv("PILOT_SOCKET", daemon.path)
            assert run("--json", "task", "accept", "--id", "new").problem["code"] == code


def test_long_lists_and_strange_texts(run: Run, tmp_path: Path) -> None:
    """People see the first tasks, without what would move their cursor; programs see all."""
    folder = TaskFolder(tmp_path / ".pilot" / "tasks" / "submitted")
    for number in range(MAX_ROWS + 1):
        folder.save(FRESH._replace(task_id=f"t{number:03}", task_description="a\x1b[2Jb"))
    shown = run("task", "list", "--type", "submitted").out
    assert "\x1b" not in shown
    assert shown.endswith("... and 1 more (--json shows all)\n")
    listed = run("--json", "task", "list").data["tasks"]
    assert len(listed) == MAX_ROWS + 1
    assert listed[0]["description"] == "a\x1b[2Jb"
    received = TaskFolder(tmp_path / ".pilot" / "tasks" / "received")
    for number in range(MAX_ROWS + 1):
        received.save(FRESH._replace(task_id=f"t{number:03}", status=ACCEPTED))
    assert run("task", "queue").out.endswith("... and 1 more (--json shows all)\n")


def test_an_unreadable_directory_is_an_empty_one(run: Run, tmp_path: Path) -> None:
    os.makedirs(tmp_path / ".pilot" / "tasks")
    (tmp_path / ".pilot" / "tasks" / "received").write_text("no directory")
    assert run("task", "list").out == "No tasks found\n"


def test_a_daemon_with_the_service_switched_off() -> None:
    """It says so, in a reply of the same shape."""
    server: Any = SimpleNamespace(tasks=None)
    for payload, code in (
        (b"{}", "internal"),
        (b"[]", "invalid_argument"),
        (b"", "invalid_argument"),
    ):
        replies: list[Any] = []
        Deferred.fromCoroutine(REQUESTS[Extension.TASK](server, payload)).addCallback(
            replies.append
        )
        assert json.loads(replies[0])["code"] == code


@pytest.mark.parametrize("words", [["list"], ["queue"], ["execute"], ["accept", "--id", "x"]])
def test_tasks_import_nothing_heavy(words: list[str]) -> None:
    assert not imported("task", *words) & HEAVY
