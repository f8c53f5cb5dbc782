"""What a command's function is given: its arguments, and the way to the daemon."""

from __future__ import annotations

from pilot.client.blocking import DaemonClient, DaemonError, Disconnected
from pilot.errors import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.arguments import Arguments
    from pilot.ctl.console import Console
    from pilot.ctl.settings import Settings


class Call:
    """
    One run of one command.

    @ivar name: of the command.
    @ivar words: the positional arguments.
    @ivar flags: value of each flag given.
    @ivar console: where to print progress; the result is returned.
    @ivar settings: files, environment, configuration.
    """

    __slots__ = ("console", "flags", "name", "settings", "words")

    def __init__(self, arguments: Arguments, console: Console, settings: Settings) -> None:
        self.name = arguments.command.name
        self.words = arguments.positionals
        self.flags = arguments.flags
        self.console = console
        self.settings = settings

    def word(self, index: int) -> str | None:
        """@return: a positional argument, if it was given."""
        return self.words[index] if index < len(self.words) else None

    def switch(self, flag: str) -> bool:
        """@return: whether it is on."""
        return self.flags.get(flag) == "true"

    def duration(self, flag: str, default: float) -> float:
        """@return: seconds.  @raise InvalidArgument: no duration."""
        if flag not in self.flags:
            return default
        from pilot.ctl.values import parse_duration

        return parse_duration(self.flags[flag], flag)

    def integer(self, flag: str, default: int) -> int:
        """@return: the number.  @raise InvalidArgument: no number."""
        if flag not in self.flags:
            return default
        from pilot.ctl.values import parse_integer

        return parse_integer(self.flags[flag], flag)

    def connect(self) -> DaemonClient:
        """@return: a connection to the daemon.  @raise NotRunning: there is none."""
        return DaemonClient(self.settings.socket)

    def ask(
        self,
        client: DaemonClient,
        command: int,
        payload: bytes,
        operation: str,
        *,
        label: str | None = None,
    ) -> dict[str, Any]:
        """
        Ask the daemon something that it answers in JSON.

        @param operation: what the request is called in error messages.
        @param label: what the command is called there, unless by its name.
        @raise ConnectionFailed: it refused; the message is C{label: operation: daemon: why}.
        """
        try:
            return client.request_json(command, payload)
        except (DaemonError, Disconnected) as error:
            raise ConnectionFailed(f"{label or self.name}: {operation}: {error.message}") from None
