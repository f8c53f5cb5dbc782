"""Private networks: their members, roles and invitations.

@see: protocol notes of the registry, I{TIER 2: private networks}.
"""

from __future__ import annotations

from collections.abc import Iterator

from pilot.registry.limits import DEFAULT_LIMITS, Limits
from pilot.registry.records import Invite, Journal, Member, Network, Table
from pilot.registry.refusal import Refusal

BACKBONE = 0
"""The network every node is on; it has no members of its own, cannot be joined, left or deleted."""

OWNER, ADMIN, MEMBER = "owner", "admin", "member"

_NEXT = "next_net"
_NO_MEMBERS: dict[int, Member] = {}


class NetworkTable:
    """
    All networks by id, the backbone among them.

    @ivar networks: by id.
    """

    __slots__ = (
        "_invites",
        "_journal",
        "_limits",
        "_members",
        "_names",
        "_next",
        "_of",
        "networks",
    )

    def __init__(self, journal: Journal, now: float, limits: Limits = DEFAULT_LIMITS) -> None:
        self._journal = journal
        self._limits = limits
        self.networks: dict[int, Network] = {}
        self._names: dict[str, int] = {}
        self._members: dict[int, dict[int, Member]] = {}  # network: node, in joining order
        self._of: dict[int, tuple[int, ...]] = {}  # node: networks
        self._invites: dict[int, dict[int, Invite]] = {}  # node: network, in order of arrival
        self._next = 1
        self._add(Network(BACKBONE, "backbone", now))
        journal.put(Table.NETWORK, BACKBONE, self.networks[BACKBONE])

    def get(self, network_id: int) -> Network:
        """@raise Refusal: C{network N: network not found}."""
        network = self.networks.get(network_id)
        if network is None:
            raise Refusal(f"network {network_id}: network not found")
        return network

    def members(self, network_id: int) -> dict[int, Member]:
        """@return: members of a network other than the backbone, in joining order."""
        return self._members.get(network_id, _NO_MEMBERS)

    def of(self, node_id: int) -> tuple[int, ...]:
        """@return: the networks of a node, without the backbone."""
        return self._of.get(node_id, ())

    def shared(self, one: int, other: int) -> bool:
        """@return: whether both are in one network other than the backbone."""
        mine = self._of.get(one)
        return mine is not None and not set(mine).isdisjoint(self._of.get(other, ()))

    def create(self, network: Network) -> None:
        """
        @param network: with the id that L{next_id} gave.
        @raise Refusal: the name is taken, or a limit reached.
        """
        if network.name in self._names:
            raise Refusal(f'network "{network.name}" already exists')
        if len(self.networks) > self._limits.networks:
            raise Refusal(f"too many networks (max {self._limits.networks})")
        self._next = network.id + 1
        self._journal.put(Table.META, _NEXT, b"%d" % self._next)
        self._add(network)
        self.changed(network)

    def next_id(self) -> int:
        """@raise Refusal: no ids are left; none is used twice."""
        if self._next > 0xFFFF:
            raise Refusal("network ID space exhausted (max 65535 networks)")
        return self._next

    def rename(self, network: Network, name: str) -> None:
        """@raise Refusal: the name is another network's."""
        if self._names.get(name, network.id) != network.id:
            raise Refusal(f'network "{name}" already exists')
        del self._names[network.name]
        self._names[name] = network.id
        network.name = name
        self.changed(network)

    def delete(self, network: Network) -> None:
        """Dissolve a network and drop its invitations."""
        for node_id in list(self.members(network.id)):
            self.leave(network.id, node_id)
        for node_id in [n for n, held in self._invites.items() if network.id in held]:
            self.drop_invite(node_id, network.id)
        del self.networks[network.id], self._names[network.name]
        self._members.pop(network.id, None)
        self._journal.delete(Table.NETWORK, network.id)

    def changed(self, network: Network) -> None:
        """Have the network's record saved."""
        self._journal.put(Table.NETWORK, network.id, network)

    def check_room(self, network: Network) -> None:
        """@raise Refusal: C{network membership limit reached}."""
        limit = network.policy.max_members or self._limits.members
        if len(self.members(network.id)) >= min(limit, self._limits.members):
            raise Refusal("network membership limit reached")

    def join(self, network: Network, node_id: int, role: str) -> None:
        """Make a node, which is not one yet, a member."""
        members = self._members.setdefault(network.id, {})
        order = next(reversed(members.values())).order + 1 if members else 1
        members[node_id] = member = Member(order, role)
        self._of[node_id] = (*self.of(node_id), network.id)
        self._journal.put(Table.MEMBER, (network.id, node_id), member)

    def leave(self, network_id: int, node_id: int) -> None:
        """End a membership."""
        del self._members[network_id][node_id]
        left = tuple(n for n in self._of[node_id] if n != network_id)
        if left:
            self._of[node_id] = left
        else:
            del self._of[node_id]
        self._journal.delete(Table.MEMBER, (network_id, node_id))

    def member(self, network_id: int, node_id: int) -> Member:
        """@raise Refusal: C{node N is not a member of network M}."""
        member = self.members(network_id).get(node_id)
        if member is None:
            raise Refusal(f"node {node_id} is not a member of network {network_id}")
        return member

    def member_changed(self, network_id: int, node_id: int) -> None:
        """Have a membership's record saved."""
        self._journal.put(Table.MEMBER, (network_id, node_id), self._members[network_id][node_id])

    def owner(self, network_id: int) -> int | None:
        """@return: the owner's node id."""
        return next((n for n, m in self.members(network_id).items() if m.role == OWNER), None)

    def set_enterprise(self, network: Network, enterprise: bool) -> None:
        """Without the flag nobody has a role; with it everybody has one, and one is the owner."""
        network.enterprise = enterprise
        self.changed(network)
        owned = self.owner(network.id) is not None
        for node_id, member in self.members(network.id).items():
            if not enterprise:
                member.role = ""
            elif not member.role:
                member.role = MEMBER if owned else OWNER
                owned = True
            self.member_changed(network.id, node_id)

    def invites(self, node_id: int, now: float) -> dict[int, Invite]:
        """@return: a node's valid invitations by network; expired ones are dropped."""
        for network_id, invite in list(self._invites.get(node_id, {}).items()):
            if now - invite.time > self._limits.invite_lasts:
                self.drop_invite(node_id, network_id)
        return self._invites.get(node_id, {})

    def invite(self, node_id: int, network_id: int) -> Invite | None:
        """@return: the invitation of a node to a network, expired or not."""
        return self._invites.get(node_id, {}).get(network_id)

    def expired(self, invite: Invite, now: float) -> bool:
        """@return: whether an invitation is void."""
        return now - invite.time > self._limits.invite_lasts

    def add_invite(self, node_id: int, network_id: int, inviter: int, now: float) -> None:
        """@raise Refusal: too many wait already."""
        if len(self.invites(node_id, now)) >= self._limits.invites_per_node:
            raise Refusal(f"invite inbox full for node {node_id}")
        invite = Invite(inviter, int(now))
        self._invites.setdefault(node_id, {})[network_id] = invite
        self._journal.put(Table.INVITE, (node_id, network_id), invite)

    def drop_invite(self, node_id: int, network_id: int) -> None:
        """An invitation is answered, expired or void."""
        held = self._invites[node_id]
        del held[network_id]
        if not held:
            del self._invites[node_id]
        self._journal.delete(Table.INVITE, (node_id, network_id))

    def drop_invites_of(self, node_id: int, network_id: int) -> None:
        """A node left: what it was invited to there, and whom it invited, is void."""
        for target, held in list(self._invites.items()):
            invite = held.get(network_id)
            if invite is not None and node_id in (target, invite.inviter):
                self.drop_invite(target, network_id)

    def forget(self, node_id: int) -> None:
        """A node will never come back."""
        for network_id in self.of(node_id):
            self.leave(network_id, node_id)
        for network_id in list(self._invites.get(node_id, ())):
            self.drop_invite(node_id, network_id)

    def pending_invites(self) -> int:
        """@return: invitations that wait for an answer."""
        return sum(map(len, self._invites.values()))

    def restore(self, network: Network) -> None:
        """Take a record of the store."""
        self._add(network)
        self._next = max(self._next, network.id + 1)

    def restore_member(self, network_id: int, node_id: int, member: Member) -> None:
        """Take a record of the store; @raise ValueError: there is no such network."""
        if network_id not in self.networks:
            raise ValueError(f"member {node_id} of network {network_id}, which does not exist")
        self._members.setdefault(network_id, {})[node_id] = member
        self._of[node_id] = (*self.of(node_id), network_id)

    def restore_invite(self, node_id: int, network_id: int, invite: Invite) -> None:
        """Take a record of the store."""
        self._invites.setdefault(node_id, {})[network_id] = invite

    def restore_meta(self, word: str, value: bytes) -> None:
        """Take a row of the store that may be ours."""
        if word == _NEXT:
            self._next = max(self._next, int(value))

    def restored(self) -> None:
        """All rows were taken."""
        for network_id, members in self._members.items():
            order = sorted(members.items(), key=lambda item: item[1].order)
            self._members[network_id] = dict(order)
        for node_id, held in self._invites.items():
            self._invites[node_id] = dict(sorted(held.items(), key=lambda item: item[1].time))

    def __iter__(self) -> Iterator[Network]:
        return iter(self.networks.values())

    def _add(self, network: Network) -> None:
        self.networks[network.id] = network
        self._names[network.name] = network.id
