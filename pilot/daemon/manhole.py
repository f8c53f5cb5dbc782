"""The manhole: a Python prompt in the running daemon, over SSH, for its operators only.

@see: the page I{Manhole}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger, globalLogPublisher

from pilot import _version
from pilot.daemon.logtail import LogTail
from pilot.daemon.manhole_names import Parts, make_namespace
from pilot.errors import PilotError
from pilot.node.node import PilotNode
from pilot.registry.listening import listen
from pilot.services.eventbroker import Broker
from pilot.services.tasksubmit import TaskSubmitService

log = Logger()

#: Seconds that operators have to take the goodbye.
GOODBYE = 1.0


class ManholeUnavailable(PilotError):
    """The manhole's libraries are not installed."""

    code = "internal"


class ManholeService(Service):
    """The manhole of one daemon."""

    name = "manhole"

    def __init__(self, reactor: Any, address: str, home: Path, keys: str, log_level: str) -> None:
        """
        Look whether everything is there; open nothing.

        @param address: C{host:port} to listen on.
        @param home: directory of the node's files, where the host key is kept.
        @param keys: file of the operators' keys, or C{""} for the usual places.
        @param log_level: level of the daemon's log at its start.
        @raise KeysError: there is no key, or it cannot be used.
        @raise ManholeUnavailable: conch is not installed.
        """
        try:
            from pilot.daemon import manhole_keys
        except ImportError as error:
            raise ManholeUnavailable(
                f"the manhole needs a library that is not installed: {error.name or error}",
                hint="pip install 'txpilot[conch]'",
            ) from None
        self._reactor = reactor
        self._address = address
        self._authorized = manhole_keys.find_authorized_keys(home, keys)
        self._key = manhole_keys.host_key(home)
        self._fingerprint = manhole_keys.fingerprint(self._key)
        self._host_key = manhole_keys.public_line(self._key)
        self._tail = LogTail(log_level)
        self._factory: Any = None
        self._port: IListeningPort | None = None

    def look_into(
        self,
        node: PilotNode,
        broker: Broker | None,
        tasks: TaskSubmitService | None,
        skills: Any,
    ) -> None:
        """Say what there is to see, see L{Parts}; do so before the start."""
        from pilot.daemon.manhole_ssh import ManholeFactory

        names = Parts(node, broker, tasks, skills, self._tail)
        self._factory = ManholeFactory(
            self._reactor,
            self._key,
            self._authorized,
            lambda: make_namespace(names),
            lambda: _greeting(names),
        )

    def startService(self) -> None:
        """
        Take the port.

        @raise PortInUse: it cannot be had.
        """
        super().startService()
        self._port = listen(
            "manhole",
            self._address,
            lambda port, host: self._reactor.listenTCP(port, self._factory, interface=host),
        )
        globalLogPublisher.addObserver(self._tail)
        where = self.statistics()
        log.info(
            "manhole open: ssh -p {port} {host}; its key is {fingerprint}",
            host=where["host"],
            port=where["port"],
            fingerprint=self._fingerprint,
        )

    def stopService(self) -> Deferred[Any]:
        """Close the port and every session."""
        super().stopService()
        globalLogPublisher.removeObserver(self._tail)
        port, self._port = self._port, None
        closing = [maybeDeferred(port.stopListening)] if port else []
        if self._factory is not None:
            closing.append(self._factory.close(GOODBYE))
        return gatherResults(closing)

    def statistics(self) -> dict[str, Any]:
        """
        @return: where it is (C{host}, C{port}, C{fingerprint}, and C{host_key} as C{known_hosts}
            has it), how many C{connections} and C{sessions} are open, how many C{logins} there
            were, and how often somebody was refused: C{failed}, C{crowded}, C{malformed},
            C{silent}.
        """
        host, port = "", 0
        if self._port is not None:
            address: Any = self._port.getHost()
            host, port = address.host, address.port
        counters = self._factory.counters
        kinds = ("logins", "failed", "crowded", "malformed", "silent")
        return {
            "host": host,
            "port": port,
            "fingerprint": self._fingerprint,
            "host_key": self._host_key,
            "connections": len(self._factory.connections),
            "sessions": self._factory.sessions,
            **{kind: counters[kind] for kind in kinds},
        }


def _greeting(parts: Parts) -> str:
    node = parts.node
    return (
        f"Pilot {_version.__version__}, node {node.address} {node.parts.profile.hostname}".rstrip()
        + "\nhelp() lists what there is here; Ctrl-D leaves.\n"
    )
