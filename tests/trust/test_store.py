"""trust.json: the reference's format, ours beside it, and what becomes of a broken one."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import globalLogPublisher

from pilot.trust.records import Errand, Pending, Record, Requested, Revoked, Step, Trusted, ordered
from pilot.trust.store import Book, TrustNotSaved, TrustStore, TrustUnreadable, decode, encode

RECORDS: dict[int, Record] = {
    2: Trusted("Kay6=", 1775037600.0, True, 1),
    3: Trusted("", 1775037601.0, False),
    7: Pending("key=", "<why> & €", 1775037600.0),
    8: Requested(1775037605.0, "let me in", True),
    9: Revoked(1775037606.0, by_user=False),
}
ERRANDS = {9: Errand(9, (Step.REVOKE, Step.UNPAIR), "", 1775037606.0)}


@pytest.fixture(params=("UTC0", "CET-1", "NST+3:30"))
def timezone(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_format_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two spaces, no newline at the end, fields in its order, zero values left out as it does."""
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    known = {n: r for n, r in RECORDS.items() if isinstance(r, Trusted | Pending)}
    assert encode(known, {}).decode() == (
        "{\n"
        '  "trusted": [\n'
        "    {\n"
        '      "node_id": 2,\n'
        '      "public_key": "Kay6=",\n'
        '      "approved_at": "2026-04-01T10:00:00Z",\n'
        '      "mutual": true,\n'
        '      "network": 1\n'
        "    },\n"
        "    {\n"
        '      "node_id": 3,\n'
        '      "public_key": "",\n'
        '      "approved_at": "2026-04-01T10:00:01Z",\n'
        '      "mutual": false\n'
        "    }\n"
        "  ],\n"
        '  "pending": [\n'
        "    {\n"
        '      "node_id": 7,\n'
        '      "public_key": "key=",\n'
        '      "justification": "\\u003cwhy\\u003e \\u0026 €",\n'
        '      "received_at": "2026-04-01T10:00:00Z"\n'
        "    }\n"
        "  ]\n"
        "}"
    )


def test_empty_is_null() -> None:
    assert encode({}, {}) == b'{\n  "trusted": null\n}'


def test_empty_texts_of_a_pending_entry_are_left_out() -> None:
    [entry] = json.loads(encode({7: Pending("", "", 0.0)}, {}))["pending"]
    assert set(entry) == {"node_id", "received_at"}


def test_times_have_the_local_offset(timezone: str) -> None:
    text = json.loads(encode(RECORDS, {}))["trusted"][0]["approved_at"]
    assert (
        text
        == {
            "UTC0": "2026-04-01T10:00:00Z",
            "CET-1": "2026-04-01T11:00:00+01:00",
            "NST+3:30": "2026-04-01T06:30:00-03:30",
        }[timezone]
    )
    assert decode(encode(RECORDS, ERRANDS)) == (Book(RECORDS, ERRANDS), [])


def test_a_file_of_the_reference_is_read() -> None:
    """With a pending entry for a peer that is trusted by now, which the reference leaves behind."""
    book, faults = decode(
        b'{"trusted":[{"node_id":2,"public_key":"K","approved_at":"2026-04-01T10:00:00Z",'
        b'"mutual":true,"network":1}],"pending":[{"node_id":7,"received_at":'
        b'"2026-04-01T10:00:00+02:00"},{"node_id":2,"received_at":"2026-04-01T09:00:00Z"}]}'
    )
    assert faults == []
    assert book.records == {
        2: Trusted("K", 1775037600.0, True, 1),
        7: Pending("", "", 1775030400.0),
    }


@pytest.mark.parametrize("text", ("", "yesterday", "2026-13-01T10:00:00Z", "2026-04-01 10:00:00"))
def test_a_time_nobody_can_read_is_long_ago(text: str) -> None:
    data = json.dumps({"trusted": [{"node_id": 2, "approved_at": text}]}).encode()
    book, faults = decode(data)
    assert (book.records[2], faults) == (Trusted("", 0.0, False), [])


def test_saving_and_loading(tmp_path: Path) -> None:
    store = TrustStore(tmp_path / "trust.json")
    assert store.load() == Book({}, {})
    store.save(RECORDS, ERRANDS)
    assert TrustStore(str(tmp_path / "trust.json")).load() == Book(RECORDS, ERRANDS)
    assert stat.S_IMODE(os.stat(tmp_path / "trust.json").st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["trust.json"]


def test_without_a_path_nothing_is_kept(tmp_path: Path) -> None:
    store = TrustStore(None)
    store.save(RECORDS, {})
    assert store.load() == Book({}, {})


@pytest.fixture
def complaints() -> Iterator[list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_level"].name == "critical":
            found.append(event)

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize(
    "data",
    (
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"trusted": {}}',
        b'{"trusted": [5]}',
        b'{"trusted": [{"node_id": "2"}]}',
        b'{"trusted": [{"node_id": -1}]}',
        b'{"trusted": [{"node_id": true}]}',
        b'{"trusted": [{"node_id": 2, "mutual": "yes"}]}',
        b'{"trusted": null, "pending": [{"node_id": 2, "justification": 7}]}',
        b'{"trusted": null, "owed": [{"node_id": 2, "steps": ["dance"]}]}',
        b'{"trusted": null, "owed": [{"node_id": 2, "steps": [["ask"]]}]}',
        b"\x00" * 100,
        b"[" * 100000,
    ),
)
def test_a_corrupt_file_is_moved_aside_and_cried_about(
    tmp_path: Path, complaints: list[dict[str, Any]], data: bytes
) -> None:
    """Never overwritten: it may be all that is left of the user's trust."""
    path = tmp_path / "trust.json"
    (tmp_path / "trust.json.corrupt-1").write_bytes(b"an earlier one")
    path.write_bytes(data)
    store = TrustStore(path)
    assert store.load() == Book({}, {})
    assert (tmp_path / "trust.json.corrupt-2").read_bytes() == data
    assert (tmp_path / "trust.json.corrupt-1").read_bytes() == b"an earlier one"
    assert not path.exists()
    assert complaints[0]["aside"].endswith("corrupt-2")
    store.save(RECORDS, {})
    assert TrustStore(path).load().records == RECORDS


def test_what_is_sound_in_a_corrupt_file_is_kept(
    tmp_path: Path, complaints: list[dict[str, Any]]
) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(b'{"trusted": [{"node_id": 2, "public_key": "K"}, {"node_id": []}]}')
    assert TrustStore(path).load().records == {2: Trusted("K", 0.0, False)}
    assert complaints[0]["kept"] == 1
    assert TrustStore(path).load().records == {2: Trusted("K", 0.0, False)}
    assert len(complaints) == 1


def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "trust.json").mkdir()
    with pytest.raises(TrustUnreadable, match=r"cannot read .*trust\.json"):
        TrustStore(tmp_path / "trust.json").load()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    TrustStore(path).save(RECORDS, {})
    before = path.read_bytes()

    def full(path: Path, data: bytes, mode: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(TrustNotSaved) as caught:
        TrustStore(path, write=full).save({}, {})
    assert caught.value.message == "trust not saved: No space left on device"
    assert str(tmp_path) in (caught.value.hint or "")
    assert path.read_bytes() == before


@given(st.binary(max_size=200))
def test_any_bytes_are_a_book_or_a_fault(data: bytes) -> None:
    book, faults = decode(data)
    assert faults or data.strip() or not book.records


_times = st.integers(0, 4_000_000_000).map(float)
_texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
_records = st.one_of(
    st.builds(Trusted, _texts, _times, st.booleans(), st.integers(0, 65535)),
    st.builds(Pending, _texts, _texts, _times),
    st.builds(Requested, _times, _texts, st.booleans()),
    st.builds(Revoked, _times, st.booleans()),
)
_node_ids = st.integers(0, 2**32 - 1)
_errands = st.builds(
    Errand, st.just(0), st.sets(st.sampled_from(Step)).map(ordered), _texts, _times
)


@given(st.dictionaries(_node_ids, _records), st.dictionaries(_node_ids, _errands))
def test_what_is_written_is_read(records: dict[int, Record], errands: dict[int, Errand]) -> None:
    errands = {node_id: errand._replace(node_id=node_id) for node_id, errand in errands.items()}
    assert decode(encode(records, errands)) == (Book(records, errands), [])
