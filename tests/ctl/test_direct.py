"""C{lookup}, C{register} and C{rotate-key} against a registry of the test's own."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot.client.registry import Unanswered, ask_registry, split_endpoint
from pilot.crypto.identity import Identity, load_identity, save_identity, verify
from pilot.errors import InvalidArgument, RegistryError, RegistryUnavailable
from pilot.wire.registry import FrameDecoder, encode_frame
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, silent

Answer = Callable[[dict[str, Any]], bytes]


class FakeRegistry:
    """
    Answers every request with the bytes that C{answer} makes of it, then hangs up.

    @ivar address: C{host:port}.
    @ivar asked: the requests.
    """

    def __init__(self, answer: Answer) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[dict[str, Any]] = []
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> FakeRegistry:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    decoder = FrameDecoder()
                    requests: list[dict[str, Any]] = []
                    while not requests:
                        requests = decoder.feed(connection.recv(65536))
                    self.asked += requests
                    connection.sendall(self._answer(requests[0]))


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], FakeRegistry]]:
    with contextlib.ExitStack() as stack:

        def make(answer: Answer) -> FakeRegistry:
            registry = stack.enter_context(FakeRegistry(answer))
            monkeypatch.setenv("PILOT_REGISTRY", registry.address)
            return registry

        monkeypatch.setenv("PILOT_SOCKET", "/nonexistent/socket")
        yield make


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    identity = Identity.from_seed(bytes(32))
    (tmp_path / ".pilot").mkdir(mode=0o700)
    save_identity(tmp_path / ".pilot" / "identity.json", identity)
    return identity


def refuse(request: dict[str, Any]) -> bytes:
    return encode_frame({"type": "error", "error": "request failed"})


def accept(request: dict[str, Any]) -> bytes:
    return encode_frame({"type": request["type"] + "_ok", "node_id": 7})


def test_lookup(serve: Any, run: Run) -> None:
    """The answer as the registry gave it; news that come before it are not the answer."""
    answer = {"type": "lookup_ok", "node_id": 2, "address": "0:0000.0000.0002", "tags": ["web"]}
    news = encode_frame({"type": "notify", "event": "handshakes"})
    registry = serve(lambda request: news + encode_frame(answer))
    assert run("--json", "lookup", "2").data == answer
    assert json.loads(run("lookup", "2").out) == answer
    assert registry.asked[0] == {"type": "lookup", "node_id": 2}


def test_lookup_of_nobody(serve: Any, run: Run) -> None:
    error = {"type": "error", "error": "node 99: node not found"}
    serve(lambda request: encode_frame(error))
    assert run("--json", "lookup", "99").problem == {
        "status": "error",
        "code": "connection_failed",
        "message": "lookup: registry: node 99: node not found",
    }


def test_no_registry(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_REGISTRY", "127.0.0.1:1")
    problem = run("--json", "lookup", "1").problem
    assert problem["code"] == "connection_failed"
    assert problem["message"] == "cannot reach registry at 127.0.0.1:1"
    assert problem["hint"].startswith("check that the registry is running at 127.0.0.1:1")


@pytest.mark.parametrize("nonsense", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n", b"\0\0\0\2[]"])
def test_something_that_is_no_registry(serve: Any, run: Run, nonsense: bytes) -> None:
    serve(lambda request: nonsense)
    problem = run("--json", "lookup", "1").problem
    assert problem["code"] == "connection_failed" and "no answer" in problem["message"]


def test_registry_that_says_nothing(serve: Any) -> None:
    held = threading.Event()

    def late(request: dict[str, Any]) -> bytes:
        held.wait(5)
        return b""

    registry = serve(late)
    with pytest.raises(Unanswered):
        ask_registry(registry.address, {"type": "lookup"}, timeout=0.05)
    held.set()


def test_addresses() -> None:
    assert split_endpoint("host:1") == ("host", 1)
    assert split_endpoint("host") == ("host", 9000)
    assert split_endpoint("[::1]:9") == ("::1", 9) and split_endpoint("[::1]") == ("::1", 9000)
    for text in ("", ":9", "host:", "host:x", "host:70000", "host:-1", "host:٣"):
        with pytest.raises(InvalidArgument):
            split_endpoint(text)
    with pytest.raises(RegistryUnavailable):
        ask_registry("a" * 300 + ".invalid", {})
    assert issubclass(Unanswered, RegistryUnavailable) and RegistryError.code


def test_register(serve: Any, run: Run, identity: Identity) -> None:
    """The key of this machine, and where it listens if somebody says so."""
    registry = serve(accept)
    assert run("--json", "register", ":4000").data["node_id"] == 7
    assert run("register").status == 0
    assert registry.asked == [
        {"type": "register", "public_key": identity.public_key_text, "listen_addr": ":4000"},
        {"type": "register", "public_key": identity.public_key_text},
    ]


def test_register_without_an_identity(serve: Any, run: Run) -> None:
    serve(accept)
    problem = run("--json", "register").problem
    assert problem["code"] == "not_found" and "daemon start" in problem["hint"]


def test_not_beside_a_daemon(
    serve: Any, run: Run, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running daemon registers itself, and holds the key that would be replaced."""
    registry = serve(accept)
    with FakeDaemon(silent) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        for words in (["register"], ["rotate-key", "7", "a@b.c"]):
            problem = run("--json", *words).problem
            assert problem["code"] == "already_exists" and "daemon stop" in problem["hint"]
    assert registry.asked == []


def test_rotate_key(serve: Any, run: Run, identity: Identity, tmp_path: Path) -> None:
    """Signed with the old key; afterwards the file holds the new one."""
    registry = serve(accept)
    assert run("--json", "rotate-key", "7", "a@b.c").data["type"] == "rotate_key_ok"
    (request,) = registry.asked
    path = tmp_path / ".pilot" / "identity.json"
    new = load_identity(path)
    assert new.public_key != identity.public_key
    assert request["new_public_key"] == new.public_key_text
    signature = base64.b64decode(request["signature"])
    assert verify(identity.public_key, signature, b"rotate:7")
    assert path.stat().st_mode & 0o777 == 0o600
    assert not path.with_name("identity.json.new").exists()


def test_rotation_that_is_refused(serve: Any, run: Run, identity: Identity, tmp_path: Path) -> None:
    """Nothing has changed."""
    serve(refuse)
    problem = run("--json", "rotate-key", "7", "a@b.c").problem
    assert problem["message"] == "rotate-key: registry: request failed"
    path = tmp_path / ".pilot" / "identity.json"
    assert load_identity(path).public_key == identity.public_key
    assert not path.with_name("identity.json.new").exists()


def test_rotation_without_an_answer(
    serve: Any, run: Run, identity: Identity, tmp_path: Path
) -> None:
    """It may have been carried out: both keys are kept, and a second try does not lose one."""
    serve(lambda request: b"")
    path = tmp_path / ".pilot" / "identity.json"
    beside = path.with_name("identity.json.new")
    problem = run("--json", "rotate-key", "7", "a@b.c").problem
    assert problem["code"] == "connection_failed" and str(beside) in problem["hint"]
    kept = load_identity(beside)
    assert load_identity(path).public_key == identity.public_key != kept.public_key
    problem = run("--json", "rotate-key", "7", "a@b.c").problem
    assert problem["code"] == "already_exists" and str(path) in problem["hint"]
    assert load_identity(beside).public_key == kept.public_key


def test_rotation_without_a_registry(
    run: Run, identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was asked, so nothing is kept."""
    monkeypatch.setenv("PILOT_REGISTRY", "127.0.0.1:1")
    monkeypatch.setenv("PILOT_SOCKET", "/nonexistent/socket")
    assert run("rotate-key", "7", "a@b.c").status == 1
    assert not (tmp_path / ".pilot" / "identity.json.new").exists()
