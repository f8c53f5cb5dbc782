"""What is known of a task, and how its file says it.

The file is the reference's, with three members of our own behind it that are only there while they
say something: the place in the queue, a change that the other side has not been told, and points
that are still to be paid.  Programs that do not know them ignore them.

@see: the page I{Task submit}, I{Task files}; golden vectors C{task_lifecycle.json}.
"""

from __future__ import annotations

from typing import NamedTuple

from pilot.errors import WireError
from pilot.tasks.times import parse_time
from pilot.wire.goobject import read_object
from pilot.wire.jsontext import dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

NEW = "NEW"
ACCEPTED = "ACCEPTED"
DECLINED = "DECLINED"
EXECUTING = "EXECUTING"
SUCCEEDED = "SUCCEEDED"
COMPLETED = "COMPLETED"
CANCELLED = "CANCELLED"
EXPIRED = "EXPIRED"
STATUSES = (NEW, ACCEPTED, DECLINED, EXECUTING, SUCCEEDED, COMPLETED, CANCELLED, EXPIRED)

ACCEPT_PATIENCE = 60.0
"""Seconds from the submission within which a task is accepted or declined, or else cancelled."""

HEAD_PATIENCE = 3600.0
"""Seconds for which an accepted task may be the first in the queue before it expires."""


class Payment(NamedTuple):
    """
    Points for a node.

    @ivar delta: negative takes some.
    """

    node: int
    delta: int


class TaskDocument(NamedTuple):
    """
    One side's view of a task.  Times are texts as in the file, empty for what has not happened.

    @ivar sender: address of who submitted it.
    @ivar recipient: address of who is to do it.
    @ivar staged_at: when it became the first in the queue.
    @ivar queue_number: order of acceptance, 0 for tasks that were not accepted here.
    @ivar untold: the submitter has not heard of the status yet.
    @ivar owed: points not yet paid.
    """

    task_id: str
    task_description: str
    created_at: str
    status: str
    status_justification: str
    sender: str
    recipient: str
    accepted_at: str = ""
    staged_at: str = ""
    execute_started_at: str = ""
    completed_at: str = ""
    time_idle_ms: int = 0
    time_staged_ms: int = 0
    time_cpu_ms: int = 0
    queue_number: int = 0
    untold: bool = False
    owed: tuple[Payment, ...] = ()

    def encode(self) -> bytes:
        """@return: the content of its file."""
        lines = []
        for at, (field, value) in enumerate(zip(self._fields, self, strict=True)):
            if value or at < _ALWAYS:
                member = _MEMBERS.get(field, field)
                lines.append(f'  "{member}": '.encode() + dump(value))
        return b"{\n" + b",\n".join(lines) + b"\n}"

    @classmethod
    def decode(cls, data: bytes) -> TaskDocument:
        """@raise WireError: no such file."""
        members = read_object(data, _DEFAULTS)
        members["owed"] = _payments(members["owed"])
        return cls(*members.values())

    @property
    def accept_deadline(self) -> float | None:
        """Unix time after which it cannot be accepted; C{None}: its file does not tell."""
        created = parse_time(self.created_at)
        return None if created is None else created + ACCEPT_PATIENCE


_ALWAYS = 7
_MEMBERS = {"sender": "from", "recipient": "to"}


def _default(field: str) -> Any:
    value = TaskDocument._field_defaults.get(field, "")
    return list(value) if isinstance(value, tuple) else value


_DEFAULTS: Mapping[str, Any] = {
    _MEMBERS.get(field, field): _default(field) for field in TaskDocument._fields
}


def _payments(value: list[Any]) -> tuple[Payment, ...]:
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair)):
            raise WireError("owed: not a list of node ids and points")
    return tuple(Payment(*pair) for pair in value)


def queue_order(document: TaskDocument) -> tuple[int, float, str]:
    """@return: the key by which accepted tasks come in the order of their acceptance."""
    # Those another program has accepted have no number; they go by the clock, in front.
    return document.queue_number, parse_time(document.accepted_at) or 0.0, document.task_id
