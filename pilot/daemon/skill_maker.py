"""What C{twistd} knows of a skill that runs as a process of its own: names only."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(IPlugin, IServiceMaker)
class SkillMaker:
    """Makes C{twistd pilot-NAME} out of the skill NAME; put one into the skill's dropin."""

    def __init__(self, skill: str, description: str) -> None:
        self._skill = skill
        self.tapname = f"pilot-{skill}"
        self.description = description

    def options(self) -> Any:
        """@return: the options of the skill."""
        from pilot.daemon.skill_tap import skill_options

        return skill_options(self._skill)

    def makeService(self, options: Any) -> Any:
        """@return: the service of the process, not started."""
        from pilot.daemon.skill_tap import makeService

        return makeService(options)
