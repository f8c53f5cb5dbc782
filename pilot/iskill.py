"""What a skill is: a plugin that adds something to a node, in a package of its own.

A module in the namespace package C{twisted.plugins} holds an object that provides L{ISkill}.  The
daemon runs it with C{twistd pilot --skill NAME}; the very same code runs as a process of its own
against a running daemon.  Only zope.interface is imported here, because whoever merely looks
through the plugins imports this module.

@see: the page I{Write a skill}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.application.service import IService
    from twisted.internet.defer import Deferred

    from pilot.interfaces import IPilotNode


class ISkill(Interface):
    """
    An installed skill.  Keep the object light: import what does the work in L{make_skill}.

    It is a plugin as well, so it also provides C{twisted.plugin.IPlugin}.
    """

    name = Attribute(
        "Unique name shown to operators (C{str}): 1 to 32 characters of C{a-z 0-9 -}, the first one"
        " a letter."
    )
    summary = Attribute("What it does, one sentence (C{str}).")
    port = Attribute("Virtual port it serves, 1..65535 (C{int}), or C{None}.")
    options = Attribute(
        """What may be set, a tuple of C{(name, default, help)}.  C{name} is of C{a-z 0-9 -}; a
        default of C{True} or C{False} makes it a switch, which needs no value."""
    )

    def make_skill(node: IPilotNode, settings: Mapping[str, Any]) -> IService:
        """
        Make the skill; called for every run, because a skill that failed is made anew.

        Everything it got through C{node} and C{settings.reactor} is taken back when the run ends:
        listeners, ports, streams, timers.  What must survive belongs in C{settings.home}.

        @param node: the node, registered.
        @param settings: what was set, a L{pilot.hosting.settings.SkillSettings}.
        @return: an L{twisted.application.service.IService}, not started, that may provide
            L{ISkillCalls} and L{ISkillReport} too.  Its C{startService} may return a Deferred or
            be a coroutine; the skill counts as running when that is done.
        @raise ValueError: the settings make no sense; the message says which one.
        """


class ISkillCalls(Interface):
    """
    A skill's service that others on this host may talk to, over the skill's own Unix socket.

    @see: L{pilot.client.skillcalls.SkillClient}, the other end.
    """

    def calls() -> dict[str, Callable[[dict[str, Any]], Any | Deferred[Any]]]:
        """
        @return: by name, functions that take one JSON object and return one JSON value, or a
            Deferred or coroutine of it.  A C{PilotError} goes to the caller as it is, with code,
            message and hint; anything else is logged and comes out as C{internal}.
        """

    def feeds() -> dict[
        str, Callable[[dict[str, Any], Callable[[dict[str, Any]], None]], Callable[[], None]]
    ]:
        """
        @return: by name, functions that take one JSON object and a C{send(event: dict)} to be
            called as often as there is news, and return what ends it, which is called once when the
            client hangs up.  A slow client loses events and is told how many.
        """


class ISkillReport(Interface):
    """A skill's service that can tell how it is doing."""

    def statistics() -> dict[str, Any]:
        """@return: JSON-ready facts, shown by C{pilotctl info}, the metrics and the manhole."""
