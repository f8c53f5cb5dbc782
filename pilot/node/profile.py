"""How a node is known to others: hostname, tags, visibility, readiness for tasks."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from pilot.errors import PilotError, RegistryError
from pilot.registry.client import RegistryClient

log = Logger()

#: Tags that a registry lets one node carry (protocol notes, I{Tags}).
MAX_TAGS = 10


class Profile:
    """
    The node's own facts.  The registry publishes them; this object remembers them, so that they
    are there again after the registry, or the node's record in it, was lost.

    @ivar hostname: C{""} for none.
    @ivar public: whether strangers may connect; takes effect on the gate at once.
    @ivar tags: what was set by this process, None when it never set any.
    """

    def __init__(self, registry: RegistryClient, *, hostname: str, public: bool) -> None:
        self.hostname = hostname
        self.public = public
        self.tags: list[str] | None = None
        self._task_exec: bool | None = None
        self._registry = registry

    async def restore(self) -> None:
        """
        Tell a registry that has just registered this node what it should know of it.

        A hostname that is taken or malformed is logged and does not stop anything.

        @raise RegistryUnavailable: the registry went away meanwhile.
        """
        if self.public:
            await self._registry.set_visibility(True)
        if self.hostname:
            try:
                await self._registry.set_hostname(self.hostname)
            except RegistryError as error:
                log.error(
                    "the registry refused the hostname {hostname}: {error}",
                    hostname=self.hostname,
                    error=error.message,
                )
        if self.tags is not None:
            await self._quietly("tags", self._registry.set_tags(self.tags))
        if self._task_exec is not None:
            await self._quietly("task flag", self._registry.set_task_exec(self._task_exec))

    async def set_hostname(self, hostname: str) -> dict[str, Any]:
        """Take a hostname; C{""} gives it up.  @return: the registry's reply."""
        reply = await self._registry.set_hostname(hostname)
        self.hostname = hostname
        return reply

    async def set_visibility(self, public: bool) -> dict[str, Any]:
        """Let strangers in, or not.  @return: the registry's reply."""
        reply = await self._registry.set_visibility(public)
        self.public = public
        return reply

    async def set_tags(self, tags: list[str]) -> dict[str, Any]:
        """Replace all tags.  @return: the registry's reply, the tags as stored in it."""
        if len(tags) > MAX_TAGS:
            raise PilotError(f"maximum {MAX_TAGS} tags allowed")
        reply = await self._registry.set_tags(tags)
        stored = reply.get("tags")
        self.tags = list(stored) if isinstance(stored, list) else []
        return reply

    async def set_task_exec(self, enabled: bool) -> dict[str, Any]:
        """Say whether this node takes tasks.  @return: the registry's reply."""
        reply = await self._registry.set_task_exec(enabled)
        self._task_exec = enabled
        return reply

    async def _quietly(self, what: str, request: Any) -> None:
        try:
            await request
        except RegistryError as error:
            log.warn("the registry refused the {what}: {error}", what=what, error=error.message)
