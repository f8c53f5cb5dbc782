"""The daemon's command line, for C{pilot-daemon} and C{twistd pilot} alike."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from pilot.daemon.flags import FlagOptions, lists, parameters, switches
from pilot.daemon.settings import SETTINGS, DaemonSettings, settle

__all__ = ["DaemonOptions", "DaemonSettings"]


class DaemonOptions(FlagOptions):
    """
    All flags of a daemon.

    @ivar settings: what they come to, together with configuration file and environment; set by
        C{parseOptions}.
    """

    program = "pilot-daemon"
    longdesc = (
        "Runs one Pilot Protocol node. Every option can also stand in ~/.pilot/config.json"
        " (PILOT_HOME moves ~/.pilot) under its own name."
    )
    optFlags: ClassVar[list[Any]] = switches(SETTINGS)
    optParameters: ClassVar[list[Any]] = [
        *parameters(SETTINGS),
        ["config", None, None, "JSON file to read instead of ~/.pilot/config.json."],
    ]
    lists: ClassVar[frozenset[str]] = lists(SETTINGS)

    settings: DaemonSettings

    def settle(self) -> None:
        """Decide every setting."""
        given = dict(self.given)
        self.settings = settle(given, os.environ, given.pop("config", None))
