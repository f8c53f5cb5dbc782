"""Agents meet: run by `make demo`, it needs nothing but this checkout.

It starts a rendezvous and two daemons as processes of their own on loopback, in a temporary home,
and drives them through `pilotctl` as agents would; then three more, who tell each other who is
there and what they know.  Every line it prints is a real result.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from demo_skills import SKILLS, WITH_GPU, gather, gossip, loss, presence
from demo_tools import (
    BIN,
    Agent,
    StepFailed,
    clean_environment,
    finished,
    free_ports,
    reachable,
    running,
    say,
    until,
)

BENCH_MEGABYTES = 64


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


def run(root: Path) -> None:
    """The whole story, with everything that it starts below one directory."""
    registry = f"127.0.0.1:{free_ports(1, socket.SOCK_STREAM)[0]}"
    beacon = f"127.0.0.1:{free_ports(1, socket.SOCK_DGRAM)[0]}"
    rendezvous = [
        *(str(BIN / "twistd"), "--nodaemon", "--pidfile=", "pilot-rendezvous"),
        *("--registry-addr", registry, "--beacon-addr", beacon),
        *("--store", str(root / "rendezvous.sqlite")),
    ]
    names = ("alice", "bob", "carol", "dave", "erin")
    agents = [Agent(name, root, registry, beacon) for name in names]
    alice, bob, carol, dave, erin = agents
    with contextlib.ExitStack() as stack:

        def start(agent: Agent, *flags: str) -> subprocess.Popen[bytes]:
            log = root / f"{agent.name}.log"
            command = [*agent.daemon(), *flags]
            return stack.enter_context(running(command, agent.environment, log))

        print(f"A rendezvous on {registry} and two daemons, alice and bob, in {root}:")
        stack.enter_context(running(rendezvous, clean_environment(), root / "rendezvous.log"))
        until("the rendezvous", lambda: reachable(registry))
        for agent in (alice, bob):
            start(agent, *SKILLS)
        story(alice, bob)

        print("Three more, who trust whoever asks; all five host the skills presence and gossip:")
        start(carol, *SKILLS, "--trust-auto-approve")
        start(dave, *WITH_GPU, "--trust-auto-approve")
        doomed = start(erin, *SKILLS, "--trust-auto-approve")
        gather(agents)
        presence(agents)
        gossip(agents)
        loss(agents, doomed.kill)


def main() -> int:
    """@return: 0 when every step did what it promised."""
    with tempfile.TemporaryDirectory(prefix="pilot-demo-") as directory:
        try:
            run(Path(directory))
        except StepFailed as error:
            print(f"demo failed: {error}", file=sys.stderr)
            return 1
    print("Everything stopped.  Your turn: see README.md, section A first session.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
