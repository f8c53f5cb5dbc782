from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.errors import WireError
from pilot.wire import ipc, registry, registry_binary
from pilot.wire.framing import FramingError, LengthPrefixedDecoder
from tests.golden import golden
from tests.strategies import cuts, ipc_frames, json_objects
from tests.wire.streams import byte_by_byte, cut_at, outcome

DECODERS = [ipc.FrameDecoder, registry.FrameDecoder, registry_binary.FrameDecoder]


def recorded_streams() -> list[Any]:
    ipc_conversation = b"".join(
        bytes.fromhex(step["frame_hex"])
        for step in golden("ipc_transcripts")["transcripts"][0]["steps"]
        if "frame_hex" in step
    )
    requests = [
        bytes.fromhex(step["raw_request_hex"])
        for step in golden("registry_transcripts")
        if step["source"] == "raw" and "raw_request_hex" in step
    ]
    binary = [
        bytes.fromhex(step["raw_request_hex"])
        for step in golden("registry_binary_transcripts")["exchanges"]
    ]
    return [
        pytest.param(ipc.FrameDecoder, ipc_conversation, id="ipc"),
        pytest.param(ipc.FrameDecoder, ipc_conversation + b"\0\x10\0\1\0", id="ipc oversize"),
        pytest.param(registry.FrameDecoder, b"".join(requests[:3]), id="registry"),
        pytest.param(
            registry.FrameDecoder, requests[0] + b"\0\0\0\1{" + requests[1], id="registry malformed"
        ),
        pytest.param(registry_binary.FrameDecoder, b"".join(binary), id="binary, ends broken"),
    ]


@pytest.mark.parametrize(("decoder", "stream"), recorded_streams())
def test_a_recorded_stream_cut_at_every_byte(
    decoder: type[LengthPrefixedDecoder[Any]], stream: bytes
) -> None:
    """The same frames and the same end, wherever the one cut falls, and byte by byte."""
    expected = outcome(decoder(), [stream])
    assert expected[0]
    assert outcome(decoder(), byte_by_byte(stream)) == expected
    for cut in range(len(stream) + 1):
        assert outcome(decoder(), cut_at(stream, [cut])) == expected


@given(st.lists(ipc_frames, max_size=6), st.data())
def test_frames_survive_any_cuts(frames: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(ipc.encode_frame(*frame) for frame in frames)
    pieces = cut_at(stream, data.draw(cuts(len(stream))))
    assert outcome(ipc.FrameDecoder(), pieces) == (frames, None)
    pieces = cut_at(stream, data.draw(cuts(len(stream))))
    assert outcome(registry_binary.FrameDecoder(), pieces) == (frames, None)


@given(st.lists(json_objects, max_size=4), st.data())
def test_messages_survive_any_cuts(messages: list[dict[str, Any]], data: st.DataObject) -> None:
    stream = b"".join(map(registry.encode_frame, messages))
    pieces = cut_at(stream, data.draw(cuts(len(stream))))
    assert outcome(registry.FrameDecoder(), pieces) == (messages, None)


_LENGTHS = st.sampled_from([0, 1, 2, 3, 65535, 65536, 65537, 1048576, 1048577, 2**32 - 1])
_HOSTILE = st.lists(
    st.binary(max_size=8) | _LENGTHS.map(lambda length: length.to_bytes(4, "big")), max_size=8
).map(b"".join)


@given(st.sampled_from(DECODERS), _HOSTILE, st.data())
def test_any_stream_gives_frames_or_one_error(
    decoder: type[LengthPrefixedDecoder[Any]], stream: bytes, data: st.DataObject
) -> None:
    """Whatever the bytes, whatever the cuts; and never more is kept than one frame."""
    expected = outcome(decoder(), [stream])
    assert outcome(decoder(), cut_at(stream, data.draw(cuts(len(stream))))) == expected
    assert outcome(decoder(), byte_by_byte(stream)) == expected


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_limit_is_the_references(decoder: type[LengthPrefixedDecoder[Any]]) -> None:
    """The largest length waits for its body; one more breaks the stream at once."""
    limit = decoder.limit
    assert outcome(decoder(), [limit.to_bytes(4, "big")]) == ([], None)
    frames, broken = outcome(decoder(), [(limit + 1).to_bytes(4, "big")])
    assert frames == []
    assert broken == f"message too large: {limit + 1} bytes (max {limit})"


def test_limits() -> None:
    assert registry.FrameDecoder.limit == registry_binary.FrameDecoder.limit == 65536
    assert ipc.FrameDecoder.limit == 1048576


def test_a_broken_stream_stays_broken() -> None:
    """Each later input meets the same error, so no caller can go on by accident."""
    decoder = ipc.FrameDecoder()
    with pytest.raises(FramingError) as first:
        decoder.feed(b"\0\0\0\1\x21" + b"\xff\xff\xff\xff")
    assert first.value.frames == [(0x21, b"")]
    with pytest.raises(WireError) as second:
        decoder.feed(b"\0\0\0\1\x21")
    assert isinstance(second.value, FramingError)
    assert second.value.frames == []
    assert second.value.message == first.value.message


def test_many_tiny_frames_in_one_input() -> None:
    """200,000 frames in a megabyte: quadratic buffering would copy a hundred gigabytes."""
    decoder = ipc.FrameDecoder()
    assert decoder.feed(b"\0\0\0\1\x21" * 200_000) == [(0x21, b"")] * 200_000
    assert decoder.feed(b"\0\0\0\0" * 200_000) == []
    assert decoder.buffered == 0


def test_one_frame_in_many_tiny_inputs() -> None:
    """A quarter of a megabyte byte by byte: quadratic buffering would copy thirty gigabytes."""
    decoder = ipc.FrameDecoder()
    payload = bytes(range(256)) * 1024
    frame = ipc.encode_frame(7, payload)
    for i in range(len(frame) - 1):
        assert not decoder.feed(frame[i : i + 1])
    assert decoder.buffered == len(frame) - 1
    assert decoder.feed(frame[-1:]) == [(7, payload)]
    assert decoder.buffered == 0


def test_large_frames_that_straddle_inputs() -> None:
    frames = [(7, bytes([n]) * 200_000) for n in range(5)]
    stream = b"".join(ipc.encode_frame(*frame) for frame in frames)
    pieces = [stream[i : i + 65536] for i in range(0, len(stream), 65536)]
    assert outcome(ipc.FrameDecoder(), pieces) == (frames, None)
