"""Real processes on loopback, driven as users drive them."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.fleet import Fleet, demo, fleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as net:
        net.start_rendezvous()
        yield net


def test_the_demo_tells_its_story(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(demo, "BENCH_MEGABYTES", 4)
    assert demo.main() == 0
    told = capsys.readouterr().out
    steps = "register find handshake approve ping send message file event task polo bench tunnel"
    for step in steps.split():
        assert f"  {step} " in told
    _, _, rest = told.partition("Three more")
    steps = "trust presence busy join set get equal kill offline explain"
    for step in steps.split():
        assert f"  {step} " in rest
    assert "dave: it is busy: rendering" in told
    assert "erin online -> offline" in told


def test_a_rendezvous_killed_in_the_middle_forgets_nothing(net: Fleet) -> None:
    alice, bob = net.agent("alice"), net.agent("bob")
    net.introduce(alice, bob)
    net.rendezvous.send_signal(signal.SIGKILL)
    net.rendezvous.wait()
    assert alice("ping", str(bob.node_id), "--count", "1")["results"][0].get("rtt_ms")
    net.start_rendezvous()
    found = demo.until("bob is found again", lambda: alice("find", "bob"))
    assert found["node_id"] == bob.node_id
    carol = net.agent("carol")
    assert carol.node_id not in (alice.node_id, bob.node_id)


def test_an_agent_killed_in_the_middle_comes_back_as_itself(net: Fleet) -> None:
    alice, bob = net.agent("alice"), net.agent("bob")
    net.introduce(alice, bob)
    alice("ping", "bob", "--count", "1")
    number = bob.node_id
    bob.process.send_signal(signal.SIGKILL)
    bob.process.wait()
    net.start(bob)  # over the stale socket that the kill left
    assert bob.node_id == number
    assert [peer["node_id"] for peer in bob("trust")["trusted"]] == [alice.node_id]
    answer = demo.until("a ping", lambda: alice("ping", "bob", "--count", "1")["results"][0])
    assert "rtt_ms" in answer
    assert stat.S_IMODE(bob.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE((bob.home / "identity.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("shared", ["socket", "identity"])
def test_a_second_daemon_in_the_same_place_leaves_the_first_alone(net: Fleet, shared: str) -> None:
    alice = net.agent("alice")
    other = {**alice.environment}
    if shared == "socket":
        other["PILOT_HOME"] = str(net.root / "elsewhere")
    else:
        other["PILOT_SOCKET"] = str(net.root / "other.sock")
    second = subprocess.run(
        alice.daemon(), env=other, capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode != 0
    assert "another daemon" in second.stderr
    assert alice("info")["node_id"] == alice.node_id


def test_twistd_runs_the_daemon_and_says_which_rendezvous_it_uses(tmp_path: Path) -> None:
    """`twistd pilot` with no registry at all is system-wide, so here one is named."""
    with fleet(tmp_path) as net:
        net.start_rendezvous()
        agent = demo.Agent("alice", net.root, net.registry, net.beacon)
        command = [str(demo.BIN / "twistd"), "--nodaemon", "--pidfile=", "pilot", "--public"]
        log = net.root / "twistd.log"
        with demo.running(command, agent.environment, log):
            facts = demo.until("twistd pilot", lambda: agent("info"))
            assert facts["public"] and facts["ports"] >= 2
        assert net.registry in log.read_text()


def test_a_web_site_on_the_overlay(net: Fleet, tmp_path: Path) -> None:
    """`twistd web --listen pilot:80` at one agent, a treq client at the other."""
    alice, bob = net.agent("alice"), net.agent("bob")
    net.introduce(alice, bob)
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("<p>served over the overlay")
    (site / "large.bin").write_bytes(os.urandom(1 << 20))
    ports = bob("info")["ports"]
    command = [str(demo.BIN / "twistd"), "--nodaemon", "--pidfile=", "web"]
    command += ["--listen", "pilot:80", "--path", str(site)]
    with demo.running(command, bob.environment, tmp_path / "web.log"):
        demo.until("the site", lambda: bob("info")["ports"] > ports)
        page = Path(__file__).parents[2] / "docs" / "howto" / "web-site.md"
        (snippet,) = [
            block for block in page.read_text().split("```python\n")[1:] if "treq" in block
        ]
        program = tmp_path / "get.py"
        program.write_text(snippet.split("```")[0])
        fetched = subprocess.run(
            [sys.executable, str(program)],
            env=alice.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert fetched.stdout.strip() == "200 <p>served over the overlay", fetched.stderr


def test_the_virtual_port_page_works_as_printed(net: Fleet, tmp_path: Path) -> None:
    alice, bob = net.agent("alice"), net.agent("bob")
    net.introduce(alice, bob)
    page = (Path(__file__).parents[2] / "docs" / "howto" / "virtual-port.md").read_text()
    for block in page.split("```python\n")[1:]:
        code = block.split("```")[0]
        if code.startswith("# "):
            (tmp_path / code.splitlines()[0][2:]).write_text(code)
    command = [sys.executable, str(tmp_path / "serve.py")]
    ports = bob("info")["ports"]
    with demo.running(command, bob.environment, tmp_path / "serve.log"):
        demo.until("the greeter", lambda: bob("info")["ports"] > ports)
        answer = alice("connect", "bob", "4000", "--message", "alice\n")
    assert answer["response"].startswith("hello alice, you are 0:0000.")


def test_garbage_on_every_socket_leaves_everything_working(net: Fleet) -> None:
    alice, bob = net.agent("alice"), net.agent("bob")
    net.introduce(alice, bob)
    garbage = [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", bytes(2000), b"\xff" * 2000, os.urandom(4000)]
    host, port = net.registry.split(":")
    endpoint = bob("peers")["peers"] or alice("peers")["peers"]
    for junk in garbage:
        with socket.create_connection((host, int(port)), timeout=5) as tcp:
            tcp.sendall(junk)
        with socket.socket(socket.AF_UNIX) as unix:
            unix.connect(str(bob.socket))
            unix.sendall(junk)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            beacon_host, beacon_port = net.beacon.split(":")
            udp.sendto(junk[:1400], (beacon_host, int(beacon_port)))
            for peer in endpoint:
                peer_host, _, peer_port = peer["endpoint"].rpartition(":")
                udp.sendto(junk[:1400], (peer_host, int(peer_port)))
    assert alice("find", "bob")["node_id"] == bob.node_id
    assert "rtt_ms" in alice("ping", "bob", "--count", "1")["results"][0]
    assert bob("info")["node_id"] == bob.node_id


def test_daemon_start_status_and_stop(net: Fleet) -> None:
    agent = demo.Agent("alice", net.root, net.registry, net.beacon)
    started = agent("daemon", "start", "--hostname", "alice", "--listen", "127.0.0.1:0")
    try:
        assert agent("daemon", "status")["running"]
        assert agent("info")["hostname"] == "alice"
        refused = agent("daemon", "start", fails=True)
        assert refused["code"] == "already_exists"
    finally:
        stopped = agent("daemon", "stop")
    assert stopped["pid"] == started["pid"]
    assert not agent("daemon", "status")["running"]
    assert json.loads(json.dumps(started))["address"] == "0:0000.0000.0001"
