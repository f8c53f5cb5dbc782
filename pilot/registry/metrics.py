"""The registry's numbers as Prometheus reads them.

@see: protocol notes of the registry, I{Prometheus metric names}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilot.registry.networks import ADMIN, BACKBONE, OWNER
from pilot.registry.relaytable import RelayTable
from pilot.registry.server import RegistryFactory
from pilot.registry.statistics import BUCKETS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

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
    lines: list[str] = []
    _requests(lines, factory)
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
        _gauge(lines, name, value)
    for event in _EVENTS:
        _counter(lines, f"{event}_total", statistics.events[event])
    _labelled(
        lines,
        "counter",
        "rbac_operations_total",
        "op",
        {op: statistics.events[f"rbac_{op}"] for op in _ROLE_CHANGES},
    )
    _networks(lines, factory)
    _labelled(lines, "counter", "refused_total", "limit", _refusals(factory))
    _gauge(lines, "beacon_nodes", len(beacon))
    _labelled(lines, "counter", "beacon_messages_total", "outcome", beacon.counters)
    return "\n".join(lines) + "\n"


def _requests(lines: list[str], factory: RegistryFactory) -> None:
    statistics = factory.directory.statistics
    _labelled(lines, "counter", "requests_total", "type", statistics.requests)
    _labelled(lines, "counter", "errors_total", "type", statistics.errors)
    lines.append("# TYPE pilot_request_duration_seconds histogram")
    for kind, durations in sorted(statistics.durations.items()):
        label, total = f'type="{_escaped(kind)}"', 0
        for bound, count in zip((*map(_number, BUCKETS), "+Inf"), durations.counts, strict=True):
            total += count
            lines.append(f'pilot_request_duration_seconds_bucket{{{label},le="{bound}"}} {total}')
        lines.append(f"pilot_request_duration_seconds_sum{{{label}}} {durations.total:.9g}")
        lines.append(f"pilot_request_duration_seconds_count{{{label}}} {total}")


def _networks(lines: list[str], factory: RegistryFactory) -> None:
    directory = factory.directory
    networks = [network for network in directory.networks if network.id != BACKBONE]
    _gauge(lines, "networks_total", len(networks))
    _gauge(lines, "networks_enterprise", sum(network.enterprise for network in networks))
    _gauge(lines, "invites_pending", directory.networks.pending_invites())
    if not networks:
        return
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
        _labelled(lines, "gauge", name, "network", values)


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


def _gauge(lines: list[str], name: str, value: float) -> None:
    lines += (f"# TYPE pilot_{name} gauge", f"pilot_{name} {_number(value)}")


def _counter(lines: list[str], name: str, value: float) -> None:
    lines += (f"# TYPE pilot_{name} counter", f"pilot_{name} {_number(value)}")


def _labelled(
    lines: list[str], kind: str, name: str, label: str, values: Mapping[str, int]
) -> None:
    lines.append(f"# TYPE pilot_{name} {kind}")
    lines.extend(_series(name, label, values))


def _series(name: str, label: str, values: Mapping[str, int]) -> Iterable[str]:
    for key, value in sorted(values.items()):
        yield f'pilot_{name}{{{label}="{_escaped(key)}"}} {value}'


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)
