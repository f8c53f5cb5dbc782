"""Recorded conversations with the reference, held again with our control socket.

The nodes behind it are fakes, so what is compared is the control socket's own part: which frames
come, to whom, in which order, with which fields of which types, and the words of its own errors.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from pilot.daemon.ipc_limits import IpcLimits
from pilot.wire.ipc import Accept, Command, ConnData, ConnId, Error, RecvFrom
from pilot.wire.jsontext import load
from tests.daemon.ipcharness import Client, Frame, World
from tests.golden import golden

TRANSCRIPTS = {entry["name"]: entry for entry in golden("ipc_transcripts")["transcripts"]}

#: Conversations whose every step concerns the control socket or is within the fakes' powers.
REPLAYED = [
    "framing",
    "unknown_commands",
    "info_health_idle",
    "bind",
    "hostname",
    "visibility",
    "tags",
    "task_exec",
    "webhook",
    "stream_basic",
    "stream_admin_disconnect",
    "stream_remote_close",
    "dial_errors",
    "pipelining",
    "ownership_on_disconnect",
    "dialler_disconnect",
    "datagrams",
]

#: Where we say it otherwise, on purpose: their text to ours.
OWN_WORDS = {
    # The decoder's own words.
    "set_tags: invalid JSON: json: cannot unmarshal object into Go value of type []string": (
        "set_tags: invalid JSON: expected an array of strings"
    ),
    "set_tags: invalid JSON: json: cannot unmarshal number into Go value of type string": (
        "set_tags: invalid JSON: expected an array of strings"
    ),
    "invalid webhook URL: parse \"http://[::1\": missing ']' in host": (
        "invalid webhook URL: Invalid IPv6 URL"
    ),
}

#: Texts of the registry or the network, which the fakes do not know.
NOT_OURS = ("registry:", "write udp", "broadcast denied", "list nodes")


class Replay:
    """Sends what was sent then, and compares what comes with what came."""

    def __init__(self) -> None:
        self.world = World(IpcLimits(grace=0.0))
        self.clients: dict[str, Client] = {}
        self.arrived: dict[str, list[Frame]] = defaultdict(list)
        self.stream_ids: dict[tuple[str, int], int] = {}

    def run(self, steps: list[dict[str, Any]]) -> None:
        # Who does not connect in this conversation has done so in one before it.
        for label in dict.fromkeys(step["client"] for step in steps):
            first = next(step for step in steps if step["client"] == label)
            if first["dir"] != "connect":
                self._client(label)
        for number, step in enumerate(steps):
            step["number"] = number
            label = step["client"]
            if step["dir"] in ("connect", "disconnect"):
                if label in self.clients:
                    self.clients.pop(label).hang_up()
                self.arrived.pop(label, None)
            if step["dir"] != "disconnect":
                self._client(label)
            getattr(self, f"_{step['dir']}")(label, step)
            self._collect()

    def _client(self, label: str) -> Client:
        if label not in self.clients:
            node = self.world.b if label.startswith("b") else self.world.a
            self.clients[label] = self.world.client(node)
        return self.clients[label]

    def _collect(self) -> None:
        self.world.clock.advance(0.01)
        for _ in range(3):
            for label, client in self.clients.items():
                self.arrived[label] += client.frames()

    def _connect(self, label: str, step: dict[str, Any]) -> None: ...

    _disconnect = _connect

    def _send(self, label: str, step: dict[str, Any]) -> None:
        if "frame_hex" in step:
            frame = bytearray.fromhex(step["frame_hex"])
        else:
            frame = bytearray.fromhex(step["frame_head_hex"]).ljust(step["frame_len"], b"\0")
        if len(frame) > 8 and frame[4] in (Command.SEND, Command.CLOSE):
            then = int.from_bytes(frame[5:9], "big")
            frame[5:9] = self.stream_ids.get((label[0], then), then).to_bytes(4, "big")
        self.clients[label].raw(bytes(frame))

    def _send_raw(self, label: str, step: dict[str, Any]) -> None:
        note, client = step["note"], self.clients[label]
        if "00100001" in note:
            client.raw(bytes.fromhex("00100001"))
        elif "0000000a0d" in note:
            client.raw(bytes.fromhex("0000000a0d"))
            client.hang_up()
        else:
            for byte in bytes.fromhex("0000000121"):
                client.raw(bytes((byte,)))

    def _nothing(self, label: str, step: dict[str, Any]) -> None:
        assert self.arrived[label] == [], step

    def _eof(self, label: str, step: dict[str, Any]) -> None:
        client = self.clients.pop(label)
        assert client.transport.disconnecting or client.gone
        self.arrived.pop(label, None)

    def _recv(self, label: str, step: dict[str, Any]) -> None:
        assert self.arrived[label], f"nothing came at step {step['number']}: {step}"
        command, payload = self.arrived[label].pop(0)
        theirs = bytes.fromhex(step.get("frame_hex") or step["frame_head_hex"])
        assert command == theirs[4], (step, command, payload)
        self._compare(label, step, command, payload, theirs[5:])

    def _compare(
        self, label: str, step: dict[str, Any], command: int, ours: bytes, theirs: bytes
    ) -> None:
        fields = step["fields"]
        side = label[0]
        if command == Command.ERROR:
            text = fields["message"]
            if not any(mark in text for mark in NOT_OURS):
                assert Error.decode(ours) == Error(1, OWN_WORDS.get(text, text))
        elif command == Command.DIAL_OK:
            self.stream_ids[side, fields["conn_id"]] = ConnId.decode(ours).conn_id
        elif command == Command.ACCEPT:
            accept = Accept.decode(ours)
            self.stream_ids[side, fields["conn_id"]] = accept.conn_id
            assert (accept.local_port, str(accept.remote)) == (
                fields["local_port"],
                fields["remote_addr"],
            )
        elif command == Command.RECV:
            then = self.stream_ids[side, fields["conn_id"]]
            conn_id, data = ConnData.decode(ours)
            assert conn_id == then
            if "data_hex" in fields:
                assert data == bytes.fromhex(fields["data_hex"])
            else:
                assert len(data) == fields["data_len"]
        elif command == Command.CLOSE_OK:
            then = self.stream_ids.get((side, fields["conn_id"]), fields["conn_id"])
            assert ConnId.decode(ours).conn_id == then
        elif command == Command.RECV_FROM:
            heard = RecvFrom.decode(ours)
            assert str(heard.source) == fields["src_addr"]
            assert heard.destination_port == fields["dst_port"]
        elif "json" in fields and command != Command.INFO_OK:
            assert shape(load(ours)) == shape(fields["json"])
        elif command == Command.BIND_OK and fields["port"]:
            assert ours == theirs


def shape(value: Any) -> Any:
    """Names and types, and the values of what says what a reply is."""
    if isinstance(value, dict):
        kept = ("type", "status", "visibility", "task_exec")
        return {name: item if name in kept else shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value)


def within_powers(name: str, step: dict[str, Any]) -> bool:
    """Whether the fakes can play this step."""
    if name == "visibility":  # the reference cannot find itself while it is private; we can
        return step.get("name") not in ("ResolveHostname", "Error") or "missing" in str(step)
    if name == "datagrams":  # no networks, no size of a UDP packet
        dialled = str(step.get("fields", {}).get("dst_addr", "0:"))
        return dialled.startswith("0:") and not any(mark in str(step) for mark in _FOREIGN)
    return True


_FOREIGN = ("write udp", "65535", "broadcast denied", "list nodes", "bcast")


@pytest.mark.parametrize("name", REPLAYED)
def test_as_recorded(name: str) -> None:
    replay = Replay()
    if name in ("stream_admin_disconnect", "stream_remote_close", "ownership_on_disconnect"):
        # The port was bound in a conversation before this one.
        client = replay.clients["b1"] = replay.world.client(replay.world.b)
        client.bind(5000)
    replay.run([dict(step) for step in TRANSCRIPTS[name]["steps"] if within_powers(name, step)])
