"""Writes of this node: cut into registers, signed where that is asked for, ended in time."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from skills.gossip.core.desk import Desk
from skills.gossip.core.document import flatten
from skills.gossip.core.effects import Sign
from skills.gossip.core.errors import Refused
from skills.gossip.core.ledger import Verdict
from skills.gossip.core.register import (
    FLAG_EPHEMERAL,
    FLAG_SIGNED,
    FLAG_TOMBSTONE,
    Register,
    check_key,
    owner,
)

_NOTHING = object()


class Writing:
    """The pen of a replica."""

    __slots__ = ("_desk", "_ends", "_news", "_unsigned")

    def __init__(self, desk: Desk, news: Callable[[float, Register, int], None]) -> None:
        """@param news: told of each register written."""
        self._desk = desk
        self._news = news
        self._unsigned: dict[tuple[str, str], Register] = {}  # key, hlc
        self._ends: list[tuple[float, str, str]] = []  # when, key, hlc of what has a time to live

    def set(self, now: float, key: str, value: Any, *, replace: bool, ttl: float | None) -> None:
        """
        Write.

        @raise Refused: over a limit, or not ours to write.
        @raise BadMessage: no possible key or value.
        """
        check_key(key)
        flags = 0 if ttl is None else FLAG_EPHEMERAL
        for each, leaf in [(key, value)] if replace else flatten(key, value):
            register = self._write(now, each, leaf, flags)
            if ttl is not None:
                self.end_at(now + max(0.0, ttl), register)

    def delete(self, now: float, key: str) -> None:
        """
        Delete a key with everything below it; nothing happens if there is nothing.

        @raise Refused: not ours to delete.
        @raise BadMessage: no possible key.
        """
        check_key(key)
        if self._desk.ledger.map.visible(key, _NOTHING) is not _NOTHING:
            self._write(now, key, None, FLAG_TOMBSTONE)

    def _write(self, now: float, key: str, value: Any, flags: int) -> Register:
        desk = self._desk
        node = owner(key)
        if node is not None and node != desk.own:
            raise Refused("owner", f"only node {node} may write below {key.partition('/')[0]}")
        signed = desk.config.signed or node is not None
        if signed and len(self._unsigned) >= desk.config.unproven:
            raise Refused("busy", "too many writes wait for their signatures")
        register = desk.ledger.draft(key, value, desk.own, flags | FLAG_SIGNED if signed else flags)
        if signed:
            self._unsigned[key, register.hlc] = register
            desk.out.append(Sign(register))
        else:
            self._put(now, register)
        return register

    def _put(self, now: float, register: Register) -> None:
        answer = self._desk.ledger.write(now, register)
        if answer.verdict is Verdict.REFUSED:
            raise Refused(answer.reason, f"the swarm has no room for this: {answer.reason}")
        if answer.verdict is Verdict.NEW:
            self._news(now, register, self._desk.own)

    def signed(self, now: float, key: str, hlc: str, signature: str) -> None:
        """
        A signature that was asked for.

        @param signature: base64; empty: it could not be made, and nothing is written.
        @raise Refused: there is no room for the write.
        @raise BadMessage: it is no signature.
        """
        register = self._unsigned.pop((key, hlc), None)
        if register is not None and signature:
            value, author, flags = register.value, register.author, register.flags
            self._put(now, Register.make(key, value, hlc, author, flags, signature))

    # -- time to live --------------------------------------------------------------------------

    def end_at(self, when: float, register: Register) -> None:
        """Delete a register then, if it still stands."""
        heappush(self._ends, (when, register.key, register.hlc))

    def end(self, now: float) -> None:
        """Delete what has had its time."""
        while self._ends and self._ends[0][0] <= now:
            _, key, hlc = heappop(self._ends)
            held = self._desk.ledger.map.get(key)
            if held is not None and held.hlc == hlc and held.author == self._desk.own:
                self._write(now, key, None, FLAG_TOMBSTONE)

    def deadline(self) -> float:
        """@return: when to call L{end}."""
        return self._ends[0][0] if self._ends else float("inf")
