"""How skills and their options are written: on the command line, and in a configuration file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pilot.errors import InvalidArgument

#: What a skill and an option may be called.
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")

#: The given settings of each skill that is to run, by its name.
Wanted = dict[str, dict[str, Any]]

# A colon or a backslash with a backslash before it stands for itself.
_PIECE = re.compile(r"((?:[^:\\]|\\.)*)(:|$)", re.DOTALL)


def read_words(words: Iterable[str]) -> Wanted:
    """
    Read what C{--skill} was given.

    @param words: texts like C{gossip:swarm=kv-store:signed}: the skill, and its options, a switch
        without a value.  A colon inside a value has a backslash before it.  An option given more
        than once makes a list.
    @raise InvalidArgument: one of them is malformed.
    """
    wanted: Wanted = {}
    for word in words:
        name, *options = _split(word)
        _check(name, "skill", word)
        given = wanted.setdefault(name, {})
        for option in options:
            key, equals, value = option.partition("=")
            key = key.replace("_", "-")
            _check(key, "option", word)
            collect(given, key, value if equals else True)
    return wanted


def collect(given: dict[str, Any], key: str, value: Any) -> None:
    """Add one more value of an option."""
    before = given.get(key)
    if before is None:
        given[key] = value
    elif isinstance(before, list):
        before.append(value)
    else:
        given[key] = [before, value]


def read_config(value: Any) -> Wanted:
    """
    Read C{skills} of a configuration file: C{{"NAME": {option: value, ...}, ...}}; C{true} stands
    for no options, C{false} and C{null} leave a skill out.

    @raise InvalidArgument: something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArgument('expected an object such as {"presence": {}}')
    wanted: Wanted = {}
    for name, options in value.items():
        _check(name, "skill", name)
        if options is None or options is False:
            continue
        if options is not True and not isinstance(options, Mapping):
            raise InvalidArgument(f"{name}: expected an object with the skill's options")
        given = {} if options is True else options
        wanted[name] = {key.replace("_", "-"): item for key, item in given.items()}
    return wanted


def _split(word: str) -> list[str]:
    pieces: list[str] = []
    position = 0
    while True:
        match = _PIECE.match(word, position)
        if match is None:  # a backslash at the very end
            raise InvalidArgument(f"{word!r} ends in the middle of an escape")
        pieces.append(re.sub(r"(?s)\\(.)", r"\1", match.group(1)))
        if not match.group(2):
            return pieces
        position = match.end()


def _check(name: str, what: str, word: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidArgument(
            f"{word!r}: {name!r} is no name of {'an' if what[0] == 'o' else 'a'} {what}"
        )
