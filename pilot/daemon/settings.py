"""Everything a daemon is told, settled: flag, configuration file, environment, default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilot.client import places
from pilot.daemon import values
from pilot.daemon.setting import Setting, decide, switch
from pilot.errors import InvalidArgument
from pilot.hosting.written import Wanted, read_config

SETTINGS = (
    Setting(
        "registry",
        values.endpoint(9000),
        "",
        "Registry, HOST[:PORT]. Without one the daemon joins the rendezvous on this host, or starts"
        " one.",
        "PILOT_REGISTRY",
    ),
    Setting(
        "beacon",
        values.endpoint(9001),
        "",
        "Beacon, HOST[:PORT] (default: the registry's host, port 9001).",
        "PILOT_BEACON",
    ),
    Setting("listen", values.listen, ":0", "UDP address of the tunnel, [HOST]:PORT (0: any port)."),
    Setting(
        "endpoint",
        values.endpoint(None),
        "",
        "Public HOST:PORT of the tunnel, when it is fixed; otherwise the beacon finds it.",
    ),
    Setting(
        "socket",
        values.path,
        places.DEFAULT_SOCKET,
        "Control socket for pilotctl and other programs.",
        "PILOT_SOCKET",
        # Clients look in this order, and whoever sets it for one shell means both sides.
        environment_first=True,
    ),
    Setting(
        "identity",
        values.identity,
        None,
        "File of the node's key (default: identity.json in ~/.pilot; empty: a key for this run).",
    ),
    Setting("email", values.email, "", "Account at the registry; some registries want one."),
    Setting("hostname", values.text, "", "Name by which others find this node."),
    switch("public", "Let anybody connect, not only trusted peers."),
    switch("no-encrypt", "Send everything in the clear; for tests only."),
    Setting("networks", values.networks, (), "Ids of private networks to join, comma-separated."),
    Setting(
        "admin-token",
        values.text,
        "",
        "Token for the registry's administrative requests.",
        "PILOT_ADMIN_TOKEN",
        environment_first=True,
    ),
    Setting("webhook", values.webhook, "", "URL that is told the node's events."),
    Setting("keepalive", values.duration, 60.0, "Silence after which a stream is probed."),
    Setting("idle-timeout", values.duration, 120.0, "Silence after which a stream is closed."),
    Setting("syn-rate-limit", values.count, 100, "Connection requests a second, from everybody."),
    Setting("max-conns-per-port", values.count, 1024, "Incoming streams open on one port."),
    Setting("max-conns-total", values.count, 4096, "Streams open in all."),
    Setting("time-wait", values.duration, 10.0, "How long a finished stream is remembered."),
    Setting("inbox-messages", values.count, 10_000, "Messages kept in the inbox."),
    Setting("inbox-bytes", values.size, 256 << 20, "Bytes of all messages in the inbox."),
    Setting("received-files", values.count, 10_000, "Received files kept."),
    Setting("received-bytes", values.size, 10 << 30, "Bytes of all received files."),
    switch("registry-tls", "Speak TLS to the registry."),
    Setting(
        "registry-fingerprint",
        values.fingerprint,
        "",
        "SHA-256 of the registry's certificate; implies --registry-tls.",
    ),
    Setting(
        "log-level",
        values.choice("debug", "info", "warn", "error"),
        "info",
        "Least severe messages to log: debug, info, warn or error.",
    ),
    Setting("log-format", values.choice("text", "json"), "text", "Log as text or as json."),
    switch("no-echo", "Do not answer on port 7 (ping, bench)."),
    switch("no-dataexchange", "Do not take messages and files on port 1001."),
    switch("no-eventstream", "Do not run the event broker on port 1002."),
    switch("no-tasksubmit", "Do not take tasks on port 1003."),
    switch("trust-auto-approve", "Trust whoever asks for it."),
    Setting(
        "skill",
        values.skills,
        {},
        "Skill to run, NAME[:OPTION=VALUE...]; may be given more than once.",
        is_list=True,
    ),
    Setting(
        "manhole",
        values.operators,
        "",
        "Open a Python prompt over SSH for operators, [HOST:]PORT (host: 127.0.0.1).",
    ),
    Setting(
        "manhole-keys",
        values.path,
        "",
        "Public keys that may enter it (default: authorized_keys in ~/.pilot, else in ~/.ssh).",
    ),
    Setting(
        "metrics-port",
        values.operators,
        "",
        "Tell metrics to Prometheus, [HOST:]PORT (host: 127.0.0.1).",
    ),
)


@dataclass(frozen=True)
class DaemonSettings:
    """
    What the composition root builds a daemon from; every value is settled.

    @ivar home: directory of the node's files.
    @ivar registry: C{host:port}, or C{""}: join the rendezvous on this host or start one.
    @ivar beacon: C{host:port}, or C{""} to go with the registry's choice.
    @ivar identity: the key's file, or None for a key that is forgotten at the end.
    @ivar endpoint: fixed public C{host:port} of the tunnel, or C{""}.
    @ivar keepalive: seconds; so are C{idle_timeout} and C{time_wait}.
    @ivar registry_fingerprint: 64 lower-case hex digits, or C{""}.
    @ivar manhole: C{host:port} of the operators' prompt, or C{""}.
    @ivar manhole_keys: file of the keys that may enter, or C{""} for the usual places.
    @ivar metrics_port: C{host:port} of the metrics, or C{""}.
    @ivar skills: the given settings of each skill that is to run, by its name.
    """

    home: Path
    registry: str
    beacon: str
    listen: str
    endpoint: str
    socket: str
    identity: Path | None
    email: str
    hostname: str
    public: bool
    encrypt: bool
    networks: tuple[int, ...]
    admin_token: str = field(repr=False)
    webhook: str
    keepalive: float
    idle_timeout: float
    syn_rate_limit: int
    max_conns_per_port: int
    max_conns_total: int
    time_wait: float
    inbox_messages: int
    inbox_bytes: int
    received_files: int
    received_bytes: int
    registry_tls: bool
    registry_fingerprint: str
    log_level: str
    log_format: str
    echo: bool
    data_exchange: bool
    event_stream: bool
    task_submit: bool
    trust_auto_approve: bool
    manhole: str
    manhole_keys: str
    metrics_port: str
    skills: Wanted

    @property
    def embedded(self) -> bool:
        """Whether no registry was named, so that the one on this host is joined or started."""
        return not self.registry


def settle(
    given: Mapping[str, Any], environment: Mapping[str, str], config_file: str | None = None
) -> DaemonSettings:
    """
    Decide every setting.

    @param given: what the flags said, by flag name; texts, and booleans for switches.
    @param environment: the process's environment.
    @param config_file: a configuration file that must exist; None reads the one in the home
        directory if it is there.
    @raise InvalidArgument: a value makes no sense; the message says which one and where it stood.
    """
    path = config_file or places.config_path()
    config = places.read_config(path, required=config_file is not None)
    found = decide(SETTINGS, given, config, path, environment)
    home = Path(places.home()).absolute()
    identity = home / "identity.json" if found["identity"] is None else found["identity"]
    found["identity"] = Path(identity) if identity else None
    if found["registry"] and not found["beacon"]:
        found["beacon"] = found["registry"].rpartition(":")[0] + ":9001"
    if not found["email"]:
        found["email"] = _known_email(found["identity"])
    found["skills"] = _skills(found.pop("skill"), given.get("skill"), config, path)
    return DaemonSettings(
        home=home,
        encrypt=not found.pop("no_encrypt"),
        echo=not found.pop("no_echo"),
        data_exchange=not found.pop("no_dataexchange"),
        event_stream=not found.pop("no_eventstream"),
        task_submit=not found.pop("no_tasksubmit"),
        registry_tls=found.pop("registry_tls") or bool(found["registry_fingerprint"]),
        **found,
    )


def _skills(flags: Wanted, written: Any, config: Mapping[str, Any], path: str | None) -> Wanted:
    """The skills of the configuration file and of the flags; for one skill, the flags win."""
    if written is not None and "" in written:
        return flags  # an empty flag takes back what the file says
    try:
        skills = read_config(config.get("skills"))
    except InvalidArgument as error:
        raise InvalidArgument(f"skills in {path}: {error.message}") from None
    for name, given in flags.items():
        skills[name] = {**skills.get(name, {}), **given}
    return skills


def account_path(identity: Path) -> Path:
    """@return: the file beside a key that remembers the account it was registered with."""
    return identity.with_name("account.json")


def _known_email(identity: Path | None) -> str:
    """The e-mail of an earlier start."""
    if identity is None:
        return ""
    try:
        email = json.loads(account_path(identity).read_text(encoding="utf-8"))["email"]
        return str(values.email(email))
    except (OSError, ValueError, TypeError, KeyError, InvalidArgument):
        return ""
