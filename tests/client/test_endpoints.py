"""Virtual ports as endpoints, and as endpoint strings in any Twisted program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.application.service import IServiceMaker
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IListeningPort,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.internet.protocol import Factory
from twisted.plugin import getPlugins
from twisted.protocols.wire import Echo
from zope.interface.verify import verifyObject

from pilot.address import Address
from pilot.client import endpoints
from pilot.client.endpoints import PilotClientEndpoint, PilotServerEndpoint
from pilot.client.parser import PilotParser
from pilot.errors import DialTimeout, NotRunning, PilotError, PortInUse
from tests.client.remoteworld import Keep, Recorder, Remotes, pause, reactor


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path) -> AsyncIterator[Remotes]:
    remotes = Remotes(tmp_path)
    remotes.start("a")
    remotes.start("b")
    yield remotes
    await remotes.close()


class TestStrings:
    @pytest_twisted.ensureDeferred
    async def test_both_directions(self, world: Remotes) -> None:
        """What the daemons serve is used by programs that know nothing but the string."""
        server = serverFromString(reactor, f"pilot:80:daemon={world.path('b')}")
        verifyObject(IStreamServerEndpoint, server)
        port = await server.listen(Factory.forProtocol(Echo))
        verifyObject(IListeningPort, port)
        assert port.getHost() == (Address(0, 2), 80)
        for target in (
            "host=node-b:port=80",
            "node-b:80",
            "2:80",
            r"host=0\:0000.0000.0002:port=80",
        ):
            client = clientFromString(reactor, f"pilot:{target}:daemon={world.path('a')}")
            verifyObject(IStreamClientEndpoint, client)
            near: Any = await client.connect(Keep())
            near.transport.write(b"hi")
            assert await near.heard(2) == b"hi"
            near.transport.loseConnection()
            assert isinstance(await near.end(), ConnectionDone)
        await port.stopListening()

    @pytest.mark.parametrize(
        ("text", "target"),
        [
            ("pilot:0:0000.0000.002A:80", "0:0000.0000.002A"),
            ("pilot:0:0000.0000.002A:port=80", "0:0000.0000.002A"),
            (r"pilot:0\:0000.0000.002A:80", "0:0000.0000.002A"),
            ("pilot:bob:80", "bob"),
            ("pilot:self:80:timeout=2.5", "self"),
            ("pilot:host=bob:port=80:timeout=2.5:daemon=/s", "bob"),
        ],
    )
    def test_ways_to_name_a_target(self, text: str, target: str) -> None:
        endpoint: Any = clientFromString(reactor, text)
        assert (endpoint._target, endpoint._port) == (target, 80)
        assert endpoint._timeout == (2.5 if "timeout" in text else 30.0)
        assert endpoint._daemon == ("/s" if "daemon" in text else None)

    @pytest.mark.parametrize(
        "text", ["pilot:bob:http", "pilot::80", "pilot:bob:70000", "pilot:bob:80:timeout=soon"]
    )
    def test_nonsense_dialled(self, text: str) -> None:
        with pytest.raises(ValueError):
            clientFromString(reactor, text)

    @pytest.mark.parametrize("text", ["pilot:http", "pilot:-1", "pilot:٣"])
    def test_nonsense_listened_on(self, text: str) -> None:
        with pytest.raises(ValueError):
            serverFromString(reactor, text)

    def test_the_parser_keeps_its_promises(self) -> None:
        verifyObject(IStreamClientEndpointStringParserWithReactor, PilotParser())
        verifyObject(IStreamServerEndpointStringParser, PilotParser())


class TestPlugins:
    def test_they_are_found(self) -> None:
        parsers = list(getPlugins(IStreamServerEndpointStringParser))
        assert [parser for parser in parsers if parser.prefix == "pilot"]
        makers = {maker.tapname: maker for maker in getPlugins(IServiceMaker)}
        assert {"pilot", "pilot-rendezvous"} <= set(makers)

    def test_twistd_shows_them(self, tmp_path: Path) -> None:
        """From another directory, as any user would run it."""
        twistd = Path(sys.executable).parent / "twistd"
        shown = subprocess.run(
            [twistd, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        ).stdout
        assert "    pilot  " in shown and "    pilot-rendezvous  " in shown
        for tap, option in (("pilot", "--trust-auto-approve"), ("pilot-rendezvous", "--store=")):
            shown = subprocess.run(
                [twistd, tap, "--help"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
            assert option in shown

    def test_other_programs_pay_nothing_for_them(self) -> None:
        """Every program that parses an endpoint string imports what the plugins import."""
        program = (
            "import sys; from twisted.internet import reactor, endpoints;"
            "endpoints.serverFromString(reactor, 'tcp:0');"
            "print(*[name for name in sys.modules if name.startswith('pilot')])"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        assert set(ended.stdout.split()) <= {"pilot", "pilot.client", "pilot.client.parser"}


class TestDialling:
    @pytest_twisted.ensureDeferred
    async def test_no_daemon(self, tmp_path: Path) -> None:
        endpoint = PilotClientEndpoint(reactor, 2, 80, str(tmp_path / "nothing"))
        with pytest.raises(NotRunning):
            await endpoint.connect(Keep())

    @pytest_twisted.ensureDeferred
    async def test_the_streams_of_an_endpoint_share_a_connection(self, world: Remotes) -> None:
        b = await world.connect("b")
        await b.listen(80, Factory.forProtocol(Echo))
        endpoint = PilotClientEndpoint(reactor, "node-b", 80, world.path("a"))
        first, second = [endpoint.connect(Keep()) for _ in range(2)]
        streams: list[Any] = [await first, await second, await endpoint.connect(Keep())]
        assert len(world.servers["a"]._clients) == 1
        for stream in streams:
            stream.transport.loseConnection()
            await stream.end()
        await pause(0.02)
        assert not world.servers["a"]._clients
        again: Any = await endpoint.connect(Keep())
        again.transport.loseConnection()
        await again.end()

    @pytest_twisted.ensureDeferred
    async def test_patience_ends(self, world: Remotes) -> None:
        world.node("a").waiting["slow"] = Deferred()
        endpoint = PilotClientEndpoint(reactor, "slow", 80, world.path("a"), timeout=0.02)
        with pytest.raises(DialTimeout, match=r"no connection within 0.02 s"):
            await endpoint.connect(Keep())
        world.node("a").waiting.pop("slow").errback(PilotError("late"))
        await pause(0.01)


class TestListening:
    @pytest_twisted.ensureDeferred
    async def test_no_daemon(self, tmp_path: Path) -> None:
        with pytest.raises(NotRunning):
            await PilotServerEndpoint(reactor, 80, str(tmp_path / "nothing")).listen(Keep())

    @pytest_twisted.ensureDeferred
    async def test_a_taken_port(self, world: Remotes) -> None:
        endpoint = PilotServerEndpoint(reactor, 7, world.path("b"))
        with pytest.raises(PortInUse):
            await endpoint.listen(Keep())
        await pause(0.01)
        assert not world.servers["b"]._clients

    @pytest_twisted.ensureDeferred
    async def test_stopping_frees_the_port_and_keeps_the_streams(self, world: Remotes) -> None:
        server = Keep()
        port = await PilotServerEndpoint(reactor, 80, world.path("b")).listen(server)
        a = await world.connect("a")
        near: Any = await a.dial(2, 80, Keep())
        far = server.made[0] if server.made else await server.wait()
        await far.made
        await port.stopListening()
        assert server.stopped
        assert 80 not in world.node("b").bound
        near.transport.write(b"still")
        assert await far.heard(5) == b"still"
        near.transport.loseConnection()
        await far.end()
        await pause(0.02)
        assert not world.servers["b"]._clients

    @pytest_twisted.ensureDeferred
    async def test_a_port_outlives_its_daemon(
        self, world: Remotes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program that serves a port does not notice that the daemon was restarted."""
        monkeypatch.setattr(endpoints, "FIRST_RETRY", 0.01)
        server = Keep()
        port = await PilotServerEndpoint(reactor, 80, world.path("b")).listen(server)
        await world.stop("b")
        await pause(0.05)
        assert not server.stopped
        world.start("b")
        for _ in range(200):
            if 80 in world.node("b").bound:
                break
            await pause(0.02)
        a = await world.connect("a")
        near: Any = await a.dial(2, 80, Keep())
        near.transport.write(b"back")
        far: Recorder = server.made[0] if server.made else await server.wait()
        assert await far.heard(4) == b"back"
        near.transport.loseConnection()
        await far.end()
        await port.stopListening()
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_stopping_while_the_daemon_is_away(self, world: Remotes) -> None:
        server = Keep()
        port = await PilotServerEndpoint(reactor, 80, world.path("b")).listen(server)
        await world.stop("b")
        await pause(0.02)
        await port.stopListening()
        assert server.stopped
