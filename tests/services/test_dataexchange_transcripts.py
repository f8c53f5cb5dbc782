"""What the reference does on port 1001, case by case."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.golden import golden
from tests.services.mail import PostOffice

CASES = [case for case in golden("services_transcripts")["data_exchange"] if "sent_hex" in case]

BETTER = {
    "file_nul": "ACK FILE 1 bytes",
    "file_newline": "ACK FILE 1 bytes",
    "file_236": "ACK FILE 2 bytes",
    "file_255": "ACK FILE 2 bytes",
    "binary": "ACK BINARY 5 bytes",
    "text_invalid_utf8": "ACK TEXT 13 bytes",
    "save_failure_text": "ERR TEXT save failed: mkdir: not a directory",
}
"""Where we store what the reference refuses or damages, or say less of ourselves: our answer."""


@pytest.fixture
def india(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The time zone of the recordings."""
    monkeypatch.setenv("TZ", "<+0530>-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def moment(case: dict[str, Any]) -> int:
    """@return: when it happened, by the name of its file, in nanoseconds."""
    for file in case["files"]:
        if match := re.search(r"(\d{8}-\d{6})\.(\d{3})", file["path"]):
            when = datetime.strptime(match[1] + "+0530", "%Y%m%d-%H%M%S%z")
            return (int(when.timestamp()) * 1000 + int(match[2])) * 1_000_000 + 999_999
    return 1_795_190_436_000_000_000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_case(case: dict[str, Any], tmp_path: Path, india: None) -> None:
    home = tmp_path / ".pilot"
    post = PostOffice(home)
    post.wall = moment(case)
    home.mkdir(mode=0o700)
    if "setup" in case:
        (home / "inbox").write_text("in the way")
    peer = post.connect()
    peer.send(bytes.fromhex(case["sent_hex"]))
    if case.get("then") == "sender closes":
        peer.half_close()
    if case["case"] in BETTER:
        assert peer.answers == [BETTER[case["case"]]]
    else:
        assert peer.raw.hex() == case["reply_hex"]
    assert peer.closed == (case.get("connection_after", "closed") != "open")
    if case["case"] == "save_failure_text":
        return
    assert not post.names("spool")
    kept = {path: path.read_bytes() for path in home.glob("[ir]*/*")}
    assert {path.stat().st_mode & 0o777 for path in kept} <= {0o600}
    assert {path.stat().st_mode & 0o777 for path in (home, *home.iterdir()) if path.is_dir()} <= {
        0o700
    }
    if case["case"] in BETTER and not case["files"]:
        assert len(kept) == 1
        return
    expected = {}
    for file in case["files"]:
        name = file["path"].removeprefix(".pilot/").replace("\\udcff", "\udcff")
        name = name.replace("a\nb", "a%0Ab")
        if case["case"] == "two_frames_one_write":
            name = name.replace(".976", ".975-1")  # the clock stands still here
        expected[home / name] = file["content_text"].encode()
    if case["case"] in BETTER and "file" not in case["case"]:
        assert kept.keys() == expected.keys()
    else:
        assert kept == expected
    hooks = []
    for hook in case["webhook"]:
        data = dict(hook["data"])
        if "path" in data:
            data["path"] = data["path"].replace("<HOME>", str(tmp_path)).replace("a\nb", "a%0Ab")
        hooks.append((hook["event"], data))
    assert post.events == hooks


def test_good_frames_before_a_bad_one(tmp_path: Path) -> None:
    """Also when the disk takes its time: first the answer, then the end."""
    case = next(case for case in CASES if case["case"] == "good_then_bad")
    post = PostOffice(tmp_path)
    post.workers.held = True
    peer = post.connect()
    peer.send(bytes.fromhex(case["sent_hex"]))
    assert not peer.closed and not peer.answers
    post.workers.all()
    assert peer.answers == ["ACK TEXT 2 bytes"] and peer.closed
    assert [message["data"] for message in post.inbox] == ["ok"]
