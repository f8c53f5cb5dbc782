"""Where a daemon and its clients meet: home directory, configuration file, control socket."""

from __future__ import annotations

import json
import os

from pilot.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_SOCKET = "/tmp/pilot.sock"
"""The control socket when nobody says otherwise."""


def home() -> str:
    """@return: the directory of the node's files: C{PILOT_HOME}, else C{~/.pilot}."""
    return os.environ.get("PILOT_HOME") or os.path.join(os.path.expanduser("~"), ".pilot")


def config_path() -> str:
    """@return: the configuration file that is read when none is named."""
    return os.path.join(home(), "config.json")


def read_config(path: str, *, required: bool = False) -> dict[str, Any]:
    """
    Read a configuration file: one JSON object; hyphens in its keys count as underscores.

    @param required: whether a missing file is an error; otherwise it counts as empty.
    @raise InvalidArgument: the file cannot be read or is not one JSON object.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        if required:
            raise InvalidArgument(f"load config: {path} does not exist") from None
        return {}
    except OSError as error:
        raise InvalidArgument(f"load config: {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"load config: {path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidArgument(f"load config: {path} does not hold a JSON object")
    return {key.replace("-", "_"): value for key, value in content.items()}


def socket_path() -> str:
    """
    Where a client finds the daemon: C{PILOT_SOCKET}, else C{socket} of the configuration file.

    An unreadable configuration file counts as empty here: the daemon reports it, and a client
    that was told nothing else can only try the usual place.
    """
    named = os.environ.get("PILOT_SOCKET")
    if named:
        return named
    try:
        configured = read_config(config_path()).get("socket")
    except InvalidArgument:
        configured = None
    if configured and isinstance(configured, str):
        return os.path.expanduser(configured)
    return DEFAULT_SOCKET


def skill_socket(control: str, name: str) -> str:
    """
    @param control: the daemon's control socket.
    @return: the socket of the skill C{name}: beside the daemon's, C{-NAME} before the ending.
    """
    root, ending = os.path.splitext(control)
    return f"{root}-{name}{ending}"
