"""The reference page and the command table agree."""

from __future__ import annotations

import re
from pathlib import Path

from pilot.ctl.discovery import ENVIRONMENT, ERROR_CODES
from pilot.ctl.table import COMMANDS, Command
from pilot.daemon.settings import SETTINGS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "pilotctl.md").read_text()
SECTIONS = dict(re.findall(r"^### `([^`]+)`\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))


def test_every_command_has_its_section() -> None:
    """Under its usage, in the order of the table, and no other section is there."""
    usages = [command.usage.removeprefix("pilotctl ") for command in COMMANDS]
    usages[usages.index(_start().usage.removeprefix("pilotctl "))] = "daemon start [flags]"
    assert set(SECTIONS) == set(usages)


def test_every_field_is_named() -> None:
    """What the table says a command returns, the page says, too."""
    for command in COMMANDS:
        if " " in re.split(r"[,\[]", command.returns)[0].strip():  # words, not fields
            continue
        usage = command.usage.removeprefix("pilotctl ")
        section = SECTIONS[usage if command.name != "daemon start" else "daemon start [flags]"]
        fields = re.sub(r"\(.*?\)|\{.*\}|[.].*|;.*", "", command.returns)
        for field in re.findall(r"[a-z_]+", fields):
            if "_" in field or f"`{field}`" in PAGE:
                assert f"`{field}`" in section, (command.name, field)


def test_codes_and_variables() -> None:
    assert re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE)
    for code, meaning in ERROR_CODES.items():
        assert f"| `{code}` | {meaning}" in PAGE
    for variable in ENVIRONMENT:
        assert f"| `{variable}` | " in PAGE


def test_start_takes_what_the_daemon_takes() -> None:
    """Every option of the daemon, and two of its own."""
    options = {setting.name: not setting.is_switch for setting in SETTINGS}
    own = {"config": True, "foreground": False}
    assert _start().flags == {**options, **own}


def _start() -> Command:
    (command,) = (each for each in COMMANDS if each.name == "daemon start")
    return command
