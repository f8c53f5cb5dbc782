"""The command lines that the guides print, typed into a shell between two daemons."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.fleet import demo, fleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")

SERVICES = Path(__file__).parents[2] / "docs" / "services"
PATIENCE = 60.0
TASK_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OTHER = "0:0000.0000.0001"
HERE = "0:0000.0000.0002"


class Shell:
    """Where somebody with an agent types.  C{~/.pilot} is the home of the agent.

    @ivar folder: the directory the commands run in.
    """

    def __init__(self, agent: Any, root: Path) -> None:
        self.agent = agent
        self.folder = root / f"{agent.name}-desk"
        self.folder.mkdir()
        (self.folder / ".pilot").symlink_to(agent.home)
        self._environment = {
            **agent.environment,
            "HOME": str(self.folder),
            "PATH": os.pathsep.join((str(demo.BIN), os.environ["PATH"])),
        }

    def start(self, line: str) -> subprocess.Popen[str]:
        """Start a line, whose processes form a group of their own, and let it run."""
        return subprocess.Popen(
            ["/bin/sh", "-c", line],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, line: str) -> str:
        """Run a line that must succeed.  @return: what it printed."""
        return ended(self.start(line))

    def data(self, line: str) -> dict[str, Any]:
        """Run a line without C{--json}: what is no terminal gets the data as JSON all the same."""
        return dict(json.loads(self(line)))

    @contextlib.contextmanager
    def subscribed(self, *lines: str) -> Iterator[list[subprocess.Popen[str]]]:
        """Lines that subscribe at the other agent, running and heard there; ended afterwards."""
        made = _subscriptions(self.agent) + len(lines)
        processes = [self.start(line) for line in lines]
        try:
            demo.until("the subscription", lambda: _subscriptions(self.agent) >= made)
            yield processes
        finally:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.communicate()


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for a line that must succeed.  @return: what it printed."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, f"{process.args!r}\n{out}\n{err}"
    return out


def _subscriptions(agent: Any) -> int:
    """How many there ever were at the other agent, which is the broker in every example."""
    return int(agent.broker("info")["event_stream"]["subscribed"])


def _events(lines: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


class Desk:
    """Two agents that trust each other, and a shell at each.

    @ivar here: of the agent that the examples are typed at.
    @ivar other: of the agent that they call C{other-agent}.
    """

    def __init__(self, root: Path, alice: Any, other: Any) -> None:
        alice.broker = other.broker = other
        self.here = Shell(alice, root)
        self.other = Shell(other, root)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    root = tmp_path_factory.mktemp("pages")
    with fleet(root) as net:
        net.start_rendezvous()
        other = net.agent("other-agent")
        other("set-tags", "swarm-kv-store-cluster")
        alice = net.agent("alice")
        net.introduce(alice, other)
        yield Desk(root, alice, other)


def test_echo(desk: Desk) -> None:
    ping = desk.here.start("pilotctl ping other-agent")
    lines = desk.here("pilotctl bench other-agent 10   # 10 MB").splitlines()
    assert lines[0].startswith(f"BENCH {OTHER}")
    assert all("10.0 MB in" in line for line in lines[1:3])
    assert ended(ping).count("time=") == 4


def test_messages_files_and_the_mailbox(desk: Desk) -> None:
    desk.other("rm -f ~/.pilot/inbox/*")
    text = desk.here.data('pilotctl send-message other-agent --data "task complete"')
    assert text["ack"] == "ACK TEXT 13 bytes"
    value = desk.here.data("pilotctl send-message other-agent --data '{\"result\":42}' --type json")
    assert value == {"ack": "ACK JSON 13 bytes", "bytes": 13, "target": OTHER, "type": "json"}
    (desk.here.folder / "report.pdf").write_bytes(b"%PDF-" + bytes(range(256)))
    file = desk.here.data("pilotctl send-file other-agent ./report.pdf")
    assert (file["filename"], file["bytes"], file["destination"]) == ("report.pdf", 261, OTHER)
    listed = desk.other("pilotctl inbox       # List messages")
    assert listed.startswith("Inbox (2 messages)")
    assert "task complete" in listed and '{"result":42}' in listed and HERE in listed
    assert "report-" in desk.other("pilotctl received    # List files")
    (kept,) = (desk.other.folder / ".pilot" / "received").iterdir()
    assert kept.read_bytes() == b"%PDF-" + bytes(range(256))
    assert len(list((desk.other.folder / ".pilot" / "inbox").iterdir())) == 2


def test_bounded_subscriptions(desk: Desk) -> None:
    """Each gives one object, with and without C{--json}; C{*} hears every topic."""
    with desk.here.subscribed(
        "pilotctl subscribe other-agent status --count 5 --timeout 60s",
        "pilotctl subscribe other-agent status --count 5",
        "pilotctl --json subscribe other-agent status --count 5 --timeout 60",
        'pilotctl subscribe other-agent "*" --count 10',
    ) as (plain, unhurried, enveloped, everything):
        published = desk.here.data(
            'pilotctl publish other-agent status --data "processing complete"'
        )
        assert published == {"target": OTHER, "topic": "status", "bytes": 19}
        metrics = '{"cpu":42,"mem":1024}'
        published = desk.here.data(f"pilotctl publish other-agent metrics --data '{metrics}'")
        assert published == {"target": OTHER, "topic": "metrics", "bytes": 21}
        desk.here("for i in 2 3 4 5; do pilotctl publish other-agent status --data $i; done")
        desk.other("for i in 1 2 3 4; do pilotctl publish self load.cpu --data $i; done")
        result = json.loads(ended(plain))
        assert result["timeout"] is False
        first, *rest = result["events"]
        assert first == {"topic": "status", "data": "processing complete", "bytes": 19}
        assert [event["data"] for event in rest] == ["2", "3", "4", "5"]
        assert json.loads(ended(unhurried)) == result
        assert json.loads(ended(enveloped)) == {"status": "ok", "data": result}
        topics = [event["topic"] for event in json.loads(ended(everything))["events"]]
        assert sorted(topics) == ["load.cpu"] * 4 + ["metrics"] + ["status"] * 5


def test_a_bounded_subscription_that_hears_too_little_says_so(desk: Desk) -> None:
    heard = desk.here.data("pilotctl subscribe other-agent nothing --count 5 --timeout 300ms")
    assert heard == {"events": [], "timeout": True}


def test_unbounded_subscriptions_stream_lines(desk: Desk) -> None:
    """A line an event, at once; those that go to a file stay there."""
    files = {
        'pilotctl subscribe other-agent "*" >> events.jsonl': "events.jsonl",
        "pilotctl subscribe other-agent metrics >> dashboard-data.jsonl": "dashboard-data.jsonl",
    }
    piped = "pilotctl subscribe other-agent status | head -n 1"
    stage = 'pilotctl subscribe other-agent task.completed | while read -r event; do\n  echo "Task'
    stage += ' done, starting next stage..."\n  break\ndone'
    with desk.here.subscribed(piped, stage, *files) as (first, stages, *_):
        desk.here("pilotctl publish other-agent status --data online")
        assert _events(ended(first)) == [{"topic": "status", "data": "online", "bytes": 6}]
        desk.here("pilotctl publish other-agent task.completed --data 1")
        assert ended(stages) == "Task done, starting next stage...\n"
        sent = '{"cpu":42,"mem":1024,"disk":80}'
        desk.other(f"pilotctl publish self metrics --data '{sent}'")
        last = {"topic": "metrics", "data": sent, "bytes": len(sent)}
        for name in files.values():
            path = desk.here.folder / name
            demo.until(name, lambda path=path: last in _events(path.read_text()))
        dashboard = (desk.here.folder / "dashboard-data.jsonl").read_text()
        assert _events(dashboard) == [last]


@needs_jq
def test_unbounded_subscriptions_feed_jq(desk: Desk) -> None:
    """jq keeps what it prints until its input ends, so here that ends soon."""
    data = "pilotctl subscribe other-agent status --timeout 3s | jq '.data'"
    metrics = (
        "pilotctl subscribe other-agent metrics | while read -r line; do\n"
        """  echo "$line" | jq -r '"CPU: \\(.data | fromjson | .cpu)%"'\n  break\ndone"""
    )
    with desk.here.subscribed(data, metrics) as (values, percentages):
        desk.here("pilotctl publish other-agent status --data online")
        desk.here('pilotctl publish other-agent metrics --data \'{"cpu":42,"mem":1024}\'')
        assert ended(percentages) == "CPU: 42%\n"
        assert ended(values) == '"online"\n'


def test_work_for_whoever_subscribes(desk: Desk) -> None:
    job = '{"job":"process-batch-42"}'
    with desk.here.subscribed("pilotctl subscribe other-agent tasks --count 1") as (worker,):
        desk.here(f"pilotctl publish other-agent tasks --data '{job}'")
        (event,) = json.loads(ended(worker))["events"]
        assert event["data"] == job


def test_presence(desk: Desk) -> None:
    status = '{"hostname":"myagent","status":"online","timestamp":"2026-04-08T10:00:00Z"}'
    subscribe = 'pilotctl --json subscribe other-agent "presence.*" --timeout 3'
    with desk.here.subscribed(subscribe) as (watcher,):
        published = desk.here(
            f"pilotctl --json publish other-agent \"presence.status\" --data '{status}'"
        )
        assert json.loads(published)["data"]["topic"] == "presence.status"
        desk.here("pilotctl publish other-agent other.status --data no")
        answers = json.loads(desk.here("pilotctl --json ping other-agent --count 2 --timeout 5000"))
        assert [answer["seq"] for answer in answers["data"]["results"]] == [0, 1]
        (peer,) = json.loads(desk.here("pilotctl --json peers"))["data"]["peers"]
        assert peer["address"] == OTHER and peer["hostname"] == "other-agent"
        heard = _events(ended(watcher))
        assert [(event["topic"], event["data"]) for event in heard] == [("presence.status", status)]


@needs_jq
def test_facts_for_scripts(desk: Desk) -> None:
    hostname = """pilotctl --json info | jq -r '.data.hostname // "unknown"'"""
    assert desk.here(hostname) == "alice\n"
    assert desk.here("pilotctl --json info | jq -r '.node_id'") == "2\n"


@needs_jq
def test_gossip(desk: Desk) -> None:
    """The members of a swarm are found, told the state, and find it among what they received."""
    find = """pilotctl --json peers --search "swarm:kv-store-cluster" | jq -r '.[].address'"""
    assert demo.until("the swarm", lambda: desk.here(find)) == f"{OTHER}\n"
    push = r'"{\"type\":\"gossip_push\",\"version\":7,\"state\":{\"k\":1},\"sender\":\"2\"}"'
    desk.here(f"pilotctl --json send-message {OTHER} --data {push}")
    found = desk.other(
        "pilotctl --json received"
        " | jq '[.messages[] | select(.payload.type == \"gossip_push\")]'"
        " | jq -r '.[] | @base64' | base64 -d | jq -r '.payload.version'"
    )
    assert found == "7\n"


def test_a_task(desk: Desk) -> None:
    enabled = desk.other.data("pilotctl enable-tasks")
    assert enabled["task_exec"] is True
    task = desk.here.data('pilotctl task submit other-agent --task "Analyze AI framework trends"')
    assert task["accepted"], task
    number = task["task_id"]
    (desk.other.folder / "report.md").write_text("# Up\n")
    assert desk.other.data(f"pilotctl task accept --id {number}")["status"] == "ACCEPTED"
    assert desk.other.data("pilotctl task execute")["task_id"] == number
    line = f"pilotctl task send-results --id {number} --file ./report.md"
    assert desk.other.data(line)["status"] == "SUCCEEDED"
    result = desk.here.folder / ".pilot" / "tasks" / "results" / f"{number}_report.md"
    assert result.read_text() == "# Up\n"


def test_the_page_on_tasks(desk: Desk) -> None:
    """Its example, with the roles exchanged: here the agent called bob gives the work away, so
    that the scores allow it whichever of the tests comes first."""
    page = (SERVICES / "task-submit.md").read_text("utf-8")
    lines = re.findall(r"^    (alice|bob)\$ +(.+)$", page, re.MULTILINE)
    assert len(lines) == 7
    shells = {"alice": desk.other, "bob": desk.here}
    (desk.here.folder / "report.md").write_text("# Fewer\n")
    number = "not known yet"
    for who, line in lines:
        printed = shells[who](TASK_ID.sub(number, line.replace(" bob ", " alice ")))
        if "task submit" in line:
            number = json.loads(printed)["task_id"]
        elif "task list" in line:
            assert number in printed
    assert printed == "# Fewer\n"


def test_every_page_on_a_service_is_run_by_a_test() -> None:
    """A new page needs a test that runs its examples."""
    tests = "\n".join(path.read_text("utf-8") for path in SERVICES.parents[1].glob("tests/*/*.py"))
    for page in SERVICES.glob("*.md"):
        assert f'"services" / "{page.name}"' in tests or f'SERVICES / "{page.name}"' in tests
