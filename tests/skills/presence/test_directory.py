"""The directory: names, tags, versions, limits, and what is kept of whom."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.presence.core.available import Available
from skills.presence.core.deltas import read_ask, read_delta
from skills.presence.core.directory import STRANGERS, STRANGERS_EACH, Directory, Stranger
from skills.presence.core.entry import Entry
from skills.presence.core.errors import BadMessage, UnknownAgent
from skills.presence.core.record import StatusRecord, dump, parse
from skills.presence.core.snapshot import decode_snapshot, encode_snapshot
from tests.skills.presence.strategies import values


def filled(directory: Directory, node: int, now: float = 0.0, **fields: Any) -> Entry:
    entry = directory.get(node) or directory.admit(node, now)
    assert entry is not None
    record = parse({"hostname": f"a{node}", "status": "online", "v": 2, "node": node, "inc": 1,
                    "seq": 1, **fields})  # fmt: skip
    directory.describe(entry, record)
    entry.number, entry.claim, entry.record = (1, 1), record.status, dump(record.document)
    entry.status = record.status
    entry.reach = "gone" if record.status == "offline" else "fresh"
    directory.settle(entry)
    directory.touch(entry)
    return entry


def test_an_agent_is_found_by_name_number_and_address() -> None:
    directory = Directory(10)
    entry = filled(directory, 42)
    for host in ("a42", 42, "42", "0:0000.0000.002A"):
        assert directory.named(host) is entry
    for host in ("nobody", 43, "", "0:0000.0000.002B", "9" * 30, "²"):
        with pytest.raises(UnknownAgent):
            directory.named(host)


def test_a_name_that_moves_leads_to_its_new_owner() -> None:
    directory = Directory(10)
    filled(directory, 1, hostname="shared")
    second = filled(directory, 2, hostname="shared")
    assert directory.named("shared") is second
    filled(directory, 1, hostname="other")
    assert directory.named("shared") is second


def test_versions_tell_a_watcher_exactly_what_it_lacks() -> None:
    directory = Directory(10)
    for node in range(1, 6):
        filled(directory, node)
    assert directory.version == 5
    missing = directory.since(3)
    assert missing is not None and [entry.node for entry in missing[0]] == [4, 5]
    directory.touch(directory.named(1))
    missing = directory.since(5)
    assert missing is not None and [entry.node for entry in missing[0]] == [1]
    directory.remove(directory.named(2), 0.0)
    missing = directory.since(6)
    assert missing == ([], [(7, 2)])
    assert directory.since(8) is None
    assert directory.since(7) == ([], [])


def test_removals_that_are_forgotten_make_a_gap() -> None:
    directory = Directory(10)
    filled(directory, 1, status="offline")
    filled(directory, 2)
    assert [entry.node for entry in directory.expire(700_000.0, 7 * 86400.0, 86400.0)] == [1]
    assert directory.since(2) == ([], [(3, 1)])
    assert directory.outlived(1, (1, 1)) and not directory.outlived(1, (1, 2))
    directory.expire(800_000.0, 7 * 86400.0, 86400.0)
    assert directory.since(2) is None
    missing = directory.since(0)
    assert missing is not None and [entry.node for entry in missing[0]] == [2]
    assert not directory.outlived(1, (1, 1))


def test_a_full_directory_forgets_who_is_offline_and_refuses_else() -> None:
    directory = Directory(2)
    filled(directory, 1)
    filled(directory, 2, status="offline")
    filled(directory, 3)
    assert directory.get(2) is None and len(directory) == 2
    assert directory.admit(4, 0.0) is None
    assert directory.refused == 1


def test_unverified_records_are_bounded_and_cost_at_most_their_source() -> None:
    directory = Directory(10)
    for number in range(100):
        record = StatusRecord(f"name{number}", "online")
        directory.keep_stranger(Stranger(1, record, float(number), ""))
    assert len(directory.strangers) == STRANGERS_EACH
    for source in range(2, 2 * STRANGERS):
        record = StatusRecord("name", "online")
        directory.keep_stranger(Stranger(source, record, 100.0, ""))
    assert len(directory.strangers) == STRANGERS
    directory.expire_strangers(200.0, 100.0)
    assert directory.strangers == []


def test_an_unverified_record_is_found_like_others_and_the_authors_own_first() -> None:
    directory = Directory(10)

    def keep(source: int, node: int | None) -> Stranger:
        record = StatusRecord("carol", "online", node=node)
        directory.keep_stranger(stranger := Stranger(source, record, 0.0, "?"))
        return stranger

    own = keep(3, 3)
    keep(7, 3)
    script = keep(9, None)
    assert directory.strange(3) == directory.strange("3") == own
    assert directory.strange("0:0000.0000.0003") == own
    assert directory.strange(9) == directory.strange("carol") == script
    assert directory.strange(4) is directory.strange("nobody") is None


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.booleans(), st.none() | st.integers(0, 100))),
    st.integers(0, 99),
)
def test_the_available_are_in_the_order_of_their_load(
    steps: list[tuple[int, bool, int | None]], seed: int
) -> None:
    available = Available()
    entries = {node: Entry(node, 0.0) for node in range(1, 13)}
    inside: set[int] = set()
    for node, put, load in steps:
        if put:
            entries[node].load = load
            available.put(entries[node])
            inside.add(node)
        else:
            available.take(entries[node])
            inside.discard(node)
    met = list(available.by_load(random.Random(seed)))
    assert {entry.node for entry in met} == inside and len(met) == len(available) == len(inside)
    loads = [50 if entry.load is None else entry.load for entry in met]
    assert loads == sorted(loads)


def test_the_tags_of_an_agent_lead_to_it_only_while_it_has_them() -> None:
    directory = Directory(10)
    filled(directory, 1, tags=["gpu", "linux"])
    filled(directory, 2, tags=["linux"])
    assert directory.tagged(("linux", "gpu")) == [directory.named(1)]
    assert list(directory.holders(("linux", "gpu"))) == [directory.named(1)]
    filled(directory, 1, tags=["linux"])
    assert directory.tagged(("gpu",)) == []
    assert directory.tagged(()) is None and list(directory.holders(())) == []
    directory.remove(directory.named(1), 0.0)
    directory.remove(directory.named(2), 0.0)
    assert directory.tagged(("linux",)) == []


# -- on disk and on the wire -------------------------------------------------------------------


def test_a_snapshot_is_read_back() -> None:
    directory = Directory(10)
    filled(directory, 1, tags=["gpu"], load=3)
    filled(directory, 2, status="offline")
    restored = decode_snapshot(encode_snapshot(directory, 100.0, 1.8e9))
    assert restored.broken == 0 and restored.saved == 1.8e9
    assert [(told.node, told.status, told.age) for told in restored.entries] == [
        (1, "online", 100.0),
        (2, "offline", 100.0),
    ]
    assert restored.entries[0].record.tags == ("gpu",)


def test_what_is_broken_in_a_snapshot_is_left_out() -> None:
    directory = Directory(10)
    filled(directory, 1)
    filled(directory, 2)
    document = json.loads(encode_snapshot(directory, 0.0, 1.0))
    document["entries"][0]["r"]["status"] = "dead"
    document["entries"].append("rubbish")
    document["saved"] = "yesterday"
    restored = decode_snapshot(json.dumps(document).encode())
    assert [told.node for told in restored.entries] == [2]
    assert (restored.broken, restored.saved) == (2, 0.0)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_snapshot_or_none(data: bytes) -> None:
    decode_snapshot(data)


def test_a_torn_snapshot_is_none() -> None:
    directory = Directory(10)
    filled(directory, 1)
    data = encode_snapshot(directory, 0.0, 1.0)
    for cut in range(0, len(data), 7):
        assert decode_snapshot(data[:cut]).broken == -1


@settings(deadline=None, max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(
            ("x", "epoch", "version", "from", "agents", "more", "entries", "removed", "type")
        ),
        values
        | st.integers(0, 9)
        | st.lists(
            st.dictionaries(st.sampled_from(("n", "k", "s", "w", "a", "d", "c", "r")), values),
            max_size=3,
        ),
    )
)
def test_any_document_is_a_message_or_our_error(document: dict[str, Any]) -> None:
    for read in (read_ask, read_delta):
        try:
            read(document)
        except BadMessage:
            continue
