"""C{context} and C{version}, and the usage texts: what the program says about itself."""

from __future__ import annotations

from pilot.ctl.console import Result
from pilot.ctl.table import COMMANDS, Command, installed_commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call

CONTEXT_VERSION = "1.2"
"""Version of the shape of C{context}, as the reference has it."""

ERROR_CODES = {
    "invalid_argument": "the command line is wrong: a bad value, an unknown command or flag",
    "not_running": "no daemon behind the control socket",
    "not_found": "a hostname, a node, a file or a record that does not exist or may not be seen",
    "connection_failed": "the daemon, the registry or a peer refused, failed, or is out of reach",
    "timeout": "no answer in time",
    "already_exists": "a daemon runs already, or what was to be made exists",
    "internal": "a failure on this machine: files, processes",
    "auth_required": "an admin token is needed",
    "unavailable": "not possible yet",
    "invalid_state": "what was asked does not fit the present state",
    "expired": "too late",
    "internal_error": "a file of a task could not be read or written",
}

ENVIRONMENT = {
    "PILOT_HOME": "directory of configuration, identity and logs (default ~/.pilot)",
    "PILOT_SOCKET": "the daemon's control socket (default /tmp/pilot.sock)",
    "PILOT_REGISTRY": "registry as host:port (default: the rendezvous of this machine)",
    "PILOT_BEACON": "beacon as host:port, for daemon start",
    "PILOT_ADMIN_TOKEN": "admin token, for daemon start and network administration",
    "PILOT_DEBUG": "set to see the traceback of an unexpected error",
}

GLOBAL_FLAGS = {
    "--json": "print one JSON envelope instead of text; anywhere on the line",
    "--help": "explain the program, or the command it follows",
}

EXIT_STATUS = """\
exit status:
  0  done
  1  an error (error: and hint: on stderr), or nothing came back from ping, traceroute or bench
  2  no command, or an unknown one"""


def version(call: Call) -> Result:
    """The version as bare text, in both modes."""
    from pilot._version import __version__

    call.console.line(__version__)
    return Result(None, "")


def context(call: Call) -> Result:
    """Every command, for programs that find their way by themselves."""
    commands: dict[str, Any] = {
        command.name: {
            "args": list(command.arguments),
            "description": command.summary,
            "returns": command.returns,
        }
        for command in (*COMMANDS, *installed_commands())
    }
    return Result(
        {
            "version": CONTEXT_VERSION,
            "commands": commands,
            "error_codes": ERROR_CODES,
            "global_flags": GLOBAL_FLAGS,
            "environment": ENVIRONMENT,
            "config_file": "~/.pilot/config.json",
        }
    )


def usage_text() -> str:
    """@return: the commands, for somebody who named none, or one that does not exist."""
    return f"{_overview('')}\n\nMore: pilotctl --help, pilotctl <command> --help"


def help_text(command: Command | None = None, group: str = "") -> str:
    """@return: how to use a command, a group of commands, or the program."""
    if command is not None:
        return f"usage: {command.usage}\n\n{_sentence(command.summary)}\n\ndata: {command.returns}"
    if group:
        return _overview(group)
    parts = [
        _overview(""),
        _titled("flags:", GLOBAL_FLAGS),
        _titled("environment:", ENVIRONMENT),
        EXIT_STATUS,
        "One command in detail: pilotctl <command> --help",
    ]
    return "\n\n".join(parts)


def _overview(group: str) -> str:
    commands = [*COMMANDS, *installed_commands()]
    heading = "usage: pilotctl [--json] <command> [arguments]"
    if group:
        commands = [each for each in commands if each.name.startswith(group + " ")]
        heading = f"usage: pilotctl {group} <subcommand>"
    return f"{heading}\n\n" + _titled("commands:", {each.name: each.summary for each in commands})


def _titled(title: str, texts: dict[str, str]) -> str:
    width = max(map(len, texts))
    return "\n".join((title, *(f"  {name.ljust(width)}  {text}" for name, text in texts.items())))


def _sentence(summary: str) -> str:
    return summary[:1].upper() + summary[1:] + "."
