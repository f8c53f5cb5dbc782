"""Somebody else's skill, installed by pip into a fresh environment."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.system.fleet import demo, fleet

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "third_party_skill"

#: What a build needs of this project.
PARTS = ("pilot", "skills", "twisted", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")

#: What the program twistd does, away from this checkout.
TWISTD = "import os; os.chdir('/'); from twisted.scripts.twistd import run; run()"

_IGNORED = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.egg-info", "build")


def run(*command: str | Path) -> str:
    # Not in the current directory: Python would find this checkout there.
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd="/", capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fresh_environment(root: Path) -> Path:
    """An environment that borrows our dependencies, but neither this project nor its plugins."""
    run(sys.executable, "-m", "venv", "--without-pip", root)
    own = run(
        root / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    )
    # A bare path: the .pth files over there, that of this project included, are not read.
    Path(own.strip(), "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return root


def copy(name: str, source: Path, to: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, to / name, ignore=_IGNORED)
    else:
        shutil.copy(source, to / name)


def install(environment: Path, *sources: Path) -> None:
    """pip, without a network."""
    run(
        environment / "bin" / "python",
        *("-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed"),
        *sources,
    )


@pytest.mark.system
def test_installed(tmp_path: Path) -> None:
    """The daemon finds it, pilotctl has its commands, and our own files stay as they are."""
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in PARTS:
        copy(name, ROOT / name, sources)
    copy("guestbook", EXAMPLE, tmp_path)
    environment = fresh_environment(tmp_path / "env")
    install(environment, sources, tmp_path / "guestbook")
    where = run(environment / "bin" / "python", "-c", "import pilot; print(pilot.__file__)")
    assert where.startswith(str(environment))

    programs = environment / "bin"
    with fleet(tmp_path) as others:
        others.start_rendezvous()
        agent = demo.Agent("a", tmp_path, others.registry, others.beacon)

        def ask(*words: str) -> Any:
            command = [str(programs / "pilotctl"), "--json", *words]
            done = subprocess.run(
                command, env=agent.environment, capture_output=True, text=True, timeout=20
            )
            if done.returncode:
                raise demo.StepFailed(done.stderr)
            return json.loads(done.stdout)["data"]

        twistd = [str(programs / "python"), "-P", "-c", TWISTD, "--nodaemon", "--pidfile="]
        node = [*twistd, "pilot", "--listen", "127.0.0.1:0"]
        inside = [*node, "--skill", "guestbook:keep=2"]
        log = agent.home / "log"
        with demo.running(inside, agent.environment, log):
            (skill,) = demo.until("the daemon", lambda: ask("info"))["skills"]
            assert (skill["name"], skill["state"], skill["entries"]) == ("guestbook", "running", 0)
            for text in ("one", "two", "three"):
                assert ask("guestbook", "sign", "self", text) == {"signed": "self"}
            entries = ask("guestbook", "list")["entries"]
            assert [entry["text"] for entry in entries] == ["two", "three"]
            assert "guestbook list" in ask("context")["commands"]
        beside = [*twistd, "pilot-guestbook", "--keep", "1"]
        with (
            demo.running(node, agent.environment, log),
            demo.running(beside, agent.environment, log),
        ):
            entries = demo.until("the skill", lambda: ask("guestbook", "list"))["entries"]
            assert [entry["text"] for entry in entries] == ["two", "three"]
            ask("guestbook", "sign", "self", "four")
            assert [entry["text"] for entry in ask("guestbook", "list")["entries"]] == ["four"]
    assert not (EXAMPLE / "build").exists() and not list(EXAMPLE.glob("*.egg-info"))
