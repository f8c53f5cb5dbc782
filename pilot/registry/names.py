"""What a hostname, a tag and a network name may look like.

@see: protocol notes of the registry, I{Names}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pilot.registry.fields import quoted, size
from pilot.registry.refusal import Refusal

MAX_NAME = 63  # bytes
MAX_TAG = 32  # bytes

_RULE = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z")
_RESERVED_HOSTNAMES = frozenset({"localhost", "backbone", "broadcast"})
_RESERVED_NETWORKS = frozenset({"backbone"})


def check_hostname(name: str) -> None:
    """@raise Refusal: with the reference's text; C{""} is not a name."""
    if size(name) > MAX_NAME:
        raise Refusal(f"hostname too long (max {MAX_NAME} chars)")
    if not _RULE.match(name):
        raise Refusal(
            "hostname must be lowercase alphanumeric with hyphens, start/end with alphanumeric"
        )
    if name in _RESERVED_HOSTNAMES:
        raise Refusal(f"hostname {quoted(name)} is reserved")


def check_network_name(name: str) -> None:
    """@raise Refusal: with the reference's text."""
    if not name:
        raise Refusal("network name required")
    if size(name) > MAX_NAME:
        raise Refusal(f"network name too long (max {MAX_NAME} chars)")
    if not _RULE.match(name):
        raise Refusal(
            "network name must be lowercase alphanumeric with hyphens, start/end with alphanumeric"
        )
    if name in _RESERVED_NETWORKS:
        raise Refusal(f"network name {quoted(name)} is reserved")


def normal_tags(given: Iterable[str], limit: int, what: str) -> tuple[str, ...]:
    """
    One leading C{#} off each, repeats dropped, order kept.

    @param what: C{tags} or C{member tags}, for the error.
    @raise Refusal: too many, or one that breaks the rule.
    """
    tags = tuple(dict.fromkeys(tag[1:] if tag.startswith("#") else tag for tag in given))
    if len(tags) > limit:
        raise Refusal(f"too many {what} (max {limit})")
    for tag in tags:
        if not tag:
            raise Refusal("empty tag not allowed")
        if size(tag) > MAX_TAG:
            raise Refusal(f"tag {quoted(tag)} too long (max {MAX_TAG} chars)")
        if not _RULE.match(tag):
            raise Refusal(f"tag {quoted(tag)} must be lowercase alphanumeric with hyphens")
    return tags
