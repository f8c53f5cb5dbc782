"""C{init} and C{config}: the configuration file."""

from __future__ import annotations

from pilot.client.places import DEFAULT_SOCKET
from pilot.ctl.console import Result, as_bytes, as_text
from pilot.ctl.settings import DEFAULT_BEACON, DEFAULT_REGISTRY
from pilot.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot.ctl.call import Call


def init(call: Call) -> Result:
    """
    Write the configuration.

    An address that is not given loses its key, so that the default counts.  A default written down
    would look like somebody's choice, and a daemon would start no rendezvous of its own.
    """
    given = {key: as_text(as_bytes(value)) for key, value in call.flags.items() if value}
    absent = {"registry", "beacon", "socket"} - given.keys()
    call.settings.save(given, remove=absent)
    return Result(
        {
            "config_path": call.settings.config_path,
            "registry": given.get("registry", DEFAULT_REGISTRY),
            "beacon": given.get("beacon", DEFAULT_BEACON),
            "socket": given.get("socket", DEFAULT_SOCKET),
            "hostname": given.get("hostname", ""),
        }
    )


def config(call: Call) -> Result:
    """Show the configuration, or set one key of it."""
    if "set" in call.flags:
        key, equals, value = as_text(as_bytes(call.flags["set"])).partition("=")
        if not equals:
            raise InvalidArgument("usage: pilotctl config --set key=value")
        call.settings.save({key: value})
        return Result({"key": key, "value": value})
    settings = call.settings
    return Result(
        {
            "registry": settings.registry,
            "socket": settings.socket,
            **settings.config,
            "config_path": settings.config_path,
            "pid_file": settings.pid_path,
            "log_file": settings.log_path,
        }
    )
