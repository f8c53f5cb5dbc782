"""The hands one by one: pings, questions over a stream, files, pace, the timer."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from pilot.address import Address, SocketAddress
from pilot.errors import (
    ConnectionRefused,
    InvalidArgument,
    NotFound,
    PilotError,
    RegistryUnavailable,
)
from pilot.hosting.settings import SkillSettings
from pilot.skills import find_skills
from skills.presence.core.effects import Change, Message, Publish
from skills.presence.core.finding import Query
from skills.presence.plugin import PresenceSkill
from skills.presence.shell import questions
from skills.presence.shell.choices import OPTIONS, Choices, chosen
from skills.presence.shell.courier import DATAGRAMS_EACH, Courier
from skills.presence.shell.desk import CLIENTS_EACH, EVENTS, PATIENCE, Desk, DeskLine
from skills.presence.shell.engine import Engine
from skills.presence.shell.intents import Intents
from skills.presence.shell.pacing import Pace, SourcePaces
from skills.presence.shell.pinging import AT_ONCE, Pinger
from skills.presence.shell.storage import Storage
from skills.presence.shell.targets import Targets, as_address
from skills.presence.shell.watchers import MOST, TooManyWatchers, Watchers, events_of

# -- pings -----------------------------------------------------------------------------------------


class Asked:
    """A node whose dials a test decides, and what a pinger says."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.dials: list[tuple[int, int, Any, Deferred[Any]]] = []
        self.sent: list[tuple[int, bytes]] = []
        self.answers: list[tuple[int, int, bool]] = []
        self.skipped: list[tuple[int, int]] = []
        self.pinger = Pinger(
            self,
            self.clock,
            self.clock.seconds,
            send=lambda node, data: self.sent.append((node, data)),
            answered=lambda *answer: self.answers.append(answer),
            skipped=lambda *skipped: self.skipped.append(skipped),
        )

    def dial(self, target: Address, port: int, factory: Any) -> Deferred[Any]:
        dial: Deferred[Any] = Deferred()
        self.dials.append((target.node, port, factory, dial))
        return dial

    def connect(self, number: int) -> Any:
        _, _, factory, dial = self.dials[number]
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        dial.callback(protocol)
        return protocol


def test_a_datagram_is_answered_by_whoever_runs_the_skill() -> None:
    asked = Asked()
    asked.pinger.ping(5, 9, 2.0)
    assert asked.sent == [(9, b'{"t":"ping","n":5}')]
    assert asked.pinger.received(9, b'{"t":"pong","n":5}')
    assert asked.answers == [(5, 9, True)]
    asked.pinger.received(9, b'{"t":"pong","n":5}')
    asked.clock.advance(10)
    assert asked.answers == [(5, 9, True)] and asked.pinger.counters["late"] == 1
    # It is known now: no stream before half of the time has passed.
    asked.pinger.ping(6, 9, 2.0)
    assert len(asked.dials) == 1
    asked.clock.advance(1.1)
    assert len(asked.dials) == 2
    asked.clock.advance(1.0)
    assert asked.answers[-1] == (6, 9, False)
    assert not asked.clock.getDelayedCalls()


def test_pings_of_others_are_answered() -> None:
    asked = Asked()
    assert asked.pinger.received(3, b'{"t":"ping","n":77}')
    assert asked.sent == [(3, b'{"t":"pong","n":77}')]
    for data in (
        b'{"t":"ping","n":}',
        b'{"t":"ping","n":-1}',
        b'{"t":"ping","n":1',
        b'{"t":"ping",',
    ):
        asked.pinger.received(3, data)
    assert len(asked.sent) == 1
    assert not asked.pinger.received(3, b'{"v":1,"k":"probe"}')


def test_the_answer_of_one_is_not_that_of_another() -> None:
    asked = Asked()
    asked.pinger.ping(5, 9, 2.0)
    asked.pinger.received(8, b'{"t":"pong","n":5}')
    asked.clock.advance(2.1)
    assert asked.answers == [(5, 9, False)]


def test_an_echo_stream_is_an_answer() -> None:
    asked = Asked()
    asked.pinger.ping(5, 9, 2.0)
    protocol = asked.connect(0)
    assert protocol.transport.value() == b"presence"
    protocol.dataReceived(b"pre")
    assert asked.answers == [(5, 9, True)] and protocol.transport.disconnecting
    asked.pinger.ping(6, 9, 2.0)
    asked.dials[1][3].errback(ConnectionRefused("connection refused"))
    asked.clock.advance(2.0)
    assert asked.answers[-1] == (6, 9, False)
    asked.pinger.ping(7, 9, 2.0)
    echo = asked.connect(2)
    asked.clock.advance(2.0)
    assert asked.answers[-1] == (7, 9, False) and echo.transport.disconnecting


def test_few_streams_at_once_and_who_was_not_asked_is_not_judged() -> None:
    asked = Asked()
    for token in range(40):
        asked.pinger.ping(token, 100 + token, 2.0)
    assert len(asked.dials) == AT_ONCE
    asked.clock.pump([0.1] * 21)
    assert len(asked.answers) == AT_ONCE and not any(ok for _, _, ok in asked.answers)
    assert len(asked.skipped) == 40 - AT_ONCE
    assert asked.pinger.counters["skipped"] == 40 - AT_ONCE
    asked.pinger.close()
    assert not asked.clock.getDelayedCalls()


def test_at_most_eight_streams_a_second() -> None:
    asked = Asked()
    for token in range(200):
        asked.pinger.ping(token, 100 + token, 60.0)
    for _ in range(100):  # ten seconds; each dial fails at once
        for _, _, _, dial in asked.dials:
            if not dial.called:
                dial.errback(ConnectionRefused("connection refused"))
        asked.clock.advance(0.1)
    assert 70 <= len(asked.dials) <= 90
    asked.pinger.close()


# -- what leaves -----------------------------------------------------------------------------------


class Outside:
    """A node that sends, or does not."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.done: list[Any] = []
        self.resolved: list[str] = []

    def _next(self, *what: Any) -> Deferred[Any]:
        self.done.append(what)
        return self.results.pop(0) if self.results else succeed(None)

    def send_datagram(self, *what: Any) -> Deferred[Any]:
        return self._next("datagram", *what)

    def publish(self, *what: Any) -> Deferred[Any]:
        return self._next("publish", *what)

    def send_message(self, *what: Any) -> Deferred[Any]:
        return self._next("message", *what)

    def resolve(self, name: str) -> Deferred[Address]:
        self.resolved.append(name)
        return succeed(Address(7, 42))


def test_a_publication_is_tried_twice_and_its_name_looked_up_anew() -> None:
    outside, clock, outcomes = Outside(), Clock(), []
    courier = Courier(outside, clock, Targets(outside))
    effect = Publish("hub", "presence.status", b"{}")
    courier.publish(effect, outcomes.append)
    courier.publish(effect, outcomes.append)
    assert outcomes == [True, True] and outside.resolved == ["hub"]
    assert outside.done[0] == ("publish", Address(0, 42), "presence.status", b"{}")
    outside.results = [fail(PilotError("reset")), succeed(None)]
    courier.publish(effect, outcomes.append)
    assert outcomes[-1] is True and outside.resolved == ["hub", "hub"]
    outside.results = [fail(PilotError("reset")), fail(PilotError("reset"))]
    courier.message(Message(42, {}), outcomes.append)
    assert outcomes[-1] is False and courier.counters["messages_failed"] == 1


def test_datagrams_for_who_cannot_be_reached_do_not_pile_up() -> None:
    outside, clock = Outside(), Clock()
    courier = Courier(outside, clock, Targets(outside))
    outside.results = stuck = [Deferred() for _ in range(DATAGRAMS_EACH)]
    stuck = list(stuck)
    for _ in range(10):
        courier.send(5, b"x")
    courier.send(6, b"x")
    assert courier.counters["datagrams_dropped"] == 10 - DATAGRAMS_EACH
    assert len(outside.done) == DATAGRAMS_EACH + 1
    flushed = courier.flush()
    assert not flushed.called
    clock.advance(2.1)
    assert flushed.called  # it does not wait for ever
    for sending in stuck:
        sending.callback(None)
    courier.send(5, b"x")
    assert courier.counters["datagrams_dropped"] == 10 - DATAGRAMS_EACH


def test_targets() -> None:
    assert as_address(5) == as_address("5") == Address(0, 5)
    assert as_address("1:0001.0000.0005") == Address(0, 5)
    assert as_address("hub") is None and as_address("99999999999") is None


# -- the directory over a stream -------------------------------------------------------------------


class Known:
    """A directory that a test decides."""

    serving = True

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = [{"node_id": number} for number in range(150)]
        self.ended = 0
        self.send: Any = None

    def listed(self, given: dict[str, Any]) -> Any:
        return iter(self.rows), {"version": 7, "stale_view": False}

    def got(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"host": questions.host(given)}

    def found(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"agents": []}

    def watched(self, given: dict[str, Any], send: Any) -> Any:
        self.send = send

        def end() -> None:
            self.ended += 1

        return end


class Taking(StringTransport):
    """A transport that takes everything at once, or nothing."""

    aborted = False
    full = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        while self.producer is producer and not streaming and not self.full:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None
        self.streaming = False

    def abortConnection(self) -> None:
        self.aborted = True


def line(desk: Desk, node: int = 5) -> tuple[DeskLine, Taking]:
    protocol = desk.buildProtocol(SocketAddress(Address(0, node), 50000))
    assert protocol is not None
    transport = Taking()
    protocol.makeConnection(transport)
    return protocol, transport


def said(transport: Taking) -> list[Any]:
    return [json.loads(line) for line in transport.value().splitlines()]


def test_questions_over_a_stream() -> None:
    known, clock = Known(), Clock()
    desk = Desk(known, clock)
    protocol, transport = line(desk)
    protocol.dataReceived(b'{"ask":"list"}\n{"ask":"list"}\n')
    answer = said(transport)
    assert len(answer) == 151 and answer[-1] == {"end": True, "version": 7, "stale_view": False}
    assert transport.disconnecting
    protocol.connectionLost()
    for question, expected in (
        (b'{"ask":"get","host":"a"}', {"result": {"host": "a"}}),
        (b'{"ask":"find"}', {"result": {"agents": []}}),
    ):
        protocol, transport = line(desk)
        protocol.dataReceived(question + b"\n")
        assert said(transport) == [expected]
        protocol.connectionLost()
    for wrong in (b'{"ask":"what"}', b"[]", b"\xff", b'{"ask":"get"}', b"[" * 4000):
        protocol, transport = line(desk)
        protocol.dataReceived(wrong + b"\n")
        assert said(transport)[0]["error"]["code"] == "invalid_argument"
        protocol.connectionLost()
    protocol, transport = line(desk)
    protocol.dataReceived(b"x" * 5000)
    assert said(transport)[0]["error"]["code"] == "invalid_argument"
    protocol.connectionLost()
    assert not clock.getDelayedCalls() and not desk.lines and not desk.clients


def test_who_says_nothing_or_is_too_many_is_turned_away() -> None:
    known, clock = Known(), Clock()
    desk = Desk(known, clock)
    lines = [line(desk) for _ in range(CLIENTS_EACH)]
    assert desk.buildProtocol(SocketAddress(Address(0, 5), 1)) is None
    assert desk.buildProtocol(SocketAddress(Address(0, 6), 1)) is not None
    clock.advance(PATIENCE)
    assert all(transport.aborted for _, transport in lines)
    for protocol, _ in lines:
        protocol.connectionLost()
    assert desk.counters == {"refused": 1, "slow": CLIENTS_EACH}


def test_a_watcher_gets_the_list_then_events_and_is_cut_when_slow() -> None:
    known, clock = Known(), Clock()
    desk = Desk(known, clock)
    protocol, transport = line(desk)
    transport.full = True
    protocol.dataReceived(b'{"ask":"watch"}\n')
    known.send({"n": 1})  # while the list is being written
    producer = transport.producer
    while transport.producer is producer:
        producer.resumeProducing()
    known.send({"n": 2})
    assert said(transport)[-3:] == [
        {"end": True, "version": 7, "stale_view": False},
        {"event": {"n": 1}},
        {"event": {"n": 2}},
    ]
    clock.advance(10 * PATIENCE)
    assert not transport.aborted
    protocol.pauseProducing()
    for number in range(EVENTS):
        known.send({"n": number})
    assert not transport.aborted
    known.send({"n": 0})
    assert transport.aborted
    protocol.connectionLost()
    assert known.ended == 1


# -- files -----------------------------------------------------------------------------------------


def test_only_the_newest_of_a_file_waits(tmp_path: Path) -> None:
    tasks: list[tuple[Any, Deferred[None]]] = []

    def later(function: Any) -> Deferred[None]:
        tasks.append((function, Deferred()))
        return tasks[-1][1]

    storage = Storage(tmp_path, later)
    for number in range(5):
        storage.write_soon("directory", b"%d" % number)
    storage.write_soon("other", b"x")
    assert len(tasks) == 2
    function, done = tasks[0]
    function()
    done.callback(None)
    assert (tmp_path / "directory").read_bytes() == b"0" and len(tasks) == 3
    storage.write("directory", b"last word")
    tasks[2][0]()  # a thread that comes late does not undo it
    tasks[2][1].callback(None)
    assert (tmp_path / "directory").read_bytes() == b"last word"
    assert (tmp_path / "directory").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory"]


def test_what_a_kill_left_behind_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "directory").write_bytes(b"old and whole")
    (tmp_path / ".directory.0badf00d").write_bytes(b"ol")
    storage = Storage(tmp_path, execute)
    assert storage.directory() == b"old and whole"
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_what_is_no_file_is_set_aside_and_kept(tmp_path: Path) -> None:
    for name in ("incarnation", "directory", "intents.json", ".directory.0badf00d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inside").write_text("kept")
    storage = Storage(tmp_path, execute)
    assert storage.incarnation() == 0 and storage.directory() is None
    assert storage.document("intents.json") is None
    for name in ("incarnation", "directory", "intents.json"):
        assert (tmp_path / (name + ".damaged") / "inside").read_text() == "kept"
        storage.write(name, b"7")
    assert storage.error is None and storage.incarnation() == 7


def test_what_cannot_be_written_is_said_and_tried_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    storage = Storage(home, execute)
    storage.write("incarnation", b"5")
    storage.write_soon("directory", b"x")
    assert storage.error == "No such file or directory" and storage.counters["failed"] == 2
    home.mkdir()
    storage.write("incarnation", b"5")
    assert storage.error is None and storage.incarnation() == 5
    (home / "incarnation").write_bytes(b"9" * 40)
    assert storage.incarnation() == 0


def test_what_agents_said_is_kept_and_bounded() -> None:
    wall = [1000.0]
    intents = Intents(lambda: wall[0], 4, ("gpu",), None)
    assert intents.all() == [{"agent": "", "status": "online", "slots": 4, "tags": ("gpu",)}]
    intents.said({"agent": "a", "status": "busy", "duration": 10.0})
    intents.said({"agent": "a", "status": "away", "duration": None})
    intents.said({"agent": "a", "status": "busy", "duration": 10.0})
    assert [each["status"] for each in intents.all()] == ["online", "away", "busy"]
    stored = json.loads(json.dumps(intents.to_list()))
    again = Intents(lambda: wall[0], None, (), stored)
    assert [each["status"] for each in again.all()] == ["online", "away", "busy"]
    wall[0] += 11.0
    assert [each["status"] for each in again.all()] == ["online", "away"]
    for number in range(200):
        again.said({"agent": str(number), "status": "online", "duration": None})
    assert len({each["agent"] for each in again.all()}) <= 64
    for rubbish in ({"a": 1}, [1, {}, {"agent": 5}], "x"):
        assert Intents(lambda: 0.0, None, (), rubbish).all() == []


# -- pace and time ---------------------------------------------------------------------------------


def test_pace() -> None:
    pace = Pace(2.0, 3.0)
    assert [pace.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert pace.wait(0.0) == 0.5
    assert not pace.take(0.4) and pace.take(0.6)
    paces = SourcePaces(1.0, 1.0)
    assert paces.take(0.0, 1) and not paces.take(0.0, 1) and paces.take(0.0, 2)
    for source in range(10_000):
        paces.take(1.0, source)
    assert paces.refused == 1


class Core:
    """A core that wants its timer at certain times."""

    def __init__(self) -> None:
        self.due: float | None = 1.0
        self.calls: list[float] = []

    def deadline(self) -> float | None:
        return self.due

    def on_timer(self, now: float) -> list[Any]:
        self.calls.append(now)
        self.due = None
        return []

    def step(self, now: float, *effects: Any) -> list[Any]:
        return list(effects)


def test_one_timer_and_effects_in_order() -> None:
    clock, core = Clock(), Core()
    carried: list[Any] = []

    def carry(effect: Any) -> None:
        carried.append(effect)
        if effect == "first":
            engine.turn(core.step, "of the first")  # comes after what was there before

    engine = Engine(core, clock, clock.seconds, carry)  # type: ignore[arg-type]
    engine.turn(core.step, "first", "second")
    assert carried == ["first", "second", "of the first"]
    for _ in range(5):
        engine.turn(core.step)
    assert len(clock.getDelayedCalls()) == 1
    core.due = 0.5  # earlier than the timer
    engine.turn(core.step)
    clock.advance(0.5)
    assert core.calls == [0.5]
    core.due = 5.0
    engine.turn(core.step)
    engine.close()
    engine.turn(core.step, "too late")
    assert not clock.getDelayedCalls() and "too late" not in carried


def test_a_timer_that_hangs_is_replaced() -> None:
    """The reactor's clock was set back by an hour; anything that comes in sets that right."""
    clock, core, ahead = Clock(), Core(), [0.0]
    engine = Engine(core, clock, lambda: clock.seconds() + ahead[0], lambda effect: None)  # type: ignore[arg-type]
    engine.turn(core.step)
    ahead[0] = 3600.0
    engine.turn(core.step)
    clock.advance(0.0)
    assert core.calls == [3600.0]
    engine.close()


# -- questions, choices, news ----------------------------------------------------------------------

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["online", "gpu", "swarm-x", "10"]),
    st.lists(st.one_of(st.text(max_size=4), st.integers(), st.just("busy")), max_size=3),
)
NAMES = st.sampled_from(
    ["host", "status", "tag", "swarm", "all", "pick", "limit", "min_slots", "max_age"]
)


@given(st.dictionaries(NAMES, VALUES))
def test_whatever_is_asked_is_read_or_refused(given: dict[str, Any]) -> None:
    for read in (questions.query, questions.host, questions.statuses, questions.tags):
        try:
            found = read(given)
        except InvalidArgument:
            continue
        if isinstance(found, Query):
            assert found.min_slots >= 0 and 1 <= found.limit <= 1000


@given(
    st.dictionaries(
        st.sampled_from(["coordinators", "swarms", "interval", "profile", "serve", "other"]),
        st.one_of(VALUES, st.lists(st.sampled_from(["hub", "kv", "a-", "swarm:x"]), max_size=4)),
    )
)
def test_choices_survive_their_file(given: dict[str, Any]) -> None:
    try:
        choices = Choices().changed(given)
    except InvalidArgument:
        return
    assert Choices().changed(json.loads(json.dumps(choices.to_dict()))) == choices
    choices.config()


def settings(**given: Any) -> SkillSettings:
    return SkillSettings("presence", OPTIONS, given, Path(), Clock(), random.Random(1))


def test_options() -> None:
    given, first = chosen(settings())
    assert given == {} and first == {"tags": (), "slots": None}
    given, first = chosen(
        settings(coordinator=["a", "b"], swarm="swarm:kv", interval="5s", serve=True, slots="3")
    )
    assert Choices().changed(given).to_dict() == {
        "coordinators": ["a", "b"],
        "swarms": ["kv"],
        "interval": 5.0,
        "profile": "wan",
        "serve": True,
    }
    assert first["slots"] == 3
    for wrong in (
        {"interval": "1ms"},
        {"profile": "fast"},
        {"swarm": "No"},
        {"slots": "many"},
        {"tag": "GPU"},
        {"serve": "perhaps"},
        {"coordinator": "a b"},
        {"coordinator": [str(number) for number in range(9)]},
    ):
        with pytest.raises(ValueError):
            chosen(settings(**wrong))


def test_the_plugin_is_found() -> None:
    found = find_skills().skills["presence"]
    assert isinstance(found, PresenceSkill) and found.port == 1010
    with pytest.raises(ValueError, match="profile"):
        found.make_skill(Outside(), settings(profile="fast"))


def test_news_is_flat() -> None:
    bulk = {"count": 3, "to": {"offline": 3}, "agents": [["a", 1, "online", "offline"]]}
    events = list(events_of(Change("presence.bulk", bulk), 0.0))
    assert [event["event"] for event in events] == ["changed", "bulk"]
    assert events[0]["hostname"] == "a" and events[0]["at"] == "1970-01-01T00:00:00Z"
    flap = {"node": 1, "hostname": "a", "flapping": True, "penalty": 3.1}
    (event,) = events_of(Change("presence.flapping", flap), 0.0)
    assert event["node_id"] == 1 and event["flapping"] is True
    (event,) = events_of(Change("presence.view_stale", {"cause": "exodus"}), 0.0)
    assert event == {"event": "view_stale", "cause": "exodus", "at": "1970-01-01T00:00:00Z"}
    assert list(events_of(Change("presence.status", {}), 0.0)) == []


def test_watchers_are_bounded() -> None:
    watchers = Watchers(lambda: 0.0, lambda host: None, lambda node: ())
    ends = [watchers.add({}, lambda event: None) for _ in range(MOST)]
    with pytest.raises(TooManyWatchers):
        watchers.add({}, lambda event: None)
    for end in ends:
        end()
        end()
    assert len(watchers) == 0


def test_a_registry_in_trouble_is_no_verdict() -> None:
    """What it does not say is not taken for a no."""
    from skills.presence.core.effects import Verify
    from skills.presence.shell.carrying import Carrier

    class Service:
        node = Outside()

        def now(self) -> float:
            return 0.0

    carrier = Carrier(Service())  # type: ignore[arg-type]
    answers: list[Any] = []

    class Engines:
        core = type("Core", (), {"verified": None})

        def turn(self, step: Any, token: int, ok: bool | None) -> None:
            answers.append(ok)

    carrier.attend(Engines())  # type: ignore[arg-type]
    node: Any = Service.node
    for resolved in (
        succeed(Address(0, 9)),
        succeed(Address(0, 8)),
        fail(RegistryUnavailable("registry: away")),
    ):
        node.resolve = lambda name, resolved=resolved: resolved
        carrier.carry(Verify(1, "x", 9))
    assert answers == [True, False, None]


def test_invented_agents_do_not_disturb_the_registry() -> None:
    from skills.presence.core.effects import CheckSignature
    from skills.presence.shell.carrying import LOOKUP_RATE, LOOKUPS, LOOKUPS_WAITING, Carrier

    asked: list[int] = []
    clock = Clock()

    def unknown(node_id: int) -> Any:
        asked.append(node_id)
        return fail(NotFound("no such node"))

    class Service:
        node = Outside()
        reactor = clock
        now = staticmethod(clock.seconds)

    class Engines:
        core = type("Core", (), {"verified": None})

        def turn(self, step: Any, token: int, ok: bool | None) -> None:
            assert ok is None

    node: Any = Service.node
    node.public_key = unknown
    carrier = Carrier(Service())  # type: ignore[arg-type]
    carrier.attend(Engines())  # type: ignore[arg-type]
    for token in range(5000):
        carrier.carry(CheckSignature(token, token, b"", b""))
    assert len(asked) == 2 * LOOKUP_RATE
    assert carrier.dropped == 5000 - len(asked) - LOOKUPS_WAITING
    for _ in range(10 * LOOKUPS):
        clock.advance(0.1)
    assert 3 * LOOKUP_RATE < len(asked) <= 2 * LOOKUP_RATE + LOOKUP_RATE * LOOKUPS + 1
    carrier.forget()
    assert clock.getDelayedCalls() == []
