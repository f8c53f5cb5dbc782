"""Every command in one table: what it is called, takes, returns, and which function does it.

Parsing, usage texts, C{pilotctl context}, the reference page and completion all read this table, so
that they cannot disagree.  A function is named, not imported: a run imports the one it needs.

Third parties add families through the entry point group C{pilot.commands}: each entry point names a
sequence of L{Command}.  They are looked up only when a word is not in the table, and by C{context}
and the usage texts.  A family called like a skill in the namespace package C{skills} is found there
at once, without a look through everything that is installed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Command:
    """
    One command, or one subcommand of a group.

    @ivar name: what is typed; C{"daemon start"} is the subcommand C{start} of the group C{daemon}.
    @ivar run: C{"module:function"}; the function takes a L{pilot.ctl.call.Call}.
    @ivar arguments: the syntax of each argument, in order: C{<required>}, C{[optional]},
        C{[--flag]} (a switch), C{[--flag <value>]}, C{--flag <value>} (needed to do anything),
        C{[--flag one|other]} (one of these words), C{[--flag <value>...]} (as often as wanted;
        the values come joined by line ends).
    @ivar returns: fields of C{data}, for a reader.
    @ivar summary: one sentence without a final full stop.
    @ivar literal: whether every argument is taken as it stands, C{--word} included, because it may
        be somebody's text.
    @ivar aliases: flags by another name, old to new.
    """

    __slots__ = ("aliases", "arguments", "literal", "name", "returns", "run", "summary")

    def __init__(
        self,
        name: str,
        run: str,
        arguments: tuple[str, ...],
        returns: str,
        summary: str,
        *,
        literal: bool = False,
        aliases: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.run = run
        self.arguments = arguments
        self.returns = returns
        self.summary = summary
        self.literal = literal
        self.aliases = aliases or {}

    @property
    def usage(self) -> str:
        """C{pilotctl name arguments...}."""
        return " ".join(("pilotctl", self.name, *self.arguments))

    @property
    def required(self) -> int:
        """How many positional arguments must be there."""
        return sum(1 for syntax in self.arguments if syntax.startswith("<"))

    @property
    def flags(self) -> dict[str, bool]:
        """Names of the flags, without dashes, and whether each takes a value."""
        found = {}
        for syntax in self.arguments:
            bare = syntax.strip("[]")
            if bare.startswith("--"):
                name, _, value = bare[2:].partition(" ")
                found[name] = bool(value)
        return found

    @property
    def repeatable(self) -> set[str]:
        """Names of the flags that may be given more than once."""
        return {
            syntax.strip("[]")[2:].partition(" ")[0]
            for syntax in self.arguments
            if "--" in syntax and syntax.endswith(">...]")
        }


_TARGET = "<address|hostname>"
_NETWORK = "<network_id>"
_COUNT = "[--count <n>]"
_TIMEOUT = "[--timeout <dur>]"

COMMANDS: tuple[Command, ...] = (
    # Set-up.
    Command(
        "init",
        "pilot.ctl.setup:init",
        (
            "[--registry <addr>]",
            "[--beacon <addr>]",
            "[--hostname <name>]",
            "[--socket <path>]",
        ),
        "config_path, registry, beacon, socket, hostname",
        "write the configuration file; what is not given goes back to its default",
    ),
    Command(
        "config",
        "pilot.ctl.setup:config",
        ("[--set key=value]",),
        "current configuration as JSON; with --set: key, value",
        "show the configuration, or set one key of it",
    ),
    Command(
        "context",
        "pilot.ctl.discovery:context",
        (),
        "version, commands {name: {args, description, returns}}, error_codes, global_flags, "
        "environment, config_file",
        "describe every command, for programs",
    ),
    Command(
        "version", "pilot.ctl.discovery:version", (), "the version as bare text", "show the version"
    ),
    # The daemon.
    Command(
        "daemon start",
        "pilot.ctl.daemon:start",
        (
            "[--config <path>]",
            "[--registry <addr>]",
            "[--beacon <addr>]",
            "[--listen <addr>]",
            "[--endpoint <addr>]",
            "[--socket <path>]",
            "[--identity <path>]",
            "[--email <addr>]",
            "[--hostname <name>]",
            "[--public]",
            "[--no-encrypt]",
            "[--networks <ids>]",
            "[--admin-token <token>]",
            "[--webhook <url>]",
            "[--keepalive <dur>]",
            "[--idle-timeout <dur>]",
            "[--syn-rate-limit <n>]",
            "[--max-conns-per-port <n>]",
            "[--max-conns-total <n>]",
            "[--time-wait <dur>]",
            "[--inbox-messages <n>]",
            "[--inbox-bytes <size>]",
            "[--received-files <n>]",
            "[--received-bytes <size>]",
            "[--registry-tls]",
            "[--registry-fingerprint <hex>]",
            "[--log-level <level>]",
            "[--log-format <fmt>]",
            "[--no-echo]",
            "[--no-dataexchange]",
            "[--no-eventstream]",
            "[--no-tasksubmit]",
            "[--trust-auto-approve]",
            "[--skill <name>...]",
            "[--manhole <addr>]",
            "[--manhole-keys <path>]",
            "[--metrics-port <addr>]",
            "[--foreground]",
        ),
        "node_id, address, pid, socket, hostname, log_file",
        "start a daemon in the background and wait until it is registered",
        aliases={"owner": "email"},
    ),
    Command(
        "daemon stop",
        "pilot.ctl.daemon:stop",
        (),
        "pid, forced (bool)",
        "stop the daemon that daemon start started",
    ),
    Command(
        "daemon status",
        "pilot.ctl.daemon:status",
        ("[--check]",),
        "running (bool), responsive (bool), pid, pid_file, socket, node_id, address, hostname, "
        "uptime_secs, peers, connections",
        "say whether the daemon runs; with --check by the exit status alone",
    ),
    Command(
        "manhole",
        "pilot.ctl.manhole:manhole",
        ("[code]", "[--key <path>]"),
        "host, port, fingerprint, command",
        "open a Python prompt in the running daemon over SSH, or run one line of code there",
    ),
    # The node.
    Command(
        "info",
        "pilot.ctl.node:info",
        (),
        "node_id, address, hostname, version, email, public_key, uptime_secs, connections, ports, "
        "peers, encrypted_peers, authenticated_peers, encrypt, identity, bytes_sent, bytes_recv, "
        "pkts_sent, pkts_recv, networks, conn_list, peer_list",
        "show this node",
    ),
    Command(
        "health",
        "pilot.ctl.node:health",
        (),
        "status, uptime_seconds, connections, peers, bytes_sent, bytes_recv",
        "show whether the daemon is well",
    ),
    Command(
        "peers",
        "pilot.ctl.node:peers",
        ("[--search <query>]",),
        "peers [{node_id, address, endpoint, encrypted, authenticated, hostname, tags}], total",
        "list the nodes this one has a tunnel to",
    ),
    Command(
        "connections",
        "pilot.ctl.node:connections",
        (),
        "connections [{id, local_port, remote_addr, remote_port, state, ...}], total",
        "list the streams of this node",
    ),
    Command(
        "disconnect",
        "pilot.ctl.node:disconnect",
        ("<conn_id>",),
        "conn_id",
        "close a stream of this node, whoever opened it",
        literal=True,
    ),
    Command(
        "find",
        "pilot.ctl.node:find",
        ("<hostname>",),
        "hostname, node_id, address, public",
        "look a hostname up",
        literal=True,
    ),
    Command(
        "set-hostname",
        "pilot.ctl.profile:set_hostname",
        ("<hostname>",),
        "hostname, node_id",
        "name this node",
        literal=True,
    ),
    Command(
        "clear-hostname",
        "pilot.ctl.profile:clear_hostname",
        (),
        "hostname",
        "give the name of this node up",
    ),
    Command(
        "set-public",
        "pilot.ctl.profile:set_public",
        (),
        "type, node_id, visibility",
        "let anybody find and reach this node",
    ),
    Command(
        "set-private",
        "pilot.ctl.profile:set_private",
        (),
        "type, node_id, visibility",
        "let only trusted nodes find and reach this node",
    ),
    Command(
        "set-tags",
        "pilot.ctl.profile:set_tags",
        ("<tag1>", "[tag2]", "..."),
        "node_id, tags",
        "replace the tags of this node, at most three",
        literal=True,
    ),
    Command("clear-tags", "pilot.ctl.profile:clear_tags", (), "tags", "remove all tags"),
    Command(
        "deregister",
        "pilot.ctl.profile:deregister",
        (),
        "type",
        "take this node out of the registry; the daemon keeps running",
    ),
    # The registry, asked directly.
    Command(
        "lookup",
        "pilot.ctl.direct:lookup",
        ("<node_id>",),
        "type, node_id, address, networks, public_key, public, polo_score, hostname, tags, "
        "task_exec, real_addr, version",
        "show what the registry says about a node",
        literal=True,
    ),
    Command(
        "register",
        "pilot.ctl.direct:register",
        ("[listen_addr]",),
        "type, node_id, address, public_key, observed_addr",
        "register the identity of this machine without a daemon",
        literal=True,
    ),
    Command(
        "rotate-key",
        "pilot.ctl.direct:rotate_key",
        ("<node_id>", "<email>"),
        "type, node_id, address, public_key",
        "replace the key of this node, here and at the registry; the daemon must be stopped",
        literal=True,
    ),
    # Trust.
    Command(
        "handshake",
        "pilot.ctl.trust:handshake",
        ("<node_id|address|hostname>", "[justification]"),
        "status, node_id",
        "ask a node for trust",
        literal=True,
    ),
    Command(
        "pending",
        "pilot.ctl.trust:pending",
        (),
        "pending [{node_id, public_key, justification, received_at}]",
        "list the nodes that ask this one for trust",
    ),
    Command(
        "approve",
        "pilot.ctl.trust:approve",
        ("<node_id>",),
        "status, node_id",
        "grant a node the trust it asked for",
        literal=True,
    ),
    Command(
        "reject",
        "pilot.ctl.trust:reject",
        ("<node_id>", "[reason]"),
        "status, node_id",
        "refuse a node the trust it asked for",
        literal=True,
    ),
    Command(
        "trust",
        "pilot.ctl.trust:trusted",
        (),
        "trusted [{node_id, public_key, mutual, network, approved_at}]",
        "list the nodes this one trusts",
    ),
    Command(
        "untrust",
        "pilot.ctl.trust:untrust",
        ("<node_id>",),
        "node_id",
        "take trust back",
        literal=True,
    ),
    # Streams and datagrams.
    Command(
        "connect",
        "pilot.ctl.streams:connect",
        (_TARGET, "[port]", "[--message <msg>]", _TIMEOUT),
        "target, port, sent, response",
        "send a message, or what is piped in, over a stream and show the answer",
    ),
    Command(
        "send",
        "pilot.ctl.streams:send",
        (_TARGET, "<port>", "--data <msg>", _TIMEOUT),
        "target, port, sent, response",
        "send text over a stream and show the answer",
    ),
    Command(
        "recv",
        "pilot.ctl.receiving:recv",
        ("<port>", _COUNT, _TIMEOUT),
        "messages [{seq, port, data, bytes}], timeout (bool)",
        "wait for streams on a port and show what each brings",
    ),
    Command(
        "listen",
        "pilot.ctl.receiving:listen",
        ("<port>", _COUNT, _TIMEOUT),
        "messages [{src_addr, src_port, data, bytes}], timeout (bool). Unbounded: NDJSON per line",
        "show the datagrams that come to a port",
    ),
    # Reaching.
    Command(
        "ping",
        "pilot.ctl.reach:ping",
        (_TARGET, _COUNT, _TIMEOUT),
        "target, results [{seq, bytes, rtt_ms, error}], timeout (bool)",
        "measure the way to a node and back",
    ),
    Command(
        "traceroute",
        "pilot.ctl.reach:traceroute",
        ("<address>", _TIMEOUT),
        "target, setup_ms, rtt_samples [{rtt_ms, bytes}]",
        "measure how long a stream takes to open, and its round trips",
    ),
    Command(
        "bench",
        "pilot.ctl.bench:bench",
        (_TARGET, "[size_mb]", _TIMEOUT),
        "target, sent_bytes, recv_bytes, send_duration_ms, total_duration_ms, send_mbps, "
        "total_mbps",
        "measure how fast data goes to a node's echo service and back",
    ),
    # Events.
    Command(
        "set-webhook",
        "pilot.ctl.webhook:set_webhook",
        ("<url>",),
        "webhook, applied",
        "have an address told over HTTP what happens to this node",
        literal=True,
    ),
    Command(
        "clear-webhook",
        "pilot.ctl.webhook:clear_webhook",
        (),
        "webhook, applied",
        "have nobody told any more",
    ),
    # Publish and subscribe.
    Command(
        "publish",
        "pilot.ctl.pubsub:publish",
        (_TARGET, "<topic>", "--data <message>"),
        "target, topic, bytes",
        "publish an event at a node",
    ),
    Command(
        "subscribe",
        "pilot.ctl.pubsub:subscribe",
        (_TARGET, "<topic>", _COUNT, _TIMEOUT),
        "events [{topic, data, bytes}], timeout (bool). Unbounded: NDJSON per line",
        "show the events that are published at a node",
    ),
    # Mail.
    Command(
        "send-message",
        "pilot.ctl.mail:send_message",
        (_TARGET, "--data <text>", "[--type text|json|binary]"),
        "target, type, bytes, ack",
        "put a message into a node's inbox",
    ),
    Command(
        "send-file",
        "pilot.ctl.mail:send_file",
        (_TARGET, "<filepath>"),
        "filename, bytes, destination, ack",
        "send a file to a node",
        literal=True,
    ),
    Command(
        "inbox",
        "pilot.ctl.mailbox:inbox",
        ("[--clear]",),
        "messages [{type, from, data, bytes, received_at, payload}], total, dir; with --clear: "
        "cleared, messages",
        "list the messages this node was sent, or delete them",
    ),
    Command(
        "received",
        "pilot.ctl.mailbox:received",
        ("[--clear]",),
        "files [{name, bytes, modified, path}], total, dir; with --clear: cleared",
        "list the files this node was sent, or delete them",
    ),
    # Private networks.
    Command(
        "network list",
        "pilot.ctl.networks:list_",
        (),
        "type, networks [{id, name, join_rule, members, enterprise, created}]",
        "list the networks of the registry",
    ),
    Command(
        "network join",
        "pilot.ctl.networks:join",
        (_NETWORK, "[--token TOKEN]", "[--node-id N]"),
        "type, network_id, address",
        "enter a network, or with --node-id and the admin token have a node enter it",
    ),
    Command(
        "network leave",
        "pilot.ctl.networks:leave",
        (_NETWORK,),
        "type, network_id",
        "leave a network",
    ),
    Command(
        "network members",
        "pilot.ctl.networks:members",
        (_NETWORK,),
        "type, nodes [{node_id, address, hostname, role, public, version, last_seen}]",
        "list the members of a network",
    ),
    Command(
        "network invite",
        "pilot.ctl.networks:invite",
        (_NETWORK, "<node_id>"),
        "type, network_id, target_node_id, status",
        "ask a node into a network",
    ),
    Command(
        "network invites",
        "pilot.ctl.networks:invites",
        (),
        "type, invites [{network_id, inviter_id, timestamp}]",
        "list the invitations that wait for this node",
    ),
    Command(
        "network accept",
        "pilot.ctl.networks:accept",
        (_NETWORK,),
        "type, accepted (bool), network_id",
        "follow an invitation",
    ),
    Command(
        "network reject",
        "pilot.ctl.networks:reject",
        (_NETWORK,),
        "type, accepted (bool), network_id",
        "decline an invitation",
    ),
    Command(
        "network create",
        "pilot.ctl.governing:create",
        (
            "--name <name>",
            "[--join-rule open|token|invite]",
            "[--token T]",
            "[--enterprise]",
            "[--node-id N]",
            "[--network-admin-token T]",
            "[--rules '<json>']",
            "[--rules-file path]",
        ),
        "type, network_id, name, enterprise (bool), managed",
        "found a network; needs the admin token, as delete, rename, promote, demote and kick do",
    ),
    Command(
        "network delete",
        "pilot.ctl.governing:delete",
        (_NETWORK,),
        "type, network_id",
        "dissolve a network",
    ),
    Command(
        "network rename",
        "pilot.ctl.governing:rename",
        (_NETWORK, "<new_name>"),
        "type, network_id, name",
        "give a network another name",
    ),
    Command(
        "network promote",
        "pilot.ctl.governing:promote",
        (_NETWORK, "<target_node_id>"),
        "type, network_id, target_node_id, role",
        "make a member an admin of its network",
    ),
    Command(
        "network demote",
        "pilot.ctl.governing:demote",
        (_NETWORK, "<target_node_id>"),
        "type, network_id, target_node_id, role",
        "make an admin of a network a member again",
    ),
    Command(
        "network kick",
        "pilot.ctl.governing:kick",
        (_NETWORK, "<target_node_id>"),
        "type, network_id, target_node_id",
        "end a membership",
    ),
    Command(
        "network role",
        "pilot.ctl.governing:role",
        (_NETWORK, "<node_id>"),
        "type, network_id, target_node_id, role",
        "show what a node is in a network",
    ),
    Command(
        "network policy",
        "pilot.ctl.governing:policy",
        (_NETWORK, "[--max-members n]", "[--allowed-ports list]", "[--description text]"),
        "type, network_id, max_members, allowed_ports, description",
        "show the policy of a network, or with the admin token change it",
    ),
    Command(
        "broadcast",
        "pilot.ctl.broadcast:broadcast",
        (_NETWORK, "<message>", "[--port <port>]"),
        "network_id, port, message, bytes, recipients",
        "send a datagram to each other member of a network",
    ),
    # Tasks.
    Command(
        "enable-tasks",
        "pilot.ctl.tasks:enable",
        (),
        "type, node_id, task_exec",
        "let the registry tell that this node does tasks for others",
    ),
    Command(
        "disable-tasks",
        "pilot.ctl.tasks:disable",
        (),
        "type, node_id, task_exec",
        "let the registry tell so no more",
    ),
    Command(
        "task submit",
        "pilot.ctl.tasks:submit",
        (_TARGET, "--task <description>"),
        "target, task_id, task, status, message, accepted (bool)",
        "give a task to a node",
    ),
    Command(
        "task accept",
        "pilot.ctl.tasks:accept",
        ("--id <task_id>",),
        "task_id, status, message",
        "take a task that a node has given to this one",
    ),
    Command(
        "task decline",
        "pilot.ctl.tasks:decline",
        ("--id <task_id>", "--justification <reason>"),
        "task_id, status, justification, message",
        "refuse a task that a node has given to this one",
    ),
    Command(
        "task execute",
        "pilot.ctl.tasks:execute",
        (),
        "task_id, task_description, status, from",
        "begin with the task that was accepted first",
    ),
    Command(
        "task send-results",
        "pilot.ctl.tasks:send_results",
        ("--id <task_id>", "[--results <text>]", "[--file <path>]"),
        "task_id, status, sent_to, sent_type, filename, file_size",
        "send what came of a task to who submitted it",
    ),
    Command(
        "task list",
        "pilot.ctl.tasks:list_tasks",
        ("[--type <received|submitted>]",),
        "tasks [{task_id, description, status, from, to, created_at, category}]",
        "list the tasks given to this node and by it",
    ),
    Command(
        "task queue",
        "pilot.ctl.tasks:queue",
        (),
        "queue [{task_id, description, from, created_at}], count",
        "list the accepted tasks in the order of their execution",
    ),
    # The shell.
    Command(
        "completion",
        "pilot.ctl.completion:completion",
        ("<shell>",),
        "shell, script",
        "print what makes bash, zsh or fish complete pilotctl's words",
    ),
)


def by_name(commands: Iterable[Command]) -> dict[str, Command]:
    """@return: the commands by their name."""
    return {command.name: command for command in commands}


def skill_commands(group: str) -> list[Command]:
    """@return: C{COMMANDS} of C{skills.GROUP.commands}; none if there is no such skill."""
    from importlib import import_module

    if not group.isidentifier():
        return []
    try:
        offered = list(import_module(f"skills.{group}.commands").COMMANDS)
    except Exception:  # none, or a broken one, which must not break every other command
        return []
    return [
        command
        for command in offered
        if isinstance(command, Command) and command.name.startswith(f"{group} ")
    ]


def installed_commands() -> list[Command]:
    """
    @return: the commands that installed packages add; one that fails to load, or takes a name that
        exists, is left out.
    """
    from importlib.metadata import entry_points

    found: list[Command] = []
    taken = set(by_name(COMMANDS))
    for entry in entry_points(group="pilot.commands"):
        try:
            offered = list(entry.load())
        except Exception:  # a broken package must not break every other command
            continue
        for command in offered:
            if isinstance(command, Command) and command.name not in taken:
                taken.add(command.name)
                found.append(command)
    return found
