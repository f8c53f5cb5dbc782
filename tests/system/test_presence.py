"""Presence among real daemons: inside one, beside one, and a shell loop against a third."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.fleet import Fleet, demo, fleet

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed"),
]

LOOP = (
    (Path(__file__).with_name("published") / "presence_loop.sh")
    .read_text()
    .replace("INTERVAL=30", "INTERVAL=1")
    .replace("/tmp/", "$HOME/")
)
"""The loop of the skill's page, a little faster, and with its file apart from others'."""


@contextlib.contextmanager
def looping(agent: Any, coordinator: str) -> Iterator[Path]:
    """The loop, running at an agent.  @return: the file it reads its status from."""
    path = os.pathsep.join((str(demo.BIN), os.environ["PATH"]))
    with (agent.home / "loop.log").open("w") as output:
        loop = subprocess.Popen(
            ["bash", "-c", LOOP, "loop", coordinator],
            env={**agent.environment, "HOME": str(agent.home), "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield agent.home / "pilot-presence-status.txt"
    finally:
        os.killpg(loop.pid, signal.SIGKILL)
        loop.wait()


def status(agent: Any, host: str) -> str:
    """@return: how C{host} is in the eyes of C{agent}."""
    return str(agent("presence", "get", host)["status"])


def becomes(agent: Any, host: str, wanted: str, patience: float = 15.0) -> float:
    """Wait until C{agent} sees C{host} so.  @return: seconds that took."""
    began = time.monotonic()
    what = f"{agent.name} sees {host} {wanted}"
    demo.until(what, lambda: status(agent, host) == wanted, patience)
    return time.monotonic() - began


def people(net: Fleet) -> tuple[Any, Any, Any]:
    """A coordinator, an agent with the skill, and one without it."""
    net.start_rendezvous()
    hub = net.agent("hub", "--skill", "presence:serve:profile=lan")
    alice = net.agent("alice", "--skill", "presence:profile=lan:coordinator=hub:tag=gpu")
    carol = net.agent("carol")
    net.introduce(alice, hub)
    net.introduce(carol, hub)
    return hub, alice, carol


def test_a_fleet(tmp_path: Path) -> None:
    """Everything an agent and a shell loop do with presence on their first day."""
    with fleet(tmp_path) as net:
        hub, alice, carol = people(net)
        becomes(hub, "alice", "online")
        events = alice.start("subscribe", "hub", "presence.*", "--count", "3", "--timeout", "60s")
        watcher = alice.start("presence", "watch", "carol", "--count", "2", "--timeout", "60s")
        demo.until("somebody watches", lambda: hub("info")["event_stream"]["subscriptions"] >= 1)
        with looping(carol, "hub") as file:
            becomes(hub, "carol", "online")
            becomes(alice, "carol", "online")  # whom alice does not know
            found = hub("presence", "find")
            assert {agent["hostname"] for agent in found["agents"]} <= {"alice", "carol"}
            asked = carol.start("presence", "list")
            asked.communicate(timeout=30)
            assert asked.returncode == 1  # carol runs no skill
            file.write_text("busy")
            becomes(hub, "carol", "busy")
            listed = alice("presence", "list", "--coordinator", "hub")
            names = {agent["hostname"]: agent["status"] for agent in listed["agents"]}
            assert names == {"hub": "online", "alice": "online", "carol": "busy"}
        refused = hub("presence", "find", "--tag", "none", fails=True)
        assert refused["code"] == "not_found"
        (found,) = hub("presence", "find", "--tag", "gpu", "--verify", "--pick", "1")["agents"]
        assert found["hostname"] == "alice"
        seen = [
            json.loads(event["data"])
            for event in demo.finished(events)["events"]
            if event["topic"] == "presence.status"
        ]
        assert {"hostname", "status", "timestamp"} <= set(seen[0])
        out, _ = watcher.communicate(timeout=60)
        changes = [json.loads(line) for line in out.splitlines()]
        assert [change["to"] for change in changes] == ["online", "busy"]

        alice("presence", "set", "busy", "--reason", "indexing", "--for", "2s")
        becomes(hub, "alice", "busy")
        becomes(hub, "alice", "online")
        (report,) = hub("info")["skills"]
        assert (report["name"], report["state"], report["serve"]) == ("presence", "running", True)

        alice.process.send_signal(signal.SIGTERM)  # says goodbye
        assert becomes(hub, "alice", "offline") < 5.0
        alice.process.wait(10)
        net.start(alice)
        beside = subprocess.Popen(
            [str(demo.BIN / "twistd"), "--nodaemon", "--pidfile=", "pilot-presence"],
            env=alice.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            becomes(hub, "alice", "online", 30.0)
            explained = hub("presence", "explain", "alice")
            assert explained["evidence"]
        finally:
            beside.terminate()
            beside.wait(10)
        assert becomes(hub, "alice", "offline") < 10.0


@pytest.mark.soak
def test_a_killed_daemon_is_offline_within_the_bound(tmp_path: Path) -> None:
    """Of one with the skill, and of one whose loop ran by hand, after the grace of the start."""
    with fleet(tmp_path) as net:
        hub, alice, carol = people(net)
        with looping(carol, "hub"):
            becomes(hub, "carol", "online")
            time.sleep(80.0)
        for agent in (alice, carol):
            agent.process.kill()
        assert becomes(hub, "alice", "offline", 40.0) < 30.0
        assert becomes(hub, "carol", "offline", 70.0) < 60.0
