"""The gossip skill in real daemons: inside them, beside them, killed, and with the old script."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.fleet import Fleet, demo, fleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

needs_tools = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("jq", "shuf", "base64", "bash")),
    reason="jq, shuf, base64 or bash is not installed",
)

SWARM = "kv-store-cluster"

#: As it was published, with MY_STATE and MY_VERSION set beforehand, a shorter loop, and the part
#: that merges what was received after each push.
SCRIPT = r"""
SWARM_NAME="kv-store-cluster"
AGENT_ID=$(pilotctl --json info | jq -r '.node_id')
MY_STATE=$1
MY_VERSION=1

for round in $(seq 1 $2); do
  # Push to random peers
  PEERS=$(pilotctl --json peers --search "swarm:$SWARM_NAME" | jq -r '.[].address' | shuf -n 3)

  for peer in $PEERS; do
    pilotctl --json send-message "$peer" \
      --data "{\"type\":\"gossip_push\",\"version\":$MY_VERSION,\"state\":$MY_STATE,\"sender\":\"$AGENT_ID\"}" &
  done
  wait

  sleep 1

  GOSSIP_MSGS=$(pilotctl --json received | jq '[.messages[] | select(.payload.type == "gossip_push")]')

  for msg in $(echo "$GOSSIP_MSGS" | jq -r '.[] | @base64'); do
    PAYLOAD=$(echo "$msg" | base64 -d)
    REMOTE_VERSION=$(echo "$PAYLOAD" | jq -r '.payload.version')
    REMOTE_STATE=$(echo "$PAYLOAD" | jq -c '.payload.state')

    if [ "$REMOTE_VERSION" -gt "$MY_VERSION" ]; then
      MY_STATE=$(echo "$MY_STATE $REMOTE_STATE" | jq -c -s '.[0] * .[1]')
      MY_VERSION=$REMOTE_VERSION
    fi
  done
done
echo "FINAL $MY_STATE"
"""  # noqa: E501


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as net:
        net.start_rendezvous()
        yield net


def value(agent: Any, key: str) -> Any:
    return agent("gossip", "get", SWARM, key)["value"]


def run_script(agent: Any, state: dict[str, Any], rounds: int) -> subprocess.Popen[str]:
    """The published script, on an agent."""
    environment = {
        **agent.environment,
        "PATH": os.pathsep.join((str(demo.BIN), os.environ["PATH"])),
    }
    return subprocess.Popen(
        ["bash", "-c", SCRIPT, "gossip", json.dumps(state), str(rounds)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@needs_tools
def test_members_scripts_kills_and_goodbyes(net: Fleet, tmp_path: Path) -> None:
    """Alice runs the skill inside her daemon, Bob beside his, and Carol has only the script."""
    alice = net.agent("alice", "--skill", f"gossip:swarm={SWARM}:interval=1s")
    bob, carol = net.agent("bob"), net.agent("carol")
    net.introduce(alice, bob)
    net.introduce(alice, carol)

    beside = [
        str(demo.BIN / "twistd"), "--nodaemon", "--pidfile=", "pilot-gossip",
        "--swarm", SWARM, "--interval", "1s",
    ]  # fmt: skip
    with demo.running(beside, bob.environment, tmp_path / "gossip.log"):
        demo.until("bob's skill", lambda: bob("gossip", "swarms")["swarms"])
        alice("gossip", "set", SWARM, "config/color", "blue")
        demo.until("the news", lambda: value(bob, "config") == {"color": "blue"})
        watching = alice.start("gossip", "watch", SWARM, "--count", "1", "--timeout", "30s")
        demo.until("the watch", lambda: alice("gossip", "status", SWARM)["watchers"] == 1)
        bob("gossip", "set", SWARM, "config", '{"size": 3}')
        out, _ = watching.communicate(timeout=60)
        change = json.loads(out)
        assert (change["key"], change["value"]) == ("config/size", 3)
        assert change["author"] == bob.node_id
        assert bob("gossip", "sync", SWARM, "alice")["agreed"]
        assert alice("gossip", "doctor", SWARM)["healthy"]
    assert bob("gossip", "swarms", fails=True)["code"] == "not_running"

    # A kill -9 of the daemon loses nothing that was confirmed.
    alice("gossip", "set", SWARM, "config/last", "words")
    alice.process.send_signal(signal.SIGKILL)
    alice.process.wait()
    net.start(alice, "--skill", "gossip")  # the swarm is remembered
    demo.until("alice is back", lambda: value(alice, "config/last") == "words")

    # The script, on a node without the skill, with the tag set by hand.
    carol("set-tags", f"swarm-{SWARM}")
    script = run_script(carol, {"from": {"carol": True}}, 14)
    demo.until("carol's state", lambda: value(alice, "from/carol") is True, 30.0)
    out, err = script.communicate(timeout=90)
    final = json.loads(out.rpartition("FINAL ")[2])
    assert final == {
        "config": {"color": "blue", "size": 3, "last": "words"},
        "from": {"carol": True},
    }, (out, err)
    assert alice("gossip", "dump", SWARM)["state"] == final

    skill = next(each for each in alice("info")["skills"] if each["name"] == "gossip")
    assert skill["state"] == "running" and SWARM in skill["swarms"]
    assert alice("gossip", "leave", SWARM)["left"]
    assert alice("gossip", "swarms")["swarms"] == []
