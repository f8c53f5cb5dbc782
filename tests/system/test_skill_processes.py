"""The skills as processes of their own and inside daemons: started, used, restarted, killed."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.fleet import Fleet, demo, short_fleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

SWARM = "kv"
SKILLS = {
    "presence": ("pilot-presence", "--profile", "lan"),
    "gossip": ("pilot-gossip", "--swarm", SWARM, "--interval", "1s"),
}


@pytest.fixture
def net() -> Iterator[Fleet]:
    with short_fleet() as net:
        yield net


def command(skill: str) -> list[str]:
    return [str(demo.BIN / "twistd"), "--nodaemon", "--pidfile=", *SKILLS[skill]]


@contextlib.contextmanager
def beside(agent: Any, skill: str) -> Iterator[subprocess.Popen[bytes]]:
    """A skill as a process of its own beside an agent's daemon, until the block ends."""
    log = agent.home / f"{skill}.log"
    with demo.running(command(skill), agent.environment, log) as process:
        demo.until(f"the socket of {skill}", (agent.home / f"pilot-{skill}.sock").exists)
        yield process


def stop(process: subprocess.Popen[bytes], log: Path) -> None:
    """Ask a process to end, which it must do properly: twistd then dies of the same signal."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) in (0, -signal.SIGTERM)
    told = log.read_text()
    assert "Server Shut Down" in told or "stopping" in told
    assert "Traceback" not in told


def status(agent: Any, host: str) -> str:
    return str(agent("presence", "get", host)["status"])


def value(agent: Any, key: str) -> Any:
    return agent("gossip", "get", SWARM, key)["value"]


def test_beside_a_daemon(net: Fleet) -> None:
    """Used through C{pilotctl}, outliving the daemon, turned away when there is one already, and
    gone without a trace when told to stop."""
    inside = ("--skill", "presence:profile=lan", "--skill", f"gossip:swarm={SWARM}:interval=1s")
    alice, bob = net.agent("alice"), net.agent("bob", *inside)
    net.introduce(alice, bob)
    for skill in SKILLS:
        refused = alice(skill, "stats" if skill == "presence" else "swarms", fails=True)
        assert refused["code"] == "not_running" and f"pilot-{skill}" in refused["hint"]

    with beside(alice, "presence") as presence, beside(alice, "gossip") as gossip:
        work_together(alice, bob, "first")

        for skill in SKILLS:
            second = subprocess.run(
                command(skill), env=alice.environment, capture_output=True, timeout=30, check=False
            )
            assert second.returncode != 0
            assert b"already" in second.stdout + second.stderr
        assert presence.poll() is None and gossip.poll() is None

        stop(alice.process, alice.home / "daemon.log")
        net.start(alice)
        work_together(alice, bob, "second")
        alice.process.send_signal(signal.SIGKILL)
        alice.process.wait()
        net.start(alice)
        work_together(alice, bob, "third")

        stop(presence, alice.home / "presence.log")
        stop(gossip, alice.home / "gossip.log")
    assert not list(alice.home.glob("pilot-*.sock"))
    demo.until("the goodbye", lambda: status(bob, "alice") == "offline", 5.0)
    # What was written is there for the next one.
    with beside(alice, "gossip"):
        demo.until("the state", lambda: value(alice, "round/third") == "alice")


def work_together(alice: Any, bob: Any, round: str) -> None:
    """Both skills do their work between the two."""
    demo.until("alice at bob", lambda: status(bob, "alice") == "online", 30.0)
    demo.until("bob at alice", lambda: status(alice, "bob") == "online", 30.0)
    stored = demo.until("gossip", lambda: alice("gossip", "set", SWARM, f"round/{round}", "alice"))
    assert stored["stored"]
    demo.until("the key at bob", lambda: value(bob, f"round/{round}") == "alice")
    bob("gossip", "set", SWARM, f"answer/{round}", "bob")
    demo.until("the key at alice", lambda: value(alice, f"answer/{round}") == "bob")


def test_inside_twistd_pilot(net: Fleet) -> None:
    """Both at once in C{twistd pilot}, shown in C{info}, one process, gone with it."""
    alice = demo.Agent("alice", net.root, net.registry, net.beacon)
    daemon = [str(demo.BIN / "twistd"), "--nodaemon", "--pidfile=", "pilot"]
    daemon += ["--hostname", "alice", "--listen", "127.0.0.1:0"]
    daemon += ["--skill", "presence", "--skill", f"gossip:swarm={SWARM}"]
    log = net.root / "twistd.log"
    with demo.running(daemon, alice.environment, log) as process:

        def running() -> set[str]:
            return {each["name"] for each in alice("info")["skills"] if each["state"] == "running"}

        demo.until("the skills", lambda: running() == {"presence", "gossip"})
        assert status(alice, "alice") == "online"
        assert alice("gossip", "set", SWARM, "k", "1")["value"] == 1
        for skill in SKILLS:  # inside counts, too
            second = subprocess.run(
                command(skill), env=alice.environment, capture_output=True, timeout=30, check=False
            )
            assert second.returncode != 0
        stop(process, log)
    assert not list(alice.home.glob("pilot-*.sock"))


def test_a_kill_during_writes(net: Fleet) -> None:
    """Whatever C{set} has confirmed outlives C{kill -9} of the daemon, also the last one."""
    flags = ("--skill", f"gossip:swarm={SWARM}")
    alice = net.agent("alice", *flags)
    confirmed: dict[str, int] = {}
    enough = threading.Semaphore(0)

    def write(writer: int) -> None:
        for number in itertools.count():
            key = f"w{writer}/k{number % 7}"
            done = alice.start("gossip", "set", SWARM, key, str(number))
            out, _ = done.communicate()
            if done.returncode != 0:
                return  # the daemon is dead
            confirmed[key] = json.loads(out)["data"]["value"]
            enough.release()

    for life in range(2):
        writers = [threading.Thread(target=write, args=(3 * life + n,)) for n in range(3)]
        for writer in writers:
            writer.start()
        for _ in range(25):
            assert enough.acquire(timeout=30)
        alice.process.send_signal(signal.SIGKILL)
        alice.process.wait()
        for writer in writers:
            writer.join(30)
            assert not writer.is_alive()
        net.start(alice, *flags)
        demo.until("the skill", lambda: alice("gossip", "status", SWARM))
        document = alice("gossip", "dump", SWARM)["state"]
        kept = {f"{w}/{k}": v for w, keys in document.items() for k, v in keys.items()}
        assert set(kept) >= set(confirmed)
        # A write that was never confirmed may be there; one that was must not be older.
        assert all(kept[key] >= number for key, number in confirmed.items())
    assert len(confirmed) > 6
