"""Asking others to ping somebody for us, and doing so for them.

Two more kinds of datagrams beside those of L{skills.presence.detection.messages}::

    {"v":1,"k":"verify","x":TOKEN,"of":NODE}
    {"v":1,"k":"verified","x":TOKEN,"of":NODE,"ok":true|false}
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from skills.presence.core.effects import Datagram, Ping
from skills.presence.core.errors import BadMessage
from skills.presence.core.shared import Shared
from skills.presence.core.standing import Standing
from skills.presence.core.verifying import PING_TIMEOUT
from skills.presence.detection.items import read_node, read_whole

ERRANDS: Final = 128
"""Pings for others under way."""
ERRANDS_EACH: Final = 32
"""The same for one of them."""
EXPIRY: Final = 4 * PING_TIMEOUT
"""Seconds after which a ping without an outcome is forgotten."""
KINDS: Final = ("verify", "verified")


class _Errand(NamedTuple):
    asker: int
    token: int
    node: int
    at: float


class Helping:
    """Both sides of it."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._errands: dict[int, _Errand] = {}

    def ask(self, helper: int, token: int, node: int) -> None:
        """Ask somebody to ping a node for us."""
        self._send(helper, {"v": 1, "k": "verify", "x": token, "of": node})

    def received(self, now: float, peer: int, document: dict[str, Any], standing: Standing) -> None:
        """
        One of the two datagrams came in.
        @raise BadMessage: it is malformed.
        """
        token, node = read_whole(document.get("x")), read_node(document.get("of"))
        if document["k"] == "verify":
            self._take(now, peer, token, node)
            return
        ok = document.get("ok")
        if not isinstance(ok, bool):
            raise BadMessage("the presence datagram does not say whether it got an answer")
        if not standing.verifier.asked(token, node, peer):
            self._shared.counters["uninvited"] += 1
        elif not ok:
            standing.verifier.unable(token)
        else:
            entry = self._shared.directory.get(node)
            if entry is not None:
                standing.answered(now, entry, "gossip")

    def _take(self, now: float, peer: int, token: int, node: int) -> None:
        if node == self._shared.node_id:
            self._answer(peer, token, node, True)
            return
        for old, errand in list(self._errands.items()):
            if now - errand.at < EXPIRY:
                break
            del self._errands[old]
        own = sum(1 for errand in self._errands.values() if errand.asker == peer)
        if len(self._errands) >= ERRANDS or own >= ERRANDS_EACH:
            self._shared.counters["errands_refused"] += 1
            return
        mine = self._shared.next_token()
        self._errands[mine] = _Errand(peer, token, node, now)
        self._shared.counters["errands"] += 1
        self._shared.effects.append(Ping(mine, node, PING_TIMEOUT))

    def pinged(self, token: int, ok: bool) -> int | None:
        """@return: the node pinged, if this was for somebody else."""
        errand = self._errands.pop(token, None)
        if errand is None:
            return None
        self._answer(errand.asker, errand.token, errand.node, ok)
        return errand.node

    def _answer(self, peer: int, token: int, node: int, ok: bool) -> None:
        self._send(peer, {"v": 1, "k": "verified", "x": token, "of": node, "ok": ok})

    def _send(self, peer: int, document: dict[str, Any]) -> None:
        data = json.dumps(document, separators=(",", ":")).encode()
        self._shared.effects.append(Datagram(peer, data))
