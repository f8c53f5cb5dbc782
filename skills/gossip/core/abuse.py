"""What one member may cost: a budget of messages and bytes, and silence for those who send rubbish.

Nothing here looks at the content of a message; what a register may hold is decided where registers
are merged.
"""

from __future__ import annotations

from skills.gossip.core.config import GossipConfig

#: Seconds of budget that may be used at once: an exchange is a burst.
BURST = 2.0


class Conduct:
    """
    How one member behaves.

    @ivar over: messages dropped because they came too fast.
    @ivar errors: malformed messages, ever.
    @ivar muted_until: its messages are dropped until then.
    """

    __slots__ = (
        "_at",
        "_bytes",
        "_error_count",
        "_error_since",
        "_messages",
        "_nacked",
        "_served",
        "_served_at",
        "errors",
        "muted_until",
        "over",
    )

    def __init__(self, now: float, config: GossipConfig) -> None:
        self._messages = config.peer_messages * BURST
        self._bytes = config.peer_bytes * BURST
        self._at = now
        self._served = 0.0
        self._served_at = now
        self._error_since = now
        self._error_count = 0
        self._nacked = float("-inf")
        self.errors = 0
        self.over = 0
        self.muted_until = float("-inf")

    def admits(self, now: float, size: int, config: GossipConfig) -> bool:
        """
        Charge a message.

        @param size: its bytes.
        @return: whether to read it.
        """
        if now < self.muted_until:
            return False
        passed = now - self._at
        if passed > 0.0:
            self._at = now
            self._messages = min(
                config.peer_messages * BURST, self._messages + passed * config.peer_messages
            )
            self._bytes = min(config.peer_bytes * BURST, self._bytes + passed * config.peer_bytes)
        if self._messages < 1.0 or self._bytes < size:
            self.over += 1
            return False
        self._messages -= 1.0
        self._bytes -= size
        return True

    def serves(self, now: float, size: int, config: GossipConfig) -> bool:
        """
        Charge state that we are to send, by the same measure: what a member asks for must not
        cost us more than what it sends.

        @return: whether to send it now.
        """
        served = max(0.0, self._served - (now - self._served_at) * config.peer_bytes)
        if served > config.peer_bytes * (BURST - 1.0):
            return False
        self._served, self._served_at = served + size, now
        return True

    def malformed(self, now: float, config: GossipConfig) -> bool:
        """
        Count a malformed message.

        @return: whether that was one too many, and the member is muted now.
        """
        self.errors += 1
        if now - self._error_since > config.mute_window:
            self._error_since, self._error_count = now, 0
        self._error_count += 1
        if self._error_count < config.mute_errors:
            return False
        self._error_count = 0
        self.muted_until = now + config.mute
        return True

    def may_nack(self, now: float, config: GossipConfig) -> bool:
        """@return: whether a refusal may be told now; refusals must not cost more than abuse."""
        if now - self._nacked < config.nack_pause:
            return False
        self._nacked = now
        return True
