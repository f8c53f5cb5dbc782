"""Task submit (port 1003): one frame a connection, and in it one JSON object.

A frame is four bytes of type, four bytes of length, and the object.

A submission is answered with one frame of its own type; the other messages are not answered: that
the receiver ends the stream cleanly is all it says.

@see: the page I{Task submit}; golden vectors C{frames.json} and C{task_lifecycle.json}.
"""

from __future__ import annotations

import binascii
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from pilot.errors import WireError
from pilot.wire.goobject import read_object
from pilot.wire.jsontext import dump


class MessageType(IntEnum):
    """What a frame is.  L{RESULT} is a relic: nobody sends it, and it is refused."""

    SUBMIT = 1
    RESULT = 2
    STATUS_UPDATE = 3
    SEND_RESULTS = 4


MAX_PAYLOAD = 16 * 1024 * 1024
"""Largest payload, in bytes."""

MAX_FILE = 12_000_000
"""Largest result file, in bytes, that is sure to fit a frame: base64 makes it a third longer."""

ACCEPTED, REFUSED = 200, 400
"""The two values of L{SubmitResponse.status}."""

_HEADER = Struct(">II")
_EMPTY = {"task_id": ""}


class SubmitRequest(NamedTuple):
    """
    L{MessageType.SUBMIT}, from who wants something done.

    @ivar task_id: chosen by the sender, and a claim like the two addresses.
    """

    task_id: str
    task_description: str
    from_addr: str
    to_addr: str

    def encode(self) -> bytes:
        """@return: the frame.  @raise WireError: it would be too long."""
        return _frame(MessageType.SUBMIT, self._asdict())


class SubmitResponse(NamedTuple):
    """
    The answer to a L{SubmitRequest}, in a frame of the same type.

    @ivar status: L{ACCEPTED} or L{REFUSED}.
    """

    task_id: str
    status: int
    message: str

    def encode(self) -> bytes:
        """@return: the frame."""
        return _frame(MessageType.SUBMIT, self._asdict())

    @classmethod
    def decode(cls, kind: int, payload: bytes) -> SubmitResponse:
        """@raise WireError: this is no answer to a submission."""
        if kind != MessageType.SUBMIT:
            raise WireError(f"unexpected message type {kind}")
        return cls(**read_object(payload, {**_EMPTY, "status": 0, "message": ""}))


class StatusUpdate(NamedTuple):
    """
    L{MessageType.STATUS_UPDATE}, from who does it.

    @ivar status: a name in capitals.
    """

    task_id: str
    status: str
    justification: str

    def encode(self) -> bytes:
        """@return: the frame.  @raise WireError: it would be too long."""
        return _frame(MessageType.STATUS_UPDATE, self._asdict())


class Results(NamedTuple):
    """
    L{MessageType.SEND_RESULTS}, from who has done it.

    @ivar result_type: C{text} or C{file}; anything else counts as C{text}.
    @ivar filename: of a C{file}, as the sender calls it.
    @ivar file_data: its content.
    @ivar completed_at: RFC 3339 in UTC, or empty.
    @ivar time_idle_ms: from the submission to the acceptance.
    @ivar time_staged_ms: at the head of the queue.
    @ivar time_cpu_ms: from the start of the execution to the results.
    """

    task_id: str
    result_type: str = "text"
    result_text: str = ""
    filename: str = ""
    file_data: bytes = b""
    completed_at: str = ""
    time_idle_ms: int = 0
    time_staged_ms: int = 0
    time_cpu_ms: int = 0

    def encode(self) -> bytes:
        """@return: the frame.  @raise WireError: it would be too long."""
        members: dict[str, object] = {}
        for name, value in self._asdict().items():
            if value or name in ("task_id", "result_type", "completed_at"):
                members[name] = value
        if self.file_data:
            encoded = binascii.b2a_base64(self.file_data, newline=False)
            members["file_data"] = encoded.decode("ascii")
        return _frame(MessageType.SEND_RESULTS, members)


Request = SubmitRequest | StatusUpdate | Results

_FIELDS: dict[int, tuple[type[Request], dict[str, object]]] = {
    MessageType.SUBMIT: (SubmitRequest, dict.fromkeys(SubmitRequest._fields, "")),
    MessageType.STATUS_UPDATE: (StatusUpdate, dict.fromkeys(StatusUpdate._fields, "")),
    MessageType.SEND_RESULTS: (
        Results,
        {**_EMPTY, "result_type": "", **{k: v for k, v in Results._field_defaults.items()
                                         if k != "result_type"}},
    ),
}  # fmt: skip


def decode_request(kind: int, payload: bytes) -> Request:
    """
    @param kind: type of the frame.
    @return: what it says.
    @raise WireError: a type that nobody sends, or a payload that is not its object.
    """
    if kind not in _FIELDS:
        raise WireError(f"unexpected message type {kind}")
    made, defaults = _FIELDS[kind]
    return made(**read_object(payload, defaults))


class FrameReader:
    """
    The one frame of one direction.

    @ivar size: length of its payload; C{None} until the header is there.
    @ivar buffered: bytes kept.
    """

    __slots__ = ("_kind", "_pieces", "buffered", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._kind = 0
        self.buffered = 0
        self.size: int | None = None

    def feed(self, data: bytes) -> tuple[int, bytes] | None:
        """
        @return: type and payload once the frame is complete; whatever follows it is dropped.
        @raise WireError: it announces more than L{MAX_PAYLOAD}.
        """
        self._pieces.append(data)
        self.buffered += len(data)
        if self.size is None and self.buffered >= _HEADER.size:
            head = b"".join(self._pieces)
            self._kind, self.size = _HEADER.unpack_from(head)
            self._pieces = [head]
            if self.size > MAX_PAYLOAD:
                raise WireError(f"frame too large: {self.size}")
        if self.size is None or self.buffered < _HEADER.size + self.size:
            return None
        whole = b"".join(self._pieces)
        self._pieces = []
        return self._kind, whole[_HEADER.size : _HEADER.size + self.size]


def _frame(kind: int, members: dict[str, object]) -> bytes:
    payload = dump(members, sort_keys=False)
    if len(payload) > MAX_PAYLOAD:
        raise WireError(f"frame too large: {len(payload)}")
    return _HEADER.pack(kind, len(payload)) + payload
