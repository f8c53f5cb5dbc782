"""One peer: what is shared with it, and how far along that is."""

from __future__ import annotations

from math import inf
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall

from pilot.address import Address
from pilot.crypto.keys import KeyPair
from pilot.crypto.session import Exhausted, Lane, Session
from pilot.tunnel.core import RELAY, Core, Path
from pilot.tunnel.lifecycle import ILifecycle, lifecycle_machine
from pilot.tunnel.limits import TokenBucket
from pilot.tunnel.ways import Ways
from pilot.wire.packet import PROTO_CONTROL, encode_raw

#: Sessions of one peer at a time: in use, fading, on trial.
SESSIONS = 4

#: Keys a peer has left behind that are told from new ones.  One more and our own key is changed,
#: after which none of them opens anything.
RETIRED_KEYS = 32

#: Source port of our pings; not 0, where a reference node would answer the answer.
PING_PORT = 1

#: Pings without an answer after which a peer that we hear counts as deaf.
UNPROVED = 2

#: Ways on which key frames were sent, remembered with their times.
REMEMBERED_WAYS = 8

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

    The tunnel's hot path reads C{session} and C{ways} and calls L{expect}; everything else happens
    when keys or ways change, or when the peer's one timer fires.

    @ivar own: the key pair we offer this peer.
    @ivar session: the one we send in, None before the first.
    @ivar sessions: all that may still open something, oldest first, with the way their offer came.
    @ivar retired: keys that the peer has left behind while we offered C{own}.
    @ivar last_offer: the last key frame that was verified, as it came.
    @ivar life: the lifecycle.
    @ivar wanted_at: when we last had something to send to the peer.
    @ivar expecting: whether an answer is being watched for; see L{expect}.
    """

    __slots__ = (
        "_answers",
        "_ask_at",
        "_ask_mark",
        "_attempt",
        "_attempt_at",
        "_core",
        "_fade_at",
        "_fade_mark",
        "_idle_at",
        "_idle_mark",
        "_offered",
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
        "own",
        "retired",
        "session",
        "sessions",
        "wanted_at",
        "ways",
    )

    def __init__(self, core: Core, surroundings: Surroundings, node_id: int) -> None:
        now, config = core.now(), core.config
        self._core = core
        self._surroundings = surroundings
        self.node_id = node_id
        self.ways = Ways(core, node_id)
        self.own: KeyPair = core.pair
        self.session: Session | None = None
        self.sessions: dict[Session, Path] = {}
        self.retired: set[bytes] = set()
        self.last_offer = b""
        self.expecting = False
        self.wanted_at = -inf
        self.life: ILifecycle = lifecycle_machine(self)
        self._answers = TokenBucket(1 / config.answer_refill, now, capacity=config.answers)
        self._ask_at, self._ask_mark = -inf, 0
        self._attempt, self._attempt_at, self._tried_at = 0, inf, -inf
        self._fade_at = inf
        self._fade_mark: dict[Session, int] | None = None
        self._idle_at, self._idle_mark = now + config.idle_unkeyed, 0
        self._offered: dict[Path, float] = {}
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
    def heard(self) -> int:
        """Frames opened in all sessions together; grows while the peer is heard."""
        return sum(session.received for session in self.sessions)

    @property
    def calling(self) -> bool:
        """Whether key frames are being sent and repeated."""
        return self._attempt_at != inf

    # -- ways ----------------------------------------------------------------------------------

    def resolved(self, addr: Path) -> None:
        """The registry, or the LAN, says where the peer is."""
        news = addr != self.ways.registered
        self.ways.resolved(addr, keyed=self.session is not None)
        if news and self.calling and not self.ways.verified:
            self._call_at([addr])

    def use_relay(self) -> None:
        """The direct way does not work."""
        if self.ways.fall_back():
            self._look_again()
            if self.session is None or not self.session.confirmed:
                self._offer_unless_recent(RELAY)
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
        if session is self.session:  # an old one fades; where it comes from says nothing
            if self.ways.arrived(path):
                self._probe(path)
                lane.seen_from = None  # again with the next frame, until the probe is answered
            self._arm()

    def _look_again(self) -> None:
        """Have the next frame attended to, wherever it comes from."""
        for session in self.sessions:
            for lane in session.lanes.values():
                lane.seen_from = None

    def pong(self, sequence: int) -> None:
        """A ping of ours was answered."""
        self.ways.probe_answered(sequence)
        if sequence == self._proof:
            self._proof, self._unproved = None, 0
            self._proof_at = self._core.now() + self._core.config.proof

    def _probe(self, path: Path) -> None:
        """Find out whether frames get there this way."""
        sequence = self.ways.probe(path) if self.session is not None else None
        if sequence is not None and self.session is not None:
            self._send_ping(self.session, path, sequence)

    # -- keys and sessions ---------------------------------------------------------------------

    def find(self, peer_public: bytes) -> Session | None:
        """@return: the session of the key we offer now with that key of the peer."""
        for session in self.sessions:
            if session.own is self.own and session.peer_public == peer_public:
                return session
        return None

    def make_session(self, peer_public: bytes, path: Path) -> Session:
        """
        Derive a session with a key of the peer.

        @param path: the way the key came.
        @raise KeyRefused: the key is of low order.
        """
        session = Session(self.own, self._core.node_id, peer_public, self.node_id)
        if len(self.sessions) >= SESSIONS:
            spare = [s for s in self.sessions if s is not self.session]
            self._drop(next((s for s in spare if not s.confirmed), spare[0]))
        self.sessions[session] = path
        return session

    def answer(self, path: Path) -> None:
        """The peer offered a key that is new to us: it needs ours."""
        self._offer_unless_recent(path)

    def answer_again(self, session: Session, path: Path) -> None:
        """The peer offered a key that we know; perhaps it has lost ours."""
        now = self._core.now()
        if not session.confirmed:
            self.sessions[session] = path
        if now - self._offered.get(path, -inf) < self._core.config.same_way_pause:
            return
        if not self._answers.take(now):
            self._core.counters["answers_refused"] += 1
            return
        self._offer(path)
        if self.state == "lost":
            self._send_ping(session, path)

    def unopenable(self, path: Path) -> None:
        """
        A frame in the peer's name that no session opens.

        While the peer is heard that is a forgery.  If not, it may hold a key that we lost.
        """
        now, heard = self._core.now(), self.heard
        if now - self._ask_at < self._core.config.patience:
            return
        silent = heard == self._ask_mark
        self._ask_at, self._ask_mark = now, heard
        if silent and self._answers.take(now):
            self._insist(path)

    def remind(self) -> None:
        """The peer asked for our key without proving who it is: it gets it where we know it."""
        if self._answers.take(self._core.now()):
            self._offer(self.ways.current)

    def _offer_unless_recent(self, path: Path) -> None:
        sent = self._offered.get(path, -inf)
        if self._core.now() - sent >= self._core.config.same_way_pause:
            self._offer(path)

    def _insist(self, path: Path) -> None:
        """
        Offer our key, and ask for the peer's.

        A reference peer that has our key answers nothing to the same key again, whether its answer
        got lost or not.  What it does answer, with its own key, is an anonymous request.
        """
        self._offer_unless_recent(path)
        self._core.send(self._core.key_request(self.own), path, self.node_id)

    def _offer(self, path: Path) -> None:
        """Send our key."""
        if len(self._offered) >= REMEMBERED_WAYS and path not in self._offered:
            self._offered.clear()
        self._offered[path] = self._core.now()
        self._core.send(self._core.key_frame(self.own), path, self.node_id)

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

    def _drop(self, session: Session) -> None:
        del self.sessions[session]
        for lane in session.lanes.values():
            if self._core.lanes.get(lane.head) is lane:
                del self._core.lanes[lane.head]
        if session.confirmed and session.own is self.own:
            # Its frames could be replayed, were its key derived again.
            self.retired.add(session.peer_public)

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
                self._insist(path)

    def adopt(self, session: Session) -> None:
        """Send in this session from now on, starting with what waits."""
        rekeyed = self.session is not None
        self.ways.offered(self.sessions[session])
        self._use(session, rekeyed)
        self._start_attempts()

    def try_out(self, session: Session) -> None:
        """Have the peer confirm this session; go on in the old one until then."""
        if self.session is None or not self.session.confirmed:
            # Neither has proved anything yet: the newer one is the better guess.
            self.ways.offered(self.sessions[session])
            self._use(session, True)
        self._start_attempts()

    def renew(self) -> None:
        """Make a new key of our own and try out its session."""
        assert self.session is not None
        self.own = self._core.new_pair()
        self.make_session(self.session.peer_public, self.ways.current)
        self._offered.clear()
        self._start_attempts()

    def start_over(self) -> None:
        """
        The peer is lost, and comes back with a key that it had left behind.

        What it sealed for that key and our old one could be replayed, so we meet it with a new one.
        """
        self.own = self._core.new_pair()
        self.retired.clear()
        self._offered.clear()

    def promote(self, session: Session) -> None:
        """This session is good: use it, and let the others fade."""
        self._attempt_at = inf
        session.confirmed = True
        config, now = self._core.config, self._core.now()
        if session is not self.session:
            if self.session is None or self.session.own is not session.own:
                self.retired.clear()
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
        self._drop_all_but_hopeful(confirmed=False)
        if self.session is not None and self.own is not self.session.own:
            self._core.counters["renewals_failed"] += 1
            self._renew_hold = self._core.now() + self._renew_pause
            self._renew_pause = min(self._renew_pause * 2, self._core.config.renew_after)

    def _drop_all_but_hopeful(self, *, confirmed: bool) -> None:
        """Keep the session in use, and what the peer would use if it took the key on offer."""
        for session in list(self.sessions):
            hopeful = self.session is not None and (
                session is self.session
                or (
                    session.own is self.own
                    and session.peer_public == self.session.peer_public
                    and not session.confirmed
                )
            )
            if not hopeful and (confirmed or not session.confirmed):
                self._drop(session)

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
        self.session = session
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
        if both and (self.session is None or not self.session.confirmed or self.state == "lost"):
            self.use_relay()
        if step and not self.ways.verified:
            self._surroundings.reach(self, afresh=False)
        self._call_at(self.ways.candidates(both), insist=step > 0)

    def _call_at(self, paths: list[Path], *, insist: bool = False) -> None:
        """Send key frames these ways, and pings in each session that is to be confirmed."""
        for path in paths:
            if insist:
                self._insist(path)
            else:
                self._offer_unless_recent(path)
        for session, origin in list(self.sessions.items()):
            if not session.confirmed or session is self.session:
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
        self._silence_mark = self.heard
        self._silence_at = now + config.silence
        session = self.session
        if session is not None and session.confirmed and now >= self._renew_hold:
            worn = session.sent + session.received >= config.renew_frames or session.crowded
            if worn or now >= self._renew_at or len(self.retired) > RETIRED_KEYS:
                self.life.aged()
        self._arm()

    def _silence_due(self, now: float) -> None:
        if self.calling:
            self._silence_at = now + self._core.config.silence
        elif self.heard != self._silence_mark or self.session is None:
            self.expecting, self._silence_at = False, inf
            if self.session is not None and now >= self._proof_at:
                self._prove(self.session)
        elif not self._question and self.state != "lost":
            # Not everything is answered.  A ping is.
            self._question = True
            self._silence_at = now + self._core.config.patience
            self._send_ping(self.session, self.ways.current)
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
                self._offer(self.ways.current)
        self._proof = self._core.rng.getrandbits(32) | 1  # not the 0 of other pings
        self._send_ping(session, self.ways.current, self._proof)

    # -- the timer -----------------------------------------------------------------------------

    def stop(self) -> None:
        """The peer is forgotten."""
        self._stopped = True
        for session in list(self.sessions):
            self._drop(session)
        if self.session is not None:
            self._core.retire_pair()
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
        if len(self.sessions) > 1:
            self._fade_at = self._core.now() + self._core.config.fade / 2
            self._fade_mark = None

    def _fade_due(self, now: float) -> None:
        """Old sessions have had their time, unless it is the one in use that nobody uses."""
        if self.calling or self._fade_mark is None:
            self._fade_at = now + self._core.config.fade / 2
            self._fade_mark = {session: session.received for session in self.sessions}
            return
        self._fade_at = inf
        # What was on the way at the change has long arrived.  A peer that restarts can have its
        # last frames overtaken by its first ones, and then it was the change that was wrong.
        used = [s for s, before in self._fade_mark.items() if s.received > before and s.confirmed]
        if used and self.session not in used and used[-1] in self.sessions:
            self._use(used[-1], True)
            return
        self._drop_all_but_hopeful(confirmed=True)

    def _probe_due(self) -> None:
        for path in self.ways.probe_due():
            self._probe(path)
        if self.ways.relay:
            self._surroundings.reach(self, afresh=False)

    def _still_in_use(self, now: float) -> bool:
        exchanged = sum(session.sent + session.received for session in self.sessions)
        used = exchanged != self._idle_mark or self.calling
        self._idle_mark = exchanged
        confirmed = self.session is not None and self.session.confirmed
        config = self._core.config
        self._idle_at = now + (config.idle if confirmed else config.idle_unkeyed)
        return used
