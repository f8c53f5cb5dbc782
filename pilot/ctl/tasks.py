"""Work for others and for us: C{task submit accept decline execute send-results list queue}.

The daemon owns the tasks and changes them; this asks it to.  Lists, and what can be refused at
once, are read from the task files, also while no daemon runs.

@see: C{docs/services/task-submit.md}.
"""

from __future__ import annotations

import os

from pilot.client.blocking import DaemonError, Disconnected
from pilot.ctl.console import MAX_ROWS, Result, as_bytes, as_text
from pilot.ctl.targets import resolve
from pilot.errors import ConnectionFailed, InvalidArgument, NotFound, PilotError, WireError
from pilot.wire.ipcframes import Command, encode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.address import Address
    from pilot.client.blocking import DaemonClient
    from pilot.ctl.call import Call
    from pilot.tasks.document import TaskDocument

PATIENCE = 300.0
"""Seconds that the daemon may take: a dial, a large file, and an answer."""


class Told(PilotError):
    """What the daemon says about a task, with its own code."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code  # type: ignore[misc]  # elsewhere the class says it; here the daemon does


def submit(call: Call) -> Result:
    """Give a task to a node."""
    with call.connect() as client:
        target = resolve(call, client, call.words[0])
        task = as_text(as_bytes(call.flags.get("task", "")))
        if not task:
            raise InvalidArgument("--task is required")
        try:
            data = _ask(client, {"op": "submit", "target": str(target), "task": task})
        except ConnectionFailed as error:
            raise _unreachable(target, error) from None
    return Result(data)


def accept(call: Call) -> Result:
    """Take a task that was given to us."""
    task_id = _id(call)
    document = _received(call, task_id)
    _check_new(document)
    _check_time(document)
    return _answered(call, {"op": "accept", "id": task_id})


def decline(call: Call) -> Result:
    """Refuse a task that was given to us."""
    task_id = _id(call)
    justification = as_text(as_bytes(call.flags.get("justification", "")))
    if not justification:
        raise InvalidArgument("--justification is required")
    _check_new(_received(call, task_id))
    return _answered(call, {"op": "decline", "id": task_id, "justification": justification})


def execute(call: Call) -> Result:
    """Begin with the first task of the queue."""
    if not os.path.isdir(_folder(call, "received")):
        raise NotFound("no received tasks found")
    if not any(each.status == "ACCEPTED" for each in _documents(call, "received")):
        raise NotFound("no accepted tasks to execute")
    with call.connect() as client:
        return Result(_ask(client, {"op": "execute"}))


def send_results(call: Call) -> Result:
    """Take what came of a task to who wanted it done."""
    task_id = _id(call)
    path, text = call.flags.get("file", ""), call.flags.get("results", "")
    if not path and not text:
        raise InvalidArgument("either --results or --file is required")
    request = {"op": "results", "id": task_id}
    document = _received(call, task_id)
    if path:
        from pilot.tasks.names import check_file_type

        check_file_type(path)
        _check_readable(path)
        request["file"] = os.path.abspath(path)
    else:
        request["text"] = as_text(as_bytes(text))
    if document.status not in ("ACCEPTED", "EXECUTING"):
        message = f"task {task_id} cannot receive results (status: {document.status})"
        raise Told("invalid_state", message)
    with call.connect() as client:
        try:
            return Result(_ask(client, request))
        except ConnectionFailed as error:
            message = f"cannot connect to submitter {document.sender}: {error.message}"
            hint = f"check that {document.sender} is reachable"
            raise ConnectionFailed(message, hint=hint) from None


def list_tasks(call: Call) -> Result:
    """What was given to us and what we gave to others."""
    wanted = call.flags.get("type")
    tasks = []
    for category in ("received", "submitted"):
        if wanted in (None, category):
            tasks += [_entry(each, category) for each in _documents(call, category)]
    if call.console.json:
        return Result({"tasks": tasks})
    from pilot.ctl.values import printable

    lines = []
    for task in tasks[:MAX_ROWS]:
        lines.append(
            f"[{task['category']}] {task['task_id']} ({task['status']}) - {task['description']}"
        )
        lines.append(f"  From: {task['from']} → To: {task['to']}")
    lines = [printable(line) for line in lines]
    if len(tasks) > MAX_ROWS:
        lines.append(f"... and {len(tasks) - MAX_ROWS} more (--json shows all)")
    return Result({"tasks": tasks}, "\n".join(lines) or "No tasks found")


def queue(call: Call) -> Result:
    """The accepted tasks, the next to be executed first."""
    from pilot.tasks.queue import in_order

    waiting = [
        {key: entry[key] for key in ("task_id", "description", "from", "created_at")}
        for entry in (_entry(each, "") for each in in_order(_documents(call, "received")))
    ]
    data: dict[str, Any] = {"queue": waiting}
    if waiting:
        data["count"] = len(waiting)
    if call.console.json:
        return Result(data)
    from pilot.ctl.values import printable

    lines = [f"Queued tasks ({len(waiting)}):"] if waiting else ["Queue is empty"]
    for number, task in enumerate(waiting[:MAX_ROWS], 1):
        lines.append(printable(f"  {number}. {task['task_id']}: {task['description']}"))
        lines.append(printable(f"     From: {task['from']}"))
    if len(waiting) > MAX_ROWS:
        lines.append(f"... and {len(waiting) - MAX_ROWS} more (--json shows all)")
    return Result(data, "\n".join(lines))


def enable(call: Call) -> Result:
    """Let the registry tell everybody that this node does tasks."""
    return _advertise(call, True)


def disable(call: Call) -> Result:
    """Let the registry tell so no more.  Tasks are taken all the same."""
    return _advertise(call, False)


def _advertise(call: Call, on: bool) -> Result:
    with call.connect() as client:
        return Result(call.ask(client, Command.SET_TASK_EXEC, bytes((on,)), "set_task_exec"))


# -- the daemon --------------------------------------------------------------------------------


def _ask(client: DaemonClient, request: dict[str, str]) -> dict[str, Any]:
    """
    @return: the daemon's answer.
    @raise ConnectionFailed: it, or the peer, failed.
    @raise Told: it refuses.
    """
    from pilot.wire.ipc_extensions import Extension

    if not client.hello():
        raise Told(
            "unavailable",
            "this daemon does not manage tasks",
            "it is another implementation's; use that one's command line, or start ours",
        )
    try:
        answer = client.request_json(Extension.TASK, encode_json(request), timeout=PATIENCE)
    except (DaemonError, Disconnected) as error:
        raise ConnectionFailed(error.message) from None
    if answer.get("status") == "ok" and isinstance(answer.get("data"), dict):
        data: dict[str, Any] = answer["data"]
        return data
    code, message = str(answer.get("code")), str(answer.get("message"))
    hint = answer.get("hint")
    if code in ("connection_failed", "timeout"):
        raise ConnectionFailed(message, hint=hint)
    raise Told(code, message, hint)


def _answered(call: Call, request: dict[str, str]) -> Result:
    with call.connect() as client:
        data = _ask(client, request)
    if "failed" in str(data.get("message")):
        call.console.progress("the submitter cannot be reached now; it will be told later")
    return Result(data)


def _unreachable(target: Address, error: PilotError) -> ConnectionFailed:
    message = f"cannot connect to {target} (task submit port 1003): {error.message}"
    return ConnectionFailed(
        message, hint=f"check that {target} is reachable: pilotctl ping {target}"
    )


# -- the files ---------------------------------------------------------------------------------


def _folder(call: Call, category: str) -> str:
    return os.path.join(call.settings.home, "tasks", category)


def _documents(call: Call, category: str) -> list[TaskDocument]:
    """@return: the tasks of a directory, in the order of their file names."""
    folder = _folder(call, category)
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    except OSError:
        return []
    found = (_load(os.path.join(folder, name)) for name in names)
    return [document for document in found if document is not None]


def _load(path: str) -> TaskDocument | None:
    from pilot.tasks.document import TaskDocument

    try:
        with open(path, "rb") as file:
            return TaskDocument.decode(file.read())
    except (OSError, WireError):
        return None


def _received(call: Call, task_id: str) -> TaskDocument:
    from pilot.tasks.names import is_task_id

    document = None
    if is_task_id(task_id):
        document = _load(os.path.join(_folder(call, "received"), task_id + ".json"))
    if document is None:
        raise NotFound(
            f"task not found: {task_id}", hint="check pilotctl task list --type received"
        )
    return document


def _id(call: Call) -> str:
    task_id = call.flags.get("id", "")
    if not task_id:
        raise InvalidArgument("--id is required")
    return task_id


def _check_new(document: TaskDocument) -> None:
    if document.status != "NEW":
        raise Told("invalid_state", f"task {document.task_id} is already {document.status}")


def _check_time(document: TaskDocument) -> None:
    import time

    deadline = document.accept_deadline
    if deadline is not None and time.time() > deadline:
        raise Told(
            "expired",
            f"task {document.task_id} has expired (accept deadline was 1 minute after creation)",
        )


def _check_readable(path: str) -> None:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        reason = (error.strerror or "failed").lower()
        raise Told("internal_error", f"failed to read file: open {path}: {reason}") from None


def _entry(document: TaskDocument, category: str) -> dict[str, Any]:
    return {
        "task_id": document.task_id,
        "description": document.task_description,
        "status": document.status,
        "from": document.sender,
        "to": document.recipient,
        "created_at": document.created_at,
        "category": category,
    }
