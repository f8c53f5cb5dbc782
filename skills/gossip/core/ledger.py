"""The registers of a replica, and what has to happen around each that comes in.

A register that is offered must be one its author may write, must not be from the future, and must
fit; then it is merged, noted for the journal and for the application, and remembered with the root
from before, so that a partner whose root is an earlier one of ours is told what it lacks without
comparing anything else.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from skills.gossip.core.config import GossipConfig
from skills.gossip.core.hlc import HybridClock, hlc_at
from skills.gossip.core.register import (
    FLAG_EPHEMERAL,
    FLAG_SIGNED,
    FLAG_TOMBSTONE,
    Register,
    owner,
)
from skills.gossip.core.registers import Kind, RegisterMap

#: Roots remembered, with what came after them.
HISTORY = 64
#: Refused registers remembered: a difference that they explain is not worth an exchange.
REFUSED = 64
#: Seconds until a refused register is given another chance.
REFUSED_LIFE = 60.0
#: Changes told in one event; of more, the first are counted and left out.
CHANGES = 4096

_ROOT = (1 << 64) - 1


class Verdict(Enum):
    """What became of a register that was offered."""

    NEW = "new"
    KNOWN = "known"
    OLD = "old"  # something newer is here, C{other}
    REFUSED = "refused"
    PENDING = "pending"  # until its signature is checked


class Answer(NamedTuple):
    """
    @ivar verdict: what became of it.
    @ivar other: for C{OLD}: what stands in its way.
    @ivar reason: for C{REFUSED}, one word.
    """

    verdict: Verdict
    other: Register | None = None
    reason: str = ""


_NEW = Answer(Verdict.NEW)
_KNOWN = Answer(Verdict.KNOWN)
_PENDING = Answer(Verdict.PENDING)


class Ledger:
    """
    @ivar map: the registers.
    @ivar clock: the hybrid clock.
    @ivar records: for the journal, to be taken by the replica; C{urgent}: among them are some that
        must be stored before anything leaves.
    @ivar changes: for the application, to be taken by the replica.
    @ivar unproven: registers whose signature is being checked, and who sent them.
    @ivar to_verify: those among them not asked for yet.
    @ivar refusals: registers refused, by reason.
    """

    __slots__ = (
        "_absent",
        "_config",
        "_history",
        "_own",
        "_refused",
        "changes",
        "clock",
        "left_out",
        "map",
        "records",
        "refusals",
        "to_verify",
        "unproven",
        "urgent",
    )

    def __init__(
        self,
        own: int,
        config: GossipConfig,
        clock: HybridClock,
        registers: RegisterMap,
        absent: Callable[[int], bool],
    ) -> None:
        """@param absent: whether a node is gone, and with it what is ephemeral of it."""
        self._absent = absent
        self._own = own
        self._config = config
        self.clock = clock
        self.map = registers
        self._history: deque[tuple[str, str]] = deque(maxlen=HISTORY)  # root before, key
        self._refused: dict[str, tuple[Register, float]] = {}
        self.records: list[tuple[str, Any]] = []
        self.urgent = False
        self.changes: list[dict[str, Any]] = []
        self.left_out = 0
        self.unproven: dict[Register, int] = {}
        self.to_verify: list[Register] = []
        self.refusals: Counter[str] = Counter()

    # -- taking --------------------------------------------------------------------------------

    def offer(self, now: float, register: Register, peer: int) -> Answer:
        """
        A register came.

        @param peer: the authenticated sender.
        """
        held = self.map.get(register.key)
        if held is not None and not register.beats(held):
            return Answer(Verdict.OLD, held) if held.beats(register) else _KNOWN
        if (
            register.flags & FLAG_EPHEMERAL
            and not register.deleted
            and self._absent(register.author)
        ):
            self._refuse(now, register, "absent")
            return _KNOWN
        reason, unproven = self._objection(register, peer)
        if reason:
            return self._refuse(now, register, reason)
        if unproven:
            if register not in self.unproven:
                if len(self.unproven) >= self._config.unproven:
                    return self._refuse(now, register, "busy")
                self.unproven[register] = peer
                self.to_verify.append(register)
            return _PENDING
        return self._merge(now, register, local=False)

    def _objection(self, register: Register, peer: int) -> tuple[str, bool]:
        """@return: why a register is not taken, or nothing, and whether its signature decides."""
        if self.clock.is_future(register.hlc):
            return "future", False
        node = owner(register.key)
        if node is not None and register.author != node:
            return "owner", False
        if self._config.signed or node is not None:
            if register.flags & FLAG_SIGNED:
                return "", True
            if self._config.signed or peer != register.author:
                return "unsigned", False
        return "", False

    def proven(self, now: float, register: Register, ok: bool) -> tuple[Answer, int] | None:
        """
        A signature was checked.

        @return: what became of the register, and who sent it; C{None} if nobody waits for it.
        """
        peer = self.unproven.pop(register, None)
        if peer is None:
            return None
        if not ok:
            return self._refuse(now, register, "signature"), peer
        return self._merge(now, register, local=False), peer

    def _merge(self, now: float, register: Register, *, local: bool) -> Answer:
        registers = self.map
        before = registers.root
        outcome = registers.merge(register, self.clock.corrected())
        kind = outcome.kind
        if kind is Kind.NEW:
            if not local:
                self.clock.observe(register.hlc)
            self._refused.pop(register.key, None)
            self._history.append((before, register.key))
            self.records.append(("register", register.to_list()))
            self._note(register, outcome.other, local=local)
            return _NEW
        if kind is Kind.OLD:
            return Answer(Verdict.OLD, outcome.other)
        if kind is Kind.REFUSED:
            return self._refuse(now, register, outcome.reason)
        return _KNOWN

    def _note(self, register: Register, replaced: Register | None, *, local: bool) -> None:
        if len(self.changes) >= CHANGES:
            self.left_out += 1
            return
        self.changes.append(
            {
                "key": register.key,
                "value": register.value,
                "deleted": register.deleted,
                "author": register.author,
                "hlc": register.hlc,
                "local": local,
                "previous": None
                if replaced is None
                else {
                    "value": replaced.value,
                    "deleted": replaced.deleted,
                    "author": replaced.author,
                    "hlc": replaced.hlc,
                },
            }
        )

    def _refuse(self, now: float, register: Register, reason: str) -> Answer:
        self.refusals[reason] += 1
        refused = self._refused
        refused.pop(register.key, None)
        if len(refused) >= REFUSED:
            del refused[next(iter(refused))]
        refused[register.key] = (register, now + REFUSED_LIFE)
        return Answer(Verdict.REFUSED, None, reason)

    # -- writing -------------------------------------------------------------------------------

    def draft(self, key: str, value: Any, author: int, flags: int = 0) -> Register:
        """
        @return: a register with the time of now, checked, not written yet; one that is flagged as
            signed still lacks its signature.
        @raise BadMessage: no possible key or value.
        """
        Register.make(key, value, "0" * 16, author, flags & ~FLAG_SIGNED)
        register = Register(key, value, self.clock.stamp(), author, flags)
        reserve = self.clock.take_reserve()
        if reserve is not None:
            self.records.append(("reserve", reserve))
            self.urgent = True
        return register

    def write(self, now: float, register: Register) -> Answer:
        """Merge a register that was drafted here."""
        answer = self._merge(now, register, local=register.author == self._own)
        if answer.verdict is Verdict.NEW and register.author == self._own:
            self.urgent = True
        return answer

    # -- letting go ----------------------------------------------------------------------------

    def drop(self, key: str) -> None:
        """Forget a register without a trace."""
        held = self.map.drop(key)
        if held is not None:
            self._history.clear()
            self.records.append(("gone", key))
            self._note(
                Register(key, None, held.hlc, held.author, FLAG_TOMBSTONE), held, local=False
            )

    def drop_ephemeral(self, author: int) -> None:
        """Forget what was to live as long as its author."""
        if self.map.author_usage(author).keys:
            for register in self.map.ephemeral(author):
                self.drop(register.key)

    def expire(self) -> None:
        """Let go of what is too old."""
        expiry = self.map.expire(self.clock.corrected())
        if expiry.dropped or expiry.rested:
            self._history.clear()
            self.records.extend(
                ("gone", register.key)
                for register in expiry.dropped
                if self.map.get(register.key) is None and self.map.dormant(register.key) is None
            )

    def surrender(self, contact: float) -> None:
        """
        Forget everything but own registers written after the last contact: what else is here may
        have been deleted, and the deletion forgotten, meanwhile.

        @param contact: unix seconds.
        """
        horizon = hlc_at(contact)
        for register in list(self.map.all()):
            if register.author != self._own or register.hlc <= horizon:
                self.map.drop(register.key)
        self._history.clear()
        self.records.append(("cleared", None))
        self.records.extend(("register", register.to_list()) for register in self.map.all())
        self.urgent = True

    # -- comparing -----------------------------------------------------------------------------

    def since(self, root: str) -> list[Register] | None:
        """
        @return: what was merged after the root was ours, the newest first; C{None} if it was not,
            or too long ago.
        """
        keys: dict[str, None] = {}
        for before, key in reversed(self._history):
            keys[key] = None
            if before == root:
                found = (self.map.get(each) for each in keys)
                return [register for register in found if register is not None]
        return None

    def explained(self, now: float, root: str) -> bool:
        """@return: whether a root differs from ours only by what we refuse to take."""
        if not self._refused:
            return False
        total = int(self.map.root, 16)
        for key, (register, until) in list(self._refused.items()):
            held = self.map.get(key)
            if now >= until or (held is not None and not register.beats(held)):
                del self._refused[key]
                continue
            total += register.sum - (held.sum if held is not None else 0)
        return bool(self._refused) and total & _ROOT == int(root, 16)


def fair(registers: list[Register]) -> list[Register]:
    """
    @return: the order in which registers go: what is ephemeral first, because it is about presence;
        then one of each author in turn, each author's newest first, so that nobody's bulk stands
        before another's few.
    """
    if len(registers) < 2:
        return registers
    registers = list({each.key: each for each in registers}.values())
    first = [each for each in registers if each.flags & FLAG_EPHEMERAL]
    by_author: dict[int, list[Register]] = {}
    for register in sorted(registers, key=lambda each: each.hlc):  # the newest is popped first
        if not register.flags & FLAG_EPHEMERAL:
            by_author.setdefault(register.author, []).append(register)
    queues = list(by_author.values())
    order = first
    while queues:
        order.extend(queue.pop() for queue in queues)
        queues = [queue for queue in queues if queue]
    return order
