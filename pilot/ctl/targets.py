"""From what a person calls a node to its address.

@see: C{docs/reference/pilotctl.md}, I{Targets}.
"""

from __future__ import annotations

from pilot.address import Address
from pilot.client.blocking import DaemonClient, DaemonError
from pilot.ctl.console import as_bytes
from pilot.errors import AddressError, NotFound
from pilot.wire.ipcframes import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call

SELF = "self"
"""The name that always means the own node.  A node that took it as its hostname has an id too."""


def resolve(call: Call, client: DaemonClient, text: str) -> Address:
    """
    @param text: an address, a decimal node id, C{self}, or a hostname.
    @raise NotFound: no such hostname, or one that this node may not see.
    """
    address = parse_address(text) or parse_number(text)
    if address is not None:
        return address
    if text == SELF:
        return Address(0, call.ask(client, Command.INFO, b"", "info")["node_id"])
    try:
        answer = client.request_json(Command.RESOLVE_HOSTNAME, as_bytes(text))
    except DaemonError as error:
        raise NotFound(
            f'cannot resolve "{text}" — is the hostname correct and is there mutual trust? '
            f"(see: pilotctl handshake){other_reason(error)}"
        ) from None
    address = address_in(answer)
    call.console.progress(f'resolved "{text}" → {address}')
    return address


def parse_address(text: str) -> Address | None:
    """@return: the address, if it is one."""
    try:
        return Address.parse(text)
    except AddressError:
        return None


def parse_number(text: str) -> Address | None:
    """@return: the node's backbone address, if this is a node id."""
    if text.isascii() and text.isdigit() and len(text.lstrip("0")) <= 10 and int(text) < 1 << 32:
        return Address(0, int(text))
    return None


def address_in(answer: dict[str, Any]) -> Address:
    """@return: the address in a reply to a hostname request.  @raise DaemonError: none there."""
    node_id = answer.get("node_id")
    address = parse_address(str(answer.get("address")))
    if address is not None:
        return address
    if isinstance(node_id, int) and 0 <= node_id < 1 << 32:
        return Address(0, node_id)
    raise DaemonError("malformed reply")


def other_reason(error: DaemonError) -> str:
    """@return: why a name did not resolve, when it is not just that nobody has it."""
    return "" if error.text.endswith(" not found") else f" ({error.text})"
