"""What goes wrong on purpose between real processes, and who listens meanwhile."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pilot.client.skillcalls import SkillClient
from pilot.errors import PilotError

Place = tuple[str, int]


class Proxy:
    """
    A UDP port in front of a node's, which can be cut off from some others.

    Each correspondent gets a port of its own on the far side, as with an address translator, so
    that answers come back the same way.

    @ivar place: where others reach the node.
    @ivar cut: asked for each datagram of a correspondent, which is lost if it says so.
    """

    def __init__(self, behind: Place) -> None:
        self.cut: Callable[[Place], bool] = lambda correspondent: False
        self._behind = behind
        self._selector = selectors.DefaultSelector()
        self._front = self._open(("127.0.0.1", 0), None)
        self._upstream: dict[Place, socket.socket] = {}
        self.place: Place = self._front.getsockname()
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._over = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _open(self, place: Place, correspondent: Place | None) -> socket.socket:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(place)
        one.setblocking(False)
        self._selector.register(one, selectors.EVENT_READ, correspondent)
        return one

    def _run(self) -> None:
        while not self._over:
            for key, _ in self._selector.select(0.1):
                # A port that nobody has open answers with an error, which is a loss, too.
                with contextlib.suppress(OSError):
                    self._pass_on(key.fileobj, key.data)

    def _pass_on(self, arrived: Any, correspondent: Place | None) -> None:
        data, sender = arrived.recvfrom(65536)
        if correspondent is not None:  # an answer
            if not self.cut(correspondent):
                self._front.sendto(data, correspondent)
        elif not self.cut(sender):
            if sender not in self._upstream:
                self._upstream[sender] = self._open(("127.0.0.1", 0), sender)
            self._upstream[sender].sendto(data, self._behind)


class Listener:
    """
    Collects what a skill tells those who watch, until the process ends or is stopped.

    @ivar events: them, in order.
    """

    def __init__(self, agent: Any, skill: str, what: str = "watch", **arguments: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self._lines = SkillClient(skill, str(agent.socket)).feed(what, arguments)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(PilotError):
            for line in self._lines:
                self.events.append(line.get("event", line))

    def heard(self, name: str) -> bool:
        """@return: whether there was an event of that kind."""
        return any(event.get("event") == name for event in self.events)

    def about(self, status: str) -> Iterator[str]:
        """@return: the hostnames that were said to be so, in order."""
        return (event["hostname"] for event in self.events if event.get("to") == status)
