"""The manhole over a real port: who gets in, what may be asked there, what it can never do."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.ssh.keys import Key
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.logger import Logger

from pilot.daemon import manhole_ssh
from pilot.daemon.manhole_keys import KeysError, fingerprint
from pilot.daemon.service import DaemonService
from pilot.errors import PortInUse
from tests.daemon.sshclient import SSHClient, bounded, connect, pause
from tests.daemon.test_loopback import places
from tests.daemon.test_metrics import Conversation
from tests.daemon.test_service import daemon, stopped

reactor: Any = _reactor
log = Logger()

KEY = Key(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
STRANGER = Key(Ed25519PrivateKey.from_private_bytes(b"s" * 32))


class Manhole:
    """A daemon with its manhole open, and the clients of a test."""

    def __init__(
        self, service: DaemonService, home: Path, rendezvous: tuple[str, str] = ("", "")
    ) -> None:
        self.service = service
        self.rendezvous = rendezvous
        self.home = home
        self.clients: list[SSHClient] = []

    @property
    def facts(self) -> dict[str, Any]:
        """The section of the info reply."""
        facts: dict[str, Any] = self.service.node.parts.report.info()["manhole"]
        return facts

    async def client(self, key: Key | None = KEY, **more: Any) -> SSHClient:
        client = await connect(self.facts["port"], key, **more)
        self.clients.append(client)
        return client

    async def run(self, command: str) -> tuple[str, int | None]:
        """Run one command in a connection of its own."""
        client = await self.client()
        answer = await client.run(command)
        await client.leave()
        return answer

    async def shell(self) -> Any:
        channel = await (await self.client()).open("shell", pty=True)
        await channel.until(">>> ")
        return channel


def authorize(home: Path, *keys: Key, name: str = "authorized_keys") -> Path:
    home.mkdir(parents=True, exist_ok=True)
    path = home / name
    path.write_bytes(b"\n".join(key.public().toString("OPENSSH") for key in keys) + b"\n")
    path.chmod(0o600)
    return path


@pytest_twisted.async_yield_fixture
async def manhole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Manhole]:
    authorize(tmp_path / "a", KEY)
    rendezvous = places()
    service = daemon(tmp_path / "a", rendezvous, monkeypatch, manhole="0", public=True)
    service.startService()
    try:
        await service.started
        opened = Manhole(service, tmp_path / "a", rendezvous)
        yield opened
        for client in opened.clients:
            if not client.ended.called:
                await client.leave()
    finally:
        await stopped(service)


# -- who gets in -------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_key_opens_and_the_host_key_is_the_one_that_info_names(manhole: Manhole) -> None:
    client = await manhole.client()
    facts = manhole.facts
    assert facts["host"] == "127.0.0.1"
    assert fingerprint(Key.fromString(client.host_key)) == facts["fingerprint"]
    assert Key.fromString(facts["host_key"].encode()) == Key.fromString(client.host_key)
    assert facts["logins"] == 1 and facts["connections"] == 1
    path = manhole.home / "manhole_host_key"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest_twisted.ensureDeferred
async def test_a_strange_key_a_password_and_no_proof_are_refused(manhole: Manhole) -> None:
    with pytest.raises(PermissionError):
        await manhole.client(STRANGER)
    assert manhole.facts["failed"] == 1
    with pytest.raises(PermissionError):
        await manhole.client(None, password=b"secret")
    facts = manhole.facts
    assert facts["logins"] == 0
    assert (await manhole.run("1 + 1")) == ("2\n", 0)


@pytest_twisted.ensureDeferred
async def test_passwords_are_not_even_asked_for(manhole: Manhole) -> None:
    client = SSHClient(None, password=b"secret")
    point = TCP4ClientEndpoint(reactor, "127.0.0.1", manhole.facts["port"])
    await connectProtocol(point, client)
    with pytest.raises(PermissionError):
        await bounded(client.ready)
    assert b"password" not in client.tried


@pytest_twisted.ensureDeferred
async def test_the_keys_file_counts_as_it_is_at_the_moment(manhole: Manhole) -> None:
    path = authorize(manhole.home, STRANGER)
    with pytest.raises(PermissionError):
        await manhole.client(KEY)
    await manhole.client(STRANGER)
    path.chmod(0o622)
    with pytest.raises(PermissionError):
        await manhole.client(STRANGER)


@pytest_twisted.ensureDeferred
async def test_whoever_proves_nothing_is_cut_off(
    manhole: Manhole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manhole_ssh, "LOGIN_PATIENCE", 0.1)
    point = TCP4ClientEndpoint(reactor, "127.0.0.1", manhole.facts["port"])
    silent: Any = await connectProtocol(point, Conversation())
    assert (await bounded(silent.ended)).startswith(b"SSH-2.0-")
    assert manhole.facts["silent"] == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-x\r\n" + b"\x00\x00\x00\x0c\x04\x14" + b"\xff" * 300,
        b"SSH-2.0-x\r\n" + b"\x00\x00\x00\x1c\x0a\x14" + b"\x00" * 64,
        b"SSH-1.0-old\r\n" + b"\x00" * 64,
    ],
)
@pytest_twisted.ensureDeferred
async def test_nonsense_costs_its_connection(manhole: Manhole, sent: bytes) -> None:
    """And no traceback: those would fail the test."""
    point = TCP4ClientEndpoint(reactor, "127.0.0.1", manhole.facts["port"])
    talker: Any = await connectProtocol(point, Conversation(sent))
    for _ in range(200):
        if talker.ended.called:
            break
        await pause()
    else:  # it waits for more, which is as good; then time is up
        talker.transport.loseConnection()
        await bounded(talker.ended)
    assert (await manhole.run("1 + 1")) == ("2\n", 0)


@pytest_twisted.ensureDeferred
async def test_so_many_connections_and_sessions(
    manhole: Manhole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manhole_ssh, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(manhole_ssh, "MAX_SESSIONS", 2)
    first = await manhole.shell()
    client = await manhole.client()
    with pytest.raises(PermissionError):
        await manhole.client()
    second = await client.open("shell")
    assert manhole.facts["sessions"] == 2
    with pytest.raises(PermissionError):
        await client.open("shell")
    assert manhole.facts["crowded"] == 2
    second.conn.sendEOF(second)
    await bounded(second.closed_)
    assert await client.run("'again'") == ("'again'\n", 0)
    assert await first.ask("1") == "1\n"


@pytest_twisted.ensureDeferred
async def test_nothing_but_sessions_is_offered(manhole: Manhole) -> None:
    """No forwarding of ports, no subsystems, no files."""
    from twisted.conch.ssh.channel import SSHChannel

    client = await manhole.client()
    refused: Deferred[Any] = Deferred()

    class Forward(SSHChannel):
        name = b"direct-tcpip"

        def openFailed(self, reason: Any) -> None:
            refused.callback(reason)

    client.connection.openChannel(Forward(), b"")
    assert "unknown channel" in str(await bounded(refused))
    with pytest.raises(Exception, match="global request failed"):
        await bounded(client.connection.sendGlobalRequest(b"tcpip-forward", b"", wantReply=True))
    with pytest.raises(Exception, match="channel request failed"):
        await client.open("subsystem", b"sftp")


# -- at the prompt -----------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_session_at_a_terminal(manhole: Manhole) -> None:
    shell = await manhole.shell()
    assert "Pilot " in shell.text and "help()" in shell.text
    assert "\x1bc" not in shell.text and "\x1b[2J" not in shell.text  # the screen is the operator's
    assert await shell.ask("40 + 2") == "42\n"
    assert await shell.ask("_") == "42\n"
    assert await shell.ask("x = [n for n in range(3)]; x") == "[0, 1, 2]\n"
    shell.type("for n in x:")
    shell.type("    print(n)")
    assert (await shell.ask("")).endswith("0\n1\n2\n")
    assert "1001  DataExchange" in await shell.ask("ports()")
    assert await shell.ask("node") == "<PilotNode 0:0000.0000.0001>\n"


@pytest_twisted.ensureDeferred
async def test_mistakes_are_words_and_no_more(manhole: Manhole) -> None:
    shell = await manhole.shell()
    for line, said in (
        ("def f(:", "SyntaxError"),
        ("1/0", "ZeroDivisionError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise BaseException('x')", "BaseException: x"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("def r(): r()", "..."),
        ("", ""),
        ("r()", "RecursionError"),
        ("-" * 9000 + "1", "Error"),
        ("(" * 500, "Error"),
        ("input()", "EOFError"),
        ("breakpoint()", "no debugger"),
        ("class B: __repr__ = lambda s: 1/0", ""),
        ("", ""),
        ("B()", "ZeroDivisionError"),
        ("'\\ud800'", "'\\ud800'"),
        ("print('\\ud800')", "\\ud800"),
        ("print(chr(0))", "\\x00"),
        ("'ä€'", "'ä€'"),
    ):
        at = len(shell.received)
        shell.type(line)
        await shell.until(said or "\n", at)
    assert await shell.ask("'alive'") == "'alive'\n"
    assert manhole.service.running


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "line", ["exit()", "quit()", "import sys; sys.exit(3)", "raise SystemExit"]
)
async def test_leaving_ends_the_session_and_not_the_daemon(manhole: Manhole, line: str) -> None:
    stdin = sys.stdin
    shell = await manhole.shell()
    shell.type(line)
    await bounded(shell.closed_)
    assert shell.status == (3 if "3" in line else 0)
    assert sys.stdin is stdin and not stdin.closed
    assert (await manhole.run("1"))[0] == "1\n"


@pytest_twisted.ensureDeferred
async def test_keys_of_a_terminal(manhole: Manhole) -> None:
    shell = await manhole.shell()
    shell.write(b"garbage\x03")
    await shell.until("KeyboardInterrupt")
    shell.write(b"1 + 1\x1b[D\x1b[D2\x01\x05\r")  # left, left, 2, home, end: 1 +2 1
    await shell.until("SyntaxError")
    assert await shell.ask("'up'") == "'up'\n"
    shell.write(b"\x1b[A\r")
    await shell.until("'up'", len(shell.received))
    shell.conn.sendRequest(shell, b"window-change", b"\x00\x00\x00\x30\x00\x00\x00\x10" + b"\0" * 8)
    shell.write(b"\x0c")
    assert await shell.ask("7") == "7\n"
    shell.write(b"\x04")
    await bounded(shell.closed_)
    assert shell.status == 0


@pytest_twisted.ensureDeferred
async def test_deferreds_show_their_result_when_it_comes(manhole: Manhole) -> None:
    shell = await manhole.shell()
    assert await shell.ask("node.resolve('self')") == "Address(network=0, node=1)\n"
    later: list[Deferred[Any]] = [Deferred(), Deferred()]
    manhole.service.node.later = later  # type: ignore[attr-defined]
    assert await shell.ask("node.later[0]") == "<Deferred #1>\n"
    assert await shell.ask("node.later[1]") == "<Deferred #2>\n"
    shell.write(b"half")
    await shell.until(">>> half")
    at = len(shell.received)
    later[0].callback({"a": 1})
    later[1].errback(KeyError("gone"))
    assert await shell.until("#2 failed: KeyError: 'gone'\r\n>>> half", at)
    assert "Deferred #1 fired: {'a': 1}\r\n>>> half" in shell.text
    assert await shell.ask(" = 1; half") == "1\n"
    assert await shell.ask("from twisted.internet.defer import fail") == ""
    assert await shell.ask("fail(KeyError('gone'))") == "Deferred #3 failed: KeyError: 'gone'\n"


@pytest_twisted.ensureDeferred
async def test_what_is_edited_is_the_daemon_itself(manhole: Manhole) -> None:
    """And each session has its own names."""
    one, two = await manhole.shell(), await manhole.shell()
    assert await one.ask("node.parts.profile.hostname = 'renamed'; mine = 1") == ""
    assert manhole.service.node.parts.profile.hostname == "renamed"
    assert await two.ask("node") == "<PilotNode 0:0000.0000.0001 renamed>\n"
    assert "NameError" in await two.ask("mine")
    assert await one.ask("del peers") == ""
    assert await two.ask("peers()") == "(no peers)\n"
    assert await one.ask("trust.public") == f"{manhole.service.node.parts.trust.public}\n"
    assert await one.ask("broker.live") != ""


@pytest_twisted.ensureDeferred
async def test_output_of_others_moves_no_cursor(manhole: Manhole) -> None:
    evil = "a\x1b[2J\x9b31m\u202eb\r\nc\x07"
    manhole.service.node.parts.report.sections["skills"] = lambda: [
        {"name": evil, "state": "failed", "failures": 1, "error": evil, "since": ""}
    ]
    log.info("a peer says {what}", what=evil)
    client = await manhole.client()
    for command in ("skills", "log()", f"print({evil!r})", repr(evil), "peers()"):
        shown, status = await client.run(command)
        assert status == 0
        assert all(c.isprintable() or c in "\n\t" for c in shown), (command, shown)
    assert "\\x1b[2J" in (await client.run("skills"))[0]


# -- without a terminal ------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("command", "shown", "status"),
    [
        ("'one'", "'one'\n", 0),
        ("x = 2; x", "2\n", 0),
        ("None", "", 0),
        ("for n in range(2): n", "0\n1\n", 0),
        ("def f():\n  return 5\n\nf()", "5\n", 0),
        ("1/0\nprint('never')", "ZeroDivisionError: division by zero\n", 1),
        ("def f(:", "SyntaxError: invalid syntax\n", 1),
        ("(1 +", "SyntaxError: the last statement is not complete\n", 1),
        ("import sys; sys.exit(7)", "", 7),
        ("exit('why')", "", 1),
        ("node.resolve('self')", "Address(network=0, node=1)\n", 0),
        ("node.resolve('nobody')", 'RegistryError: hostname "nobody" not found\n', 1),
        (" ", "", 0),
    ],
)
async def test_one_command(manhole: Manhole, command: str, shown: str, status: int) -> None:
    text, ended = await manhole.run(command)
    assert ended == status
    assert text.endswith(shown) and (shown or not text)


@pytest_twisted.ensureDeferred
async def test_statements_through_a_pipe(manhole: Manhole) -> None:
    channel = await (await manhole.client()).open("shell")
    channel.write(b"x = 1\nx\nfor n in range(2):\n    print(n)\n\n1/0\nnode.resol")
    channel.write(b"ve('self')\nnode.resolve('nobody')\r\n'last'")
    channel.conn.sendEOF(channel)
    await bounded(channel.closed_)
    lines = channel.text.splitlines()
    assert lines[:3] == ["1", "0", "1"]
    assert "ZeroDivisionError: division by zero" in lines
    assert "Address(network=0, node=1)" in lines and "'last'" in lines
    assert 'Deferred #1 failed: RegistryError: hostname "nobody" not found' in lines
    assert ">>>" not in channel.text
    assert channel.status == 1


# -- beginning and end -------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_it_ends_with_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authorize(tmp_path / "a", KEY)
    service = daemon(tmp_path / "a", places(), monkeypatch, manhole="0")
    service.startService()
    try:
        await service.started
        opened = Manhole(service, tmp_path / "a")
        first = opened.facts["fingerprint"]
        shell = await opened.shell()
        waiting = await opened.client()
        channel = await waiting.open("exec", b"import twisted.internet.defer as d; d.Deferred()")
    finally:
        await stopped(service)
    for client in opened.clients:
        await bounded(client.ended)
    assert waiting.said == b"the daemon stops"
    assert shell.closed_.called and channel.closed_.called
    again = daemon(tmp_path / "a", places(), monkeypatch, manhole="0")
    again.startService()
    try:
        await again.started
        assert Manhole(again, tmp_path).facts["fingerprint"] == first
    finally:
        await stopped(again)


@pytest_twisted.ensureDeferred
async def test_without_a_key_there_is_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before anything is open."""
    service = daemon(tmp_path / "a", places(), monkeypatch, manhole="6022")
    service.startService()
    with pytest.raises(KeysError, match="nobody in without a key") as raised:
        await service.started
    assert str(tmp_path / "a" / "authorized_keys") in (raised.value.hint or "")
    assert not (tmp_path / "a" / "identity.json").exists()
    await stopped(service)


@pytest_twisted.ensureDeferred
async def test_without_conch_there_is_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    for name in list(sys.modules):
        if name.startswith(("twisted.conch.ssh.keys", "pilot.daemon.manhole_keys")):
            monkeypatch.delitem(sys.modules, name)
    import twisted.conch.ssh

    import pilot.daemon

    monkeypatch.delattr(pilot.daemon, "manhole_keys", raising=False)
    monkeypatch.delattr(twisted.conch.ssh, "keys", raising=False)
    authorize(tmp_path / "a", KEY)
    service = daemon(tmp_path / "a", places(), monkeypatch, manhole="6022")
    service.startService()
    with pytest.raises(Exception, match="library that is not installed: bcrypt") as raised:
        await service.started
    assert getattr(raised.value, "hint", "") == "pip install 'txpilot[conch]'"
    await stopped(service)


@pytest_twisted.ensureDeferred
async def test_a_port_in_use(manhole: Manhole, tmp_path: Path, monkeypatch: Any) -> None:
    authorize(tmp_path / "b", KEY)
    port = str(manhole.facts["port"])
    service = daemon(tmp_path / "b", manhole.rendezvous, monkeypatch, manhole=port)
    service.startService()
    try:
        with pytest.raises(PortInUse, match="the manhole cannot listen on"):
            await service.started
    finally:
        await stopped(service)
