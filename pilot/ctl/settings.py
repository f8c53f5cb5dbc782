"""Where things are and what the configuration file says.

@see: C{docs/reference/pilotctl.md}, I{Files, environment, configuration}.
"""

from __future__ import annotations

import os

from pilot.client import places
from pilot.errors import PilotError, WireError
from pilot.wire.jsontext import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

DEFAULT_REGISTRY = "127.0.0.1:9000"
"""The rendezvous of this machine, which a daemon starts when nobody configured another."""

DEFAULT_BEACON = "127.0.0.1:9001"

LOCK_WAIT = 10.0
"""Seconds to wait for another C{pilotctl} that writes the configuration."""


class Settings:
    """
    The environment and the configuration file of one run; the file is read when first needed.

    @ivar home: the directory of everything that lasts, C{~/.pilot} or C{$PILOT_HOME}.
    """

    __slots__ = ("_config", "home")

    def __init__(self) -> None:
        self.home = os.path.abspath(places.home())
        self._config: dict[str, Any] | None = None

    @property
    def config_path(self) -> str:
        """The configuration file."""
        return self.home + "/config.json"

    @property
    def pid_path(self) -> str:
        """The file with the process number of the daemon that C{daemon start} started."""
        return self.home + "/pilot.pid"

    @property
    def log_path(self) -> str:
        """Where that daemon's output goes."""
        return self.home + "/pilot.log"

    @property
    def identity_path(self) -> str:
        """Where a daemon keeps its key unless told otherwise."""
        return self.home + "/identity.json"

    @property
    def config(self) -> dict[str, Any]:
        """
        What the configuration file holds; empty when there is none.

        @raise PilotError: it cannot be read, or is no JSON object.  Taking it for empty would hide
            the mistake, and the next write would lose the rest.
        """
        if self._config is None:
            self._config = self._read()
        return self._config

    def text(self, key: str) -> str | None:
        """@return: a setting of the file, if it is a text and not empty."""
        value = self.config.get(key)
        return value if isinstance(value, str) and value else None

    @property
    def socket(self) -> str:
        """The daemon's control socket."""
        named = os.environ.get("PILOT_SOCKET")
        if named:
            return named
        return os.path.expanduser(self.text("socket") or places.DEFAULT_SOCKET)

    @property
    def registry(self) -> str:
        """The registry, as C{host:port}."""
        return os.environ.get("PILOT_REGISTRY") or self.text("registry") or DEFAULT_REGISTRY

    def save(self, changes: dict[str, Any], remove: Iterable[str] = ()) -> None:
        """
        Change keys of the configuration file; the others stay, whoever else writes.

        @raise PilotError: it cannot be read or written.
        """
        from pilot.crypto.files import write_atomically
        from pilot.ctl.locking import Lock

        try:
            os.makedirs(self.home, mode=0o700, exist_ok=True)
            with Lock(self.config_path + ".lock", LOCK_WAIT):
                config = self._read()
                for key in remove:
                    config.pop(key, None)
                config.update(changes)
                import json

                text = json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True)
                write_atomically(self.config_path, text.encode("utf-8", "replace") + b"\n", 0o600)
        except OSError as error:
            raise PilotError(f"save config: {self.config_path}: {error.strerror}") from None
        self._config = config

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.config_path, "rb") as file:
                content = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise PilotError(f"cannot read {self.config_path}: {error.strerror}") from None
        try:
            config = load(content)
        except WireError as error:
            raise self._corrupt(error.message) from None
        if not isinstance(config, dict):
            raise self._corrupt("not a JSON object")
        return config

    def _corrupt(self, why: str) -> PilotError:
        return PilotError(
            f"config file {self.config_path} is damaged: {why}",
            hint="correct the file, or move it away and run: pilotctl init",
        )
