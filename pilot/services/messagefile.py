"""Messages as files of the inbox: one JSON object each, for whatever program reads them.

Shared by the service, which writes them, and by C{pilotctl}, which lists them; so nothing heavy is
imported.

@see: the page I{Data exchange}, I{The inbox}.
"""

from __future__ import annotations

import binascii
import codecs
import os
import re

from pilot.errors import WireError
from pilot.wire.jsontext import dump, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

SUFFIX = ".json"

_PIECE = 3 << 16  # bytes; a multiple of three, so that pieces of base64 can be joined
_SURROGATES = "[\ud800-\udfff]"
_NAME = r"-\d{8}-\d{6}\.(\d{3})(?:-(\d+))?\.json$"


def message_name(kind: str, stamp: str, copy: int = 0) -> bytes:
    """
    @param kind: C{TEXT}, C{JSON} or C{BINARY}.
    @param copy: tells messages of one stamp apart; 0 adds nothing.
    @return: C{TEXT-20261120-160036.544.json}, or with C{-1} after the stamp.
    """
    mark = f"-{copy}" if copy else ""
    return f"{kind}-{stamp}{mark}{SUFFIX}".encode()


def write_message(
    out: BinaryIO, content: BinaryIO, *, kind: str, size: int, sender: str, received_at: str
) -> None:
    """
    Write one message, piece by piece, in little memory.

    C{data} is the content as text.  Bytes that are no UTF-8 are U+FFFD there; then the whole
    content stands once more in C{data_base64}, so that nothing is lost.

    @param content: open at its start, seekable.
    @param size: bytes of it.
    """
    out.write(b'{"bytes":%d,"data":"' % size)
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    damaged, final = False, False
    while not final:
        piece = content.read(_PIECE)
        final = not piece
        text = decoder.decode(piece, final)
        damaged = damaged or bool(re.search(_SURROGATES, text))
        out.write(dump(text)[1:-1])
    out.write(b'"')
    if damaged:
        content.seek(0)
        out.write(b',"data_base64":"')
        while piece := content.read(_PIECE):
            out.write(binascii.b2a_base64(piece, newline=False))
        out.write(b'"')
    rest = dump({"from": sender, "received_at": received_at, "type": kind})
    out.write(b"," + rest[1:])


class StoredMessage:
    """
    A message of the inbox.

    @ivar path: its file.
    @ivar fields: what the file says, as it says it.
    """

    __slots__ = ("fields", "order", "path")

    def __init__(self, path: str, fields: dict[str, Any], order: tuple[Any, ...]) -> None:
        self.path = path
        self.fields = fields
        self.order = order

    @property
    def payload(self) -> Any:
        """
        The content, read as JSON: of a message that calls itself JSON whatever value it is, of
        another one an object, so that C{42} somebody typed stays text.  Else C{None}.
        """
        data = self.fields.get("data")
        if not isinstance(data, str):
            return None
        declared = self.fields.get("type") == "JSON"
        if not declared and not data.lstrip(" \t\r\n").startswith("{"):
            return None
        try:
            return load(data.encode("utf-8", "replace"))
        except WireError:
            return None


def read_inbox(directory: str) -> list[StoredMessage]:
    """
    @return: the messages, in the order of their arrival.  Whatever is not a JSON object, whole and
        readable, is skipped.
    @raise OSError: there is no such directory, or it cannot be read.
    """
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                if not entry.is_file():
                    continue
                with open(entry.path, "rb") as file:
                    content = file.read()
                    written = os.fstat(file.fileno()).st_mtime
                fields = load(content)
            except (OSError, WireError):
                continue
            if isinstance(fields, dict):
                order = (*_arrival(entry.name, fields.get("received_at"), written), entry.name)
                found.append(StoredMessage(entry.path, fields, order))
    found.sort(key=lambda message: message.order)
    return found


def _arrival(name: str, received_at: Any, written: float) -> tuple[int, int, int]:
    """Seconds since the epoch, milliseconds, number of the copy."""
    from datetime import datetime

    match = re.search(_NAME, name)
    part, copy = (int(match[1]), int(match[2] or 0)) if match else (0, 0)
    try:
        # Not the stamp in the name: local time runs twice through an hour a year.
        return int(datetime.fromisoformat(received_at).timestamp()), part, copy
    except (TypeError, ValueError, OverflowError):
        return int(written), part, copy
