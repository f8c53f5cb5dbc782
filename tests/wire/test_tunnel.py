from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from pilot.errors import WireError
from pilot.wire.beacon import is_message
from pilot.wire.packet import decode_packet
from pilot.wire.tunnel import (
    AuthenticatedKeyExchange,
    Frame,
    KeyExchange,
    PlainFrame,
    Punch,
    SecureFrame,
    decode_frame,
    signed_bytes,
)
from tests.golden import golden
from tests.strategies import frames, hostile

VECTORS = golden("tunnel")
KEYS = VECTORS["keys"]


def key(owner: str, name: str) -> bytes:
    return bytes.fromhex(KEYS[owner][name])


@pytest.mark.parametrize("case", VECTORS["pila"], ids=lambda case: case["sender"])
def test_golden_authenticated_key_exchange(case: dict[str, Any]) -> None:
    sender, node_id = case["sender"], KEYS[case["sender"]]["node_id"]
    public_key = key(sender, "x25519_public")
    frame = AuthenticatedKeyExchange(
        node_id,
        public_key,
        key(sender, "ed25519_public"),
        bytes.fromhex(case["signature_hex"]),
    )
    assert frame.encode().hex() == case["frame_hex"]
    assert decode_frame(bytes.fromhex(case["frame_hex"])) == frame
    assert signed_bytes(node_id, public_key).hex() == case["signed_bytes_hex"]


@pytest.mark.parametrize("case", VECTORS["pila_tolerated"], ids=lambda case: case["name"])
def test_a_longer_key_exchange_is_accepted(case: dict[str, Any]) -> None:
    """As by the reference, which ignores what follows."""
    data = bytes.fromhex(case["frame_hex"])
    assert decode_frame(data) == decode_frame(data[:136])


@pytest.mark.parametrize("case", VECTORS["pila_rejected"], ids=lambda case: case["name"])
def test_only_the_length_is_judged_here(case: dict[str, Any]) -> None:
    """Whether keys and signatures hold is for the tunnel to find out."""
    data = bytes.fromhex(case["frame_hex"])
    if case["reason"] == "too_short":
        with pytest.raises(WireError, match="too short"):
            decode_frame(data)
    else:
        assert isinstance(decode_frame(data), AuthenticatedKeyExchange)


@pytest.mark.parametrize("case", VECTORS["pilk"], ids=lambda case: case["sender"])
def test_golden_anonymous_key_exchange(case: dict[str, Any]) -> None:
    frame = KeyExchange(KEYS[case["sender"]]["node_id"], key(case["sender"], "x25519_public"))
    assert frame.encode().hex() == case["frame_hex"]
    assert decode_frame(bytes.fromhex(case["frame_hex"])) == frame


@pytest.mark.parametrize("case", VECTORS["pils"], ids=lambda case: case["name"])
def test_golden_secure_frames(case: dict[str, Any]) -> None:
    frame = SecureFrame(
        int(case["aad_hex"], 16),
        bytes.fromhex(case["nonce_hex"]),
        bytes.fromhex(case["ciphertext_and_tag_hex"]),
    )
    assert frame.encode().hex() == case["frame_hex"]
    assert decode_frame(bytes.fromhex(case["frame_hex"])) == frame


@pytest.mark.parametrize("case", VECTORS["pils_rejected"], ids=lambda case: case["name"])
def test_secure_frames_are_only_measured_here(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["frame_hex"])
    if case["reason"] == "too_short":
        with pytest.raises(WireError, match="too short"):
            decode_frame(data)
    else:
        assert isinstance(decode_frame(data), SecureFrame)


def test_golden_plain_frame_and_punch() -> None:
    packet = bytes.fromhex(VECTORS["pilt"]["packet_hex"])
    decode_packet(packet)
    assert PlainFrame(packet).encode().hex() == VECTORS["pilt"]["frame_hex"]
    assert decode_frame(bytes.fromhex(VECTORS["pilt"]["frame_hex"])) == PlainFrame(packet)
    assert Punch().encode().hex() == VECTORS["pilp"]["frame_hex"]
    assert decode_frame(b"PILP and more") == Punch()


def test_every_frame_of_the_recorded_scenarios_is_read() -> None:
    for scenario in VECTORS["scenarios"]:
        for step in scenario.get("steps", []):
            for text in [step["in_hex"], *step["out_hex"]]:
                data = bytes.fromhex(text)
                assert data.startswith(decode_frame(data).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"P",
        b"PIL",
        b"PILX",
        b"PILT",
        b"PILT" + bytes(33),
        b"PILS" + bytes(31),
        b"\x01\0\0\0\7",
    ],
)
def test_what_is_no_frame(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_frame(data)


@pytest.mark.parametrize(
    "frame",
    [
        SecureFrame(2**32, bytes(12), bytes(16)),
        SecureFrame(1, bytes(11), bytes(16)),
        KeyExchange(-1, bytes(32)),
        KeyExchange(1, bytes(33)),
        AuthenticatedKeyExchange(1, bytes(32), bytes(31), bytes(64)),
        AuthenticatedKeyExchange(1, bytes(32), bytes(32), bytes(65)),
    ],
)
def test_what_fits_no_frame(frame: Frame) -> None:
    with pytest.raises(WireError):
        frame.encode()


def test_a_punch_is_a_value() -> None:
    """Unlike an empty tuple it is true, so that `if frame` means what it says."""
    assert Punch()
    assert len({Punch(), Punch()}) == 1
    assert repr(Punch()) == "Punch()"


@given(frames)
def test_decoding_undoes_encoding(frame: Frame) -> None:
    assert decode_frame(frame.encode()) == decode_frame(memoryview(frame.encode())) == frame


@given(frames)
def test_no_frame_looks_like_a_message_of_the_beacon(frame: Frame) -> None:
    assert not is_message(frame.encode())


@given(hostile(frames.map(lambda frame: frame.encode())))
def test_any_bytes_give_a_frame_or_a_wire_error(data: bytes) -> None:
    try:
        frame = decode_frame(data)
    except WireError:
        return
    assert data.startswith(frame.encode())
