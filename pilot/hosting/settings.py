"""What a skill is told: its options, a directory, a clock and dice."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

#: Seconds in each unit of a duration.
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

#: Longest duration, seconds; some thirty years.
LONGEST = 1e9

#: One option of a skill: its name, its default, and what it is for.
Option = tuple[str, Any, str]


class SkillSettings(Mapping[str, Any]):
    """
    A skill's options, read-only, every one of them there.

    A value is what was written: a text from the command line, a list of texts when the option was
    given more than once, C{True} for a switch without a value; any JSON value from a configuration
    file; else the option's default.  The methods make of it what a skill expects, and raise
    C{ValueError} with the option's name, which C{make_skill} may let pass.

    @ivar name: the skill's.
    @ivar reactor: the reactor, guarded: what raises in a timer of this skill fails this skill only,
        and the timers that are left end with the run.  Pass it to C{LoopingCall.clock}, endpoints,
        C{deferLater} and the like instead of the global one.
    @ivar rng: a L{random.Random}.
    """

    def __init__(
        self,
        name: str,
        options: Sequence[Option],
        given: Mapping[str, Any],
        home: Path,
        reactor: Any,
        rng: random.Random | None = None,
    ) -> None:
        """
        @param given: values by option name; underscores count as hyphens.
        @param home: the skill's directory, which need not exist.
        @raise ValueError: there is no such option.
        """
        self.name = name
        self.reactor = reactor
        self.rng = rng or random.Random()
        self._home = home
        self._values = {option[0]: option[1] for option in options}
        for key, value in given.items():
            option = key.replace("_", "-")
            if option not in self._values:
                known = ", ".join(sorted(self._values)) or "none"
                raise ValueError(f"unknown option {key!r}; there are: {known}")
            self._values[option] = value

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def home(self) -> Path:
        """The skill's directory for what must last, made at the first use, for its owner only."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._home

    def text(self, name: str) -> str:
        """@return: the option's text; of several the last one.  @raise ValueError: no text."""
        value = self._last(name)
        if not isinstance(value, str):
            raise ValueError(f"{name}: expected a text, not {value!r}")
        return value

    def texts(self, name: str) -> list[str]:
        """
        @return: all its texts, in order, without empty ones: given several times, as a JSON list,
            or separated by commas.
        @raise ValueError: something else.
        """
        value = self._values[name]
        if value is None:
            return []
        parts = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(part, str) for part in parts):
            raise ValueError(f"{name}: expected texts, not {value!r}")
        words = [word.strip() for part in parts for word in part.split(",")]
        return [word for word in words if word]

    def switch(self, name: str) -> bool:
        """@return: whether it is on.  @raise ValueError: neither true nor false."""
        value = self._last(name)
        word = value.lower() if isinstance(value, str) else value
        if word in (True, "true", "1", "yes", "on"):
            return True
        if word in (False, "false", "0", "no", "off"):
            return False
        raise ValueError(f"{name}: expected true or false, not {value!r}")

    def integer(self, name: str, least: int = 0, most: int = 10**9) -> int:
        """@return: a whole number.  @raise ValueError: none, or out of bounds."""
        value = self._last(name)
        if isinstance(value, str):
            digits = value.removeprefix("-")
            if digits.isascii() and digits.isdigit() and len(digits) < 19:
                value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{name}: expected a whole number, not {value!r}")
        if not least <= value <= most:
            raise ValueError(f"{name}: {value} is not in {least}..{most}")
        return value

    def number(self, name: str, least: float = 0.0, most: float = 1e9) -> float:
        """@return: a number.  @raise ValueError: none, or out of bounds."""
        value = self._last(name)
        try:
            if isinstance(value, bool):
                raise ValueError
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{name}: expected a number, not {value!r}") from None
        if not least <= number <= most:  # not-a-number is in no bounds
            raise ValueError(f"{name}: {value} is not in {least:g}..{most:g}")
        return number

    def duration(self, name: str, least: float = 0.0, most: float = LONGEST) -> float:
        """
        @return: seconds; written as C{250ms}, C{30s}, C{5m}, C{2h}, C{1d} or plain seconds.
        @raise ValueError: none, or out of bounds.
        """
        value = self._last(name)
        seconds = value
        if isinstance(value, str):
            digits = value.rstrip("mshd")
            try:
                seconds = float(digits) * UNITS[value[len(digits) :] or "s"]
            except (KeyError, ValueError):
                seconds = None
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise ValueError(f"{name}: expected a duration such as 30s, not {value!r}")
        if not least <= seconds <= most:
            raise ValueError(f"{name}: {value} is not in {least:g}s..{most:g}s")
        return float(seconds)

    def _last(self, name: str) -> Any:
        value = self._values[name]
        return value[-1] if isinstance(value, list | tuple) and value else value
