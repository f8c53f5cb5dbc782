"""The names an operator finds in the manhole: the running node, and tables of what it does.

Tables are lists of dicts, so C{[p for p in peers() if not p["encrypted"]]} works; views are the
live objects, with a repr for people.

@see: the page I{Manhole}.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pilot.daemon.figures import figures
from pilot.daemon.logs import set_level
from pilot.daemon.logtail import LogTail
from pilot.daemon.manhole_tables import Absent, Table, View, counted
from pilot.exposition import labels_text
from pilot.node.node import PilotNode
from pilot.plaintext import printable
from pilot.services.eventbroker import Broker
from pilot.services.tasksubmit import TaskSubmitService
from pilot.wire.eventstream import event_text

_PEER = (
    "node_id",
    "hostname",
    "address",
    "endpoint",
    "encrypted",
    "relay",
    "state",
    "trusted",
    "tags",
)
_STREAM = (
    "id",
    "local_port",
    "remote_addr",
    "remote_port",
    "state",
    "in_flight",
    "srtt_ms",
    "bytes_sent",
    "bytes_recv",
    "retransmits",
)


class Parts(NamedTuple):
    """
    What the manhole looks into.

    @ivar broker: None when the event broker is switched off.
    @ivar tasks: None when the task service is switched off.
    @ivar skills: the skill host, None when no skill is wanted.
    @ivar log: the last lines of the log.
    """

    node: PilotNode
    broker: Broker | None
    tasks: TaskSubmitService | None
    skills: Any
    log: LogTail


def make_namespace(parts: Parts) -> dict[str, Any]:
    """@return: the names for one session, which may change them as it likes."""
    names: dict[str, Any] = {
        "node": parts.node,
        **_tables(parts.node),
        "broker": _broker(parts.broker),
        "tasks": _tasks(parts.tasks),
        "trust": _trust(parts.node),
        "skills": Skills(parts.node, parts.skills),
        "metrics": _metrics(parts.node),
        "log": _log(parts.log),
    }
    names["help"] = Help(names)
    return {"__name__": "__manhole__", "__doc__": None, **names}


class Help:
    """What there is here; help(peers) tells more of one thing"""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = dict(names)

    def __repr__(self) -> str:
        return "help() lists what there is here"

    def __call__(self, *about: Any) -> _Text:
        if about:
            text = inspect.getdoc(about[0]) or "there is no documentation of this"
            return _Text(printable(text, "\n"))
        lines = [f"  {_call(name, it):15}{_first_line(it)}" for name, it in self._names.items()]
        return _Text(
            "\n".join(
                (
                    "This is Python, in the running daemon. A Deferred shows its result when it",
                    "comes. What takes long, or waits, stops the whole node for as long.",
                    "",
                    *lines,
                    f"  {'help()':15}this; help(peers) tells more",
                    f"  {'exit()':15}ends the session, as Ctrl-D does; the daemon goes on",
                )
            )
        )


class Skills:
    """The skills and how they are; skills["gossip"] is the running service of one, live"""

    def __init__(self, node: PilotNode, host: Any) -> None:
        self._node = node
        self._host = host

    def __repr__(self) -> str:
        section = self._node.parts.report.sections.get("skills")
        reports = [each for each in (section() if section else ()) if isinstance(each, dict)]
        columns = ("name", "state", "failures", "since", "error")
        return repr(Table(reports, columns, empty="no skill runs here; start one with --skill"))

    def __iter__(self) -> Any:
        return iter(self._hosted())

    def __len__(self) -> int:
        return len(self._hosted())

    def __getitem__(self, name: str) -> Any:
        hosted = self._hosted().get(name)
        if hosted is None:
            raise KeyError(f"no skill {name!r}; there are: {', '.join(self._hosted()) or 'none'}")
        service = hosted.service
        if service is None:
            raise LookupError(f"the skill {name} does not run: {hosted.error or hosted.state}")

        def show() -> str:
            facts = ({"name": key, "value": value} for key, value in hosted.report().items())
            return repr(Table(facts, ("name", "value")))

        about = inspect.getdoc(service) or f"The service of the skill {name}"
        return View(service, show, about)

    def _hosted(self) -> Any:
        return getattr(self._host, "hosted", {})


class Verb:
    """A function that says what it is for instead of where it lies in memory."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self._name = call.__name__
        self.__doc__ = call.__doc__

    def __repr__(self) -> str:
        return f"{self._name}(): {_first_line(self)}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)


class _Text(str):
    """A text that prints as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _tables(node: PilotNode) -> dict[str, Verb]:
    parts = node.parts

    def peers() -> Table:
        """
        Nodes this one has a tunnel to, and other trusted ones

        [{node_id, address, hostname, endpoint, encrypted, relay, state, trusted, tags}]
        """
        trusted = {each["node_id"] for each in parts.trust.trusted()}
        rows = [
            {**peer, "trusted": peer["node_id"] in trusted}
            for peer in parts.report.info()["peer_list"]
        ]
        distant = trusted - {row["node_id"] for row in rows}
        rows += [parts.report.peer({"node_id": each, "trusted": True}) for each in sorted(distant)]
        return Table(rows, _PEER, empty="no peers")

    def streams() -> Table:
        """
        Streams, those that linger after their end included

        A list of dicts with the members that `pilotctl --json connections` shows.
        """
        return Table(parts.streams.statistics(), _STREAM, empty="no streams")

    def ports() -> Table:
        """
        Virtual ports that are bound

        [{port, service, streams, factory}]
        """
        here = [each["local_port"] for each in parts.streams.statistics()]
        rows = []
        for port in parts.ports:
            factory = parts.ports.factory(port)
            factory = getattr(factory, "inner", factory)  # a skill's
            name = type(factory).__name__.removesuffix("Factory")
            streams = here.count(port)
            rows.append({"port": port, "service": name, "streams": streams, "factory": factory})
        return Table(rows, ("port", "service", "streams"), empty="no ports")

    return {each.__name__: Verb(each) for each in (peers, streams, ports)}


def _broker(broker: Broker | None) -> Any:
    about = "The event broker: who is subscribed, and what it has done; live"
    if broker is None:
        return Absent("the event broker is off (--no-eventstream)", about)

    def show() -> str:
        rows = (
            {
                "topic": event_text(each.topic),
                "subscriber": each.remote,
                "slow": each.paused_at is not None,
                "waiting": each.waiting,
            }
            for each in broker.subscriptions()
        )
        table = Table(rows, ("topic", "subscriber", "slow", "waiting"), empty="no subscriptions")
        return f"{table!r}\n{counted(broker.statistics())}"

    return View(broker, show, about)


def _tasks(tasks: TaskSubmitService | None) -> Any:
    about = "The task service: tasks of others that are not done, and what was refused; live"
    if tasks is None:
        return Absent("the task service is off (--no-tasksubmit)", about)

    def show() -> str:
        rows = (
            {
                "task": each.task_id,
                "status": each.status,
                "from": each.sender,
                "created": each.created_at,
                "description": each.task_description,
            }
            for each in tasks.worker.open_tasks()
        )
        columns = ("task", "status", "from", "created", "description")
        table = Table(rows, columns, empty="no task of others is open")
        counters = tasks.factory.counters + tasks.worker.counters + tasks.submitter.counters
        return f"{table!r}\nrefused: {counted(dict(sorted(counters.items())))}"

    return View(tasks, show, about)


def _trust(node: PilotNode) -> View:
    trust = node.parts.trust

    def show() -> str:
        rows = [
            {"state": "trusted", "since": _time(each["approved_at"]), "note": "", **each}
            for each in trust.trusted()
        ]
        rows += [
            {
                "state": "asks",
                "since": _time(each["received_at"]),
                "note": each["justification"],
                **each,
            }
            for each in trust.pending()
        ]
        table = Table(rows, ("node_id", "state", "since", "note"), empty="nobody is trusted")
        return f"{table!r}\n{counted(trust.counters())}"

    return View(trust, show, "Who may connect and who asks to; live: trust.approve(2)")


def _metrics(node: PilotNode) -> Verb:
    def metrics(part: str = "") -> Table:
        """
        All counters; metrics("tunnel") those with that in their name

        The same ones as --metrics-port tells: [{name, labels, value, kind, help}]
        """
        rows = (
            {
                "name": family.name + sample.suffix,
                "labels": labels_text(sample),
                "value": sample.value,
                "kind": family.kind,
                "help": family.help,
            }
            for family in figures(node)
            for sample in family.samples
            if part in family.name
        )
        return Table(rows, ("name", "labels", "value"), empty=f"no metrics with {part!r}")

    return Verb(metrics)


def _log(tail: LogTail) -> Verb:
    def log(level: str = "", lines: int = 30) -> _Text:
        """
        The last lines of the log; log("debug") logs so much from now on

        Levels are debug, info, warn and error; log(lines=100) shows more lines.
        """
        if level:
            before = tail.level
            set_level(level)
            return _Text(f"log level: {tail.level} (was {before})")
        return _Text("\n".join(tail.last(lines)) or f"(nothing logged at level {tail.level} yet)")

    return Verb(log)


def _first_line(thing: Any) -> str:
    if isinstance(thing, PilotNode):
        return "The node: dial, listen, send_message, resolve and so on; live"
    return str((thing.__doc__ or "").strip().partition("\n")[0])


def _call(name: str, thing: Any) -> str:
    return f"{name}()" if isinstance(thing, Verb) else name


def _time(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if unix else "-"
