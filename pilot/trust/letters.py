"""The messages a node sends to port 444 of its peers.

@see: protocol notes, I{Messages on virtual port 444} and I{Signatures}.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.defer import Deferred, maybeDeferred

from pilot.crypto.identity import Identity
from pilot.trust.records import Step
from pilot.wire.handshake import ACCEPT, REJECT, REQUEST, REVOKE, HandshakeMessage, signed_text

_TYPE_OF = {Step.ASK: REQUEST, Step.ACCEPT: ACCEPT, Step.REJECT: REJECT, Step.REVOKE: REVOKE}

#: The only reason the reference gives for a revocation.
_REVOCATION = "trust revoked"

#: Peers whose latest timestamp is remembered.
_REMEMBERED = 1024


class Letters:
    """
    Writes, signs and sends.

    @ivar node_id: own node id, which every signature names.
    """

    def __init__(
        self,
        identity: Identity,
        node_id: int,
        *,
        send_message: Callable[[int, bytes], Deferred[None]],
        wall_time: Callable[[], float],
    ) -> None:
        self.node_id = node_id
        self._identity = identity
        self._send_message = send_message
        self._wall_time = wall_time
        self._latest: OrderedDict[int, int] = OrderedDict()

    def write(self, node_id: int, step: Step, text: str) -> bytes:
        """
        @param step: ASK, ACCEPT, REJECT or REVOKE.
        @param text: justification of a request, reason of a rejection; else unused.
        @return: the message for C{node_id}.
        """
        return HandshakeMessage(
            type=_TYPE_OF[step],
            node_id=self.node_id,
            public_key=self._identity.public_key_text,
            justification=text if step is Step.ASK else "",
            signature=self._identity.sign_text(signed_text(self.node_id, node_id)),
            reason={Step.REJECT: text, Step.REVOKE: _REVOCATION}.get(step, ""),
            # Never twice the same second for one peer: a reference peer takes two equal
            # messages of one second for a replay.
            timestamp=max(int(self._wall_time()), self._latest.get(node_id, -1) + 1),
        ).encode()

    def send(self, node_id: int, step: Step, text: str) -> Deferred[None]:
        """@return: Deferred that fires once the peer's node has acknowledged the message."""
        data = self.write(node_id, step, text)
        self._latest[node_id] = max(int(self._wall_time()), self._latest.get(node_id, -1) + 1)
        self._latest.move_to_end(node_id)
        if len(self._latest) > _REMEMBERED:
            self._latest.popitem(last=False)
        return maybeDeferred(self._send_message, node_id, data)
