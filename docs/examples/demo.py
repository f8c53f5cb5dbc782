"""Two agents meet: run by `make demo`, it needs nothing but this checkout.

It starts a rendezvous and two daemons as processes of their own on loopback, in a temporary home,
and drives them through `pilotctl` as an agent would.  Every line it prints is a real result.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
BENCH_MEGABYTES = 64


class StepFailed(Exception):
    """A step did not do what it promised."""


class Agent:
    """One daemon with a home of its own, and the command line that talks to it."""

    def __init__(self, name: str, root: Path, registry: str, beacon: str) -> None:
        self.name = name
        self.home = root / name
        self.home.mkdir()
        self.socket = self.home / "pilot.sock"
        self.environment = {
            **clean_environment(),
            "PILOT_HOME": str(self.home),
            "PILOT_SOCKET": str(self.socket),
            "PILOT_REGISTRY": registry,
            "PILOT_BEACON": beacon,
        }

    def daemon(self) -> list[str]:
        """The command that runs this agent's daemon in the foreground."""
        return [
            str(BIN / "pilot-daemon"),
            "--hostname",
            self.name,
            "--listen",
            "127.0.0.1:0",
            "--email",
            f"{self.name}@example.org",
        ]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a pilotctl command and let it run."""
        return subprocess.Popen(
            [str(BIN / "pilotctl"), "--json", *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, fails: bool = False) -> dict[str, Any]:
        """Run a pilotctl command and give its data (or its error, when it is meant to fail)."""
        return finished(self.start(*words), fails=fails)


def finished(process: subprocess.Popen[str], *, fails: bool = False) -> dict[str, Any]:
    """Wait for a pilotctl command.  A command that ends otherwise than expected fails the step."""
    out, err = process.communicate(timeout=60)
    if fails:
        if process.returncode == 0:
            raise StepFailed(f"{process.args} should have been refused")
        return dict(json.loads(err.splitlines()[-1]))
    if process.returncode != 0:
        raise StepFailed(f"{process.args}: {err.strip()}")
    return dict(json.loads(out)["data"])


def clean_environment() -> dict[str, str]:
    """The caller's environment without its own Pilot settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PILOT_")}


def free_ports(count: int, kind: socket.SocketKind) -> list[int]:
    """Ports on loopback that nobody uses right now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, kind)) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def running(
    command: list[str], environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives as long as the block; its log is shown when the block fails."""
    with log.open("a") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    except BaseException:
        print(f"\n--- log of {' '.join(command[:2])}\n{log.read_text()[-3000:]}", file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(what: str, look: Any, patience: float = 15.0) -> Any:
    """Look again and again until there is something to see."""
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(StepFailed, OSError):
            seen = look()
            if seen:
                return seen
        if time.monotonic() > deadline:
            raise StepFailed(f"{what}: nothing after {patience:.0f} s")
        time.sleep(0.05)


def say(step: str, result: str) -> None:
    """One line of the story."""
    print(f"  {step:<12} {result}", flush=True)


def story(alice: Agent, bob: Agent) -> None:
    """Everything two agents do on their first day."""
    for agent in (alice, bob):
        facts = until(f"{agent.name} registers", lambda agent=agent: agent("info"))
        say("register", f"{agent.name} is {facts['address']}, node {facts['node_id']}")
    alice_id, bob_id = alice("info")["node_id"], bob("info")["node_id"]

    refusal = alice("find", "bob", fails=True)
    say("find", f"alice looks for bob: {refusal['code']}, private agents show themselves to nobody")

    asked = alice("handshake", str(bob_id), "hello from the demo")
    say("handshake", f"alice asks node {bob_id} for trust: {asked['status']}")
    request = until("the request", lambda: bob("pending")["pending"])[0]
    say("pending", f'bob reads: node {request["node_id"]} says "{request["justification"]}"')
    began = time.monotonic()
    say("approve", f"bob approves node {alice_id}: {bob('approve', str(alice_id))['status']}")
    until("trust at alice", lambda: alice("trust")["trusted"])
    say("trust", f"alice knows after {(time.monotonic() - began) * 1000:.0f} ms")

    found = alice("find", "bob")
    say("find", f"alice finds bob at {found['address']}")

    answers = alice("ping", "bob", "--count", "3")["results"]
    if any("error" in answer for answer in answers):
        raise StepFailed(f"ping: {answers}")
    say("ping", ", ".join(f"{answer['rtt_ms']:.2f} ms" for answer in answers))

    ports = bob("info")["ports"]
    listener = bob.start("recv", "1000", "--timeout", "20s")
    until("bob listens", lambda: bob("info")["ports"] > ports)
    sender = alice.start("send", "bob", "1000", "--data", "the fish is in the river")
    received = finished(listener)["messages"][0]
    finished(sender)
    say("send", f"bob received {received['bytes']} bytes: {received['data']}")

    mail(alice, bob)
    events(alice, bob)
    work(alice, bob)

    bench = alice("bench", "bob", str(BENCH_MEGABYTES))
    if bench["recv_bytes"] != bench["sent_bytes"]:
        raise StepFailed(f"bench: {bench}")
    say(
        "bench",
        f"{bench['sent_bytes'] / 2**20:.0f} MB there and back in "
        f"{bench['total_duration_ms'] / 1000:.2f} s, {bench['total_mbps']:.0f} MB/s",
    )
    peer = alice("info")["peer_list"][0]
    say("tunnel", f"encrypted: {peer['encrypted']}, authenticated: {peer['authenticated']}")


def mail(alice: Agent, bob: Agent) -> None:
    """A message and a file, on bob's disk before alice hears that they arrived."""
    alice("send-message", "bob", "--data", '{"result": 42}', "--type", "json")
    message = bob("inbox")["messages"][0]
    say("message", f"bob's inbox holds {message['payload']} from {message['from']}")
    report = alice.home / "report.md"
    report.write_text("# Trends\n\nUp.\n")
    sent = alice("send-file", "bob", str(report))
    kept = bob("received")["files"][0]
    say("file", f"{sent['ack']}, kept by bob as {kept['name']}")


def events(alice: Agent, bob: Agent) -> None:
    """Bob publishes on his own broker, alice listens live."""
    listener = alice.start("subscribe", "bob", "status", "--count", "1", "--timeout", "20s")
    until("the subscription", lambda: bob("info")["event_stream"]["subscriptions"])
    bob("publish", "self", "status", "--data", "processing complete")
    event = finished(listener)["events"][0]
    say("event", f"alice hears on topic {event['topic']}: {event['data']}")


def work(alice: Agent, bob: Agent) -> None:
    """A task from its submission to its result, and what it did to the scores."""
    numbers = [agent("info")["node_id"] for agent in (alice, bob)]

    def scores() -> str:
        alices, bobs = (alice("lookup", str(number))["polo_score"] for number in numbers)
        return f"alice {alices}, bob {bobs}"

    before = scores()
    bob("enable-tasks")
    submitted = alice("task", "submit", "bob", "--task", "Analyze AI framework trends")
    if not submitted["accepted"]:
        raise StepFailed(f"task submit: {submitted['message']}")
    task_id = submitted["task_id"]
    steps = [bob("task", "accept", "--id", task_id), bob("task", "execute")]
    steps.append(bob("task", "send-results", "--id", task_id, "--results", "They go up."))
    result = until("the result", lambda: list((alice.home / "tasks" / "results").glob("*")))[0]
    say("task", " -> ".join(step["status"] for step in steps) + f": {result.read_text()}")
    after = until("the scores", lambda: scores() if scores() != before else None)
    say("polo", f"before: {before}; after: {after}")


def main() -> int:
    """@return: 0 when every step did what it promised."""
    with tempfile.TemporaryDirectory(prefix="pilot-demo-") as directory:
        root = Path(directory)
        registry = f"127.0.0.1:{free_ports(1, socket.SOCK_STREAM)[0]}"
        beacon = f"127.0.0.1:{free_ports(1, socket.SOCK_DGRAM)[0]}"
        rendezvous = [
            str(BIN / "twistd"),
            "--nodaemon",
            "--pidfile=",
            "pilot-rendezvous",
            "--registry-addr",
            registry,
            "--beacon-addr",
            beacon,
            "--store",
            str(root / "rendezvous.sqlite"),
        ]
        alice = Agent("alice", root, registry, beacon)
        bob = Agent("bob", root, registry, beacon)
        print(f"A rendezvous on {registry} and two daemons, alice and bob, in {root}:")
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(
                    running(rendezvous, clean_environment(), root / "rendezvous.log")
                )
                until("the rendezvous", lambda: reachable(registry))
                for agent in (alice, bob):
                    stack.enter_context(
                        running(agent.daemon(), agent.environment, root / f"{agent.name}.log")
                    )
                story(alice, bob)
        except StepFailed as error:
            print(f"demo failed: {error}", file=sys.stderr)
            return 1
    print("Everything stopped.  Your turn: see README.md, section A first session.")
    return 0


def reachable(address: str) -> bool:
    """Whether somebody accepts connections there."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=1).close()
    return True


if __name__ == "__main__":
    sys.exit(main())
