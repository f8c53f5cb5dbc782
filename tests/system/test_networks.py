"""A private network among real daemons, from its foundation to its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.fleet import Fleet, demo, fleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SECRET = "the administrator's word"


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as net:
        net.start_rendezvous("--admin-token", SECRET)
        yield net


def answered(agent: Any, target: str) -> bool:
    """Whether a ping comes back.  A network's first attempt may wait for the registry's word."""
    ping = agent.start("ping", target, "--count", "1", "--timeout", "10s")
    return "rtt_ms" in demo.finished(ping)["results"][0]


def networks(agent: Any) -> list[str]:
    """The addresses an agent's daemon knows it has in networks."""
    return [each["address"] for each in agent("info")["networks"] or []]


def test_a_network_from_its_foundation_to_its_end(net: Fleet) -> None:
    """Three private agents that trust nobody reach each other as members, and only so."""
    alice, bob, carol = (net.agent(name) for name in ("alice", "bob", "carol"))
    alice.environment["PILOT_ADMIN_TOKEN"] = SECRET

    assert bob("network", "create", "--name", "crew", fails=True)["code"] == "auth_required"
    founding = ("network", "create", "--name", "crew", "--join-rule", "token", "--token", "opens")
    crew = alice(*founding)["network_id"]
    assert [each["name"] for each in bob("network", "list")["networks"]] == ["backbone", "crew"]

    refused = bob("network", "join", str(crew), fails=True)
    assert refused["message"].endswith(f"registry: invalid token for network {crew}")
    for agent in (bob, carol):
        joined = agent("network", "join", str(crew), "--token", "opens")
        assert joined["address"] == f"{crew}:{crew:04X}.0000.{agent.node_id:04X}"
        assert networks(agent) == [joined["address"]]
    members = bob("network", "members", str(crew))["nodes"]
    roles = {each["hostname"]: each["role"] for each in members}
    assert roles == {"alice": "owner", "bob": "member", "carol": "member"}
    assert networks(alice), "a founder's daemon learns of it at once"

    addresses = {each["hostname"]: each["address"] for each in members}
    assert demo.until("a ping", lambda: answered(bob, addresses["carol"]))
    assert demo.until("a ping", lambda: answered(carol, addresses["alice"]))
    ports = carol("info")["ports"]
    listener = carol.start("recv", "4000", "--timeout", "20s")
    demo.until("carol listens", lambda: carol("info")["ports"] > ports)
    sender = bob.start("send", addresses["carol"], "4000", "--data", "ahoy")
    assert demo.finished(listener)["messages"][0]["data"] == "ahoy"
    demo.finished(sender)

    listeners = {
        agent.name: agent.start("listen", "5000", "--count", "1", "--timeout", "20s")
        for agent in (alice, carol)
    }

    def all_heard() -> bool:
        # A datagram may be lost, or come before the listener is there.
        assert bob("broadcast", str(crew), "all hands", "--port", "5000")["recipients"] == 2
        return all(listener.poll() is not None for listener in listeners.values())

    demo.until("the broadcast", all_heard)
    for listener in listeners.values():
        (heard,) = demo.finished(listener)["messages"]
        assert (heard["data"], heard["src_addr"]) == ("all hands", bob("info")["address"])

    bob("network", "leave", str(crew))
    assert not networks(bob)
    assert "broadcast" in bob("broadcast", str(crew), "still here?", fails=True)["message"]
    left = [each["hostname"] for each in carol("network", "members", str(crew))["nodes"]]
    assert sorted(left) == ["alice", "carol"]
    alice("network", "delete", str(crew))
    assert [each["id"] for each in carol("network", "list")["networks"]] == [0]
