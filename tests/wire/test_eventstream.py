from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.errors import WireError
from pilot.wire.eventfilter import (
    MAX_DECLARATION,
    Dropped,
    Interest,
    decode_dropped,
    decode_interest,
    encode_interest,
    is_pattern,
)
from pilot.wire.eventstream import (
    MAX_PAYLOAD,
    MAX_TOPIC,
    Event,
    EventDecoder,
    encode_event,
    event_text,
)
from pilot.wire.framing import FramingError
from tests.golden import golden
from tests.strategies import cuts
from tests.wire.streams import byte_by_byte, cut_at

VECTORS = [each for each in golden("frames")["frames"] if each["kind"] == "event"]
TOPICS = st.binary(max_size=40) | st.sampled_from([b"", b"*", b"status", b"t" * MAX_TOPIC])
EVENTS = st.tuples(TOPICS, st.binary(max_size=200))


def outcome(
    pieces: Iterable[bytes],
) -> tuple[list[tuple[bytes, bytes]], str | None, int]:
    """@return: topics and payloads, why the stream was given up, and bytes left unfinished."""
    decoder, events, broken = EventDecoder(), [], None
    for piece in pieces:
        try:
            events += decoder.feed(piece)
        except FramingError as error:
            events += error.frames
            assert broken in (None, error.message)
            broken = error.message
    assert all(encode_event(each.topic, each.payload) == each.frame for each in events)
    assert all(each.size == len(each.payload) for each in events)
    return [(each.topic, each.payload) for each in events], broken, decoder.buffered


@pytest.mark.parametrize("vector", VECTORS, ids=[each["name"] for each in VECTORS])
def test_vectors(vector: dict[str, Any]) -> None:
    """What the reference's parser accepts, we read; what it refuses at once, so do we."""
    stream = bytes.fromhex(vector["hex"])
    events, broken, unfinished = outcome([stream])
    assert outcome(byte_by_byte(stream)) == (events, broken, unfinished)
    if vector["valid"]:
        topic, abbreviated, _ = vector["topic_hex"].partition("...")
        expected = bytes.fromhex(topic), bytes.fromhex(vector["payload_hex"])
        if abbreviated:
            expected = stream[2 : 2 + MAX_TOPIC], expected[1]
        assert events[0] == expected
        assert broken is None
        assert encode_event(*expected) == stream[: len(stream) - vector["left_over_bytes"]]
    else:
        assert not events
        refused = vector["parser_error_not_on_the_wire"]
        assert (broken is not None) == ("too l" in refused)
        assert broken or unfinished == len(stream)


@given(st.lists(EVENTS, max_size=6), st.data())
def test_events_survive_any_cuts(events: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    stream = b"".join(encode_event(*event) for event in events)
    pieces = cut_at(stream, data.draw(cuts(len(stream))))
    assert outcome(pieces) == (events, None, 0)


_LENGTHS = st.sampled_from([b"\0\0", b"\0\1", b"\4\0", b"\4\1", b"\xff\xff", b"\0\0\0\1"])
_HOSTILE = st.lists(st.binary(max_size=6) | _LENGTHS, max_size=12).map(b"".join)


@given(_HOSTILE, st.data())
def test_any_stream_gives_events_or_one_error(stream: bytes, data: st.DataObject) -> None:
    """Whatever the bytes, whatever the cuts."""
    expected = outcome([stream])
    assert outcome(cut_at(stream, data.draw(cuts(len(stream))))) == expected
    assert outcome(byte_by_byte(stream)) == expected


@pytest.mark.parametrize(
    ("length", "complaint"),
    [
        (b"\4\1", "topic too long: 1025 bytes (max 1024)"),
        (b"\0\1t\1\0\0\1", "payload too large: 16777217 bytes (max 16777216)"),
    ],
)
def test_lengths_are_judged_before_anything_is_read(length: bytes, complaint: str) -> None:
    """And what came before is not lost, and the stream stays broken."""
    decoder = EventDecoder()
    with pytest.raises(FramingError, match=r"max \d+") as caught:
        decoder.feed(encode_event(b"a", b"1") + length)
    assert caught.value.message == complaint
    assert caught.value.frames == [Event(b"a", encode_event(b"a", b"1"))]
    with pytest.raises(WireError):
        decoder.feed(encode_event(b"a"))
    assert decoder.buffered == 0


def test_the_largest_event_passes() -> None:
    topic, payload = b"t" * MAX_TOPIC, bytes(MAX_PAYLOAD)
    frame = encode_event(topic, payload)
    decoder = EventDecoder()
    halves = frame[:1000], frame[1000:9_000_000], frame[9_000_000:] + encode_event(b"next")
    assert decoder.feed(halves[0]) == decoder.feed(halves[1]) == []
    first, second = decoder.feed(halves[2])
    assert first == Event(topic, frame)
    assert second.topic == b"next"
    for arguments in ((topic + b"t",), (topic, payload + b"0")):
        with pytest.raises(WireError):
            encode_event(*arguments)


def test_no_length_reserves_memory() -> None:
    """An announced payload of 16 MiB costs what has come of it."""
    decoder = EventDecoder()
    assert decoder.feed(b"\0\1t\1\0\0\0" + b"x" * 100) == []
    assert decoder.buffered == 107


def test_buffering_takes_linear_time() -> None:
    """Quadratic buffering would copy tens of gigabytes here."""
    decoder = EventDecoder()
    assert len(decoder.feed(encode_event(b"t", b"x") * 150_000)) == 150_000
    frame = encode_event(b"t", bytes(300_000))
    for i in range(len(frame) - 1):
        assert not decoder.feed(frame[i : i + 1])
    assert decoder.feed(frame[-1:]) == [Event(b"t", frame)]


def test_a_lone_event_is_not_even_copied() -> None:
    frame = encode_event(b"status", b"online")
    (event,) = EventDecoder().feed(frame)
    assert event.frame is frame


def test_text_of_other_bytes() -> None:
    """One U+FFFD a byte, as the reference counts."""
    assert event_text(b"gr\xc3\xbc\xc3\x9fe") == "grüße"
    assert event_text(b"\xff\xfe") == "\ufffd\ufffd"
    assert event_text(b"a\xe2\x82b") == "a\ufffd\ufffdb"


# -- prefix subscriptions ----------------------------------------------------------------------


def test_what_a_pattern_matches() -> None:
    interest = Interest([b"presence.*", b"exact"])
    wanted = [b"presence.status", b"presence.*", b"presence..", b"exact"]
    other = [b"presence.", b"presence", b"Presence.status", b"exact.", b"", b"*", b"a.presence.b"]
    assert all(map(interest.wants, wanted))
    assert not any(map(interest.wants, other))
    assert is_pattern(b"presence.*")
    assert not any(map(is_pattern, [b"*", b"presence*", b"a.*.b", b""]))


@given(st.lists(st.text(max_size=20), min_size=1, max_size=16))
def test_declarations_survive_the_wire(patterns: list[str]) -> None:
    encoded = [pattern.encode("utf-8", "surrogateescape") for pattern in patterns]
    interest = decode_interest(encode_interest(Interest(encoded)))
    assert interest is not None
    assert interest.patterns == tuple(encoded)


def test_the_declaration_is_the_documented_one() -> None:
    assert encode_interest(Interest([b"presence.*"])) == b'{"filter":["presence.*"],"v":1}'


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"ignored",
        b"{",
        b"[]",
        b'{"v":1}',
        b'{"v":2,"filter":["a.*"]}',
        b'{"v":1,"filter":"a.*"}',
        b'{"v":1,"filter":[]}',
        b'{"v":1,"filter":[1]}',
        b'{"v":1,"filter":["a"' + b',"a"' * 16 + b"]}",
        b'{"v":1,"filter":["' + b"a" * 1025 + b'"]}',
        b'{"v":1,"filter":["a"]' + b" " * MAX_DECLARATION + b"}",
        b'{"v":1,"filter":' + b"[" * 200 + b"]" * 200 + b"}",
    ],
)
def test_any_other_payload_means_nothing(payload: bytes) -> None:
    """The reference ignores what a subscription carries, so a client may send anything."""
    assert decode_interest(payload) is None


@given(st.binary(max_size=60))
def test_nothing_a_peer_sends_is_an_error(payload: bytes) -> None:
    decode_interest(b"{" + payload)
    decode_dropped(payload)


def test_what_cannot_be_declared_is_left_to_the_client() -> None:
    assert encode_interest(Interest([b"\xff.*"])) == b""
    assert encode_interest(Interest([b"a"] * 17)) == b""
    assert encode_interest(Interest([b"\x01" * 1024] * 16)) == b""


def test_notices() -> None:
    assert Dropped(12, 3456).encode() == b'{"bytes":3456,"events":12,"v":1}'
    assert decode_dropped(b'{"v":1,"events":12,"bytes":3456}') == Dropped(12, 3456)
    for other in (b"x", b"[]", b'{"v":1,"events":-1,"bytes":0}', b'{"v":1,"events":1}'):
        assert decode_dropped(other) is None
    assert decode_dropped(b'{"v":3,"events":12,"bytes":3456}') is None
