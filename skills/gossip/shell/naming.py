"""What a swarm may be called, and the tag that its members carry."""

from __future__ import annotations

import re

from pilot.errors import InvalidArgument

TAG_PREFIX = "swarm-"

#: Characters of a name: a tag has 32 at most.
MAX_NAME = 26

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


def check_swarm(name: object) -> str:
    """
    @return: the name, if it is one.
    @raise InvalidArgument: it could not be part of a tag.
    """
    if not isinstance(name, str) or len(name) > MAX_NAME or not _NAME.fullmatch(name):
        shown = f"{name!r}"[:80]
        raise InvalidArgument(
            f"{shown} is no name of a swarm",
            hint=f"1 to {MAX_NAME} of a-z 0-9 and -, with a letter or digit at both ends",
        )
    return name


def tag_of(name: str) -> str:
    """@return: the tag by which members of a swarm are found."""
    return TAG_PREFIX + name
