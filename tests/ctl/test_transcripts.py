"""Every golden transcript of the commands that exist, replayed against a scripted daemon."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from pilot.ctl import reach
from pilot.ctl.table import COMMANDS
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon
from tests.ctl.transcripts import ENTRIES, Entry, Replay, differences, pattern, uses_json, verb

NAMES = {command.name for command in COMMANDS}


class Deviation(NamedTuple):
    """
    Where we do not do what the reference did, on purpose.

    @ivar reason: why.
    @ivar status: our exit status, where it is another one.
    @ivar whole: whether nothing of the transcript holds, so that other tests cover the case.
    """

    reason: str
    status: int | None = None
    whole: bool = False


UNREACHED = Deviation("nothing came back, so the exit status says so", status=1)
MISALIGNED = Deviation("the reference's table is misaligned", whole=True)
FAITHFUL = Deviation("input is sent as it is, not as lines", whole=True)

DEVIATIONS = {
    **dict.fromkeys(
        ("reach-009", "reach-010", "reach-011", "reach-012", "reach-019", "reach-020"), UNREACHED
    ),
    **dict.fromkeys(("reach-039", "reach-040", "reach-046"), UNREACHED),
    **dict.fromkeys(("trust-private-013", "trust-private-028", "trust-private-029"), UNREACHED),
    **dict.fromkeys(("flags-010", "flags-014", "networks-031"), UNREACHED),
    **dict.fromkeys(("reach-013", "reach-014"), Deviation("self is the own node", whole=True)),
    **dict.fromkeys(("reach-033", "reach-035", "reach-049", "reach-051"), MISALIGNED),
    **dict.fromkeys(("stream-003", "stream-004", "stream-005"), FAITHFUL),
    "stream-027": Deviation("a flag without its value is an error", whole=True),
    **dict.fromkeys(("pubsub-030", "pubsub-031"), Deviation("self is the own node", whole=True)),
    "flags-001": Deviation("a flag without its value is an error", whole=True),
    "dead-peer-002": Deviation("the time limit covers the dial", whole=True),
    "dead-peer-003": Deviation("the time limit covers the dial", whole=True),
    "top-level-041": Deviation("asks a registry; no deviation, tested with one", whole=True),
    **dict.fromkeys(
        ("trust-private-022", "trust-private-023"),
        Deviation("sends a file; no deviation, tested with one", whole=True),
    ),
    "top-level-005": Deviation("--help explains", whole=True),
    **dict.fromkeys(("top-level-006", "top-level-007"), Deviation("our own version", whole=True)),
    **dict.fromkeys(
        ("identity-062", "identity-063"), Deviation("what is refused is not saved", whole=True)
    ),
    **dict.fromkeys(("top-level-008", "top-level-009"), Deviation("lists ours", whole=True)),
    **dict.fromkeys(
        (f"missing-or-bad-arguments-no-daemon-{number}" for number in range(151, 155)),
        Deviation("broadcast is available", whole=True),
    ),
    "missing-or-bad-arguments-no-daemon-113": Deviation("names one flag more", whole=True),
    "missing-or-bad-arguments-no-daemon-129": Deviation("names the flags that work", whole=True),
    **dict.fromkeys(
        ("trust-private-024", "trust-private-025", "reach-045"),
        Deviation("the daemon submits; the same outcome, tested with one", whole=True),
    ),
    "networks-022": Deviation("no blanks at the end of lines", whole=True),
    "networks-038": Deviation("the reference's table lacks the time", whole=True),
    "networks-043": Deviation("recorded without its answer", whole=True),
}

SLOW_TO_QUICK = {"1": "60ms", "1s": "60ms", "1500ms": "80ms", "0.5": "0.06", "2s": "80ms"}
"""Time limits that run out in a transcript; nothing else depends on their length."""

SESSIONS = ("init-config", "daemon-lifecycle", "registry-", "mail-", "tasks-")
"""Groups that need state of their own, tested elsewhere."""


def replayable(entry: Entry) -> bool:
    """@return: whether the transcript stands for itself."""
    name = verb(entry)
    if entry["id"].startswith(SESSIONS) or name.startswith("daemon"):
        return False
    if DEVIATIONS.get(entry["id"], UNREACHED).whole:
        return False
    if name not in NAMES:
        return not name or name == "nosuch"
    return bool(entry.get("ipc")) or entry["id"].startswith(WITHOUT_DAEMON)


WITHOUT_DAEMON = ("missing-", "top-level", "daemon-not-running")
"""Groups recorded without a daemon."""

CASES = [entry for entry in ENTRIES if replayable(entry)]


@pytest.mark.parametrize("entry", CASES, ids=[entry["id"] for entry in CASES])
def test_transcript(entry: Entry, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status, streams, error codes, hints, data and the messages on the socket agree."""
    monkeypatch.setattr(reach, "INTERVAL", 0.0)
    words = list(entry["args"])
    for at, word in enumerate(words[:-1], 1):
        if word == "--timeout":
            words[at] = SLOW_TO_QUICK.get(words[at], words[at])
    stdin = entry["stdin"].encode() if "stdin" in entry else None
    replay = Replay(entry)
    if not entry.get("ipc"):
        monkeypatch.setenv("PILOT_SOCKET", "/nonexistent/socket")
        outcome = run(*words, stdin=stdin)
    else:
        with FakeDaemon(replay) as daemon:
            monkeypatch.setenv("PILOT_SOCKET", daemon.path)
            outcome = run(*words, stdin=stdin)
        assert not replay.surprises
        assert not replay.missing
    deviation = DEVIATIONS.get(entry["id"], Deviation(""))
    status = entry["exit_code"] if deviation.status is None else deviation.status
    assert outcome.status == status, outcome
    if uses_json(entry):
        check_json(entry["stdout"], outcome.out)
        check_json(entry["stderr"], outcome.err)
    else:
        check_text(entry["stdout"], outcome.out)
        check_text(entry["stderr"], outcome.err)


def check_json(expected: str, actual: str) -> None:
    """Compare lines of JSON: of an error its code and whether it has a hint, else all."""
    if expected == "<USAGE>\n":
        assert actual.startswith("usage: ")
        return
    assert len(actual.splitlines()) == len(expected.splitlines())
    for wanted, got in zip(expected.splitlines(), actual.splitlines(), strict=True):
        one, other = json.loads(wanted), json.loads(got)
        if one.get("status") == "error":
            assert other["status"] == "error" and other["code"] == one["code"]
            assert ("hint" in one) == ("hint" in other)
            assert other["message"]
        else:
            assert not differences(one, other)


def check_text(expected: str, actual: str) -> None:
    """Compare text for people: errors by their presence, the rest word for word."""
    if "<USAGE>" in expected:
        assert "usage: " in actual
        assert actual.splitlines()[0] == expected.splitlines()[0] or expected.startswith("<USAGE>")
        return
    assert len(actual.splitlines()) == len(expected.splitlines()), actual
    for wanted, got in zip(expected.splitlines(), actual.splitlines(), strict=True):
        if wanted.startswith("error: ") and not wanted.startswith("error: usage"):
            assert got.startswith("error: ")
        elif wanted.startswith("hint:  "):
            assert got.startswith("hint:  ")
        else:
            assert pattern(wanted).fullmatch(got), (wanted, got)


def test_every_deviation_is_of_a_transcript() -> None:
    """The list of deviations names transcripts that exist."""
    assert DEVIATIONS.keys() <= {entry["id"] for entry in ENTRIES}


def test_most_transcripts_are_replayed() -> None:
    """The selection has not silently become empty."""
    assert len(CASES) > 300
