"""One peer: what is shared with it, and how far along that is."""

from __future__ import annotations

from math import inf
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall

from pilot.address import Address
from pilot.crypto.session import Exhausted, Lane, Session
from pilot.tunnel.core import RELAY, Core, Path
from pilot.tunnel.keyring import KeyRing
from pilot.tunnel.lifecycle import ILifecycle, lifecycle_machine
from pilot.tunnel.offers import Offers
from pilot.tunnel.ways import Ways
from pilot.wire.packet import PROTO_CONTROL, encode_raw

#: Source port of our pings; not 0, where a reference node would answer the answer.
PING_PORT = 1

#: Pings without an answer after which a peer that we hear counts as deaf.
UNPROVED = 2

_SLACK = 1e-6  # a timer may fire this much early, seconds


class Surroundings(Protocol):
    """What a peer asks of the tunnel it belongs to."""

    def flush(self, peer: Peer) -> None:
        """Send what waits for the peer's key."""

    def drop_queue(self, peer: Peer) -> None:
        """Forget what waits for the peer's key."""

    def reach(self, peer: Peer, *, afresh: bool) -> None:
        """Ask registry and beacon for a way to the peer; C{afresh}: what was known is of no use."""

    def remove(self, peer: Peer) -> None:
        """Forget the peer."""


class Peer:
    """
    One entry of the peer table; carries out what the lifecycle decides.

    The tunnel's hot path reads C{ring.session} and C{ways} and calls L{expect}; everything else
    happens when keys or ways change, or when the peer's one timer fires.

    @ivar ring: the keys shared with it.
    @ivar ways: where its frames go.
    @ivar offers: the key frames it gets.
    @ivar last_offer: the last key frame that was verified, as it came.
    @ivar life: the lifecycle.
    @ivar wanted_at: when we last had something to send to the peer.
    @ivar expecting: whether an answer is being watched for; see L{expect}.
    """

    __slots__ = (
        "_attempt",
        "_attempt_at",
        "_core",
        "_fade_at",
        "_fade_mark",
        "_idle_at",
        "_idle_mark",
        "_proof",
        "_proof_at",
        "_question",
        "_renew_at",
        "_renew_hold",
        "_renew_pause",
        "_silence_at",
        "_silence_mark",
        "_stopped",
        "_surroundings",
        "_timer",
        "_timer_at",
        "_tried_at",
        "_unproved",
        "expecting",
        "last_offer",
        "life",
        "node_id",
        "offers",
        "ring",
        "wanted_at",
        "ways",
    )

    def __init__(self, core: Core, surroundings: Surroundings, node_id: int) -> None:
        now, config = core.now(), core.config
        self._core = core
        self._surroundings = surroundings
        self.node_id = node_id
        self.ways = Ways(core, node_id)
        self.ring = KeyRing(core, node_id)
        self.offers = Offers(core, node_id, self.ring)
        self.last_offer = b""
        self.expecting = False
        self.wanted_at = -inf
        self.life: ILifecycle = lifecycle_machine(self)
        self._attempt, self._attempt_at, self._tried_at = 0, inf, -inf
        self._fade_at = inf
        self._fade_mark: dict[Session, int] | None = None
        self._idle_at, self._idle_mark = now + config.idle_unkeyed, 0
        self._proof: int | None = None
        self._proof_at, self._unproved = now + config.proof, 0
        self._question = False
        self._renew_at, self._renew_hold = inf, -inf
        self._renew_pause = config.renew_retry
        self._silence_at, self._silence_mark = inf, 0
        self._stopped = False
        self._timer: IDelayedCall | None = None
        self._timer_at = inf
        self._arm()

    # -- what others want to know --------------------------------------------------------------

    @property
    def state(self) -> str:
        """Where the tunnel stands: a state of the lifecycle."""
        return self.life.state_name()

    @property
    def calling(self) -> bool:
        """Whether key frames are being sent and repeated."""
        return self._attempt_at != inf

    # -- ways ----------------------------------------------------------------------------------

    def resolved(self, addr: Path) -> None:
        """The registry, or the LAN, says where the peer is."""
        news = addr != self.ways.registered
        self.ways.resolved(addr, keyed=self.ring.session is not None)
        if news and self.calling and not self.ways.verified:
            self._call_at([addr])

    def use_relay(self) -> None:
        """The direct way does not work."""
        if self.ways.fall_back():
            self._look_again()
            if not self.ring.confirmed:
                self.offers.send(RELAY)
            self._arm()

    def attend(self, lane: Lane, path: Path) -> None:
        """
        An authentic frame, newer than all before, came in C{lane}, and not from where the last one
        came: the only thing that moves a peer.
        """
        session = lane.session
        lane.seen_from = path
        if not session.confirmed or self.state == "lost":
            self.life.confirmed(session)
        if session is self.ring.session:  # an old one fades; where it comes from says nothing
            if self.ways.arrived(path):
                self._probe(path)
                lane.seen_from = None  # again with the next frame, until the probe is answered
            self._arm()

    def _look_again(self) -> None:
        """Have the next frame attended to, wherever it comes from."""
        for lane in self.ring.lanes():
            lane.seen_from = None

    def pong(self, sequence: int) -> None:
        """A ping of ours was answered."""
        self.ways.probe_answered(sequence)
        if sequence == self._proof:
            self._proof, self._unproved = None, 0
            self._proof_at = self._core.now() + self._core.config.proof

    def _probe(self, path: Path) -> None:
        """Find out whether frames get there this way."""
        sequence = self.ways.probe(path) if self.ring.session is not None else None
        if sequence is not None and self.ring.session is not None:
            self._send_ping(self.ring.session, path, sequence)

    # -- keys and sessions ---------------------------------------------------------------------

    def answer_again(self, session: Session, path: Path) -> None:
        """The peer offered a key that we know; perhaps it has lost ours."""
        if not session.confirmed:
            self.ring.sessions[session] = path
        if self.offers.answer_again(path) and self.state == "lost":
            self._send_ping(session, path)

    def _send_ping(self, session: Session, path: Path, sequence: int = 0) -> None:
        """Seal a ping in C{session}: whoever holds the key answers it."""
        here, there = Address(0, self._core.node_id).pack(), Address(0, self.node_id).pack()
        ping = encode_raw(0, PROTO_CONTROL, here, there, PING_PORT, 0, sequence, 0, 0, b"")
        self.send_quietly(session, ping, path)

    def send_quietly(self, session: Session, packet: bytes, path: Path) -> None:
        """Send one packet without watching for an answer."""
        try:
            frame = b"".join(session.seal((packet,)))
        except Exhausted:
            self._core.counters["sessions_exhausted"] += 1
            return
        self._core.counters["tunnel_encryption_success"] += 1
        self._core.send(frame, path, self.node_id)

    # -- what the lifecycle wants done (see L{pilot.tunnel.lifecycle.Care}) ----------------------

    def call(self) -> None:
        """Send key frames until somebody answers."""
        self.wanted_at = self._core.now()
        self._start_attempts()

    def hurry(self) -> None:
        """Somebody wants the peer now: do not wait for the next attempt."""
        now = self.wanted_at = self._core.now()
        if self.calling and now - self._tried_at >= self._core.config.hurry:
            self._tried_at = now
            for path in self.ways.candidates(False):
                self.offers.insist(path)

    def adopt(self, session: Session) -> None:
        """Send in this session from now on, starting with what waits."""
        rekeyed = self.ring.session is not None
        self.ways.offered(self.ring.sessions[session])
        self._use(session, rekeyed)
        self._start_attempts()

    def try_out(self, session: Session) -> None:
        """Have the peer confirm this session; go on in the old one until then."""
        if not self.ring.confirmed:
            # Neither has proved anything yet: the newer one is the better guess.
            self.ways.offered(self.ring.sessions[session])
            self._use(session, True)
        self._start_attempts()

    def renew(self) -> None:
        """Make a new key of our own and try out its session."""
        assert self.ring.session is not None
        self.ring.change_own()
        self.ring.make(self.ring.session.peer_public, self.ways.current)
        self.offers.changed()
        self._start_attempts()

    def start_over(self) -> None:
        """
        The peer is lost, and comes back with a key that it had left behind.

        What it sealed for that key and our old one could be replayed, so we meet it with a new one.
        """
        self.ring.change_own()
        self.offers.changed()

    def promote(self, session: Session) -> None:
        """This session is good: use it, and let the others fade."""
        self._attempt_at = inf
        session.confirmed = True
        config, now = self._core.config, self._core.now()
        if session is not self.ring.session:
            self._use(session, True)
        self._let_fade()
        # Spread, lest both ends think of it at the same moment.
        self._renew_at = now + config.renew_after * self._core.rng.uniform(0.75, 1.0)
        self._renew_pause = config.renew_retry
        self._idle_at = now + config.idle
        self._arm()

    def withdraw(self) -> None:
        """
        The sessions on trial were not confirmed: go on in the old one.

        A key of our own that was not followed stays on offer all the same.  The peer may have
        taken it, with only the answers lost, and then it knows the one before no more.
        """
        self.ring.weed(confirmed=False)
        if self.ring.session is not None and self.ring.own is not self.ring.session.own:
            self._core.counters["renewals_failed"] += 1
            self._renew_hold = self._core.now() + self._renew_pause
            self._renew_pause = min(self._renew_pause * 2, self._core.config.renew_after)

    def search(self) -> None:
        """Look for the peer: where it was, where the registry says it is, through the beacon."""
        if self.calling:
            return
        self.ways.verified = False
        self._look_again()  # any frame ends the search
        self._surroundings.reach(self, afresh=True)
        self._start_attempts()

    def give_up(self) -> None:
        """Nobody answers: drop what waits."""
        self._core.counters["calls_unanswered"] += 1
        self._core.incidents.note(
            "unanswered", "node {node} does not answer key frames", node=self.node_id
        )
        self._surroundings.drop_queue(self)

    def _use(self, session: Session, rekeyed: bool) -> None:
        self.ring.session = session
        self._let_fade()
        self._core.emit(
            "tunnel.established",
            {
                "peer_node_id": self.node_id,
                "authenticated": True,
                "relay": self.ways.relay,
                "rekeyed": rekeyed,
            },
        )
        self._surroundings.flush(self)

    # -- attempts ------------------------------------------------------------------------------

    def _start_attempts(self) -> None:
        self._attempt = 0
        self._try()
        self._arm()

    def _try(self) -> None:
        """Make the next attempt, if there is one left."""
        core, step = self._core, self._attempt
        if step >= len(core.config.attempts):
            self._attempt_at = inf
            self.life.exhausted()
            return
        self._attempt = step + 1
        self._tried_at = core.now()
        self._attempt_at = self._tried_at + core.config.attempts[step]
        both = step >= core.config.both_ways_after and core.beacon is not None
        if both and (not self.ring.confirmed or self.state == "lost"):
            self.use_relay()
        if step and not self.ways.verified:
            self._surroundings.reach(self, afresh=False)
        self._call_at(self.ways.candidates(both), insist=step > 0)

    def _call_at(self, paths: list[Path], *, insist: bool = False) -> None:
        """Send key frames these ways, and pings in each session that is to be confirmed."""
        for path in paths:
            if insist:
                self.offers.insist(path)
            else:
                self.offers.send(path)
        for session, origin in self.ring.on_trial():
            for way in paths if session.confirmed else dict.fromkeys((*paths, origin)):
                self._send_ping(session, way)

    # -- silence and age -----------------------------------------------------------------------

    def expect(self) -> None:
        """
        Something was sent: the peer should be heard from.

        Called for a batch only if nothing is expected yet, so once every few seconds at most.
        """
        now, config = self._core.now(), self._core.config
        self.wanted_at = now
        self.expecting, self._question = True, False
        self._silence_mark = self.ring.heard
        self._silence_at = now + config.silence
        due = now >= self._renew_at or self.ring.worn()
        if due and self.ring.confirmed and now >= self._renew_hold:
            self.life.aged()
        self._arm()

    def _silence_due(self, now: float) -> None:
        if self.calling:
            self._silence_at = now + self._core.config.silence
        elif self.ring.heard != self._silence_mark or self.ring.session is None:
            self.expecting, self._silence_at = False, inf
            if self.ring.session is not None and now >= self._proof_at:
                self._prove(self.ring.session)
        elif not self._question and self.state != "lost":
            # Not everything is answered.  A ping is.
            self._question = True
            self._silence_at = now + self._core.config.patience
            self._send_ping(self.ring.session, self.ways.current)
        else:
            self.expecting, self._silence_at = False, inf
            self.life.missed()

    def _prove(self, session: Session) -> None:
        """
        We hear the peer; see that it hears us.

        A forged frame, or a damaged one, is enough to have a reference peer refuse all that we
        send from then on.  A key frame, even with the key it knows, puts that right.
        """
        if self._proof is not None:
            self._unproved += 1
            if self._unproved >= UNPROVED:
                self._unproved = 0
                self._core.counters["deaf_peers"] += 1
                self.offers.force(self.ways.current)
        self._proof = self._core.rng.getrandbits(32) | 1  # not the 0 of other pings
        self._send_ping(session, self.ways.current, self._proof)

    # -- the timer -----------------------------------------------------------------------------

    def stop(self) -> None:
        """The peer is forgotten."""
        self._stopped = True
        self.ring.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        """See that the timer fires when the next thing is due; too early is harmless."""
        if self._stopped:
            return
        due = min(
            self._attempt_at,
            self._silence_at,
            self._fade_at,
            self.ways.probe_at,
            self._idle_at,
        )
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        delay = max(0.0, due - self._core.now())
        self._timer = self._core.clock.callLater(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = self._core.now() + _SLACK
        if now >= self._attempt_at:
            self._try()
        if now >= self._silence_at:
            self._silence_due(now)
        if now >= self._fade_at:
            self._fade_due(now)
        if now >= self.ways.probe_at:
            self._probe_due()
        if now >= self._idle_at and not self._still_in_use(now):
            self._surroundings.remove(self)
        self._arm()

    def _let_fade(self) -> None:
        if len(self.ring.sessions) > 1:
            self._fade_at = self._core.now() + self._core.config.fade / 2
            self._fade_mark = None

    def _fade_due(self, now: float) -> None:
        """Old sessions have had their time, unless it is the one in use that nobody uses."""
        if self.calling or self._fade_mark is None:
            self._fade_at = now + self._core.config.fade / 2
            self._fade_mark = {session: session.received for session in self.ring.sessions}
            return
        self._fade_at = inf
        # What was on the way at the change has long arrived.  A peer that restarts can have its
        # last frames overtaken by its first ones, and then it was the change that was wrong.
        used = [s for s, before in self._fade_mark.items() if s.received > before and s.confirmed]
        if used and self.ring.session not in used and used[-1] in self.ring.sessions:
            self._use(used[-1], True)
            return
        self.ring.weed(confirmed=True)

    def _probe_due(self) -> None:
        for path in self.ways.probe_due():
            self._probe(path)
        if self.ways.relay:
            self._surroundings.reach(self, afresh=False)

    def _still_in_use(self, now: float) -> bool:
        exchanged = self.ring.exchanged
        used = exchanged != self._idle_mark or self.calling
        self._idle_mark = exchanged
        config = self._core.config
        self._idle_at = now + (config.idle if self.ring.confirmed else config.idle_unkeyed)
        return used
