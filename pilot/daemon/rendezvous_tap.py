"""C{twistd pilot-rendezvous}: a registry and a beacon, with a dashboard if wanted."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from pilot.client.places import read_config
from pilot.daemon import values
from pilot.daemon.flags import FlagOptions, parameters, switches
from pilot.daemon.setting import Setting, decide, switch
from pilot.daemon.twistd import TwistdRoot
from pilot.errors import InvalidArgument
from pilot.registry.rendezvous import Rendezvous, RendezvousSettings

RENDEZVOUS_SETTINGS = (
    Setting("registry-addr", values.listen, ":9000", "TCP address of the registry, [HOST]:PORT."),
    Setting("beacon-addr", values.listen, ":9001", "UDP address of the beacon, [HOST]:PORT."),
    Setting("http", values.listen, "", "TCP address of a dashboard, [HOST]:PORT."),
    Setting("store", values.path, "", "Database that keeps the registry's state across restarts."),
    Setting(
        "admin-token",
        values.text,
        "",
        "Secret of the administrator; without one nobody is.",
        "PILOT_ADMIN_TOKEN",
    ),
    Setting("dashboard-token", values.text, "", "Secret that shows networks on the dashboard."),
    switch("tls", "Have the registry speak TLS."),
    Setting("tls-cert", values.path, "", "PEM certificate (default: a self-signed one)."),
    Setting("tls-key", values.path, "", "Its key."),
    Setting(
        "log-level",
        values.choice("debug", "info", "warn", "error"),
        "info",
        "Least severe messages to log: debug, info, warn or error.",
    ),
    Setting("log-format", values.choice("text", "json"), "text", "Log as text or as json."),
)


class Options(FlagOptions):
    """
    All flags of a rendezvous.

    @ivar settings: what they come to, together with configuration file and environment.
    """

    program = "pilot-rendezvous"
    longdesc = "Runs a rendezvous: nodes find each other through it. It never sees their data."
    optFlags: ClassVar[list[Any]] = switches(RENDEZVOUS_SETTINGS)
    optParameters: ClassVar[list[Any]] = [
        *parameters(RENDEZVOUS_SETTINGS),
        ["config", None, None, "JSON file with any of these options under their names."],
    ]

    settings: RendezvousSettings

    def settle(self) -> None:
        """Decide every setting."""
        given = dict(self.given)
        path = given.pop("config", "")
        config = read_config(path, required=True) if path else {}
        found = decide(RENDEZVOUS_SETTINGS, given, config, path, os.environ)
        del found["log_level"], found["log_format"]
        if bool(found["tls_cert"]) != bool(found["tls_key"]):
            raise InvalidArgument("--tls-cert and --tls-key belong together: give both or none")
        found["tls"] = found["tls"] or bool(found["tls_cert"])
        self.settings = RendezvousSettings(**found)


def makeService(options: Options, reactor: Any = None) -> TwistdRoot:
    """@return: the rendezvous's service, not started."""
    if reactor is None:
        from twisted.internet import reactor  # late: importing it installs it
    return TwistdRoot(Rendezvous(options.settings, reactor), reactor, options.parent, options.given)
