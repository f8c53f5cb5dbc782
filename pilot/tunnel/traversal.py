"""The beacon: it tells us where we are seen, and introduces us to peers.

@see: protocol notes, I{The beacon protocol}, I{Hole punching}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from pilot.tunnel.core import Core
from pilot.tunnel.endpoints import SocketAddress, is_reachable
from pilot.tunnel.limits import TokenBucket
from pilot.tunnel.peers import PeerTable
from pilot.wire.beacon import (
    TYPE_DISCOVER_REPLY,
    TYPE_PUNCH_COMMAND,
    Discover,
    DiscoverReply,
    PunchCommand,
    PunchRequest,
    decode_message,
)
from pilot.wire.tunnel import MAGIC_PUNCH

log = Logger()

#: Empty frames that open a NAT; the number is the reference's.
PUNCH_FRAMES = 3

#: Refreshes without an answer after which the beacon counts as away.
UNANSWERED = 3

#: Punch requests remembered.
REQUESTS = 256


class BeaconClient:
    """
    Everything that passes between us and our beacon, relayed frames excepted.

    @ivar seen_at: our address as the beacon saw it last.
    @ivar moved: called with that address when it is not the one before.
    """

    def __init__(self, core: Core, table: PeerTable, *, encrypt: bool) -> None:
        """@param encrypt: False has no keys to offer."""
        self.seen_at: SocketAddress | None = None
        self.moved: Callable[[SocketAddress], None] = lambda address: None
        self._core = core
        self._table = table
        self._encrypt = encrypt
        self._timer: IDelayedCall | None = None
        self._waiting: list[Deferred[SocketAddress | None]] = []
        self._unanswered = 0
        self._requested: dict[int, float] = {}
        self._commands = TokenBucket(core.config.punches, core.now())

    # -- where we are --------------------------------------------------------------------------

    def discover(self) -> Deferred[SocketAddress | None]:
        """
        Ask the beacon where it sees the tunnel socket.

        @return: Deferred of the address, None if there is no beacon or none that answers.
        """
        if self._core.beacon is None:
            return succeed(None)
        answer: Deferred[SocketAddress | None] = Deferred()
        self._waiting.append(answer)
        if len(self._waiting) == 1:
            self.stop()
            self._ask(self._core.now() + self._core.config.discover_deadline)
        return answer

    def start(self) -> None:
        """Stay known to the beacon, from now on and as often as a NAT needs."""
        if not self._waiting:
            self.stop()
            self._refresh()

    def stop(self) -> None:
        """Stop asking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Stop asking, for good; who waits for the address waits no longer."""
        self.stop()
        self._tell(None)

    def _ask(self, deadline: float) -> None:
        self._timer = None
        pause = self._core.config.discover_retry
        if self._core.now() + pause > deadline:
            self._discovered(None)
            return
        self._say_hello()
        self._timer = self._core.clock.callLater(pause, self._ask, deadline)

    def _refresh(self) -> None:
        self._timer = None
        core = self._core
        if core.beacon is None or not core.node_id:
            return
        self._unanswered += 1
        if self._unanswered == UNANSWERED + 1:
            log.warn("the beacon does not answer: nobody can be relayed or introduced for now")
        self._say_hello()
        self._timer = core.clock.callLater(core.config.beacon_refresh, self._refresh)

    def _say_hello(self) -> None:
        if self._core.beacon is not None:
            self._core.socket.send(Discover(self._core.node_id).encode(), self._core.beacon)

    def _discovered(self, address: SocketAddress | None) -> None:
        if self._waiting:
            self.stop()
            self._tell(address)
            self.start()

    def _tell(self, address: SocketAddress | None) -> None:
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            if not answer.called:  # else its asker has cancelled it
                answer.callback(address)

    # -- what the beacon says ------------------------------------------------------------------

    def received(self, datagram: bytes) -> None:
        """
        Take a message of our own beacon.

        @raise WireError: it is malformed.
        """
        if datagram[0] == TYPE_DISCOVER_REPLY:
            reply: Any = decode_message(datagram)
            self._is_seen(reply)
        elif datagram[0] == TYPE_PUNCH_COMMAND:
            command: Any = decode_message(datagram)
            self._punch(command)
        else:
            self._core.counters["ignored"] += 1

    def _is_seen(self, reply: DiscoverReply) -> None:
        if self._unanswered > UNANSWERED:
            log.info("the beacon answers again")
        self._unanswered = 0
        before, self.seen_at = self.seen_at, (reply.host, reply.port)
        self._discovered(self.seen_at)
        if before is not None and before != self.seen_at:
            log.info("this node is now seen at {address}", address=self.seen_at)
            self.moved(self.seen_at)

    # -- hole punching -------------------------------------------------------------------------

    def request_punch(self, node_id: int) -> None:
        """Have the beacon introduce us to C{node_id}."""
        core = self._core
        if core.beacon is None or not core.node_id:
            return
        self._requested.pop(node_id, None)
        if len(self._requested) >= REQUESTS:
            del self._requested[next(iter(self._requested))]
        self._requested[node_id] = core.now()
        core.socket.send(PunchRequest(core.node_id, node_id).encode(), core.beacon)

    def _punch(self, command: PunchCommand) -> None:
        """Open our NAT towards an address, and offer our key to whoever is there."""
        core = self._core
        target = (command.host, command.port)
        if not core.node_id or not is_reachable(target) or not self._commands.take(core.now()):
            core.counters["punches_refused"] += 1
            return
        core.counters["punches"] += 1
        for _ in range(PUNCH_FRAMES):
            core.socket.send(MAGIC_PUNCH, target)
        if not self._encrypt:
            return
        # Nobody says who is there: one whom we asked for, or one who asked for us.
        pairs = {core.pair.public: core.pair}
        for node_id, at in self._requested.items():
            peer = self._table.get(node_id)
            if peer is not None and core.now() - at < core.config.punch_window:
                pairs[peer.ring.own.public] = peer.ring.own
        for pair in pairs.values():
            core.send(core.key_frame(pair), target, 0)
