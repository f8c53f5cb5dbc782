"""What C{pilotctl} prints: the envelope for programs, text for people, errors for both.

Everything goes out as UTF-8 and at once, whatever the locale and whoever reads.

@see: C{docs/reference/pilotctl.md}, I{Output}.
"""

from __future__ import annotations

import sys

from pilot.wire.ipcframes import encode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, BinaryIO

    from pilot.errors import PilotError

MAX_ROWS = 50
"""Rows of a table that people are shown; C{--json} has all of them."""


class Result:
    """
    What a command found out.

    @ivar data: the C{data} of the envelope; C{None} prints nothing in JSON mode.
    @ivar text: what people see, without the last newline; C{None} shows C{data} indented, the empty
        text nothing.
    @ivar status: exit status.
    @ivar beside: members of the envelope besides C{data} and C{status}.
    """

    __slots__ = ("beside", "data", "status", "text")

    def __init__(
        self,
        data: dict[str, Any] | None,
        text: str | None = None,
        *,
        status: int = 0,
        beside: dict[str, Any] | None = None,
    ) -> None:
        self.data = data
        self.text = text
        self.status = status
        self.beside = beside or {}


class Console:
    """
    The two streams of the process, in one of two modes.

    @param json: whether a program reads.
    """

    __slots__ = ("json",)

    def __init__(self, json: bool) -> None:
        self.json = json

    def result(self, result: Result) -> None:
        """Print what a command found out."""
        if self.json:
            if result.data is not None:
                self.json_line({"status": "ok", "data": result.data, **result.beside})
        elif result.text is None:
            self.line(indented(result.data))
        elif result.text:
            self.line(result.text)

    def error(self, error: PilotError) -> None:
        """Print why a command failed."""
        if self.json:
            members = {"status": "error", "code": error.code, "message": error.message}
            if error.hint:
                members["hint"] = error.hint
            self._err(encode_json(members) + b"\n")
            return
        from pilot.ctl.values import printable

        self.complain(f"error: {printable(error.message)}")
        if error.hint:
            self.complain(f"hint:  {printable(error.hint)}")

    def json_line(self, value: Any) -> None:
        """Print one JSON value on a line of its own."""
        self.data(encode_json(value) + b"\n")

    def line(self, text: str) -> None:
        """Print text for people."""
        self.data(as_bytes(text) + b"\n")

    def data(self, data: bytes) -> None:
        """Print bytes as they are."""
        out: BinaryIO = sys.stdout.buffer
        out.write(data)
        out.flush()

    def payload(self, data: bytes, end: bytes = b"") -> None:
        """Print what a peer sent: as it is, but harmless where it would go to a terminal."""
        if self.on_terminal:
            from pilot.ctl.values import printable

            data = printable(as_text(data), keep="\n\t").encode()
        self.data(data + end)

    def progress(self, text: str) -> None:
        """Tell a person how it is going; a program is not told."""
        if not self.json:
            self.complain(text)

    def complain(self, text: str) -> None:
        """Print a line on the error stream."""
        self._err(as_bytes(text) + b"\n")

    def redraw(self, text: str) -> None:
        """Replace the last line of a terminal's error stream."""
        self._err(b"\r\x1b[K" + as_bytes(text))

    @property
    def shows_progress(self) -> bool:
        """Whether a person watches the error stream on a terminal."""
        return not self.json and sys.stderr.isatty()

    @property
    def on_terminal(self) -> bool:
        """Whether a person watches the output on a terminal."""
        return not self.json and sys.stdout.isatty()

    def _err(self, data: bytes) -> None:
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()


def as_bytes(text: str) -> bytes:
    """@return: UTF-8; a byte of the command line that is no UTF-8 comes out as it went in."""
    return text.encode("utf-8", "surrogateescape")


def as_text(data: bytes) -> str:
    """@return: UTF-8 decoded; what is none becomes U+FFFD."""
    return data.decode("utf-8", "replace")


def indented(value: Any) -> str:
    """@return: JSON for people: two blanks a level, keys sorted, escapes as in the compact form."""
    import json

    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # Control characters are escaped already; this covers what JSON allows and terminals mind.
    from pilot.ctl.values import printable

    return printable(text, keep="\n")


def table(titles: Sequence[str], widths: Sequence[int], rows: Sequence[Sequence[str]]) -> str:
    """
    @param widths: least width of each column; a longer cell widens its column.
    @return: aligned lines with two blanks between the columns, at most L{MAX_ROWS} of them, and a
        note when there are more.
    """
    from pilot.ctl.values import printable

    shown = [titles, *([printable(cell) for cell in row] for row in rows[:MAX_ROWS])]
    sizes = [max(least, *(len(row[i]) for row in shown)) for i, least in enumerate(widths)]
    lines = [
        "  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip()
        for row in shown
    ]
    if len(rows) > MAX_ROWS:
        lines.append(f"... and {len(rows) - MAX_ROWS} more (--json shows all)")
    return "\n".join(lines)
