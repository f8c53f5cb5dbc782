"""Who may talk to whom: C{handshake pending approve reject trust untrust}."""

from __future__ import annotations

from pilot.client.blocking import DaemonError
from pilot.ctl.console import Result, as_bytes, as_text, table
from pilot.ctl.targets import SELF, address_in, parse_address, parse_number, resolve
from pilot.ctl.values import local_time_text, parse_node_id
from pilot.errors import NotFound
from pilot.wire.ipc import Handshake, HandshakeSub
from pilot.wire.ipcframes import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.client.blocking import DaemonClient
    from pilot.ctl.call import Call


def handshake(call: Call) -> Result:
    """Ask for trust.  Words beyond the first of a justification belong to it too."""
    with call.connect() as client:
        node_id = _peer(call, client, call.words[0])
        # A request that waits for the peer's answer may wait as long as a dial does, and longer.
        answer = _request(call, client, HandshakeSub.REQUEST, "handshake", node_id, call.words[1:])
    status = answer.get("status", "sent")
    data = {"status": status, "node_id": node_id}
    if status == "already_trusted":
        return Result(data, f"node {node_id} is trusted already")
    return Result(
        data,
        f"handshake request sent to node {node_id}\n"
        f"  it has to approve there: pilotctl approve <your node id>\n"
        f"  see whether it did: pilotctl trust",
    )


def approve(call: Call) -> Result:
    """Grant trust."""
    node_id = _answer_request(call, HandshakeSub.APPROVE, "approve")
    data = {"status": "approved", "node_id": node_id}
    return Result(data, f"trust established with node {node_id}\n  try: pilotctl ping {node_id}")


def reject(call: Call) -> Result:
    """Refuse trust."""
    node_id = _answer_request(call, HandshakeSub.REJECT, "reject")
    data = {"status": "rejected", "node_id": node_id}
    return Result(data, f"handshake from node {node_id} rejected")


def untrust(call: Call) -> Result:
    """Take trust back."""
    node_id = parse_node_id(call.words[0], "invalid node_id")
    with call.connect() as client:
        _request(call, client, HandshakeSub.REVOKE, "revoke", node_id)
    return Result({"node_id": node_id})


def pending(call: Call) -> Result:
    """Requests that wait for an answer."""
    found = _list(call, HandshakeSub.PENDING, "pending")
    rows = [
        [
            str(each.get("node_id")),
            str(each.get("justification", "")),
            local_time_text(each.get("received_at")),
        ]
        for each in found
    ]
    text = table(("NODE ID", "JUSTIFICATION", "RECEIVED"), (10, 40, 0), rows)
    none = "no pending handshake requests\n  ask for trust with: pilotctl handshake <hostname>"
    return Result({"pending": found}, text if found else none)


def trusted(call: Call) -> Result:
    """Trusted nodes."""
    found = _list(call, HandshakeSub.TRUSTED, "trusted")
    rows = [
        [
            str(each.get("node_id")),
            "yes" if each.get("mutual") else "no",
            str(each.get("network") or "-"),
            local_time_text(each.get("approved_at")),
        ]
        for each in found
    ]
    text = table(("NODE ID", "MUTUAL", "NETWORK", "APPROVED AT"), (10, 10, 10, 0), rows)
    none = "no trusted peers\n  ask for trust with: pilotctl handshake <hostname>"
    return Result({"trusted": found}, text if found else none)


def _peer(call: Call, client: DaemonClient, text: str) -> int:
    number = parse_number(text)
    if number is not None:
        return number.node
    address = parse_address(text)
    if address is not None:
        call.console.progress(f"parsed address {address} → node {address.node}")
        return address.node
    if text == SELF:
        return resolve(call, client, text).node
    try:
        answer = client.request_json(Command.RESOLVE_HOSTNAME, as_bytes(text))
    except DaemonError as error:
        raise NotFound(f'resolve "{text}": resolve_hostname: {error.message}') from None
    node_id = address_in(answer).node
    call.console.progress(f"resolved {text} → node {node_id}")
    return node_id


def _answer_request(call: Call, sub: HandshakeSub, operation: str) -> int:
    with call.connect() as client:
        node_id = parse_node_id(call.words[0])
        _request(call, client, sub, operation, node_id, call.words[1:])
    return node_id


def _request(
    call: Call,
    client: DaemonClient,
    sub: HandshakeSub,
    operation: str,
    node_id: int,
    words: list[str] | None = None,
) -> dict[str, Any]:
    text = as_text(as_bytes(" ".join(words or ())))
    payload = Handshake(sub, node_id, text).encode()
    return call.ask(client, Command.HANDSHAKE, payload, operation)


def _list(call: Call, sub: HandshakeSub, key: str) -> list[dict[str, Any]]:
    with call.connect() as client:
        answer = call.ask(client, Command.HANDSHAKE, Handshake(sub).encode(), key)
    found = answer.get(key)
    entries = found if isinstance(found, list) else []
    return [each for each in entries if isinstance(each, dict)]
