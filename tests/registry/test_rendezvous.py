"""The rendezvous as a whole, over real sockets and a real database."""

from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from pilot.errors import InvalidArgument, PilotError, PortInUse, RegistryUnavailable
from pilot.registry.client import RegistryClient
from pilot.registry.rendezvous import Rendezvous, RendezvousSettings
from tests.registry.support import identity


async def started(**settings: Any) -> Rendezvous:
    chosen = {"registry_addr": "127.0.0.1:0", "beacon_addr": "127.0.0.1:0", **settings}
    rendezvous = Rendezvous(RendezvousSettings(**chosen), reactor)
    rendezvous.startService()
    await within(rendezvous.started)
    return rendezvous


def within(deferred: Deferred[Any]) -> Deferred[Any]:
    return deferred.addTimeout(10, reactor)  # type: ignore[arg-type]


def client_of(rendezvous: Rendezvous, number: int = 1, pin: str | None = None) -> RegistryClient:
    address = f"127.0.0.1:{rendezvous.registry_port}"
    return RegistryClient(reactor, address, identity=identity(number), tls_fingerprint=pin)


async def closed(*clients: RegistryClient) -> None:
    """Hang up, and let the sockets notice."""
    for client in clients:
        client.close()
    await deferLater(reactor, 0.02)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_two_nodes_come_to_trust_each_other(tmp_path: Path) -> None:
    """Durably, and told of each other's letters at once; a restart later all is as it was."""
    store = str(tmp_path / "registry.db")
    rendezvous = await started(store=store, http="127.0.0.1:0")
    assert all((rendezvous.registry_port, rendezvous.beacon_port, rendezvous.http_port))
    one, two = client_of(rendezvous, 1), client_of(rendezvous, 2)
    told: Deferred[str] = Deferred()
    two.on_notify(told.callback)
    await within(one.register("127.0.0.1:4000", hostname="one"))
    await within(two.register("127.0.0.1:4001"))
    await within(one.request_handshake(2, "hello"))
    assert await within(told) == "handshakes"
    assert (await within(two.poll_handshakes()))["requests"][0]["justification"] == "hello"
    await within(two.respond_handshake(1, True))
    await within(rendezvous.stopService())

    again = await started(store=store, registry_addr=f"127.0.0.1:{rendezvous.registry_port}")
    assert (await within(one.resolve(2)))["real_addr"] == "127.0.0.1:4001"
    assert (await within(one.poll_handshakes()))["responses"][0]["accept"] is True
    assert (await within(two.resolve_hostname("one")))["node_id"] == 1
    await closed(one, two)
    await within(again.stopService())


@pytest_twisted.ensureDeferred
async def test_tls_with_a_certificate_of_its_own_making() -> None:
    rendezvous = await started(tls=True)
    right = client_of(rendezvous, 1, rendezvous.fingerprint)
    wrong = client_of(rendezvous, 2, "0" * 64)
    plain = client_of(rendezvous, 3)
    assert (await within(right.register(":4000")))["node_id"] == 1
    assert (await within(right.heartbeat()))["notify"] is True
    with pytest.raises(RegistryUnavailable, match="pinned fingerprint"):
        await within(wrong.list_networks())
    with pytest.raises(RegistryUnavailable):
        await within(plain.list_networks())
    await closed(right, wrong, plain)
    await within(rendezvous.stopService())


@pytest_twisted.ensureDeferred
async def test_tls_with_the_operator_s_certificate(tmp_path: Path) -> None:
    certificate, key = make_files(tmp_path)
    rendezvous = await started(tls=True, tls_cert=str(certificate), tls_key=str(key))
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    assert rendezvous.fingerprint == hashlib.sha256(der).hexdigest()
    client = client_of(rendezvous, 1, rendezvous.fingerprint)
    assert "networks" in await within(client.list_networks())
    await closed(client)
    await within(rendezvous.stopService())


def make_files(where: Path, name: str = "a") -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    files = where / f"{name}.pem", where / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


async def refused(**settings: Any) -> PilotError:
    """@return: why it does not start."""
    chosen = {"registry_addr": "127.0.0.1:0", "beacon_addr": "127.0.0.1:0", **settings}
    rendezvous = Rendezvous(RendezvousSettings(**chosen), reactor)
    rendezvous.startService()
    with pytest.raises(PilotError) as caught:
        await within(rendezvous.started)
    await within(rendezvous.stopService())
    return caught.value


class TestRefusals:
    """It starts whole or not at all, and says why."""

    @pytest_twisted.ensureDeferred
    async def test_a_taken_port(self, tmp_path: Path) -> None:
        first = await started(http="127.0.0.1:0")
        store = str(tmp_path / "registry.db")
        for which, port, name in (
            ("registry_addr", first.registry_port, "registry"),
            ("beacon_addr", first.beacon_port, "beacon"),
            ("http", first.http_port, "dashboard"),
        ):
            error = await refused(**{which: f"127.0.0.1:{port}", "store": store})
            assert isinstance(error, PortInUse)
            assert error.message.startswith(f"the {name} cannot listen on 127.0.0.1:{port}")
            assert error.hint
        await within(first.stopService())
        await within((await started(store=store)).stopService())  # nothing was left open

    @pytest_twisted.ensureDeferred
    async def test_a_store_that_is_none(self, tmp_path: Path) -> None:
        path = tmp_path / "registry.json"
        path.write_text('{"version":1}')
        error = await refused(store=str(path))
        assert "cannot be read" in error.message
        assert path.read_text() == '{"version":1}'

    @pytest_twisted.ensureDeferred
    async def test_a_certificate_that_does_not_fit_its_key(self, tmp_path: Path) -> None:
        certificate, _ = make_files(tmp_path, "a")
        _, key = make_files(tmp_path, "b")
        for cert in (certificate, tmp_path / "missing"):
            error = await refused(tls=True, tls_cert=str(cert), tls_key=str(key))
            assert isinstance(error, InvalidArgument)

    @pytest.mark.parametrize(
        "settings",
        [
            {"registry_addr": "nowhere"},
            {"beacon_addr": ":99999"},
            {"http": "x"},
            {"tls": True, "tls_cert": "only.pem"},
        ],
    )
    def test_settings_that_make_no_sense(self, settings: dict[str, Any]) -> None:
        with pytest.raises(InvalidArgument):
            Rendezvous(RendezvousSettings(**settings), reactor)


@pytest_twisted.ensureDeferred
async def test_stopping_before_starting_is_no_trouble() -> None:
    rendezvous = Rendezvous(RendezvousSettings("127.0.0.1:0", "127.0.0.1:0"), reactor)
    await within(rendezvous.stopService())


@pytest_twisted.ensureDeferred
async def test_without_a_host_it_listens_to_both_families() -> None:
    """And calls IPv4 clients by their IPv4 addresses."""
    rendezvous = await started(registry_addr=":0", beacon_addr=":0", http=":0")
    client = client_of(rendezvous)
    registered = await within(client.register(":4000"))
    assert registered["observed_addr"] == "127.0.0.1:4000"
    if has_ipv6():
        address = f"[::1]:{rendezvous.registry_port}"
        other = RegistryClient(reactor, address, identity=identity(2))
        registered = await within(other.register(":4000"))
        assert registered["observed_addr"] == "[::1]:4000"
        await closed(other)
    await closed(client)
    await within(rendezvous.stopService())


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


RENDEZVOUS = """
import sys
from twisted.internet import reactor
from pilot.registry.rendezvous import Rendezvous, RendezvousSettings

service = Rendezvous(
    RendezvousSettings("127.0.0.1:0", "127.0.0.1:0", store=sys.argv[1]), reactor
)
service.started.addCallback(lambda _: print(service.registry_port, flush=True))
reactor.callWhenRunning(service.startService)
reactor.run()
"""


@pytest_twisted.ensureDeferred
async def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """A process of its own is killed in the midst of changes; the next one knows them all."""
    store = tmp_path / "registry.db"
    process = subprocess.Popen(
        [sys.executable, "-c", RENDEZVOUS, str(store)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address = f"127.0.0.1:{process.stdout.readline().strip()}"
    clients = [RegistryClient(reactor, address, identity=identity(n)) for n in range(1, 9)]
    for client in clients:
        await within(client.register(":4000"))
    answered: dict[int, list[str]] = {}

    async def keep_changing(client: RegistryClient, number: int) -> None:
        for turn in range(1000):
            try:
                answer = await client.set_tags([f"tag-{number}-{turn}"])
            except RegistryUnavailable:
                return
            answered[number] = answer["tags"]

    changing = [
        Deferred.fromCoroutine(keep_changing(client, number))
        for number, client in enumerate(clients, 1)
    ]
    await deferLater(reactor, 0.2)  # type: ignore[arg-type]
    process.kill()
    process.wait()
    process.stdout.close()
    for client in clients:
        client.close()
    await within(gatherResults(changing))
    again = await started(store=str(store))
    assert again.factory is not None
    live = again.factory.directory.nodes.live
    assert len(answered) == len(live) == 8
    for number, tags in answered.items():
        turn = int(tags[0].rpartition("-")[2])
        # The change under way at the end may have been saved, too.
        assert live[number].tags in ((f"tag-{number}-{turn}",), (f"tag-{number}-{turn + 1}",))
    await closed()
    await within(again.stopService())
