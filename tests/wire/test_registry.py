from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from pilot.errors import WireError
from pilot.wire.framing import FramingError
from pilot.wire.registry import (
    MAX_FRAME,
    SIGNED_FIELDS,
    FrameDecoder,
    decode_body,
    encode_frame,
    signing_text,
)
from tests.golden import golden
from tests.strategies import hostile, json_objects

TRANSCRIPTS = golden("registry_transcripts")
SIGNATURES = golden("registry_signatures")


def recorded(direction: str) -> list[tuple[bytes, Any]]:
    """(frame, value) of everything recorded whole."""
    return [
        (bytes.fromhex(step[f"raw_{direction}_hex"]), step[direction])
        for step in TRANSCRIPTS
        if set(step.get(f"raw_{direction}_hex") or "-") <= set("0123456789abcdef")
        and isinstance(step[direction], dict)
    ]


@pytest.mark.parametrize("direction", ["request", "response"])
def test_recorded_frames_are_read(direction: str) -> None:
    frames = recorded(direction)
    assert len(frames) > 100
    for frame, value in frames:
        assert FrameDecoder().feed(frame) == [value]


def test_answers_are_written_byte_for_byte() -> None:
    """But for snapshots, whose members the reference writes in an order of its own."""
    for frame, value in recorded("response"):
        if value["type"] != "replication_snapshot":
            assert encode_frame(value) == frame


BAD_FRAMES = [step for step in TRANSCRIPTS if "raw_request_hex" in step and "note" in step]


@pytest.mark.parametrize(
    "step",
    [step for step in BAD_FRAMES if step["scenario"] == "raw_bad_frames"],
    ids=lambda step: step["note"],
)
def test_bad_frames_end_as_at_the_reference(step: dict[str, Any]) -> None:
    frame = bytes.fromhex(step["raw_request_hex"])
    if "outcome" in step:
        with pytest.raises(FramingError) as caught:
            FrameDecoder().feed(frame)
        assert caught.value.frames == []
    else:
        (message,) = FrameDecoder().feed(frame)
        if step["request"] is not None:
            assert message == step["request"]


def test_null_counts_as_an_empty_object() -> None:
    assert FrameDecoder().feed(b"\0\0\0\4null") == [{}]


def test_invalid_utf8_is_replaced() -> None:
    assert FrameDecoder().feed(b'\0\0\0\x09{"a":"\xff"}') == [{"a": "\ufffd"}]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"x"', b"1", b"1.5", b"true", b"{} x", b"\xef\xbb\xbf{}"]
)
def test_what_is_no_message(body: bytes) -> None:
    with pytest.raises(WireError):
        decode_body(body)


def test_the_largest_body() -> None:
    body = b'{"a":1}'.ljust(MAX_FRAME)
    assert FrameDecoder().feed(len(body).to_bytes(4, "big") + body) == [{"a": 1}]


def test_an_answer_may_be_longer_than_a_receiver_takes() -> None:
    """The reference writes such answers as well; its clients then hang up."""
    assert len(encode_frame({"a": "x" * MAX_FRAME})) > MAX_FRAME


@given(json_objects)
def test_decoding_undoes_encoding(message: dict[str, Any]) -> None:
    assert FrameDecoder().feed(encode_frame(message)) == [message]


@given(hostile(json_objects.map(lambda message: encode_frame(message)[4:])))
def test_any_body_gives_a_message_or_a_wire_error(body: bytes) -> None:
    try:
        message = decode_body(body)
    except WireError:
        return
    assert decode_body(encode_frame(message)[4:]) == message


@pytest.mark.parametrize(
    "case",
    [case for case in SIGNATURES["vectors"] if case["accepted_by_reference"]],
    ids=lambda case: case["request_type"],
)
def test_golden_signed_texts(case: dict[str, Any]) -> None:
    request = case["request"]
    _, fields = SIGNED_FIELDS[request["type"]]
    text = signing_text(request["type"], *(request[field] for field in fields))
    assert text.hex() == case["signed_bytes_hex"]


def test_every_signed_request_has_its_vector() -> None:
    assert {case["request_type"] for case in SIGNATURES["vectors"]} >= set(SIGNED_FIELDS) - {
        "set_key_expiry"
    }


def test_only_known_requests_are_signed() -> None:
    for args in [("lookup", 1), ("heartbeat",), ("heartbeat", 1, 2), ("", 1)]:
        with pytest.raises(WireError):
            signing_text(*args)  # type: ignore[arg-type]
