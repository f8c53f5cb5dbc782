"""The second half of the demo: five agents that know of each other, and share what they know."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from demo_tools import Agent, Command, StepFailed, printed, say, until

SWARM = "river"

#: How a daemon is started that hosts both skills; agents on one machine are looked after closely.
SKILLS = ("--skill", "presence:profile=lan", "--skill", "gossip")
#: The same, for an agent that others find by what it can do.
WITH_GPU = ("--skill", "presence:profile=lan:tag=gpu", "--skill", "gossip")


def gather(agents: list[Agent]) -> None:
    """All of them trust each other."""
    nodes = {}
    for agent in agents:
        facts = until(f"{agent.name} registers", lambda agent=agent: agent("info"))
        nodes[agent] = facts["node_id"]
    began = time.monotonic()
    for number, agent in enumerate(agents):
        known = {peer["node_id"] for peer in agent("trust")["trusted"]}
        for other in agents[number + 1 :]:
            if nodes[other] not in known:
                agent("handshake", str(nodes[other]), f"it is me, {agent.name}")
    most = len(agents) - 1
    for agent in agents:
        until("trust", lambda agent=agent: len(agent("trust")["trusted"]) == most)
    say("trust", f"each of the five trusts the others, {_since(began)} after the first one asked")


def presence(agents: list[Agent]) -> None:
    """Who is there, who can take work, and who cannot."""
    alice, _bob, carol, dave, _erin = agents
    began = time.monotonic()
    until("presence at alice", lambda: len(_online(alice)) == len(agents), 30.0)
    say("presence", f"{_since(began)} later alice sees online: {', '.join(_online(alice))}")

    found = until("a gpu", lambda: carol("presence", "find", "--tag", "gpu"))["agents"]
    say("find", f"carol looks for a gpu: {found[0]['hostname']} can take work")

    watch = _watch(carol, "presence", "watch", "dave", "--status", "busy")
    began = time.monotonic()
    dave("presence", "set", "busy", "--reason", "rendering")
    change = _change(watch)
    say("busy", f"carol hears after {_since(began)}: {_told(change)}")
    able = carol("presence", "find", "--limit", "5")["agents"]
    names = sorted(agent["hostname"] for agent in able)
    say("find", f"carol looks for anybody: {', '.join(names)}")
    nobody = carol("presence", "find", "--tag", "gpu", fails=True)
    reasons = [why for why in nobody["hint"].split("; ") if why.startswith(dave.name)]
    say("find", f"carol looks for a gpu: {nobody['message']} ({reasons[0]})")


def gossip(agents: list[Agent]) -> None:
    """A value that is set on one agent and read on another, and soon on all."""
    alice, *others = agents
    began = time.monotonic()
    for agent in agents:
        agent("gossip", "join", SWARM)
    until("the members", lambda: len(alice("gossip", "members", SWARM)["members"]) == len(others))
    say("join", f"all five are in the swarm {SWARM!r}; alice knows them after {_since(began)}")

    watches = [_watch(agent, "gossip", "watch", SWARM, "--prefix", "fish") for agent in others]
    began = time.monotonic()
    stored = alice("gossip", "set", SWARM, "fish/where", "at the bridge")
    say("set", f"alice: {stored['key']} = {stored['value']!r}, on her disk after {_since(began)}")

    def heard(watch: Command) -> str:
        _change(watch)
        return _since(began)

    with ThreadPoolExecutor() as pool:  # each time is taken when that agent hears of it
        times = list(pool.map(heard, watches))
    for agent, took in zip(others, times, strict=True):
        value = agent("gossip", "get", SWARM, "fish/where")["value"]
        say("get", f"{agent.name} reads {value!r}, heard within {took} of alice's first keystroke")
    roots = {agent("gossip", "status", SWARM)["root"] for agent in agents}
    if len(roots) > 1:
        raise StepFailed(f"the copies differ: {roots}")
    say("equal", f"the copies of all five have the root {roots.pop()}")


def loss(agents: list[Agent], kill: Callable[[], object]) -> None:
    """An agent dies without a word; the others find out, and can say how."""
    alice, *_, erin = agents
    watch = _watch(alice, "presence", "watch", erin.name, "--status", "offline")
    began = time.monotonic()
    kill()
    say("kill -9", f"{erin.name}'s daemon is gone, without a word")
    change = _change(watch)
    say("offline", f"alice hears after {_since(began)}: {_told(change)}")
    for step in alice("presence", "explain", erin.name)["evidence"][-3:]:
        say("explain", f"{step['ago']:.1f} s ago: {step['what']} ({step['detail']})")
    able = alice("presence", "find", "--limit", "5")["agents"]
    say("find", f"who can take work: {', '.join(sorted(each['hostname'] for each in able))}")


def _online(agent: Agent) -> list[str]:
    agents = agent("presence", "list", "--status", "online")["agents"]
    return [each["hostname"] for each in agents]


def _watch(agent: Agent, *words: str) -> Command:
    """A command that ends with the first change, once it is known to listen."""
    before = _watchers(agent, words[0])
    watch = agent.start(*words, "--count", "1", "--timeout", "45s")
    until("the watch", lambda: _watchers(agent, words[0]) > before)
    return watch


def _watchers(agent: Agent, skill: str) -> int:
    if skill == "gossip":
        return int(agent("gossip", "status", SWARM)["watchers"])
    return int(agent("presence", "stats")["local_watchers"]["now"])


def _change(watch: Command) -> dict[str, Any]:
    """@return: what it showed."""
    return dict(json.loads(printed(watch)))


def _told(change: dict[str, Any]) -> str:
    return f"{change['hostname']} {change['from']} -> {change['to']}, {change['cause']}"


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.2f} s"
