"""The grammar of the command line."""

from __future__ import annotations

import pytest

from pilot.ctl import arguments
from pilot.ctl.arguments import HelpWanted, UnknownCommand, nearest, split_words
from pilot.ctl.table import COMMANDS, Command
from pilot.errors import InvalidArgument
from tests.ctl.conftest import Run


def test_flags_and_arguments_mix() -> None:
    read = split_words(["ping", "--count", "2", "node-b", "--timeout=5s"])
    assert read.command.name == "ping"
    assert read.positionals == ["node-b"]
    assert read.flags == {"count": "2", "timeout": "5s"}


def test_last_value_wins_and_values_may_look_like_anything() -> None:
    read = split_words(["send", "b", "7", "--data", "x", "--data=--a=b", "--timeout", "-5"])
    assert read.flags == {"data": "--a=b", "timeout": "-5"}


def test_what_may_be_given_more_than_once() -> None:
    read = split_words(["daemon", "start", "--skill", "gossip", "--public", "--skill=presence:a=b"])
    assert read.flags == {"skill": "gossip\npresence:a=b", "public": "true"}


def test_one_dash() -> None:
    """Known flags take one dash as well; other words with one dash are arguments."""
    assert split_words(["ping", "-count", "1", "b"]).flags == {"count": "1"}
    assert split_words(["ping", "-c", "1", "b"]).positionals == ["-c", "1", "b"]
    assert split_words(["daemon", "start", "-no-echo"]).flags == {"no-echo": "true"}


def test_switches() -> None:
    """A switch takes the next word only if that can be nothing but its value."""
    start = ["daemon", "start"]
    assert split_words([*start, "--public", "--no-echo=1"]).flags == {
        "public": "true",
        "no-echo": "true",
    }
    assert split_words([*start, "--public", "false"]).flags == {"public": "false"}
    assert split_words([*start, "--public="]).flags == {"public": "true"}
    assert split_words([*start, "--public", "word"]).positionals == ["word"]
    with pytest.raises(InvalidArgument, match="invalid value for --public"):
        split_words([*start, "--public=maybe"])


def test_aliases() -> None:
    assert split_words(["daemon", "start", "--owner", "a@b.c"]).flags == {"email": "a@b.c"}


def test_text_is_taken_as_it_stands() -> None:
    """Where an argument is somebody's text, a flag is text too."""
    assert split_words(["find", "--x"]).positionals == ["--x"]
    assert split_words(["handshake", "2", "--why=not", "ever"]).positionals == [
        "2",
        "--why=not",
        "ever",
    ]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["ping", "b", "--conut", "1"], "unknown flag: --conut", "did you mean --count?"),
        (["info", "--x"], "unknown flag: --x", "usage: pilotctl info"),
        (["send", "b", "7", "--data", "--x"], "--data needs a value", "--data=VALUE"),
        (["send", "b", "7", "--data"], "--data needs a value", "--data=VALUE"),
        (["daemon", "strat"], "unknown daemon subcommand: strat", "did you mean 'start'?"),
        (["daemon"], "missing subcommand", "start | stop | status"),
        (["ping"], "usage: pilotctl ping <address|hostname>", None),
        (["daemon", "start", "--no-ehco"], "unknown flag: --no-ehco", "did you mean --no-echo?"),
    ],
)
def test_mistakes(words: list[str], message: str, hint: str | None) -> None:
    with pytest.raises(InvalidArgument) as caught:
        split_words(words)
    assert message in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


def test_unknown_command() -> None:
    with pytest.raises(UnknownCommand) as caught:
        split_words(["pnig"])
    assert caught.value.word == "pnig" and "'ping'" in (caught.value.hint or "")
    with pytest.raises(UnknownCommand) as caught:
        split_words(["xyzzy"])
    assert "did you mean" not in (caught.value.hint or "")
    assert nearest("", ["ping"]) is None


@pytest.mark.parametrize(
    "words", [["--help"], ["-help"], ["-h"], ["help"], ["ping", "--help"], ["help", "ping"],
              ["ping", "b", "-h"], ["find", "--help"], ["daemon", "--help"], ["help", "daemon"],
              ["daemon", "start", "-help"], ["help", "daemon", "stop"]],
)  # fmt: skip
def test_help(words: list[str], run: Run) -> None:
    """Asked for, the usage text is no error."""
    outcome = run(*words)
    assert outcome.status == 0 and not outcome.err
    assert outcome.out.startswith("usage: pilotctl ")


def test_help_is_of_the_command() -> None:
    with pytest.raises(HelpWanted) as caught:
        split_words(["help", "daemon", "stop"])
    assert caught.value.command is not None and caught.value.command.name == "daemon stop"


def test_commands_of_installed_packages(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """They work as ours do; one that takes a name of ours, or does not load, is left out."""
    added = [
        Command("greet", "tests.ctl.test_arguments:greet", ("<name>",), "greeting", "say hello"),
        Command("info", "tests.ctl.test_arguments:greet", (), "nothing", "take over"),
    ]

    class Entry:
        def __init__(self, found: object) -> None:
            self.found = found

        def load(self) -> object:
            if self.found is None:
                raise ImportError("broken")
            return self.found

    entries = [Entry(None), Entry(added), Entry([object()])]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: entries)
    assert run("--json", "greet", "you").data == {"greeting": "hello you"}
    assert run("greet").err.startswith("error: usage: pilotctl greet <name>")
    assert run("gret").err.splitlines()[1].startswith("did you mean 'greet'?")
    assert "greet" in run("--json", "context").data["commands"]
    assert run("--json", "info").problem["code"] == "not_running"


def greet(call: object) -> object:
    from pilot.ctl.console import Result

    return Result({"greeting": f"hello {call.words[0]}"})  # type: ignore[attr-defined]


def test_the_table_is_sound() -> None:
    """Names differ, every function exists, every flag has a name, required arguments come first."""
    names = [command.name for command in COMMANDS]
    assert len(set(names)) == len(names)
    for command in COMMANDS:
        module, _, name = command.run.partition(":")
        function = getattr(__import__(module, fromlist=[name]), name)
        assert callable(function) and function.__doc__
        assert all(command.flags) and command.summary and not command.summary.endswith(".")
        optional = [syntax.startswith(("[", ".")) for syntax in command.arguments]
        positional = [o for o, s in zip(optional, command.arguments, strict=True) if "--" not in s]
        assert positional == sorted(positional)
    assert arguments.HELP_WORDS
