"""What an author signs."""

from __future__ import annotations

from skills.gossip.core.register import Register

#: Keeps these signatures apart from all others that a node makes.
DOMAIN = "pilot-gossip/v2"


def signing_bytes(swarm: str, register: Register) -> bytes:
    """
    @param swarm: its name: a register signed for one swarm means nothing in another.
    @return: the bytes that a register's signature covers, under L{DOMAIN}.
    """
    return swarm.encode() + b"\0" + register.naming()
