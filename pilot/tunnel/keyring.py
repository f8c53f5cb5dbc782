"""The keys shared with one peer: in use, on trial, fading, and left behind.

@see: protocol notes, I{Nonce}, I{Recommended behaviour that stays compatible}.
"""

from __future__ import annotations

from collections.abc import Iterator

from pilot.crypto.keys import KeyPair
from pilot.crypto.session import Lane, Session
from pilot.tunnel.core import Core, Path

#: Sessions of one peer at a time.
SESSIONS = 4

#: Keys a peer has left behind that are told from new ones.  One more and our own key is changed,
#: after which none of them opens anything.
RETIRED_KEYS = 32


class KeyRing:
    """
    Sessions with one peer, and the rules by which none is ever made a second time.

    A session that is forgotten takes its replay windows with it.  Therefore the keys a peer has
    left behind are remembered as long as we offer the key that they were met with.

    @ivar own: the key pair we offer.
    @ivar session: the one we send in, None before the first.
    @ivar sessions: all that may still open something, oldest first, with the way their offer came.
    @ivar retired: keys that the peer has left behind while we offered C{own}.
    """

    __slots__ = ("_core", "_node_id", "own", "retired", "session", "sessions")

    def __init__(self, core: Core, node_id: int) -> None:
        self._core = core
        self._node_id = node_id
        self.own: KeyPair = core.pair
        self.session: Session | None = None
        self.sessions: dict[Session, Path] = {}
        self.retired: set[bytes] = set()

    @property
    def confirmed(self) -> bool:
        """Whether the peer is known to hold the key that we send with."""
        return self.session is not None and self.session.confirmed

    @property
    def heard(self) -> int:
        """Frames opened in all sessions together; grows while the peer is heard."""
        return sum(session.received for session in self.sessions)

    @property
    def exchanged(self) -> int:
        """Frames sealed and opened in all sessions together; grows while anything happens."""
        return sum(session.sent + session.received for session in self.sessions)

    def find(self, peer_public: bytes) -> Session | None:
        """@return: the session of the key we offer now with that key of the peer."""
        for session in self.sessions:
            if session.own is self.own and session.peer_public == peer_public:
                return session
        return None

    def make(self, peer_public: bytes, path: Path) -> Session:
        """
        Derive a session with a key of the peer; one too many makes the least hopeful go.

        @param path: the way the key came.
        @raise KeyRefused: the key is of low order.
        """
        session = Session(self.own, self._core.node_id, peer_public, self._node_id)
        if len(self.sessions) >= SESSIONS:
            spare = [s for s in self.sessions if s is not self.session]
            self._drop(next((s for s in spare if not s.confirmed), spare[0]))
        self.sessions[session] = path
        return session

    def change_own(self) -> None:
        """Offer a new key from now on.  The one before is never offered again."""
        self.own = self._core.new_pair()
        self.retired.clear()

    def worn(self) -> bool:
        """@return: whether it is time for a new key of our own, its age aside."""
        session = self.session
        return session is not None and (
            session.sent + session.received >= self._core.config.renew_frames
            or session.crowded
            or len(self.retired) > RETIRED_KEYS
        )

    def on_trial(self) -> list[tuple[Session, Path]]:
        """@return: the session in use and those that are not confirmed, with their ways."""
        return [
            (session, path)
            for session, path in self.sessions.items()
            if not session.confirmed or session is self.session
        ]

    def weed(self, *, confirmed: bool) -> None:
        """
        Forget sessions, but for the one in use, and the one that the peer would use if it took the
        key on offer.

        @param confirmed: also those that were good once.
        """
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

    def clear(self) -> None:
        """Forget everything; whoever meets the peer next is to offer another key."""
        for session in list(self.sessions):
            self._drop(session)
        if self.session is not None:
            self._core.retire_pair()

    def lanes(self) -> Iterator[Lane]:
        """@return: the lanes of all sessions."""
        for session in self.sessions:
            yield from session.lanes.values()

    def _drop(self, session: Session) -> None:
        del self.sessions[session]
        for lane in session.lanes.values():
            if self._core.lanes.get(lane.head) is lane:
                del self._core.lanes[lane.head]
        if session.confirmed and session.own is self.own:
            # Its frames could be replayed, were its key derived again.
            self.retired.add(session.peer_public)
