"""Hypothesis strategies for everything that travels on a wire, shared by all suites."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pilot.address import Address, SocketAddress
from pilot.wire import beacon, handshake, ipc, registry_binary, tunnel
from pilot.wire.packet import Packet

u4 = st.integers(0, 15)
u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 2**64 - 1)
i32 = st.integers(-(2**31), 2**31 - 1)

ports = u16
node_ids = u32
network_ids = u16
conn_ids = u32
sequences = u32
payloads = st.binary(max_size=200)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
"""Text that UTF-8 can express; lone surrogates are what decoders never give."""

addresses = st.builds(Address, network_ids, node_ids)
socket_addresses = st.builds(SocketAddress, addresses, ports)

packets = st.builds(
    Packet,
    flags=u4,
    protocol=u8,
    source=addresses,
    destination=addresses,
    source_port=ports,
    destination_port=ports,
    sequence=sequences,
    acknowledgement=sequences,
    window=u16,
    payload=payloads,
)


def exactly(size: int) -> st.SearchStrategy[bytes]:
    """@return: byte strings of one size."""
    return st.binary(min_size=size, max_size=size)


keys = exactly(32)
signatures = exactly(64)

frames = st.one_of(
    st.builds(tunnel.PlainFrame, st.binary(min_size=34, max_size=200)),
    st.builds(tunnel.SecureFrame, node_ids, exactly(12), st.binary(min_size=16, max_size=200)),
    st.builds(tunnel.KeyExchange, node_ids, keys),
    st.builds(tunnel.AuthenticatedKeyExchange, node_ids, keys, keys, signatures),
    st.builds(tunnel.Punch),
)
"""Tunnel frames."""

_ipv6 = st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None)  # type: ignore[union-attr]
hosts = st.one_of(st.ip_addresses(v=4), _ipv6).map(str)

beacon_messages = st.one_of(
    st.builds(beacon.Discover, node_ids),
    st.builds(beacon.DiscoverReply, hosts, ports),
    st.builds(beacon.PunchRequest, node_ids, node_ids),
    st.builds(beacon.PunchCommand, hosts, ports),
    st.builds(beacon.Relay, node_ids, node_ids, payloads),
    st.builds(beacon.RelayDeliver, node_ids, payloads),
    st.builds(beacon.Sync, u32, st.lists(node_ids, max_size=20).map(tuple)),
)

sack_blocks = st.lists(st.tuples(sequences, sequences), min_size=1, max_size=4).map(tuple)

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64),
    st.floats(allow_nan=False, allow_infinity=False),
    text,
)
json_values: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)
json_objects: st.SearchStrategy[dict[str, Any]] = st.dictionaries(text, json_values, max_size=6)

handshake_messages = st.builds(
    handshake.HandshakeMessage,
    type=st.sampled_from(handshake.TYPES) | text,
    node_id=node_ids,
    public_key=text,
    justification=text,
    signature=text,
    reason=text,
    timestamp=st.integers(-(2**63), 2**63 - 1),
)


def _given(kind: Any, *args: Any, **kwargs: Any) -> st.SearchStrategy[Any]:
    """C{st.builds} that leaves fields alone which are not named, defaults included."""
    return st.builds(lambda *a, **k: kind(*a, **k), *args, **kwargs)


_HANDSHAKE, _NETWORK, _MANAGED = ipc.HandshakeSub, ipc.NetworkSub, ipc.ManagedSub
_set = {"action": st.just(ipc.ManagedAction.SET), "document": st.binary(min_size=1, max_size=40)}

ipc_payloads: st.SearchStrategy[Any] = st.one_of(
    st.builds(ipc.Bind, ports),
    st.builds(ipc.Dial, addresses, ports),
    st.builds(ipc.ConnId, conn_ids),
    st.builds(ipc.Accept, ports, conn_ids, addresses, ports),
    st.builds(ipc.ConnData, conn_ids, payloads),
    st.builds(ipc.SendTo, addresses, ports, payloads),
    st.builds(ipc.RecvFrom, addresses, ports, ports, payloads),
    st.builds(ipc.Error, u16, text),
    st.builds(ipc.Flag, st.booleans()),
    _given(ipc.Handshake, st.sampled_from([_HANDSHAKE.REQUEST, _HANDSHAKE.REJECT]), node_ids, text),
    _given(ipc.Handshake, st.sampled_from([_HANDSHAKE.APPROVE, _HANDSHAKE.REVOKE]), node_ids),
    _given(ipc.Handshake, st.sampled_from([_HANDSHAKE.PENDING, _HANDSHAKE.TRUSTED])),
    _given(ipc.Network, st.sampled_from([_NETWORK.LIST, _NETWORK.POLL_INVITES])),
    _given(ipc.Network, st.just(_NETWORK.JOIN), network_ids, token=text),
    _given(ipc.Network, st.sampled_from([_NETWORK.LEAVE, _NETWORK.MEMBERS]), network_ids),
    _given(ipc.Network, st.just(_NETWORK.INVITE), network_ids, node_ids),
    _given(ipc.Network, st.just(_NETWORK.RESPOND_INVITE), network_ids, accept=st.booleans()),
    _given(ipc.Managed, st.just(_MANAGED.SCORE), network_ids, node_ids, i32, text),
    _given(
        ipc.Managed,
        st.sampled_from([_MANAGED.STATUS, _MANAGED.RANKINGS, _MANAGED.CYCLE]),
        st.none() | network_ids,
    ),
    _given(ipc.Managed, st.just(_MANAGED.POLICY), network_ids),
    _given(ipc.Managed, st.just(_MANAGED.POLICY), network_ids, **_set),
    _given(ipc.Managed, st.just(_MANAGED.MEMBER_TAGS), network_ids, node_ids),
    _given(ipc.Managed, st.just(_MANAGED.MEMBER_TAGS), network_ids, node_ids, **_set),
)
ipc_frames = st.tuples(u8, payloads)
"""(command byte, payload)."""

registry_requests = st.one_of(
    st.builds(registry_binary.JsonMessage, json_objects),
    st.builds(registry_binary.Heartbeat, node_ids, signatures),
    st.builds(registry_binary.Lookup, node_ids),
    st.builds(registry_binary.Resolve, node_ids, node_ids, signatures),
)
"""Requests of the registry's binary protocol."""

registry_answers = st.one_of(
    st.builds(registry_binary.JsonMessage, json_objects),
    st.builds(registry_binary.HeartbeatOk, u64, u8),
    st.builds(
        registry_binary.LookupOk,
        node_ids,
        u8,
        i32,
        st.lists(network_ids, max_size=5).map(tuple),
        st.binary(max_size=40),
        text,
        st.lists(text, max_size=4).map(tuple),
        text,
        text,
    ),
    st.builds(
        registry_binary.ResolveOk, node_ids, text, st.lists(text, max_size=4).map(tuple), u32
    ),
    st.builds(registry_binary.ErrorMessage, text),
)
"""Answers of the registry's binary protocol."""


@st.composite
def mangled(draw: st.DrawFn, encoded: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that were right once: cut, lengthened, or with some of them changed."""
    data = bytearray(draw(encoded))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(u8)
    end = draw(st.integers(0, len(data)))
    return bytes(data if draw(st.booleans()) else data[:end]) + draw(st.binary(max_size=8))


def hostile(encoded: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """@return: what a decoder must survive: any bytes, and nearly right ones."""
    return st.binary(max_size=200) | mangled(encoded)


def cuts(size: int) -> st.SearchStrategy[list[int]]:
    """@return: sorted positions at which a stream of C{size} bytes is cut."""
    return st.lists(st.integers(0, size), max_size=8).map(sorted)
