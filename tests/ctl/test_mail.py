"""C{send-message}, C{send-file}, C{inbox} and C{received}: transcripts, honesty, large files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot.ctl import mail
from pilot.ctl.console import Console
from pilot.services.messagefile import read_inbox
from pilot.wire.dataexchange import (
    Body,
    FrameReader,
    Head,
    encode_confirmation,
    encode_refusal,
)
from pilot.wire.ipc_extensions import Closed, CloseReason, Extension
from pilot.wire.ipcframes import MAX_SEND_DATA, Command
from tests.ctl.conftest import Outcome, Run
from tests.ctl.fakedaemon import FakeDaemon, Frame
from tests.ctl.test_startup import HEAVY, UNWANTED, imported
from tests.ctl.test_transcripts import check_json, check_text
from tests.ctl.transcripts import ENTRIES, Entry, Replay, uses_json

FILES = {
    "report.md": b"# hello\n",
    "a..b.txt": b"x",
    "empty.txt": b"",
    "noext": b"q",
    "r.txt": b"r",
}

HONEST = {
    "mail-007": "the type is checked before anybody is bothered",
    "mail-008": "the type is checked before anybody is bothered",
    "mail-022": "a name that receivers refuse is refused here",
    "mail-040": "larger files work",
    "mail-041": "larger files work",
    "mail-042": "what was not stored is an error",
    "mail-043": "what was not stored is an error",
}
"""Transcripts that do not hold; each has a test of its own below."""

ONE = b"\0\0\0\1"


def mail_transcripts(*verbs: str, ipc: bool) -> list[Any]:
    """@return: those of some commands, with or without a daemon."""
    found = []
    for entry in ENTRIES:
        if entry["id"] in HONEST or bool(entry.get("ipc")) != ipc:
            continue
        if entry["id"].startswith(("mail-", "trust-private-02")) and set(entry["args"]) & {*verbs}:
            found.append(pytest.param(entry, id=entry["id"]))
    return found


def joined(entry: Entry) -> Entry:
    """
    @return: the transcript with the data of each stream as one message either way, and without
        the ends of streams, for those of the run before are among them.
    """
    whole: dict[str, Entry] = {}
    messages = []
    for message in entry["ipc"]:
        kind = message["dir"] + message["cmd"]
        if kind == ">0x08":
            continue
        if kind in (">0x06", "<0x07"):
            if kind in whole:
                whole[kind]["hex"] += message["hex"][10:]
                continue
            message = whole[kind] = dict(message)
        messages.append(message)
    return {**entry, "ipc": messages}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "files"
    directory.mkdir()
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
    return directory


@pytest.mark.parametrize("entry", mail_transcripts("send-message", "send-file", ipc=True))
def test_sending_transcripts(
    entry: Entry, run: Run, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = Replay(joined(entry))
    with FakeDaemon(replay) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        outcome = run(*(word.replace("<DIR>", str(files)) for word in entry["args"]))
    assert not replay.surprises
    assert not replay.missing
    assert outcome.status == entry["exit_code"], outcome
    check = check_json if uses_json(entry) else check_text
    check(entry["stdout"].replace("<DIR>", str(files)), outcome.out)
    check(entry["stderr"].replace("<DIR>", str(files)), outcome.err)


# -- listing ---------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The node's files, by way of the environment."""
    directory = tmp_path / ".pilot"
    (directory / "inbox").mkdir(parents=True)
    (directory / "received").mkdir()
    return directory


RECORDED = [
    ("TEXT", "task complete"),
    ("TEXT", "task complete"),
    ("JSON", '{"result":42}'),
    ("JSON", '{"result":42}'),
    ("JSON", "{not json"),
    ("BINARY", "raw"),
    ("TEXT", 'x <y> & "z" é'),
]


def put(
    home: Path, kind: str, data: str, second: int = 0, part: str = "000", zone: str = "Z"
) -> None:
    """Store a message as some node does."""
    when = f"2026-11-20T16:00:{second:02d}"
    record = {"bytes": len(data.encode()), "data": data, "from": "0:0000.0000.0001"}
    stamp = when.replace("-", "").replace(":", "").replace("T", "-")
    (home / "inbox" / f"{kind}-{stamp}.{part}.json").write_text(
        json.dumps({**record, "received_at": when + zone, "type": kind})
    )


def fill(home: Path, reference: bool) -> None:
    """What the recordings show; listed by type, as the reference does, or as it came."""
    order = sorted(RECORDED, key=lambda each: each[0]) if reference else RECORDED
    for second, (kind, data) in enumerate(order):
        put(home, kind, data, second)
    for name, size in (("empty", 0), ("noext", 1), ("report", 8)):
        suffix = {"empty": ".txt", "noext": "", "report": ".md"}[name]
        for number in range(2 if name == "report" else 1):
            stored = home / "received" / f"{name}-20261120-16004{number}.744{suffix}"
            stored.write_bytes(bytes(size))


@pytest.mark.parametrize("entry", mail_transcripts("inbox", "received", ipc=False))
def test_listing_transcripts(entry: Entry, run: Run, home: Path) -> None:
    if entry["id"] in ("mail-025", "mail-026", "mail-027", "mail-028", "mail-029", "mail-033"):
        fill(home, reference=True)
    if entry["id"] == "mail-044":
        (home / "inbox").rmdir()
        (home / "inbox").write_text("in the way")
    words = [word for word in entry["args"] if word != "x"]  # a switch takes no other word here
    if len(words) < len(entry["args"]):
        words.remove("--clear")
    outcome = run(*words)
    assert outcome.status == entry["exit_code"], outcome
    stamp = "20261120-160040.744"
    expected = [
        entry[stream].replace("<HOME>", str(home.parent)).replace("<STAMP>", stamp)
        for stream in ("stdout", "stderr")
    ]
    expected[0] = expected[0].replace(f"report-{stamp}", "report-<STAMP>")
    check = check_json if uses_json(entry) else check_text
    check(expected[0], outcome.out)
    check(expected[1], outcome.err)


def test_switches(run: Run, home: Path) -> None:
    """C{flags-005} to C{flags-008}."""
    put(home, "TEXT", "x")
    for flag in ("--clear=0", "--clear=false"):
        assert run("--json", "inbox", flag).data["total"] == 1
    assert run("--json", "inbox", "--clear=yes").problem["code"] == "invalid_argument"
    assert run("--json", "inbox", "--clear=1").data["cleared"] == 1
    (home / "inbox").rmdir()
    assert run("--json", "inbox", "--clear=true").problem["code"] == "not_found"


def test_messages_stand_in_the_order_they_came(run: Run, home: Path) -> None:
    """Whatever their type; also in the hour that local time has twice."""
    fill(home, reference=False)
    put(home, "TEXT", "first", 1, "500", zone="+02:00")
    put(home, "JSON", "second", 0, "500", zone="+01:00")
    put(home, "TEXT", "last", 6, "000-10")
    put(home, "JSON", "last but one", 6, "000-9")
    (home / "inbox" / "by hand.json").write_text('{"data": "no time", "received_at": 7}')
    os.utime(home / "inbox" / "by hand.json", (0, 0))
    listed = [message["data"] for message in run("--json", "inbox").data["messages"]]
    recorded = [data for _, data in RECORDED]
    assert listed == ["no time", "first", "second", *recorded, "last but one", "last"]


def test_what_is_no_message_is_skipped(run: Run, home: Path) -> None:
    put(home, "TEXT", "x")
    (home / "inbox" / "a.json").write_text("[1]")
    (home / "inbox" / "b.json").write_text("{")
    (home / "inbox" / "c").mkdir()
    (home / "inbox" / "d").symlink_to("nowhere")
    os.mkfifo(home / "inbox" / "e")
    assert run("--json", "inbox").data["total"] == 1
    assert run("inbox", "--clear").out == "cleared 1 message(s)\n"
    assert len(list((home / "inbox").iterdir())) == 5


def test_json_messages_carry_what_they_say(run: Run, home: Path) -> None:
    """Whoever announces JSON, any value; else objects, so that typed numbers stay text."""
    for second, (kind, data) in enumerate(
        [("JSON", "[1]"), ("JSON", "nope"), ("TEXT", ' {"a": {"b": 1}}'), ("TEXT", "42")]
    ):
        put(home, kind, data, second)
    put(home, "TEXT", "{" * 100_000, 9)
    envelope = run("--json", "inbox").envelope
    payloads = [message.get("payload") for message in envelope["data"]["messages"]]
    assert payloads == [[1], None, {"a": {"b": 1}}, None, None]
    assert envelope["messages"] == envelope["data"]["messages"]


def test_received_shows_messages_to_programs(run: Run, home: Path) -> None:
    """Published examples look for them there."""
    put(home, "TEXT", '{"type":"gossip_push"}')
    envelope = run("--json", "received").envelope
    assert envelope["messages"][0]["payload"] == {"type": "gossip_push"}
    assert "messages" not in envelope["data"]
    (home / "inbox" / "x").write_text("")
    assert run("received").out.startswith("no received files\n")


def test_clearing_tells_what_is_gone(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what was read is deleted, and programs are shown it."""
    put(home, "JSON", '{"n":1}')

    def read_and_more_comes(directory: str) -> Any:
        messages = read_inbox(directory)
        put(home, "TEXT", "late", 1)
        return messages

    monkeypatch.setattr("pilot.services.messagefile.read_inbox", read_and_more_comes)
    data = run("--json", "inbox", "--clear").data
    assert data["cleared"] == 1 and data["messages"][0]["payload"] == {"n": 1}
    monkeypatch.undo()
    assert [message.fields["data"] for message in read_inbox(str(home / "inbox"))] == ["late"]


def test_long_and_strange_messages(run: Run, home: Path) -> None:
    """People see the beginning, in whole characters, and nothing that moves their cursor."""
    put(home, "TEXT", "é" * 81, 1)
    put(home, "TEXT", "a\x1b[2J\nb", 2)
    out = run("inbox").out
    assert "    " + "é" * 80 + "...\n" in out
    assert "    a\\x1b[2J\\nb\n" in out


def test_names_that_are_no_text(run: Run, home: Path) -> None:
    """Text cannot say where they are; base64 can."""
    with open(os.fsencode(home / "received") + b"/a\xff\x1bb", "wb"):
        pass
    (file,) = run("--json", "received").data["files"]
    assert file["name"] == "a\ufffd\x1bb"
    import base64

    assert base64.b64decode(file["path_base64"]).endswith(b"/received/a\xff\x1bb")
    assert "\\x1bb" in run("received").out


@pytest.mark.parametrize("words", [["inbox"], ["--json", "received"], ["received"]], ids=" ".join)
def test_listing_imports_little(words: list[str], home: Path) -> None:
    fill(home, reference=False)
    assert not imported(*words) & (HEAVY | UNWANTED)


def test_sending_imports_nothing_heavy(with_daemon: Callable[..., Any]) -> None:
    with_daemon(Receiver())
    assert not imported("send-message", "2", "--data", "x") & HEAVY


# -- sending ---------------------------------------------------------------------------------------


class Receiver:
    """
    A daemon whose every peer takes mail.

    @ivar frames: what came: head and content.
    @ivar segments: size of each piece the daemon was given.
    """

    def __init__(
        self, answer: Callable[[Head], list[Frame]] | None = None, early: bool = False
    ) -> None:
        self._answer = answer or (lambda head: [say(encode_confirmation(head.kind, head.size))])
        self._early = early
        self._reader = FrameReader()
        self.frames: list[tuple[Head, bytes]] = []
        self.segments: list[int] = []

    def __call__(self, command: int, payload: bytes) -> list[Frame]:
        if command == Extension.HELLO:
            return [(Extension.HELLO_OK, payload)]
        if command == Command.DIAL:
            return [(Command.DIAL_OK, ONE)]
        if command != Command.SEND:
            return []
        self.segments.append(len(payload) - 4)
        self._reader.feed(payload[4:])
        answers = []
        while (item := self._reader.next()) is not None:
            if isinstance(item, Head):
                self.frames.append((item, b""))
                if self._early:
                    answers += self._answer(item)
                continue
            assert isinstance(item, Body)
            head, content = self.frames[-1]
            self.frames[-1] = head, content + item.data
            if item.last and not self._early:
                answers += self._answer(head)
        return answers


def say(data: bytes) -> Frame:
    """@return: what the peer sends."""
    return Command.RECV, ONE + data


@pytest.fixture
def with_daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    daemons = []

    def start(answers: Any) -> Any:
        daemon = FakeDaemon(answers).__enter__()
        daemons.append(daemon)
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        return answers

    yield start
    for daemon in daemons:
        daemon.__exit__()


@pytest.mark.parametrize("size", [1_048_561, 1_048_562, 1_048_563, 3_145_728, 20_000_000])
def test_files_of_any_size(
    size: int, run: Run, tmp_path: Path, with_daemon: Callable[..., Any]
) -> None:
    """C{mail-038} to C{mail-041}, and larger than any reference node takes."""
    content = os.urandom(1000) * (size // 1000) + b"x" * (size % 1000)
    (tmp_path / "big.bin").write_bytes(content)
    receiver = with_daemon(Receiver())
    data = run("--json", "send-file", "2", str(tmp_path / "big.bin")).data
    assert data == {
        "filename": "big.bin",
        "bytes": size,
        "destination": "0:0000.0000.0002",
        "ack": f"ACK FILE {size} bytes",
    }
    ((head, sent),) = receiver.frames
    assert head == Head(4, size, b"big.bin") and sent == content
    assert max(receiver.segments) <= MAX_SEND_DATA


def test_a_message_leaves_as_one_piece(run: Run, with_daemon: Callable[..., Any]) -> None:
    receiver = with_daemon(Receiver())
    assert run("send-message", "2", "--data", "hello").status == 0
    assert receiver.segments == [13]


def test_bytes_of_the_command_line_go_as_they_are(
    run: Run, with_daemon: Callable[..., Any]
) -> None:
    receiver = with_daemon(Receiver())
    outcome = run("--json", "send-message", "2", "--data", "a\udcff", "--type", "binary")
    assert outcome.data["bytes"] == 2
    assert receiver.frames == [(Head(2, 2, None), b"a\xff")]


@pytest.mark.parametrize("command", ["send-message", "send-file"])
def test_a_refusal_is_an_error(
    command: str, run: Run, files: Path, with_daemon: Callable[..., Any]
) -> None:
    """C{mail-042} and C{mail-043}: the reference reports success."""
    with_daemon(Receiver(lambda head: [say(encode_refusal(head.kind, "inbox is full"))]))
    words = [str(files / "r.txt")] if command == "send-file" else ["--data", "x"]
    problem = run("--json", command, "2", *words).problem
    assert problem["code"] == "connection_failed"
    assert problem["message"] == "0:0000.0000.0002 did not store it: inbox is full"


@pytest.mark.parametrize(
    "answer, reason",
    [
        ([(Command.CLOSE_OK, ONE)], "the receiver ended the connection"),
        ([say(b"\0\0\0\1\0\0\0\5AC"), (Command.CLOSE_OK, ONE)], "the receiver ended"),
        ([say(b"\0\0\0\1\xff\0\0\0")], "frame too large"),
        ([(Extension.CLOSED, Closed(1, CloseReason.RESET, "reset").encode())], "reset"),
    ],
)
def test_no_answer_is_an_error(
    answer: list[Frame], reason: str, run: Run, with_daemon: Callable[..., Any]
) -> None:
    with_daemon(Receiver(lambda head: answer))
    problem = run("--json", "send-message", "2", "--data", "x").problem
    assert problem["code"] == "connection_failed"
    assert problem["message"].startswith(f"0:0000.0000.0002 did not confirm: {reason}")
    assert problem["hint"] == "it may have been stored or not"


def test_an_answer_to_something_else_is_an_error(run: Run, with_daemon: Callable[..., Any]) -> None:
    with_daemon(Receiver(lambda head: [say(encode_confirmation(1, 7))]))
    problem = run("--json", "send-message", "2", "--data", "x").problem
    assert problem["message"].endswith("confirmed something else: ACK TEXT 7 bytes")


def test_silence_is_an_error(
    run: Run, with_daemon: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "MESSAGE_PATIENCE", 0.05)
    with_daemon(Receiver(lambda head: []))
    problem = run("--json", "send-message", "2", "--data", "x").problem
    assert problem["code"] == "timeout"
    with_daemon(lambda command, payload: [(0x41, payload)] if command == 0x40 else [])
    problem = run("--json", "send-message", "2", "--data", "x").problem
    assert problem["code"] == "timeout" and problem["hint"].endswith("ping 0:0000.0000.0002")


def test_a_file_refused_early_is_not_sent_to_its_end(
    run: Run, tmp_path: Path, with_daemon: Callable[..., Any]
) -> None:
    """The receiver says at once that it has no room."""
    with open(tmp_path / "big.bin", "wb") as file:
        file.truncate(1 << 31)
    refusal = encode_refusal(4, "received is full")
    receiver = with_daemon(
        Receiver(lambda head: [say(refusal), (Extension.FINISH, ONE)], early=True)
    )
    problem = run("--json", "send-file", "2", str(tmp_path / "big.bin")).problem
    assert problem["message"].endswith("did not store it: received is full")
    assert sum(receiver.segments) < 1 << 27


def test_a_reference_node_that_takes_no_large_files(
    run: Run, tmp_path: Path, with_daemon: Callable[..., Any]
) -> None:
    with open(tmp_path / "big.bin", "wb") as file:
        file.truncate(1 << 30)
    with_daemon(Receiver(lambda head: [(Command.CLOSE_OK, ONE)], early=True))
    problem = run("--json", "send-file", "2", str(tmp_path / "big.bin")).problem
    assert problem["hint"].startswith("not all of it was sent, so it was not stored; reference")


def test_a_file_that_becomes_shorter(
    run: Run, tmp_path: Path, with_daemon: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver must not take what follows for the rest of it."""
    (tmp_path / "log").write_bytes(bytes(1000))
    plain = os.fstat

    def longer(descriptor: int) -> os.stat_result:
        status = plain(descriptor)
        return os.stat_result((*status[:6], status.st_size + 10, *status[7:10]))

    receiver = with_daemon(Receiver())
    monkeypatch.setattr("pilot.ctl.mail.os.fstat", longer)
    outcome = run("--json", "send-file", "2", str(tmp_path / "log"))
    monkeypatch.undo()
    assert "became shorter" in outcome.problem["message"] and outcome.problem["code"] == "internal"
    assert len(receiver.frames) <= 1


def test_names_that_receivers_refuse(
    run: Run, files: Path, with_daemon: Callable[..., Any]
) -> None:
    """C{mail-022}; nobody is bothered with them."""
    (files / "a\\b").write_bytes(b"")
    receiver = with_daemon(Receiver())
    for name in ("a..b.txt", "a\\b"):
        problem = run("--json", "send-file", "2", str(files / name)).problem
        assert problem["code"] == "invalid_argument" and "file name" in problem["message"]
    assert not receiver.segments


def test_names_that_are_no_text_are_sent(
    run: Run, files: Path, with_daemon: Callable[..., Any]
) -> None:
    path = os.fsencode(files) + b"/a\xff"
    with open(path, "wb"):
        pass
    receiver = with_daemon(Receiver())
    assert run("send-file", "2", os.fsdecode(path)).status == 0
    assert receiver.frames[0][0].name == b"a\xff"


def test_what_is_no_plain_file(run: Run, files: Path, with_daemon: Callable[..., Any]) -> None:
    """A pipe would be waited for, a device never ends."""
    with_daemon(Receiver())
    os.mkfifo(files / "pipe")
    for path in (str(files / "pipe"), "/dev/zero", "a\0b"):
        assert run("--json", "send-file", "2", path).problem["code"] == "internal"


def test_unknown_types_bother_nobody(run: Run, with_daemon: Callable[..., Any]) -> None:
    """C{mail-007} and C{mail-008}."""
    with_daemon(lambda command, payload: [])
    problem = run("--json", "send-message", "2", "--data", "x", "--type", "xml").problem
    assert problem["code"] == "invalid_argument"
    assert problem["message"] == 'unknown type "xml" (use text, json, or binary)'


def test_progress_on_a_terminal(
    run: Run, tmp_path: Path, with_daemon: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, redrawn and removed in the end; programs and pipes see none of it."""
    (tmp_path / "big.bin").write_bytes(bytes(8_000_000))
    receiver = Receiver()

    def slowly(command: int, payload: bytes) -> list[Frame]:
        if command == Command.SEND:
            time.sleep(0.005)
        return receiver(command, payload)

    with_daemon(slowly)
    monkeypatch.setattr(Console, "shows_progress", True)
    monkeypatch.setattr(mail, "REDRAW", 0.001)
    outcome: Outcome = run("send-file", "2", str(tmp_path / "big.bin"))
    assert outcome.status == 0 and "of 7.6 MB, " in outcome.err
    assert "[####" in outcome.err and outcome.err.endswith("\r\x1b[K")
    monkeypatch.undo()
    with_daemon(slowly)
    assert run("send-file", "2", str(tmp_path / "big.bin")).err == ""
