"""The golden transcripts of the reference's command line: reading, replaying, comparing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pilot.ctl.table import COMMANDS
from pilot.wire.ipcframes import Command
from tests.ctl.fakedaemon import Frame, error, reply
from tests.golden import golden

Entry = dict[str, Any]

ENTRIES: list[Entry] = golden("pilotctl_transcripts")

SAMPLES = {
    "<PUBKEY>": "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",
    "<ENDPOINT>": "127.0.0.1:41234",
    "int": 7,
    "number": 75.5,
}
"""What stands for a placeholder in the answers of the fake daemon."""

INFO = {
    "node_id": 1,
    "address": "0:0000.0000.0001",
    "hostname": "node-a",
    "version": "dev",
    "email": "a@example.com",
    "public_key": SAMPLES["<PUBKEY>"],
    "uptime_secs": 75,
    "connections": 0,
    "ports": 5,
    "peers": 0,
    "encrypted_peers": 0,
    "authenticated_peers": 0,
    "encrypt": True,
    "identity": True,
    "bytes_sent": 512,
    "bytes_recv": 2048,
    "pkts_sent": 3,
    "pkts_recv": 4,
    "handshake_pending_count": 0,
    "networks": None,
    "peer_list": [],
    "conn_list": [],
}

_REPLIES = {
    Command.DIAL: (Command.DIAL_OK, Command.ERROR),
    Command.BIND: (Command.BIND_OK, Command.ERROR),
    Command.SEND: (Command.RECV, Command.CLOSE_OK),
    Command.CLOSE: (Command.CLOSE_OK,),
}


def verb(entry: Entry) -> str:
    """@return: the command of a transcript, subcommand included; empty when there is none."""
    words = [word for word in entry["args"] if word != "--json"]
    names = {command.name for command in COMMANDS}
    two = " ".join(words[:2])
    return two if two in names else words[0] if words else ""


def uses_json(entry: Entry) -> bool:
    """@return: whether a program read the output."""
    return "--json" in entry["args"]


def expected_data(entry: Entry) -> Any:
    """@return: the data of the JSON twin of a transcript, samples in it; C{None}: there is none."""
    bare = [word for word in entry["args"] if word != "--json"]
    for other in _neighbours(entry):
        words = [word for word in other["args"] if word != "--json"]
        if uses_json(other) and words == bare and other["stdout"].startswith("{"):
            value = json.loads(other["stdout"])
            return filled(value.get("data", value))
    return None


def _neighbours(entry: Entry) -> Iterator[Entry]:
    at = next(i for i, each in enumerate(ENTRIES) if each["id"] == entry["id"])
    yield ENTRIES[at]
    if at + 1 < len(ENTRIES):
        yield ENTRIES[at + 1]


def filled(value: Any) -> Any:
    """@return: the value with a sample for each placeholder."""
    if isinstance(value, dict):
        return {key: filled(each) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each) for each in value]
    if isinstance(value, str):
        typed = re.fullmatch(r"<[A-Z_]+:(int|number)>", value)
        return SAMPLES[typed.group(1)] if typed else SAMPLES.get(value, value)
    return value


class Replay:
    """
    Answers a client as the transcript's daemon did, and checks what the client says.

    @ivar surprises: frames that the transcript does not have, or has otherwise.
    """

    def __init__(self, entry: Entry) -> None:
        self._said = [m for m in entry.get("ipc", []) if m.get("dir") == ">"]
        self._answers = [m for m in entry.get("ipc", []) if m.get("dir") == "<"]
        self._data = expected_data(entry)
        self._searched = "--search" in entry["args"]
        self._omitted = any("omitted" in message for message in entry.get("ipc", []))
        self.surprises: list[str] = []

    def __call__(self, command: int, payload: bytes) -> list[Frame]:
        """@return: what the daemon answers."""
        if command >= 0x40:
            return [error(f"unknown command: 0x{command:02X}")]
        frame = bytes((command,)) + payload
        if self._omitted and command == Command.SEND:
            return [(Command.RECV, payload[:4] + payload[at : at + 4096])
                    for at in range(4, len(payload), 4096)]  # fmt: skip
        if not self._said:
            if not self._omitted and command != Command.CLOSE:
                self.surprises.append(f"unexpected {frame.hex()}")
        else:
            said = self._said.pop(0)
            if "hex" in said and said["hex"] != frame.hex():
                self.surprises.append(f"{frame.hex()} instead of {said['hex']}")
        wanted = _REPLIES.get(Command(command), (command + 1, Command.ERROR))
        frames = []
        for message in list(self._answers):
            if int(message["cmd"], 16) in wanted:
                self._answers.remove(message)
                frames.append(self._frame(message, payload))
                if command != Command.CLOSE:
                    break
            elif command == Command.CLOSE:
                break
        if not frames and command == Command.RESOLVE_HOSTNAME:  # recorded with the next run
            return [error(f'resolve_hostname: registry: hostname "{payload.decode()}" not found')]
        if not frames and command >= Command.INFO:
            return [reply(command + 1, self._body(command + 1, payload))]
        return frames

    @property
    def missing(self) -> list[Entry]:
        """What the client should have said and did not; a last Close may be left to the daemon."""
        return [m for m in self._said if m["cmd"] != "0x08" and not self._omitted]

    def _frame(self, message: Entry, payload: bytes) -> Frame:
        command = int(message["cmd"], 16)
        if "error" in message:
            return error(message["error"])
        if "hex" in message:
            return command, bytes.fromhex(message["hex"])[1:]
        return reply(command, self._body(command, payload))

    def _body(self, command: int, payload: bytes) -> dict[str, Any]:
        data = self._data or {}
        if command == Command.INFO_OK:
            if "peers" in data and "total" in data:
                unmatched = _PEERS if self._searched else []
                return {**INFO, "peer_list": data["peers"] or unmatched}
            if "conn_list" not in data and "connections" in data:
                return {**INFO, "conn_list": data["connections"]}
            return {**INFO, **data}
        if command == Command.RESOLVE_HOSTNAME_OK:
            node = {"node-a": 1, "node-b": 2}[payload.decode()]
            return {
                "type": "resolve_hostname_ok",
                "node_id": node,
                "address": f"0:0000.0000.000{node}",
                "public": True,
                "hostname": payload.decode(),
            }
        if command == Command.SET_HOSTNAME_OK:
            return {"type": "set_hostname_ok", "node_id": 1, "hostname": payload.decode()}
        if command == Command.SET_TAGS_OK:
            return {"type": "set_tags_ok", "node_id": 1, "tags": data.get("tags") or None}
        return data or {"type": "deregister_ok"}


_PEERS = [
    {"node_id": 2, "endpoint": "127.0.0.1:41234", "encrypted": True, "authenticated": True},
]


def differences(expected: Any, actual: Any, path: str = "") -> list[str]:
    """
    Compare JSON values, placeholders on the expected side.

    An expected C{null} that stands for an empty list matches C{[]}; members that only the actual
    value has are extensions and match.
    """
    if isinstance(expected, str) and (typed := re.fullmatch(r"<[A-Z_]+:(int|number)>", expected)):
        kinds = (int,) if typed.group(1) == "int" else (int, float)
        good = isinstance(actual, kinds) and not isinstance(actual, bool)
        return [] if good else [f"{path}: {actual!r} is no {typed.group(1)}"]
    if expected is None and actual == []:
        return []
    if isinstance(expected, dict) and isinstance(actual, dict):
        found = [f"{path}.{key}: missing" for key in expected.keys() - actual.keys()]
        for key in expected.keys() & actual.keys():
            found += differences(expected[key], actual[key], f"{path}.{key}")
        return found
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [
            each
            for i, pair in enumerate(zip(expected, actual, strict=True))
            for each in differences(*pair, path=f"{path}[{i}]")
        ]
    if isinstance(expected, str) and isinstance(actual, str) and "<" in expected:
        return [] if pattern(expected).fullmatch(actual) else [f"{path}: {actual!r}"]
    return [] if expected == actual else [f"{path}: {actual!r} instead of {expected!r}"]


def pattern(text: str) -> re.Pattern[str]:
    """@return: what matches a text with placeholders in it."""
    parts = re.split(r"(<[A-Z][A-Za-z_0-9:. ]*>)", text)
    return re.compile("".join(".+?" if i % 2 else re.escape(p) for i, p in enumerate(parts)))
