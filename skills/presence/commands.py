"""The C{pilotctl presence} family: what each command is called, takes and returns.

This table is all that C{pilotctl} reads to know the family; a run imports the one module that its
command needs.
"""

from __future__ import annotations

from pilot.ctl.table import Command

_AGENT = "<hostname>"
_STATUS = "[--status <state>]"

COMMANDS: tuple[Command, ...] = (
    Command(
        "presence start",
        "skills.presence.ctl.own:start",
        (
            "[--coordinator <hosts>]",
            "[--swarm <names>]",
            "[--interval <dur>]",
            "[--profile lan|wan|eco]",
        ),
        "status, coordinators, swarms, interval, profile",
        "announce this agent, and keep announcing it until stop",
    ),
    Command(
        "presence stop",
        "skills.presence.ctl.own:stop",
        (),
        "status",
        "say that this agent is offline, and announce it no more",
    ),
    Command(
        "presence set",
        "skills.presence.ctl.own:set_status",
        (
            "<online|busy|away|offline>",
            "[--for <dur>]",
            "[--reason <text>]",
            "[--slots <n>]",
            "[--load <percent>]",
            "[--agent <name>]",
        ),
        "status, until, reason, slots, load",
        "say how this agent is; heartbeats are the daemon's work",
    ),
    Command(
        "presence get",
        "skills.presence.ctl.look:get",
        (_AGENT,),
        "hostname, node_id, status, confidence, last_seen, since, load, slots, tags, reason",
        "show one agent",
    ),
    Command(
        "presence list",
        "skills.presence.ctl.look:list_agents",
        (_STATUS, "[--tag <tag>]", "[--swarm <name>]", "[--coordinator <host>]", "[--all]"),
        "agents [...], version, stale_view (bool)",
        "list the agents that are known and not offline, or all of them",
    ),
    Command(
        "presence find",
        "skills.presence.ctl.look:find",
        (
            "[--tag <tag>]",
            "[--min-slots <n>]",
            "[--max-age <dur>]",
            "[--limit <n>]",
            "[--pick <n>]",
            "[--verify]",
            "[--coordinator <host>]",
        ),
        "agents [...], excluded {hostname: reason}",
        "find agents that can take work now; fails, with reasons, when there is none",
    ),
    Command(
        "presence watch",
        "skills.presence.ctl.watch:watch",
        (
            "[hostname]",
            "[--coordinator <host>]",
            "[--swarm <name>]",
            _STATUS,
            "[--count <n>]",
            "[--timeout <dur>]",
        ),
        "one object a line: hostname, node_id, from, to, cause, at",
        "show changes as they come",
    ),
    Command(
        "presence serve",
        "skills.presence.ctl.own:serve",
        ("[--off]",),
        "serving (bool), agents",
        "be a coordinator: keep the directory of all agents that announce themselves here",
    ),
    Command(
        "presence history",
        "skills.presence.ctl.look:history",
        (_AGENT,),
        "hostname, transitions [{at, from, to, cause}]",
        "show how an agent's status has changed",
    ),
    Command(
        "presence stats",
        "skills.presence.ctl.look:stats",
        (),
        "agents, by_status, counters",
        "show figures of the directory and the detector",
    ),
    Command(
        "presence explain",
        "skills.presence.ctl.look:explain",
        (_AGENT,),
        "hostname, status, confidence, evidence [...]",
        "show why an agent has the status it has",
    ),
)
