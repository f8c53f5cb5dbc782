"""The C{pilotctl} program: read the words, run the command, print what it returns."""

from __future__ import annotations

import sys

from pilot.ctl.arguments import HelpWanted, UnknownCommand, split_words
from pilot.ctl.call import Call
from pilot.ctl.console import Console
from pilot.ctl.settings import Settings
from pilot.errors import PilotError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilot.ctl.console import Result


def main(words: Sequence[str] | None = None) -> int:
    """
    Run one command.

    @param words: the words after the program's name; C{None} takes those of the process.
    @return: exit status: 0, or 1 after an error, or 2 after the usage text.
    """
    given = sys.argv[1:] if words is None else words
    rest = [word for word in given if word != "--json"]
    console = Console(json=len(rest) < len(given))
    try:
        return _run(rest, console)
    except PilotError as error:
        console.error(error)
        return 1
    except KeyboardInterrupt:
        return _die_by("SIGINT")
    except BrokenPipeError:
        # Whoever read our output left.  Like any program in a pipe, go without a word.
        return _die_by("SIGPIPE")
    except Exception as error:
        return _broken(console, error)


def _run(words: Sequence[str], console: Console) -> int:
    if not words:
        return _usage(console)
    try:
        arguments = split_words(words)
    except HelpWanted as wanted:
        from pilot.ctl.discovery import help_text

        console.line(help_text(wanted.command, wanted.group))
        return 0
    except UnknownCommand as error:
        if console.json:
            raise
        similar = error.hint if error.hint and error.hint.startswith("did you mean") else ""
        console.complain(error.message)
        if similar:
            console.complain(similar)
        console.complain("")
        return _usage(console)
    call = Call(arguments, console, Settings())
    result = _function(arguments.command.run)(call)
    console.result(result)
    return result.status


def _function(path: str) -> Callable[[Call], Result]:
    module, _, name = path.partition(":")
    __import__(module)
    function: Callable[[Call], Result] = getattr(sys.modules[module], name)
    return function


def _usage(console: Console) -> int:
    from pilot.ctl.discovery import usage_text

    console.complain(usage_text())
    return 2


def _die_by(name: str) -> int:
    """End as the signal would have ended the program, so that a shell sees it."""
    import os
    import signal

    number = getattr(signal, name)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + int(number)


def _broken(console: Console, error: Exception) -> int:
    import os

    if os.environ.get("PILOT_DEBUG"):
        raise error
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        console.error(PilotError(f"{name}{error.strerror}"))
    else:
        console.error(
            PilotError(
                f"unexpected {type(error).__name__}: {error}",
                hint="this is a mistake in pilotctl; PILOT_DEBUG=1 shows where",
            )
        )
    return 1


if __name__ == "__main__":
    sys.exit(main())
