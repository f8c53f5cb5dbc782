"""Sealing and opening, against the golden frames."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.crypto.keys import KeyPair
from pilot.crypto.session import FRAME_LIMIT, LANES, Exhausted, Forged, Replayed, Session
from tests.golden import golden

VECTORS = golden("tunnel")
KEYS = VECTORS["keys"]


def session(own: str, peer: str) -> Session:
    """@return: the session of a golden node with another, using its golden nonce prefix."""
    keys = KEYS[own]
    prefix = int(keys["nonce_prefix"], 16)
    pair = KeyPair(bytes.fromhex(keys["x25519_private"]), prefix)
    return Session(
        pair, keys["node_id"], bytes.fromhex(KEYS[peer]["x25519_public"]), KEYS[peer]["node_id"]
    )


def frame(case: dict[str, Any]) -> bytes:
    return bytes.fromhex(case["frame_hex"])


@pytest.mark.parametrize("case", VECTORS["pils"], ids=lambda case: case["name"])
def test_seals_and_opens_the_golden_frames(case: dict[str, Any]) -> None:
    sender, receiver = case["direction"].split("->")
    sealing, opening = session(sender, receiver), session(receiver, sender)
    if int(case["counter"]) < FRAME_LIMIT:
        sealing.sent = int(case["counter"]) - 1
        header, ciphertext = sealing.seal([bytes.fromhex(case["plaintext_hex"])])
        assert header + ciphertext == frame(case)
    packet, lane, newest = opening.open(frame(case))
    assert packet.hex() == case["plaintext_hex"]
    assert newest
    assert lane.expected == int(case["counter"]) + 1


@pytest.mark.parametrize(
    "case",
    [case for case in VECTORS["pils_rejected"] if case["reason"] == "authentication"],
    ids=lambda case: case["name"],
)
def test_forgeries_are_told(case: dict[str, Any]) -> None:
    opening = session("b", "a")
    with pytest.raises(Forged):
        opening.open(frame(case))
    assert opening.lanes == {}
    opening.open(frame(VECTORS["pils_rejected_base"]))


def test_forgeries_never_move_the_window() -> None:
    """The golden mixture of authentic and forged frames, delivered as it should be."""
    sealing, opening = session("a", "b"), session("b", "a")
    for step in VECTORS["replay_with_forgeries"]:
        counter = int(step["counter"])
        sealing.sent = min(counter - 1, FRAME_LIMIT - 1)
        whole = b"".join(sealing.seal([b"packet"]))
        if step["forged"]:
            whole = whole[:12] + counter.to_bytes(8, "big") + whole[20:-1] + b"\0"
        try:
            opening.open(whole)
            delivered = True
        except (Forged, Replayed):
            delivered = False
        assert delivered is step["delivered_when_recording_only_after_authentication"], step


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_what_one_seals_the_other_opens_once(packets: list[bytes]) -> None:
    sealing, opening = session("a", "b"), session("b", "a")
    buffers = sealing.seal(packets)
    frames = [header + sealed for header, sealed in zip(buffers[::2], buffers[1::2], strict=True)]
    assert [opening.open(whole)[0] for whole in frames] == packets
    for whole in frames:
        with pytest.raises(Replayed):
            opening.open(whole)
    assert sealing.sent == opening.received - bool(packets) == len(packets)


def test_the_first_counter_is_one() -> None:
    header, _ = session("a", "b").seal([b""])
    assert header[12:] == (1).to_bytes(8, "big")


def test_a_late_frame_is_good_but_not_the_newest() -> None:
    sealing, opening = session("a", "b"), session("b", "a")
    first, second = (b"".join(sealing.seal([b"packet"])) for _ in range(2))
    assert opening.open(second)[2] is True
    assert opening.open(first)[2] is False


def test_windows_are_kept_for_each_prefix() -> None:
    """A peer that starts to count again under a new prefix is heard; its old frames stay used."""
    opening, pair = session("b", "a"), KeyPair(bytes.fromhex(KEYS["a"]["x25519_private"]), 1)
    public = bytes.fromhex(KEYS["b"]["x25519_public"])
    frames = []
    for _ in range(3):
        restarted = Session(pair, 7, public, KEYS["b"]["node_id"])
        frames += [b"".join(restarted.seal([b"packet"])) for _ in range(2)]
    for whole in frames:
        opening.open(whole)
    for whole in frames:
        with pytest.raises(Replayed):
            opening.open(whole)


def test_prefixes_without_end_are_refused_rather_than_forgotten() -> None:
    opening, pair = session("b", "a"), KeyPair(bytes.fromhex(KEYS["a"]["x25519_private"]), 1)
    public = bytes.fromhex(KEYS["b"]["x25519_public"])
    for number in range(LANES):
        assert opening.crowded is (number > LANES // 2)
        restarted = Session(pair, 7, public, KEYS["b"]["node_id"])
        opening.open(b"".join(restarted.seal([b"packet"])))
    with pytest.raises(Exhausted):
        opening.open(
            b"".join(Session(pair, 7, public, KEYS["b"]["node_id"]).seal([b"one too many"]))
        )
    assert len(opening.lanes) == LANES


def test_a_peer_that_comes_upon_our_prefix_is_avoided() -> None:
    """Both seal with one key: the same prefix and counter would give the plaintexts away."""
    ours = session("b", "a")
    theirs = Session(
        KeyPair(bytes.fromhex(KEYS["a"]["x25519_private"]), int.from_bytes(ours.prefix, "big")),
        7,
        bytes.fromhex(KEYS["b"]["x25519_public"]),
        KEYS["b"]["node_id"],
    )
    ours.seal([b"one", b"two"])
    ours.open(b"".join(theirs.seal([b"packet"])))
    assert ours.prefix != theirs.prefix
    header, _ = ours.seal([b"three"])
    assert header[12:] == (3).to_bytes(8, "big"), "the counter goes on"


def test_a_key_is_not_used_beyond_its_limit() -> None:
    sealing = session("a", "b")
    sealing.sent = FRAME_LIMIT - 1
    with pytest.raises(Exhausted):
        sealing.seal([b"one", b"two"])
    sealing.seal([b"the last"])
    with pytest.raises(Exhausted):
        sealing.seal([b"never"])
    assert sealing.sent == FRAME_LIMIT
