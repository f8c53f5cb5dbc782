"""The reference page, the manual and the command table agree."""

from __future__ import annotations

import re
from pathlib import Path

from skills.presence.commands import COMMANDS
from skills.presence.core.effects import Change
from skills.presence.core.history import CAUSES
from skills.presence.core.status import STATUSES
from skills.presence.detection.profiles import PROFILES
from skills.presence.shell.choices import OPTIONS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "skills" / "presence.md").read_text()
MANUAL = (ROOT / "skills" / "presence" / "SKILL.md").read_text()
TUTORIAL = (ROOT / "docs" / "skills" / "presence-tutorial.md").read_text()
SECTIONS = dict(re.findall(r"^### `([^`]+)`\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))


def test_every_command_has_its_section() -> None:
    assert list(SECTIONS) == [command.usage.removeprefix("pilotctl ") for command in COMMANDS]


def test_every_field_is_named() -> None:
    for command in COMMANDS:
        section = SECTIONS[command.usage.removeprefix("pilotctl ")]
        fields = re.sub(r"\(.*?\)|\{.*\}|\[.*\]|^one object a line:|[.].*", "", command.returns)
        for field in re.findall(r"[a-z_]+", fields):
            assert f"`{field}`" in section, (command.name, field)


def test_every_option_state_profile_and_cause_is_there() -> None:
    for name, _, _ in OPTIONS:
        assert f"| `{name}` |" in PAGE
    for word in (*STATUSES, *PROFILES):
        assert f"| `{word}` |" in PAGE
    for cause in (
        "joined",
        "claimed",
        "left",
        "lapsed",
        "unanswered",
        "expired",
        "told",
        "restored",
    ):
        assert cause in CAUSES and f"`{cause}`" in PAGE
    for event in re.findall(r"C\{(presence\.\w+)\}", Change.__doc__ or ""):
        assert f"`{event}`" in PAGE


def test_what_the_pages_type_exists() -> None:
    """Every command line of the manual and the tutorial is one that pilotctl takes."""
    from pilot.ctl.arguments import split_words

    lines = re.findall(r"pilotctl ((?:--json )?presence [^|)\n#`]+)", MANUAL + TUTORIAL + PAGE)
    assert len(lines) > 15
    for line in lines:
        words = [word.strip('"') for word in line.replace("2>/dev/null", "").split()]
        if words[:1] == ["--json"]:
            del words[0]
        if words[1] in ("...", "set`", "COMMAND"):
            continue
        split_words([word for word in words if word != "..."])
