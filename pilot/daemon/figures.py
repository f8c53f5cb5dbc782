"""Everything a daemon counts, as families of numbers: what the metrics and the manhole show.

The numbers are those of the info reply, plus the tunnel's and the gate's own counters, and a few
of the process.  No number is labelled with a peer.

@see: the page I{Metrics}.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pilot.daemon.processfigures import process_figures
from pilot.exposition import Family, Sample, by_label, one
from pilot.node.node import PilotNode

#: Sections of the info reply, and which of their members are a state as of now.
SECTIONS: dict[str, frozenset[str]] = {
    "webhook": frozenset({"waiting"}),
    "data_exchange": frozenset(),
    "event_stream": frozenset({"subscriptions", "topics", "queued_bytes", "unfinished_bytes"}),
    "messages": frozenset({"streams", "waiting", "resting"}),
    "published": frozenset({"streams", "waiting", "resting"}),
    "claims": frozenset({"claims", "undecided"}),
    "manhole": frozenset({"connections", "sessions"}),
    "metrics": frozenset(),
}

#: Counts that are only in their section once they have begun.
_ALWAYS = {
    "data_exchange": (
        "messages",
        "files",
        "full",
        "failed",
        "malformed",
        "timeouts",
        "declined",
        "claimed",
    )
}

#: Members of a skill's report that say how it is run; the others are the skill's own.
_HOSTING = frozenset(
    {"name", "state", "error", "failures", "starts", "since", "retry_in", "port", "socket"}
)

#: Numbers shown of one skill's own statistics, and how deep they may lie.
MAX_SKILL_FIGURES, MAX_DEPTH = 200, 4

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_OTHER = re.compile(r"[^A-Za-z0-9_]")


def figures(node: PilotNode) -> list[Family]:
    """@return: all families, each name once."""
    info = node.parts.report.info()
    found = [*_node(node, info), *_streams(info), *_counters(node, info), *_sections(info)]
    found += _skills(info.get("skills"))
    unique = {family.name: family for family in found}
    return [*unique.values(), *process_figures()]


def _node(node: PilotNode, info: Mapping[str, Any]) -> Iterator[Family]:
    version = (("version", str(info["version"])),)
    yield Family("pilot_build_info", "gauge", "Which program this is.", (Sample(1, version),))
    peers = info["peer_list"]
    for name, value, help_line in (
        ("uptime_seconds", info["uptime_secs"], "Since the node was made."),
        ("registry_connected", int(info["registry_connected"]), "1 while the registry answers."),
        ("networks", len(info["networks"] or ()), "Private networks the node is in."),
        ("ports", info["ports"], "Virtual ports that are bound."),
        ("peers", info["peers"], "Nodes there is a tunnel to."),
        ("peers_encrypted", info["encrypted_peers"], "Of these, with a key agreed."),
        ("peers_relayed", sum(bool(peer.get("relay")) for peer in peers), "Of these, by relay."),
        ("trusted_nodes", len(node.parts.trust.trusted()), "Nodes that may connect."),
        ("handshakes_pending", info["handshake_pending_count"], "Requests for trust that wait."),
    ):
        yield one(f"pilot_{name}", "gauge", value, help_line)


def _streams(info: Mapping[str, Any]) -> Iterator[Family]:
    streams = info["conn_list"]
    states = Counter(str(stream["state"]).lower() for stream in streams)
    yield by_label("pilot_streams", "gauge", "state", states, "Streams, by state.")
    flight = sum(stream["in_flight"] for stream in streams)
    yield one("pilot_streams_in_flight_bytes", "gauge", flight, "Sent and not acknowledged yet.")


#: The tunnel's counters with a name of their own: theirs, ours, and what they are.
_TRAFFIC = {
    "bytes_sent": ("sent_bytes_total", "Bytes of UDP payload sent."),
    "bytes_recv": ("received_bytes_total", "Bytes of UDP payload received."),
    "pkts_sent": ("sent_packets_total", "Datagrams sent."),
    "pkts_recv": ("received_packets_total", "Datagrams received."),
    "tunnel_encryption_success": ("encryption_success_total", "Packets sealed or opened."),
    "tunnel_encryption_failure": ("encryption_failure_total", "Packets that did not open."),
}


def _counters(node: PilotNode, info: Mapping[str, Any]) -> Iterator[Family]:
    tunnel = dict(node.parts.tunnel.counters())
    for theirs, (name, help_line) in _TRAFFIC.items():
        tunnel.pop(theirs, None)
        yield one(f"pilot_{name}", "counter", info[theirs], help_line)
    queued = tunnel.pop("queued_peers", 0)
    yield one("pilot_tunnel_queued_peers", "gauge", queued, "Peers that packets wait for.")
    yield by_label(
        "pilot_tunnel_events_total", "counter", "event", tunnel, "What else the tunnel counts."
    )
    yield by_label(
        "pilot_trust_events_total",
        "counter",
        "event",
        node.parts.trust.counters(),
        "What the trust service counts.",
    )
    yield by_label(
        "pilot_refused_total", "counter", "limit", info["refused"], "Turned away, by limit."
    )


def _sections(info: Mapping[str, Any]) -> Iterator[Family]:
    for section, states in SECTIONS.items():
        values = info.get(section)
        if not isinstance(values, Mapping):
            continue
        for key, value in {**dict.fromkeys(_ALWAYS.get(section, ()), 0), **values}.items():
            if not _is_number(value) or key == "port":
                continue
            name = f"pilot_{section}_{_OTHER.sub('_', str(key))}"
            words = f"{section.replace('_', ' ')}: {str(key).replace('_', ' ')}"
            if key in states:
                yield one(name, "gauge", value, f"As of now, {words}.")
            else:
                yield one(f"{name}_total", "counter", value, f"So far, {words}.")


def _skills(reports: Any) -> list[Family]:
    """What the skills' reports say; they are other people's, so nothing is taken for granted."""
    skills = [each for each in reports or () if isinstance(each, Mapping) and "name" in each]
    if not skills:
        return []
    running, failures, own = {}, {}, []
    for each in skills:
        name = str(each["name"])
        running[name] = int(each.get("state") == "running")
        failed = each.get("failures")
        failures[name] = failed if isinstance(failed, int) else 0
        statistics = {key: value for key, value in each.items() if key not in _HOSTING}
        for number, (figure, value) in enumerate(_leaves(statistics)):
            if number == MAX_SKILL_FIGURES:
                break
            own.append(Sample(value, (("skill", name), ("name", figure))))
    return [
        by_label("pilot_skill_running", "gauge", "skill", running, "1 while it runs."),
        by_label(
            "pilot_skill_failures_total", "counter", "skill", failures, "How often it failed."
        ),
        Family("pilot_skill_statistic", "untyped", "What a skill says of itself.", tuple(own)),
    ]


def _leaves(values: Mapping[Any, Any], depth: int = 0) -> Iterator[tuple[str, float]]:
    """
    Numbers below a mapping, with their path.  Whatever is called like a number or an address, and
    members of lists, may be about a peer and is left out.
    """
    for key, value in values.items():
        if not (isinstance(key, str) and _NAME.fullmatch(key)):
            continue
        if _is_number(value):
            yield key, value
        elif isinstance(value, Mapping) and depth + 1 < MAX_DEPTH:
            for path, leaf in _leaves(value, depth + 1):
                yield f"{key}.{path}", leaf


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
