"""The service on port 1001 beyond the transcripts: durability, order, limits, hostile peers."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost

from pilot.address import Address
from pilot.services import arriving, shelf
from pilot.services.dataexchange import DataExchange, ExchangeLimits
from pilot.services.mailstore import MailLimits
from pilot.services.messagefile import read_inbox
from pilot.wire.dataexchange import MAX_PAYLOAD, Frame, encode_file_head
from tests.services.mail import NOON, PostOffice

BOB = Address(0, 2)
MIB = 1024 * 1024


@pytest.fixture
def post(tmp_path: Path) -> PostOffice:
    return PostOffice(tmp_path / ".pilot")


def text(content: str | bytes) -> bytes:
    return Frame(1, content.encode() if isinstance(content, str) else content).encode()


def file(name: bytes, content: bytes) -> bytes:
    return Frame(4, content, name).encode()


# -- what an answer promises -----------------------------------------------------------------------


def test_no_answer_before_the_disk_has_it(post: PostOffice) -> None:
    """Content first, then the name, then the answer."""
    post.workers.held = True
    peer = post.connect()
    peer.send(text("hello") + file(b"a.txt", b"content"))
    assert not peer.answers
    while post.workers.one():
        stored = post.names("inbox") + post.names("received")
        assert len(peer.answers) <= len(stored)
    assert peer.answers == ["ACK TEXT 5 bytes", "ACK FILE 7 bytes"]


def test_what_is_synced_before_the_answer(
    post: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(post.home)))

    post.connect().send(text("the directories are there"))
    post.connect().send(file(b"x", b""))
    monkeypatch.setattr(os, "fsync", fsync)
    post.connect().send(text("hello"))
    assert [name.rpartition("/")[0] or name for name in synced] == ["/spool", "/inbox"]
    synced.clear()
    post.connect().send(file(b"x", b"y"))
    assert [name.rpartition("/")[0] or name for name in synced] == ["/spool", "/received"]


def test_messages_of_one_millisecond_are_all_kept_in_order(post: PostOffice) -> None:
    peer = post.connect()
    for number in range(40):
        peer.send(Frame(1 + number % 3, b"%d" % number).encode())
    assert len(peer.answers) == 40
    messages = read_inbox(str(post.home / "inbox"))
    assert [message.fields["data"] for message in messages] == [str(n) for n in range(40)]


def test_files_of_one_name_and_millisecond_are_all_kept(post: PostOffice) -> None:
    for number in range(3):
        post.connect().send(file(b"a.txt", b"%d" % number))
    (first, *others) = post.names("received")
    assert {post.file(name) for name in (first, *others)} == {b"0", b"1", b"2"}
    assert first.endswith("-1.txt") and others[0].endswith("-2.txt")


def test_nothing_that_is_there_is_overwritten(post: PostOffice) -> None:
    """Not even what another program has put there under the very name."""
    post.connect().send(file(b"a.txt", b"first"))
    (name,) = post.names("received")
    (post.home / "received" / name).write_bytes(b"changed")
    post.connect().send(file(b"a.txt", b"second"))
    assert sorted(map(post.file, post.names("received"))) == [b"changed", b"second"]


def test_file_systems_without_links(post: PostOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    for content in (b"1", b"2"):
        post.connect().send(file(b"a", content) + text(content))
    assert sorted(map(post.file, post.names("received"))) == [b"1", b"2"]
    assert sorted(message["data"] for message in post.inbox) == ["1", "2"]
    assert not post.names("spool")


@pytest.mark.parametrize("size", [20, 70_000, 700_000])
def test_bytes_that_are_no_text_are_kept(post: PostOffice, size: int) -> None:
    """As the reference shows them, and once more without loss; however large the message is."""
    content = (b"caf\xe9 \xf0\x9f\x98\x80 <\0>\xff" * size)[:size]
    post.connect().send(Frame(2, content).encode())
    (message,) = post.inbox
    assert base64.b64decode(message["data_base64"]) == content
    assert message["bytes"] == size
    lossy = content.decode("utf-8", "surrogateescape")
    assert message["data"] == "".join("\ufffd" if "\udc80" <= c <= "\udcff" else c for c in lossy)


@given(content=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_message_can_be_read_back(content: bytes, tmp_path: Path) -> None:
    post = PostOffice(tmp_path / content.hex()[:40] / str(len(content)), MailLimits())
    post.connect().send(text(content))
    message = post.inbox[-1]
    kept = message.get("data_base64")
    assert content == (base64.b64decode(kept) if kept else message["data"].encode())


def test_large_messages_do_not_wait_in_memory(post: PostOffice) -> None:
    content = "ä".encode() * (3 * MIB)
    frame = Frame(3, content).encode()
    peer = post.connect()
    for at in range(0, len(frame), 65_535):
        peer.send(frame[at : at + 65_535])
    assert peer.answers == [f"ACK JSON {len(content)} bytes"]
    (message,) = post.inbox
    assert message["data"] == content.decode() and "data_base64" not in message
    assert post.events[-1][1]["size"] == len(content)


# -- transfers -------------------------------------------------------------------------------------


def test_large_files(post: PostOffice) -> None:
    """More than a reference node takes, in pieces, with a message behind."""
    size = 20 * MIB
    piece = bytes(range(256)) * 256
    peer = post.connect()
    peer.send(encode_file_head(b"large.bin", size))
    for _ in range(size // len(piece)):
        peer.send(piece)
    peer.send(text("behind"))
    assert peer.answers == [f"ACK FILE {size} bytes", "ACK TEXT 6 bytes"]
    (name,) = post.names("received")
    assert post.file(name) == piece * (size // len(piece))


def test_reading_stops_while_the_disk_is_behind(post: PostOffice) -> None:
    post.workers.held = True
    peer = post.connect()
    peer.send(encode_file_head(b"x", 3 * MIB))
    peer.send(bytes(MIB))
    assert peer.paused
    post.workers.one()  # it is open now
    assert peer.paused
    post.workers.one()  # and written
    assert not peer.paused
    for _ in range(2):
        peer.send(bytes(MIB))
        post.workers.one()
    assert peer.paused, "nothing more is read before it is stored"
    post.workers.all()
    assert not peer.paused and peer.answers == [f"ACK FILE {3 * MIB} bytes"]


def test_reading_stops_while_many_messages_wait(tmp_path: Path) -> None:
    post = PostOffice(tmp_path, exchange=ExchangeLimits(pending_frames=10))
    post.workers.held = True
    peer = post.connect()
    peer.send(text("x") * 100)
    assert peer.paused
    post.workers.all()
    assert len(peer.answers) == 100 and not peer.paused


def test_reading_stops_while_the_peer_takes_no_answers(post: PostOffice) -> None:
    peer = post.connect()
    peer.transport.full = True
    peer.send(text("x") * 100)
    taken = len(peer.answers)
    assert peer.paused and taken < 100
    peer.transport.full = False
    peer.protocol.resumeProducing()
    post.clock.advance(0)
    assert len(peer.answers) == 100 and not peer.paused


def test_a_flood_of_frames_leaves_others_their_turn(post: PostOffice) -> None:
    """What costs no disk is not taken all at once."""
    peer = post.connect()
    peer.send(Frame(9, b"").encode() * 1000)
    assert 0 < len(peer.answers) < 500
    for _ in range(10):
        post.clock.advance(0)
    assert peer.answers == ["ACK UNKNOWN(9) 0 bytes"] * 1000


@pytest.mark.parametrize("kind", [1, 4])
@pytest.mark.parametrize("end", ["half", "clean", "reset"])
def test_a_transfer_cut_off_leaves_nothing(post: PostOffice, kind: int, end: str) -> None:
    for held in (False, True):
        post.workers.held = held
        peer = post.connect()
        peer.send(Frame(kind, bytes(200_000), b"x" if kind == 4 else None).encode()[:-1])
        if end == "half":
            peer.half_close()
            assert peer.closed
        else:
            peer.lose(None if end == "clean" else ConnectionLost())
        post.workers.all()
        assert not post.names("spool") and not post.names("received") and not post.names("inbox")
    assert not post.clock.getDelayedCalls() or end == "half"


def test_write_and_leave(post: PostOffice) -> None:
    """What was sent completely is stored, though its sender is gone."""
    post.workers.held = True
    peer = post.connect()
    peer.send(text("one") * 300 + file(b"x", bytes(100)) + text("cut off")[:-1])
    peer.lose()
    post.workers.all()
    for _ in range(10):
        post.clock.advance(0)
        post.workers.all()
    assert len(post.inbox) == 300 and len(post.names("received")) == 1
    assert not post.names("spool") and not post.clock.getDelayedCalls()


def test_finish_and_listen(post: PostOffice) -> None:
    """A peer that has said everything still gets its answers."""
    post.workers.held = True
    peer = post.connect()
    peer.send(text("one") + text("two"))
    peer.half_close()
    assert not peer.closed
    post.workers.all()
    assert len(peer.answers) == 2 and peer.closed


@given(data=st.data())
def test_any_cut_any_pace(data: st.DataObject, tmp_path: Path) -> None:
    """However the stream is cut and the disk keeps up: the same answers in the same order."""
    post = PostOffice(tmp_path, exchange=ExchangeLimits(pending_frames=3, small_message=50))
    frames = data.draw(
        st.lists(
            st.builds(Frame, st.sampled_from([1, 2, 3, 7]), st.binary(max_size=120), st.none())
            | st.builds(Frame, st.just(4), st.binary(max_size=120), st.just(b"name")),
            max_size=12,
        )
    )
    stream = b"".join(frame.encode() for frame in frames)
    peer = post.connect()
    post.workers.held = True
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, 100))
        peer.send(stream[at : at + step])
        at += step
        for _ in range(data.draw(st.integers(0, 3))):
            post.workers.one()
    post.workers.all()
    names = {1: "TEXT", 2: "BINARY", 3: "JSON", 4: "FILE", 7: "UNKNOWN(7)"}
    assert peer.answers == [f"ACK {names[f.kind]} {len(f.payload)} bytes" for f in frames]
    peer.half_close()
    assert peer.closed


# -- what cannot be stored -------------------------------------------------------------------------


def test_a_full_inbox_says_so_and_has_room_again(tmp_path: Path) -> None:
    post = PostOffice(tmp_path, MailLimits(inbox_messages=2))
    peer = post.connect()
    peer.send(text("x") * 4)
    full = "ERR TEXT save failed: inbox is full: 2 messages"
    assert peer.answers == ["ACK TEXT 1 bytes"] * 2 + [full] * 2
    for path in (tmp_path / "inbox").iterdir():
        path.unlink()
    peer.send(text("y"))
    assert peer.answers[-1] == "ACK TEXT 1 bytes" and len(post.inbox) == 1
    assert post.factory.statistics["full"] == 2
    assert [name for name, _ in post.events] == ["message.received"] * 3


def test_what_others_put_there_counts(tmp_path: Path) -> None:
    (tmp_path / "received").mkdir()
    (tmp_path / "received" / "big").write_bytes(bytes(900))
    post = PostOffice(tmp_path, MailLimits(received_bytes=1000))
    peer = post.connect()
    peer.send(file(b"a", bytes(100)) + file(b"b", b"x"))
    assert peer.answers[0] == "ACK FILE 100 bytes"
    assert peer.answers[1].startswith("ERR FILE save failed: received is full: no room for 1")


def test_the_quota_counts_what_the_inbox_holds(tmp_path: Path) -> None:
    """A control character is six bytes there."""
    post = PostOffice(tmp_path, MailLimits(inbox_bytes=1000))
    peer = post.connect()
    peer.send(text(b"\1" * 200) + text(b"x" * 200))
    assert peer.answers[0].startswith("ERR TEXT save failed: inbox is full")
    assert peer.answers[1] == "ACK TEXT 200 bytes"
    assert not post.names("spool")


def test_a_file_too_large_is_refused_before_it_comes(tmp_path: Path) -> None:
    """At once; up to what any node may send the rest is skipped, and the connection goes on."""
    post = PostOffice(tmp_path, MailLimits(received_bytes=MIB))
    peer = post.connect()
    peer.send(encode_file_head(b"x", 2 * MIB))
    assert peer.answers[0].startswith("ERR FILE save failed: received is full: no room")
    peer.send(bytes(2 * MIB) + text("next"))
    assert peer.answers[1:] == ["ACK TEXT 4 bytes"] and not peer.closed


def test_a_huge_file_is_not_even_skipped(tmp_path: Path) -> None:
    post = PostOffice(tmp_path, MailLimits(received_bytes=MIB))
    peer = post.connect()
    peer.send(encode_file_head(b"x", 2 * MAX_PAYLOAD))
    assert len(peer.answers) == 1 and peer.closed
    peer.send(bytes(100))
    assert len(peer.answers) == 1


def test_announcements_reserve_nothing(tmp_path: Path) -> None:
    """A peer that only announces much keeps nobody else out."""
    post = PostOffice(tmp_path, MailLimits(received_bytes=MIB))
    for _ in range(10):
        post.connect(BOB).send(encode_file_head(b"x", MIB))
    peer = post.connect()
    peer.send(file(b"y", bytes(1000)))
    assert peer.answers == ["ACK FILE 1000 bytes"]


def test_a_quota_used_up_on_the_way(tmp_path: Path) -> None:
    post = PostOffice(tmp_path, MailLimits(received_bytes=MIB))
    first, second = post.connect(), post.connect()
    for peer in (first, second):
        peer.send(encode_file_head(b"x", 900_000))
        peer.send(bytes(500_000))
    for peer in (first, second):
        peer.send(bytes(400_000) + text("next"))
    answers = [first.answers, second.answers]
    assert sorted(each[0][:8] for each in answers) == ["ACK FILE", "ERR FILE"]
    assert [each[1] for each in answers] == ["ACK TEXT 4 bytes"] * 2
    assert len(post.names("received")) == 1 and not post.names("spool")


@pytest.mark.parametrize("step", ["write", "fsync", "link", "sync"])
@pytest.mark.parametrize("frame", [text("x"), text("x" * 100_000), file(b"f", b"x" * 100_000)])
def test_a_full_disk(
    post: PostOffice, monkeypatch: pytest.MonkeyPatch, step: str, frame: bytes
) -> None:
    """Whichever step fails: a clear answer, nothing left, and all is well when there is room."""
    post.connect().send(text("first") + file(b"first", b""))
    before = post.names("inbox"), post.names("received")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device", "/secret/path")

    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(arriving, "write_message", fail)
            patch.setattr(arriving.Arriving, "_count", fail)
        elif step == "sync":
            patch.setattr(shelf, "sync_directory", fail)
        else:
            patch.setattr(os, step, fail)
        peer = post.connect()
        peer.send(frame)
        (answer,) = peer.answers
        assert answer.startswith("ERR ") and answer.endswith("no space left on device")
        assert "/" not in answer
        assert (post.names("inbox"), post.names("received")) == before
        assert not post.names("spool") and post.factory.statistics["failed"] == 1
    peer.send(frame)
    assert peer.answers[-1].startswith("ACK ")


def test_a_mistake_of_ours_is_logged_and_answered(
    post: PostOffice, monkeypatch: pytest.MonkeyPatch, nothing_left_behind: list[Any]
) -> None:
    def fail(*args: Any) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(arriving, "stamp", fail)
    peer = post.connect()
    peer.send(text("x") + file(b"x", b"y"))
    assert peer.answers == [
        "ERR TEXT save failed: internal error",
        "ERR FILE save failed: internal error",
    ]
    assert not post.names("spool")
    assert len(nothing_left_behind) == 2
    nothing_left_behind.clear()


def test_directories_that_vanish_are_made_again(post: PostOffice) -> None:
    peer = post.connect()
    for _ in range(2):
        peer.send(text("x") + file(b"x", b"y"))
        for name in ("inbox", "received", "spool"):
            for path in (post.home / name).iterdir():
                path.unlink()
            (post.home / name).rmdir()
    assert [answer[:3] for answer in peer.answers] == ["ACK"] * 4


# -- peers that take their time --------------------------------------------------------------------


def test_half_a_frame_is_not_waited_for_for_ever(post: PostOffice) -> None:
    peer = post.connect()
    peer.send(text("done") + text("half")[:-1])
    post.clock.advance(59)
    assert not peer.closed
    post.clock.advance(2)
    assert peer.closed and peer.answers == ["ACK TEXT 4 bytes"]
    assert post.factory.statistics["timeouts"] == 1


def test_a_trickle_is_cut_off(post: PostOffice) -> None:
    """A byte now and then is progress, but too little."""
    peer = post.connect()
    peer.send(encode_file_head(b"x", 10_000))
    for _ in range(12):
        assert not peer.closed
        post.clock.advance(5)
        peer.send(b"x")
    post.clock.advance(5)
    assert peer.closed and not post.names("spool")


def test_a_slow_link_is_not(post: PostOffice) -> None:
    peer = post.connect()
    peer.send(encode_file_head(b"x", 1_000_000))
    for _ in range(250):
        post.clock.advance(2)
        peer.send(bytes(4000))
    assert peer.answers == ["ACK FILE 1000000 bytes"]


def test_our_disk_takes_as_long_as_it_takes(post: PostOffice) -> None:
    post.workers.held = True
    peer = post.connect()
    peer.send(file(b"x", bytes(1000)) + text("half")[:-1])
    post.clock.advance(3600)
    assert not peer.closed
    post.workers.all()
    assert peer.answers == ["ACK FILE 1000 bytes"]
    post.clock.advance(59)
    assert not peer.closed
    peer.send(text("half")[-1:])
    post.workers.all()
    assert peer.answers[-1] == "ACK TEXT 4 bytes"


def test_idle_connections_end_in_the_end(post: PostOffice) -> None:
    peer = post.connect()
    peer.send(text("x"))
    post.clock.advance(299)
    peer.send(text("x"))
    post.clock.advance(299)
    assert not peer.closed
    post.clock.advance(2)
    assert peer.closed and not post.factory.statistics["timeouts"]


def test_a_peer_that_takes_no_answers_is_cut_off(post: PostOffice) -> None:
    peer = post.connect()
    peer.transport.full = True
    peer.send(text("x"))
    post.clock.advance(61)
    assert peer.transport.aborted


def test_a_peer_that_does_not_say_goodbye(post: PostOffice) -> None:
    """Ours is said; the rest is forced."""
    peer = post.connect()
    peer.send(bytes.fromhex("00000001ffffffff"))
    assert peer.closed and not peer.transport.aborted
    post.clock.advance(61)
    assert peer.transport.aborted


def test_connections_are_limited(tmp_path: Path) -> None:
    post = PostOffice(tmp_path, exchange=ExchangeLimits(connections=5, connections_per_peer=3))
    mine = [post.connect() for _ in range(3)]
    address = mine[0].transport.getPeer()
    assert post.factory.buildProtocol(address) is None
    others = [post.connect(BOB) for _ in range(2)]
    assert post.factory.buildProtocol(others[0].transport.getPeer()) is None
    mine[0].lose()
    assert isinstance(post.factory.buildProtocol(address), DataExchange)
    assert post.factory.statistics["declined"] == 2


# -- start and stop --------------------------------------------------------------------------------


def test_what_a_crash_left_is_removed_at_the_start(post: PostOffice) -> None:
    peer = post.connect()
    peer.send(encode_file_head(b"x", 100))
    peer.send(b"half")
    (living,) = post.names("spool")
    (post.home / "spool" / "1-1.part").write_bytes(b"dead")
    (post.home / "spool" / "mine.txt").write_bytes(b"somebody's own")
    again = PostOffice(post.home)
    again.mailbox.startService()
    assert set(again.names("spool")) == {living, "mine.txt"}, "another daemon may be at work"
    peer.lose(ConnectionLost())
    assert post.names("spool") == ["mine.txt"]
    again.mailbox.stopService()


def test_a_start_without_a_disk_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    post = PostOffice(tmp_path)
    post.mailbox.startService()
    peer = post.connect()
    peer.send(text("x"))
    assert peer.answers == ["ERR TEXT save failed: write: not a directory"]


def test_the_stop_finishes_what_is_under_way(post: PostOffice) -> None:
    post.mailbox.startService()
    post.workers.held = True
    peer, other = post.connect(), post.connect()
    peer.send(text("x") + file(b"y", b"z"))
    other.send(encode_file_head(b"x", 100))
    done: list[None] = []
    post.mailbox.stopService().addCallback(done.append)
    assert done == [None] and len(peer.answers) == 2
    peer.send(text("late") + file(b"late", b""))
    stopping = "save failed: the node is stopping"
    assert peer.answers[2:] == [f"ERR TEXT {stopping}", f"ERR FILE {stopping}"]
    other.lose(ConnectionLost())
    assert not post.names("spool")


def test_names_tell_the_local_time(post: PostOffice) -> None:
    post.connect().send(text("x"))
    (message,) = post.inbox
    (name,) = post.names("inbox")
    stamp = message["received_at"][:19].replace("-", "").replace(":", "").replace("T", "-")
    assert name == f"TEXT-{stamp}.{NOON // 1_000_000 % 1000}.json"
    assert json.dumps(message)
