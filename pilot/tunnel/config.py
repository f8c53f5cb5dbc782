"""The limits and times of the tunnel, each with a name and a reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TunnelConfig:
    """
    Every number of the tunnel that one might want to turn.  Times are in seconds.

    @ivar max_peers: peers remembered.  A new one takes the place of one that never proved a key, or
        that nothing was sent to for C{idle_unkeyed}; if there is none, it is refused.
    @ivar queue_packets: packets that wait for one peer's key; the oldest goes first.
    @ivar queue_peers: peers for which packets wait.
    @ivar queue_age: packets that waited longer are stale: their sender has repeated or forgotten
        them.
    @ivar attempts: pauses after each key frame of an exchange that nobody answers.  The first is a
        few round trips; together they outlast a dial.
    @ivar hurry: while packets keep coming for a peer that does not answer, key frames are sent this
        often at least: the packets do not wait longer than C{queue_age}.
    @ivar both_ways_after: attempts after which a key frame goes directly and through the beacon: a
        reference peer refuses a changed key that does not come the way the last one came.  Not
        earlier, because it also relays for good whatever was relayed once.
    @ivar same_way_pause: a key frame sent this way so recently need not be sent again.
    @ivar answers: key frames that a peer may draw from us at once by repeating its own.
    @ivar answer_refill: ...and the time for one more.
    @ivar verifications: signatures of strangers verified per second, about 70 microseconds each.
    @ivar lookup_deadline: the registry has this long to name a peer's identity key.
    @ivar lookups: lookups under way on behalf of strangers.
    @ivar identity_ttl: a known identity key is looked up again after this, unless the registry is
        away.
    @ivar identity_pause: a key that does not fit the known one has it looked up again, this often
        at most; a node without a key is asked for again after the same time.
    @ivar identities: identity keys remembered.
    @ivar resolve_deadline: the registry has this long to say where a peer is.
    @ivar renew_frames: a session that sealed and opened this many frames gets a new key; far
        below what AES-GCM bears even with the largest frames.
    @ivar renew_after: ...or that lived this long and is in use.
    @ivar renew_retry: pause after a peer did not follow to the new key; doubles up to
        C{renew_after}.
    @ivar fade: an old session still opens what was on the way when its successor was confirmed.
    @ivar silence: something was sent and nothing came back: time to ask.
    @ivar patience: ...and to wait for the answer, before the peer is taken for lost.
    @ivar proof: while there is traffic, this often a ping shows that the peer hears us too.
    @ivar idle: a peer with which nothing was exchanged for this long is forgotten.
    @ivar idle_unkeyed: the same for one that never proved a key.
    @ivar beacon_refresh: shorter than any NAT forgets a mapping.
    @ivar discover_retry: pause between questions to the beacon at the start.
    @ivar discover_deadline: the beacon has this long to answer at the start.
    @ivar check_beacon_source: take messages of the beacon only from its address.  To be switched
        off when a load balancer answers in its stead.
    @ivar punch_window: a punch command is taken for the answer to a request this recent.
    @ivar punches: punch commands obeyed per second.
    @ivar probe_pauses: pauses between looks for a direct way while a peer is relayed.
    @ivar strangers: key frames a second sent to peers whose frames we have no key for.
    @ivar pongs: pings answered in one turn.
    @ivar loopback_queue: packets to ourselves that wait for the next turn.
    @ivar datagram: bytes of UDP payload that cross any path unfragmented.
    """

    max_peers: int = 4096
    queue_packets: int = 64
    queue_peers: int = 256
    queue_age: float = 5.0
    attempts: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0)
    hurry: float = 1.0
    both_ways_after: int = 3
    same_way_pause: float = 0.4
    answers: float = 4.0
    answer_refill: float = 2.0
    verifications: float = 500.0
    lookup_deadline: float = 5.0
    lookups: int = 256
    identity_ttl: float = 600.0
    identity_pause: float = 10.0
    identities: int = 8192
    resolve_deadline: float = 20.0
    renew_frames: int = 1 << 26
    renew_after: float = 3600.0
    renew_retry: float = 60.0
    fade: float = 10.0
    silence: float = 3.0
    patience: float = 2.0
    proof: float = 10.0
    idle: float = 1800.0
    idle_unkeyed: float = 60.0
    beacon_refresh: float = 25.0
    discover_retry: float = 0.5
    discover_deadline: float = 5.0
    check_beacon_source: bool = True
    punch_window: float = 5.0
    punches: float = 20.0
    probe_pauses: tuple[float, ...] = (1.0, 5.0, 15.0, 30.0, 60.0)
    strangers: float = 20.0
    pongs: int = 64
    loopback_queue: int = 8192
    datagram: int = 1200
