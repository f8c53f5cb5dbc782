"""From words to a command with its positional arguments and flags.

@see: C{docs/reference/pilotctl.md}, I{Arguments}.
"""

from __future__ import annotations

from pilot.ctl.table import COMMANDS, Command, by_name, installed_commands, skill_commands
from pilot.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HELP_WORDS = ("--help", "-help", "-h", "help")
VERSION_WORDS = ("--version", "-version")

_TRUE = ("", "1", "true")
_FALSE = ("0", "false")


class UnknownCommand(InvalidArgument):
    """No such command.

    @ivar word: what was typed.
    """

    def __init__(self, word: str, hint: str) -> None:
        super().__init__(f"unknown command: {word}", hint=hint)
        self.word = word


class HelpWanted(Exception):
    """Not an error: somebody asks how to use a command, or the program.

    @ivar command: which one, or C{None}.
    @ivar group: or which group of commands.
    """

    def __init__(self, command: Command | None = None, group: str = "") -> None:
        super().__init__()
        self.command = command
        self.group = group


class Arguments:
    """
    A command line, read.

    @ivar command: what to do.
    @ivar positionals: the arguments that are not flags.
    @ivar flags: value of each flag given, C{"true"} or C{"false"} of a switch.
    """

    __slots__ = ("command", "flags", "positionals")

    def __init__(self, command: Command, positionals: list[str], flags: dict[str, str]) -> None:
        self.command = command
        self.positionals = positionals
        self.flags = flags


def split_words(words: Sequence[str]) -> Arguments:
    """
    @param words: what was typed after the program's name, C{--json} taken out; at least one word.
    @raise HelpWanted: what is wanted is the usage text.
    @raise UnknownCommand: the first word is no command.
    @raise InvalidArgument: anything else that is wrong.
    """
    first, rest = words[0], list(words[1:])
    if first in HELP_WORDS:
        if rest:
            _explain(rest)
        raise HelpWanted
    if first in VERSION_WORDS:
        first = "version"
    command, rest = _find(first, rest)
    return parse(command, rest)


def parse(command: Command, words: Sequence[str]) -> Arguments:
    """Split the words after a command's name into positional arguments and flags.

    @raise HelpWanted: one of them asks for help.
    @raise InvalidArgument: an unknown flag, a flag without its value, too few arguments.
    """
    positionals: list[str] = []
    flags: dict[str, str] = {}
    known = {} if command.literal else command.flags
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word in HELP_WORDS[:3]:
            raise HelpWanted(command)
        name, equals, value = _flag(word, known, command)
        if command.literal or name is None:
            positionals.append(word)
            continue
        name = command.aliases.get(name, name)
        if name not in known:
            raise InvalidArgument(
                f"unknown flag: --{name}", hint=_flag_hint(command, words, position, known)
            )
        following = words[position] if position < len(words) else None
        if known[name]:
            if not equals and following is not None and not following.startswith("--"):
                value = following
                position += 1
            elif not equals:
                raise InvalidArgument(
                    f"--{name} needs a value",
                    hint=f"a value that begins with two dashes is given as --{name}=VALUE",
                )
            if name in flags and name in command.repeatable:
                value = f"{flags[name]}\n{value}"
            flags[name] = value
            continue
        # A switch takes the next word only if that word can be nothing but its value.
        if not equals and following in (*_TRUE[1:], *_FALSE):
            value = following
            position += 1
        if value in _TRUE:
            flags[name] = "true"
        elif value in _FALSE:
            flags[name] = "false"
        else:
            raise InvalidArgument(f'invalid value for --{name}: "{value}"', hint="true or false")
    if len(positionals) < command.required:
        raise InvalidArgument(f"usage: {command.usage}")
    return Arguments(command, positionals, flags)


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """@return: the choice that C{word} was most likely meant to be, if one is close."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return found[0] if found else None


def _find(first: str, rest: list[str]) -> tuple[Command, list[str]]:
    for commands in (lambda: COMMANDS, lambda: skill_commands(first), installed_commands):
        known = by_name(commands())
        if first in known:
            return known[first], rest
        subcommands = [name.partition(" ")[2] for name in known if name.startswith(first + " ")]
        if not subcommands:
            continue
        if not rest:
            raise InvalidArgument(
                "missing subcommand", hint=f"available: pilotctl {first} " + " | ".join(subcommands)
            )
        if rest[0] in HELP_WORDS:
            raise HelpWanted(group=first)
        if rest[0] in subcommands:
            return known[f"{first} {rest[0]}"], rest[1:]
        raise InvalidArgument(
            f"unknown {first} subcommand: {rest[0]}",
            hint=_did_you_mean(nearest(rest[0], subcommands))
            + "available: "
            + ", ".join(subcommands),
        )
    everything = [*by_name(COMMANDS), *by_name(installed_commands())]
    first_words = {name.partition(" ")[0] for name in everything}
    raise UnknownCommand(
        first,
        _did_you_mean(nearest(first, sorted(first_words)))
        + "run 'pilotctl context' for the full command list",
    )


def _explain(words: list[str]) -> None:
    """C{pilotctl help name}: the same as C{pilotctl name --help}."""
    command, _ = _find(words[0], words[1:] or ["--help"])
    raise HelpWanted(command)


def _flag(word: str, known: dict[str, bool], command: Command) -> tuple[str | None, str, str]:
    """@return: name of the flag or C{None}, an equals sign if there is one, the value after it."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        return name, equals, value
    if word.startswith("-"):
        # One dash, as the daemon program takes it, but only what is surely a flag: any other word
        # with one dash is an argument like a negative number.
        name, equals, value = word[1:].partition("=")
        if name in known or name in command.aliases:
            return name, equals, value
    return None, "", ""


def _flag_hint(
    command: Command, words: Sequence[str], position: int, known: dict[str, bool]
) -> str:
    name = words[position - 1].partition("=")[0]
    similar = nearest(name.lstrip("-"), known)
    if similar is not None:
        return f"did you mean --{similar}?"
    return f"usage: {command.usage}"


def _did_you_mean(word: str | None) -> str:
    return "" if word is None else f"did you mean {word!r}? "
