"""Command lines as Go's flag package reads them: one dash or two, C{-switch=false}."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NoReturn

from twisted.python import usage

from pilot import _version
from pilot.daemon import values
from pilot.daemon.setting import Setting
from pilot.errors import InvalidArgument

_SHORT = {"-h": "--help", "-help": "--help", "-version": "--version"}


def parameters(settings: Iterable[Setting]) -> list[list[Any]]:
    """@return: C{optParameters} for the settings that take a value."""
    return [[one.name, None, None, _help(one)] for one in settings if not one.is_switch]


def lists(settings: Iterable[Setting]) -> frozenset[str]:
    """@return: names of the settings that may be given more than once."""
    return frozenset(one.name for one in settings if one.is_list)


def switches(settings: Iterable[Setting]) -> list[list[Any]]:
    """@return: C{optFlags} for the settings that take none."""
    return [[one.name, None, one.help] for one in settings if one.is_switch]


class FlagOptions(usage.Options):
    """
    Options with long names only.

    @cvar program: what C{--version} and complaints call it.
    @cvar lists: parameters that may be given more than once.
    @ivar given: what was on the command line: texts, lists of texts, and booleans for switches.
    """

    program: ClassVar[str]
    lists: ClassVar[frozenset[str]] = frozenset()
    optFlags: ClassVar[list[Any]]
    optParameters: ClassVar[list[Any]]
    given: dict[str, Any]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read a command line.

        @raise usage.UsageError: something makes no sense; the message says what.
        """
        self._switches = {flag[0] for flag in self.optFlags}
        self._texts = {parameter[0] for parameter in self.optParameters}
        self._switched: dict[str, bool] = {}
        self._gathered: dict[str, list[str]] = {}
        words = sys.argv[1:] if options is None else list(options)
        super().parseOptions(self._normal(words))

    def parseArgs(self, *arguments: str) -> None:
        """There are no arguments beside options."""
        if arguments:
            raise usage.UsageError(f"unexpected argument {arguments[0]!r}; options begin with --")

    def opt_version(self) -> NoReturn:
        """Display the version and exit."""
        print(f"{self.program} {_version.__version__}")
        sys.exit(0)

    def postOptions(self) -> None:
        """Everything was read: collect it, and settle it."""
        self.given = {name: self[name] for name in self._texts if self[name] is not None}
        # A unique beginning of a switch's name gets here without having been taken out.
        self.given.update({name: True for name in self._switches if self[name]})
        self.given.update(self._switched)
        self.given.update(self._gathered)
        try:
            self.settle()
        except InvalidArgument as error:
            raise usage.UsageError(error.message) from None

    def settle(self) -> None:
        """Make settings of C{given}.  @raise InvalidArgument: they make no sense."""
        raise NotImplementedError

    def _normal(self, words: list[str]) -> list[str]:
        """Bring the words into the one form getopt knows: two dashes, switches taken out."""
        normal: list[str] = []
        rest = iter(words)
        for word in rest:
            if word == "--":
                return [*normal, word, *rest]
            name, equals, value = word.lstrip("-").partition("=")
            if word.startswith("-") and name in self._switches:
                self._switched[name] = self._switch(name, value) if equals else True
            elif word.startswith("-") and name in self._texts:
                # The next word is the value, whatever it looks like.
                text = value if equals else next(rest, None)
                if text is not None and name in self.lists:
                    self._gathered.setdefault(name, []).append(text)
                    continue
                normal.append(f"--{name}" if text is None else f"--{name}={text}")
            else:
                normal.append(_SHORT.get(word, word))
        return normal

    def _switch(self, name: str, value: str) -> bool:
        try:
            return values.boolean(value)
        except InvalidArgument as error:
            raise usage.UsageError(f"--{name}: {error.message}") from None


def _help(setting: Setting) -> str:
    default = setting.default
    if not default:
        return setting.help
    shown = f"{default:g}s" if isinstance(default, float) else default
    return f"{setting.help.removesuffix('.')} (default: {shown})."
