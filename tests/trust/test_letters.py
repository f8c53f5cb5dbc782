"""What we write: byte for byte what the reference would."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred, succeed

from pilot.crypto.identity import Identity
from pilot.trust.letters import Letters
from pilot.trust.records import Step
from pilot.wire.handshake import decode_handshake, signed_text
from tests.golden import golden

SIGNATURES = golden("trust_signatures")
MESSAGES = {message["name"]: message for message in SIGNATURES["messages"]}
STEPS = {
    "request": ("A", 1, 2, Step.ASK, "let us talk"),
    "accept": ("B", 2, 1, Step.ACCEPT, ""),
    "reject": ("B", 2, 1, Step.REJECT, "not today"),
    "revoke": ("A", 1, 2, Step.REVOKE, ""),
}


def letters(key: str, node_id: int, now: float) -> tuple[Letters, list[tuple[int, bytes]]]:
    sent: list[tuple[int, bytes]] = []

    def send(target: int, data: bytes) -> Deferred[None]:
        sent.append((target, data))
        return succeed(None)

    identity = Identity.from_seed(bytes.fromhex(SIGNATURES["keys"][key]["seed_hex"]))
    return Letters(identity, node_id, send_message=send, wall_time=lambda: now), sent


@pytest.mark.parametrize("name", STEPS)
def test_golden_messages(name: str) -> None:
    key, source, target, step, text = STEPS[name]
    recorded = bytes.fromhex(MESSAGES[name]["hex"])
    writer, sent = letters(key, source, decode_handshake(recorded).timestamp + 0.9)
    writer.send(target, step, text)
    assert sent == [(target, recorded)]


def test_golden_escapes() -> None:
    """Every character that JSON or HTML finds special, and a byte that is no text at all."""
    recorded = bytes.fromhex(MESSAGES["request_escaped"]["hex"])
    message = decode_handshake(recorded)
    writer, _ = letters("A", 1, message.timestamp)
    justification = message.justification.replace("\ufffd", "\udcff")
    assert writer.write(2, Step.ASK, justification) == recorded


def handshake_signatures() -> Iterator[tuple[str, str, str]]:
    for entry in SIGNATURES["signatures"]:
        if entry["signed_text"].startswith("handshake:"):
            yield entry["signer"], entry["signed_text"], entry["signature_b64"]


@pytest.mark.parametrize(("signer", "text", "signature"), list(handshake_signatures()))
def test_golden_signatures(signer: str, text: str, signature: str) -> None:
    _, source, target = text.split(":")
    writer, _ = letters(signer, int(source), 0)
    assert signed_text(int(source), int(target)).decode() == text
    assert decode_handshake(writer.write(int(target), Step.ASK, "")).signature == signature


def test_no_two_messages_to_one_peer_carry_the_same_second() -> None:
    """A reference peer takes two equal messages of one second for a replay."""
    writer, sent = letters("A", 1, 1000.5)
    for target in (2, 2, 3, 2):
        writer.send(target, Step.REVOKE, "")
    stamps = [(target, decode_handshake(data).timestamp) for target, data in sent]
    assert stamps == [(2, 1000), (2, 1001), (3, 1000), (2, 1002)]


def test_what_is_remembered_of_peers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilot.trust.letters._REMEMBERED", 2)
    writer, _ = letters("A", 1, 1000.0)
    for target in range(10):
        writer.send(target, Step.REVOKE, "")
    assert len(writer._latest) == 2


def test_a_sender_that_raises_is_a_failed_message() -> None:
    writer, _ = letters("A", 1, 0)
    writer._send_message = lambda *_: 1 / 0  # type: ignore[assignment,return-value]
    failures: list[object] = []
    writer.send(2, Step.REVOKE, "").addErrback(failures.append)
    assert len(failures) == 1
