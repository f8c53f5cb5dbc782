"""What a skill is told."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.errors import InvalidArgument
from pilot.hosting.settings import SkillSettings
from pilot.hosting.written import read_config, read_words

OPTIONS = (("pace", "10s", ""), ("swarm", (), ""), ("loud", False, ""), ("size", 3, ""))
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=4
)


def settings(**given: Any) -> SkillSettings:
    return SkillSettings("s", OPTIONS, given, Path("/nowhere"), None)


def test_every_option_is_there_and_no_other_is_taken() -> None:
    assert dict(settings(size=4)) == {"pace": "10s", "swarm": (), "loud": False, "size": 4}
    assert len(settings()) == 4
    with pytest.raises(ValueError, match=r"unknown option 'seize'; there are: loud, pace, size"):
        settings(seize=4)


def test_underscores_count_as_hyphens() -> None:
    options = (("min-slots", 1, ""),)
    assert SkillSettings("s", options, {"min_slots": 2}, Path(), None)["min-slots"] == 2


def test_values() -> None:
    assert settings().duration("pace") == 10.0
    assert [settings(pace=text).duration("pace") for text in ("250ms", "5m", "2", "1d", 7)] == [
        0.25,
        300.0,
        2.0,
        86400.0,
        7.0,
    ]
    assert settings(size="5").integer("size") == 5
    assert settings(size="1.5").number("size") == 1.5
    assert settings(loud=True).switch("loud") and settings(loud="on").switch("loud")
    assert not settings(loud="false").switch("loud")
    assert settings(swarm="a,b").texts("swarm") == ["a", "b"]
    assert settings(swarm=["a", "b,c", ""]).texts("swarm") == ["a", "b", "c"]
    assert settings().texts("swarm") == []
    assert settings(pace=["1s", "2s"]).text("pace") == "2s"


@pytest.mark.parametrize(
    ("ask", "name", "value"),
    [
        ("duration", "pace", "soon"),
        ("duration", "pace", "-1s"),
        ("duration", "pace", "nan"),
        ("integer", "size", "many"),
        ("integer", "size", -1),
        ("integer", "size", True),
        ("number", "size", float("nan")),
        ("switch", "loud", "perhaps"),
        ("texts", "swarm", [1]),
        ("text", "pace", 3),
    ],
)
def test_nonsense_is_named(ask: str, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        getattr(settings(**{name: value}), ask)(name)


@given(ANYTHING, st.sampled_from(["duration", "integer", "number", "switch", "text", "texts"]))
def test_any_value_gives_an_answer_or_a_value_error(value: Any, ask: str) -> None:
    try:
        getattr(settings(pace=value), ask)("pace")
    except ValueError as error:
        assert str(error).startswith("pace: ")


def test_the_directory_is_made_at_first_use(tmp_path: Path) -> None:
    told = SkillSettings("s", (), {}, tmp_path / "skills" / "s", None)
    assert not (tmp_path / "skills").exists()
    assert told.home.is_dir()
    assert stat.S_IMODE(told.home.stat().st_mode) == 0o700


class TestOnTheCommandLine:
    def test_skills_with_options(self) -> None:
        words = ["presence", r"gossip:swarm=a\:b:min_fanout=3:signed:swarm=c", "presence:x="]
        assert read_words(words) == {
            "presence": {"x": ""},
            "gossip": {"swarm": ["a:b", "c"], "min-fanout": "3", "signed": True},
        }

    @pytest.mark.parametrize("word", ["", "Presence", "a:", "a::b=1", "a:=1", "a\\", "../x"])
    def test_nonsense(self, word: str) -> None:
        with pytest.raises(InvalidArgument):
            read_words([word])

    @given(st.text())
    def test_any_text(self, word: str) -> None:
        try:
            read_words([word])
        except InvalidArgument as error:
            assert error.message


class TestInTheConfiguration:
    def test_skills_with_options(self) -> None:
        written = {"presence": {"min_slots": 2}, "gossip": True, "other": False, "third": None}
        assert read_config(written) == {"presence": {"min-slots": 2}, "gossip": {}}
        assert read_config(None) == {}

    @pytest.mark.parametrize("value", ["presence", ["presence"], {"presence": 3}, {"NO": {}}])
    def test_nonsense(self, value: Any) -> None:
        with pytest.raises(InvalidArgument):
            read_config(value)
