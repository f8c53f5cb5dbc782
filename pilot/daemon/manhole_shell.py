"""The three ways to talk to the manhole: at a terminal, through a pipe, with one command.

@see: the page I{Manhole}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.conch.insults.insults import ServerProtocol
from twisted.conch.manhole import CTRL_A, CTRL_BACKSLASH, CTRL_C, CTRL_D, CTRL_E, CTRL_L
from twisted.conch.recvline import HistoricRecvLine
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.daemon.manhole_interpreter import Interpreter, harmless

log = Logger()

#: Lines that the arrow keys go back, bytes of one line, and of piped input that waits for its end.
MAX_HISTORY, MAX_LINE, MAX_PIPED = 500, 1 << 16, 1 << 20

#: Ends a session, with an exit status.
Leave = Callable[[int], object]


class Terminal(HistoricRecvLine):
    """A prompt at a terminal: lines are edited, and remembered."""

    def __init__(self, names: dict[str, Any], greeting: str, leave: Leave) -> None:
        super().__init__()
        self._greeting = greeting
        self._leave = leave
        self.interpreter = Interpreter(names, self.show, leave)

    def connectionMade(self) -> None:
        """Greet, and ask for the first line."""
        super().connectionMade()
        self.keyHandlers |= {
            CTRL_A: self.handle_HOME,
            CTRL_C: self.interrupt,
            CTRL_D: self.end_of_input,
            CTRL_E: self.handle_END,
            CTRL_L: self.redraw,
            CTRL_BACKSLASH: lambda: self._leave(0),
        }

    def connectionLost(self, reason: Failure) -> None:
        """The operator is gone."""
        self.interpreter.close()

    def initializeScreen(self) -> None:
        """Leave what is on the screen where it is, unlike conch."""
        self.terminal.write(harmless(self._greeting) + self.ps[0])
        self.setInsertMode()

    def terminalSize(self, width: int, height: int) -> None:
        """Remember the size; the screen is not ours to clear."""
        self.width, self.height = width, height

    def keystrokeReceived(self, keyID: Any, modifier: Any) -> None:
        """A key; bytes of UTF-8 come one by one and are as good as any other."""
        if isinstance(keyID, bytes) and len(keyID) == 1 and keyID >= b"\x80":
            self.characterReceived(keyID, False)
        elif keyID in self.keyHandlers or keyID in self._printableChars:
            super().keystrokeReceived(keyID, modifier)

    def characterReceived(self, ch: bytes, moreCharactersComing: bool) -> None:
        """A character of the line, while there is room."""
        if len(self.lineBuffer) < MAX_LINE:
            super().characterReceived(ch, moreCharactersComing)

    def lineReceived(self, line: bytes) -> None:
        """Run a line."""
        del self.historyLines[:-MAX_HISTORY]
        self.historyPosition = len(self.historyLines)
        self.pn = int(self.interpreter.line(line.decode("utf-8", "replace")))
        self.terminal.write(self.ps[self.pn])

    def show(self, text: str, unasked: bool) -> None:
        """Write text; what nobody asked for just now goes above the line being typed."""
        if unasked:
            self.terminal.write(b"\r")
            self.terminal.eraseLine()
        self.terminal.write(harmless(text))
        if unasked:
            self.drawInputLine()
            if behind := len(self.lineBuffer) - self.lineBufferIndex:
                self.terminal.cursorBackward(behind)

    def interrupt(self) -> None:
        """Ctrl-C: give the statement up."""
        self.pn = 0
        self.lineBuffer = []
        self.lineBufferIndex = 0
        self.interpreter.forget()
        self.terminal.write(b"\nKeyboardInterrupt\n" + self.ps[0])

    def end_of_input(self) -> None:
        """Ctrl-D: leave, unless something was typed."""
        if not self.lineBuffer:
            self.terminal.write(b"\n")
            self._leave(0)

    def redraw(self) -> None:
        """Ctrl-L: an empty screen."""
        self.terminal.eraseDisplay()
        self.terminal.cursorHome()
        self.drawInputLine()


class _Plain(Protocol):
    """What a session without a terminal has in common: it ends when nothing is left to show."""

    def __init__(self, names: dict[str, Any], leave: Leave, *, plain: bool) -> None:
        self._leave = leave
        self._left = False
        self._interpreter = Interpreter(names, self._show, self._go, plain=plain)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The operator is gone."""
        self._left = True
        self._interpreter.close()

    def _line(self, text: str) -> None:
        if not self._left:
            self._interpreter.line(text)

    def _end(self) -> None:
        """Wait for the Deferreds that were shown, and leave."""
        if self._left:
            return
        self._interpreter.end()
        self._interpreter.on_quiet = self._quiet
        if not self._interpreter.waiting:
            self._quiet()

    def _quiet(self) -> None:
        self._go(int(self._interpreter.failed))

    def _show(self, text: str, unasked: bool) -> None:
        if self.transport is not None and not self._left:
            self.transport.write(harmless(text))

    def _go(self, status: int) -> None:
        if not self._left:
            self._left = True
            self._leave(status)


class Pipe(_Plain):
    """Statements through a pipe: no prompts, no echo; the exit status is that of the last one."""

    def __init__(self, names: dict[str, Any], leave: Leave) -> None:
        super().__init__(names, leave, plain=False)
        self._rest = b""

    def dataReceived(self, data: bytes) -> None:
        """Run the lines that are whole."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(_text(line))
        if len(self._rest) > MAX_PIPED:
            self._rest = b""
            self._show(f"a line is longer than {MAX_PIPED} bytes\n", False)
            self._go(1)

    def end_of_input(self) -> None:
        """There comes no more."""
        rest, self._rest = self._rest, b""
        if rest:
            self._line(_text(rest))
        self._end()


class Command(_Plain):
    """One command: expressions, of which the result is shown, or statements."""

    def __init__(self, names: dict[str, Any], leave: Leave, source: str) -> None:
        super().__init__(names, leave, plain=True)
        self._source = source

    def run(self) -> None:
        """Run it, up to the first mistake; the session ends when that is done."""
        for line in self._source.strip().split("\n"):
            self._line(line)
            if self._interpreter.failed:
                break
        self._end()

    def end_of_input(self) -> None:
        """A command has no input; C{ssh -n} says so at once."""


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", "replace")


def terminal(names: dict[str, Any], greeting: str, leave: Leave) -> Any:
    """@return: a protocol that speaks to a terminal."""
    return ServerProtocol(Terminal, names, greeting, leave)
