"""Finding skills among the plugins, and choosing those that are wanted."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import twisted.plugins
from twisted.python import usage

from pilot.daemon.skill_tap import AnySkillOptions, skill_options
from pilot.errors import InvalidArgument, NotFound
from pilot.skills import BrokenSkill, choose, find_skills

SKILL = """
    from twisted.plugin import IPlugin
    from zope.interface import implementer
    from pilot.iskill import ISkill

    @implementer(IPlugin, ISkill)
    class Skill:
        name = {name!r}
        summary = "Made for a test."
        port = {port!r}
        options = {options!r}

        def make_skill(self, node, settings):
            raise AssertionError("not wanted")

    {attribute} = Skill()
"""

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a dropin of a third party, in a directory of its own."""
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    monkeypatch.setattr(twisted.plugins, "__path__", [str(plugins), *twisted.plugins.__path__])
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(module: str, text: str = SKILL, **parts: Any) -> None:
        parts = {"name": "tested", "port": None, "options": (), "attribute": "skill", **parts}
        body = textwrap.dedent(text)
        (plugins / f"{module}.py").write_text(body.format(**parts) if text is SKILL else body)

    yield write
    for path in plugins.glob("*.py"):
        sys.modules.pop(f"twisted.plugins.{path.stem}", None)


def test_an_installed_skill(write: Write) -> None:
    write("zz_tested_one")
    installed = find_skills()
    assert installed.skills["tested"].summary == "Made for a test."
    assert not installed.broken


@pytest.mark.parametrize(
    "parts",
    [
        {"name": "Tested Skill"},
        {"name": 3},
        {"port": 0},
        {"port": "80"},
        {"options": (("socket", "", "What every skill has."),)},
        {"options": (("x", ""),)},
        {"options": None},
    ],
)
def test_an_unsound_skill_is_left_out(write: Write, parts: Any) -> None:
    write("zz_tested_two", **parts)
    installed = find_skills()
    name = parts.get("name", "tested")
    assert name not in installed.skills and str(name) in installed.broken


def test_a_plugin_that_lacks_something_is_left_out(write: Write) -> None:
    write(
        "zz_tested_three",
        """
        from twisted.plugin import IPlugin
        from zope.interface import implementer
        from pilot.iskill import ISkill

        @implementer(IPlugin, ISkill)
        class Half:
            name = "half"

        half = Half()
        """,
    )
    assert "half" in find_skills().broken


def test_of_two_with_one_name_the_second_is_left_out(write: Write) -> None:
    write("zz_tested_four")
    write("zz_tested_five")
    installed = find_skills()
    assert "tested" in installed.skills
    assert "another skill" in installed.broken["tested"]


def test_a_module_that_cannot_be_imported(write: Write, nothing_left_behind: Any) -> None:
    """A skill it might have brought is shown as broken; the daemon is not stopped."""
    write("zz_tested_six", "raise RuntimeError('half installed')")
    installed = find_skills()
    assert installed.broken == {"twisted.plugins.zz_tested_six": "RuntimeError: half installed"}
    ((skill, given),) = choose({"six": {"a": "b"}}, installed)
    assert isinstance(skill, BrokenSkill) and given == {}
    with pytest.raises(ValueError, match="zz_tested_six"):
        skill.make_skill(None, None)
    nothing_left_behind.clear()


def test_choosing(write: Write) -> None:
    write("zz_tested_seven", options=(("pace", "1s", "How fast."),))
    installed = find_skills()
    ((skill, given),) = choose({"tested": {"pace": "2s"}}, installed)
    assert skill.name == "tested" and given == {"pace": "2s"}
    with pytest.raises(NotFound, match="no skill 'testd' is installed") as caught:
        choose({"testd": {}}, installed)
    assert caught.value.hint is not None and "tested" in caught.value.hint
    with pytest.raises(InvalidArgument, match="skill tested: unknown option 'peace'"):
        choose({"tested": {"peace": "2s"}}, installed)


class TestAsAProcessOfItsOwn:
    OPTIONS = (("pace", "1s", "How fast."), ("loud", False, "Whether to shout."))

    def test_its_options_are_the_skills(self, write: Write) -> None:
        write("zz_tested_eight", options=self.OPTIONS)
        options = skill_options("tested")
        options.parseOptions(["--pace", "2s", "-pace=3s", "--loud", "--socket", "/run/x.sock"])
        assert options.skill_given == {"pace": ["2s", "3s"], "loud": True}
        assert options.socket == "/run/x.sock"
        assert "How fast (default: 1s)." in str(options)

    def test_the_configuration_file_counts_too(self, write: Write, tmp_path: Path) -> None:
        write("zz_tested_nine", options=self.OPTIONS)
        file = tmp_path / "c.json"
        file.write_text('{"skills": {"tested": {"pace": 5, "loud": true}}, "socket": "/run/y"}')
        any_skill = AnySkillOptions()
        any_skill.parseOptions(["tested", "--loud=false", "--config", str(file)])
        assert any_skill.chosen.skill_given == {"pace": 5, "loud": False}
        assert any_skill.chosen.socket == "/run/y"
        file.write_text('{"skills": {"tested": {"peace": 5}}}')
        with pytest.raises(usage.UsageError, match="unknown option 'peace'"):
            AnySkillOptions().parseOptions(["tested", "--config", str(file)])

    @pytest.mark.parametrize(
        ("words", "reason"),
        [([], "name a skill"), (["testd"], "no skill 'testd'"), (["tested", "--x"], "--x")],
    )
    def test_mistakes(self, write: Write, words: list[str], reason: str) -> None:
        write("zz_tested_ten", options=self.OPTIONS)
        with pytest.raises(usage.UsageError, match=reason):
            AnySkillOptions().parseOptions(words)

    def test_a_broken_skill(self, write: Write) -> None:
        write("zz_tested_eleven", port=-1)
        with pytest.raises(usage.UsageError, match="skill tested is broken"):
            skill_options("tested")
