from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "asyncio",
    "cryptography",
    "dataclasses",
    "inspect",
    "ipaddress",
    "pathlib",
    "random",
    "socket",
    "twisted",
    "typing",
    "urllib",
    "zope",
}


@pytest.mark.parametrize("module", ["ipcframes", "registry", "framing", "jsontext"])
def test_what_a_command_line_imports_stays_light(module: str) -> None:
    """pilotctl pays for these at every start."""
    code = f"import sys, pilot.wire.{module}; print(*sys.modules)"
    # -S: the virtual environment's own start-up files would bring modules of theirs.
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not HEAVY & set(done.stdout.split())


def test_the_room_reads_no_clock_and_opens_nothing() -> None:
    code = (
        "import sys, pilot.wire.beacon, pilot.wire.handshake, pilot.wire.ipc, pilot.wire.packet,"
        " pilot.wire.registry_binary, pilot.wire.sack, pilot.wire.tunnel; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not {"twisted", "socket", "random", "zope", "asyncio"} & set(done.stdout.split())
