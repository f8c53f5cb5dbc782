"""Mail on disk: what is called stored here survives a loss of power, content and name.

Everything here blocks and belongs on a worker thread.

@see: the page I{Data exchange}, I{Guarantees}.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from pilot.services.arriving import ArrivingFile, ArrivingLargeMessage, ArrivingMessage
from pilot.services.shelf import NotStored, Shelf
from pilot.services.spool import Spool

INBOX = "inbox"
RECEIVED = "received"
SPOOL = "spool"

_MIB = 1024 * 1024


@dataclass(frozen=True)
class MailLimits:
    """
    How much mail is kept.  What other programs put into the directories counts, too.

    @ivar inbox_messages: messages of the inbox.
    @ivar inbox_bytes: bytes of all its files.
    @ivar received_files: received files.
    @ivar received_bytes: bytes of all of them.
    """

    inbox_messages: int = 10_000
    inbox_bytes: int = 256 * _MIB
    received_files: int = 10_000
    received_bytes: int = 10 * 1024 * _MIB


class Message(NamedTuple):
    """
    A message that has arrived.

    @ivar kind: C{TEXT}, C{JSON} or C{BINARY}.
    @ivar content: as it came.
    @ivar sender: address, without port.
    @ivar arrived: nanoseconds since the epoch.
    @ivar ordinal: how many messages arrived before it in the same millisecond.
    """

    kind: str
    content: bytes
    sender: str
    arrived: int
    ordinal: int


class MailStore:
    """
    The inbox, the received files, and what is on its way to them.

    @param home: the directory that holds all three.
    """

    def __init__(self, home: Path, limits: MailLimits) -> None:
        self._inbox = Shelf(home / INBOX, "messages", limits.inbox_messages, limits.inbox_bytes)
        self._received = Shelf(
            home / RECEIVED, "files", limits.received_files, limits.received_bytes
        )
        self._spool = Spool(home / SPOOL)

    def prepare(self) -> None:
        """Remove what a crash has left behind."""
        with contextlib.suppress(OSError):  # whoever stores something finds out
            self._spool.prepare()

    def file(self, name: bytes) -> ArrivingFile:
        """@return: a file to be stored under C{name}, nearly."""
        return ArrivingFile(self._spool, self._received, name)

    def message(self, kind: str, sender: str) -> ArrivingLargeMessage:
        """@return: a message to be stored."""
        return ArrivingLargeMessage(self._spool, self._inbox, kind, sender)

    def deliver(self, messages: Sequence[Message]) -> list[Path | NotStored]:
        """
        Store messages together, which costs less than one by one.

        @return: for each of them its record, or why it could not be stored.
        """
        outcomes: list[Path | NotStored] = []
        for message in messages:
            try:
                outcomes.append(self._deliver(message))
            except NotStored as error:
                outcomes.append(error)
        try:
            self._inbox.sync([each for each in outcomes if isinstance(each, Path)])
        except NotStored as error:
            return [error if isinstance(each, Path) else each for each in outcomes]
        return outcomes

    def _deliver(self, message: Message) -> Path:
        size = len(message.content)
        record = ArrivingMessage(self._spool, self._inbox, message.kind, message.sender)
        record.open(size)
        return record.place(BytesIO(message.content), size, message.arrived, message.ordinal)
