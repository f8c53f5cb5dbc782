"""The two skills in real daemons when processes stop, die, are cut off, or cannot write."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot.client.skillcalls import SkillClient
from pilot.errors import PilotError
from tests.system.disturbances import Listener, Proxy
from tests.system.fleet import Fleet, demo, fleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

SWARM = "faults"
GOSSIP = ("--skill", f"gossip:swarm={SWARM}:interval=1s")
PRESENCE = ("--skill", "presence:profile=lan:interval=4s")

#: Seconds after a start in which nobody is judged: fifteen periods of the profile.
GRACE = 16.0


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as net:
        net.start_rendezvous()
        yield net


def befriend(*agents: Any) -> None:
    """Those who approve of everybody trust each other."""
    for number, agent in enumerate(agents):
        for other in agents[number + 1 :]:
            agent("handshake", str(other.node_id), "hello")
    for agent in agents:
        demo.until("trust", lambda agent=agent: len(agent("trust")["trusted"]) >= len(agents) - 1)


def statuses(agent: Any) -> dict[str, str]:
    rows = ask(agent, "presence", "list", all=True)["agents"]
    return {row["hostname"]: row["status"] for row in rows}


def ask(agent: Any, skill: str, what: str, **arguments: Any) -> Any:
    """Ask a skill without the price of a program; for asking often."""
    try:
        return SkillClient(skill, str(agent.socket)).call(what, arguments, timeout=10)
    except PilotError as error:
        raise demo.StepFailed(error.message) from error


def value(agent: Any, key: str) -> Any:
    return ask(agent, "gossip", "get", swarm=SWARM, key=key)["value"]


def write(agent: Any, key: str, content: Any) -> Any:
    return ask(agent, "gossip", "set", swarm=SWARM, key=key, value=content)


def root(agent: Any) -> str:
    return str(ask(agent, "gossip", "status", swarm=SWARM)["root"])


def know_each_other(*agents: Any, patience: float = 30.0) -> None:
    everybody = dict.fromkeys((agent.name for agent in agents), "online")
    for agent in agents:
        demo.until(
            f"everybody at {agent.name}",
            lambda agent=agent: statuses(agent) == everybody,
            patience,
        )


def test_a_daemon_that_stands_still(net: Fleet) -> None:
    """Stopped for a while it is given up; when it goes on it doubts itself, not the others."""
    agents = [
        net.agent(name, *PRESENCE, *GOSSIP, "--trust-auto-approve")
        for name in ("alice", "bob", "carol")
    ]
    alice, bob, carol = agents
    befriend(*agents)
    know_each_other(*agents)
    time.sleep(GRACE)
    listeners = {agent.name: Listener(agent, "presence") for agent in agents}
    demo.until("listeners", lambda: all(each.events for each in listeners.values()))

    carol.process.send_signal(signal.SIGSTOP)
    try:
        write(alice, "meanwhile", "news")
        for agent in (alice, bob):
            demo.until("the verdict", lambda agent=agent: statuses(agent)["carol"] == "offline")
        time.sleep(4)
    finally:
        carol.process.send_signal(signal.SIGCONT)

    demo.until("carol doubts herself", lambda: listeners["carol"].heard("view_stale"))
    know_each_other(*agents)
    demo.until("what she missed", lambda: value(carol, "meanwhile") == "news")
    demo.until("her view is good again", lambda: listeners["carol"].heard("view_ok"), 40.0)
    assert list(listeners["alice"].about("offline")) == ["carol"]
    assert list(listeners["bob"].about("offline")) == ["carol"]
    assert not list(listeners["carol"].about("offline"))


@pytest.fixture
def front() -> Iterator[Any]:
    """Makes proxies."""
    made: list[Proxy] = []

    def make(port: int) -> Proxy:
        made.append(Proxy(("127.0.0.1", port)))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


def behind(net: Fleet, name: str, port: int, proxy: Proxy) -> Any:
    """An agent that others reach through a proxy."""
    at = f"127.0.0.1:{proxy.place[1]}"
    return net.agent(
        name, "--listen", f"127.0.0.1:{port}", "--endpoint", at, *PRESENCE, *GOSSIP,
        "--trust-auto-approve",
    )  # fmt: skip


def test_a_partition_that_heals(net: Fleet, front: Any) -> None:
    """Both sides write while carol is cut off; afterwards all hold everything, and all are back."""
    ports = demo.free_ports(3, socket.SOCK_DGRAM)
    proxies = [front(port) for port in ports]
    relay = front(int(net.beacon.rpartition(":")[2]))
    names = ("alice", "bob", "carol")
    agents = []
    for name, port, proxy in zip(names, ports, proxies, strict=True):
        place, net.beacon = net.beacon, f"127.0.0.1:{relay.place[1]}"
        agents.append(behind(net, name, port, proxy))
        net.beacon = place
    alice, bob, carol = agents
    befriend(*agents)
    know_each_other(*agents)
    write(alice, "before", 1)
    for agent in (bob, carol):
        demo.until("the first news", lambda agent=agent: value(agent, "before") == 1)
    time.sleep(GRACE)

    # Nothing gets from carol to the others or back, neither directly nor by way of the beacon.
    for proxy in (proxies[0], proxies[1], relay):
        proxy.cut = lambda correspondent: correspondent == ("127.0.0.1", ports[2])
    proxies[2].cut = lambda correspondent: True
    write(alice, "cut/here", "written by two")
    write(carol, "cut/there", "written by one")
    demo.until("the news", lambda: value(bob, "cut") == {"here": "written by two"})
    for agent in (alice, bob):
        demo.until("the verdict", lambda agent=agent: statuses(agent)["carol"] == "offline")
    # Carol lost everybody at once: they are gone, or she doubts her view.
    demo.until("carol's doubts", lambda: are_lost(carol, alice, bob))
    assert value(carol, "cut") == {"there": "written by one"}

    for proxy in (*proxies, relay):
        proxy.cut = lambda correspondent: False
    whole = {"here": "written by two", "there": "written by one"}
    for agent in agents:
        demo.until("everything", lambda agent=agent: value(agent, "cut") == whole, 35.0)
    know_each_other(*agents, patience=35.0)
    demo.until("agreement", lambda: len({root(agent) for agent in agents}) == 1)


def are_lost(agent: Any, *others: Any) -> bool:
    seen = ask(agent, "presence", "list", all=True)
    if seen["stale_view"]:
        return True
    gone = {row["hostname"] for row in seen["agents"] if row["status"] == "offline"}
    return gone >= {other.name for other in others}


def test_a_coordinator_dies_and_returns(net: Fleet) -> None:
    """Those who only knew of each other through it say that they do not know; nobody is lost."""
    served = "presence:profile=lan:interval=4s"
    hub = net.agent("hub", "--skill", served + ":serve", "--trust-auto-approve")
    soon = ("--keepalive", "2s", "--idle-timeout", "6s")  # to notice that a stream leads nowhere
    member = (*PRESENCE[:1], served + ":coordinator=hub", "--trust-auto-approve", *soon)
    names = ("alice", "bob", "dave", "carol")
    alice, bob, dave, carol = agents = [net.agent(name, *member) for name in names]
    for agent in agents:
        befriend(hub, agent)
    befriend(alice, bob, dave)
    know_each_other(hub, *agents)  # of carol the others know only by the hub
    time.sleep(GRACE)
    listeners = [Listener(agent, "presence") for agent in (alice, carol)]
    demo.until("listeners", lambda: all(each.events for each in listeners))
    lost = Listener(alice, "presence", coordinator="hub")
    demo.until("alice follows the hub", lambda: lost.heard("watching"))

    hub.process.send_signal(signal.SIGKILL)
    hub.process.wait()
    demo.until("stale at alice", lambda: is_stale(alice), 30.0)
    demo.until("lost", lambda: lost.heard("lost"), 30.0)
    assert row(alice, "carol")["status"] == "online"
    assert row(alice, "bob")["confidence"] in ("direct", "gossip")

    # What it knew was not on its disk yet; each reports anew, and nobody is offline meanwhile.
    net.start(hub, "--skill", served + ":serve", "--trust-auto-approve")
    back = [Listener(hub, "presence")]
    demo.until("no doubt", lambda: not is_stale(alice), 30.0)
    know_each_other(hub, *agents)

    # Stopped in good order it finds what it knew, and says that this is old.
    hub.process.terminate()
    hub.process.wait()
    for agent in agents:
        agent.process.send_signal(signal.SIGSTOP)
    try:
        net.start(hub, "--skill", served + ":serve", "--trust-auto-approve")
        for agent in agents:
            known = row(hub, agent.name)
            assert (known["status"], known["confidence"]) == ("online", "stale_view")
    finally:
        for agent in agents:
            agent.process.send_signal(signal.SIGCONT)
    back.append(Listener(hub, "presence"))
    know_each_other(hub, *agents)
    for listener in listeners:
        assert set(listener.about("offline")) <= {"hub"}
    for listener in back:
        assert not list(listener.about("offline"))


def is_stale(agent: Any) -> bool:
    return bool(ask(agent, "presence", "list")["stale_view"])


def row(agent: Any, name: str) -> dict[str, Any]:
    return dict(ask(agent, "presence", "get", host=name))


def test_a_journal_torn_by_a_kill(net: Fleet) -> None:
    """Killed in the middle of writes, and the end of the journal lost as well."""
    alice, bob = (net.agent(name, *GOSSIP, "--trust-auto-approve") for name in ("alice", "bob"))
    befriend(alice, bob)
    write(alice, "first", True)
    demo.until("the members", lambda: value(bob, "first"))
    confirmed: list[int] = []

    def keep_writing() -> None:
        with contextlib.suppress(demo.StepFailed):
            while True:
                write(alice, f"count/{len(confirmed)}", len(confirmed))
                confirmed.append(len(confirmed))

    writer = threading.Thread(target=keep_writing)
    writer.start()
    demo.until("some writes", lambda: len(confirmed) >= 100)
    alice.process.send_signal(signal.SIGKILL)
    alice.process.wait()
    writer.join()

    (journal,) = (alice.home / "skills" / "gossip").rglob("journal")
    os.truncate(journal, journal.stat().st_size - 5)
    bob.process.send_signal(signal.SIGSTOP)  # alice has to do with what she has
    try:
        net.start(alice, "--skill", "gossip", "--trust-auto-approve")
        kept = demo.until("alice is back", lambda: value(alice, "count"))
        assert len(kept) >= len(confirmed) - 1  # all but the one that was torn afterwards
        status = ask(alice, "gossip", "status", swarm=SWARM)
        assert any("torn" in what for what in status["storage"]["recovered"])
        assert status["storage"]["state"] == "ok" and not status["synced"]
        write(alice, "after", "the fall")
    finally:
        bob.process.send_signal(signal.SIGCONT)
    demo.until("agreement", lambda: root(alice) == root(bob), 40.0)
    # The last one was torn, unless it had left in time.
    assert {str(each) for each in confirmed[:-1]} <= value(alice, "count").keys()
    assert value(bob, "after") == "the fall"


def test_a_full_disk(net: Fleet) -> None:
    """No file may grow: the skills run in memory, say so, and write again when there is room."""
    alice, bob = (
        net.agent(name, *PRESENCE, *GOSSIP, "--trust-auto-approve") for name in ("alice", "bob")
    )
    befriend(alice, bob)
    assert write(alice, "before", 1)["stored"]
    process = alice.process.pid
    # Also for the daemon's own log, which is a file here.
    resource.prlimit(process, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    answer = write(alice, "meanwhile", 2)
    assert not answer["stored"]
    storage = alice("gossip", "status", SWARM)["storage"]
    assert storage["state"] == "memory only" and "large" in storage["error"]
    demo.until("the news", lambda: value(bob, "meanwhile") == 2)
    alice("presence", "set", "busy", "--reason", "no room")
    demo.until("the status", lambda: row(bob, "alice")["status"] == "busy")
    demo.until("presence says so", lambda: alice("presence", "stats")["storage"]["error"])

    resource.prlimit(process, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    demo.until("room", lambda: write(alice, "after", 3)["stored"], 20.0)
    alice("presence", "set", "away")
    demo.until("presence, too", lambda: not alice("presence", "stats")["storage"]["error"])
    alice.process.send_signal(signal.SIGKILL)
    alice.process.wait()
    bob.process.send_signal(signal.SIGSTOP)
    try:
        net.start(alice, *PRESENCE, "--skill", "gossip", "--trust-auto-approve")
        document = demo.until("alice is back", lambda: alice("gossip", "dump", SWARM)["state"])
        assert document == {"before": 1, "meanwhile": 2, "after": 3}
        assert ask(alice, "presence", "own")["status"] == "away"
    finally:
        bob.process.send_signal(signal.SIGCONT)
