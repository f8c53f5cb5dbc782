"""Every limit and period of the registry, with its name, its unit and its reason.

What the reference fixes is kept (protocol notes of the registry, I{Transport}, I{Liveness});
what it leaves unbounded is bounded here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """
    The numbers a registry works with.  Times are seconds.

    @ivar nodes: live nodes at once.
    @ivar dormant_nodes: departed nodes remembered; beyond it the longest gone is forgotten.
    @ivar new_nodes_per_host: ids handed to one source address within L{registration_window}.
        Loopback is exempt.
    @ivar registration_hosts: source addresses counted for that.
    @ivar stale_after: silence after which a live node becomes dormant.
    @ivar sweep_every: how often the silent are looked for.
    @ivar witness_active: how recently a node's own connection must have spoken to be believed
        rather than a stranger elsewhere.
    @ivar nodes_per_caller: nodes that one connection may have proven to be.
    @ivar visit_counts: for how long a granted C{resolve} of a peer counts as having asked it for
        trust, should that peer agree.  0 makes consent strictly explicit.
    @ivar visits: such resolves remembered, over all nodes.
    @ivar consents_per_node: peers that one node may declare to trust.
    @ivar requests_per_mailbox: handshake requests waiting for one node.
    @ivar responses_per_mailbox: handshake responses waiting for one node; the oldest goes first.
    @ivar justification: bytes of a handshake's justification.
    @ivar invites_per_node: network invitations waiting for one node.
    @ivar invite_lasts: after which an invitation is void.
    @ivar tags: tags of one node, or of one member.
    @ivar polo: largest score, and largest change, either sign.
    @ivar polo_raised_per_giver: points that one node may give away within L{polo_window}.
    @ivar beacons: beacons listed at once.
    @ivar beacon_lasts: after which a beacon that is not registered again is no longer listed.
    @ivar networks: networks besides the backbone; ids are never used twice.
    @ivar members: members of one network.
    @ivar document: bytes of a policy document or of network rules.
    @ivar token: bytes of a join token or a network's admin token.
    @ivar owner: bytes of a node's owner text.
    @ivar version: bytes of a node's version text.
    @ivar address: bytes of an endpoint text.
    @ivar lan_addresses: LAN endpoints of one node; the rest is dropped.
    @ivar answer: bytes of an answer's body; Go clients break the connection at a larger one.
    """

    nodes: int = 1_000_000
    dormant_nodes: int = 500_000
    new_nodes_per_host: int = 20_000
    registration_window: float = 86_400.0
    registration_hosts: int = 65_536
    stale_after: float = 300.0
    sweep_every: float = 10.0
    witness_active: float = 130.0
    nodes_per_caller: int = 64
    visit_counts: float = 86_400.0
    visits: int = 200_000
    consents_per_node: int = 10_000
    requests_per_mailbox: int = 100
    responses_per_mailbox: int = 100
    justification: int = 1024
    invites_per_node: int = 100
    invite_lasts: float = 30 * 86_400.0
    tags: int = 10
    polo: int = 1_000_000
    polo_raised_per_giver: int = 10_000
    polo_window: float = 86_400.0
    beacons: int = 1024
    beacon_lasts: float = 60.0
    networks: int = 65_535
    members: int = 10_000
    document: int = 32_768
    token: int = 256
    owner: int = 320
    version: int = 64
    address: int = 128
    lan_addresses: int = 16
    answer: int = 65_536


DEFAULT_LIMITS = Limits()
