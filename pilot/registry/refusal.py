"""How the registry says no, and how much of it a client is told.

@see: protocol notes of the registry, I{Errors and masking}.
"""

from __future__ import annotations

from pilot.errors import RegistryError

MASKED = "request failed"
"""All that a client of the JSON protocol learns of an error whose text must not pass."""

_PASSING = (
    "rate limited",
    "enterprise feature",
    "expired",
    "already",
    "not a member",
    "cannot",
    "too many",
    "too long",
    "not found",
    "invalid",
    "required",
    "replication not configured",
)


class Refusal(RegistryError):
    """A request that is not granted; the message is the full text, before masking."""


def visible(text: str) -> str:
    """@return: what the JSON protocol says for an error C{text}: itself, or L{MASKED}."""
    return text if any(part in text for part in _PASSING) else MASKED


def node_not_found(node_id: int) -> Refusal:
    """@return: the refusal nearly every request uses for an unknown node."""
    return Refusal(f"node {node_id}: node not found")
