"""Whole daemons in this process, on loopback, with nothing configured."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import Site

from pilot.client.remote import connect_node
from pilot.crypto.identity import IdentityError
from pilot.daemon import service as service_module
from pilot.daemon.loopback import LoopbackRendezvous
from pilot.daemon.service import DaemonService
from pilot.daemon.settings import settle
from pilot.errors import AlreadyExists, InvalidArgument, NotFound
from tests.daemon.test_loopback import places

reactor: Any = _reactor


def daemon(
    home: Path, loopback: tuple[str, str], monkeypatch: pytest.MonkeyPatch, **flags: Any
) -> DaemonService:
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("PILOT_HOME", str(home))
    given = {"socket": str(home / "s"), "listen": "127.0.0.1:0", **flags}
    return DaemonService(settle(given, {}), reactor, LoopbackRendezvous(reactor, *loopback))


async def stopped(*services: DaemonService) -> None:
    for service in services:
        await service.stopService()
    await deferLater(reactor, 0.05)  # for the ends of connections to be noticed


@pytest_twisted.ensureDeferred
async def test_two_daemons_meet_at_a_rendezvous_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And when the one that ran it leaves, the other takes it over with its state."""
    monkeypatch.setattr(service_module, "LOOPBACK_INTERVAL", 0.1)
    loopback = places()
    one = daemon(tmp_path / "one", loopback, monkeypatch, hostname="one", public=True)
    two = daemon(tmp_path / "two", loopback, monkeypatch, hostname="two", public=True)
    for service in (one, two):
        service.startService()
        await service.started
    assert (await one.node.resolve("two")).node == 2
    assert one._loopback.hosted is not None and two._loopback.hosted is None
    await stopped(one)
    for _ in range(100):
        await deferLater(reactor, 0.05)
        if two._loopback.hosted is not None and two.node.parts.registry.connected:
            break
    again = daemon(tmp_path / "one", loopback, monkeypatch, hostname="one", public=True)
    again.startService()
    await again.started
    assert again.node.own_address().node == 1
    assert (await again.node.resolve("two")).node == 2
    await stopped(again, two)


@pytest_twisted.ensureDeferred
async def test_a_second_daemon_is_turned_away_before_it_touches_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loopback = places()
    first = daemon(tmp_path / "a", loopback, monkeypatch)
    first.startService()
    await first.started
    same_socket = daemon(tmp_path / "b", loopback, monkeypatch, socket=str(tmp_path / "a" / "s"))
    same_identity = daemon(tmp_path / "a", loopback, monkeypatch, socket=str(tmp_path / "t"))
    for second in (same_socket, same_identity):
        second.startService()
        with pytest.raises(AlreadyExists, match="another daemon"):
            await second.started
        await stopped(second)
    assert not (tmp_path / "b" / "identity.json").exists()
    remote = await connect_node(reactor, str(tmp_path / "a" / "s"))
    assert (await remote.info())["node_id"] == 1
    remote.close()
    await stopped(first)


@pytest_twisted.ensureDeferred
async def test_tls_without_a_pin_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {"registry": "127.0.0.1:1", "registry-tls": True}
    service = daemon(tmp_path / "a", places(), monkeypatch, **flags)
    service.startService()
    with pytest.raises(InvalidArgument, match="fingerprint"):
        await service.started
    await stopped(service)


@pytest_twisted.ensureDeferred
async def test_a_key_that_cannot_be_saved_stops_the_start_and_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(service_module, "load_or_create_identity", full)
    service = daemon(tmp_path / "a", places(), monkeypatch)
    service.startService()
    with pytest.raises(IdentityError, match=r"identity\.json: No space left on device"):
        await service.started
    await stopped(service)


@pytest_twisted.ensureDeferred
async def test_services_that_are_switched_off_leave_their_port_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = daemon(tmp_path / "a", places(), monkeypatch, **{"no-echo": True})
    service.startService()
    await service.started
    assert 7 not in list(service.node.parts.ports)
    await stopped(service)


@pytest_twisted.ensureDeferred
async def test_a_webhook_hears_of_the_node_from_its_start_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[dict[str, Any]] = []

    class Sink(Resource):
        isLeaf = True

        def render_POST(self, request: Any) -> bytes:
            heard.append(json.loads(request.content.read()))
            return b""

    port = reactor.listenTCP(0, Site(Sink()), interface="127.0.0.1")
    url = f"http://127.0.0.1:{port.getHost().port}/hook"
    service = daemon(tmp_path / "a", places(), monkeypatch, webhook=url)
    service.startService()
    await service.started
    assert (await service.node.info())["webhook"]["events"] >= 1
    await stopped(service)
    assert [event["event"] for event in heard] == ["node.registered", "node.deregistered"]
    assert heard[0]["node_id"] == 1 and "data" not in heard[1]
    await port.stopListening()
    await deferLater(reactor, 0.05)


@pytest_twisted.ensureDeferred
async def test_a_program_takes_messages_and_watches_events_of_a_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real socket, with the services as the daemon opens them."""
    service = daemon(tmp_path / "a", places(), monkeypatch)
    service.startService()
    await service.started
    program = await connect_node(reactor, str(tmp_path / "a" / "s"))
    own = service.node.own_address()
    taken: list[Any] = []
    seen: list[Any] = []
    program.claim_messages("note", lambda *all: taken.append(all) or True)
    program.watch_events("note.", lambda *all: seen.append(all))
    await program.peers()  # answered after what was asked before
    await program.send_message("self", {"type": "note"}).addTimeout(5, reactor)
    assert taken == [(own, {"type": "note"}, 15)]
    assert not list((tmp_path / "a" / "inbox").glob("*"))
    await program.publish("self", "note.made", b"1").addTimeout(5, reactor)
    program.announce("note.taken", {"n": 1})
    for _ in range(100):
        if len(seen) == 2:
            break
        await deferLater(reactor, 0.05)
    assert sorted(seen) == [(own, "note.made", b"1"), (own, "note.taken", b'{"n":1}')]
    info = await program.info()
    assert info["claims"]["taken"] == 1 and info["data_exchange"]["claimed"] == 1
    with pytest.raises(NotFound, match="no accepted tasks"):
        await program.tasks({"op": "execute"})
    program.close()
    await stopped(service)
