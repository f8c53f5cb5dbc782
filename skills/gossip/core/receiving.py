"""Messages that come in: whether they are read at all, by whom, and what they tell of their sender.

The sender is who the tunnel says it is.  Whatever a message holds, it costs at most its sender.
"""

from __future__ import annotations

from typing import Any

from skills.gossip.core.compat import Elders
from skills.gossip.core.contact import Contact
from skills.gossip.core.desk import Desk
from skills.gossip.core.errors import BadMessage, Refused
from skills.gossip.core.exchange import Exchanges
from skills.gossip.core.member import Member
from skills.gossip.core.messages import (
    VERSION,
    Ack,
    Delta,
    Leave,
    Message,
    Nack,
    Push,
    Shuffle,
    Syn,
    decode,
)
from skills.gossip.core.rounds import Rounds
from skills.gossip.core.spreading import Spreading


class Receiving:
    """The ear of a replica."""

    __slots__ = ("_contact", "_desk", "_elders", "_exchanges", "_rounds", "_spreading")

    def __init__(
        self,
        desk: Desk,
        *,
        elders: Elders,
        exchanges: Exchanges,
        rounds: Rounds,
        spreading: Spreading,
        contact: Contact,
    ) -> None:
        self._desk = desk
        self._elders = elders
        self._exchanges = exchanges
        self._rounds = rounds
        self._spreading = spreading
        self._contact = contact

    def receive(self, now: float, peer: int, document: dict[str, Any], size: int) -> None:
        """
        Read a message, unless its sender has used up its budget.

        @param peer: the authenticated sender.
        @param size: bytes.
        """
        desk = self._desk
        if peer == desk.own:
            return
        member = desk.members.member(peer, now)
        if member is None:
            desk.counts["no_room"] += 1
            return
        if not member.conduct.admits(now, size, desk.config):
            desk.reject(now, peer, "muted" if now < member.conduct.muted_until else "rate")
            desk.nack(now, member, "rate", [])
            return
        try:
            message = decode(document)
            self._check(peer, message)
            self._dispatch(now, member, message)
        except Refused as refusal:
            desk.reject(now, peer, refusal.reason)
        except BadMessage:
            desk.reject(now, peer, "malformed")
            if member.conduct.malformed(now, desk.config):
                desk.reject(now, peer, "muted")

    def fold(self, now: float, peer: int, document: dict[str, Any]) -> int:
        """
        Read a push that came earlier; nothing follows from it for its sender.

        @return: how many registers were new.
        @raise BadMessage: it is no push.
        @raise Refused: for another swarm, or in another's name.
        """
        push = decode(document)
        if not isinstance(push, Push):
            raise BadMessage("this is no push")
        self._check(peer, push)
        return self._spreading.take(now, peer, push)

    def _check(self, peer: int, message: Message) -> None:
        """@raise Refused: for another swarm, or in another's name."""
        if isinstance(message, Push):
            # A script may call itself by any name; a number must be its own.
            if message.sender.isdecimal() and message.sender != str(peer):
                raise Refused("sender")
            if message.v < VERSION:
                return
        elif isinstance(message, Syn | Leave) and message.sender != peer:
            raise Refused("sender")
        if message.swarm != self._desk.name:
            raise Refused("swarm")

    def _dispatch(self, now: float, member: Member, message: Any) -> None:
        desk = self._desk
        kind = type(message)
        version1 = kind is Push and message.v < VERSION
        incarnation = message.inc if kind is Syn else None
        self._contact.look_back()
        unheard = not member.usable
        if kind is not Leave:
            desk.members.heard(member, now, incarnation, proof=not version1)
        elders = self._elders.nodes
        if version1 or member.node in elders:
            self._elders.met(now, member.node)
        if unheard or self._rounds.view is not None:
            self._rounds.admit(now, member.node)
        self._contact.made(now)
        if kind is Syn:
            wall = desk.ledger.clock.corrected()
            for news in message.news:
                desk.members.news(now, wall, news)
            self._exchanges.on_syn(now, member, message)
        elif kind is Ack:
            self._exchanges.on_ack(now, member, message)
        elif kind is Push:
            self._on_push(now, member, message)
        elif kind is Delta:
            self._exchanges.on_delta(now, member, message)
        elif kind is Nack:
            self._exchanges.on_nack(now, member, message)
        elif kind is Leave:
            desk.members.left(member, message.inc, now)
            self._rounds.admit(now, member.node)
        elif kind is Shuffle:
            self._rounds.on_shuffle(now, member, message)

    def _on_push(self, now: float, member: Member, push: Push) -> None:
        desk = self._desk
        member.version1 = push.v < VERSION
        if push.v >= VERSION and not push.entries:
            self._exchanges.greeted(now, member, push)
            return
        self._spreading.take(now, member.node, push, member)
        if push.root == desk.ledger.map.root:
            desk.agreed(now, member, push.root)
