"""Private networks, as a node uses them: C{network list join leave members invite invites accept
reject}.

The daemon asks the registry for its node; governing networks is L{pilot.ctl.governing}.
"""

from __future__ import annotations

from pilot.ctl.console import Result, as_bytes, as_text, table
from pilot.ctl.values import local_time_text, parse_network_id, parse_node_id
from pilot.wire.ipc import Network, NetworkSub
from pilot.wire.ipcframes import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.client.blocking import DaemonClient
    from pilot.ctl.call import Call


def list_(call: Call) -> Result:
    """Every network of the registry."""
    answer = _request(call, Network(NetworkSub.LIST))
    networks = entries(answer, "networks")
    rows = [
        [
            str(each.get("id")),
            str(each.get("name", "")),
            str(each.get("join_rule", "")),
            str(each.get("members")),
        ]
        for each in networks
    ]
    text = table(("ID", "NAME", "JOIN RULE", "MEMBERS"), (7, 29, 9, 0), rows)
    return Result({**answer, "networks": networks}, text)


def join(call: Call) -> Result:
    """Enter a network; with C{--node-id} somebody else does, by word of the administrator."""
    network_id = parse_network_id(call.words[0])
    if "node-id" in call.flags:
        from pilot.ctl.governing import join_other

        return join_other(call, network_id)
    token = as_text(as_bytes(call.flags.get("token", "")))
    answer = _request(call, Network(NetworkSub.JOIN, network_id, token=token))
    return Result(answer, f"joined network {network_id}")


def leave(call: Call) -> Result:
    """Leave a network."""
    network_id = parse_network_id(call.words[0])
    answer = _request(call, Network(NetworkSub.LEAVE, network_id))
    return Result(answer, f"left network {network_id}")


def members(call: Call) -> Result:
    """Who is in a network."""
    network_id = parse_network_id(call.words[0])
    answer = _request(call, Network(NetworkSub.MEMBERS, network_id))
    nodes = entries(answer, "nodes")
    rows = [
        [
            str(each.get("node_id")),
            str(each.get("hostname") or "-"),
            str(each.get("version") or "-"),
            _visibility(each),
        ]
        for each in nodes
    ]
    text = table(("NODE ID", "HOSTNAME", "VERSION", "PUBLIC"), (11, 19, 11, 0), rows)
    return Result({**answer, "nodes": nodes}, text if nodes else "no members")


def invite(call: Call) -> Result:
    """Ask a node into a network."""
    network_id, node_id = parse_network_id(call.words[0]), parse_node_id(call.words[1])
    answer = _request(call, Network(NetworkSub.INVITE, network_id, node_id))
    return Result(answer, f"invited node {node_id} to network {network_id}")


def invites(call: Call) -> Result:
    """The invitations that wait for this node."""
    answer = _request(call, Network(NetworkSub.POLL_INVITES))
    found = entries(answer, "invites")
    rows = [
        [
            str(each.get("network_id")),
            str(each.get("inviter_id")),
            local_time_text(each.get("timestamp")),
        ]
        for each in found
    ]
    text = table(("NETWORK", "INVITER", "TIMESTAMP"), (11, 11, 0), rows)
    text += "\n\n  to accept: pilotctl network accept <network_id>"
    text += "\n  to refuse: pilotctl network reject <network_id>"
    return Result({**answer, "invites": found}, text if found else "no pending invites")


def accept(call: Call) -> Result:
    """Follow an invitation."""
    return _respond(call, "accepted", accept=True)


def reject(call: Call) -> Result:
    """Decline an invitation."""
    return _respond(call, "rejected", accept=False)


def list_members(call: Call, client: DaemonClient, network_id: int) -> list[dict[str, Any]]:
    """@return: the members of a network, the own node among them.  @raise ConnectionFailed: no."""
    payload = Network(NetworkSub.MEMBERS, network_id).encode()
    answer = call.ask(client, Command.NETWORK, payload, "network members")
    return entries(answer, "nodes")


def entries(answer: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """@return: the objects in a list of an answer; none where the answer has C{null}."""
    found = answer.get(key)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _respond(call: Call, done: str, *, accept: bool) -> Result:
    network_id = parse_network_id(call.words[0])
    answer = _request(call, Network(NetworkSub.RESPOND_INVITE, network_id, accept=accept))
    return Result(answer, f"{done} invite to network {network_id}")


def _visibility(member: dict[str, Any]) -> str:
    if member.get("offline"):
        return "offline"
    return "public" if member.get("public") else "private"


def _request(call: Call, request: Network) -> dict[str, Any]:
    operation = "network " + request.sub.name.lower().replace("_", "-")
    with call.connect() as client:
        return call.ask(client, Command.NETWORK, request.encode(), operation)
