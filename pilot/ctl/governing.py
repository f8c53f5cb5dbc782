"""Private networks, as whoever runs them does: C{network create delete rename promote demote kick
role policy}, and C{network join} for another node.

All of it goes straight to the registry, past the daemon, and all that changes something needs the
admin token: of the registry, or the one that a network was created with.
"""

from __future__ import annotations

import os
from contextlib import suppress

from pilot.ctl.console import Result
from pilot.ctl.direct import ask
from pilot.ctl.values import parse_integer, parse_network_id, parse_node_id, parse_port
from pilot.errors import ConnectionFailed, InvalidArgument, NotRunning, PilotError, TimedOut
from pilot.wire.ipcframes import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call

JOIN_RULES = ("open", "token", "invite")

MAX_RULES = 65536
"""Bytes of a rules file; more does not fit into a request."""


class AuthRequired(PilotError):
    """Only whoever has the admin token may do this."""

    code = "auth_required"

    def __init__(self) -> None:
        super().__init__(
            "admin token required for this operation",
            hint="set PILOT_ADMIN_TOKEN env var or admin_token in ~/.pilot/config.json",
        )


def create(call: Call) -> Result:
    """Found a network."""
    flags = call.flags
    if not flags.get("name"):
        from pilot.ctl.table import COMMANDS, by_name

        raise InvalidArgument(f"usage: {by_name(COMMANDS)[call.name].usage}")
    message = {
        "type": "create_network",
        "name": flags["name"],
        "join_rule": _join_rule(call),
        "enterprise": call.switch("enterprise"),
        "admin_token": _admin_token(call),
    }
    for flag in ("token", "network-admin-token"):
        if flags.get(flag):
            message[flag.replace("-", "_")] = flags[flag]
    rules = _rules(call)
    if rules:
        message["rules"] = rules
    message["node_id"] = _founder(call)
    answer = ask(call, message)
    _let_daemon_know(call, answer.get("network_id"))
    facts = f"join_rule={message['join_rule']}, enterprise={_word(answer.get('enterprise'))}"
    if answer.get("managed"):
        facts += ", managed=true"
    network_id, name = answer.get("network_id"), answer.get("name")
    return Result(answer, f"created network {network_id}: {name} ({facts})")


def delete(call: Call) -> Result:
    """Dissolve a network."""
    network_id = parse_network_id(call.words[0])
    answer = _govern(call, "delete_network", network_id)
    return Result(answer, f"deleted network {network_id}")


def rename(call: Call) -> Result:
    """Give a network another name."""
    network_id, name = parse_network_id(call.words[0]), call.words[1]
    answer = _govern(call, "rename_network", network_id, name=name)
    return Result(answer, f'renamed network {network_id} to "{name}"')


def promote(call: Call) -> Result:
    """Make a member an admin of its network."""
    return _member(call, "promote_member", "promoted node {node} to admin in network {network}")


def demote(call: Call) -> Result:
    """Make an admin of a network a member again."""
    return _member(call, "demote_member", "demoted node {node} to member in network {network}")


def kick(call: Call) -> Result:
    """End a membership."""
    return _member(call, "kick_member", "kicked node {node} from network {network}")


def role(call: Call) -> Result:
    """What a node is in a network; anybody may ask."""
    network_id, node_id = parse_network_id(call.words[0]), parse_node_id(call.words[1])
    request = {"type": "get_member_role", "network_id": network_id, "target_node_id": node_id}
    answer = ask(call, request)
    return Result(answer, f"node {node_id} in network {network_id}: role={answer.get('role')}")


def policy(call: Call) -> Result:
    """Show the policy of a network, or change what a flag is given for."""
    network_id = parse_network_id(call.words[0])
    changes: dict[str, Any] = {}
    if "max-members" in call.flags:
        changes["max_members"] = parse_integer(call.flags["max-members"], "max-members")
    if "allowed-ports" in call.flags:
        words = [word.strip() for word in call.flags["allowed-ports"].split(",")]
        changes["allowed_ports"] = [parse_port(word) for word in words if word]
    if "description" in call.flags:
        changes["description"] = call.flags["description"]
    if not changes:
        answer = ask(call, {"type": "get_network_policy", "network_id": network_id})
        text = None
    else:
        answer = _govern(call, "set_network_policy", network_id, **changes)
        text = f"updated policy for network {network_id}"
    return Result({**answer, "allowed_ports": answer.get("allowed_ports") or []}, text)


def join_other(call: Call, network_id: int) -> Result:
    """C{network join --node-id}: enter a network in the name of another node."""
    node_id = parse_node_id(call.flags["node-id"])
    token = {"token": call.flags["token"]} if call.flags.get("token") else {}
    answer = _govern(call, "join_network", network_id, node_id=node_id, **token)
    _let_daemon_know(call, network_id)
    return Result(answer, f"joined node {node_id} to network {network_id}")


def _govern(call: Call, kind: str, network_id: int, **fields: Any) -> dict[str, Any]:
    token = _admin_token(call)
    return ask(call, {"type": kind, "network_id": network_id, "admin_token": token, **fields})


def _member(call: Call, kind: str, done: str) -> Result:
    network_id, node_id = parse_network_id(call.words[0]), parse_node_id(call.words[1])
    answer = _govern(call, kind, network_id, target_node_id=node_id)
    return Result(answer, done.format(node=node_id, network=network_id))


def _admin_token(call: Call) -> str:
    token = os.environ.get("PILOT_ADMIN_TOKEN") or call.settings.text("admin_token")
    if not token:
        raise AuthRequired
    return token


def _join_rule(call: Call) -> str:
    rule = call.flags.get("join-rule", "open")
    if rule not in JOIN_RULES:
        raise InvalidArgument(f'invalid join rule "{rule}"', hint="open, token or invite")
    # Without these two a network would stand open that was meant to be closed.
    if rule == "token" and not call.flags.get("token"):
        raise InvalidArgument("--join-rule token needs a token", hint="--token <token>")
    if rule != "token" and "token" in call.flags:
        raise InvalidArgument("--token does nothing without --join-rule token")
    return rule


def _founder(call: Call) -> int:
    """@return: who owns the new network: who was named, else the node of this machine, or 0."""
    if "node-id" in call.flags:
        return parse_node_id(call.flags["node-id"])
    try:
        with call.connect() as client:
            return int(call.ask(client, Command.INFO, b"", "info")["node_id"])
    except NotRunning:
        return 0


def _let_daemon_know(call: Call, network_id: object) -> None:
    """Have the daemon of this machine look, as it may be its node that has come in."""
    from pilot.ctl.networks import list_members

    if not isinstance(network_id, int):
        return
    with suppress(NotRunning, ConnectionFailed, TimedOut), call.connect() as client:
        list_members(call, client, network_id)


def _rules(call: Call) -> str:
    path = call.flags.get("rules-file")
    if path is None:
        return call.flags.get("rules", "")
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_RULES + 1)
    except OSError as error:
        raise InvalidArgument(f"cannot read rules file: {path}: {error.strerror}") from None
    if len(content) > MAX_RULES:
        raise InvalidArgument(f"rules file {path} is too large (max {MAX_RULES} bytes)")
    return content.decode("utf-8", "replace")


def _word(value: object) -> str:
    return "true" if value else "false"
