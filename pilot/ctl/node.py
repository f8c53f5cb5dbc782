"""This node and what it is connected to: C{info health peers connections disconnect find}."""

from __future__ import annotations

from pilot.client.blocking import DaemonError
from pilot.ctl.console import MAX_ROWS, Result, as_bytes, as_text
from pilot.errors import ConnectionFailed, NotFound
from pilot.wire.ipcframes import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.ctl.call import Call


def info(call: Call) -> Result:
    """All that the daemon knows about itself."""
    data = _info(call)
    # Scripts have been seen to look for the node id beside the data as well as in it.
    beside = {"node_id": data["node_id"]} if "node_id" in data else {}
    text = None if call.console.json else _info_text(data)
    return Result(data, text, beside=beside)


def health(call: Call) -> Result:
    """A few counters, quickly."""
    with call.connect() as client:
        data = call.ask(client, Command.HEALTH, b"", "health")
    if call.console.json:
        return Result(data)
    from pilot.ctl.values import size_text, uptime_text

    pairs = (
        ("Status", _text(data, "status")),
        ("Uptime", uptime_text(_number(data, "uptime_seconds"))),
        ("Connections", _text(data, "connections")),
        ("Peers", _text(data, "peers")),
        ("Bytes Sent", size_text(_number(data, "bytes_sent"))),
        ("Bytes Recv", size_text(_number(data, "bytes_recv"))),
    )
    return Result(data, "\n".join(("Daemon Health", *_labelled(pairs))))


#: Begins a search for the members of a swarm: those with the tag C{swarm-NAME}, since a tag
#: cannot have a colon.
SWARM = "swarm:"


def peers(call: Call) -> Result:
    """Tunnel peers, all or those that match; of a swarm also trusted peers without a tunnel."""
    from pilot.address import Address

    found = []
    query = call.flags.get("search", "").lower()
    swarm = query.removeprefix(SWARM) if query.startswith(SWARM) else ""
    entries = _info(call)["peer_list"]
    if swarm:
        entries = _with_trusted(entries, _trusted(call))
    for entry in entries:
        node_id = entry.get("node_id")
        if isinstance(node_id, int) and 0 <= node_id < 1 << 32:
            entry = {"address": str(Address(0, node_id)), **entry}
        tags = entry.get("tags")
        searched = [str(node_id), str(entry.get("endpoint", "")), str(entry.get("hostname", ""))]
        searched += map(str, tags) if isinstance(tags, list) else []
        if swarm:
            if isinstance(tags, list) and f"swarm-{swarm}" in tags:
                found.append(entry)
        elif any(query in text.lower() for text in searched):
            found.append(entry)
    data = {"peers": found, "total": len(found)}
    if call.console.json and swarm:
        # Published scripts read the members of a swarm as a plain array of entries.
        call.console.json_line(found)
        return Result(None)
    if call.console.json:
        return Result(data)
    if not found:
        if query:
            return Result(data, f'no peers matching "{call.flags["search"]}"')
        return Result(data, "no peers connected\n  meet one with: pilotctl handshake <hostname>")
    return Result(data, _peer_table(found))


def _trusted(call: Call) -> list[dict[str, Any]]:
    """@return: what the daemon knows of the trusted peers; nothing if it does not tell."""
    from pilot.wire.ipc_extensions import Extension
    from pilot.wire.ipcframes import encode_json

    found: list[dict[str, Any]] = []
    with call.connect() as client:
        if not client.hello():
            return found
        after = -1
        while True:
            request = encode_json({"op": "peers", "after": after, "fresh": True})
            answer = call.ask(client, Extension.NODE, request, "peers", label="peers")
            reply = answer.get("data")
            data = reply if isinstance(reply, dict) else {}
            listed = data.get("peers")
            page = [each for each in listed or () if isinstance(each, dict)]
            found += page
            last = page[-1].get("node_id") if page else None
            if not data.get("more") or not isinstance(last, int) or last <= after:
                return found
            after = last


def _with_trusted(
    tunnels: list[dict[str, Any]], trusted: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """@return: the tunnel peers, with fresher tags where there are some, then the other trusted."""
    known = {entry.get("node_id"): entry for entry in trusted}
    merged = []
    for entry in tunnels:
        fresher = known.pop(entry.get("node_id"), {})
        merged.append({**entry, **{key: fresher[key] for key in _FRESHER if fresher.get(key)}})
    without = {"endpoint": "", "encrypted": False, "authenticated": False}
    return merged + [{**without, **entry} for entry in known.values()]


_FRESHER = ("hostname", "tags")


def connections(call: Call) -> Result:
    """Streams, those that linger after their end included."""
    found = _info(call)["conn_list"]
    data = {"connections": found, "total": len(found)}
    if call.console.json:
        return Result(data)
    if not found:
        return Result(data, "no active connections\n  open one with: pilotctl connect <hostname>")
    return Result(data, f"Active connections: {len(found)}\n\n" + _connection_details(found))


def disconnect(call: Call) -> Result:
    """Close a stream by its number."""
    from pilot.ctl.values import parse_node_id

    text = call.words[0]
    connection_id = parse_node_id(text, f'invalid connection ID: "{text}"')
    with call.connect() as client:
        try:
            client.disconnect(connection_id)
        except DaemonError as error:
            raise ConnectionFailed(f"disconnect: {error.message}") from None
    return Result({"conn_id": connection_id})


def find(call: Call) -> Result:
    """What a hostname stands for."""
    from pilot.ctl.targets import address_in, other_reason

    name = call.words[0]
    with call.connect() as client:
        try:
            answer = client.request_json(Command.RESOLVE_HOSTNAME, as_bytes(name))
        except DaemonError as error:
            raise NotFound(
                f'cannot find "{name}" — hostname not found or no mutual trust'
                + other_reason(error),
                hint=f'establish trust first: pilotctl handshake {name} "reason"',
            ) from None
    address = address_in(answer)
    public = bool(answer.get("public"))
    data = {
        "hostname": as_text(as_bytes(name)),
        "node_id": address.node,
        "address": str(address),
        "public": public,
    }
    if call.console.json:
        return Result(data)
    from pilot.ctl.values import printable

    return Result(
        data,
        f"Hostname:  {printable(name)}\nNode ID:   {address.node}\nAddress:   {address}\n"
        f"Visible:   {'public' if public else 'private'}",
    )


def _info(call: Call) -> dict[str, Any]:
    with call.connect() as client:
        data = call.ask(client, Command.INFO, b"", "info", label="info")
    for key in ("networks", "peer_list", "conn_list"):
        entries = data.get(key)
        entries = entries if isinstance(entries, list) else []
        data[key] = [entry for entry in entries if isinstance(entry, dict)]
    return data


def _info_text(data: dict[str, Any]) -> str:
    from pilot.ctl.values import size_text, uptime_text

    encryption = "disabled"
    if data.get("encrypt"):
        encryption = (
            f"enabled (X25519 + AES-256-GCM), {_text(data, 'encrypted_peers')}/"
            f"{_text(data, 'peers')} peers encrypted, {_text(data, 'authenticated_peers')} "
            "authenticated"
        )
    identity = "ephemeral (not persisted)"
    if data.get("identity"):
        identity = f"persistent (Ed25519 {_text(data, 'public_key')[:16]}...)"
    pairs = [
        ("Version", _text(data, "version")),
        ("Node ID", _text(data, "node_id")),
        ("Address", _text(data, "address")),
        ("Hostname", _text(data, "hostname")),
        ("Uptime", uptime_text(_number(data, "uptime_secs"))),
        ("Connections", _text(data, "connections")),
        ("Ports", _text(data, "ports")),
        ("Peers", _text(data, "peers")),
        ("Encryption", encryption),
        ("Identity", identity),
        ("Email", _text(data, "email")),
    ]
    optional = ("Version", "Hostname", "Email")
    lines = ["Pilot Protocol Daemon"]
    lines += _labelled([pair for pair in pairs if pair[1] or pair[0] not in optional])
    if data["networks"]:
        lines += _labelled([("Networks", str(len(data["networks"])))])
        lines += [
            f"    - network {_text(each, 'network_id')}: {_text(each, 'address')}"
            for each in data["networks"]
        ]
    skills = data.get("skills")
    found = [each for each in skills if isinstance(each, dict)] if isinstance(skills, list) else []
    if found:
        lines += _labelled([("Skills", str(len(found)))])
        lines += [f"    - {_skill_text(each)}" for each in found]
    sent, received = size_text(_number(data, "bytes_sent")), size_text(_number(data, "bytes_recv"))
    packets = f"{_text(data, 'pkts_sent')} sent / {_text(data, 'pkts_recv')} recv"
    lines += _labelled([("Traffic", f"{sent} sent / {received} recv"), ("Packets", packets)])
    if data["conn_list"]:
        table = _connection_table(data["conn_list"], details=False)
        lines += ["", f"Active connections: {len(data['conn_list'])}"]
        lines += ["  " + line for line in table.split("\n")]
    return "\n".join(lines)


def _skill_text(skill: dict[str, Any]) -> str:
    text = f"{_text(skill, 'name')}: {_text(skill, 'state')}"
    return f"{text} ({_text(skill, 'error')})" if skill.get("error") else text


def _peer_table(found: list[dict[str, Any]]) -> str:
    from pilot.ctl.console import table

    named = any(entry.get("hostname") for entry in found)
    titles, widths = ["NODE ID", "ENDPOINT", "ENCRYPTED", "AUTH"], [10, 30, 20, 0]
    rows = [
        [
            _text(entry, "node_id"),
            _text(entry, "endpoint"),
            "yes (AES-256-GCM)" if entry.get("encrypted") else "no",
            "yes (Ed25519)" if entry.get("authenticated") else "no",
        ]
        for entry in found
    ]
    if named:
        titles, widths = [*titles, "HOSTNAME"], [*widths, 0]
        rows = [
            [*row, _text(entry, "hostname") or "-"] for row, entry in zip(rows, found, strict=True)
        ]
    return table(titles, widths, rows)


def _connection_table(found: list[dict[str, Any]], *, details: bool) -> str:
    from pilot.ctl.console import table
    from pilot.ctl.values import size_text

    titles = ["ID", "LOCAL", "REMOTE ADDR", "RPORT", "STATE", "CWND", "FLIGHT", "SRTT"]
    widths = [4, 6, 22, 6, 11, 8, 8, 6]
    if details:
        titles += ["UNACK", "OOO", "PEERWIN", "RCVWIN"]
        widths += [6, 6, 8, 8]
    rows = []
    for entry in found:
        row = [_text(entry, key) for key in _CONNECTION_KEYS]
        row += [size_text(_number(entry, "cong_win")), size_text(_number(entry, "in_flight"))]
        row += [f"{_number(entry, 'srtt_ms'):g}ms"]
        if details:
            row += [_text(entry, "unacked"), _text(entry, "ooo_buf")]
            row += [size_text(_number(entry, key)) for key in ("peer_recv_win", "recv_win")]
        rows.append(row)
    return table(titles, widths, rows)


_CONNECTION_KEYS = ("id", "local_port", "remote_addr", "remote_port", "state")


def _connection_details(found: list[dict[str, Any]]) -> str:
    """The table, with a line of counters under each row."""
    from pilot.ctl.values import size_text

    lines = _connection_table(found, details=True).split("\n")
    out = [lines[0]]
    for line, entry in zip(lines[1:], found[:MAX_ROWS], strict=False):
        sent, received = (size_text(_number(entry, key)) for key in ("bytes_sent", "bytes_recv"))
        out += [
            line,
            f"      tx: {sent} ({_text(entry, 'segs_sent')} segs)"
            f"  rx: {received} ({_text(entry, 'segs_recv')} segs)"
            f"  retx: {_text(entry, 'retransmits')}  fast-retx: {_text(entry, 'fast_retx')}"
            f"  sack: {_text(entry, 'sack_sent')}/{_text(entry, 'sack_recv')}"
            f"  dup-ack: {_text(entry, 'dup_acks')}",
        ]
    return "\n".join(out + lines[1 + MAX_ROWS :])


def _labelled(pairs: Any) -> list[str]:
    return [f"  {label + ':':12} {value}" for label, value in pairs]


def _text(entry: dict[str, Any], key: str) -> str:
    from pilot.ctl.values import printable

    value = entry.get(key)
    if value is None:
        return ""
    return printable(str(int(value) if isinstance(value, float) and value.is_integer() else value))


def _number(entry: dict[str, Any], key: str) -> float:
    value = entry.get(key)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0
