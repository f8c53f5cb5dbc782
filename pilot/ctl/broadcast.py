"""C{broadcast}: one datagram to each other member of a network."""

from __future__ import annotations

from pilot.address import Address
from pilot.ctl.console import Result, as_bytes, as_text
from pilot.ctl.networks import list_members
from pilot.ctl.values import parse_network_id, parse_port
from pilot.errors import ConnectionFailed, InvalidArgument
from pilot.wire.ipcframes import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot.ctl.call import Call

DEFAULT_PORT = "1000"
"""The port that C{connect} takes by default, too."""

EVERY_NODE = 0xFFFFFFFF
"""The node part of an address that means all members of its network."""


def broadcast(call: Call) -> Result:
    """
    Send a datagram to every other member of a network.

    The daemon acknowledges no datagram, but it refuses in the order it is asked: when it has
    answered the question behind the datagram, it had nothing against it.
    """
    network_id = parse_network_id(call.words[0])
    port = parse_port(call.flags.get("port", DEFAULT_PORT))
    data = as_bytes(call.words[1])
    if not data:
        raise InvalidArgument("an empty message is no datagram")
    if network_id == 0:
        raise InvalidArgument("network 0 is everybody: nobody broadcasts there")
    with call.connect() as client:
        own = call.ask(client, Command.INFO, b"", "info").get("node_id")
        members = list_members(call, client, network_id)
        if all(member.get("node_id") != own for member in members):
            raise ConnectionFailed(
                f"broadcast denied: node {own} is not a member of network {network_id}",
                hint=f"pilotctl network join {network_id}",
            )
        client.send_datagram(Address(network_id, EVERY_NODE), port, data)
        call.ask(client, Command.HEALTH, b"", "health")
        if client.datagram_refusal is not None:
            raise ConnectionFailed(f"{call.name}: daemon: {client.datagram_refusal}")
    others = [m for m in members if m.get("node_id") != own and not m.get("offline")]
    result = {
        "network_id": network_id,
        "port": port,
        "message": as_text(data),
        "bytes": len(data),
        "recipients": len(others),
    }
    nodes = "1 node" if len(others) == 1 else f"{len(others)} nodes"
    return Result(result, f"sent {len(data)} bytes to port {port} of {nodes}")
