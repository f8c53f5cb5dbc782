"""The ways to one peer: which is believed, which is used, which is being tried.

@see: protocol notes, I{Relay fallback}, I{Recommended behaviour that stays compatible}.
"""

from __future__ import annotations

from math import inf

from twisted.logger import Logger

from pilot.tunnel.core import RELAY, Core, Path

log = Logger()

#: Probes for a direct way that may still be answered.
PROBES = 8


class Ways:
    """
    Where the frames to one peer go.

    Only authentic frames, and answers to our own, prove a way.  A key frame proves nothing but who
    made it: anybody can replay it from anywhere, so it serves until something better is known.

    @ivar direct: where frames go when not relayed; None if nobody knows.
    @ivar verified: whether C{direct} is proved.
    @ivar registered: where the registry says the peer is.
    @ivar relay: whether frames go through the beacon.
    @ivar addr: where datagrams are sent; None if there is no way.
    @ivar wrap: what the beacon wants in front of them; empty when they go directly.
    @ivar probe_at: when to look for a direct way again; infinite while none is missed.
    """

    __slots__ = (
        "_core",
        "_node_id",
        "_probe_step",
        "_probes",
        "addr",
        "direct",
        "probe_at",
        "registered",
        "relay",
        "verified",
        "wrap",
    )

    def __init__(self, core: Core, node_id: int) -> None:
        self._core = core
        self._node_id = node_id
        self.direct: Path | None = None
        self.verified = False
        self.registered: Path | None = None
        self.relay = False
        self.addr: Path | None = None
        self.wrap = b""
        self.probe_at, self._probe_step = inf, 0
        self._probes: dict[int, tuple[Path, float]] = {}

    def aim(self) -> None:
        """Settle where datagrams go, after something about the ways has changed."""
        core = self._core
        if self.relay and core.beacon is not None:
            self.addr, self.wrap = core.beacon, core.relay_header(self._node_id)
        else:
            self.addr, self.wrap = self.direct, b""
        if self.relay and self.probe_at == inf:
            self._probe_step = 0
            self.probe_at = core.now() + core.config.probe_pauses[0]

    @property
    def current(self) -> Path:
        """The way our frames take now."""
        return RELAY if self.relay or self.direct is None else self.direct

    def candidates(self, both: bool) -> list[Path]:
        """
        @param both: relayed and directly, not only the way frames take now.
        @return: the ways that a key frame should take, the likeliest first, none twice.
        """
        ways = [self.current]
        if both:
            ways += [RELAY] if self.direct is None else [RELAY, self.direct]
        if not self.verified and self.registered is not None:
            ways.append(self.registered)
        if self._core.beacon is None:
            ways = [way for way in ways if way is not RELAY]
        return list(dict.fromkeys(ways))

    # -- what is learned -----------------------------------------------------------------------

    def resolved(self, addr: Path, *, keyed: bool) -> None:
        """
        The registry, or the LAN, says where the peer is.

        @param keyed: it has answered us before, so that we may know better.
        """
        self.registered = addr
        if self.direct is None or not keyed:
            self.direct = addr
        self.aim()

    def offered(self, path: Path) -> None:
        """A key frame came this way.  Without better knowledge ours go back the same way."""
        if self.verified:
            return
        if path is RELAY:
            self._relay()
        else:
            self.relay, self.direct = False, path
        self.aim()

    def arrived(self, path: Path) -> bool:
        """
        An authentic frame, newer than all before, came this way.

        @return: whether the way should be probed before it is used.
        """
        if path is RELAY:
            if not self.verified:
                self._relay()
        elif self.relay:
            # It reaches us directly.  Whether we reach it too, only an answer can tell.
            return True
        else:
            self.direct, self.verified = path, True
        self.aim()
        return False

    def _relay(self) -> None:
        """The peer reaches us through the beacon: so do we."""
        if not self.relay:
            self.relay = True
            self._core.emit("tunnel.relay_activated", {"peer_node_id": self._node_id})

    def fall_back(self) -> bool:
        """
        The direct way does not work.

        @return: whether frames are relayed from now on that were not before.
        """
        if self._core.beacon is None or self.relay:
            return False
        self.relay, self.verified = True, False
        self.aim()
        return True

    # -- back to the direct way ----------------------------------------------------------------

    def probe(self, path: Path) -> int | None:
        """@return: a number to be sent there in a ping; None if one was sent a moment ago."""
        now = self._core.now()
        recent = now - self._core.config.patience
        if any(way == path and at > recent for way, at in self._probes.values()):
            return None
        if len(self._probes) >= PROBES:
            del self._probes[next(iter(self._probes))]
        sequence = self._core.rng.getrandbits(32)
        self._probes[sequence] = (path, now)
        return sequence

    def probe_answered(self, sequence: int) -> None:
        """A ping was answered, whatever way the answer took: ours got through."""
        probe = self._probes.pop(sequence, None)
        if probe is not None and self.relay:
            log.debug("node {node} is reached directly again", node=self._node_id)
            self.direct, self.verified, self.relay = probe[0], True, False
            self._probes.clear()
            self.probe_at = inf
            self.aim()

    def probe_due(self) -> set[Path]:
        """@return: the ways to probe now; the next time is set."""
        if not self.relay:
            self.probe_at = inf
            return set()
        pauses = self._core.config.probe_pauses
        self._probe_step = min(self._probe_step + 1, len(pauses) - 1)
        self.probe_at = self._core.now() + pauses[self._probe_step]
        return {way for way in (self.direct, self.registered) if way is not None}
