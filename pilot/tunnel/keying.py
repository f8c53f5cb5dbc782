"""Key frames and frames that no key opens: what strangers send, and what may come of it.

Nothing here is in the way of a packet of a known peer.

@see: protocol notes, I{Receiving PILA}, I{Receiving PILK}, I{Recommended behaviour that stays
    compatible}.
"""

from __future__ import annotations

from collections import OrderedDict

from pilot.crypto.identity import verify
from pilot.crypto.keys import KeyRefused
from pilot.tunnel.core import Core, Path
from pilot.tunnel.identities import IdentityCache
from pilot.tunnel.keyring import RETIRED_KEYS
from pilot.tunnel.limits import TokenBucket
from pilot.tunnel.peers import PeerTable
from pilot.wire.tunnel import AuthenticatedKeyExchange, KeyExchange, decode_frame, signed_bytes

#: Bytes of an authenticated key exchange; what follows them is ignored.
OFFER_SIZE = 136

#: Strangers that were sent our key, remembered with the time.
STRANGERS = 1024

#: Seconds for which a stranger gets our key once.
STRANGER_PAUSE = 2.0


class Keying:
    """
    Takes key frames.

    Its counters: C{offers} key frames, and those that came to nothing: C{identity_unknown},
    C{identity_mismatch}, C{bad_signatures}, C{verifications_refused}, C{stale_keys}, C{low_order},
    C{anonymous_offers}, C{own_frames}, C{strangers}, C{strangers_refused}.
    """

    def __init__(self, core: Core, table: PeerTable, identities: IdentityCache) -> None:
        self._core = core
        self._table = table
        self._identities = identities
        # Whom we call is not to be kept waiting by strangers.
        rate = core.config.verifications
        self._called = TokenBucket(rate, core.now())
        self._strange = TokenBucket(rate, core.now())
        self._stranger_rate = TokenBucket(core.config.strangers, core.now())
        self._strangers: OrderedDict[int, float] = OrderedDict()

    def offered(self, datagram: bytes, path: Path) -> None:
        """
        Take an authenticated key exchange.

        @param datagram: it begins with one.
        @param path: the way it came.
        @raise WireError: too short.
        """
        frame = decode_frame(datagram)
        assert isinstance(frame, AuthenticatedKeyExchange)
        core = self._core
        core.counters["offers"] += 1
        node_id = frame.node_id
        if not core.node_id or node_id == core.node_id:
            core.counters["own_frames"] += 1
            return
        offer = datagram[:OFFER_SIZE]
        peer = self._table.get(node_id)
        if peer is not None and peer.last_offer == offer:
            session = peer.ring.find(frame.public_key)
            if session is not None:
                peer.answer_again(session, path)  # verified once, and nothing has changed
                return
        self._identities.ask(
            node_id,
            frame.identity_key,
            lambda key: self._identified(frame, offer, path, key),
            urgent=peer is not None and peer.calling,
        )

    def _identified(
        self, frame: AuthenticatedKeyExchange, offer: bytes, path: Path, key: bytes | None
    ) -> None:
        """The registry has said who C{frame.node_id} is."""
        core = self._core
        node_id = frame.node_id
        if node_id == core.node_id:
            return  # registered anew while the registry was asked
        if key is None:
            core.counters["identity_unknown"] += 1
            return
        if key != frame.identity_key:
            core.counters["identity_mismatch"] += 1
            core.incidents.note(
                "identity", "a key frame of node {node} bears a wrong identity", node=node_id
            )
            return
        peer = self._table.get(node_id)
        budget = self._called if peer is not None and peer.calling else self._strange
        if not budget.take(core.now()):
            core.counters["verifications_refused"] += 1
            return
        if not verify(key, frame.signature, signed_bytes(node_id, frame.public_key)):
            core.counters["bad_signatures"] += 1
            core.incidents.note(
                "signature", "a key frame of node {node} is not signed by it", node=node_id
            )
            return
        if peer is not None and len(peer.ring.retired) > 2 * RETIRED_KEYS:
            # It changes keys faster than it follows us to a new one of ours: start over.
            self._table.remove(peer)
        peer = self._table.make(node_id)
        if peer is None:
            return
        if frame.public_key in peer.ring.retired:
            core.counters["stale_keys"] += 1
            if peer.state != "lost":
                return
            peer.start_over()
        session = peer.ring.find(frame.public_key)
        if session is not None:
            peer.last_offer = offer
            peer.answer_again(session, path)
            return
        try:
            session = peer.ring.make(frame.public_key, path)
        except KeyRefused:
            core.counters["low_order"] += 1
            return
        peer.last_offer = offer
        peer.offers.send(path)  # before anything that is sealed with the new key
        peer.life.offered(session)

    def asked(self, datagram: bytes) -> None:
        """
        Take an anonymous key exchange: never accepted, whoever it says it is from.

        A peer that we know gets our key where we know it to be; a stranger gets nothing.

        @raise WireError: too short.
        """
        frame = decode_frame(datagram)
        assert isinstance(frame, KeyExchange)
        self._core.counters["anonymous_offers"] += 1
        peer = self._table.get(frame.node_id)
        if peer is not None and peer.ways.addr is not None:
            peer.offers.remind(peer.ways.current)

    def stranger(self, node_id: int, path: Path) -> None:
        """
        A sealed frame came from a node that we share no key with: we may have lost it.

        If the registry knows the node it gets our key, so that it can make a new one.
        """
        core = self._core
        now = core.now()
        core.counters["strangers"] += 1
        if not core.node_id or node_id == core.node_id:
            return
        if now - self._strangers.get(node_id, now - STRANGER_PAUSE) < STRANGER_PAUSE:
            return
        if not self._stranger_rate.take(now):
            core.counters["strangers_refused"] += 1
            return
        self._strangers[node_id] = now
        self._strangers.move_to_end(node_id)
        if len(self._strangers) > STRANGERS:
            self._strangers.popitem(last=False)
        self._identities.ask(node_id, None, lambda key: self._introduce(node_id, path, key))

    def _introduce(self, node_id: int, path: Path, key: bytes | None) -> None:
        if key is not None and self._table.get(node_id) is None:
            self._core.send(self._core.key_frame(self._core.pair), path, node_id)
