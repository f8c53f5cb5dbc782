"""Who a node is: an Ed25519 key, and the file it lives in."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from pilot.crypto.files import write_atomically
from pilot.errors import PilotError

#: Bytes of an identity file that is worth reading; a sound one has about 180.
_MAX_FILE = 4096


class IdentityError(PilotError):
    """An identity file that cannot be used."""

    code = "invalid_argument"


class Identity:
    """
    The key that a node signs with.

    @ivar public_key: 32 bytes.
    @ivar public_key_text: the same as standard base64 with padding, as it travels in JSON.
    """

    __slots__ = ("_key", "_seed", "public_key", "public_key_text")

    def __init__(self, seed: bytes) -> None:
        """@param seed: the 32 secret bytes."""
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()
        self.public_key_text = base64.b64encode(self.public_key).decode("ascii")

    @classmethod
    def generate(cls) -> Identity:
        """@return: a new identity."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """@return: the identity of 32 secret bytes."""
        return cls(seed)

    def sign(self, data: bytes) -> bytes:
        """@return: the signature of C{data}, 64 bytes."""
        return self._key.sign(data)

    def sign_text(self, data: bytes) -> str:
        """@return: the signature of C{data} as base64."""
        return base64.b64encode(self.sign(data)).decode("ascii")

    def to_file(self) -> bytes:
        """@return: the content of the identity file."""
        secret = base64.b64encode(self._seed + self.public_key).decode("ascii")
        document = {"private_key": secret, "public_key": self.public_key_text}
        return json.dumps(document, indent=2).encode("ascii")

    def __repr__(self) -> str:
        return f"<Identity {self.public_key_text}>"


def verify(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """
    @return: whether C{signature} is that of C{public_key} over C{data}; False too for keys and
        signatures of a wrong length.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def load_identity(path: Path) -> Identity:
    """
    Read an identity file (protocol notes, I{Files}).  Permissions wider than 0600 are taken away.

    @raise FileNotFoundError: there is none.
    @raise IdentityError: it is unreadable, malformed, or its two keys do not belong together.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE + 1)
            # A secret that others can read is worth closing, whoever copied it here.
            if os.fstat(file.fileno()).st_mode & 0o077:
                with contextlib.suppress(OSError):
                    os.fchmod(file.fileno(), 0o600)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    if len(content) > _MAX_FILE:
        raise _unusable(path, "it is too large")
    try:
        document = json.loads(content)
        secret = base64.b64decode(document["private_key"], validate=True)
        public = base64.b64decode(document["public_key"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as error:
        raise _unusable(path, "it is not an identity file") from error
    if len(secret) != 64 or len(public) != 32:
        raise _unusable(path, "its keys have wrong lengths")
    identity = Identity(secret[:32])
    if not identity.public_key == public == secret[32:]:
        raise _unusable(path, "its public key does not belong to its private key")
    return identity


def save_identity(path: Path, identity: Identity) -> None:
    """
    Write an identity file with mode 0600, its directory with 0700.

    @raise OSError: it could not be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, identity.to_file())


def load_or_create_identity(path: Path) -> tuple[Identity, bool]:
    """
    Read the identity file, or make an identity and its file.

    @return: the identity, and whether it is new.
    @raise IdentityError: there is a file that cannot be used; it is left alone.
    @raise OSError: the new file could not be written.
    """
    try:
        return load_identity(path), False
    except FileNotFoundError:
        identity = Identity.generate()
        save_identity(path, identity)
        return identity, True


def _unusable(path: Path, why: str) -> IdentityError:
    return IdentityError(
        f"load identity {path}: {why}",
        hint="restore the file from a backup, or move it away to get a new address",
    )
