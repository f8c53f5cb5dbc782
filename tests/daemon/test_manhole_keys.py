"""Whose keys open the manhole, and how its own is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from twisted.conch.error import ValidPublicKey
from twisted.conch.ssh.keys import Key
from twisted.cred.credentials import SSHPrivateKey
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pilot.daemon.manhole_keys import (
    MAX_KEYS_FILE,
    AuthorizedKeys,
    KeyChecker,
    KeysError,
    find_authorized_keys,
    fingerprint,
    host_key,
    public_line,
)

KEY = Key(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
LINE = KEY.public().toString("OPENSSH")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    return path


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True, mode=0o700)
    path.write_bytes(content)
    path.chmod(mode)
    return path


# -- which file --------------------------------------------------------------------------------


def test_the_node_s_own_file_comes_before_that_of_ssh(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(KeysError, match="without a key") as raised:
        find_authorized_keys(home, "")
    assert str(home / "authorized_keys") in (raised.value.hint or "")
    ssh = write(tmp_path / ".ssh" / "authorized_keys", LINE)
    assert find_authorized_keys(home, "").path == ssh
    own = write(home / "authorized_keys", LINE)
    assert find_authorized_keys(home, "").path == own
    named = write(tmp_path / "named", LINE)
    assert find_authorized_keys(home, str(named)).path == named
    named.unlink()
    with pytest.raises(KeysError, match="named: No such file"):
        find_authorized_keys(home, str(named))


def test_lines_that_are_no_plain_keys_are_left_out(home: Path) -> None:
    """Options mostly restrict; who does not keep them would let in too much."""
    private = KEY.toString("OPENSSH", subtype="v1")
    content = b"\n".join(
        (
            b"# a comment",
            b"",
            b'command="ls",restrict ' + LINE,
            b'from="10.0.0.1" ' + LINE,
            b"cert-authority " + LINE,
            b"ssh-ed25519 not-base64!",
            b"ssh-ed25519 AAAA",
            b"ssh-dss AAAAB3NzaC1kc3M=",
            b"\xff\xfe\x00",
            private,
        )
    )
    path = write(home / "authorized_keys", content)
    assert AuthorizedKeys(path).read() == []
    with pytest.raises(KeysError, match="holds no key that can be used"):
        find_authorized_keys(home, "")
    write(path, content + b"\n" + LINE + b" operator@desk\r\n")
    assert AuthorizedKeys(path).read() == [KEY.public()]


@given(st.binary(max_size=200))
def test_any_bytes_are_keys_or_nothing(content: bytes) -> None:
    path = Path(os.environ["HOME"]) / "fuzz"
    write(path, b"ssh-ed25519 " + content)
    assert AuthorizedKeys(path).read() in ([], [KEY.public()])


def test_a_file_that_others_may_write_is_refused(home: Path) -> None:
    path = write(home / "authorized_keys", LINE)
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        with pytest.raises(KeysError, match=f"others may write to {path}"):
            AuthorizedKeys(path).read()
    path.chmod(0o644)
    assert len(AuthorizedKeys(path).read()) == 1


def test_so_is_one_in_a_directory_that_others_may_write(home: Path) -> None:
    path = write(home / "keys" / "authorized_keys", LINE)
    for directory in (path.parent, home):
        directory.chmod(0o777)
        with pytest.raises(KeysError, match=f"others may write to {directory}"):
            AuthorizedKeys(path).read()
        directory.chmod(0o1777)  # there they cannot rename what is ours
        assert len(AuthorizedKeys(path).read()) == 1
        directory.chmod(0o700)


def test_a_link_is_as_good_as_the_place_it_stands_in(home: Path) -> None:
    write(home / "real" / "keys", LINE)
    (home / "linked").mkdir(mode=0o700)
    link = home / "linked" / "authorized_keys"
    link.symlink_to(home / "real" / "keys")
    assert len(AuthorizedKeys(link).read()) == 1
    for directory in ("linked", "real"):
        (home / directory).chmod(0o777)
        with pytest.raises(KeysError, match="others may write"):
            AuthorizedKeys(link).read()
        (home / directory).chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_somebody_else_s_file_is_refused(home: Path) -> None:
    path = write(home / "authorized_keys", LINE)
    os.chown(path, 4242, -1)
    with pytest.raises(KeysError, match="belongs to somebody else"):
        AuthorizedKeys(path).read()


def test_what_is_no_file_and_what_is_too_long(home: Path) -> None:
    os.mkfifo(home / "fifo", 0o600)
    for name in (".", "fifo"):
        with pytest.raises(KeysError, match=r"no regular file|Is a directory"):
            AuthorizedKeys(home / name).read()
    long = write(home / "long", b"#" * (MAX_KEYS_FILE + 1))
    with pytest.raises(KeysError, match="is longer than"):
        AuthorizedKeys(long).read()


# -- the check ---------------------------------------------------------------------------------


def outcome(checked: Deferred[object]) -> object:
    found: list[object] = []
    checked.addBoth(found.append)
    (result,) = found
    return result.value if isinstance(result, Failure) else result


def test_proofs(home: Path) -> None:
    path = write(home / "authorized_keys", LINE)
    checker = KeyChecker(AuthorizedKeys(path))
    stranger = Key(Ed25519PrivateKey.generate())

    def check(key: Key, signature: bytes | None) -> object:
        blob = key.public().blob()
        proof = SSHPrivateKey(b"anybody", b"ssh-ed25519", blob, b"data", signature)
        return outcome(checker.requestAvatarId(proof))

    assert check(KEY, KEY.sign(b"data")) == fingerprint(KEY).encode()
    assert isinstance(check(KEY, None), ValidPublicKey)
    for key, signature in (
        (KEY, KEY.sign(b"other")),
        (KEY, b"nonsense"),
        (KEY, stranger.sign(b"data")),
        (stranger, stranger.sign(b"data")),
        (stranger, None),
    ):
        assert isinstance(check(key, signature), UnauthorizedLogin)
    malformed = SSHPrivateKey(b"anybody", b"ssh-ed25519", b"\0\0\0\1x", b"data", b"y")
    assert isinstance(outcome(checker.requestAvatarId(malformed)), UnauthorizedLogin)
    path.unlink()
    assert isinstance(check(KEY, KEY.sign(b"data")), UnauthorizedLogin)


# -- the host key ------------------------------------------------------------------------------


def test_the_host_key_is_made_once(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    key = host_key(home)
    path = home / "manhole_host_key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert host_key(home) == key
    assert public_line(key).startswith("ssh-ed25519 AAAA") and "\n" not in public_line(key)
    assert fingerprint(key).startswith("SHA256:") and not fingerprint(key).endswith("=")


def test_a_host_key_that_was_seen_or_is_damaged_is_not_used(home: Path) -> None:
    host_key(home)
    path = home / "manhole_host_key"
    path.chmod(0o640)
    with pytest.raises(KeysError, match="others may read or change"):
        host_key(home)
    for content in (b"", b"nonsense", LINE):
        write(path, content)
        with pytest.raises(KeysError, match="is damaged"):
            host_key(home)
    path.unlink()
    path.symlink_to(home / "elsewhere")
    with pytest.raises(KeysError, match="manhole_host_key: "):
        host_key(home)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_host_key_that_cannot_be_kept(home: Path) -> None:
    home.chmod(0o500)
    with pytest.raises(KeysError, match="Permission denied"):
        host_key(home)
    home.chmod(0o700)
