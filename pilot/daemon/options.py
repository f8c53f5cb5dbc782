"""The daemon's command line, for C{pilot-daemon} and C{twistd pilot} alike."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

from twisted.python import usage

from pilot import _version
from pilot.daemon import values
from pilot.daemon.settings import SETTINGS, DaemonSettings, settle
from pilot.errors import InvalidArgument

__all__ = ["DaemonOptions", "DaemonSettings"]

_SWITCHES = frozenset(setting.name for setting in SETTINGS if setting.is_switch)
_NAMES = {setting.name for setting in SETTINGS} | {"config"}


class DaemonOptions(usage.Options):
    """
    All flags, with one dash or two; switches also as C{--switch=false}.

    @ivar settings: what they come to, together with configuration file and environment; set by
        C{parseOptions}.
    """

    synopsis = "[options]"
    longdesc = (
        "Runs one Pilot Protocol node. Every option can also stand in ~/.pilot/config.json"
        " (PILOT_HOME moves ~/.pilot) under its own name."
    )
    optFlags: ClassVar[list[Any]] = [
        [setting.name, None, setting.help] for setting in SETTINGS if setting.is_switch
    ]
    optParameters: ClassVar[list[Any]] = [
        [setting.name, None, None, setting.help] for setting in SETTINGS if not setting.is_switch
    ] + [["config", None, None, "JSON file to read instead of ~/.pilot/config.json."]]

    settings: DaemonSettings

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read a command line and settle everything.

        @raise usage.UsageError: something makes no sense; the message says what.
        """
        self._switched: dict[str, bool] = {}
        words = sys.argv[1:] if options is None else list(options)
        super().parseOptions(self._normal(words))  # type: ignore[no-untyped-call]  # Twisted's

    def parseArgs(self, *arguments: str) -> None:
        """There are no arguments beside options."""
        if arguments:
            raise usage.UsageError(f"unexpected argument {arguments[0]!r}; options begin with --")

    def opt_version(self) -> NoReturn:
        """Display the version and exit."""
        print(f"pilot-daemon {_version.__version__}")
        sys.exit(0)

    def postOptions(self) -> None:
        """Everything was read."""
        given: dict[str, Any] = {name: self[name] for name in _NAMES if self[name]}
        given.update((name, "") for name in _NAMES - _SWITCHES if self[name] == "")
        given.update(self._switched)
        try:
            self.settings = settle(given, os.environ, given.pop("config", None))
        except InvalidArgument as error:
            raise usage.UsageError(error.message) from None

    def _normal(self, words: list[str]) -> list[str]:
        """Bring the words into the one form getopt knows: two dashes, switches taken out."""
        normal: list[str] = []
        rest = iter(words)
        for word in rest:
            if word == "--":
                return [*normal, word, *rest]
            name, equals, value = word.lstrip("-").partition("=")
            if not word.startswith("-") or name not in _NAMES:
                normal.append(word)
            elif name in _SWITCHES:
                self._switched[name] = self._switch(name, value) if equals else True
            else:
                # The next word is the value, whatever it looks like.
                text = value if equals else next(rest, None)
                normal.append(f"--{name}" if text is None else f"--{name}={text}")
        return normal

    def _switch(self, name: str, value: str) -> bool:
        try:
            return values.boolean(value)
        except InvalidArgument as error:
            raise usage.UsageError(f"--{name}: {error.message}") from None
