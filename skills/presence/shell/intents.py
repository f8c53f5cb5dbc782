"""What the local agents said last, so that it holds beyond a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from skills.presence.core.claims import MOST
from skills.presence.core.status import ONLINE

FIELDS: Final = ("status", "reason", "slots", "load", "tags")


class Intents:
    """
    For each local agent a lasting intent, and perhaps one for a while on top.

    They were checked by the core before they come here; what is read back is checked again there.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        slots: int | None,
        tags: tuple[str, ...],
        stored: Any,
    ) -> None:
        """
        @param slots: of this node's operator, unless set otherwise.
        @param tags: likewise.
        @param stored: what L{to_list} gave.
        """
        self._wall = wall
        self._tags = tags
        self._said: dict[tuple[str, bool], dict[str, Any]] = {}
        if slots is not None or tags:
            self._said["", False] = {"agent": "", "status": ONLINE, "slots": slots, "tags": tags}
        for intent in stored if isinstance(stored, list) else ():
            if isinstance(intent, dict) and isinstance(intent.get("agent"), str):
                self._keep(intent)

    def said(self, intent: dict[str, Any]) -> None:
        """@param intent: what the core was told; C{duration} in seconds."""
        duration = intent.get("duration")
        until = None if duration is None else self._wall() + duration
        kept = {key: value for key, value in intent.items() if key != "duration"}
        self._keep({**kept, "until": until})

    def withdrawn(self, agent: str) -> None:
        """An agent has nothing to say any more."""
        self._said.pop((agent, True), None)
        self._said.pop((agent, False), None)

    def tags(self, agent: str) -> tuple[str, ...]:
        """@return: the tags an agent has as long as it says nothing about them."""
        return self._tags if not agent else ()

    def all(self) -> list[dict[str, Any]]:
        """@return: what the core is to be told, in this order."""
        intents = []
        for (_, passing), intent in sorted(self._said.items(), key=lambda item: item[0]):
            told = {key: value for key, value in intent.items() if key != "until"}
            if passing:
                left = intent["until"] - self._wall()
                if left <= 0:
                    continue
                told["duration"] = left
            intents.append(told)
        return intents

    def to_list(self) -> list[dict[str, Any]]:
        """@return: JSON-ready."""
        return [
            {**intent, "tags": list(intent.get("tags") or ())} for intent in self._said.values()
        ]

    def _keep(self, intent: dict[str, Any]) -> None:
        agent, passing = intent["agent"], intent.get("until") is not None
        if not passing:
            self._said.pop((agent, True), None)
        self._said.pop((agent, passing), None)
        self._said[agent, passing] = intent
        while len({name for name, _ in self._said}) > MOST:
            self.withdrawn(next(iter(self._said))[0])
