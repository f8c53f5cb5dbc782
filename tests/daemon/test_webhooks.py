"""Webhooks on an invented clock: numbers, order, bounds, retries, replacement, the end."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from pilot.daemon.webhook_event import encode_event, timestamp
from pilot.daemon.webhook_sink import Sink
from pilot.daemon.webhooks import WebhookLimits, Webhooks
from pilot.errors import InvalidArgument
from pilot.wire.ipc import Command
from tests.daemon.ipcharness import World as IpcWorld
from tests.golden import golden

VECTORS: dict[str, Any] = golden("webhook_events")
EVENTS: dict[str, Any] = {each["event"]: each for each in VECTORS["events"]}
BODIES = [
    each["example_body"].replace("<HOME>", "/home/bob")
    for each in EVENTS.values()
    if each["example_body"]
]
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "webhooks.md"
URL = "http://sink.example/hook"
WHEN = 1_795_172_738_586_511_486  # the time of the first example body


class Post(NamedTuple):
    """One attempt: when, where, what; and the Deferred of its status."""

    at: float
    url: str
    headers: dict[str, str]
    body: bytes
    answer: Deferred[int]

    @property
    def number(self) -> int:
        return int(json.loads(self.body)["event_id"])


class FakePoster:
    """Records attempts; C{answer} says at once what becomes of each, None lets it hang."""

    def __init__(self, clock: Clock) -> None:
        self.posts: list[Post] = []
        self.closed = False
        self.answer: Callable[[Post], int | Exception | None] = lambda post: 200
        self._clock = clock

    def post(self, url: str, headers: dict[str, str], body: bytes) -> Deferred[int]:
        post = Post(self._clock.seconds(), url, headers, body, Deferred())
        self.posts.append(post)
        outcome = self.answer(post)
        if isinstance(outcome, int):
            post.answer.callback(outcome)
        elif outcome is not None:
            post.answer.errback(Failure(outcome))
        return post.answer

    async def close(self) -> None:
        self.closed = True

    @property
    def numbers(self) -> list[int]:
        return [post.number for post in self.posts]


class EvenRandom(random.Random):
    """Always the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class World:
    """A started service, its clock, and its poster."""

    def __init__(self, url: str = URL, **options: Any) -> None:
        self.clock = Clock()
        self.poster = FakePoster(self.clock)
        options.setdefault("rng", EvenRandom())
        self.webhooks = Webhooks(
            self.clock, lambda: 7, url, poster=self.poster, wall_time=lambda: WHEN, **options
        )
        self.webhooks.startService()

    def emit(self, times: int = 1) -> None:
        for _ in range(times):
            self.webhooks.emit("network.auto_joined", {"network_id": 1})
        self.clock.advance(0)

    def wait(self, seconds: float) -> None:
        """Let time pass, a tenth of a second at a time."""
        self.clock.pump([0.1] * round(seconds * 10))

    def set(self, url: str) -> list[float]:
        """@return: grows by the time of the reply."""
        replied: list[float] = []
        setting = Deferred.fromCoroutine(self.webhooks.set_webhook(url))
        setting.addCallback(lambda _: replied.append(self.clock.seconds()))
        return replied

    def stop(self) -> list[float]:
        stopped: list[float] = []
        self.webhooks.stopService().addCallback(lambda _: stopped.append(self.clock.seconds()))
        return stopped

    def counted(self, **expected: int) -> bool:
        return {k: v for k, v in self.webhooks.counters.items() if v} == expected


def nanoseconds(text: str) -> int:
    whole, _, fraction = text.rstrip("Z").partition(".")
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 10**9 + int(fraction.ljust(9, "0") or "0")


class TestBody:
    @pytest.mark.parametrize("body", BODIES)
    def test_recorded_bodies(self, body: str) -> None:
        """Every recorded body comes out again byte for byte, whatever the order of its data."""
        told = json.loads(body)
        data = dict(reversed(told["data"].items())) if "data" in told else None
        when = nanoseconds(told["timestamp"])
        encoded = encode_event(told["event_id"], told["event"], told["node_id"], when, data)
        assert encoded.decode() == body

    @pytest.mark.parametrize(
        ("when", "text"),
        [
            (0, "1970-01-01T00:00:00Z"),
            (WHEN, "2026-11-20T11:05:38.586511486Z"),
            (WHEN // 10**9 * 10**9, "2026-11-20T11:05:38Z"),
            (10**8, "1970-01-01T00:00:00.1Z"),
            (1, "1970-01-01T00:00:00.000000001Z"),
        ],
    )
    def test_timestamp(self, when: int, text: str) -> None:
        assert timestamp(when) == text

    @given(st.integers(0, 4 * 10**18))
    def test_timestamp_loses_nothing(self, when: int) -> None:
        text = timestamp(when)
        assert nanoseconds(text) == when
        assert not text.endswith(".Z") and not re.search(r"\.\d*0Z", text)

    def test_text_of_peers(self) -> None:
        """What a peer wrote stays one JSON value, escaped as the reference escapes it."""
        data = {"justification": '"}<&>\n\u2028\ud800\x00'}
        body = encode_event(1, "handshake.received", 2, 0, data)
        assert b"\\u003c\\u0026\\u003e\\n\\u2028" in body and b"\n" not in body
        assert json.loads(body)["data"]["justification"] == '"}<&>\n\u2028\ufffd\x00'


class TestSink:
    @pytest.mark.parametrize(
        ("url", "asked", "label"),
        [
            ("http://h", "http://h/", "http://h"),
            ("HTTPS://H:8443/a?b=c#d", "https://h:8443/a?b=c", "https://h:8443"),
            ("http://h/a b/ä?q=ü", "http://h/a%20b/%C3%A4?q=%C3%BC", "http://h"),
            ("http://h/%2F%zz", "http://h/%2F%zz", "http://h"),
            ("http://[::1]:80/", "http://[::1]:80/", "http://[::1]:80"),
            ("http://bücher.example", "http://xn--bcher-kva.example/", None),
        ],
    )
    def test_request(self, url: str, asked: str, label: str | None) -> None:
        sink = Sink(url)
        assert (sink.url, sink.request_url) == (url, asked)
        assert sink.label == (label or asked.rstrip("/"))

    def test_password_goes_into_a_header_only(self) -> None:
        sink = Sink("http://user:p%40ss@h:1/x")
        assert sink.request_url == "http://h:1/x" and sink.label == "http://h:1"
        assert sink.headers["Authorization"] == "Basic dXNlcjpwQHNz"

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "h",
            "ftp://h/",
            "http://",
            "http://user@/",
            "http://a b/",
            "http://a%20b/",
            "http://h:99999/",
            "http://[::1%25lo]/",
            "http://[fe80::1]/",
            "http://" + "a" * 64 + "/",
            "http://" + "ä" * 300 + "/",
            "http://224.0.0.5/",
        ],
    )
    def test_refused(self, url: str) -> None:
        with pytest.raises(InvalidArgument):
            Sink(url)

    @given(st.text(max_size=40))
    def test_any_text_is_a_sink_or_refused(self, text: str) -> None:
        """What is taken can be asked for: plain ASCII without blanks."""
        try:
            sink = Sink("http://" + text)
        except InvalidArgument:
            return
        assert re.fullmatch(r"http://[!-~]+", sink.request_url)


class TestDelivery:
    def test_without_a_sink_nothing_happens(self) -> None:
        """No number is used up, no timer runs."""
        world = World("")
        world.emit(3)
        assert not world.clock.getDelayedCalls() and not world.poster.posts
        world.set(URL)
        world.emit()
        assert world.poster.numbers == [1]

    def test_request(self) -> None:
        world = World()
        world.emit()
        (post,) = world.poster.posts
        assert post.url == URL
        assert post.headers["Content-Type"] == VECTORS["request"]["headers_seen"]["Content-Type"]
        assert post.headers["User-Agent"].startswith("txpilot/")
        assert json.loads(post.body) == {
            "event_id": 1,
            "event": "network.auto_joined",
            "node_id": 7,
            "timestamp": "2026-11-20T11:05:38.586511486Z",
            "data": {"network_id": 1},
        }

    def test_the_caller_is_not_kept_waiting(self) -> None:
        """Whatever posting costs is paid in a turn of its own."""
        world = World()
        world.webhooks.emit("x")
        assert not world.poster.posts
        world.clock.advance(0)
        assert world.poster.numbers == [1]

    def test_before_the_registration(self) -> None:
        """Events before the start wait for it; a node without a number is 0."""
        clock = Clock()
        poster = FakePoster(clock)
        webhooks = Webhooks(clock, lambda: None, URL, poster=poster)
        webhooks.emit("x", {})
        clock.advance(0)
        assert not poster.posts
        webhooks.startService()
        clock.advance(0)
        told = json.loads(poster.posts[0].body)
        assert told["node_id"] == 0 and "data" not in told

    def test_one_at_a_time_in_order(self) -> None:
        """A first answer that takes three seconds delays the others, and changes no order."""
        world = World()
        world.poster.answer = lambda post: None if post.number == 1 else 200
        world.emit(5)
        world.wait(3)
        assert world.poster.numbers == [1]
        world.poster.posts[0].answer.callback(200)
        assert world.poster.numbers == [1, 2, 3, 4, 5]
        assert world.counted(delivered=5)

    def test_what_changes_later_is_told_as_it_was(self) -> None:
        world = World()
        data = {"size": 1}
        world.webhooks.emit("x", data)
        data["size"] = 2
        world.clock.advance(0)
        assert json.loads(world.poster.posts[0].body)["data"] == {"size": 1}

    def test_what_json_cannot_tell(self, nothing_left_behind: list[Failure]) -> None:
        """It is logged and counted; the node that emitted it notices nothing."""
        world = World()
        world.webhooks.emit("x", {"address": object()})
        world.emit()
        assert world.poster.numbers == [2]
        assert world.counted(dropped=1, delivered=1)
        assert len(nothing_left_behind) == 1
        nothing_left_behind.clear()


class TestBounds:
    def test_recorded_overflow(self) -> None:
        """1500 events at a sink that hangs: 1025 arrive, in order; the numbers go on."""
        recorded = VECTORS["queue"][0]
        world = World()
        world.poster.answer = lambda post: None
        world.emit()
        world.emit(recorded["events"] - 1)
        world.poster.answer = lambda post: 200
        world.poster.posts[0].answer.callback(200)
        assert world.poster.numbers == list(range(1, recorded["posts"] + 1))
        world.emit()
        assert world.poster.numbers[-1] == recorded["events"] + 1
        lost = recorded["events"] - recorded["posts"]
        assert world.counted(delivered=recorded["posts"] + 1, dropped=lost)

    def test_bytes(self) -> None:
        """Long events fill the queue before many do."""
        world = World(limits=WebhookLimits(event_bytes=10_000))
        world.poster.answer = lambda post: None
        for _ in range(20):
            world.webhooks.emit("x", {"justification": "a" * 1000})
            world.clock.advance(0)
        assert world.webhooks.statistics()["waiting"] == 1 + 9
        assert world.counted(dropped=10)

    def test_an_hour_of_failures(self) -> None:
        """A sink answers 500 for an hour: the work and the memory stay bounded, then it goes on."""
        world = World()
        world.poster.answer = lambda post: 500
        for _ in range(3600):
            world.emit(2)
            world.clock.advance(1)
        statistics = world.webhooks.statistics()
        assert statistics["waiting"] in (1024, 1025)
        assert statistics["events"] == 7200
        assert len(world.poster.posts) < 3700
        assert len(world.clock.getDelayedCalls()) <= 1
        world.poster.answer = lambda post: 200
        world.wait(3)
        done = world.webhooks.statistics()
        assert done["waiting"] == 0
        assert done["delivered"] + done["failed"] + done["dropped"] == 7200

    def test_an_hour_of_silence(self) -> None:
        """As bad a sink that takes connections and says nothing."""
        world = World()
        world.poster.answer = lambda post: None
        for _ in range(3600):
            world.emit(2)
            world.clock.advance(1)
        assert world.webhooks.statistics()["waiting"] in (1024, 1025)
        assert len(world.clock.getDelayedCalls()) <= 2

    def test_the_log_is_not_flooded(self) -> None:
        """One line when trouble begins, one when it ends, without the secrets of the address."""
        lines: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(lines.append)
        try:
            world = World("http://user:pw@sink.example/secret?token=1")
            world.poster.answer = lambda post: 500
            world.emit(2000)
            world.wait(600)
            world.poster.answer = lambda post: 200
            world.wait(10)
        finally:
            globalLogPublisher.removeObserver(lines.append)
        formats = [str(line["log_format"]) for line in lines]
        assert len(formats) == 4, formats
        assert not re.search("secret|token|pw", str([line.get("sink") for line in lines]))


class TestRetries:
    @pytest.mark.parametrize(
        ("statuses", "recorded", "outcome"),
        [
            ([500, 500, 500], 0, {"failed": 1, "retries": 2}),
            ([503, 200], 1, {"delivered": 1, "retries": 1}),
            ([404], 2, {"refused": 1}),
            ([429], 3, {"refused": 1}),
        ],
    )
    def test_recorded_answers(
        self, statuses: list[int], recorded: int, outcome: dict[str, int]
    ) -> None:
        """5xx is tried again after one and two seconds, 4xx is not."""
        result = VECTORS["delivery"][recorded]["result"]
        world = World()
        world.poster.answer = lambda post: statuses[len(world.poster.posts) - 1]
        world.emit()
        world.wait(60)
        assert len(world.poster.posts) == result["attempts"]
        assert len({post.body for post in world.poster.posts}) == 1
        for post, at in zip(world.poster.posts, result.get("at", [0.0]), strict=True):
            assert abs(post.at - at) < 0.2
        assert world.counted(**outcome)

    @pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
    def test_redirects_are_refusals(self, status: int) -> None:
        """Where the answer points to is never asked."""
        world = World()
        world.poster.answer = lambda post: status
        world.emit()
        world.wait(60)
        assert len(world.poster.posts) == 1
        assert world.counted(refused=1)

    @pytest.mark.parametrize("error", [ConnectionRefusedError(), ValueError("bad answer")])
    def test_no_answer(self, error: Exception) -> None:
        world = World()
        world.poster.answer = lambda post: error
        world.emit()
        world.wait(60)
        assert len(world.poster.posts) == 3
        assert world.counted(failed=1, retries=2)

    def test_silence(self) -> None:
        """An attempt without an answer ends after five seconds."""
        world = World()
        world.poster.answer = lambda post: None
        world.emit()
        world.wait(60)
        assert [round(post.at) for post in world.poster.posts] == [0, 6, 13]
        assert all(post.answer.called for post in world.poster.posts)
        assert world.counted(failed=1, retries=2)

    @given(st.integers(0, 2**32))
    def test_jitter(self, seed: int) -> None:
        """A fleet whose sink comes back does not knock as one, nor all too late."""
        world = World(rng=random.Random(seed))
        world.poster.answer = lambda post: 500
        world.emit()
        for _ in range(400):
            world.clock.advance(0.01)
        first, second, third = (post.at for post in world.poster.posts)
        assert 0.74 < second - first < 1.27 and 1.49 < third - second < 2.52


class TestReplacing:
    def test_numbers_go_on(self) -> None:
        world = World()
        world.emit(2)
        assert world.set("http://other/") == [0.0]
        world.emit()
        assert [(post.number, post.url) for post in world.poster.posts] == [
            (1, URL),
            (2, URL),
            (3, "http://other/"),
        ]

    def test_what_is_owed_goes_first(self) -> None:
        """The reply comes when the sink before has everything; the new one is told after that."""
        world = World()
        world.poster.answer = lambda post: None
        world.emit(2)
        replied = world.set("http://other/")
        world.emit()
        world.poster.posts[0].answer.callback(200)
        assert not replied and len(world.poster.posts) == 2
        world.poster.posts[1].answer.callback(200)
        assert replied
        assert [post.url for post in world.poster.posts] == [URL, URL, "http://other/"]
        assert world.webhooks.statistics()["sink"] == "http://other"

    def test_a_sink_that_hangs_is_not_waited_for(self) -> None:
        """The reply comes after two seconds; then nothing more goes there."""
        world = World()
        world.poster.answer = lambda post: None if post.url == URL else 200
        world.emit(100)
        replied = world.set("http://other/")
        world.emit(3)
        world.wait(60)
        assert replied and 1.9 < replied[0] < 2.3
        assert world.poster.numbers == [1, 101, 102, 103]
        assert world.counted(abandoned=100, delivered=3)
        assert not world.clock.getDelayedCalls()

    def test_cut_between_two_attempts(self) -> None:
        """The pause ends with the patience."""
        world = World(limits=WebhookLimits(pause=100.0))
        world.poster.answer = lambda post: 500
        world.emit()
        replied = world.set("")
        world.wait(3)
        assert replied and len(world.poster.posts) == 1 and not world.clock.getDelayedCalls()
        assert world.counted(abandoned=1, retries=1)

    def test_the_same_sink_again(self) -> None:
        """Nothing is replaced, nothing is waited for."""
        world = World()
        world.poster.answer = lambda post: None
        world.emit(3)
        assert world.set(URL) == [0.0]
        world.poster.answer = lambda post: 200
        world.poster.posts[0].answer.callback(200)
        assert world.counted(delivered=3)

    def test_replaced_again_while_the_first_drains(self) -> None:
        """Each reply is bounded on its own, and a sink that was never reached is owed nothing."""
        world = World()
        world.poster.answer = lambda post: None
        replies = [world.set(f"http://h{n}/") or world.emit(2) for n in range(10)]
        assert all(reply == [0.0] or not reply for reply in replies)
        cleared = world.set("")
        world.wait(5)
        assert cleared and cleared[0] < 2.3
        assert world.webhooks.statistics()["waiting"] == 0
        assert not world.clock.getDelayedCalls()

    def test_cleared(self) -> None:
        world = World()
        world.emit()
        assert world.set("")
        world.emit()
        assert world.poster.numbers == [1]
        assert world.webhooks.statistics()["sink"] == ""

    def test_a_refused_address_changes_nothing(self) -> None:
        world = World()
        failed = Deferred.fromCoroutine(world.webhooks.set_webhook("ftp://x/"))
        assert isinstance(failed.result, Failure) and failed.result.check(InvalidArgument)
        failed.addErrback(lambda _: None)
        world.emit()
        assert world.poster.posts[0].url == URL
        with pytest.raises(InvalidArgument):
            Webhooks(Clock(), lambda: 1, "ftp://x/")

    def test_a_client_that_does_not_wait_for_the_reply(self) -> None:
        world = World()
        world.poster.answer = lambda post: None
        world.emit()
        setting = Deferred.fromCoroutine(world.webhooks.set_webhook(""))
        setting.addErrback(lambda _: None)
        setting.cancel()
        world.wait(5)
        assert world.counted(abandoned=1) and not world.clock.getDelayedCalls()


class TestEnd:
    def test_the_last_event_arrives(self) -> None:
        world = World()
        world.webhooks.emit("node.deregistered")
        stopped = world.stop()
        world.clock.advance(0)
        assert world.poster.numbers == [1] and stopped == [0.0]
        assert world.poster.closed
        world.emit()
        world.wait(5)
        assert world.poster.numbers == [1] and not world.clock.getDelayedCalls()

    @pytest.mark.parametrize("answer", [None, 500])
    def test_a_bad_sink_does_not_hold_the_daemon(self, answer: int | None) -> None:
        world = World()
        world.poster.answer = lambda post: answer
        world.emit(50)
        world.set("http://other/")
        world.emit(50)
        stopped = world.stop()
        world.wait(10)
        assert stopped and stopped[0] < 3.3
        assert not world.clock.getDelayedCalls()
        assert world.webhooks.statistics()["waiting"] == 0

    def test_without_a_sink(self) -> None:
        assert World("").stop() == [0.0]


def test_nothing_heavy_is_imported_without_a_sink() -> None:
    """treq is loaded with the first sink."""
    code = (
        "import sys; from twisted.internet.task import Clock\n"
        "from pilot.daemon.webhooks import Webhooks\n"
        "w = Webhooks(Clock(), lambda: 1); w.startService(); w.emit('x', {})\n"
        "assert 'treq' not in sys.modules and 'twisted.web' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_over_the_control_socket() -> None:
    """SetWebhook swaps the sink and answers when the old one is done with."""
    ipc, world = IpcWorld(), World("")
    server = ipc.servers[ipc.a]
    server.set_webhook = world.webhooks.set_webhook
    client = ipc.client(ipc.a)
    world.poster.answer = lambda post: None
    set_url = (Command.SET_WEBHOOK_OK, b'{"webhook":"http://sink.example/hook"}')
    assert client.ask(Command.SET_WEBHOOK, URL.encode()) == set_url
    world.emit(2)
    client.send(Command.SET_WEBHOOK, b"")
    assert client.frames() == []
    world.wait(3)
    assert client.frames() == [(Command.SET_WEBHOOK_OK, b'{"webhook":""}')]
    assert world.webhooks.statistics() == {
        "sink": "",
        "events": 2,
        "waiting": 0,
        "delivered": 0,
        "dropped": 0,
        "refused": 0,
        "failed": 0,
        "abandoned": 2,
        "retries": 0,
    }


class TestPage:
    """C{docs/reference/webhooks.md} against the golden vectors."""

    ROWS = re.findall(r"^\| `([a-z_.<>]+)` \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)

    def test_every_event(self) -> None:
        """Each event of the reference has one row with the members of its data."""
        documented = {name: set(re.findall(r"`([a-z_]+)`", data)) for name, _, data in self.ROWS}
        known = {
            name: set(each["data"]) - {"..."} if isinstance(each["data"], dict) else set()
            for name, each in EVENTS.items()
        }
        assert documented == known
        assert len(self.ROWS) == len(known)

    def test_example(self) -> None:
        """The example is a body as the daemon writes it."""
        (example,) = re.findall(r"```json\n(.+?)\n```", PAGE.read_text(), re.DOTALL)
        told = json.loads(example)
        assert example.encode() == encode_event(
            told["event_id"],
            told["event"],
            told["node_id"],
            nanoseconds(told["timestamp"]),
            told["data"],
        )
        assert set(told["data"]) == set(EVENTS[told["event"]]["data"])

    @pytest.mark.parametrize(
        ("words", "value"),
        [
            ("{} events may wait", WebhookLimits().events),
            ("{} MiB", WebhookLimits().event_bytes >> 20),
            ("{} attempts", WebhookLimits().attempts),
            ("within {:g} seconds", WebhookLimits().answer),
            ("at most {:g} seconds for what the old address", WebhookLimits().replaced),
            ("at most {:g} seconds when the daemon stops", WebhookLimits().stopped),
        ],
    )
    def test_limits(self, words: str, value: float) -> None:
        """The numbers of the page are those of the code."""
        assert words.format(value) in " ".join(PAGE.read_text().split())
