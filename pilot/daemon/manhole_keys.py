"""The manhole's keys: which of the operators' may enter, and the one of its own.

@see: the page I{Manhole}, I{Keys}.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.error import ValidPublicKey
from twisted.conch.ssh.keys import BadKeyError, FingerprintFormats, Key
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ISSHPrivateKey
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from pilot.crypto.files import write_atomically
from pilot.errors import PilotError

log = Logger()

#: The file of the own key, in the daemon's home.
HOST_KEY = "manhole_host_key"

#: The file of the operators' keys, in the daemon's home or in C{~/.ssh}.
AUTHORIZED_KEYS = "authorized_keys"

#: Bytes of that file.
MAX_KEYS_FILE = 1 << 20

_KINDS = (b"ssh-ed25519", b"ssh-rsa", b"ecdsa-sha2-", b"sk-ssh-", b"sk-ecdsa-")


class KeysError(PilotError):
    """The operators' keys cannot be used as they are."""

    code = "invalid_argument"


class AuthorizedKeys:
    """
    The keys that may enter, as they are in their file at this moment: a key that was taken out of
    it opens nothing any more.

    @ivar path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Key]:
        """
        @return: the keys; a line that is no key, or restricts one in a way that is not kept here,
            is left out.
        @raise KeysError: the file cannot be read, or others may write to it.
        """
        try:
            real = Path(os.path.realpath(self.path))
            descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                _check_file(real, os.fstat(descriptor))
                _check_directories(real)
                _check_directories(self.path.absolute())  # where a link stands
                content = file.read(MAX_KEYS_FILE + 1)
        except OSError as error:
            raise KeysError(f"keys of the manhole: {self.path}: {error.strerror}") from None
        if len(content) > MAX_KEYS_FILE:
            raise KeysError(
                f"keys of the manhole: {self.path} is longer than {MAX_KEYS_FILE} bytes"
            )
        return [key for line in content.splitlines() if (key := _key(line.strip())) is not None]


@implementer(ICredentialsChecker)
class KeyChecker:
    """Lets in whoever has one of the keys, under any name."""

    credentialInterfaces = (ISSHPrivateKey,)

    def __init__(self, keys: AuthorizedKeys) -> None:
        self._keys = keys

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        """
        @return: Deferred of the fingerprint of the key that was used.
            It fails with C{ValidPublicKey} when the key would do and its owner shall sign, and with
            C{UnauthorizedLogin} when it would not, or did not sign this.
        """
        return maybeDeferred(self._check, credentials)

    def _check(self, credentials: Any) -> bytes | tuple[()]:
        try:
            offered = Key.fromString(credentials.blob)
            known = any(offered == key for key in self._keys.read())
        except KeysError as error:
            log.error("{error}", error=error.message)
            raise UnauthorizedLogin("the keys cannot be read") from None
        except Exception as error:  # conch raises what it likes at a malformed key
            raise UnauthorizedLogin("no key") from error
        if not known:
            raise UnauthorizedLogin(f"{fingerprint(offered)} is not authorized")
        if not credentials.signature:
            raise ValidPublicKey
        try:
            signed = offered.verify(credentials.signature, credentials.sigData)
        except Exception:  # the same for a malformed signature
            signed = False
        if not signed:
            raise UnauthorizedLogin("the signature is wrong")
        return fingerprint(offered).encode("ascii")


def find_authorized_keys(home: Path, configured: str) -> AuthorizedKeys:
    """
    @param home: directory of the node's files.
    @param configured: a file, or C{""} for the usual places.
    @return: the operators' keys, of which there is at least one.
    @raise KeysError: there is none, or they cannot be used.
    """
    usual = (home / AUTHORIZED_KEYS, Path("~/.ssh").expanduser() / AUTHORIZED_KEYS)
    path = Path(configured) if configured else next((p for p in usual if p.exists()), None)
    if path is None:
        raise KeysError(
            "the manhole lets nobody in without a key",
            hint=f"put your public key into {usual[0]}: cp ~/.ssh/id_ed25519.pub {usual[0]}",
        )
    keys = AuthorizedKeys(path)
    if not keys.read():
        raise KeysError(
            f"keys of the manhole: {path} holds no key that can be used",
            hint="one public key a line, without options, as in ~/.ssh/id_ed25519.pub",
        )
    return keys


def host_key(home: Path) -> Key:
    """
    @return: the manhole's own Ed25519 key, made and kept in C{home} if there is none.
    @raise KeysError: it cannot be read, written, or trusted.
    """
    path = home / HOST_KEY
    try:
        if not os.path.lexists(path):
            made = Key(Ed25519PrivateKey.generate())
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(
                path, made.toString("OPENSSH", subtype="v1", comment="pilot manhole"), 0o600
            )
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise KeysError(
                    f"host key of the manhole: others may read or change {path}",
                    hint=f"chmod 600 {path}; if somebody else has read it, delete it",
                )
            key: Key = Key.fromString(file.read(16384))
        if key.isPublic() or key.sshType() != b"ssh-ed25519":
            raise BadKeyError("not an Ed25519 private key")
    except OSError as error:
        raise KeysError(f"host key of the manhole: {path}: {error.strerror}") from None
    except PilotError:
        raise
    except Exception as error:  # conch raises what it likes at a file that is no key
        raise KeysError(
            f"host key of the manhole: {path} is damaged: {error}",
            hint="move it away; the next start makes a new one",
        ) from None
    return key


def fingerprint(key: Key) -> str:
    """@return: a key's fingerprint as ssh shows it: C{SHA256:...}."""
    digest: str = key.fingerprint(FingerprintFormats.SHA256_BASE64)
    return "SHA256:" + digest.rstrip("=")


def public_line(key: Key) -> str:
    """@return: the public half on one line, as in C{known_hosts}: C{ssh-ed25519 AAAA...}."""
    text: bytes = key.public().toString("OPENSSH")
    return text.decode("ascii").strip()


def _key(line: bytes) -> Key | None:
    """A line of the keys' file."""
    if not line or line.startswith(b"#"):
        return None
    if not line.startswith(_KINDS):
        # Options come first.  Most of them restrict the key, so leaving them out would let in too
        # much: better nobody.
        log.error("a line of the manhole's keys is left out: {line}", line=_start(line))
        return None
    try:
        key = Key.fromString(line)
        return key if key.isPublic() else None
    except Exception as error:  # conch raises what it likes at a malformed key
        log.error(
            "a line of the manhole's keys is no key: {line} ({error})",
            line=_start(line),
            error=type(error).__name__,
        )
        return None


def _start(line: bytes) -> str:
    return line[:40].decode("utf-8", "replace")


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise KeysError(f"keys of the manhole: {path} is no regular file")
    _check_owner(path, found, sticky_helps=False)


def _check_directories(path: Path) -> None:
    """As sshd does: whoever may rename what is above the file may replace it."""
    home = Path(os.path.realpath(os.path.expanduser("~")))
    for directory in path.parents:
        _check_owner(directory, directory.stat(), sticky_helps=True)
        if directory == home:
            break


def _check_owner(path: Path, found: os.stat_result, *, sticky_helps: bool) -> None:
    """@param sticky_helps: whether the sticky bit keeps others from what is ours in there."""
    hint = f"chown and chmod go-w {path}; whoever writes there could let in anybody"
    if found.st_uid not in (0, os.geteuid()):
        raise KeysError(f"keys of the manhole: {path} belongs to somebody else", hint=hint)
    sticky = sticky_helps and found.st_mode & stat.S_ISVTX
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
        raise KeysError(f"keys of the manhole: others may write to {path}", hint=hint)
