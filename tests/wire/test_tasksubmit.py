"""The messages of port 1003."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.errors import WireError
from pilot.tasks.document import TaskDocument
from pilot.wire.tasksubmit import (
    MAX_FILE,
    MAX_PAYLOAD,
    FrameReader,
    MessageType,
    Request,
    Results,
    StatusUpdate,
    SubmitRequest,
    SubmitResponse,
    decode_request,
)
from tests.golden import golden

VECTORS = golden("frames")
FRAMES = [each for each in VECTORS["frames"] if each.get("kind") == "task"]
WRITTEN = {each["name"]: each for each in VECTORS["task_messages_as_written_by_the_reference"]}


def read(frame: bytes) -> tuple[int, bytes]:
    whole = FrameReader().feed(frame)
    assert whole is not None
    return whole


@pytest.mark.parametrize("vector", FRAMES, ids=lambda vector: vector["name"])
def test_frames(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    if vector["valid"]:
        assert read(data) == (vector["type"], bytes.fromhex(vector["payload_hex"]))
    elif vector["name"] == "truncated":
        assert FrameReader().feed(data) is None
    else:
        with pytest.raises(WireError, match=vector["parser_error_not_on_the_wire"]):
            FrameReader().feed(data)


@pytest.mark.parametrize("name", [n for n in WRITTEN if not n.startswith(("task_", "legacy"))])
def test_messages_are_written_as_by_the_reference(name: str) -> None:
    frame = bytes.fromhex(WRITTEN[name]["hex"])
    kind, payload = read(frame)
    message: Request | SubmitResponse
    if "response" in name:
        message = SubmitResponse.decode(kind, payload)
    elif "invalid_utf8" in name:
        message = SubmitRequest("", b"bad \xff\xfe utf8".decode("utf-8", "surrogateescape"), "", "")
    else:
        message = decode_request(kind, payload)
    assert message.encode() == frame


def test_task_files_are_written_as_by_the_reference() -> None:
    content = bytes.fromhex(WRITTEN["task_file_all_fields"]["hex"])
    assert TaskDocument.decode(content).encode() == content


@pytest.mark.parametrize("row", VECTORS["task_payload_parsing"], ids=lambda row: row["payload"])
@pytest.mark.parametrize(
    ("column", "kind"),
    [("as_submit", MessageType.SUBMIT), ("as_results", MessageType.SEND_RESULTS)],
)
def test_what_is_accepted_as_an_object(row: dict[str, str], column: str, kind: int) -> None:
    payload = row["payload"].encode()
    if row[column].startswith("refused"):
        with pytest.raises(WireError):
            decode_request(kind, payload)
    else:
        message = decode_request(kind, payload)
        assert message.task_id == ("b" if "last wins" in row[column] else "")
        if "one byte" in row[column]:
            assert isinstance(message, Results) and message.file_data == b"A"


@pytest.mark.parametrize(
    "payload",
    [
        '{"result_text":["x"]}',
        '{"result_text":{"a":1}}',
        '{"time_cpu_ms":true}',
        '{"time_cpu_ms":"1"}',
        '{"time_cpu_ms":-9223372036854775809}',
        '{"file_data":[256]}',
        '{"file_data":[-1]}',
        '{"file_data":[true]}',
        '{"file_data":{"0":1}}',
        '{"file_data":"QUI=="}',
        '{"file_data":"\u00e9"}',
    ],
)
def test_members_of_the_wrong_kind(payload: str) -> None:
    with pytest.raises(WireError):
        decode_request(MessageType.SEND_RESULTS, payload.encode())


def test_names_in_any_case_and_null() -> None:
    """Also the two letters outside ASCII that are another case of one inside."""
    payload = '{"TA\u017fK_ID":"a","tas\u212a_id":null,"Status":"S","extra":[{}]}'
    update = decode_request(MessageType.STATUS_UPDATE, payload.encode())
    assert update == StatusUpdate("a", "S", "")
    results = decode_request(MessageType.SEND_RESULTS, b'{"file_data":"QU\\r\\nI="}')
    assert isinstance(results, Results) and results.file_data == b"AB"


@pytest.mark.parametrize("kind", [0, 2, 5, 0xFFFFFFFF])
def test_types_that_nobody_sends(kind: int) -> None:
    with pytest.raises(WireError):
        decode_request(kind, b"{}")
    with pytest.raises(WireError):
        SubmitResponse.decode(kind, b"{}")


def test_sizes() -> None:
    """The largest file fits; one byte more than a frame holds is not sent and not read."""
    assert len(Results("x" * 128, "file", filename="a" * 255, file_data=bytes(MAX_FILE)).encode())
    empty = len(StatusUpdate("", "", "").encode()) - 8
    assert StatusUpdate("", "", "x" * (MAX_PAYLOAD - empty)).encode()
    with pytest.raises(WireError):
        StatusUpdate("", "", "x" * (MAX_PAYLOAD - empty + 1)).encode()


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
_MESSAGES = st.one_of(
    st.builds(SubmitRequest, *[_TEXT] * 4),
    st.builds(StatusUpdate, *[_TEXT] * 3),
    st.builds(Results, *[_TEXT] * 4, st.binary(), _TEXT, *[_INT64] * 3),
)


@given(_MESSAGES, st.binary(max_size=5), st.data())
def test_a_message_is_read_as_it_was_written(message: Request, rest: bytes, data: Any) -> None:
    """However the stream is cut, and whatever follows."""
    stream = message.encode() + rest
    reader, got = FrameReader(), None
    while got is None:
        assert stream
        cut = data.draw(st.integers(1, len(stream)))
        got = reader.feed(stream[:cut])
        stream = stream[cut:]
    assert decode_request(*got) == message


@given(st.integers(0, 6), st.binary())
def test_any_payload_is_a_message_or_an_error(kind: int, payload: bytes) -> None:
    for decode in (decode_request, SubmitResponse.decode):
        with contextlib.suppress(WireError):
            decode(kind, payload)
