"""The parts of C{stream.py}, each a process: it says when it is ready, and what it has used."""

from __future__ import annotations

import datetime
import ipaddress
import json
import resource
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from echo_load import Pinger, measure
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    clientFromString,
    wrapClientTLS,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import react

from pilot.address import PORT_ECHO
from pilot.crypto.identity import Identity
from pilot.daemon.ipc import IpcServer
from pilot.daemon.ipc_service import ControlSocketService
from pilot.node.ports import PortLimits
from pilot.node.service import NodeService
from pilot.node.settings import NodeSettings
from pilot.registry.rendezvous import Rendezvous, RendezvousSettings
from pilot.services.echo import EchoFactory


def play(role: str, facts: dict[str, Any]) -> None:
    """Play C{role} until told to stop; a client says how long its echo took first."""
    react(_play, (role, facts))


async def _play(reactor: Any, role: str, facts: dict[str, Any]) -> None:
    stopped: Deferred[None] = Deferred()
    reactor.addSystemEventTrigger("before", "shutdown", _stop, stopped)
    global _ready
    if role.endswith("client"):
        _ready = cpu_seconds()
        tell(await _ROLES[role](reactor, facts))
    else:
        tell(await _ROLES[role](reactor, facts))
        _ready = cpu_seconds()
    await stopped


_ready = 0.0


def _stop(stopped: Deferred[None]) -> None:
    tell({"cpu": cpu_seconds() - _ready})


def tell(fact: dict[str, Any]) -> None:
    """One JSON line for the script that measures."""
    print(json.dumps(fact), flush=True)


def cpu_seconds() -> float:
    """CPU time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _tcp_server(reactor: Any, facts: dict[str, Any]) -> dict[str, Any]:
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(EchoFactory())
    return {"port": port.getHost().port}


async def _tcp_client(reactor: Any, facts: dict[str, Any]) -> dict[str, Any]:
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", facts["port"])
    return {"seconds": await measure(endpoint.connect, facts["total"])}


async def _tls_server(reactor: Any, facts: dict[str, Any]) -> dict[str, Any]:
    certificate = _Certificate()
    endpoint = SSL4ServerEndpoint(reactor, 0, certificate.options(), interface="127.0.0.1")
    port = await endpoint.listen(EchoFactory())
    return {"port": port.getHost().port, "certificate": certificate.pem.decode()}


async def _tls_client(reactor: Any, facts: dict[str, Any]) -> dict[str, Any]:
    trusted = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(facts["certificate"])])
    options = ssl.optionsForClientTLS("127.0.0.1", trustRoot=trusted)
    endpoint = wrapClientTLS(options, TCP4ClientEndpoint(reactor, "127.0.0.1", facts["port"]))
    return {"seconds": await measure(endpoint.connect, facts["total"])}


class _Certificate:
    """A certificate for 127.0.0.1 that signs itself."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
        now = datetime.datetime.now(datetime.UTC)
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self._key = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def options(self) -> Any:
        """What a TLS server needs of it."""
        return ssl.PrivateCertificate.loadPEM(self._key + self.pem).options()


async def _node_server(reactor: Any, facts: dict[str, Any]) -> dict[str, Any]:
    rendezvous = Rendezvous(
        RendezvousSettings(registry_addr="127.0.0.1:0", beacon_addr="127.0.0.1:0"), reactor
    )
    rendezvous.startService()
    await rendezvous.started
    registry = f"127.0.0.1:{rendezvous.registry_port}"
    node = await _node(reactor, {**facts, "registry": registry, "name": "server"})
    await node.listen(PORT_ECHO, EchoFactory())
    return {"registry": registry, "node_id": node.own_address().node}


async def _node_client(reactor: Any, facts: dict[str, Any]) -> dict[str, Any]:
    node = await _node(reactor, {**facts, "name": "client"})
    return {
        "seconds": await measure(
            lambda factory: node.dial(facts["node_id"], PORT_ECHO, factory), facts["total"]
        )
    }


async def _node(reactor: Any, facts: dict[str, Any]) -> Any:
    """A public node in this process."""
    settings = NodeSettings(
        registry=facts["registry"],
        beacon="",
        identity=None,
        listen="127.0.0.1:0",
        public=True,
        limits=PortLimits(syn_rate=1e6, syn_rate_per_source=1e6),
    )
    service = NodeService(reactor, settings, Identity.generate(), None)
    if facts["size"] == "1200":
        service.parts.tunnel.segment_limit = lambda node_id: 1130  # what the Internet gets
    service.startService()
    await service.started
    return service.node


async def _ping_client(reactor: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """Round trips in the process: a dial with an echo each time, and echoes on one open stream."""
    node = await _node(reactor, {**facts, "name": "client"})
    target, count = facts["node_id"], facts["count"]
    fresh: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        pinger = await node.dial(target, PORT_ECHO, Factory.forProtocol(Pinger))
        await pinger.ping()
        fresh.append(time.perf_counter() - began)
        pinger.transport.loseConnection()
    pinger = await node.dial(target, PORT_ECHO, Factory.forProtocol(Pinger))
    open_stream: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        await pinger.ping()
        open_stream.append(time.perf_counter() - began)
    return {"dial_and_echo": fresh, "echo": open_stream}


async def _daemon(reactor: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """A whole daemon; the first one brings the rendezvous."""
    started: dict[str, Any] = {}
    if "registry" not in facts:
        rendezvous = Rendezvous(
            RendezvousSettings(registry_addr="127.0.0.1:0", beacon_addr="127.0.0.1:0"), reactor
        )
        rendezvous.startService()
        await rendezvous.started
        started["registry"] = f"127.0.0.1:{rendezvous.registry_port}"
    node = await _node(reactor, {**facts, **started})
    await node.listen(PORT_ECHO, EchoFactory())
    path = str(Path(facts["home"]) / f"{facts['name']}.sock")
    ControlSocketService(reactor, path, IpcServer(node, reactor)).startService()
    return {**started, "socket": path, "node_id": node.own_address().node}


async def _socket_client(reactor: Any, facts: dict[str, Any]) -> dict[str, Any]:
    where = f"pilot:host={facts['target']}:port={PORT_ECHO}:daemon={facts['socket']}"
    endpoint = clientFromString(reactor, where)
    return {"seconds": await measure(endpoint.connect, facts["total"])}


_ROLES = {
    "tcp-server": _tcp_server,
    "tcp-client": _tcp_client,
    "tls-server": _tls_server,
    "tls-client": _tls_client,
    "node-server": _node_server,
    "node-client": _node_client,
    "ping-client": _ping_client,
    "daemon": _daemon,
    "socket-client": _socket_client,
}
