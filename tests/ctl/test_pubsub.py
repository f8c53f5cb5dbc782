"""C{publish} and C{subscribe}."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pilot.wire.eventfilter import DROPPED, Dropped
from pilot.wire.eventstream import EventDecoder, encode_event
from pilot.wire.ipc_extensions import Closed, CloseReason, Extension
from pilot.wire.ipcframes import Command
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, Frame, error, reply
from tests.ctl.test_startup import HEAVY, imported
from tests.ctl.transcripts import ENTRIES, Entry, differences

PATIENCE = 20.0


def recv(*events: tuple[bytes, bytes], number: int = 1) -> list[Frame]:
    """@return: the events as a daemon passes them on, each as a segment."""
    head = number.to_bytes(4, "big")
    return [(Command.RECV, head + encode_event(*event)) for event in events]


def ended(number: int = 1) -> Frame:
    return Command.CLOSE_OK, number.to_bytes(4, "big")


class Broker:
    """
    A daemon behind which a broker lives that answers a subscription with these frames.

    @ivar heard: the events it was sent, subscriptions included, topic and payload.
    """

    def __init__(self, *frames: Frame, extended: bool = False, dial: Frame | None = None) -> None:
        self.heard: list[tuple[bytes, bytes]] = []
        self.extended = extended
        self.subscribed = threading.Event()
        self._frames = frames
        self._dial = dial
        self.daemon = FakeDaemon(self._answer)

    def _answer(self, command: int, payload: bytes) -> list[Frame]:
        if command == Extension.HELLO and self.extended:
            return [(Extension.HELLO_OK, payload)]
        if command == Command.RESOLVE_HOSTNAME:
            if payload not in (b"node-a", b"node-b"):
                name = payload.decode()
                return [error(f'resolve_hostname: registry: hostname "{name}" not found')]
            node = 1 if payload == b"node-a" else 2
            address = f"0:0000.0000.000{node}"
            return [reply(Command.RESOLVE_HOSTNAME_OK, {"node_id": node, "address": address})]
        if command == Command.INFO:
            return [reply(Command.INFO_OK, {"node_id": 1, "address": "0:0000.0000.0001"})]
        if command == Command.DIAL:
            return [self._dial or (Command.DIAL_OK, b"\0\0\0\1")]
        if command == Command.SEND:
            first = not self.heard
            for event in EventDecoder().feed(payload[4:]):
                self.heard.append((event.topic, event.payload))
            self.subscribed.set()
            return list(self._frames) if first else []
        if command == Command.CLOSE:
            return [(Command.CLOSE_OK, payload)]
        return [error("unknown command")]


Serve = Callable[..., contextlib.AbstractContextManager[Broker]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    @contextlib.contextmanager
    def make(*frames: Frame, **options: Any) -> Iterator[Broker]:
        broker = Broker(*frames, **options)
        with broker.daemon as daemon:
            monkeypatch.setenv("PILOT_SOCKET", daemon.path)
            yield broker

    return make


ONLINE = (b"status", b"online")
BUSY = (b"status", b'{"cpu":42}')
BOTH = [
    {"topic": "status", "data": "online", "bytes": 6},
    {"topic": "status", "data": '{"cpu":42}', "bytes": 10},
]


# -- publish -----------------------------------------------------------------------------------


def test_publish(serve: Serve, run: Run) -> None:
    """A subscription, because the broker takes the first event for one, and the event."""
    with serve() as broker:
        data = run("--json", "publish", "node-b", "status", "--data", "grüße").data
    assert data == {"target": "0:0000.0000.0002", "topic": "status", "bytes": 7}
    assert broker.heard == [(b"status", b""), (b"status", "grüße".encode())]


def test_publish_to_self(serve: Serve, run: Run) -> None:
    with serve() as broker:
        data = run("--json", "publish", "self", "metrics", "--data", '{"cpu":42}').data
    assert data["target"] == "0:0000.0000.0001"
    assert broker.heard[1] == (b"metrics", b'{"cpu":42}')


def test_publish_what_no_broker_takes(serve: Serve, run: Run) -> None:
    """It would close the connection, and nobody would ever know."""
    with serve() as broker:
        problem = run("--json", "publish", "2", "t" * 1025, "--data", "x").problem
    assert problem["code"] == "invalid_argument"
    assert "1024" in problem["message"]
    assert broker.heard == []


@pytest.mark.parametrize("words", [["publish", "2", "t", "--data", "x"], ["subscribe", "2", "t"]])
def test_a_switched_off_broker(serve: Serve, run: Run, words: list[str]) -> None:
    with serve(dial=error("connection refused")):
        problem = run("--json", *words).problem
    assert problem["code"] == "connection_failed"
    assert problem["message"].endswith("0.0002 (event stream port 1002): connection refused")
    assert problem["hint"].endswith("pilotctl ping 0:0000.0000.0002")


# -- bounded -----------------------------------------------------------------------------------


@pytest.mark.parametrize("extended", [False, True])
def test_so_many_events(serve: Serve, run: Run, extended: bool) -> None:
    with serve(*recv(ONLINE, BUSY, ONLINE), extended=extended) as broker:
        data = run("--json", "subscribe", "node-b", "status", "--count", "2").data
    assert data == {"events": BOTH, "timeout": False}
    assert broker.heard == [(b"status", b"")]
    assert (Command.CLOSE, b"\0\0\0\1") in broker.daemon.received


def test_so_many_events_without_json(serve: Serve, run: Run) -> None:
    """Into a pipe or a file comes one object: the one that --json has in its envelope."""
    with serve(*recv(ONLINE, BUSY)):
        outcome = run("subscribe", "node-b", "status", "--count", "2", "--timeout", "60s")
    assert json.loads(outcome.out) == {"events": BOTH, "timeout": False}
    assert "waiting for events" in outcome.err


def test_events_cut_and_joined_anywhere(serve: Serve, run: Run) -> None:
    stream = encode_event(*ONLINE) + encode_event(*BUSY)
    pieces = [(Command.RECV, b"\0\0\0\1" + stream[i : i + 1]) for i in range(len(stream))]
    with serve(*pieces):
        data = run("--json", "subscribe", "2", "status", "--count", "2").data
    assert data["events"] == BOTH


def test_the_time_is_over(serve: Serve, run: Run) -> None:
    with serve(*recv(ONLINE)):
        data = run("--json", "subscribe", "2", "s", "--count", "3", "--timeout", "80ms").data
    assert data == {"events": BOTH[:1], "timeout": True}
    with serve():
        data = run("--json", "subscribe", "2", "s", "--count", "3", "--timeout", "0.05").data
    assert data == {"events": [], "timeout": True}


def test_the_time_covers_the_dial(serve: Serve, run: Run) -> None:
    with serve(dial=(Command.CLOSE_OK, b"\0\0\0\x09")):
        problem = run("--json", "subscribe", "2", "s", "--timeout", "80ms").problem
    assert problem["code"] == "timeout"


@pytest.mark.parametrize(
    "end", [ended(), (Extension.CLOSED, Closed(1, CloseReason.CLEAN, "").encode())]
)
def test_the_broker_leaves(serve: Serve, run: Run, end: Frame) -> None:
    """What came before counts, with the reason beside it; nothing at all is an error."""
    extended = end[0] == Extension.CLOSED
    with serve(*recv(ONLINE), end, extended=extended):
        data = run("--json", "subscribe", "2", "s", "--count", "2").data
    assert data == {"events": BOTH[:1], "timeout": False, "error": "EOF"}
    with serve(end, extended=extended):
        problem = run("--json", "subscribe", "2", "s", "--count", "2").problem
    assert problem == {"status": "error", "code": "connection_failed", "message": "recv: EOF"}


def test_a_subscriber_that_was_cut_off_is_told_so(serve: Serve, run: Run) -> None:
    reset = (Extension.CLOSED, Closed(1, CloseReason.RESET, "reset by peer").encode())
    with serve(reset, extended=True):
        problem = run("--json", "subscribe", "2", "s").problem
    assert problem["message"] == "recv: reset by peer"


def test_the_own_daemon_leaves(serve: Serve, run: Run) -> None:
    with serve(*recv(ONLINE)) as broker:
        leaving = threading.Thread(
            target=lambda: broker.subscribed.wait(PATIENCE) and broker.daemon.hang_up()
        )
        leaving.start()
        outcome = run("--json", "subscribe", "2", "s")
        leaving.join()
    assert outcome.status == 1
    assert json.loads(outcome.err)["code"] == "connection_failed"


def test_a_broker_that_sends_nonsense(serve: Serve, run: Run) -> None:
    bad = (Command.RECV, b"\0\0\0\1" + encode_event(*ONLINE) + b"\xff\xff")
    with serve(bad):
        data = run("--json", "subscribe", "2", "s", "--count", "2").data
    assert data["events"] == BOTH[:1]
    assert "topic too long" in data["error"]


# -- unbounded ---------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--json"], []])
def test_one_object_a_line(serve: Serve, run: Run, words: list[str]) -> None:
    """With --json, and without it wherever no person reads: `subscribe b status | jq .data`."""
    with serve(*recv(ONLINE, BUSY)):
        outcome = run(*words, "subscribe", "2", "status", "--timeout", "100ms")
    assert [json.loads(line) for line in outcome.out.splitlines()] == BOTH
    assert outcome.status == 0
    assert outcome.err.endswith("timeout\n") == (not words)


def test_other_bytes(serve: Serve, run: Run) -> None:
    with serve(*recv((b"\xff\xfe", b"<\x1b\xff>"))):
        outcome = run("--json", "subscribe", "2", "*", "--timeout", "100ms")
    assert json.loads(outcome.out) == {"topic": "\ufffd\ufffd", "data": "<\x1b\ufffd>", "bytes": 4}


@pytest.mark.parametrize("limit", ["0", "-5"])
def test_no_limit(serve: Serve, run: Run, limit: str) -> None:
    with serve(*recv(ONLINE)):
        outcome = run("--json", "subscribe", "2", "s", "--timeout", limit, "--count", "1")
    assert outcome.data == {"events": BOTH[:1], "timeout": False}


def test_events_and_then_the_end(serve: Serve, run: Run) -> None:
    with serve(*recv(ONLINE), ended()):
        outcome = run("--json", "subscribe", "2", "s")
    assert json.loads(outcome.out) == BOTH[0]
    assert json.loads(outcome.err)["message"] == "recv: EOF"
    assert outcome.status == 1


# -- prefixes ----------------------------------------------------------------------------------

MIXED = [
    (b"presence.status", b"1"),
    (b"other", b"2"),
    (b"presence.", b"3"),
    (b"presence.*", b"4"),
]


def test_a_prefix(serve: Serve, run: Run) -> None:
    """It subscribes to everything, shows what matches, and counts only that."""
    with serve(*recv(*MIXED)) as broker:
        data = run("--json", "subscribe", "2", "presence.*", "--count", "2").data
    assert [event["topic"] for event in data["events"]] == ["presence.status", "presence.*"]
    assert broker.heard == [(b"*", b'{"filter":["presence.*"],"v":1}')]


def test_what_a_broker_had_to_drop_is_told(serve: Serve, run: Run) -> None:
    notice = (DROPPED, Dropped(12, 3456).encode())
    with serve(*recv(notice, MIXED[0])):
        outcome = run("subscribe", "2", "presence.*", "--count", "1")
    assert "missed 12 events" in outcome.err
    assert json.loads(outcome.out)["dropped"] == 12


def test_without_a_prefix_a_notice_is_an_event(serve: Serve, run: Run) -> None:
    with serve(*recv((DROPPED, b"x"))):
        data = run("--json", "subscribe", "2", "*", "--count", "1").data
    assert data["events"][0]["topic"] == "$dropped"


@pytest.mark.parametrize(
    "words", [["publish", "2", "t", "--data", "x"], ["subscribe", "2", "t", "--count", "1"]]
)
def test_nothing_heavy_is_imported(serve: Serve, words: list[str]) -> None:
    with serve(*recv(ONLINE)):
        assert not imported("--json", *words) & HEAVY


# -- processes ---------------------------------------------------------------------------------


@contextlib.contextmanager
def started(*words: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A pilotctl process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pilot.ctl.main", *words],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        **{"stdout": subprocess.PIPE, **options},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def test_each_line_comes_at_once_and_an_interrupt_ends_it(serve: Serve) -> None:
    with serve(*recv(ONLINE)) as broker, started("subscribe", "2", "status") as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline()) == BOTH[0]
        broker.daemon.push(*recv(BUSY))
        assert json.loads(process.stdout.readline()) == BOTH[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == -signal.SIGINT
        assert b"Traceback" not in process.stderr.read()


def test_it_leaves_with_its_reader_though_nothing_is_published(serve: Serve) -> None:
    """As in `subscribe b status | head -1`: it does not wait for the next event to find out."""
    with serve(*recv(ONLINE)), started("subscribe", "2", "status") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE) == -signal.SIGPIPE
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="asks the proc file system")
def test_silence_costs_nothing(serve: Serve) -> None:
    """It sleeps until something comes."""
    with serve(*recv(ONLINE)), started("subscribe", "2", "status") as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1)
        before = switches(process.pid)
        time.sleep(0.5)
        assert switches(process.pid) - before <= 2


def switches(pid: int) -> int:
    """@return: how often a process has gone to sleep."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt"))


@pytest.mark.parametrize("bounds", [[], ["--count", "2"]])
def test_a_person_sees_lines(serve: Serve, bounds: list[str]) -> None:
    """On a terminal, at once, and harmless."""
    leader, follower = pty.openpty()
    with (
        serve(*recv(ONLINE, (b"od\x1bd", b"\x1b[2Jtwo\nlines"))),
        started("subscribe", "2", "status", *bounds, stdout=follower) as process,
    ):
        os.close(follower)
        shown = b""
        while b"lines" not in shown:
            shown += os.read(leader, 1000)
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    os.close(leader)
    assert shown.split(b"\r\n")[:3] == [b"[status] online", rb"[od\x1bd] \x1b[2Jtwo", b"lines"]


# -- the transcripts that have no recording of the socket --------------------------------------

_SUBSCRIBES = [
    entry
    for entry in ENTRIES
    if entry["id"].startswith("pubsub-")
    and "subscribe" in entry["args"]
    and "nosuch" not in entry["args"]
]
_JSON = [entry for entry in _SUBSCRIBES if "--json" in entry["args"]]
_PREFIXES = ("pubsub-009", "pubsub-020")


def sent_in(entry: Entry) -> list[Frame]:
    """@return: what must have been published for the output of a transcript, and its end."""
    events: list[dict[str, Any]] = []
    for line in entry["stdout"].splitlines():
        value = json.loads(line)
        events += value.get("data", {}).get("events") or [] if "status" in value else [value]
    frames = recv(*((each["topic"].encode(), each["data"].encode()) for each in events))
    if "EOF" in entry["stdout"] + entry["stderr"]:
        frames.append(ended())
    return frames


@pytest.mark.parametrize("entry", _JSON, ids=[entry["id"] for entry in _JSON])
def test_transcript(entry: Entry, serve: Serve, run: Run) -> None:
    """Streams, exit status, codes and data agree; those ended by a signal get a time limit."""
    words, interrupted = list(entry["args"]), entry["exit_code"] < 0
    if "--timeout" in words:
        words[words.index("--timeout") + 1] = "150ms"
    elif interrupted:
        words += ["--timeout", "150ms"]
    topic = words[words.index("subscribe") + 2]
    if topic.startswith("<1025 x "):
        words[words.index(topic)] = "L" * 1025
    with serve(*sent_in(entry)) as broker:
        outcome = run(*words)
    assert outcome.status == (0 if interrupted else entry["exit_code"])
    assert bool(outcome.err) == bool(entry["stderr"])
    if entry["stderr"]:
        assert json.loads(outcome.err)["code"] == json.loads(entry["stderr"])["code"]
        assert ("hint" in json.loads(outcome.err)) == ("hint" in json.loads(entry["stderr"]))
    ours, theirs = outcome.out.splitlines(), entry["stdout"].splitlines()
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert not differences(json.loads(other), json.loads(mine))
    if entry["id"] not in _PREFIXES and len(topic.encode()) <= 1024 and "1025" not in topic:
        assert broker.heard == [(topic.encode(), b"")]


def test_there_are_transcripts() -> None:
    assert len(_JSON) >= 10
