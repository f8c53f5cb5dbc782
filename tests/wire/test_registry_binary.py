from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.errors import WireError
from pilot.wire.framing import FramingError
from pilot.wire.registry_binary import (
    FLAG_PUBLIC,
    FLAG_TASK_EXEC,
    MAGIC,
    PREAMBLE,
    UNKNOWN_KEY_AGE,
    Answer,
    ErrorMessage,
    FrameDecoder,
    Heartbeat,
    HeartbeatOk,
    JsonMessage,
    Lookup,
    LookupOk,
    Request,
    Resolve,
    ResolveOk,
    decode_answer,
    decode_request,
    encode_frame,
)
from tests.golden import golden
from tests.strategies import hostile, registry_answers, registry_requests, u8

VECTORS = golden("registry_binary_transcripts")
EXCHANGES = {case["note"]: case for case in VECTORS["exchanges"]}
KEY_A = bytes.fromhex(golden("registry_signatures")["keys"]["A"]["public_key_hex"])


def request_of(note: str) -> tuple[int, bytes]:
    (frame,) = FrameDecoder().feed(bytes.fromhex(EXCHANGES[note]["raw_request_hex"]))
    return frame


def answer_of(note: str) -> Answer:
    (frame,) = FrameDecoder().feed(bytes.fromhex(EXCHANGES[note]["raw_response_hex"]))
    return decode_answer(*frame)


def test_the_preamble_chooses_the_protocol() -> None:
    assert PREAMBLE.hex() == VECTORS["exchanges"][0]["connection_preamble_hex"]
    assert PREAMBLE.startswith(MAGIC)


@pytest.mark.parametrize(
    ("note", "answer"),
    [
        ("heartbeat node 1", HeartbeatOk(0x6B002350, 0)),
        (
            "lookup private node 1",
            LookupOk(1, FLAG_TASK_EXEC, -3, (0,), KEY_A, "node-a", ("web", "api"), "", ""),
        ),
        (
            "lookup public node 1",
            LookupOk(
                1,
                FLAG_PUBLIC | FLAG_TASK_EXEC,
                -3,
                (0,),
                KEY_A,
                "node-a",
                ("web", "api"),
                "127.0.0.1:4000",
                "",
            ),
        ),
        ("resolve public node 1", ResolveOk(1, "127.0.0.1:4000", ("192.168.7.10:4000",), 0)),
        ("lookup unknown", ErrorMessage("node 99: not found")),
        ("still alive", JsonMessage({"beacons": [], "type": "beacon_list_ok"})),
    ],
)
def test_golden_answers(note: str, answer: Answer) -> None:
    assert answer_of(note) == answer


@pytest.mark.parametrize("case", VECTORS["exchanges"], ids=lambda case: case["note"])
def test_recorded_answers_both_ways(case: dict[str, Any]) -> None:
    if case["raw_response_hex"] is None:
        return
    encoded = bytes.fromhex(case["raw_response_hex"])
    answer = answer_of(case["note"])
    assert answer.encode() == encoded
    assert answer.encode()[4] == int(case["response_type"], 16)
    if "decoded_error" in case:
        assert answer == ErrorMessage(case["decoded_error"])
    if "decoded_json" in case:
        assert answer == JsonMessage(case["decoded_json"])


NATIVE = ["heartbeat node 1", "lookup unknown", "resolve public node 1", "resolve wrong signature"]


@pytest.mark.parametrize("note", NATIVE)
def test_recorded_requests_both_ways(note: str) -> None:
    request = decode_request(*request_of(note))
    assert isinstance(request, Heartbeat | Lookup | Resolve)
    assert request.encode().hex() == EXCHANGES[note]["raw_request_hex"]


def test_who_asks_for_whom() -> None:
    request = decode_request(*request_of("resolve unknown target"))
    assert isinstance(request, Resolve)
    assert (request.node_id, request.requester_id) == (99, 2)


def test_surplus_bytes_of_a_request_are_ignored() -> None:
    usual = decode_request(*request_of("heartbeat node 1"))
    assert decode_request(*request_of("heartbeat with trailing bytes: ignored")) == usual


@pytest.mark.parametrize(
    "note",
    [
        "heartbeat too short",
        "lookup too short",
        "resolve too short",
        "unknown frame type",
        "response type sent as a request",
    ],
)
def test_refused_requests_carry_the_text_of_the_error_frame(note: str) -> None:
    with pytest.raises(WireError) as caught:
        decode_request(*request_of(note))
    expected = EXCHANGES[note]["raw_response_hex"]
    assert ErrorMessage(caught.value.message).encode().hex() == expected


@pytest.mark.parametrize(
    "note",
    ["JSON passthrough, malformed JSON: connection survives", "JSON passthrough array"],
)
def test_malformed_json_is_said_to_be(note: str) -> None:
    with pytest.raises(WireError) as caught:
        decode_request(*request_of(note))
    assert caught.value.message.startswith("json decode: ")
    assert EXCHANGES[note]["decoded_error"].startswith("json decode: ")


@pytest.mark.parametrize("note", ["zero length frame", "length 65537"])
def test_lengths_that_break_the_stream(note: str) -> None:
    with pytest.raises(FramingError):
        FrameDecoder().feed(bytes.fromhex(EXCHANGES[note]["raw_request_hex"]))


def test_an_unknown_key_age() -> None:
    answer = ResolveOk(1, "", (), UNKNOWN_KEY_AGE)
    assert answer.encode().hex() == "0000000d83" + "00000001" + "0000" + "0000" + "ffffffff"


@pytest.mark.parametrize(
    "message",
    [
        Heartbeat(1, bytes(63)),
        Heartbeat(2**32, bytes(64)),
        Resolve(1, -1, bytes(64)),
        Resolve(1, 1, b""),
        Lookup(-1),
        HeartbeatOk(-1, 0),
        ErrorMessage("x" * 65536),
        LookupOk(1, 0, 2**31, (), b"", "", (), "", ""),
        LookupOk(1, 0, 0, (), b"", "x" * 256, (), "", ""),
        LookupOk(1, 0, 0, (), b"", "", ("",) * 256, "", ""),
        ResolveOk(1, "x" * 65536, (), 0),
        JsonMessage({"a": float("nan")}),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_fits_no_frame(message: Request | Answer) -> None:
    with pytest.raises(WireError):
        message.encode()


def test_a_type_is_a_byte() -> None:
    with pytest.raises(WireError):
        encode_frame(256, b"")


@given(registry_requests)
def test_decoding_undoes_encoding_of_requests(request: Request) -> None:
    (frame,) = FrameDecoder().feed(request.encode())
    assert decode_request(*frame) == request


@given(registry_answers)
def test_decoding_undoes_encoding_of_answers(answer: Answer) -> None:
    (frame,) = FrameDecoder().feed(answer.encode())
    assert decode_answer(*frame) == answer


@given(u8, hostile(st.one_of(registry_requests, registry_answers).map(lambda m: m.encode()[5:])))
def test_any_bytes_give_a_message_or_a_wire_error(kind: int, payload: bytes) -> None:
    for kinds in (range(4), (0x81, 0x82, 0x83, 0xFF), (kind,)):
        for each in kinds:
            for decode in (decode_request, decode_answer):
                try:
                    message = decode(each, payload)
                except WireError:
                    continue
                assert message.encode()
