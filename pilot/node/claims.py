"""Messages that programs of this node take for themselves, before they reach the inbox.

The data exchange asks here before it stores a small message.  While nobody claims anything that
costs one look, and a message is parsed only when it could be meant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.address import Address
from pilot.errors import InvalidArgument, WireError
from pilot.wire.jsontext import load

log = Logger()

#: Seconds that a claimer may think about a message; then it goes on to the next, or to the inbox.
PATIENCE = 10.0

#: Messages that claimers may be thinking about at once; the next goes to the inbox.
UNDECIDED = 1024

#: Claims of one node.
MAX_CLAIMS = 1024

#: Bytes of the largest message that can be claimed.
MAX_CLAIMED = 64 * 1024

Listener = Callable[[Address, dict[str, Any], bytes], Any]

# Such a prefix stands in JSON as it is, so a message can be passed over without being parsed.
_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)


class _Claim:
    __slots__ = ("encoded", "last", "listener", "prefixes")

    def __init__(self, prefixes: tuple[str, ...], listener: Listener, last: bool) -> None:
        self.prefixes = prefixes
        self.encoded = tuple(prefix.encode("ascii") for prefix in prefixes)
        self.listener = listener
        self.last = last


class Claims:
    """
    Who takes which messages.

    @ivar active: whether anybody takes any.
    @ivar counters: messages C{taken}, C{declined} (by everybody who was asked); and claimers that
        were C{overdue}, that C{failed}, or were not asked because too many think (C{crowded}).
    """

    def __init__(
        self, clock: IReactorTime, *, patience: float = PATIENCE, undecided: int = UNDECIDED
    ) -> None:
        self.active = False
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._patience = patience
        self._most_undecided = undecided
        self._undecided = 0
        self._claims: tuple[_Claim, ...] = ()

    def claim(
        self, prefixes: Iterable[str], listener: Listener, *, last: bool = False
    ) -> Callable[[], None]:
        """
        Have C{listener(source, document, content)} asked about messages whose type begins with one
        of C{prefixes}; it answers true, or a Deferred of it, when it has taken one.

        @param last: ask it after all that did not say so.
        @return: ends it.
        @raise InvalidArgument: no such prefix, or too many claims.
        """
        claim = _Claim(tuple(check_prefix(prefix) for prefix in prefixes), listener, last)
        if len(self._claims) >= MAX_CLAIMS:
            raise InvalidArgument(f"{MAX_CLAIMS} programs claim messages already")
        # Sorting is stable: of equals, the first to come is asked first.
        self._set(tuple(sorted((*self._claims, claim), key=lambda each: each.last)))

        def stop() -> None:
            self._set(tuple(each for each in self._claims if each is not claim))

        return stop

    def offer(self, source: Address, content: bytes) -> Deferred[bool] | None:
        """
        Ask the claimers about a message, one after the other until one takes it.

        @return: None when it is nobody's; else Deferred of whether it was taken, which never fails.
        """
        claims = self._claims
        if not claims or len(content) > MAX_CLAIMED or not content.lstrip().startswith(b"{"):
            return None
        if not any(prefix in content for claim in claims for prefix in claim.encoded):
            return None
        kind = _type_of(_parsed(content))
        asked = [claim for claim in claims if kind is not None and kind.startswith(claim.prefixes)]
        if not asked:
            return None
        if self._undecided >= self._most_undecided:
            self.counters["crowded"] += 1
            return succeed(False)
        self._undecided += 1
        # Written by a peer that speaks for itself only, whatever network number it gives.
        offered = Deferred.fromCoroutine(self._ask(asked, Address(0, source.node), content))
        return offered.addBoth(self._decided)

    async def _ask(self, claims: list[_Claim], source: Address, content: bytes) -> bool:
        for claim in claims:
            if claim not in self._claims:
                continue  # ended while another was thinking
            document = _parsed(content)  # anew for each, as it is theirs to change
            verdict = maybeDeferred(claim.listener, source, document, content)
            if not verdict.called:
                verdict.addTimeout(self._patience, self._clock, lambda _, after: self._overdue())
            try:
                if await verdict:
                    self.counters["taken"] += 1
                    return True
            except Exception:
                self.counters["failed"] += 1
                log.failure("who claims messages of {kind} failed", kind=claim.prefixes[0])
        self.counters["declined"] += 1
        return False

    def statistics(self) -> dict[str, int]:
        """@return: the counters, and C{claims} and C{undecided} as of now."""
        names = ("taken", "declined", "overdue", "failed", "crowded")
        counted = {name: self.counters[name] for name in names}
        return {"claims": len(self._claims), "undecided": self._undecided, **counted}

    def _set(self, claims: tuple[_Claim, ...]) -> None:
        self._claims = claims
        self.active = bool(claims)

    def _overdue(self) -> bool:
        self.counters["overdue"] += 1
        return False

    def _decided(self, outcome: bool | Failure) -> bool:
        self._undecided -= 1
        return outcome is True


def check_prefix(prefix: str) -> str:
    """
    @return: C{prefix}.
    @raise InvalidArgument: it is none that can be claimed.
    """
    if not _PREFIX.fullmatch(prefix):
        raise InvalidArgument(
            f"invalid message type {prefix[:80]!r}: expected 1 to 64 of A-Z a-z 0-9 . _ : -"
        )
    return prefix


def _parsed(content: bytes) -> Any:
    try:
        return load(content)
    except WireError:
        return None


def _type_of(document: Any) -> str | None:
    kind = document.get("type") if isinstance(document, dict) else None
    return kind if isinstance(kind, str) else None
