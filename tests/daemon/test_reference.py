"""The reference pages say what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pilot.daemon import values
from pilot.daemon.ipc_limits import IpcLimits
from pilot.daemon.ipc_node import OPERATIONS
from pilot.daemon.main import FAILED, GOODBYE, MISUSED
from pilot.daemon.rendezvous_tap import RENDEZVOUS_SETTINGS
from pilot.daemon.setting import Setting
from pilot.daemon.settings import SETTINGS
from pilot.wire.ipc_extensions import CloseReason, Extension

PAGES = Path(__file__).parents[2] / "docs" / "reference"
DAEMON = (PAGES / "daemon.md").read_text(encoding="utf-8")
EXTENSIONS = (PAGES / "ipc-extensions.md").read_text(encoding="utf-8")


def section(page: str, title: str) -> str:
    return page.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> dict[str, list[str]]:
    """First column to the other columns of the tables in a text."""
    cells = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in cells}


def shown(setting: Setting) -> str:
    default: Any = setting.default
    if setting.is_switch:
        return "off"
    if setting.name == "identity":
        return "`~/.pilot/identity.json`"
    if setting.read is values.size:
        return f"`{default >> 30}GiB`" if default >> 30 else f"`{default >> 20}MiB`"
    if isinstance(default, float):
        return f"`{default:g}s`"
    return f"`{default}`" if default else ""


@pytest.mark.parametrize(
    ("title", "settings", "beside"),
    [
        ("Options of a node", SETTINGS, {"--config"}),
        ("Options of a rendezvous", RENDEZVOUS_SETTINGS, set()),
    ],
)
def test_every_option_with_its_default_and_variable(
    title: str, settings: tuple[Setting, ...], beside: set[str]
) -> None:
    table = rows(section(DAEMON, title))
    assert set(table) == {f"--{setting.name}" for setting in settings} | beside
    for setting in settings:
        default, variable, meaning = table[f"--{setting.name}"]
        assert default == shown(setting), setting.name
        assert variable == (f"`{setting.environment}`" if setting.environment else "")
        assert meaning


def test_exit_statuses() -> None:
    table = re.findall(r"^\| (\d) \|", section(DAEMON, "Start, stop, exit status"), re.MULTILINE)
    assert table == ["0", str(FAILED), str(MISUSED)]
    assert GOODBYE == 8 and "after eight seconds" in DAEMON


def test_every_extension() -> None:
    names = {code: row[0] for code, row in rows(EXTENSIONS).items() if code.startswith("0x")}
    assert names == {
        f"0x{command:02x}": command.name.title().replace("_Ok", "OK") for command in Extension
    }
    for reason, words in zip(CloseReason, ("clean", "reset", "the peer", "aborted"), strict=True):
        assert f"{reason.value} {words}" in EXTENSIONS


def test_every_operation() -> None:
    assert set(rows(section(EXTENSIONS, "The operations of Node"))) == {"op", *OPERATIONS}


def test_the_limits() -> None:
    limits = IpcLimits()
    words = section(EXTENSIONS, "Where the control socket differs from the reference's")
    for number in (limits.clients, limits.ports_per_client, limits.streams_per_client):
        assert str(number) in words
    for number in (limits.prefixes_per_client, limits.undecided_per_client):
        assert str(number) in words
    assert limits.undecided_bytes == 4 << 20 and "4 MiB" in words
    assert limits.datagram_backlog == limits.stream_backlog == 1 << 20
