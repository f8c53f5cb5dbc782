"""Which swarms this node is in, and how often it was started; remembered over restarts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from pilot.errors import InvalidArgument
from skills.gossip.shell.files import replace_file
from skills.gossip.shell.naming import check_swarm
from skills.gossip.shell.options import SwarmOptions

log = Logger()

FILE = "swarms.json"

_LARGEST = 2**53  # of an incarnation


class Roster:
    """
    The file C{swarms.json} of the skill.

    @ivar swarms: of each swarm that was joined and not left, by name: the options it was given
        then.  The others are the skill's, and change with them.
    @ivar incarnation: of this start: larger than at every earlier one.
    @ivar error: why the file could not be written, or C{None}.
    """

    def __init__(self, home: Path, wall: float, defaults: SwarmOptions) -> None:
        """
        Read the file and note the start.

        @param wall: unix seconds.
        @param defaults: the skill's own options.
        """
        self.swarms: dict[str, dict[str, Any]] = {}
        self.error: str | None = None
        self._path = home / FILE
        self._defaults = defaults
        before = 0
        try:
            before = self._read()
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.error("{path} cannot be read: {error}", path=str(self._path), error=str(error))
        self.incarnation = min(max(before + 1, int(wall)), _LARGEST)
        self.save()

    def options(self, name: str) -> SwarmOptions:
        """@return: how a swarm is to be run."""
        return self._defaults.changed(self.swarms[name])

    def save(self) -> None:
        """Write the file; a disk that does not take it is told about, not more."""
        content = {
            "incarnation": self.incarnation,
            "swarms": dict(sorted(self.swarms.items())),
        }
        try:
            replace_file(self._path, json.dumps(content, indent=2).encode(), sync=True)
        except OSError as error:
            self.error = error.strerror or str(error)
            log.error("cannot write {path}: {error}", path=str(self._path), error=self.error)
        else:
            self.error = None

    def _read(self) -> int:
        """@return: the last incarnation.  @raise ValueError: this is no such file."""
        content: Any = json.loads(self._path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("not an object")
        swarms = content.get("swarms")
        for name, given in swarms.items() if isinstance(swarms, dict) else ():
            try:
                options = given if isinstance(given, dict) else {}
                self._defaults.changed(options)
                self.swarms[check_swarm(name)] = options
            except InvalidArgument as error:
                log.error("{path}: {error}", path=str(self._path), error=error.message)
        incarnation = content.get("incarnation")
        return incarnation if isinstance(incarnation, int) and incarnation > 0 else 0
