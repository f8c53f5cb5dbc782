"""What the core asks for, done."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from pilot.crypto.skillsignature import verify_skill
from pilot.errors import NotFound, PilotError, RegistryError
from skills.presence.core.effects import (
    SIGNATURE_DOMAIN,
    Change,
    CheckSignature,
    Datagram,
    Effect,
    Found,
    Message,
    Persist,
    Ping,
    Publish,
    Sign,
    Verify,
)
from skills.presence.shell.courier import all_over
from skills.presence.shell.pacing import Pace
from skills.presence.shell.storage import DIRECTORY

if TYPE_CHECKING:
    from skills.presence.service import PresenceService
    from skills.presence.shell.engine import Engine

log = Logger()

LOOKUPS: Final = 16
"""Names and keys asked for at once."""
SIGN_WITHIN: Final = 2.0
"""Seconds that a caller waits for our own record to be signed."""
LOOKUP_RATE: Final = 50.0
"""Of these a second.  Whoever tells of many that nobody knows must not disturb the registry."""
LOOKUPS_WAITING: Final = 1024
"""More of them; the next ones are not answered."""


class Carrier:
    """
    Carries effects out, and brings the answers back to the engine they are from.

    @ivar dropped: look-ups there was no room for.
    """

    def __init__(self, service: PresenceService) -> None:
        self.dropped = 0
        self._service = service
        self._engine: Engine | None = None
        self._searches: dict[int, Deferred[Any]] = {}
        self._signing: set[Deferred[Any]] = set()
        self._asking = 0
        self._waiting: deque[Verify | CheckSignature] = deque()
        self._pace = Pace(LOOKUP_RATE, 2 * LOOKUP_RATE)
        self._turn: IDelayedCall | None = None

    def attend(self, engine: Engine) -> None:
        """Answers go to this engine from now on."""
        self._engine = engine

    def forget(self) -> None:
        """The engine is over."""
        self._engine = None
        self._waiting.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        searches, self._searches = self._searches, {}
        for search in searches.values():
            search.errback(PilotError("presence was stopped in the middle of the search"))

    def search(self, token: int) -> Deferred[Any]:
        """@return: Deferred of the result of the search with that token."""

        def forget(_: object) -> None:
            self._searches.pop(token, None)

        found: Deferred[Any] = Deferred(forget)
        self._searches[token] = found
        return found

    def settled(self) -> Deferred[Any]:
        """@return: Deferred that fires when what we said last is signed, or soon after."""
        return all_over(self._signing, SIGN_WITHIN, self._service.reactor)

    def carry(self, effect: Effect) -> None:
        """Do it."""
        service, engine = self._service, self._engine
        assert engine is not None
        core = engine.core
        if isinstance(effect, Datagram):
            service.courier.datagram(effect)
        elif isinstance(effect, Publish):
            target = effect.target
            service.courier.publish(effect, lambda ok: engine.turn(core.published, target, ok))
        elif isinstance(effect, Message):
            service.courier.message(effect, lambda ok: self._sent(engine, effect, ok))
        elif isinstance(effect, Ping):
            service.pinger.ping(effect.token, effect.node_id, effect.timeout)
        elif isinstance(effect, Verify | CheckSignature):
            self._look_up(effect)
        elif isinstance(effect, Sign):
            self._sign(engine, effect)
        elif isinstance(effect, Change):
            self._tell(effect)
        elif isinstance(effect, Persist):
            self._persist(effect)
        elif isinstance(effect, Found):
            search = self._searches.pop(effect.token, None)
            if search is not None:
                search.callback(effect.result)

    def _sent(self, engine: Engine, effect: Message, ok: bool) -> None:
        if not ok:
            engine.turn(engine.core.message_failed, effect.target)
            if isinstance(effect.target, int):
                engine.turn(engine.core.hint, effect.target)  # decides nothing: it is pinged now

    def _tell(self, change: Change) -> None:
        self._service.watchers.tell(change)
        try:
            self._service.node.announce(change.name, change.data)
        except PilotError as error:
            log.warn("{name} was not announced: {error}", name=change.name, error=error.message)

    def _persist(self, effect: Persist) -> None:
        storage = self._service.storage
        if effect.name == DIRECTORY and self._service.running:
            storage.write_soon(effect.name, effect.data)
        else:
            storage.write(effect.name, effect.data)

    def _sign(self, engine: Engine, effect: Sign) -> None:
        def done(signature: bytes | None) -> None:
            engine.turn(engine.core.signed, effect.token, signature)

        signing: Deferred[bytes] = self._service.node.sign(SIGNATURE_DOMAIN, effect.data)
        self._signing.add(signing)
        signing.addErrback(lambda failure: failure.trap(PilotError) and None)
        signing.addCallback(done).addErrback(_complain)
        signing.addBoth(lambda _: self._signing.discard(signing))

    # -- look-ups ------------------------------------------------------------------------------

    def _look_up(self, effect: Verify | CheckSignature) -> None:
        if len(self._waiting) >= LOOKUPS_WAITING:
            self.dropped += 1
            return
        self._waiting.append(effect)
        self._look_up_more()

    def _look_up_more(self) -> None:
        while self._waiting and self._asking < LOOKUPS and self._turn is None:
            now = self._service.now()
            if not self._pace.take(now):
                pause = self._pace.wait(now) + 0.001
                self._turn = self._service.reactor.callLater(pause, self._again)
                return
            self._ask(self._waiting.popleft())

    def _again(self) -> None:
        self._turn = None
        self._look_up_more()

    def _ask(self, effect: Verify | CheckSignature) -> None:
        self._asking += 1
        engine = self._engine
        question = self._names(effect) if isinstance(effect, Verify) else self._signs(effect)
        asking: Deferred[bool | None] = Deferred.fromCoroutine(question)

        def answered(ok: bool | None) -> None:
            self._asking -= 1
            if engine is not None:
                engine.turn(engine.core.verified, effect.token, ok)
            self._look_up_more()

        asking.addCallback(answered).addErrback(_complain)

    async def _names(self, effect: Verify) -> bool | None:
        try:
            address = await self._service.node.resolve(effect.hostname)
        except PilotError as error:
            # Only a clear no is one; what a registry in trouble says means nothing.
            said_no = isinstance(error, NotFound | RegistryError) and "not found" in error.message
            return False if said_no else None
        return bool(address.node == effect.node_id)

    async def _signs(self, effect: CheckSignature) -> bool | None:
        try:
            key = await self._service.node.public_key(effect.node_id)
        except PilotError:
            return None
        return verify_skill(key, effect.signature, SIGNATURE_DOMAIN, effect.data)


def _complain(failure: Any) -> None:
    log.failure("something that presence asked for failed", failure)
