"""Identities, and the files they live in."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilot.crypto.identity import (
    Identity,
    IdentityError,
    load_identity,
    load_or_create_identity,
    save_identity,
    verify,
)
from pilot.wire.tunnel import signed_bytes
from tests.golden import golden

KEYS = golden("tunnel")["keys"]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def document(identity: Identity) -> dict[str, Any]:
    content = json.loads(identity.to_file())
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("who", sorted(KEYS))
def test_public_keys_of_the_golden_seeds(who: str) -> None:
    identity = Identity.from_seed(bytes.fromhex(KEYS[who]["ed25519_seed"]))
    assert identity.public_key.hex() == KEYS[who]["ed25519_public"]
    assert base64.b64decode(identity.public_key_text) == identity.public_key


@pytest.mark.parametrize("offer", golden("tunnel")["pila"])
def test_signs_key_exchanges_as_the_reference_does(offer: dict[str, str]) -> None:
    keys = KEYS[offer["sender"]]
    identity = Identity.from_seed(bytes.fromhex(keys["ed25519_seed"]))
    data = signed_bytes(keys["node_id"], bytes.fromhex(keys["x25519_public"]))
    assert data.hex() == offer["signed_bytes_hex"]
    assert identity.sign(data).hex() == offer["signature_hex"]
    assert identity.sign_text(data) == b64(bytes.fromhex(offer["signature_hex"]))
    assert verify(identity.public_key, identity.sign(data), data)


def test_verify_refuses_without_raising() -> None:
    identity = Identity.from_seed(bytes(32))
    signature = identity.sign(b"data")
    assert verify(identity.public_key, signature, b"data")
    assert not verify(identity.public_key, signature, b"other")
    assert not verify(identity.public_key, signature[:-1], b"data")
    assert not verify(identity.public_key[:-1], signature, b"data")
    assert not verify(bytes(32), signature, b"data")
    assert not verify(b"\xff" * 32, signature, b"data")


def test_two_generated_identities_differ_and_hide_their_secret() -> None:
    first, second = Identity.generate(), Identity.generate()
    assert first.public_key != second.public_key
    assert document(first)["private_key"] not in repr(first)


def test_file_has_the_reference_format(tmp_path: Path) -> None:
    """Two-space indentation, no newline at the end, the seed before the public key."""
    seed = bytes(range(32))
    identity = Identity.from_seed(seed)
    path = tmp_path / "home" / "identity.json"
    save_identity(path, identity)
    public = b64(identity.public_key)
    assert path.read_text() == (
        f'{{\n  "private_key": "{b64(seed + identity.public_key)}",\n  "public_key": "{public}"\n}}'
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_identity(path).public_key == identity.public_key


def test_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    made, new = load_or_create_identity(path)
    again, newer = load_or_create_identity(path)
    assert new and not newer
    assert made.public_key == again.public_key


def test_a_file_that_others_may_read_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    path.write_bytes(Identity.generate().to_file())
    path.chmod(0o644)
    load_identity(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def other_public(content: dict[str, Any]) -> None:
    content["public_key"] = Identity.from_seed(bytes(32)).public_key_text


def other_half(content: dict[str, Any]) -> None:
    secret = base64.b64decode(content["private_key"])
    content["private_key"] = b64(secret[:32] + bytes(32))


def short(content: dict[str, Any]) -> None:
    content["private_key"] = b64(bytes(32))


def not_base64(content: dict[str, Any]) -> None:
    content["private_key"] = "*" * 88


def not_text(content: dict[str, Any]) -> None:
    content["private_key"] = 5


def missing(content: dict[str, Any]) -> None:
    del content["public_key"]


@pytest.mark.parametrize("spoil", [other_public, other_half, short, not_base64, not_text, missing])
def test_refuses_unsound_content_with_a_hint(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None]
) -> None:
    content = document(Identity.generate())
    spoil(content)
    path = tmp_path / "identity.json"
    path.write_text(json.dumps(content))
    with pytest.raises(IdentityError) as caught:
        load_or_create_identity(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert json.loads(path.read_text()) == content, "the file is left alone"


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff", b"{" * 5000, b" " * 5000])
def test_refuses_what_is_no_identity_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "identity.json"
    path.write_bytes(content)
    with pytest.raises(IdentityError):
        load_identity(path)


def test_refuses_a_directory(tmp_path: Path) -> None:
    with pytest.raises(IdentityError):
        load_identity(tmp_path)


def test_says_when_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_identity(tmp_path / "identity.json")
