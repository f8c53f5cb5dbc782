"""Signatures of registers: made by the node, checked with the keys that the registry names."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore

from pilot.crypto.skillsignature import verify_skill
from pilot.errors import NotFound, PilotError
from skills.gossip.core.register import Register
from skills.gossip.core.signing import DOMAIN, signing_bytes

if TYPE_CHECKING:
    from pilot.interfaces import IPilotNode

#: Seconds for which a key is used without asking again, and keys remembered.
KEY_LIFE, MAX_KEYS = 60.0, 1024

#: Seconds for which a key that could not be had is not asked for again.
UNKNOWN_LIFE = 10.0

#: Keys asked for at once, and authors that may wait for theirs: whoever signs in the names of many
#: nodes that do not exist disturbs neither the registry nor those whose keys are known.
LOOKUPS, WAITING = 4, 64

_T = TypeVar("_T")


class Proofs:
    """
    @ivar checked: signatures checked.
    @ivar unknown: those that could not be, because nobody told the author's key.
    """

    def __init__(self, node: IPilotNode, now: Callable[[], float]) -> None:
        self.checked = 0
        self.unknown = 0
        self._node = node
        self._now = now
        self._keys: OrderedDict[int, tuple[bytes, float]] = OrderedDict()
        self._unknown: OrderedDict[int, float] = OrderedDict()
        self._asking: dict[int, list[Deferred[None]]] = {}
        self._turns = DeferredSemaphore(LOOKUPS)

    async def sign(self, swarm: str, register: Register) -> str:
        """@return: the signature, base64.  @raise PilotError: the node cannot sign now."""
        signature = await self._node.sign(DOMAIN, signing_bytes(swarm, register))
        return b64encode(signature).decode("ascii")

    async def holds(self, swarm: str, register: Register) -> bool:
        """@return: whether the author has signed this; never fails."""
        try:
            key = await self._key(register.author)
        except PilotError:
            self.unknown += 1
            return False
        self.checked += 1
        signature = b64decode(register.signature)
        return verify_skill(key, signature, DOMAIN, signing_bytes(swarm, register))

    async def _key(self, author: int) -> bytes:
        known = self._keys.get(author)
        if known is not None and self._now() - known[1] < KEY_LIFE:
            return known[0]
        if self._now() - self._unknown.get(author, float("-inf")) < UNKNOWN_LIFE:
            raise NotFound(f"the key of node {author} could not be had a moment ago")
        if author in self._asking:
            answered: Deferred[None] = Deferred()
            self._asking[author].append(answered)
            await answered
            return await self._key(author)
        if len(self._asking) >= WAITING:
            raise PilotError("too many keys are asked for")
        waiting = self._asking[author] = []
        try:
            return await self._ask(author)
        finally:
            del self._asking[author]
            for one in waiting:
                one.callback(None)

    async def _ask(self, author: int) -> bytes:
        await self._turns.acquire()
        try:
            key = await self._node.public_key(author)
        except PilotError:
            _remember(self._unknown, author, self._now())
            raise
        finally:
            self._turns.release()
        self._unknown.pop(author, None)
        _remember(self._keys, author, (key, self._now()))
        return key


def _remember(memory: OrderedDict[int, _T], author: int, value: _T) -> None:
    memory[author] = value
    memory.move_to_end(author)
    if len(memory) > MAX_KEYS:
        memory.popitem(last=False)
