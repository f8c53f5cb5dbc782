"""The registry's numbers as Prometheus reads them.

@see: protocol notes of the registry, I{Prometheus metric names}.
"""

from __future__ import annotations

from pilot.exposition import Family, Sample, by_label, number_text, one
from pilot.exposition import exposition as text_of
from pilot.registry.networks import ADMIN, BACKBONE, OWNER
from pilot.registry.relaytable import RelayTable
from pilot.registry.server import RegistryFactory
from pilot.registry.statistics import BUCKETS

_EVENTS = (
    "registrations",
    "deregistrations",
    "trust_reports",
    "trust_revocations",
    "handshake_requests",
    "invites_sent",
    "invites_accepted",
    "invites_rejected",
    "policy_changes",
    "key_rotations",
)
_ROLE_CHANGES = ("kick", "promote", "demote", "transfer_ownership")


def exposition(factory: RegistryFactory, beacon: RelayTable, now: float) -> str:
    """@return: all metrics, in the text format 0.0.4."""
    families = _requests(factory)
    directory, statistics = factory.directory, factory.directory.statistics
    executors = sum(node.task_exec for node in directory.nodes)
    for name, value in (
        ("nodes_online", directory.online(now)),
        ("nodes_total", len(directory.nodes)),
        ("nodes_dormant", len(directory.nodes.dormant)),
        ("trust_links", directory.trust.pairs),
        ("task_executors", executors),
        ("uptime_seconds", now - statistics.started),
        ("connections", len(factory.connections)),
    ):
        families.append(one(f"pilot_{name}", "gauge", value))
    for event in _EVENTS:
        families.append(one(f"pilot_{event}_total", "counter", statistics.events[event]))
    changes = {op: statistics.events[f"rbac_{op}"] for op in _ROLE_CHANGES}
    families += (
        by_label("pilot_rbac_operations_total", "counter", "op", changes),
        *_networks(factory),
        by_label("pilot_refused_total", "counter", "limit", _refusals(factory)),
        one("pilot_beacon_nodes", "gauge", len(beacon)),
        by_label("pilot_beacon_messages_total", "counter", "outcome", beacon.counters),
    )
    return text_of(families)


def _requests(factory: RegistryFactory) -> list[Family]:
    statistics = factory.directory.statistics
    samples = []
    for kind, durations in sorted(statistics.durations.items()):
        label, total = ("type", kind), 0
        bounds = (*map(number_text, BUCKETS), "+Inf")
        for bound, count in zip(bounds, durations.counts, strict=True):
            total += count
            samples.append(Sample(total, (label, ("le", bound)), "_bucket"))
        samples.append(Sample(durations.total, (label,), "_sum"))
        samples.append(Sample(total, (label,), "_count"))
    return [
        by_label("pilot_requests_total", "counter", "type", statistics.requests),
        by_label("pilot_errors_total", "counter", "type", statistics.errors),
        Family("pilot_request_duration_seconds", "histogram", "", tuple(samples)),
    ]


def _networks(factory: RegistryFactory) -> list[Family]:
    directory = factory.directory
    networks = [network for network in directory.networks if network.id != BACKBONE]
    enterprise = sum(network.enterprise for network in networks)
    families = [
        one("pilot_networks_total", "gauge", len(networks)),
        one("pilot_networks_enterprise", "gauge", enterprise),
        one("pilot_invites_pending", "gauge", directory.networks.pending_invites()),
    ]
    if not networks:
        return families
    roles = {
        network.name: [m.role for m in directory.networks.members(network.id).values()]
        for network in networks
    }
    for name, values in (
        ("network_members", {name: len(held) for name, held in roles.items()}),
        ("network_admins", {name: held.count(ADMIN) for name, held in roles.items()}),
        ("network_owners", {name: held.count(OWNER) for name, held in roles.items()}),
        ("network_enterprise", {n.name: int(n.enterprise) for n in networks}),
        ("network_policy_set", {n.name: int(_has_policy(n.policy)) for n in networks}),
    ):
        families.append(by_label(f"pilot_{name}", "gauge", "network", values))
    return families


def _has_policy(policy: object) -> bool:
    return policy != type(policy)()


def _refusals(factory: RegistryFactory) -> dict[str, int]:
    statistics = factory.directory.statistics
    return {
        **factory.refused,
        "move without proof": statistics.moves_refused,
        "overheard signature": statistics.overheard,
        "response mailbox": factory.directory.mailboxes.dropped,
    }
