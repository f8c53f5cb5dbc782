"""Python for an operator, in the running daemon: what is typed cannot end it by accident.

An exception, a syntax error, C{sys.exit()}: each ends in words on the operator's screen.  Only a
loop that does not end, or a call that blocks, holds up the node, since there is one thread.
"""

from __future__ import annotations

import code
import contextlib
import io
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pilot.plaintext import printable

#: Characters of one unfinished statement, and of the result of one Deferred.
MAX_SOURCE, MAX_RESULT = 1 << 20, 1 << 16


class Interpreter(code.InteractiveInterpreter):
    """
    One session's interpreter.

    @ivar failed: whether the last statement ended in an exception, or was none.
    @ivar waiting: how many of the Deferreds it has shown have not fired yet.
    @ivar on_quiet: called when none is left of these.
    """

    def __init__(
        self,
        names: dict[str, Any],
        write: Callable[[str, bool], object],
        leave: Callable[[int], object],
        *,
        plain: bool = False,
    ) -> None:
        """
        @param write: shows text; the flag says that nobody has asked for it just now.
        @param leave: ends the session, with an exit status.
        @param plain: show of a Deferred only its result.
        """
        super().__init__({**names, "exit": Leave("exit"), "quit": Leave("quit")})
        self.failed = False
        self.waiting = 0
        self.on_quiet: Callable[[], object] | None = None
        self._write = write
        self._leave = leave
        self._plain = plain
        self._lines: list[str] = []
        self._numbers = itertools.count()
        self._closed = False

    def close(self) -> None:
        """The session is over: show nothing any more, and let go of what it made."""
        self._closed = True
        self._lines.clear()
        self.locals.clear()

    def line(self, text: str) -> bool:
        """@return: whether the statement goes on after this line."""
        self._lines.append(text)
        if sum(map(len, self._lines)) > MAX_SOURCE:
            self.forget()
            self._refuse(f"the statement is longer than {MAX_SOURCE} characters")
            return False
        self.failed = False
        try:
            more = bool(self.runsource("\n".join(self._lines), "<manhole>"))
        except Exception:  # the compiler itself gave up: too deep, too large
            self._refuse(_last_line(Failure()))
            more = False
        if not more:
            self.forget()
        return more

    def end(self) -> None:
        """There comes no further line: a statement that is not complete never will be."""
        if self._lines and self.line(""):
            self.forget()
            self._refuse("SyntaxError: the last statement is not complete")

    def forget(self) -> None:
        """Give an unfinished statement up."""
        self._lines.clear()

    def _refuse(self, why: str) -> None:
        self.failed = True
        self.write(f"{why}\n")

    # -- what the standard library calls -------------------------------------------------------

    def runcode(self, compiled: Any) -> None:
        """Run a statement, with its output going to the operator."""
        try:
            with self._captured():
                exec(compiled, self.locals)
        except SystemExit as request:
            self._leave(_status(request.code))
        except BaseException:  # whatever somebody types must not reach the reactor
            self.showtraceback()

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        """Show the exception that is being handled."""
        self.failed = True
        with self._captured():
            super().showtraceback(*args, **kwargs)

    def showsyntaxerror(self, *args: Any, **kwargs: Any) -> None:
        """Show what is wrong with the source."""
        self.failed = True
        with self._captured():
            super().showsyntaxerror(*args, **kwargs)

    def write(self, data: str) -> None:
        """Show text."""
        if not self._closed:
            self._write(data, False)

    # -- results -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _captured(self) -> Iterator[None]:
        screen = _Screen(self.write)
        before = sys.stdin, sys.displayhook, sys.excepthook, sys.breakpointhook
        sys.stdin = io.StringIO()  # nobody is there for input() to ask
        sys.displayhook, sys.excepthook = self._show, sys.__excepthook__
        sys.breakpointhook = _no_debugger
        try:
            with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
                yield
        finally:
            sys.stdin, sys.displayhook, sys.excepthook, sys.breakpointhook = before

    def _show(self, value: Any) -> None:
        if value is None:
            return
        self.locals["_"] = value
        if not isinstance(value, Deferred):
            self.write(f"{value!r}\n")
            return
        number = next(self._numbers)
        label = "" if self._plain else f"Deferred #{number}"
        fired: list[None] = []
        self.waiting += 1
        value.addBoth(self._fired, fired, label)
        if not fired and label:
            self.write(f"<{label}>\n")
        fired.append(None)

    def _fired(self, result: Any, asked: list[None], label: str) -> Any:
        """Show what became of a Deferred; what is typed next may still use its result."""
        unasked, failed = bool(asked), isinstance(result, Failure)
        asked.append(None)
        self.waiting -= 1
        if self._closed:
            return result
        shown = (_last_line(result) if failed else _repr(result))[:MAX_RESULT]
        self.failed = self.failed or failed
        if label and (unasked or failed):
            shown = f"{label} {'failed' if failed else 'fired'}: {shown}"
        if label or failed or result is not None:
            self._write(f"{shown}\n", unasked)
        if self.on_quiet is not None and not self.waiting:
            self.on_quiet()
        # It was seen: nobody else need take the failure.
        return None if failed else result


class Leave:
    """Ends the session, by its name alone or called, as in a shell; the daemon goes on"""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"{self._name}() or Ctrl-D ends the session; the daemon goes on"

    def __call__(self, code: object = None) -> None:
        raise SystemExit(code)


class _Screen(io.TextIOBase):
    """Standard output of what is typed."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._show(text)
        return len(text)


def _no_debugger(*args: object, **kwargs: object) -> None:
    raise RuntimeError("there is no debugger here: it would stop the whole node")


def harmless(text: str) -> bytes:
    """@return: text for a terminal, that moves no cursor whoever wrote it; lines end with LF."""
    return printable(text.replace("\r\n", "\n"), "\n\t").encode("utf-8", "replace")


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # somebody's __repr__
        return f"<{type(value).__name__} whose repr fails: {_last_line(Failure())}>"


def _last_line(failure: Failure) -> str:
    """Type and words of an exception."""
    try:
        words = " ".join(failure.getErrorMessage().split())
    except Exception:  # somebody's __str__
        words = ""
    name = failure.type.__name__ if failure.type else "error"
    return f"{name}: {words}" if words else name


def _status(code: object) -> int:
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1
