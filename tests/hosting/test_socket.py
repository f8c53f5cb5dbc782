"""A skill's own socket: calls, feeds, slow readers, and rubbish."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from pilot.client.places import skill_socket
from pilot.client.skillcalls import SkillClient, SkillError
from pilot.daemon.skillsocket import socket_opener
from pilot.errors import AlreadyExists, ConnectionFailed, NotFound, NotRunning, TimedOut
from pilot.hosting import socket as socket_module
from pilot.hosting.hosted import HostedSkill
from pilot.hosting.socket import MAX_WAITING, SkillConnection, SkillSocket
from tests.hosting.fakes import FakeNode, FakeSkill, Stage

reactor: Any = _reactor


class Transport(StringTransport):
    """Tells the producer to pause when the test says so."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class Client:
    """One connection to a stage's socket, without a reactor."""

    def __init__(self, stage: Stage) -> None:
        self.transport = Transport()
        self.protocol: SkillConnection = stage.open_sockets[0].buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def say(self, message: Any) -> None:
        self.protocol.dataReceived(json.dumps(message).encode() + b"\n")

    def heard(self) -> list[Any]:
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [json.loads(line) for line in lines]

    def ask(self, message: Any) -> Any:
        self.say(message)
        (answer,) = self.heard()
        return answer

    def leave(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionFailed("gone")))


@pytest.fixture
def stage(tmp_path: Path) -> Any:
    stage = Stage(FakeSkill(), tmp_path)
    stage.start()
    yield stage
    stage.end()


def counters(stage: Stage) -> dict[str, int]:
    found: dict[str, int] = stage.hosted.report()["socket"]
    return found


class TestCalls:
    def test_an_answer(self, stage: Stage) -> None:
        answer = Client(stage).ask({"call": "echo", "arguments": {"a": [1, None]}})
        assert answer == {"result": {"a": [1, None]}}
        assert Client(stage).ask({"call": "echo"}) == {"result": {}}

    def test_a_coroutine_and_a_deferred(self, stage: Stage) -> None:
        async def soon(arguments: dict[str, Any]) -> int:
            return 7

        waiting: Deferred[int] = Deferred()
        stage.servant.table = {"soon": soon, "later": lambda arguments: waiting}
        client = Client(stage)
        assert client.ask({"call": "soon"}) == {"result": 7}
        client.say({"call": "later"})
        assert client.heard() == []
        waiting.callback(8)
        assert client.heard() == [{"result": 8}]

    def test_answers_come_in_order(self, stage: Stage) -> None:
        waiting: Deferred[int] = Deferred()
        stage.servant.table["later"] = lambda arguments: waiting
        client = Client(stage)
        client.protocol.dataReceived(b'{"call": "later"}\n{"call": "echo"}\n{"call": "echo"}\n')
        assert client.heard() == []
        assert client.transport.producerState == "paused"
        waiting.callback(1)
        assert client.heard() == [{"result": 1}, {"result": {}}, {"result": {}}]
        assert client.transport.producerState == "producing"

    def test_whoever_reads_no_answers_asks_no_more(self, stage: Stage) -> None:
        asked: list[Any] = []

        def much(arguments: dict[str, Any]) -> str:
            asked.append(arguments)
            producer: Any = client.transport.producer
            producer.pauseProducing()  # as a transport with a full buffer does
            return "x"

        client = Client(stage)
        stage.servant.table["much"] = much
        client.protocol.dataReceived(b'{"call": "much"}\n' * 5)
        assert len(asked) == 1 and client.transport.producerState == "paused"
        for _ in range(4):
            producer: Any = client.transport.producer
            producer.resumeProducing()
        assert len(asked) == 5
        assert client.heard() == [{"result": "x"}] * 5

    def test_a_feed_that_fails_leaves_the_connection_as_it_was(self, stage: Stage) -> None:
        client = Client(stage)
        before = client.transport.producer
        assert client.ask({"feed": "fly"})["error"]["code"] == "not_found"
        stage.servant.table["bad"] = lambda arguments: "x"
        assert client.transport.producer is before
        assert client.ask({"call": "echo"}) == {"result": {}}

    def test_who_only_holds_on_makes_room(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket_module, "MAX_CLIENTS", 3)
        watching, waiting, idle = Client(stage), Client(stage), Client(stage)
        watching.say({"feed": "watch"})
        stage.servant.table["later"] = lambda arguments: Deferred()
        waiting.say({"call": "later"})
        idle.protocol.dataReceived(b'{"call": "ech')  # and never the rest
        refused = Client(stage)
        assert refused.heard()[0]["error"]["message"] == "too many clients"
        refused.leave()
        stage.clock.advance(socket_module.IDLE)
        assert Client(stage).ask({"call": "echo"}) == {"result": {}}
        assert idle.transport.disconnecting
        assert not watching.transport.disconnecting and not waiting.transport.disconnecting
        idle.leave()
        assert counters(stage)["clients"] == 3
        waiting.leave()

    def test_our_errors_go_out_as_they_are(self, stage: Stage) -> None:
        def missing(arguments: dict[str, Any]) -> None:
            raise NotFound("no such swarm", hint="make one")

        stage.servant.table["get"] = missing
        error = {"code": "not_found", "message": "no such swarm", "hint": "make one"}
        assert Client(stage).ask({"call": "get"}) == {"error": error}

    def test_a_call_that_raises_costs_only_that_call(
        self, stage: Stage, nothing_left_behind: list[Failure]
    ) -> None:
        stage.servant.table["bad"] = lambda arguments: 1 / 0
        stage.servant.table["odd"] = lambda arguments: object()
        client = Client(stage)
        error = {"code": "internal", "message": "ZeroDivisionError: division by zero"}
        assert client.ask({"call": "bad"}) == {"error": error}
        assert client.ask({"call": "odd"})["error"]["code"] == "invalid_argument"
        assert client.ask({"call": "echo"}) == {"result": {}}
        assert stage.hosted.state == "running" and stage.hosted.failures == 0
        assert counters(stage)["failed"] == 2
        assert [each.type for each in nothing_left_behind] == [ZeroDivisionError]
        nothing_left_behind.clear()

    def test_a_call_nobody_knows(self, stage: Stage) -> None:
        error = Client(stage).ask({"call": "fly"})["error"]
        assert error["code"] == "not_found" and error["hint"] == "there are: echo"

    def test_an_answer_that_is_too_long(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket_module, "MAX_ANSWER", 100)
        stage.servant.table["all"] = lambda arguments: "x" * 200
        assert "100 are allowed" in Client(stage).ask({"call": "all"})["error"]["message"]

    def test_whoever_leaves_has_his_call_cancelled(self, stage: Stage) -> None:
        cancelled: list[Any] = []
        stage.servant.table["later"] = lambda arguments: Deferred(cancelled.append)
        client = Client(stage)
        client.say({"call": "later"})
        client.leave()
        assert len(cancelled) == 1 and client.heard() == []
        assert counters(stage)["clients"] == 0

    def test_a_skill_that_stops_leaves_nobody_waiting(self, tmp_path: Path) -> None:
        stage = Stage(FakeSkill(), tmp_path)
        stage.start()
        stage.servant.table["later"] = lambda arguments: Deferred()
        client = Client(stage)
        client.say({"call": "later"})
        stage.end()
        error = {"code": "unavailable", "message": "the servant skill has stopped"}
        assert client.heard() == [{"error": error}]
        assert client.transport.disconnecting

    def test_the_report_needs_no_running_skill(
        self, tmp_path: Path, nothing_left_behind: list[Failure]
    ) -> None:
        stage = Stage(FakeSkill(lambda servant: 1 / 0), tmp_path)
        stage.start()
        client = Client(stage)
        assert client.ask({"call": "skill.report"})["result"]["state"] == "failed"
        error = client.ask({"call": "echo"})["error"]
        assert error["code"] == "unavailable" and "ZeroDivisionError" in error["message"]
        nothing_left_behind.clear()
        stage.end()


class TestFeeds:
    def test_events_until_the_client_leaves(self, stage: Stage) -> None:
        client = Client(stage)
        client.say({"feed": "watch"})
        (send,) = stage.servant.feeding
        send({"n": 1})
        send({"n": 2})
        assert client.heard() == [{"event": {"n": 1}}, {"event": {"n": 2}}]
        client.leave()
        assert stage.servant.feeding == []
        send({"n": 3})
        assert client.heard() == []

    def test_a_slow_reader_loses_the_newest_and_is_told(self, stage: Stage) -> None:
        client = Client(stage)
        client.say({"feed": "watch"})
        (send,) = stage.servant.feeding
        producer: Any = client.transport.producer
        producer.pauseProducing()
        for number in range(MAX_WAITING + 5):
            send({"n": number})
        assert client.heard() == []
        producer.resumeProducing()
        heard = client.heard()
        assert heard[0] == {"event": {"n": 0}} and heard[-1] == {"dropped": 5}
        assert len(heard) == MAX_WAITING + 1
        send({"n": -1})
        assert client.heard() == [{"event": {"n": -1}}]
        assert counters(stage)["dropped"] == 5
        client.leave()

    def test_long_events_count_by_their_bytes(self, stage: Stage) -> None:
        client = Client(stage)
        client.say({"feed": "watch"})
        (send,) = stage.servant.feeding
        producer: Any = client.transport.producer
        producer.pauseProducing()
        for _ in range(10):
            send({"x": "y" * 300_000})
        assert counters(stage)["dropped"] == 7
        client.leave()

    def test_a_feed_that_cannot_begin(
        self, stage: Stage, nothing_left_behind: list[Failure]
    ) -> None:
        client = Client(stage)
        answer = client.ask({"feed": "watch", "arguments": {"fail": True}})
        assert answer["error"]["message"] == "RuntimeError: no feed today"
        assert client.ask({"call": "echo"}) == {"result": {}}
        assert client.ask({"feed": "gaze"})["error"]["code"] == "not_found"
        nothing_left_behind.clear()

    def test_an_event_that_is_no_json(
        self, stage: Stage, nothing_left_behind: list[Failure]
    ) -> None:
        client = Client(stage)
        client.say({"feed": "watch"})
        stage.servant.feeding[0]({"x": object()})
        assert client.heard()[0]["error"] and client.transport.disconnecting
        assert stage.servant.feeding == [] and stage.hosted.state == "running"
        nothing_left_behind.clear()

    def test_the_end_of_the_skill_ends_the_feed(self, tmp_path: Path) -> None:
        stage = Stage(FakeSkill(), tmp_path)
        stage.start()
        client = Client(stage)
        client.say({"feed": "watch"})
        stage.end()
        assert client.heard()[0]["error"]["code"] == "unavailable"
        assert client.transport.disconnecting and stage.servant.feeding == []


class TestRubbish:
    @pytest.mark.parametrize(
        "line", [b"{", b"[]", b"7", b"\xff\xfe", b'{"call": ' + b"[" * 1000, b'"call"']
    )
    def test_what_is_no_request_ends_the_connection(self, line: bytes, stage: Stage) -> None:
        client = Client(stage)
        client.protocol.dataReceived(line + b'\n{"call": "echo"}\n')
        (answer,) = client.heard()
        assert answer["error"]["code"] == "invalid_argument"
        assert client.transport.disconnecting
        assert counters(stage)["refused"] == 1

    @pytest.mark.parametrize(
        "request_", [{}, {"call": 3}, {"call": "echo", "arguments": [1]}, {"feed": None}]
    )
    def test_a_malformed_request(self, request_: Any, stage: Stage) -> None:
        assert Client(stage).ask(request_)["error"]["code"] == "invalid_argument"

    def test_a_line_without_an_end(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SkillConnection, "MAX_LENGTH", 1000)
        client = Client(stage)
        client.protocol.dataReceived(b"x" * 1500)
        assert "at most" in client.heard()[0]["error"]["message"]
        assert client.transport.disconnecting

    def test_a_second_request_on_a_feed(self, stage: Stage) -> None:
        client = Client(stage)
        client.say({"feed": "watch"})
        client.say({"call": "echo"})
        assert client.heard()[0]["error"] and client.transport.disconnecting
        client.leave()
        assert stage.servant.feeding == []

    def test_too_many_clients(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket_module, "MAX_CLIENTS", 2)
        clients = [Client(stage) for _ in range(3)]
        assert clients[2].heard()[0]["error"]["message"] == "too many clients"
        assert clients[2].transport.disconnecting
        clients[0].leave()
        assert Client(stage).ask({"call": "echo"}) == {"result": {}}

    @given(st.lists(st.binary(max_size=60), max_size=5))
    def test_any_bytes(self, chunks: list[bytes]) -> None:
        stage = Stage(FakeSkill(), Path("/nowhere"))
        stage.start()
        client = Client(stage)
        for chunk in chunks:
            client.protocol.dataReceived(chunk)
        client.heard()
        client.leave()
        stage.end()


class World:
    """A hosted skill behind a real socket."""

    def __init__(self, root: Path) -> None:
        self.control = str(root / "pilot.sock")
        self.skill = FakeSkill()
        opener = socket_opener(self.control, reactor)
        self.hosted = HostedSkill(self.skill, {}, root, reactor, opener)
        self.client = SkillClient("servant", self.control)


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    world.hosted.attach(FakeNode())
    yield world
    await world.hosted.close()
    await deferLater(reactor, 0.02)
    assert not os.path.exists(skill_socket(world.control, "servant"))


@pytest_twisted.ensureDeferred
async def test_the_blocking_client(world: World) -> None:
    def talk() -> Any:
        return world.client.call("echo", {"long": "x" * 300_000})

    assert len((await deferToThread(talk).addTimeout(5, reactor))["long"]) == 300_000
    with pytest.raises(SkillError) as caught:
        await deferToThread(world.client.call, "fly").addTimeout(5, reactor)
    assert caught.value.code == "not_found" and caught.value.hint == "there are: echo"
    world.skill.made[0].table["never"] = lambda arguments: Deferred()
    with pytest.raises(TimedOut):
        await deferToThread(world.client.call, "never", {}, 0.05).addTimeout(5, reactor)
    with pytest.raises(NotRunning) as missing:
        SkillClient("other", world.control).call("x")
    assert missing.value.message == "the other skill does not run here"
    assert missing.value.hint is not None and "twistd pilot-other" in missing.value.hint


@pytest_twisted.ensureDeferred
async def test_a_feed_through_the_blocking_client(world: World) -> None:
    def follow() -> list[Any]:
        feed = world.client.feed("watch", {}, 5)
        heard = [next(feed), next(feed)]
        feed.close()
        return heard

    following = deferToThread(follow).addTimeout(5, reactor)
    servant = world.skill.made[0]
    for _ in range(200):
        if servant.feeding:
            break
        await deferLater(reactor, 0.01)
    for number in (1, 2):
        servant.feeding[0]({"n": number})
    assert await following == [{"event": {"n": 1}}, {"event": {"n": 2}}]
    for _ in range(200):
        if not servant.feeding:
            break
        await deferLater(reactor, 0.01)
    assert not servant.feeding
    assert list(await deferToThread(lambda: list(world.client.feed("watch", {}, 0.05)))) == []


@pytest_twisted.ensureDeferred
async def test_the_socket_is_private_and_taken_once(world: World, tmp_path: Path) -> None:
    path = skill_socket(world.control, "servant")
    assert path == str(tmp_path / "pilot-servant.sock")
    assert os.stat(path).st_mode & 0o777 == 0o600
    second = SkillSocket(world.hosted, reactor)
    with pytest.raises(AlreadyExists, match="the servant skill runs here already"):
        socket_opener(world.control, reactor)("servant", second)
    assert (await deferToThread(world.client.call, "echo", {"a": 1})) == {"a": 1}


@pytest_twisted.ensureDeferred
async def test_a_stale_socket_is_taken_over(tmp_path: Path) -> None:
    world = World(tmp_path)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(skill_socket(world.control, "servant"))
    stale.close()
    world.hosted.attach(FakeNode())
    assert await deferToThread(world.client.call, "echo") == {}
    await world.hosted.close()
    await deferLater(reactor, 0.02)
