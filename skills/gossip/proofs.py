"""Signatures of registers: made by the node, checked with the keys that the registry names."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from pilot.crypto.skillsignature import verify_skill
from pilot.errors import PilotError
from skills.gossip.register import Register
from skills.gossip.signing import DOMAIN, signing_bytes

if TYPE_CHECKING:
    from pilot.interfaces import IPilotNode

#: Seconds for which a key is used without asking again, and keys remembered.
KEY_LIFE, MAX_KEYS = 60.0, 1024


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
        key = await self._node.public_key(author)
        self._keys[author] = (key, self._now())
        self._keys.move_to_end(author)
        if len(self._keys) > MAX_KEYS:
            self._keys.popitem(last=False)
        return key
