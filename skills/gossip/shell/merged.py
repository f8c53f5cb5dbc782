"""Which messages of the inbox were folded into a swarm already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from skills.gossip.shell.files import replace_file

log = Logger()

FILE = "merged.json"

#: Messages remembered.
MAX_REMEMBERED = 100_000


class MergedPushes:
    """The file C{merged.json} of a swarm: names of messages."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._known: set[str] = set()
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return
        if isinstance(found, list):
            self._known.update(each for each in found if isinstance(each, str))

    def __contains__(self, token: str) -> bool:
        return token in self._known

    def add(self, token: str) -> None:
        """This one is folded."""
        self._known.add(token)

    def save(self, present: Any) -> None:
        """@param present: all messages that are still there; the others are forgotten."""
        kept = self._known
        if isinstance(present, list):
            kept = kept.intersection(each for each in present if isinstance(each, str))
        try:
            replace_file(
                self._path, json.dumps(sorted(kept)[-MAX_REMEMBERED:]).encode(), sync=False
            )
        except OSError as error:
            log.error("cannot write {path}: {reason}", path=str(self._path), reason=error.strerror)
