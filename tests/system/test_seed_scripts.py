"""The published shell scripts, letter by letter, between real daemons with and without the skills.

The texts are in C{published/}.  What their pages leave to the reader is set from outside: variables
of the environment, an address in place of C{<target-hostname>}, a shorter C{INTERVAL}.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.fleet import Fleet, demo, short_fleet

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in ("jq", "shuf", "base64", "/bin/bash")),
        reason="jq, shuf, base64 or bash is not installed",
    ),
]

PUBLISHED = Path(__file__).parent / "published"
PRESENCE_LOOP, GOSSIP_LOOP, GOSSIP_PUSH, GOSSIP_MERGE = (
    (PUBLISHED / f"{name}.sh").read_text("utf-8")
    for name in ("presence_loop", "gossip_loop", "gossip_push", "gossip_merge")
)
SWARM = "kv-store-cluster"
TAG = f"swarm-{SWARM}"
STATUS_FILE = Path("/tmp/pilot-presence-status.txt")  # as the loop names it

#: The one line that the page leaves out: what C{$REMOTE_STATE} is.
_VERSION_LINE = "  REMOTE_VERSION=$(echo \"$PAYLOAD\" | jq -r '.payload.version')\n"
_STATE_LINE = "  REMOTE_STATE=$(echo \"$PAYLOAD\" | jq -c '.payload.state')\n"
MERGE = GOSSIP_MERGE.replace(_VERSION_LINE, _VERSION_LINE + _STATE_LINE)

#: How somebody puts the two snippets together: push, merge, and do it again.
MEMBER = f"""
while true; do
  STATE_VERSION=$MY_VERSION
  STATE_DATA=$MY_STATE
{GOSSIP_PUSH}
{MERGE}
  echo "$MY_STATE" | jq -c . > state.json.new && mv state.json.new state.json
  sleep 1
done
"""


class Script:
    """A script that runs in a directory of its own, under C{/bin/bash}.

    @ivar folder: the directory.
    """

    def __init__(self, agent: Any, text: str, *words: str, **variables: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="script-", dir=agent.home))
        path = self.folder / "script.sh"
        path.write_text(text)
        self._errors = self.folder / "errors"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                ["/bin/bash", str(path), *words],
                cwd=self.folder,
                env={
                    **agent.environment,
                    **variables,
                    "PATH": os.pathsep.join((str(demo.BIN), os.environ["PATH"])),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    def ended(self) -> str:
        """Wait for its end.  @return: what it printed; it must not have complained."""
        out, _ = self._process.communicate(timeout=60)
        assert self._process.returncode == 0
        assert self._errors.read_text() == ""
        return out

    def stop(self) -> str:
        """End it, as Ctrl-C does.  @return: what it printed; it must not have complained."""
        complaints = self._errors.read_text()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        out, _ = self._process.communicate(timeout=10)
        assert complaints == ""
        return out


@contextlib.contextmanager
def running(agent: Any, text: str, *words: str, **variables: str) -> Iterator[Script]:
    """A script that runs until the block ends."""
    script = Script(agent, text, *words, **variables)
    try:
        yield script
    finally:
        script.stop()


@pytest.fixture
def status_file() -> Iterator[Path]:
    """The file that the presence loop reads.  All loops of a machine share it: one at a time."""
    lock = STATUS_FILE.with_name(f"pilot-presence-status.{os.getuid()}.lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield STATUS_FILE
        STATUS_FILE.unlink(missing_ok=True)


@pytest.fixture
def net() -> Iterator[Fleet]:
    with short_fleet() as net:
        yield net


def presence_loop(agent: Any, coordinator: str) -> contextlib.AbstractContextManager[Script]:
    """The page's loop, with another value of its own C{INTERVAL}."""
    quicker = subprocess.run(
        ["sed", "s/^INTERVAL=30$/INTERVAL=1/"],
        input=PRESENCE_LOOP,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    changed = zip(PRESENCE_LOOP.splitlines(), quicker.splitlines(), strict=True)
    assert [new for old, new in changed if old != new] == ["INTERVAL=1"]
    return running(agent, quicker, coordinator)


def statuses(script: str) -> list[dict[str, Any]]:
    """@return: the announcements among what C{subscribe} printed, a line each."""
    events = [json.loads(line) for line in script.splitlines()]
    assert all(event["topic"].startswith("presence.") for event in events)
    return [json.loads(each["data"]) for each in events if each["topic"] == "presence.status"]


def heard(script: Script, count: int) -> list[dict[str, Any]]:
    """Wait until a subscription that writes to C{events} has so many lines."""
    events = script.folder / "events"
    demo.until("the events", lambda: len(events.read_text().splitlines()) >= count, 20.0)
    return statuses(events.read_text())


def subscriptions(agent: Any) -> int:
    return int(agent("info")["event_stream"]["subscriptions"])


SUBSCRIBE = 'pilotctl --json subscribe {} "presence.*" --timeout 60 > events'
PUBLISH = (
    'pilotctl --json publish {} "presence.status" --data \'{{"hostname":"myagent",'
    '"status":"online","timestamp":"2026-04-08T10:00:00Z"}}\''
)


def test_presence_without_the_skill(net: Fleet, status_file: Path) -> None:
    """Whoever subscribes at the coordinator hears how the others are."""
    hub, worker, watcher = (net.agent(name) for name in ("presence-coordinator", "carol", "dave"))
    net.introduce(worker, hub)
    net.introduce(watcher, hub)
    pings = Script(worker, "pilotctl --json ping presence-coordinator --count 2 --timeout 5000")
    assert len(json.loads(pings.ended())["data"]["results"]) == 2
    peers = json.loads(Script(worker, "pilotctl --json peers").ended())
    assert [peer["hostname"] for peer in peers["data"]["peers"]] == ["presence-coordinator"]

    with running(watcher, SUBSCRIBE.format("presence-coordinator")) as subscriber:
        demo.until("the subscription", lambda: subscriptions(hub) == 1)
        Script(worker, PUBLISH.format("presence-coordinator")).ended()
        (first,) = heard(subscriber, 1)
        assert first == {
            "hostname": "myagent",
            "status": "online",
            "timestamp": "2026-04-08T10:00:00Z",
        }
        with presence_loop(worker, "presence-coordinator"):
            beats = heard(subscriber, 3)[1:]
            assert {(beat["hostname"], beat["status"]) for beat in beats} == {("carol", "online")}
            status_file.write_text("away\n")
            demo.until("away", lambda: heard(subscriber, 3)[-1]["status"] == "away")


def test_presence_with_the_skill(net: Fleet, status_file: Path) -> None:
    """The same loop feeds the directory of a coordinator that hosts the skill."""
    hub = net.agent("presence-coordinator", "--skill", "presence:serve")
    modern = net.agent("alice", "--skill", "presence:coordinator=presence-coordinator:tag=gpu")
    worker, watcher = net.agent("carol"), net.agent("dave")
    for agent in (modern, worker, watcher):
        net.introduce(agent, hub)

    def shown(status: str) -> dict[str, Any] | None:
        agent = hub("presence", "get", "carol")
        return agent if agent["status"] == status else None

    with (
        running(watcher, SUBSCRIBE.format("presence-coordinator")) as subscriber,
        presence_loop(worker, "presence-coordinator"),
    ):
        agent = demo.until("carol", lambda: shown("online"))
        assert (agent["node_id"], agent["verified"], agent["version"]) == (worker.node_id, True, 1)
        listed = {each["hostname"]: each["status"] for each in hub("presence", "list")["agents"]}
        assert listed["carol"] == listed["presence-coordinator"] == "online"
        found = hub("presence", "find", "--limit", "5")["agents"]
        assert "carol" in {each["hostname"] for each in found}

        status_file.write_text("busy\n")
        demo.until("busy", lambda: shown("busy"))
        found = demo.until("alice", lambda: hub("presence", "find", "--limit", "5"))["agents"]
        assert "carol" not in {each["hostname"] for each in found}
        # Who has the skill learns it from the coordinator, without trusting carol.
        demo.until("alice's view", lambda: modern("presence", "get", "carol")["status"] == "busy")
        # A subscriber hears those with the skill like those with the loop.
        modern("presence", "set", "away")

        def told() -> set[tuple[str, str]]:
            return {(beat["hostname"], beat["status"]) for beat in heard(subscriber, 1)}

        everybody = {("carol", "online"), ("carol", "busy"), ("alice", "away")}
        demo.until("the announcements", lambda: told() >= everybody)

        # Somebody else's name makes nobody available, and everybody is told why not.
        Script(watcher, PUBLISH.format("presence-coordinator")).ended()
        for reason in ("carol: it is busy", "alice: it is away", "myagent: unverified"):
            demo.until(
                reason,
                lambda reason=reason: reason in hub("presence", "find", fails=True)["hint"],
            )


def test_gossip_without_the_skill(net: Fleet) -> None:
    """Three members who have nothing but the scripts."""
    members = [net.agent(name) for name in ("alice", "bob", "carol")]
    alice, bob, carol = members
    for one, other in ((alice, bob), (alice, carol), (bob, carol)):
        trust(net, one, other)
    for agent in members:
        agent("set-tags", TAG)
    for agent in members:
        demo.until("the swarm", lambda agent=agent: len(found(agent)) == 2)

    # The commands, one by one: a push, and what merges it.
    state = {"STATE_VERSION": "7", "STATE_DATA": '{"k":{"x":1}}', "AGENT_ID": str(alice.node_id)}
    Script(alice, GOSSIP_PUSH, SWARM_NAME=SWARM, **state).ended()
    for agent in (bob, carol):
        merged = Script(
            agent,
            GOSSIP_MERGE + '\necho "$MY_VERSION" "$MY_STATE" | jq -c .',
            MY_VERSION="3",
            MY_STATE='{"k":{"y":2},"own":true}',
            REMOTE_STATE=state["STATE_DATA"],
        )
        assert [json.loads(line) for line in merged.ended().splitlines()] == [
            7,
            {"k": {"y": 2, "x": 1}, "own": True},
        ]

    # The workflow's loop at one, the two commands in a loop at the others.
    with contextlib.ExitStack() as stack:
        scripts = [
            stack.enter_context(member(agent, 8 + agent.node_id, {})) for agent in (bob, carol)
        ]
        stack.enter_context(
            running(alice, GOSSIP_LOOP, MY_VERSION="20", MY_STATE='{"loop":{"alice":"here"}}')
        )
        for script in scripts:
            demo.until(
                "the state", lambda script=script: folded(script).get("loop") == {"alice": "here"}
            )


def test_gossip_with_the_skill(net: Fleet) -> None:
    """A member who has nothing but the scripts, and two who host the skill."""
    skill = ("--skill", f"gossip:swarm={SWARM}:interval=1s")
    alice, bob, carol = net.agent("alice", *skill), net.agent("bob", *skill), net.agent("carol")
    for one, other in ((alice, bob), (alice, carol), (bob, carol)):
        trust(net, one, other)
    carol("set-tags", TAG)
    demo.until("the swarm", lambda: len(found(carol)) == 2)
    alice("gossip", "set", SWARM, "config/color", "blue")

    # The workflow's loop: what it says arrives, and what the others know lies in the inbox.
    with running(carol, GOSSIP_LOOP, MY_VERSION="1", MY_STATE='{"from":{"carol":1}}'):
        for agent in (alice, bob):
            demo.until("carol's key", lambda agent=agent: value(agent, "from/carol") == 1)
        demo.until("pushes for carol", lambda: "color" in json.dumps(pushes(carol)), 20.0)
    # A push of the skill has every field that the page's have, and a version that scripts merge.
    push = pushes(carol)[-1]
    assert set(push) >= {"type", "version", "state", "sender"}
    assert int(push["sender"]) in (alice.node_id, bob.node_id) and push["version"] > 10**12

    # The two commands in a loop: the copies become one.
    with member(carol, 2, {"also": {"carol": [2]}}) as script:
        bob("gossip", "set", SWARM, "config/size", "3")
        whole = {
            "config": {"color": "blue", "size": 3},
            "from": {"carol": 1},
            "also": {"carol": [2]},
        }
        demo.until("carol's copy", lambda: folded(script) == whole, 25.0)
        for agent in (alice, bob):
            demo.until(
                "the skills' copies",
                lambda agent=agent: agent("gossip", "dump", SWARM)["state"] == whole,
            )


def trust(net: Fleet, one: Any, other: Any) -> None:
    """Like L{Fleet.introduce}, for agents that trust others already."""
    one("handshake", str(other.node_id), "hello")
    demo.until("the request", lambda: other("pending")["pending"])
    other("approve", str(one.node_id))
    demo.until(
        "trust",
        lambda: other.node_id in {peer["node_id"] for peer in one("trust")["trusted"]},
    )


def member(
    agent: Any, version: int, state: dict[str, Any]
) -> contextlib.AbstractContextManager[Script]:
    """The two commands in a loop; see L{folded} for how far it is."""
    return running(
        agent,
        MEMBER,
        SWARM_NAME=SWARM,
        AGENT_ID=str(agent.node_id),
        MY_VERSION=str(version),
        MY_STATE=json.dumps(state),
    )


def folded(script: Script) -> dict[str, Any]:
    """@return: the state of a script, after its last round."""
    return dict(json.loads((script.folder / "state.json").read_text()))


def value(agent: Any, key: str) -> Any:
    return agent("gossip", "get", SWARM, key)["value"]


def found(agent: Any) -> list[str]:
    """@return: the addresses of the swarm's members, as the scripts find them."""
    search = f"pilotctl --json peers --search swarm:{SWARM} | jq -r '.[].address'"
    return Script(agent, search).ended().split()


def pushes(agent: Any) -> list[dict[str, Any]]:
    """@return: those in the inbox, as the scripts find them."""
    line = GOSSIP_MERGE.splitlines()[0] + '\necho "$GOSSIP_MSGS" | jq -c ".[].payload"'
    return [json.loads(each) for each in Script(agent, line).ended().splitlines()]
