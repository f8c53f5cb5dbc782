"""What the page on data exchange shows, executed."""

from __future__ import annotations

import doctest
import re
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from pilot.services.dataexchange import DataExchangeFactory
from pilot.services.mailbox import Mailbox
from pilot.wire.ipcframes import Command
from tests.ctl.conftest import Run, run  # noqa: F401
from tests.ctl.fakedaemon import FakeDaemon, Frame, error, reply
from tests.services.mail import Connection, HandWorkers, PostOffice
from tests.simulation.nodes import World

PAGE = (Path(__file__).parents[2] / "docs" / "services" / "data-exchange.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


class OneNode:
    """A daemon whose every peer is a node with this mailbox."""

    def __init__(self, post: PostOffice) -> None:
        self._post = post
        self._peers: dict[bytes, Connection] = {}

    def __call__(self, command: int, payload: bytes) -> list[Frame]:
        if command == Command.RESOLVE_HOSTNAME:
            return [reply(command + 1, {"node_id": 2, "address": "0:0000.0000.0002"})]
        if command == Command.DIAL:
            number = (len(self._peers) + 1).to_bytes(4, "big")
            self._peers[number] = self._post.connect()
            return [(Command.DIAL_OK, number)]
        if command == Command.SEND:
            peer = self._peers[payload[:4]]
            peer.send(payload[4:])
            return [(Command.RECV, payload[:4] + peer.raw)]
        return [error("unknown command")] if command != Command.CLOSE else []


def test_commands(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """In the order of the page; C{...} stands for anything."""
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.pdf").write_bytes(b"%PDF-data")
    post = PostOffice(tmp_path / ".pilot")
    shown = 0
    with FakeDaemon(OneNode(post)) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        for block in blocks("console"):
            for command, expected in re.findall(
                r"^\$ pilotctl (.*)\n((?:(?!\$ ).*\n)*)", block, re.M
            ):
                outcome = run(*shlex.split(command))
                assert outcome.status == 0, outcome
                actual = (outcome.err + outcome.out).replace(str(tmp_path), "~")
                pattern = ".*".join(re.escape(part) for part in expected.split("..."))
                assert re.fullmatch(pattern, actual, re.DOTALL), actual
                shown += 1
    monkeypatch.undo()
    time.tzset()
    assert shown == 6


def test_python_session() -> None:
    session, _, _ = blocks("python")
    test = doctest.DocTestParser().get_doctest(session, {}, "page", None, 0)
    assert doctest.DocTestRunner().run(test).failed == 0


def test_program(tmp_path: Path) -> None:
    """It sends, and it notices a refusal."""
    _, program, _ = blocks("python")
    names: dict[str, Any] = {}
    exec(program, names)
    world = World(tmp_path)
    alice, bob = world.start("alice"), world.start("bob")
    world.introduce(alice, bob)
    workers: Any = HandWorkers()
    mailbox = Mailbox(tmp_path / "bob", workers)
    world.wait(bob.listen(1001, DataExchangeFactory(mailbox, world.internet)))
    world.wait(names["send_json"](alice, 2, '{"n":1}'))
    (record,) = (tmp_path / "bob" / "inbox").iterdir()
    assert b'{\\"n\\":1}' in record.read_bytes()
    mailbox.stopService()
    with pytest.raises(RuntimeError, match="the node is stopping"):
        world.wait(names["send_json"](alice, 2, "{}"))
    world.close()


def test_claim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the program takes is confirmed and stored nowhere."""
    _, _, program = blocks("python")
    world = World(tmp_path)
    alice, bob = world.start("alice"), world.start("bob")
    world.introduce(alice, bob)
    exec(program, {"node": bob})
    workers: Any = HandWorkers()
    mailbox = Mailbox(tmp_path / "bob", workers)
    factory = DataExchangeFactory(mailbox, world.internet, claims=bob.parts.claims)
    world.wait(bob.listen(1001, factory))
    world.wait(alice.send_message("bob", {"type": "result", "result": 42}))
    assert capsys.readouterr().out == "0:0000.0000.0001 42\n"
    assert not (tmp_path / "bob" / "inbox").exists()
    world.close()
