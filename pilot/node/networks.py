"""The private networks a node is in, and which ports their policies leave open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pilot.address import Address
from pilot.errors import PilotError
from pilot.registry.client import RegistryClient


class Networks:
    """
    Memberships and port policies, kept in memory so that no packet waits for the registry.

    @ivar members_changed: called with the set of own networks after each refresh.
    """

    def __init__(self, registry: RegistryClient) -> None:
        self._registry = registry
        self._own: frozenset[int] = frozenset()
        self._allowed_ports: dict[int, frozenset[int]] = {}
        self.members_changed: Callable[[frozenset[int]], None] = lambda own: None

    @property
    def own(self) -> frozenset[int]:
        """Ids of the networks this node is in, the backbone left out."""
        return self._own

    def allows(self, network: int, port: int) -> bool:
        """@return: whether C{port} may be used in the name of C{network}."""
        allowed = self._allowed_ports.get(network)
        return not allowed or port in allowed

    async def refresh(self) -> None:
        """
        Ask the registry for memberships and policies again.

        @raise PilotError: the registry did not answer; what was known before still holds.
        """
        assert self._registry.node_id is not None
        answer = await self._registry.lookup(self._registry.node_id)
        networks = answer.get("networks")
        own = (
            frozenset(n for n in networks if isinstance(n, int) and n)
            if isinstance(networks, list)
            else frozenset()
        )
        policies = {network: await self._policy(network) for network in own}
        self._own, self._allowed_ports = own, policies
        self.members_changed(own)

    async def members(self, network: int) -> list[int]:
        """@return: node ids of the members of C{network}; fails as the registry client does."""
        return member_ids(await self._registry.list_nodes(network))

    def entries(self, node_id: int) -> list[dict[str, Any]] | None:
        """@return: C{networks} of the info reply: null when in none but the backbone."""
        if not self._own:
            return None
        return [
            {"network_id": network, "address": str(Address(network, node_id))}
            for network in sorted(self._own)
        ]

    async def _policy(self, network: int) -> frozenset[int]:
        try:
            ports = (await self._registry.get_network_policy(network)).get("allowed_ports")
        except PilotError:
            return self._allowed_ports.get(network, frozenset())
        return frozenset(ports) if isinstance(ports, list) else frozenset()


def member_ids(answer: dict[str, Any]) -> list[int]:
    """@return: the node ids in a C{list_nodes} reply."""
    nodes = answer.get("nodes")
    if not isinstance(nodes, list):
        return []
    return [n["node_id"] for n in nodes if isinstance(n, dict) and "node_id" in n]
