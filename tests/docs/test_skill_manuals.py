"""C{SKILL.md} of our skills: what installers read at its top, and the commands it types."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pilot.ctl.arguments import split_words

ROOT = Path(__file__).parents[2]
SKILLS = ["gossip", "presence"]


def manual(skill: str) -> str:
    return (ROOT / "skills" / skill / "SKILL.md").read_text(encoding="utf-8")


def front_matter(text: str) -> dict[str, str]:
    """@return: the plain and folded members at the outer level, as any YAML reader has them."""
    head = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert head, "nothing stands in front of it"
    found: dict[str, str] = {}
    name = ""
    for line in head[1].splitlines():
        if member := re.fullmatch(r"([a-z_-]+):(?: (.*))?", line):
            name = member[1]
            found[name] = (member[2] or "").removeprefix(">")
        else:
            assert name and line.startswith("  ") and "\t" not in line, line
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


@pytest.mark.parametrize("skill", SKILLS)
def test_installers_can_read_its_top(skill: str) -> None:
    head = front_matter(manual(skill))
    assert head["name"] == f"pilot-{skill}"
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", head["name"])
    assert 0 < len(head["description"]) <= 1024
    assert "<" not in head["description"]
    assert "Use this skill when:" in head["description"]
    assert "Do NOT use this skill when:" in head["description"]
    assert head["license"] == "MIT"
    assert len(head["compatibility"]) <= 500
    assert "pilot-protocol" in head["metadata"]


@pytest.mark.parametrize("skill", SKILLS)
def test_what_it_types_exists(skill: str) -> None:
    text = manual(skill)
    if skill == "gossip":
        text += (ROOT / "docs" / "skills" / "gossip-tutorial.md").read_text(encoding="utf-8")
    pattern = rf"pilotctl ((?:--json )?{skill} [^|)\n#`;&]+)"
    lines = re.findall(pattern, "".join(re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)))
    assert len(lines) > 5
    for line in lines:
        words = [word.strip("\"'") for word in line.replace("2>/dev/null", "").split()]
        if words[0] == "--json":
            del words[0]
        split_words([word for word in words if word != "..."])


@pytest.mark.parametrize("skill", SKILLS)
def test_it_is_installed_with_the_skill(skill: str) -> None:
    assert f"skills.{skill} = SKILL.md" in (ROOT / "setup.cfg").read_text(encoding="utf-8")
