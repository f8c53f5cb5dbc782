"""The presence skill as a plugin; what does the work is imported when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from pilot.iskill import ISkill

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.application.service import IService

    from pilot.interfaces import IPilotNode


@implementer(IPlugin, ISkill)
class PresenceSkill:
    """Who is there, and who can take work."""

    name = "presence"
    summary = "Tells who is online, busy, away or offline."
    port = 1010

    @property
    def options(self) -> tuple[tuple[str, Any, str], ...]:
        """What may be set."""
        from skills.presence.shell.choices import OPTIONS

        return OPTIONS

    def make_skill(self, node: IPilotNode, settings: Mapping[str, Any]) -> IService:
        """@return: the service, not started.  @raise ValueError: the settings make no sense."""
        from skills.presence.service import PresenceService

        return PresenceService(node, settings)  # type: ignore[arg-type]
