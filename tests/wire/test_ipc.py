from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.address import Address
from pilot.errors import WireError
from pilot.wire import ipc
from pilot.wire.ipc import Command
from tests.golden import golden
from tests.strategies import hostile, ipc_payloads, text

TRANSCRIPTS = golden("ipc_transcripts")["transcripts"]
STEPS = [step for transcript in TRANSCRIPTS for step in transcript["steps"]]
FRAMES = [step for step in STEPS if "frame_hex" in step and "cmd" in step]

# What each command's payload is read as; the others hold JSON, text or nothing.
PAYLOADS: dict[int, Any] = {
    Command.BIND: ipc.Bind,
    Command.BIND_OK: ipc.BindOk,
    Command.DIAL: ipc.Dial,
    Command.DIAL_OK: ipc.DialOk,
    Command.ACCEPT: ipc.Accept,
    Command.SEND: ipc.ConnData,
    Command.RECV: ipc.ConnData,
    Command.CLOSE: ipc.Close,
    Command.CLOSE_OK: ipc.CloseOk,
    Command.ERROR: ipc.Error,
    Command.SEND_TO: ipc.SendTo,
    Command.RECV_FROM: ipc.RecvFrom,
    Command.HANDSHAKE: ipc.Handshake,
    Command.SET_VISIBILITY: ipc.Flag,
    Command.SET_TASK_EXEC: ipc.Flag,
    Command.NETWORK: ipc.Network,
    Command.MANAGED: ipc.Managed,
}


def name_of(command: Command) -> str:
    """As the transcripts spell it: SET_TASK_EXEC_OK is SetTaskExecOK."""
    return "".join(part if part == "OK" else part.title() for part in command.name.split("_"))


def test_command_bytes_are_the_transcripts() -> None:
    names = {step["name"]: int(step["cmd"], 16) for step in FRAMES if step["name"] != "?"}
    assert names == {name_of(command): command for command in Command}


def frame_of(step: dict[str, Any]) -> tuple[int, bytes]:
    (frame,) = ipc.FrameDecoder().feed(bytes.fromhex(step["frame_hex"]))
    return frame


def test_recorded_frames_both_ways() -> None:
    for step in FRAMES:
        command, payload = frame_of(step)
        assert command == int(step["cmd"], 16)
        assert ipc.encode_frame(command, payload).hex() == step["frame_hex"]


def view(value: Any) -> dict[str, Any]:
    """A payload in the words of the transcripts."""
    match value:
        case ipc.Bind(port):
            return {"port": port}
        case ipc.Dial(address, port):
            return {"dst_addr": str(address), "dst_port": port}
        case ipc.ConnId(conn_id):
            return {"conn_id": conn_id}
        case ipc.Accept(local_port, conn_id, remote, remote_port):
            return {
                "local_port": local_port,
                "conn_id": conn_id,
                "remote_addr": str(remote),
                "remote_port": remote_port,
            }
        case ipc.ConnData(conn_id, data):
            return {"conn_id": conn_id, "data_hex": data.hex()}
        case ipc.SendTo(address, port, data):
            return {"dst_addr": str(address), "dst_port": port, "data_hex": data.hex()}
        case ipc.RecvFrom(source, source_port, destination_port, data):
            return {
                "src_addr": str(source),
                "src_port": source_port,
                "dst_port": destination_port,
                "data_hex": data.hex(),
            }
        case ipc.Error(code, message):
            return {"code": code, "message": message}
        case ipc.Flag(on):
            return {"value": int(on)}
    return {}


def test_recorded_payloads_both_ways() -> None:
    """Every recorded payload is read as the transcript says, and written back the same."""
    read = 0
    for step in FRAMES:
        command, payload = frame_of(step)
        if command not in PAYLOADS or len(payload) == 0 or step["fields"].get("malformed"):
            continue
        try:
            value = PAYLOADS[command].decode(payload)
        except WireError:
            continue  # judged by the next test
        fields = {k: v for k, v in step["fields"].items() if k in view(value)}
        if isinstance(value, ipc.Flag) and fields["value"] not in (0, 1):
            assert not value.on
            continue
        assert view(value) == fields
        # Surplus bytes are ignored, and a flag of any value but 1 means no.
        flag = b"\x07\x00\x03\x02"
        assert payload.startswith(value.encode()) or (command, payload) == (Command.NETWORK, flag)
        read += 1
    assert read > 250


def test_refused_payloads_carry_the_text_of_the_error_frame() -> None:
    """A payload is refused exactly where the reference refuses it, in the same words."""
    refused = 0
    for transcript in TRANSCRIPTS:
        steps = transcript["steps"]
        for index, step in enumerate(steps):
            if step["dir"] != "send" or "frame_hex" not in step or "cmd" not in step:
                continue
            command, payload = frame_of(step)
            if command not in PAYLOADS or Command(command).name.endswith("OK"):
                continue
            if command in (Command.ACCEPT, Command.RECV, Command.RECV_FROM, Command.ERROR):
                continue
            try:
                if command == Command.SET_TASK_EXEC:
                    ipc.Flag.decode(payload, "set_task_exec")
                else:
                    PAYLOADS[command].decode(payload)
            except WireError as error:
                answer = next(s for s in steps[index + 1 :] if s["client"] == step["client"])
                assert answer["fields"]["message"] == error.message
                refused += 1
    assert refused >= 25


def test_json_replies_are_written_byte_for_byte() -> None:
    """But for members of nested objects, which the reference sorts in some replies only."""
    replies = [step for step in FRAMES if "json" in step["fields"]]
    assert len(replies) > 50
    equal = 0
    for step in replies:
        recorded, written = frame_of(step)[1], ipc.encode_json(step["fields"]["json"])
        assert sorted(recorded) == sorted(written)
        equal += recorded == written
    assert equal > 0.8 * len(replies)


def test_long_recorded_frames() -> None:
    largest = ipc.encode_frame(0xFF, bytes(ipc.MAX_FRAME - 1))
    (step,) = [step for step in STEPS if step.get("frame_len") == ipc.MAX_FRAME + 4]
    assert largest[:32].hex() == step["frame_head_hex"]
    assert hashlib.sha256(largest).hexdigest() == step["frame_sha256"]
    assert ipc.FrameDecoder().feed(largest) == [(0xFF, bytes(ipc.MAX_FRAME - 1))]


def test_a_frame_over_the_limit_is_not_made() -> None:
    """It would cost the receiver its connection."""
    ipc.encode_frame(Command.SEND, ipc.ConnData(1, bytes(ipc.MAX_SEND_DATA)).encode())
    with pytest.raises(WireError, match="too large"):
        ipc.encode_frame(Command.SEND, ipc.ConnData(1, bytes(ipc.MAX_SEND_DATA + 1)).encode())


def test_empty_frames_are_skipped() -> None:
    stream = bytes(8) + ipc.encode_frame(Command.INFO) + bytes(4)
    assert ipc.FrameDecoder().feed(stream) == [(Command.INFO, b"")]


def test_a_managed_network_may_be_missing_or_half() -> None:
    for payload in (b"\x02", b"\x02\x00"):
        assert ipc.Managed.decode(payload) == ipc.Managed(ipc.ManagedSub.STATUS)
    assert ipc.Managed.decode(b"\x02\x00\x05\x07").network_id == 5


def test_only_requests_and_rejections_carry_text() -> None:
    """Surplus bytes of the others are ignored."""
    for sub in (ipc.HandshakeSub.APPROVE, ipc.HandshakeSub.REVOKE):
        assert ipc.Handshake.decode(bytes((sub,)) + b"\0\0\0\7text") == ipc.Handshake(sub, 7)
    rejected = ipc.Handshake.decode(b"\x03\0\0\0\7text")
    assert rejected == ipc.Handshake(ipc.HandshakeSub.REJECT, 7, "text")


@pytest.mark.parametrize(
    "value",
    [
        ipc.Bind(65536),
        ipc.Dial(Address(65536, 0), 1),
        ipc.ConnId(-1),
        ipc.SendTo(Address(0, 2**32), 1, b""),
        ipc.Handshake(ipc.HandshakeSub.APPROVE, 2**32),
        ipc.Network(ipc.NetworkSub.LEAVE, 65536),
        ipc.Managed(ipc.ManagedSub.SCORE, 1, 1, 2**31),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_fits_no_payload(value: Any) -> None:
    with pytest.raises(WireError):
        value.encode()


@given(text)
def test_text_runs_to_the_end(value: str) -> None:
    assert ipc.decode_text(ipc.encode_text(value)) == value


def test_text_that_utf8_cannot_express() -> None:
    assert ipc.encode_text("a\ud800b") == "a\ufffdb".encode()
    assert ipc.decode_text(b"a\xff") == "a\ufffd"


@given(ipc_payloads)
def test_decoding_undoes_encoding(value: Any) -> None:
    assert type(value).decode(value.encode()) == value


@given(
    st.sampled_from(sorted(set(PAYLOADS.values()), key=lambda kind: str(kind.__name__))),
    hostile(ipc_payloads.map(lambda value: value.encode())),
)
def test_any_bytes_give_a_payload_or_a_wire_error(payload_type: Any, payload: bytes) -> None:
    try:
        value = payload_type.decode(payload)
    except WireError:
        return
    assert payload_type.decode(value.encode()) == value
