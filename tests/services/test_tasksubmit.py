"""Tasks between two nodes: the whole life, deadlines, restarts, money, and bad peers."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from pilot.errors import ConnectionFailed, ConnectionRefused, InvalidArgument, NotFound
from pilot.services import tasksubmit, taskworker
from pilot.tasks.errors import Expired, InvalidState, TaskFileError
from pilot.wire.tasksubmit import Results, StatusUpdate, SubmitRequest, SubmitResponse
from tests.golden import golden
from tests.services.taskworld import Talk, TaskWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TaskWorld]:
    world = TaskWorld(tmp_path)
    yield world
    world.close()


def settle(world: TaskWorld) -> None:
    """Let what is on its way arrive."""
    world.internet.run(3.0)


def answer(talk: Talk) -> SubmitResponse:
    size = int.from_bytes(talk.heard[4:8], "big")
    assert len(talk.heard) == 8 + size
    return SubmitResponse.decode(int.from_bytes(talk.heard[:4], "big"), talk.heard[8:])


def clean(talk: Talk) -> bool:
    assert talk.ended is not None
    return talk.ended.check(ConnectionDone) is not None


# -- the life of a task ------------------------------------------------------------------------


def test_a_task_is_done_and_paid(world: TaskWorld) -> None:
    """Submit, accept, execute, results: both files, the result, and the scores."""
    world.pair()
    task_id = world.submit("Analyze <AI> & trends")
    assert (world.received(task_id).status, world.sent(task_id).status) == ("NEW", "NEW")
    assert world.files("alice").submitting.count() == 0
    world.internet.run(30.0)
    taken = world.ask("bob", op="accept", id=task_id)
    assert taken == {"task_id": task_id, "status": "ACCEPTED", "message": "Task accepted"}
    assert world.sent(task_id).status == "ACCEPTED"
    world.internet.run(60.0)
    begun = world.ask("bob", op="execute")
    assert begun == {
        "task_id": task_id,
        "task_description": "Analyze <AI> & trends",
        "status": "EXECUTING",
        "from": "0:0000.0000.0001",
    }
    assert world.sent(task_id).status == "EXECUTING"
    world.internet.run(600.0)
    done = world.ask("bob", op="results", id=task_id, text="All done: 42")
    assert done == {
        "task_id": task_id,
        "status": "SUCCEEDED",
        "sent_to": "0:0000.0000.0001",
        "sent_type": "text",
    }
    settle(world)
    mine, theirs = world.received(task_id), world.sent(task_id)
    assert (mine.status, theirs.status) == ("SUCCEEDED", "SUCCEEDED")
    assert mine.status_justification == "Results sent successfully"
    assert not mine.untold and not theirs.owed
    assert 30_000 <= mine.time_idle_ms < 32_000
    assert 60_000 <= mine.time_staged_ms < 62_000
    assert 600_000 <= mine.time_cpu_ms < 602_000
    result = world.path("alice") / "results" / f"{task_id}_result.txt"
    assert result.read_text() == "All done: 42"
    # (1 + log2(11)) * (1 - 0.15 - 0.03) rounded
    assert world.scores() == (-1, 4)


def test_a_file_comes_back(world: TaskWorld, tmp_path: Path) -> None:
    world.pair()
    task_id = world.submit()
    world.ask("bob", op="accept", id=task_id)
    report = tmp_path / "report.md"
    report.write_bytes(b"# report\n")
    done = world.ask("bob", op="results", id=task_id, file=str(report))
    assert (done["sent_type"], done["filename"], done["file_size"]) == ("file", "report.md", 9)
    kept = world.path("alice") / "results" / f"{task_id}_report.md"
    assert kept.read_bytes() == b"# report\n"
    settle(world)
    assert world.sent(task_id).status == "SUCCEEDED"


def test_a_large_file_comes_back(world: TaskWorld, tmp_path: Path) -> None:
    """More than one segment, one window, and one message of the control socket."""
    world.pair()
    task_id = world.submit()
    world.ask("bob", op="accept", id=task_id)
    big = tmp_path / "model.bin"
    big.write_bytes(os.urandom(1 << 20))
    world.ask("bob", op="results", id=task_id, file=str(big))
    kept = world.path("alice") / "results" / f"{task_id}_model.bin"
    assert kept.read_bytes() == big.read_bytes()


def test_an_empty_file_keeps_its_name(world: TaskWorld, tmp_path: Path) -> None:
    world.pair()
    task_id = world.submit()
    world.ask("bob", op="accept", id=task_id)
    (tmp_path / "empty.txt").touch()
    world.ask("bob", op="results", id=task_id, file=str(tmp_path / "empty.txt"))
    assert (world.path("alice") / "results" / f"{task_id}_empty.txt").read_bytes() == b""


def test_a_task_is_declined(world: TaskWorld) -> None:
    world.pair()
    task_id = world.submit()
    declined = world.ask("bob", op="decline", id=task_id, justification="Outside my expertise")
    assert declined["justification"] == "Outside my expertise"
    assert declined["message"] == "Task declined"
    theirs = world.sent(task_id)
    assert (theirs.status, theirs.status_justification) == ("DECLINED", "Outside my expertise")
    with pytest.raises(InvalidState, match="is already DECLINED"):
        world.ask("bob", op="accept", id=task_id)
    assert world.scores() == (0, 0)


def test_what_cannot_be_asked_for(world: TaskWorld, tmp_path: Path) -> None:
    world.pair()
    task_id = world.submit()
    for request in ({"op": "dance"}, {"op": "accept"}, {"op": "accept", "id": 7}, {}):
        with pytest.raises((InvalidArgument, NotFound)):
            world.ask("bob", **request)
    for missing in ("nope", "../../x", ""):
        with pytest.raises(NotFound, match="task not found"):
            world.ask("bob", op="accept", id=missing)
    with pytest.raises(NotFound, match="no accepted tasks"):
        world.ask("bob", op="execute")
    with pytest.raises(InvalidState, match=r"cannot receive results \(status: NEW\)"):
        world.ask("bob", op="results", id=task_id, text="x")
    (tmp_path / "x.py").touch()
    with pytest.raises(InvalidArgument, match="not allowed for results"):
        world.ask("bob", op="results", id=task_id, file=str(tmp_path / "x.py"))
    with pytest.raises(TaskFileError, match="no such file"):
        world.ask("bob", op="results", id=task_id, file=str(tmp_path / "x.md"))
    with pytest.raises(ConnectionFailed):
        world.ask("alice", op="submit", target="99", task="x")
    assert world.files("alice").submitting.count() == 0
    with pytest.raises(InvalidArgument, match="too long"):
        world.ask("alice", op="submit", target="2", task="x" * (taskworker.MAX_DESCRIPTION + 1))


# -- deadlines and the queue -------------------------------------------------------------------


def test_a_task_nobody_answers_is_cancelled_and_the_submitter_hears_of_it(
    world: TaskWorld,
) -> None:
    world.pair()
    task_id = world.submit()
    world.internet.run(75.0, 0.1)
    assert world.received(task_id).status == "CANCELLED"
    theirs = world.sent(task_id)
    assert theirs.status == "CANCELLED"
    assert theirs.status_justification == "Task cancelled: no response within 1 minute"


def test_accepting_a_moment_too_late(world: TaskWorld) -> None:
    """The sweep comes every ten seconds; the deadline does not wait for it."""
    world.pair()
    task_id = world.submit()
    created = world.received(task_id).accept_deadline
    assert created is not None
    world.internet.until(lambda: world.wall() > created, 70.0)
    with pytest.raises(Expired, match="has expired"):
        world.ask("bob", op="accept", id=task_id)
    settle(world)
    assert world.received(task_id).status == world.sent(task_id).status == "CANCELLED"


def test_first_accepted_first_executed(world: TaskWorld) -> None:
    """Whatever the ids are; and two executes at once take two tasks."""
    world.pair()
    ids = [world.submit(str(n)) for n in range(3)]
    order = sorted(ids, reverse=True)
    for task_id in order:
        world.ask("bob", op="accept", id=task_id)
    both = [Deferred.fromCoroutine(world.tasks["bob"].control({"op": "execute"})) for _ in "ab"]
    assert [world.wait(each)["task_id"] for each in both] == order[:2]
    assert world.ask("bob", op="execute")["task_id"] == order[2]
    with pytest.raises(NotFound):
        world.ask("bob", op="execute")


def test_an_hour_at_the_head_costs_the_task_and_a_point(world: TaskWorld) -> None:
    """Then the next one has its own hour; finished and declined tasks are left alone."""
    world.pair()
    first, second, third = (world.submit(str(n)) for n in range(3))
    world.ask("bob", op="decline", id=third, justification="no")
    world.ask("bob", op="accept", id=first)
    world.ask("bob", op="accept", id=second)
    world.internet.run(3630.0, 1.0)
    expired = world.received(first)
    assert expired.status == "EXPIRED"
    assert 3_600_000 < expired.time_staged_ms < 3_630_000
    assert expired.status_justification == "Task expired: at head of queue for over 1 hour"
    assert world.sent(first).status == "EXPIRED"
    assert world.received(second).status == "ACCEPTED"
    assert world.scores() == (0, -1)
    assert not world.received(first).owed
    world.internet.run(3630.0, 1.0)
    assert world.received(second).status == "EXPIRED"
    assert world.received(third).status == "DECLINED"
    assert world.scores() == (0, -2)


def test_deadlines_and_order_survive_a_restart(world: TaskWorld) -> None:
    """A daemon killed at any time finds queue, head and deadlines in the files."""
    world.pair()
    ids = sorted((world.submit(str(n)) for n in range(3)), reverse=True)
    world.ask("bob", op="accept", id=ids[0])
    world.ask("bob", op="accept", id=ids[1])
    staged = world.received(ids[0]).staged_at
    assert staged
    world.leave("bob")
    world.internet.run(120.0, 0.5)
    bob = world.services["bob"].node
    world.serve("bob", bob)
    settle(world)
    assert world.received(ids[2]).status == world.sent(ids[2]).status == "CANCELLED"
    assert world.received(ids[0]).staged_at == staged
    world.leave("bob")
    world.internet.run(3500.0, 1.0)
    world.serve("bob", bob)
    settle(world)
    assert world.received(ids[0]).status == "EXPIRED"
    assert world.ask("bob", op="execute")["task_id"] == ids[1]


def test_what_another_program_does_to_the_files_is_noticed(world: TaskWorld) -> None:
    """The reference's command line changes the files of a running daemon by itself."""
    world.pair()
    one, other = world.submit("1"), world.submit("2")
    world.files("bob").received.save(
        world.received(one)._replace(status="ACCEPTED", accepted_at="2026-11-20T10:35:22Z")
    )
    (world.path("bob") / "received" / f"{other}.json").unlink()
    world.internet.run(11.0, 0.1)
    assert world.received(one).staged_at
    world.internet.run(60.0, 0.1)
    assert world.ask("bob", op="execute")["task_id"] == one
    assert world.files("bob").received.load(other) is None


# -- when the other side is away ---------------------------------------------------------------


def test_a_submitter_that_is_away_hears_of_it_later(world: TaskWorld) -> None:
    """Accepting works; what could not be told is told when the submitter is back."""
    world.pair()
    alice = world.services["alice"].node
    task_id = world.submit()
    world.leave("alice")
    taken = world.ask("bob", op="accept", id=task_id)
    assert taken["message"] == "Task accepted (submitter notification failed)"
    assert world.received(task_id).untold
    world.ask("bob", op="execute")
    with pytest.raises(ConnectionFailed):
        world.ask("bob", op="results", id=task_id, text="not lost")
    assert world.received(task_id).status == "EXECUTING"
    world.serve("alice", alice)
    world.internet.run(60.0, 0.1)
    assert world.sent(task_id).status == "EXECUTING"
    world.ask("bob", op="results", id=task_id, text="not lost")
    settle(world)
    assert world.sent(task_id).status == "SUCCEEDED"
    assert (world.path("alice") / "results" / f"{task_id}_result.txt").read_text() == "not lost"


def test_debts_are_told_and_paid_after_a_restart(world: TaskWorld) -> None:
    world.pair()
    alice, bob = world.services["alice"].node, world.services["bob"].node
    told, paid = world.submit("1"), world.submit("2")
    world.ask("bob", op="accept", id=told)
    for name in ("alice", "bob"):
        world.leave(name)
    world.files("bob").received.save(world.received(told)._replace(untold=True))
    world.files("alice").submitted.save(
        world.sent(paid)._replace(status="COMPLETED", owed=((1, -1), (2, 5)))  # type: ignore[arg-type]
    )
    world.files("alice").submitted.save(world.sent(told)._replace(status="NEW"))
    world.serve("alice", alice)
    world.serve("bob", bob)
    settle(world)
    assert world.sent(told).status == "ACCEPTED"
    assert not world.received(told).untold
    assert world.scores() == (-1, 5)
    assert not world.sent(paid).owed


def test_an_answer_that_was_lost_is_made_up_for_by_the_worker(world: TaskWorld) -> None:
    """Killed between sending and the answer: the worker's word brings the task back."""
    world.pair()
    task_id = world.submit()
    store = world.files("alice")
    store.submitting.save(world.sent(task_id))
    store.submitted.remove(task_id)
    world.ask("bob", op="accept", id=task_id)
    settle(world)
    assert world.sent(task_id).status == "ACCEPTED"
    assert store.submitting.count() == 0


def test_submissions_nobody_ever_spoke_of_are_forgotten(world: TaskWorld) -> None:
    world.pair()
    task_id = world.submit()
    store = world.files("alice")
    store.submitting.save(world.sent(task_id)._replace(created_at="2026-11-01T00:00:00Z"))
    alice = world.services["alice"].node
    world.leave("alice")
    world.serve("alice", alice)
    assert store.submitting.count() == 0


def test_a_registry_that_is_away_is_paid_later(world: TaskWorld) -> None:
    world.pair()
    task_id = world.submit()
    world.ask("bob", op="accept", id=task_id)
    world.registry_dies(forgets=False)
    world.ask("bob", op="results", id=task_id, text="done")
    settle(world)
    assert world.sent(task_id).owed
    world.registry_returns()
    world.internet.run(400.0, 0.2)
    assert not world.sent(task_id).owed
    assert world.scores()[0] == -1


# -- the gate ----------------------------------------------------------------------------------


def test_the_gate(world: TaskWorld) -> None:
    """Who has less than the worker may not submit; nothing is kept on either side."""
    world.pair()
    task_id = world.submit()
    world.ask("bob", op="accept", id=task_id)
    world.ask("bob", op="results", id=task_id, text="done")
    settle(world)
    refused = world.ask("alice", op="submit", target="bob", task="second")
    assert refused == {
        "target": "0:0000.0000.0002",
        "task_id": refused["task_id"],
        "task": "second",
        "status": 400,
        "message": "Polo score too low: submitter=-1, receiver=1",
        "accepted": False,
    }
    assert world.files("alice").submitted.count() == world.files("bob").received.count() == 1
    assert world.files("alice").submitting.count() == 0


def test_no_registry_no_task(world: TaskWorld) -> None:
    world.pair()
    world.registry_dies(forgets=False)
    talk = world.raw("alice", 2, SubmitRequest("t", "x", "", "").encode())
    assert answer(talk) == SubmitResponse("t", 400, "Failed to verify polo score")
    world.registry_returns()


# -- bad peers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["R4 submit not JSON", "R5 submit wrong field type", "R6 type 2", "R7 type 9",
             "R8 oversize header"]
)  # fmt: skip
def test_what_makes_no_sense_ends_its_connection(world: TaskWorld, name: str) -> None:
    """As the reference does: no answer, a clean end, and nothing kept."""
    (step,) = (s for s in golden("task_lifecycle")["steps"] if s["step"] == name)
    _, bob = world.pair()
    talk = world.raw("alice", 2, bytes.fromhex(step["raw"]["sent_hex"]))
    assert talk.heard == b"" and clean(talk)
    assert bob.factory.counters["malformed"] == 1
    assert world.files("bob").received.count() == 0


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("O1 raw submit id zzz-first", 200),
        ("R9 two submits on one connection", 200),
        ("R10 unknown extra fields, keys in other case", 200),
        ("R3 submit empty object", 400),
        ("R14 path climbing in task_id", 400),
    ],
)
def test_raw_submissions(world: TaskWorld, name: str, status: int) -> None:
    (step,) = (s for s in golden("task_lifecycle")["steps"] if s["step"] == name)
    world.pair()
    talk = world.raw("alice", 2, bytes.fromhex(step["raw"]["sent_hex"]))
    got = answer(talk)
    assert got.status == status
    if status == 200:
        assert talk.heard.hex() == step["raw"]["reply_hex"]
        assert world.files("bob").received.count() == 1
    else:
        assert got.message == "Invalid task ID"
        assert world.files("bob").received.count() == 0
    assert {each.name for each in world.path("bob").rglob("*.json")} <= {
        f"{got.task_id}.json",
    }


def test_a_task_comes_from_who_sends_it(world: TaskWorld) -> None:
    world.pair()
    frame = SubmitRequest("spoof", "s", "0:0000.0000.0009", "0:0000.0000.0007").encode()
    assert answer(world.raw("alice", 2, frame)).status == 200
    assert world.received("spoof").sender == "0:0000.0000.0001"
    assert world.received("spoof").recipient == "0:0000.0000.0002"


def test_an_id_is_used_once(world: TaskWorld) -> None:
    """The same submission again is the same task; anything else under its id is refused."""
    world.pair()
    frame = SubmitRequest("one", "first", "", "").encode()
    other = SubmitRequest("one", "second", "", "").encode()
    assert answer(world.raw("alice", 2, frame)).status == 200
    assert answer(world.raw("alice", 2, frame)).status == 200
    assert answer(world.raw("alice", 2, other)).message == "Task ID is already in use"
    world.ask("bob", op="accept", id="one")
    assert answer(world.raw("alice", 2, frame)).status == 400
    assert world.received("one").task_description == "first"


def test_too_much_of_everything(world: TaskWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.pair()
    monkeypatch.setattr(taskworker, "MAX_DESCRIPTION", 10)
    long = SubmitRequest("one", "x" * 11, "", "").encode()
    assert answer(world.raw("alice", 2, long)).message == "Task description too long"
    monkeypatch.setattr(taskworker, "MAX_OPEN_PER_PEER", 1)
    assert answer(world.raw("alice", 2, SubmitRequest("a", "", "", "").encode())).status == 200
    full = answer(world.raw("alice", 2, SubmitRequest("b", "", "", "").encode()))
    assert full == SubmitResponse("b", 400, "Too many tasks")


def test_a_full_disk_is_said(world: TaskWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.pair()

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("pilot.tasks.store.write_atomically", full)
        talk = world.raw("alice", 2, SubmitRequest("t", "x", "", "").encode())
    assert answer(talk).message == "Task could not be stored"


def test_results_that_cannot_be_stored_are_not_acknowledged(world: TaskWorld) -> None:
    """The stream is reset; the worker knows, the task is as it was, nobody pays."""
    world.pair()
    task_id = world.submit()
    world.ask("bob", op="accept", id=task_id)

    def full(*arguments: Any) -> None:
        raise TaskFileError("cannot write the results: no space left on device")

    world.failing = full
    with pytest.raises(ConnectionFailed, match="did not take it"):
        world.ask("bob", op="results", id=task_id, text="precious")
    world.failing = None
    assert world.received(task_id).status == world.sent(task_id).status == "ACCEPTED"
    world.ask("bob", op="results", id=task_id, text="precious")
    settle(world)
    assert world.sent(task_id).status == "SUCCEEDED"
    assert world.scores()[0] == -1


def third_node(world: TaskWorld) -> None:
    world.introduce(world.start("carol"), world.services["alice"].node)


def test_only_the_worker_s_word_counts(world: TaskWorld) -> None:
    """Another node's statuses and results change nothing and cost nothing."""
    alice, _ = world.pair()
    third_node(world)
    task_id = world.submit()
    update = StatusUpdate(task_id, "ACCEPTED", "by c").encode()
    assert clean(world.raw("carol", 1, update))
    results = Results(task_id, result_text="by c", time_cpu_ms=61_380_000).encode()
    assert not clean(world.raw("carol", 1, results))
    assert world.sent(task_id).status == "NEW"
    assert alice.factory.counters["not_a_party"] == 2
    assert world.scores() == (0, 0)
    assert not (world.path("alice") / "results").exists()


@pytest.mark.parametrize("status", ["BANANA", "COMPLETED", "NEW", "", "SUCCEEDED"])
def test_statuses_that_cannot_be(world: TaskWorld, status: str) -> None:
    alice, _ = world.pair()
    task_id = world.submit()
    assert clean(world.raw("bob", 1, StatusUpdate(task_id, status, "x").encode()))
    assert world.sent(task_id).status == "NEW"
    assert alice.factory.counters["status"] == 1


def test_news_of_tasks_that_are_not(world: TaskWorld) -> None:
    alice, _ = world.pair()
    for task_id in ("ghost", "../climbed"):
        assert clean(world.raw("bob", 1, StatusUpdate(task_id, "ACCEPTED", "x").encode()))
        results = Results(task_id, "file", filename="x/../../climbed.txt", file_data=b"ABC")
        assert not clean(world.raw("bob", 1, results.encode()))
    assert alice.factory.counters == {"unknown": 2, "task_id": 2}
    assert not list(world.path("alice").rglob("*climbed*"))


def test_results_of_a_forbidden_type(world: TaskWorld) -> None:
    world.pair()
    task_id = world.submit()
    frame = Results(task_id, "file", filename="w.py", file_data=b"print(1)").encode()
    assert not clean(world.raw("bob", 1, frame))
    assert world.sent(task_id).status == "NEW"
    climbing = Results(task_id, "file", filename="x/../../climbed.txt", file_data=b"ABC").encode()
    assert clean(world.raw("bob", 1, climbing))
    assert os.listdir(world.path("alice") / "results") == [f"{task_id}_climbed.txt"]


def test_results_count_once(world: TaskWorld) -> None:
    """A repetition is taken for what it is; the first results stay, and nobody pays twice."""
    world.pair()
    task_id = world.submit()
    for text in ("first", "again"):
        assert clean(world.raw("bob", 1, Results(task_id, result_text=text).encode()))
        settle(world)
    assert (world.path("alice") / "results" / f"{task_id}_result.txt").read_text() == "first"
    assert world.scores() == (-1, 1)


def test_nobody_has_worked_for_longer_than_the_task_is_old(world: TaskWorld) -> None:
    world.pair()
    task_id = world.submit()
    world.internet.run(60.0, 0.1)
    frame = Results(task_id, result_text="x", time_cpu_ms=1 << 62).encode()
    assert clean(world.raw("bob", 1, frame))
    settle(world)
    assert world.scores() == (-1, 2)


def test_results_and_status_on_one_connection(world: TaskWorld) -> None:
    """What the reference's worker sends: the second frame is not read."""
    world.pair()
    task_id = world.submit()
    frames = Results(task_id, result_text="A").encode()
    frames += StatusUpdate(task_id, "SUCCEEDED", "Task completed successfully").encode()
    assert clean(world.raw("bob", 1, frames))
    assert world.sent(task_id).status == "COMPLETED"
    settle(world)


def test_half_a_message_is_not_waited_for(world: TaskWorld) -> None:
    _, bob = world.pair()
    talk = world.raw("alice", 2, SubmitRequest("t", "x", "", "").encode()[:-1])
    assert not clean(talk) and talk.heard == b""
    assert bob.factory.counters["silent"] == 1


def test_streams_and_memory_are_bounded(world: TaskWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    _, bob = world.pair()
    monkeypatch.setattr(tasksubmit, "MAX_STREAMS_PER_PEER", 0)
    with pytest.raises(ConnectionRefused):
        world.raw("alice", 2, b"\0")
    monkeypatch.setattr(tasksubmit, "MAX_STREAMS_PER_PEER", 2)
    monkeypatch.setattr(tasksubmit, "MAX_BUFFERED", 1000)
    assert not clean(world.raw("alice", 2, b"\0\0\0\4\0\1\0\0" + bytes(2000)))
    assert bob.factory.counters == {"streams": 1, "buffered": 1}


def test_files_stay_as_the_reference_writes_them(world: TaskWorld) -> None:
    """Once nothing is owed, only members that the reference knows are there, but for the order."""
    world.pair()
    task_id = world.submit()
    world.ask("bob", op="accept", id=task_id)
    world.ask("bob", op="execute")
    world.ask("bob", op="results", id=task_id, text="x")
    settle(world)
    content = json.loads((world.path("bob") / "received" / f"{task_id}.json").read_text())
    assert "untold" not in content and "owed" not in content
    theirs = (world.path("alice") / "submitted" / f"{task_id}.json").read_text()
    assert list(json.loads(theirs)) == [
        "task_id", "task_description", "created_at", "status", "status_justification", "from", "to",
    ]  # fmt: skip
