"""The supervisor: whatever a skill does, it costs the skill and nobody else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.application.internet import TimerService
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from pilot.address import Address
from pilot.errors import AlreadyExists
from pilot.hosting.hosted import HEALTHY_AFTER, LONGEST_DELAY, HostedSkill, SkillUnavailable
from pilot.hosting.run import START_TIMEOUT, STOP_TIMEOUT
from tests.hosting.fakes import FakeSkill, Servant, Stage


class Mistake(Exception):
    pass


def broken(*args: object) -> Any:
    raise Mistake("out of order")


def test_a_skill_runs_and_stops(tmp_path: Path) -> None:
    stage = Stage(FakeSkill(), tmp_path / "servant", pace="2s")
    servant = stage.start()
    assert servant.running and servant.settings.duration("pace") == 2.0
    assert stage.hosted.report() == {
        "beats": 3,
        "name": "servant",
        "state": "running",
        "error": None,
        "failures": 0,
        "starts": 1,
        "since": "2001-09-09T01:46:40Z",
        "retry_in": None,
        "port": 4000,
        "socket": {"clients": 0, "calls": 0, "failed": 0, "feeds": 0, "dropped": 0, "refused": 0},
    }
    stage.end()
    assert not servant.running and stage.hosted.state == "stopped"


def datagram(servant: Servant) -> None:
    servant.node.add_datagram_listener(broken)


def event(servant: Servant) -> None:
    servant.node.watch_events("x", broken)


def message(servant: Servant) -> None:
    servant.node.claim_messages("x", broken)


def message_later(servant: Servant) -> None:
    servant.node.claim_messages("x", lambda *args: fail(Mistake("out of order")))


async def _broken_later(*args: object) -> None:
    broken()


def message_coroutine(servant: Servant) -> None:
    servant.node.claim_messages("x", _broken_later)


def subscription(servant: Servant) -> None:
    servant.node.subscribe("bob", "x", broken, broken)


def timer(servant: Servant) -> None:
    servant.settings.reactor.callLater(1, broken)


def coroutine_timer(servant: Servant) -> None:
    servant.settings.reactor.callLater(1, _broken_later)


def loop(servant: Servant) -> None:
    looping = LoopingCall(broken)
    looping.clock = servant.settings.reactor
    looping.start(1, now=False).addErrback(lambda failure: None)


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (datagram, "datagram"),
        (event, "event"),
        (message, "message"),
        (message_later, "message"),
        (message_coroutine, "message"),
        (subscription, "subscription"),
        (timer, ""),
        (coroutine_timer, ""),
        (loop, ""),
    ],
)
def test_a_callback_that_raises_fails_the_skill(
    behaviour: Any, kind: str, tmp_path: Path, nothing_left_behind: list[Failure]
) -> None:
    """It is logged, stopped, and started anew; whoever called it notices nothing."""
    stage = Stage(FakeSkill(behaviour), tmp_path)
    first = stage.start()
    if kind:
        answers = stage.node.tell(kind, Address(0, 2), {"type": "x"}, 3)
        for answer in answers:
            taken: list[Any] = []
            if isinstance(answer, Deferred):
                answer.addCallback(taken.append)
                answer = taken[0]
            assert not answer
    else:
        stage.clock.advance(1)
    assert stage.hosted.state == "failed" and stage.hosted.failures == 1
    assert stage.hosted.error == "Mistake: out of order"
    stage.clock.advance(0)
    assert first.stopped == 1 and not stage.node.listeners
    assert stage.hosted.report()["retry_in"] == 1.0
    stage.clock.advance(1)
    assert stage.hosted.state == "running" and len(stage.skill.made) == 2
    assert stage.hosted.error is None and stage.hosted.failures == 1
    assert [each.type for each in nothing_left_behind] == [Mistake]
    nothing_left_behind.clear()
    stage.end()


@pytest.mark.parametrize("kind", ["datagram", "event", "timer"])
def test_a_skill_that_exits_ends_only_itself(
    kind: str, tmp_path: Path, nothing_left_behind: list[Failure]
) -> None:
    def leave(servant: Servant) -> None:
        servant.node.add_datagram_listener(lambda *args: sys.exit(1))
        servant.node.watch_events("x", lambda *args: sys.exit(1))
        servant.settings.reactor.callLater(1, sys.exit, 1)

    stage = Stage(FakeSkill(leave), tmp_path)
    stage.start()
    if kind == "timer":
        stage.clock.advance(1)
    else:
        stage.node.tell(kind, Address(0, 2), "x", b"")
    assert stage.hosted.state == "failed" and stage.hosted.error == "SystemExit: 1"
    nothing_left_behind.clear()
    stage.end()


def test_a_timer_service_is_watched_without_asking(
    tmp_path: Path, nothing_left_behind: list[Failure]
) -> None:
    """Twisted's own would log and quietly stop ticking."""

    class Ticking(FakeSkill):
        def make_skill(self, node: Any, settings: Any) -> Any:
            tree = MultiService()
            TimerService(1, broken).setServiceParent(tree)
            return tree

    stage = Stage(Ticking(), tmp_path)
    stage.start()
    assert stage.hosted.state == "failed" and stage.hosted.error == "Mistake: out of order"
    stage.end()
    assert {each.type for each in nothing_left_behind} == {Mistake}
    nothing_left_behind.clear()


async def _fails_to_start(servant: Servant) -> None:
    broken()


@pytest.mark.parametrize(
    "behaviour", [broken, _fails_to_start, lambda servant: fail(Mistake("out of order"))]
)
def test_a_start_that_fails(
    behaviour: Any, tmp_path: Path, nothing_left_behind: list[Failure]
) -> None:
    stage = Stage(FakeSkill(behaviour), tmp_path)
    stage.start()
    assert stage.hosted.state == "failed" and stage.hosted.error == "Mistake: out of order"
    stage.clock.advance(0)
    assert stage.servant.stopped == 1
    nothing_left_behind.clear()
    stage.end()


def test_a_start_that_never_ends(tmp_path: Path) -> None:
    stage = Stage(FakeSkill(lambda servant: Deferred()), tmp_path)
    stage.start()
    assert stage.hosted.state == "starting"
    stage.clock.advance(START_TIMEOUT)
    assert stage.hosted.state == "failed" and stage.hosted.error == "not started after 60 s"
    stage.end()


def test_a_stop_in_the_middle_of_a_start(tmp_path: Path) -> None:
    stage = Stage(FakeSkill(lambda servant: Deferred()), tmp_path)
    stage.start()
    stage.end()
    assert stage.hosted.state == "stopped" and stage.hosted.failures == 0


def test_a_stop_that_never_ends_is_not_waited_for(
    tmp_path: Path, nothing_left_behind: list[Failure]
) -> None:
    class Stuck(FakeSkill):
        def make_skill(self, node: Any, settings: Any) -> Any:
            servant = super().make_skill(node, settings)
            servant.stopService = Deferred  # type: ignore[method-assign]
            return servant

    stage = Stage(Stuck(datagram), tmp_path)
    stage.start()
    closing = Deferred.fromCoroutine(stage.hosted.close())
    assert not closing.called
    stage.clock.advance(STOP_TIMEOUT)
    assert closing.called and not stage.node.listeners
    nothing_left_behind.clear()


def test_settings_that_make_no_sense_are_not_tried_again(tmp_path: Path) -> None:
    reasons: list[str] = []
    stage = Stage(FakeSkill(), tmp_path, pace="soon")
    stage.hosted.on_misconfigured = reasons.append
    stage.start()
    stage.clock.advance(0)
    expected = "pace: expected a duration such as 30s, not 'soon'"
    assert stage.hosted.state == "failed" and stage.hosted.error == expected
    assert reasons == [expected]
    assert not stage.clock.getDelayedCalls()
    stage.end()


def test_the_pauses_grow_and_health_forgives(
    tmp_path: Path, nothing_left_behind: list[Failure]
) -> None:
    stage = Stage(FakeSkill(datagram), tmp_path)
    stage.start()
    pauses = []
    for _ in range(14):
        stage.node.tell("datagram", None, 1, b"")
        stage.clock.advance(0)
        pauses.append(stage.hosted.report()["retry_in"])
        stage.clock.advance(LONGEST_DELAY)
        assert stage.hosted.state == "running"
    assert pauses[0] == 1.0 and all(1.0 <= pause <= LONGEST_DELAY for pause in pauses)
    assert all(pauses[i] <= 2.0**i for i in range(9)) and min(pauses[-4:]) >= LONGEST_DELAY / 2
    stage.clock.advance(HEALTHY_AFTER)
    stage.node.tell("datagram", None, 1, b"")
    stage.clock.advance(0)
    assert stage.hosted.report()["retry_in"] == 1.0
    assert stage.hosted.failures == 15
    nothing_left_behind.clear()
    stage.end()


def test_a_second_instance_waits_for_the_lock(tmp_path: Path) -> None:
    stage = Stage(FakeSkill(), tmp_path)
    taken = True

    def open_socket(name: str, factory: Any) -> Callable[[], None]:
        if taken:
            raise AlreadyExists("the servant skill runs here already")
        return lambda: None

    stage.hosted._open_socket = open_socket
    stage.start()
    assert stage.hosted.error == "the servant skill runs here already" and not stage.skill.made
    taken = False
    stage.clock.advance(0)
    stage.clock.advance(1)
    assert stage.hosted.state == "running"
    stage.end()


def test_everything_is_taken_back(tmp_path: Path) -> None:
    """A skill that stops nothing itself leaves nothing behind all the same."""
    cancelled: list[Failure] = []

    def grab(servant: Servant) -> None:
        for behaviour in (datagram, event, message, subscription):
            behaviour(servant)
        servant.node.listen(80, None)
        servant.node.dial("bob", 80, None).addErrback(cancelled.append)
        servant.settings.reactor.callLater(1000, broken)
        for _ in range(500):
            servant.settings.reactor.callLater(5, broken).cancel()

    stage = Stage(FakeSkill(grab), tmp_path)
    stage.start()
    assert len(stage.node.listeners) == 4
    assert len(stage.servant.settings.reactor._timers) < 200
    stage.end()
    assert len(cancelled) == 1


def test_a_listener_is_deaf_after_the_end(tmp_path: Path) -> None:
    """Even if the node holds on to it."""
    stage = Stage(FakeSkill(datagram), tmp_path)
    stage.start()
    ((_, kept),) = stage.node.listeners
    stage.end()
    kept(None, 1, b"")
    assert stage.hosted.failures == 0


def test_a_failure_in_the_skills_own_turn_stops_it_only_after_that_turn(
    tmp_path: Path, nothing_left_behind: list[Failure]
) -> None:
    steps: list[int] = []

    def nested(servant: Servant) -> None:
        datagram(servant)
        servant.settings.reactor.callLater(1, inner, servant)

    def inner(servant: Servant) -> None:
        stage.node.tell("datagram", None, 1, b"")
        steps.append(servant.stopped)

    stage = Stage(FakeSkill(nested), tmp_path)
    stage.start()
    stage.clock.advance(1)
    assert steps == [0]
    nothing_left_behind.clear()
    stage.end()


def test_stopping_while_a_new_start_is_due(
    tmp_path: Path, nothing_left_behind: list[Failure]
) -> None:
    stage = Stage(FakeSkill(broken), tmp_path)
    stage.start()
    stage.clock.advance(0)
    nothing_left_behind.clear()
    stage.end()
    assert len(stage.skill.made) == 1


def test_another_node_takes_the_place_of_the_first(tmp_path: Path) -> None:
    """As when the daemon was started anew and the skill is a process of its own."""
    stage = Stage(FakeSkill(datagram), tmp_path)
    stage.start()
    leaving = Deferred.fromCoroutine(stage.hosted.detach())
    assert leaving.called and not stage.node.listeners and stage.open_sockets
    stage.start()
    assert stage.hosted.starts == 2 and stage.hosted.state == "running"
    assert len(stage.open_sockets) == 1
    stage.end()


class TestStatistics:
    @pytest.mark.parametrize("numbers", [{"x": object()}, {"x": "y" * 70_000}, 7])
    def test_nonsense_does_not_spoil_the_report(
        self, numbers: Any, tmp_path: Path, nothing_left_behind: list[Failure]
    ) -> None:
        stage = Stage(FakeSkill(), tmp_path)
        stage.start()
        stage.servant.numbers = numbers
        report = stage.hosted.report()
        assert report["state"] == "running" and report["statistics_error"]
        nothing_left_behind.clear()
        stage.end()

    def test_they_do_not_hide_the_state(self, tmp_path: Path) -> None:
        stage = Stage(FakeSkill(), tmp_path)
        stage.start()
        stage.servant.numbers = {"state": "wonderful"}
        assert stage.hosted.report()["state"] == "running"
        stage.end()


def test_waiting_for_a_skill_that_starts(tmp_path: Path) -> None:
    begin: Deferred[None] = Deferred()
    stage = Stage(FakeSkill(lambda servant: begin), tmp_path)
    stage.start()
    got: list[Any] = []
    Deferred.fromCoroutine(stage.hosted.ready()).addCallback(got.append)
    assert not got
    begin.callback(None)
    assert got == [stage.servant]
    stage.end()
    Deferred.fromCoroutine(stage.hosted.ready()).addErrback(got.append)
    assert isinstance(got[1].value, SkillUnavailable)


def test_what_is_no_service_is_no_skill(tmp_path: Path, nothing_left_behind: list[Failure]) -> None:
    class Odd(FakeSkill):
        def make_skill(self, node: Any, settings: Any) -> Any:
            return succeed(None)

    stage = Stage(Odd(), tmp_path)
    stage.start()
    assert isinstance(stage.hosted, HostedSkill) and stage.hosted.state == "failed"
    nothing_left_behind.clear()
    stage.end()
