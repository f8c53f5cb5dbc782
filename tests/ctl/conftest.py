"""Running C{pilotctl} inside the test process."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pilot.ctl.main import main


class Outcome(NamedTuple):
    """
    What one run of C{pilotctl} left.

    @ivar status: exit status.
    @ivar raw: standard output.
    @ivar err: standard error.
    """

    status: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        """Standard output as text."""
        return self.raw.decode()

    @property
    def envelope(self) -> dict[str, Any]:
        """The one line of standard output, read."""
        (line,) = self.out.splitlines()
        value = json.loads(line)
        assert isinstance(value, dict)
        return value

    @property
    def data(self) -> Any:
        """The data of a success."""
        assert self.envelope["status"] == "ok"
        return self.envelope["data"]

    @property
    def problem(self) -> dict[str, str]:
        """The one line of standard error, read."""
        (line,) = self.err.splitlines()
        value = json.loads(line)
        assert value["status"] == "error" and not self.out
        return dict(value)


Run = Callable[..., Outcome]


@pytest.fixture
def run(capfdbinary: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run C{pilotctl} with some words; C{stdin} is piped in, the null device without it."""

    def once(*words: str, stdin: bytes | None = None) -> Outcome:
        source = os.devnull
        if stdin is not None:
            source = str(tmp_path / "stdin")
            Path(source).write_bytes(stdin)
        capfdbinary.readouterr()
        with open(source, "rb", buffering=0) as file:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(file)))
            status = main(list(words))
        out, err = capfdbinary.readouterr()
        return Outcome(status, out, err.decode())

    return once
