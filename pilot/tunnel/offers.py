"""Key frames to one peer: when one is due, and when it would be one too many."""

from __future__ import annotations

from math import inf

from pilot.tunnel.core import Core, Path
from pilot.tunnel.keyring import KeyRing
from pilot.tunnel.limits import TokenBucket

#: Ways on which key frames were sent, remembered with their times.
REMEMBERED_WAYS = 8


class Offers:
    """
    Sends our key to one peer.

    What the peer, or anybody in its name, can make us send is rationed; what we want to send
    ourselves is not repeated on the same way at once.
    """

    __slots__ = ("_ask_at", "_ask_mark", "_core", "_node_id", "_ration", "_ring", "_sent")

    def __init__(self, core: Core, node_id: int, ring: KeyRing) -> None:
        config = core.config
        self._core = core
        self._node_id = node_id
        self._ring = ring
        self._sent: dict[Path, float] = {}
        self._ration = TokenBucket(1 / config.answer_refill, core.now(), capacity=config.answers)
        self._ask_at, self._ask_mark = -inf, 0

    def send(self, path: Path) -> None:
        """Offer our key, unless that was done this way a moment ago."""
        if not self._just_sent(path):
            self._send(path)

    def insist(self, path: Path) -> None:
        """
        Offer our key, and ask for the peer's.

        A reference peer that has our key answers nothing to the same key again, whether its answer
        got lost or not.  What it does answer, with its own key, is an anonymous request.
        """
        self.send(path)
        self._core.send(self._core.key_request(self._ring.own), path, self._node_id)

    def answer_again(self, path: Path) -> bool:
        """
        The peer offered a key that we know; perhaps it has lost ours.

        @return: whether it got ours once more.
        """
        if self._just_sent(path):
            return False
        if not self._ration.take(self._core.now()):
            self._core.counters["answers_refused"] += 1
            return False
        self._send(path)
        return True

    def remind(self, path: Path) -> None:
        """Somebody asked for our key in the peer's name."""
        if self._ration.take(self._core.now()):
            self._send(path)

    def unopenable(self, path: Path) -> None:
        """
        A frame in the peer's name that no session opens.

        While the peer is heard that is a forgery.  If not, it may hold a key that we lost.
        """
        now, heard = self._core.now(), self._ring.heard
        if now - self._ask_at < self._core.config.patience:
            return
        silent = heard == self._ask_mark
        self._ask_at, self._ask_mark = now, heard
        if silent and self._ration.take(now):
            self.insist(path)

    def changed(self) -> None:
        """There is a new key to offer."""
        self._sent.clear()

    def force(self, path: Path) -> None:
        """Offer our key, come what may."""
        self._send(path)

    def _just_sent(self, path: Path) -> bool:
        sent = self._sent.get(path, -inf)
        return self._core.now() - sent < self._core.config.same_way_pause

    def _send(self, path: Path) -> None:
        if len(self._sent) >= REMEMBERED_WAYS and path not in self._sent:
            self._sent.clear()
        self._sent[path] = self._core.now()
        self._core.send(self._core.key_frame(self._ring.own), path, self._node_id)
