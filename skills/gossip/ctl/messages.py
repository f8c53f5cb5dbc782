"""C{pilotctl gossip push}, C{merge}, C{sync} and C{doctor}."""

from __future__ import annotations

import os

from pilot.address import Address
from pilot.ctl.console import Result, as_bytes
from pilot.ctl.values import printable
from pilot.errors import AddressError, PilotError
from skills.gossip.ctl.common import ask, read_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call

BATCH = 256 * 1024
"""Bytes of messages that go to the skill at a time."""


def push(call: Call) -> Result:
    """Send the document, or an object, in the form of scripts."""
    given = call.flags.get("data")
    data = ask(
        call,
        "push",
        data=None if given is None else read_object(as_bytes(given), "--data"),
    )
    lines = []
    for each in data["peers"]:
        outcome = "sent" if each["sent"] else f"not sent: {printable(str(each['error']))}"
        lines.append(f"{each['address']}  {outcome}")
    failed = not any(each["sent"] for each in data["peers"])
    return Result(data, "\n".join(lines), status=1 if failed else 0)


def merge(call: Call) -> Result:
    """Fold the pushes of the inbox into the document."""
    messages, present = _pushes(f"{call.settings.home}/inbox")
    data: dict[str, Any] = {"swarm": call.words[0], "messages": 0, "keys": 0, "refused": 0}
    batches: list[list[dict[str, Any]]] = [[]]
    room = BATCH
    for size, message in messages:
        if batches[-1] and size > room:
            batches.append([])
            room = BATCH
        batches[-1].append(message)
        room -= size
    for batch in batches:
        answer = ask(call, "merge", messages=batch, present=present)
        for name in ("messages", "keys", "refused"):
            data[name] += answer[name]
    text = f"merged {data['messages']} message(s), {data['keys']} value(s) changed"
    if data["refused"]:
        text += f", {data['refused']} refused"
    return Result(data, text)


def _pushes(directory: str) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """@return: sizes and facts of the pushes, oldest first; and the names of all of them."""
    from pilot.services.messagefile import read_inbox

    try:
        stored = read_inbox(directory)
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise PilotError(f"read directory: {directory}: {error.strerror}") from None
    found: list[tuple[int, dict[str, Any]]] = []
    for message in stored:
        payload = message.payload
        if not isinstance(payload, dict) or payload.get("type") != "gossip_push":
            continue
        try:
            sender = Address.parse(str(message.fields.get("from"))).node
        except AddressError:
            continue
        name = os.path.basename(message.path)
        token = f"{name} {message.fields.get('received_at', '')}"
        size = len(str(message.fields.get("data")))
        found.append((size, {"id": token, "from": sender, "payload": payload}))
    return found, [message["id"] for _, message in found]


def sync(call: Call) -> Result:
    """Compare with a member; the exit status tells whether both hold the same."""
    data = ask(call, "sync", peer=call.word(1))
    peer = Address(0, data["peer"])
    if data["agreed"]:
        return Result(data, f"in agreement with {peer}: {data['root']}")
    text = f"no agreement with {peer}: {printable(str(data.get('cause')))}"
    return Result(data, text, status=1)


def doctor(call: Call) -> Result:
    """Ask all members, and report what is wrong."""
    facts = ask(call, "doctor", timeout=120.0)
    data = {
        "swarm": facts["swarm"],
        "healthy": facts["healthy"],
        "root": facts["root"],
        "agreeing": facts["agreeing"],
        "findings": findings(facts),
    }
    lines = [f"root {facts['root']}, {len(facts['agreeing'])} member(s) agree"]
    for each in data["findings"]:
        lines.append(f"  {each['member']}  {each['problem']}")
        lines.append(f"    {each['hint']}")
    if not facts["members"]:
        lines.append("nobody else is known in this swarm")
    elif not data["findings"]:
        lines.append("nothing is wrong")
    return Result(data, "\n".join(lines), status=0 if facts["healthy"] else 1)


def findings(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """@return: one a trouble: C{member} (address), C{node_id}, C{problem}, C{hint}."""
    members = {each["node_id"]: each for each in facts["members"]}
    found = []
    for kind, (problem, hint) in _PROBLEMS.items():
        for node in facts[kind]:
            member = members.get(node, {})
            if kind == "unmet" and member.get("version") == 1:
                continue  # a script: it has no root to tell
            address = str(Address(0, node))
            values = {"address": address, "skew": member.get("skew")}
            found.append(
                {
                    "member": address,
                    "node_id": node,
                    "kind": kind,
                    "problem": problem.format(**values),
                    "hint": hint.format(**values),
                }
            )
    return found


_PROBLEMS = {
    "divergent": (
        "holds something else and keeps differing",
        "one of the two refuses something: pilotctl gossip status, on both",
    ),
    "skewed": (
        "its clock is {skew} s off",
        "set the clock of that machine; until then the swarm corrects it",
    ),
    "silent": ("does not answer", "see whether it is there: pilotctl ping {address}"),
    "asymmetric": (
        "is heard, but cannot be reached",
        "trust must be mutual, and so must the way: pilotctl ping {address}",
    ),
    "unmet": (
        "carries the tag, but has never told what it holds",
        "its gossip skill does not run, or it is a script",
    ),
}
