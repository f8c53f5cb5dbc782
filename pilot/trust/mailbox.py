"""The registry's mailbox: what peers left there for us, and when to look.

Looking empties it, so whatever was found is handed on at once.  A registry of ours says when
something has arrived; any other is asked every second after we asked somebody ourselves, more and
more seldom, and otherwise once a minute.

@see: protocol notes, I{The registry as mailbox}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.errors import PilotError

log = Logger()

#: Seconds between looks without a reason.
CALM_INTERVAL = 60.0

#: Seconds before the first hurried look, and how the pauses grow from there.
HURRIED_INTERVAL, HURRY_FADES = 1.0, 1.2

#: Seconds between two looks that the registry asked for, however often it asks.
NOTICE_GAP = 0.05

#: Entries from which on an answer may have been too small for the whole mailbox.
FULL_ANSWER = 8

#: Entries taken from one answer; a sound registry keeps at most 100 requests.
MAX_ENTRIES = 1024

#: Characters of a relayed justification; a sound registry takes 1024 bytes.
MAX_JUSTIFICATION = 4096


class IMailboxRegistry(Protocol):
    """What the mailbox needs of a registry client."""

    def poll_handshakes(self) -> Deferred[dict[str, Any]]: ...  # pragma: no cover


class MailedRequest(NamedTuple):
    """
    A node asks for trust; the registry has verified that it was that node.

    @ivar timestamp: the registry's Unix time at which it arrived there.
    """

    node_id: int
    justification: str
    timestamp: int


class MailedResponse(NamedTuple):
    """
    A node answers.

    @ivar timestamp: the registry's Unix time at which it arrived there.
    """

    node_id: int
    accept: bool
    timestamp: int


Mail = MailedRequest | MailedResponse


def read_mail(answer: dict[str, Any]) -> tuple[list[Mail], int]:
    """
    Read the reply to C{poll_handshakes}.

    @return: the mail, oldest first, answers before requests of the same second; and how many
        entries were no mail at all.
    """
    mail: list[Mail] = []
    odd = 0
    for name, read in (("responses", _response), ("requests", _request)):
        entries = answer.get(name)
        if not isinstance(entries, list):
            odd += entries is not None
            continue
        odd += max(0, len(entries) - MAX_ENTRIES)
        for entry in entries[:MAX_ENTRIES]:
            item = read(entry) if isinstance(entry, dict) else None
            if item is None:
                odd += 1
            else:
                mail.append(item)
    mail.sort(key=lambda item: item.timestamp)
    return mail, odd


def _request(entry: dict[str, Any]) -> MailedRequest | None:
    node_id, text = _node_id(entry), entry.get("justification", "")
    if node_id is None or not isinstance(text, str) or len(text) > MAX_JUSTIFICATION:
        return None
    return MailedRequest(node_id, text, _time(entry.get("timestamp")))


def _response(entry: dict[str, Any]) -> MailedResponse | None:
    node_id, accept = _node_id(entry), entry.get("accept")
    if node_id is None or not isinstance(accept, bool):
        return None
    return MailedResponse(node_id, accept, _time(entry.get("timestamp")))


def _node_id(entry: dict[str, Any]) -> int | None:
    value = entry.get("from_node_id")
    return value if type(value) is int and 0 <= value <= 0xFFFFFFFF else None


def _tell_all(answered: bool, waiting: list[Deferred[bool]]) -> None:
    for one in waiting:
        one.callback(answered)


def _time(value: object) -> int:
    return value if type(value) is int and 0 <= value < 2**63 else 0


class Mailbox:
    """
    Looks into the mailbox at the right times.

    @ivar notified: whether the registry says when something arrives; then nobody hurries.
    @ivar counters: looks, failures, odd entries.
    """

    def __init__(
        self,
        clock: IReactorTime,
        registry: IMailboxRegistry,
        deliver: Callable[[list[Mail]], Awaitable[None]],
        *,
        on_return: Callable[[], None],
        interval: float = CALM_INTERVAL,
    ) -> None:
        """
        @param deliver: takes what was found, also when that is nothing.
        @param on_return: called when the registry answers again after it did not.
        @param interval: seconds between looks without a reason.
        """
        self.notified = False
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._registry = registry
        self._deliver = deliver
        self._on_return = on_return
        self._away = False
        self._interval = self._pause = interval
        self._timer: IDelayedCall | None = None
        self._looking = False
        self._looked_at = float("-inf")
        self._noticed = False
        self._waiting: list[Deferred[bool]] = []
        self._running = False

    def start(self) -> None:
        """Look now, and from time to time."""
        self._running = True
        self.poll()

    def stop(self) -> None:
        """Look no more."""
        self._running = False
        self._cancel()

    def hurry(self) -> None:
        """We have asked somebody: the answer may come soon."""
        if not self.notified and self._running:
            self._pause = HURRIED_INTERVAL
            if not self._looking:
                self._schedule()

    def notice(self) -> None:
        """The registry says that something has arrived."""
        if self._looking:
            self._noticed = True
        elif self._running:
            self._at(max(0.0, self._looked_at + NOTICE_GAP - self._clock.seconds()))

    def poll(self) -> Deferred[bool]:
        """
        Look now; if a look is under way, once more after it, so that what is in the mailbox at
        this moment is found in any case.

        @return: Deferred of whether the mailbox was read and is empty now; it fires when the
            mail is delivered.
        """
        if not self._looking:
            self._looking = True
            self._cancel()
            return Deferred.fromCoroutine(self._look()).addBoth(self._looked)
        waiting: Deferred[bool] = Deferred()
        self._waiting.append(waiting)
        return waiting

    async def _look(self) -> bool:
        self.counters["looks"] += 1
        try:
            answer = await self._registry.poll_handshakes()
        except PilotError as error:
            self._away = True
            self.counters["failures"] += 1
            log.debug("the mailbox cannot be read: {error}", error=error.message)
            return False
        if self._away:
            self._away = False
            self._on_return()
        mail, odd = read_mail(answer)
        if odd:
            self.counters["odd"] += odd
            log.warn("{count} entries of the registry's mailbox make no sense", count=odd)
        await self._deliver(mail)
        # What exceeds one answer may have been left for the next.
        self._noticed = self._noticed or len(mail) >= FULL_ANSWER
        return len(mail) < FULL_ANSWER

    def _looked(self, result: bool | Failure) -> bool:
        if isinstance(result, Failure):
            log.failure("reading the mailbox failed", result)
            result = False
        self._looking, self._looked_at = False, self._clock.seconds()
        noticed, self._noticed = self._noticed, False
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.poll().addCallback(_tell_all, waiting)
        elif noticed and self._running:
            self._at(NOTICE_GAP)
        elif self._running:
            self._schedule()
        return result

    def _schedule(self) -> None:
        self._at(min(self._pause, self._interval))
        self._pause = min(self._interval, self._pause * HURRY_FADES)

    def _at(self, delay: float) -> None:
        self._cancel()
        self._timer = self._clock.callLater(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        self.poll()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
