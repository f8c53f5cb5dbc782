"""The trust file: C{trust.json} beside the identity.

Its C{trusted} and C{pending} are what the reference writes and reads.  Three more lists stand
beside them, which the reference ignores: C{requested} (our own open requests), C{revoked} (what
was taken back, and when) and C{owed} (what is still to be done after a decision).  One file, so
that a decision is saved whole or not at all; without entries in the three lists it is byte for
byte a file of the reference.

@see: protocol notes, I{Files}.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from twisted.logger import Logger

from pilot.crypto.files import write_atomically
from pilot.errors import PilotError, WireError
from pilot.trust.records import (
    Errand,
    Pending,
    Record,
    Requested,
    Revoked,
    Step,
    Trusted,
    ordered,
)
from pilot.wire.jsontext import load

log = Logger()

_HTML_UNSAFE = re.compile("[<>&\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})\Z"
)


class TrustNotSaved(PilotError):
    """The trust file could not be written; the change it was for did not happen."""


class TrustUnreadable(PilotError):
    """The trust file is there and cannot be read."""


class Book(NamedTuple):
    """
    The content of a trust file.

    @ivar records: node id to what is known of it.
    @ivar errands: node id to what is still owed to it.
    """

    records: dict[int, Record]
    errands: dict[int, Errand]


class TrustStore:
    """
    Where a node keeps its L{Book}.

    @ivar path: the file, or None for a node without a persistent identity, which keeps nothing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        write: Callable[[Path, bytes, int], None] = write_atomically,
    ) -> None:
        self.path = None if path is None else Path(path)
        self._write = write

    def load(self) -> Book:
        """
        Read the file.  One that makes no sense is moved aside, never overwritten: what can be
        read of it is used, the rest is for a person to look at.

        @return: the book; an empty one when there is no file.
        @raise TrustUnreadable: the file is there, and the system does not let us read or move it.
        """
        if self.path is None:
            return Book({}, {})
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return Book({}, {})
        except OSError as error:
            raise TrustUnreadable(f"cannot read {self.path}: {error.strerror}") from error
        book, faults = decode(data)
        if faults:
            aside = self._move_aside()
            log.critical(
                "TRUST FILE CORRUPT: {path} does not make sense ({fault}, {count} faults). It was "
                "moved to {aside}; {kept} entries could still be read. Repair it, stop this "
                "node, and put it back, or establish the lost trust anew.",
                path=str(self.path),
                fault=faults[0],
                count=len(faults),
                aside=str(aside),
                kept=len(book.records),
            )
            if book.records:
                self.save(book.records, book.errands)
        return book

    def save(self, records: Mapping[int, Record], errands: Mapping[int, Errand]) -> None:
        """
        Replace the file; it is on the disk when this returns.

        @raise TrustNotSaved: it is not, and the old file stands.
        """
        if self.path is None:
            return
        try:
            self._write(self.path, encode(records, errands), 0o600)
        except OSError as error:
            raise TrustNotSaved(
                f"trust not saved: {error.strerror or error}",
                hint=f"check the disk and the permissions of {self.path.parent}",
            ) from error

    def _move_aside(self) -> Path:
        assert self.path is not None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.corrupt-{number}")).exists():
            number += 1
        try:
            self.path.rename(aside)
        except OSError as error:
            raise TrustUnreadable(
                f"{self.path} is corrupt and cannot be moved aside: {error.strerror}"
            ) from error
        return aside


# -- writing -------------------------------------------------------------------------------------


def encode(records: Mapping[int, Record], errands: Mapping[int, Errand]) -> bytes:
    """@return: the file, two spaces of indentation, no newline at the end."""
    lists: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("trusted", "pending", "requested", "revoked", "owed")
    }
    for node_id, record in records.items():
        match record:
            case Trusted():
                entry = {
                    "node_id": node_id,
                    "public_key": record.public_key,
                    "approved_at": _time_text(record.approved_at),
                    "mutual": record.mutual,
                }
                if record.network:
                    entry["network"] = record.network
                lists["trusted"].append(entry)
            case Pending():
                entry = {
                    "node_id": node_id,
                    "public_key": record.public_key,
                    "justification": record.justification,
                    "received_at": _time_text(record.received_at),
                }
                lists["pending"].append({k: v for k, v in entry.items() if v != ""})
            case Requested():
                entry = {
                    "node_id": node_id,
                    "justification": record.justification,
                    "asked_at": _time_text(record.asked_at),
                    "drained": record.drained,
                }
                lists["requested"].append(entry)
            case Revoked():
                entry = {
                    "node_id": node_id,
                    "revoked_at": _time_text(record.revoked_at),
                    "by_user": record.by_user,
                }
                lists["revoked"].append(entry)
    for errand in errands.values():
        entry = {
            "node_id": errand.node_id,
            "steps": [step.value for step in errand.steps],
            "text": errand.text,
            "since": _time_text(errand.since),
        }
        lists["owed"].append(entry)
    # The reference's own two: null for no trusted peer, no member for no pending one.
    document: dict[str, Any] = {"trusted": lists.pop("trusted") or None}
    document.update({name: entries for name, entries in lists.items() if entries})
    text = json.dumps(document, indent=2, ensure_ascii=False)
    text = _HTML_UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
    return _SURROGATE.sub("\ufffd", text).encode("utf-8")


def _time_text(seconds: float) -> str:
    """RFC 3339, whole seconds, local offset; C{Z} for none."""
    try:
        local = datetime.fromtimestamp(int(seconds), UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        local = datetime.fromtimestamp(0, UTC)
    return local.isoformat(timespec="seconds").replace("+00:00", "Z")


# -- reading -------------------------------------------------------------------------------------


def decode(data: bytes) -> tuple[Book, list[str]]:
    """
    Read a trust file.

    @return: what could be read, and what was wrong with the rest.  A peer that stands in
        several lists keeps the most telling entry: trusted, then requested, pending, revoked.
    """
    book = Book({}, {})
    try:
        document = load(data)
    except WireError as error:
        return book, [error.message]
    if not isinstance(document, dict):
        return book, ["it is no JSON object"]
    faults: list[str] = []

    def entries(name: str) -> Iterable[tuple[int, dict[str, Any]]]:
        found = document.get(name)
        if found is None:
            return
        if not isinstance(found, list):
            faults.append(f'"{name}" is no list')
            return
        for entry in found:
            node_id = entry.get("node_id") if isinstance(entry, dict) else None
            if type(node_id) is int and 0 <= node_id <= 0xFFFFFFFF:
                yield node_id, entry
            else:
                faults.append(f'an entry of "{name}" names no node')

    for name, read in _READERS:
        for node_id, entry in entries(name):
            try:
                book.records[node_id] = read(entry)
            except _EntryError as odd:
                faults.append(f'node {node_id} in "{name}": {odd}')
    for node_id, entry in entries("owed"):
        try:
            book.errands[node_id] = _read_errand(node_id, entry)
        except _EntryError as odd:
            faults.append(f'node {node_id} in "owed": {odd}')
    return book, faults


class _EntryError(Exception):
    """A member of an entry has the wrong type."""


def _member(entry: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = entry.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        raise _EntryError(f'"{name}" makes no sense')
    return value


def _time(entry: dict[str, Any], name: str) -> float:
    """A time nobody can read counts as long ago, as in the reference."""
    text = _member(entry, name, str, "")
    if not _RFC3339.match(text):
        return 0.0
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        return 0.0


def _read_trusted(entry: dict[str, Any]) -> Trusted:
    return Trusted(
        _member(entry, "public_key", str, ""),
        _time(entry, "approved_at"),
        _member(entry, "mutual", bool, False),
        _member(entry, "network", int, 0),
    )


def _read_pending(entry: dict[str, Any]) -> Pending:
    return Pending(
        _member(entry, "public_key", str, ""),
        _member(entry, "justification", str, ""),
        _time(entry, "received_at"),
    )


def _read_requested(entry: dict[str, Any]) -> Requested:
    return Requested(
        _time(entry, "asked_at"),
        _member(entry, "justification", str, ""),
        _member(entry, "drained", bool, False),
    )


def _read_revoked(entry: dict[str, Any]) -> Revoked:
    return Revoked(_time(entry, "revoked_at"), _member(entry, "by_user", bool, True))


def _read_errand(node_id: int, entry: dict[str, Any]) -> Errand:
    names = _member(entry, "steps", list, [])
    try:
        steps = ordered({Step(name) for name in names})
    except (ValueError, TypeError):
        raise _EntryError('"steps" makes no sense') from None
    return Errand(node_id, steps, _member(entry, "text", str, ""), _time(entry, "since"))


# From the least telling to the most: a later list overwrites.
_READERS: tuple[tuple[str, Callable[[dict[str, Any]], Record]], ...] = (
    ("revoked", _read_revoked),
    ("pending", _read_pending),
    ("requested", _read_requested),
    ("trusted", _read_trusted),
)
