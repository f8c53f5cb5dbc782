"""What this node was sent: C{inbox} and C{received}, read from its files."""

from __future__ import annotations

import os

from pilot.ctl.console import Result
from pilot.errors import NotFound, PilotError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call
    from pilot.services.messagefile import StoredMessage

PREVIEW = 80
"""Characters of a message that people are shown."""


def inbox(call: Call) -> Result:
    """List the messages, or delete them."""
    directory = f"{call.settings.home}/inbox"
    messages = _messages(directory)
    if call.switch("clear"):
        if messages is None:
            raise NotFound("inbox is empty")
        _delete([message.path for message in messages])
        return Result(
            # With what they said: one may have come since the last look.
            {"cleared": len(messages), "messages": _records(call, messages)},
            f"cleared {len(messages)} message(s)",
        )
    records = _records(call, messages or [])
    data: dict[str, Any] = {"messages": records, "total": len(messages or [])}
    if messages is not None:
        data["dir"] = directory
    return Result(data, _inbox_text(messages or []), beside={"messages": records})


def received(call: Call) -> Result:
    """List the files, or delete them."""
    directory = f"{call.settings.home}/received"
    files = _files(directory)
    if call.switch("clear"):
        if files is None:
            raise NotFound("no received files")
        _delete([entry.path for entry, _ in files])
        return Result({"cleared": len(files)}, f"cleared {len(files)} received file(s)")
    data: dict[str, Any] = {"files": [_file(*each) for each in files or []]}
    data["total"] = len(files or [])
    if files is not None:
        data["dir"] = directory
    beside = {}
    if call.console.json:
        beside["messages"] = _records(call, _messages(f"{call.settings.home}/inbox") or [])
    return Result(data, _received_text(directory, files or []), beside=beside)


def _messages(directory: str) -> list[StoredMessage] | None:
    """@return: the messages as they came; C{None}: there is no inbox yet."""
    from pilot.services.messagefile import read_inbox

    try:
        return read_inbox(directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(directory, error) from None


def _records(call: Call, messages: list[StoredMessage]) -> list[dict[str, Any]]:
    """@return: the messages for programs, those that are JSON with their content read."""
    if not call.console.json:
        return []
    records = []
    for message in messages:
        record = dict(message.fields)
        payload = message.payload
        if payload is not None:
            record["payload"] = payload
        records.append(record)
    return records


def _inbox_text(messages: list[StoredMessage]) -> str:
    if not messages:
        return "inbox is empty\n  other nodes write here with: pilotctl send-message"
    from pilot.ctl.values import printable

    lines = [f"Inbox ({len(messages)} messages):", ""]
    for message in messages:
        when, sender, kind, content = (
            printable(str(message.fields.get(field, "")))
            for field in ("received_at", "from", "type", "data")
        )
        lines.append(f"  [{when}] from {sender} type={kind}")
        lines.append(f"    {content if len(content) <= PREVIEW else content[:PREVIEW] + '...'}")
    return "\n".join([*lines, "", "delete them with: pilotctl inbox --clear"])


def _files(directory: str) -> list[tuple[os.DirEntry[str], os.stat_result]] | None:
    """@return: the plain files by name; C{None}: there is no directory yet."""
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    if entry.is_file(follow_symlinks=False):
                        found.append((entry, entry.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue  # deleted while we look
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(directory, error) from None
    found.sort(key=lambda each: os.fsencode(each[0].name))
    return found


def _file(entry: os.DirEntry[str], status: os.stat_result) -> dict[str, Any]:
    from pilot.services.localtime import rfc3339

    record = {
        "name": entry.name,
        "bytes": status.st_size,
        "modified": rfc3339(status.st_mtime_ns),
        "path": entry.path,
    }
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        # Text cannot say where it is.
        import binascii

        path = binascii.b2a_base64(os.fsencode(entry.path), newline=False)
        record["path_base64"] = path.decode("ascii")
    return record


def _received_text(directory: str, files: list[tuple[os.DirEntry[str], os.stat_result]]) -> str:
    if not files:
        return "no received files\n  other nodes put files here with: pilotctl send-file"
    from pilot.ctl.console import table
    from pilot.ctl.values import size_text
    from pilot.services.localtime import rfc3339

    rows = [
        (entry.name, size_text(status.st_size), rfc3339(status.st_mtime_ns))
        for entry, status in files
    ]
    lines = table(("NAME", "SIZE", "RECEIVED"), (40, 10, 0), rows).splitlines()
    return "\n".join(
        [f"Received files ({directory}):", "", *("  " + line for line in lines), "",
         f"total: {len(files)}"]
    )  # fmt: skip


def _delete(paths: list[str]) -> None:
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue  # somebody else has read it
        except OSError as error:
            raise PilotError(f"delete {path}: {error.strerror}") from None


def _unreadable(directory: str, error: OSError) -> PilotError:
    reason = (error.strerror or str(error)).lower()
    return PilotError(f"read directory: open {directory}: {reason}")
