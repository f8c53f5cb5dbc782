"""The frames of port 1001: the golden ones, and whatever else may come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.errors import WireError
from pilot.wire.dataexchange import (
    MAX_FILE_PAYLOAD,
    MAX_PAYLOAD,
    MAX_REPLY,
    Body,
    Frame,
    FrameReader,
    FrameType,
    Head,
    Reply,
    decode_frame,
    encode_confirmation,
    encode_file_head,
    encode_head,
    encode_refusal,
    type_name,
)
from tests.golden import golden
from tests.strategies import cuts, hostile, u32
from tests.wire.streams import byte_by_byte, cut_at

VECTORS = [v for v in golden("frames")["frames"] if v["kind"] == "dataexchange"]

names = st.binary(max_size=255).filter(
    lambda name: not any(part in name for part in (b"..", b"/", b"\\"))
)
kinds = st.sampled_from([1, 2, 3]) | u32.filter(lambda kind: kind != FrameType.FILE)
frames = st.builds(Frame, kinds, st.binary(max_size=300), st.none()) | st.builds(
    Frame, st.just(4), st.binary(max_size=300), names
)


def read(pieces: list[bytes]) -> tuple[list[Frame], str | None, bool]:
    """@return: the frames of a stream, why it had to be given up, whether it ended cleanly."""
    reader, found = FrameReader(file_limit=MAX_PAYLOAD), []
    head, content = None, b""
    for piece in pieces:
        reader.feed(piece)
        try:
            while (item := reader.next()) is not None:
                if isinstance(item, Head):
                    head, content = item, b""
                    continue
                assert head is not None
                content += item.data
                if item.last:
                    assert len(content) == head.size
                    found.append(Frame(head.kind, content, head.name))
        except WireError as error:
            return found, error.message, False
    return found, None, reader.between


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vector(vector: dict[str, Any]) -> None:
    """The reference's verdict, and what it reads."""
    data = bytes.fromhex(vector["hex"])
    if not vector["valid"]:
        with pytest.raises(WireError):
            decode_frame(data)
        return
    frame, left = decode_frame(data)
    assert frame.kind == vector["type"]
    assert type_name(frame.kind) == vector["type_name"]
    assert frame.payload == bytes.fromhex(vector["payload_hex"])
    assert (frame.name or b"") == bytes.fromhex(vector["filename_hex"])
    assert left == vector["left_over_bytes"]
    if frame.kind != FrameType.FILE or frame.name:
        assert frame.encode() == data[: len(data) - left]


@given(st.lists(frames, max_size=6), st.data())
def test_any_cut_gives_the_same_frames(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(frame.encode() for frame in sent)
    pieces = cut_at(stream, data.draw(cuts(len(stream))))
    assert read(pieces) == (sent, None, True)
    assert read(byte_by_byte(stream)) == (sent, None, True)


@given(hostile(frames.map(Frame.encode)))
def test_any_bytes_give_frames_or_our_error(stream: bytes) -> None:
    whole = read([stream])
    assert read(byte_by_byte(stream)) == whole
    try:
        frame, left = decode_frame(stream)
    except WireError:
        assert not whole[0]
    else:
        assert whole[0][0] == frame and left < len(stream)


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 5, 0xFFFFFFFF])
def test_messages_end_at_sixteen_mebibytes(kind: int) -> None:
    """Judged by the length alone, before any content came."""
    reader = FrameReader()
    reader.feed(kind.to_bytes(4, "big") + MAX_PAYLOAD.to_bytes(4, "big"))
    assert reader.next() == Head(kind, MAX_PAYLOAD, None)
    reader = FrameReader()
    reader.feed(kind.to_bytes(4, "big") + (MAX_PAYLOAD + 1).to_bytes(4, "big"))
    for _ in range(2):
        with pytest.raises(WireError, match="frame too large: 16777217 bytes"):
            reader.next()


def test_files_may_fill_the_length_field() -> None:
    """Their content comes in pieces, so nothing grows with it."""
    reader = FrameReader()
    size = MAX_FILE_PAYLOAD - 3
    reader.feed(encode_file_head(b"x", size))
    assert reader.next() == Head(4, size, b"x")
    for _ in range(3):
        reader.feed(bytes(100_000))
        assert reader.next() == Body(bytes(100_000), False)
        assert reader.next() is None
        assert reader.buffered == 0


def test_nothing_oversized_is_written() -> None:
    assert encode_head(1, MAX_PAYLOAD)
    for size in (-1, MAX_PAYLOAD + 1):
        with pytest.raises(WireError, match="too large"):
            encode_head(1, size)
    for size in (-1, MAX_FILE_PAYLOAD - 2):
        with pytest.raises(WireError, match="too large"):
            encode_file_head(b"x", size)
    for kind in (-1, 1 << 32):
        with pytest.raises(WireError, match="no frame type"):
            encode_head(kind, 0)


@pytest.mark.parametrize("name", [b"..", b"a..b", b"../x", b"a/b", b"/", b"a\\b", b"n" * 256])
def test_no_name_is_written_that_receivers_refuse(name: bytes) -> None:
    with pytest.raises(WireError, match="file name"):
        encode_file_head(name, 1)


def test_frames_before_a_fault_are_read() -> None:
    stream = Frame(1, b"ok").encode() + bytes.fromhex("000000040000000700042e2e2f7878")
    assert read([stream])[0] == [Frame(1, b"ok")]
    assert read([stream])[1] is not None


def test_answers() -> None:
    confirmation, _ = decode_frame(encode_confirmation(4, 9))
    assert confirmation == Frame(1, b"ACK FILE 9 bytes")
    assert Reply.parse(confirmation.payload) == Reply(True, "ACK FILE 9 bytes")
    refusal, _ = decode_frame(encode_refusal(1, "disk full"))
    assert Reply.parse(refusal.payload) == Reply(
        False, "ERR TEXT save failed: disk full", "disk full"
    )
    assert Reply.parse(b"what?") == Reply(False, "what?", "what?")
    endless, _ = decode_frame(encode_refusal(1, "x" * 2 * MAX_REPLY))
    assert len(endless.payload) == MAX_REPLY


@given(st.binary(max_size=100))
def test_any_answer_is_a_confirmation_or_a_refusal(payload: bytes) -> None:
    reply = Reply.parse(payload)
    assert reply.ok == payload.startswith(b"ACK ")
    assert reply.ok or reply.reason or not payload
