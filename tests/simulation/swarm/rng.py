"""One seed, and as many independent random sources as a run has nodes and links.

What one node or link draws never shifts what another draws, so a change in one place of a scenario
leaves the luck of all others alone.  Nothing here depends on Python's own string hashes.
"""

from __future__ import annotations

import random
from hashlib import blake2b
from struct import Struct

_LINK = Struct("<QQQ")
_DRAWS = Struct("<8Q")
_SCALE = 2.0**-64

#: Draws in (0, 1) that one message on a link may use.
Draws = tuple[float, float, float, float, float, float, float, float]


class RngTree:
    """
    Random sources named by where they are used.

    @ivar seed: what the whole tree grows from.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._key = blake2b(repr(seed).encode(), digest_size=32).digest()

    def source(self, *path: object) -> random.Random:
        """@return: the random source of this name, fresh from its beginning."""
        name = "/".join(map(str, path)).encode()
        return random.Random(int.from_bytes(blake2b(name, key=self._key).digest(), "little"))

    def node(self, node_id: int) -> random.Random:
        """@return: the random source of a node."""
        return self.source("node", node_id)

    def subtree(self, *path: object) -> RngTree:
        """@return: a tree of its own, as for one of many runs."""
        name = "/".join(map(str, path)).encode()
        return RngTree(int.from_bytes(blake2b(name, key=self._key, digest_size=8).digest(), "big"))

    def link(self, source: int, destination: int, number: int) -> Draws:
        """
        The luck of one message.

        A generator per link would need gigabytes where thousands of nodes meet each other, so a
        link's draws are computed from its ends and the number of the message.

        @param number: how many messages this link carried before.
        """
        data = blake2b(_LINK.pack(source, destination, number), key=self._key).digest()
        a, b, c, d, e, f, g, h = _DRAWS.unpack(data)
        return (
            (a + 0.5) * _SCALE,
            (b + 0.5) * _SCALE,
            (c + 0.5) * _SCALE,
            (d + 0.5) * _SCALE,
            (e + 0.5) * _SCALE,
            (f + 0.5) * _SCALE,
            (g + 0.5) * _SCALE,
            (h + 0.5) * _SCALE,
        )
