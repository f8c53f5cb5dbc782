"""What a verdict rests on, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def in_words(evidence: Mapping[str, Any], us: int) -> str:
    """
    @param evidence: as of a L{skills.presence.detection.reach.Reach}, a verification or a
        coordinator.
    @param us: our own node number.
    @return: a line for people; what there are no words for is left out.
    """
    parts = []
    if "silent" in evidence:
        parts.append(f"silent for {evidence['silent']:.1f} s")
    if evidence.get("by"):
        parts.append(f"accused by {_nodes(evidence['by'], us)}")
    if evidence.get("via"):
        parts.append(f"told by node {evidence['via']}")
    if evidence.get("pings"):
        parts.append(f"{evidence['pings']} pings of ours unanswered")
    if evidence.get("asked"):
        parts.append(
            f"{evidence.get('confirmed', 0)} of {len(evidence['asked'])} others "
            "had no answer either"
        )
    return ", ".join(parts)


def _nodes(numbers: list[int], us: int) -> str:
    names = ["us" if node == us else f"node {node}" for node in numbers]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
