"""One setting: its names, its reader, and which of the places it may stand in wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pilot.daemon import values
from pilot.errors import InvalidArgument


@dataclass(frozen=True)
class Setting:
    """
    One thing to settle.

    @ivar name: the flag; in configuration files also with underscores.
    @ivar read: makes the value out of what was written; raises C{InvalidArgument}.
    @ivar default: the value when nothing was written, or when what was written is empty or 0.
    @ivar help: one line.
    @ivar environment: a variable that may hold it, or C{""}.
    @ivar is_switch: a flag without a value.
    @ivar environment_first: whether the environment is closer than the configuration file.
    @ivar is_list: a flag that may be given more than once; its reader gets a list of texts.
    """

    name: str
    read: values.Reader
    default: Any
    help: str
    environment: str = ""
    is_switch: bool = False
    environment_first: bool = False
    is_list: bool = False

    @property
    def key(self) -> str:
        """Its key in a configuration file, and its name in a program."""
        return self.name.replace("-", "_")


def switch(name: str, help_line: str) -> Setting:
    """@return: a setting that is on or off."""
    return Setting(name, values.boolean, False, help_line, is_switch=True)


def decide(
    settings: Iterable[Setting],
    given: Mapping[str, Any],
    config: Mapping[str, Any],
    path: str,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """
    @param given: what the flags said, by flag name; texts, and booleans for switches.
    @param config: the configuration file, hyphens in its keys turned into underscores.
    @param path: the file's name, for complaints.
    @return: every setting's value, by its key.
    @raise InvalidArgument: a value makes no sense; the message says which one and where it stood.
    """
    return {setting.key: _one(setting, given, config, path, environment) for setting in settings}


def _one(
    setting: Setting,
    given: Mapping[str, Any],
    config: Mapping[str, Any],
    path: str,
    environment: Mapping[str, str],
) -> Any:
    sources = [
        (f"--{setting.name}", given.get(setting.name)),
        (f"{setting.key} in {path}", config.get(setting.key)),
        (setting.environment, environment.get(setting.environment) or None),
    ]
    if setting.environment_first:
        sources[1], sources[2] = sources[2], sources[1]
    for where, written in sources:
        # An empty value is an answer only on the command line: there it takes back the others.
        if written is None or (written == "" and not where.startswith("--")):
            continue
        try:
            value = setting.read(written) if written != "" else _empty(setting)
        except InvalidArgument as error:
            raise InvalidArgument(f"{where}: {error.message}") from None
        return setting.default if value == 0 and not setting.is_switch else value
    return setting.default


def _empty(setting: Setting) -> Any:
    return setting.read("") if setting.read is values.identity else setting.default
