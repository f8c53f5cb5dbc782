"""The completion scripts: bash's is run, of the others what can be said without their shells."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pilot.ctl.completion import Grammar, flags, positionals, write_bash, write_fish, write_zsh
from pilot.ctl.table import COMMANDS, Command, installed_commands
from tests.ctl.conftest import Run

Offered = Callable[..., set[str]]

BASH = shutil.which("bash")

#: Splits a line as readline does, equals signs apart, and prints what is offered for its last word.
DRIVER = """
source "$1"; shift
COMP_WORDS=("$@")
COMP_CWORD=$(( $# - 1 ))
_pilotctl pilotctl "${COMP_WORDS[COMP_CWORD]}" "" || exit 1
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def offered(tmp_path: Path, run: Run) -> Offered:
    """@return: what bash offers for the last word of a line."""
    if BASH is None:
        pytest.skip("no bash here")
    script = tmp_path / "completion.bash"
    script.write_bytes(run("completion", "bash").raw)

    def ask(*words: str, directory: Path = tmp_path) -> set[str]:
        done = subprocess.run(
            [BASH, "--norc", "-u", "-c", DRIVER, "bash", str(script), "pilotctl", *words],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0 and not done.stderr, done.stderr
        return set(done.stdout.split("\n")) - {""}

    return ask


def test_bash_knows_every_command(offered: Offered) -> None:
    commands = (*COMMANDS, *installed_commands())
    firsts = {command.name.partition(" ")[0] for command in commands}
    assert offered("") == firsts | {"--help", "--json"}
    assert offered("net") == {"network"}
    assert offered("--json", "inf") == {"info"}
    assert offered("nosuch", "") == set()


def test_bash_knows_every_flag(offered: Offered) -> None:
    for command in COMMANDS[::7]:
        known = set() if command.literal else {f"--{flag}" for flag in command.flags}
        assert offered(*command.name.split(), "--") == known | {"--help", "--json"}


def test_bash_knows_subcommands_and_values(offered: Offered) -> None:
    assert offered("network", "p") == {"promote", "policy"}
    assert offered("network", "create", "--join-rule", "") == {"open", "token", "invite"}
    assert offered("network", "create", "--join-rule", "=", "t") == {"token"}
    assert offered("network", "create", "--join-rule", "=") == {"open", "token", "invite"}
    assert offered("completion", "") == {"bash", "zsh", "fish", "--help", "--json"}
    assert offered("ping", "s") == {"self"}
    assert offered("ping", "self", "--count", "") == set(), "anybody's guess"


def test_bash_offers_files_where_there_are_some(offered: Offered, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "two words.json").write_text("{}")
    (place / "two.json").write_text("{}")
    words = ("network", "create", "--rules-file", "two")
    assert offered(*words, directory=place) == {"two words.json", "two.json"}
    assert offered("info", "two", directory=place) == set()


def test_other_shells_have_the_same_words(run: Run) -> None:
    """Their scripts name every command and every flag."""
    scripts = {shell: run("completion", shell).out for shell in ("zsh", "fish")}
    assert scripts["zsh"].startswith("#compdef pilotctl\n")
    for command in COMMANDS:
        assert f"        '{command.name}') " in scripts["zsh"]
        group, blank, word = command.name.partition(" ")
        place, word = (group, word) if blank else ("", group)
        assert f"""-n '__pilotctl_at "{place}"' -a '{word}' """ in scripts["fish"]
        for flag in flags(command):
            assert flag in scripts["zsh"]
            assert f"""-n '__pilotctl_at "{command.name}"' -l {flag[2:]}""" in scripts["fish"]
    assert not re.search("@[A-Z]+@", "".join(scripts.values()))


def test_the_script_for_programs(run: Run) -> None:
    data = run("--json", "completion", "fish").data
    assert data["shell"] == "fish"
    assert data["script"] == run("completion", "fish").out


def test_an_unknown_shell(run: Run) -> None:
    problem = run("--json", "completion", "tcsh").problem
    assert problem["code"] == "invalid_argument" and "fish" in problem["hint"]
    assert run("completion").status == 1


def test_arguments() -> None:
    """The syntax of the table tells what can stand where."""
    command = Command(
        "x", "m:f", ("<address|hostname>", "<path>", "[--type a|b]", "[--on]"), "", "do"
    )
    place = positionals(command)
    assert place.words == ("self",) and place.files
    known = flags(command)
    assert known["--on"] is None
    assert known["--type"] is not None and known["--type"].words == ("a", "b")
    literal = Command("x", "m:f", ("<name>", "[--flag]"), "", "do", literal=True)
    assert flags(literal) == {}


def test_words_that_a_shell_would_run() -> None:
    """A package's odd names are left out, its texts are quoted."""
    odd = [
        Command("x;reboot", "m:f", (), "", "bad"),
        Command("good", "m:f", ("[--$(reboot)]", "[--kind $(reboot)|`reboot`]"), "", "it's \\ ok"),
    ]
    grammar = Grammar([*COMMANDS, *odd])
    for script in (write_bash(grammar), write_zsh(grammar), write_fish(grammar)):
        assert "reboot" not in script and "good" in script
    assert r"'it\'s \\ ok'" in write_fish(grammar)
    assert r"'good:it'\''s \ ok'" in write_zsh(grammar)
