"""Presence on a node: the hands of the core, and what commands and other programs ask it.

The core decides, this carries out: datagrams, records for coordinators, pings, look-ups and
signatures go out through the node; what comes in goes to the core with the time.  What the operator
chooses at run time, and what the local agents said, lasts beyond a restart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from pilot.address import Address, SocketAddress
from pilot.errors import InvalidArgument, NotRunning, PilotError
from pilot.hosting.settings import SkillSettings
from pilot.iskill import ISkillCalls, ISkillReport
from skills.presence.core.effects import STATUS_TOPIC
from skills.presence.core.errors import BadRecord, PresenceError
from skills.presence.core.presence import PresenceCore
from skills.presence.core.record import DEFAULT_TTL, parse
from skills.presence.shell.answering import Answering
from skills.presence.shell.carrying import Carrier
from skills.presence.shell.choices import NODE_TAGS, Choices, chosen
from skills.presence.shell.courier import PORT, Courier
from skills.presence.shell.desk import Desk
from skills.presence.shell.engine import Engine
from skills.presence.shell.intents import Intents
from skills.presence.shell.pacing import SourcePaces
from skills.presence.shell.pinging import Pinger
from skills.presence.shell.storage import CHOICES, DIRECTORY, INTENTS, InThread, Storage
from skills.presence.shell.surroundings import Identity, Surroundings
from skills.presence.shell.targets import Targets
from skills.presence.shell.watchers import Watchers

log = Logger()

RECORDS: Final = (5.0, 50.0)
"""Records taken from one publisher a second, and at once."""
DATAGRAMS: Final = (100.0, 400.0)
"""Datagrams taken from one peer a second, and at once."""
MESSAGES: Final = (50.0, 200.0)
"""Messages taken from one peer a second, and at once; a coordinator sends 32 a second at most."""
SCRIPT: Final = "presence.status"
"""The local agent that a script on this node is, when it publishes its status by hand."""


class Stopped(NotRunning):
    """This agent takes no part at the moment."""


@implementer(ISkillCalls, ISkillReport)
class PresenceService(Service):
    """
    @ivar choices: how this node takes part.
    @ivar engine: drives the core; C{None} while we take no part.
    """

    def __init__(
        self,
        node: Any,
        settings: SkillSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        in_thread: InThread | None = None,
    ) -> None:
        """
        @param node: provides L{pilot.interfaces.IPilotNode}.
        @param monotonic: seconds; ages and waits are measured with it.
        @param wall: unix seconds, for timestamps.
        @param in_thread: runs what takes a while; C{None}: in a thread of the reactor's pool.
        @raise ValueError: the settings make no sense.
        """
        given, first = chosen(settings)
        self.node = node
        self.engine: Engine | None = None
        self.reactor = settings.reactor
        self.now, self.wall = monotonic, wall
        self._rng = settings.rng
        self.storage = Storage(settings.home, in_thread or self._in_thread)
        self.choices = self._restored_choices().changed(given)
        self.intents = Intents(wall, first["slots"], first["tags"], self.storage.document(INTENTS))
        self.targets = Targets(node)
        self.courier = Courier(node, self.reactor, self.targets)
        self.watchers = Watchers(wall, self._node_of, self._tags_of)
        self.pinger = Pinger(
            node,
            self.reactor,
            monotonic,
            send=self.courier.send,
            answered=lambda token, node, ok: self._tell("pinged", token, ok),
            skipped=self._not_asked,
        )
        self.surroundings = Surroundings(
            node,
            self.reactor,
            settings.rng,
            on_peers=lambda facts: self._tell("peers_changed", facts),
            on_identity=self._identity_changed,
            on_proof=lambda: self._tell("connected"),
            needs_proof=self._is_quiet,
        )
        self.answering = Answering(self)
        self.desk = Desk(self.answering, self.reactor)
        self.carrier = Carrier(self)
        self._identity = Identity("", "", ())
        self._records = SourcePaces(*RECORDS)
        self._datagrams = SourcePaces(*DATAGRAMS)
        self._messages = SourcePaces(*MESSAGES)
        self._stops: list[Callable[[], None]] = []
        self._wanted = False
        self._heard = monotonic()

    # -- a life --------------------------------------------------------------------------------

    async def startService(self) -> None:
        """Open the port and take part."""
        super().startService()
        port = await self.node.listen(PORT, self.desk)
        self._stops = [
            self.node.add_datagram_listener(self._datagram_received),
            self.node.watch_events(STATUS_TOPIC, self._published),
            self.node.claim_messages("presence_", self._message_received),
            port.stopListening,
        ]
        try:
            await self.join_swarms()
        except PilotError as error:
            log.error("presence: {error}", error=error.message)
        await self.begin()

    async def stopService(self) -> None:
        """Say goodbye, and wait until that is out."""
        super().stopService()
        await self.end()
        stops, self._stops = self._stops, []
        for stop in stops:
            stop()

    async def begin(self) -> None:
        """Take part, as chosen."""
        self._wanted = True
        self._identity = identity = await self.surroundings.identity()
        if self.engine is not None or not self._wanted:
            return  # somebody else was faster, or thought better of it
        restored = self.storage.directory() if self.choices.serve else None
        core = PresenceCore(
            Address(0, self.node.address.node).node,
            now=self.now(),
            wall=self.wall,
            rng=self._rng,
            config=self.choices.config(),
            hostname=identity.hostname,
            address=identity.address,
            tags=identity.tags,
            incarnation=self.storage.incarnation(),
            restored=restored,
        )
        self.engine = engine = Engine(core, self.reactor, self.now, self.carrier.carry)
        self.carrier.attend(engine)
        for intent in self.intents.all():
            try:
                engine.turn(core.set_intent, **intent)
            except (PresenceError, TypeError) as error:
                log.warn("an agent's status is not restored: {error}", error=str(error))
        engine.turn(core.start)
        self.surroundings.start(self.choices.tags, self.choices.period)

    async def end(self) -> None:
        """Take part no more; others are told."""
        engine, self.engine = self.engine, None
        self._wanted = False
        self.surroundings.stop()
        if engine is None:
            return
        engine.turn(engine.core.leave)
        self._forget(engine)
        await self.courier.flush()

    async def change(self, given: dict[str, Any]) -> None:
        """
        Take part in another way from now on, and after a restart.

        @param given: as L{Choices.changed} takes it.
        @raise InvalidArgument: that cannot be meant.
        """
        before, choices = self.choices, self.choices.changed(given)
        if choices == before and self.engine is not None:
            return
        self.choices = choices
        try:
            await self.join_swarms()
        except PilotError:
            self.choices = before
            raise
        self.storage.write_document(CHOICES, choices.to_dict())
        if self.engine is not None and choices == replace(before, serve=choices.serve):
            self._tell("serve", choices.serve)
            if not choices.serve:
                self.desk.close()
            return
        self._suspend()
        await self.begin()

    def _suspend(self) -> None:
        """Drop the core without a goodbye: a new one takes its place at once."""
        engine, self.engine = self.engine, None
        if engine is not None:
            if self.choices.serve:
                self.storage.write(DIRECTORY, engine.core.snapshot(self.now()))
            self.surroundings.stop()
            self._forget(engine)

    def _forget(self, engine: Engine) -> None:
        engine.close()
        self.pinger.close()
        self.carrier.forget()
        self.desk.close()

    async def join_swarms(self) -> None:
        """
        Have the tags of our swarms, beside those there are.
        @raise PilotError: there is no room for them, or the registry is away.
        """
        wanted = self.choices.tags
        if not wanted:
            return
        have = await self.node.tags()
        missing = [tag for tag in wanted if tag not in have]
        if missing:
            if len(have) + len(missing) > NODE_TAGS:
                raise InvalidArgument(
                    f"no room for the tag {missing[0]}: a node has {NODE_TAGS} at most",
                    hint=f"it has {', '.join(have)}; replace them with: pilotctl set-tags",
                )
            await self.node.set_tags([*have, *missing])

    # -- what comes in -------------------------------------------------------------------------

    def active(self) -> Engine:
        """@return: the engine.  @raise Stopped: we take no part."""
        if self.engine is None:
            raise Stopped("presence is stopped on this node", hint="pilotctl presence start")
        return self.engine

    def _tell(self, what: str, *args: Any) -> None:
        engine = self.engine
        if engine is not None:
            engine.turn(getattr(engine.core, what), *args)

    def _datagram_received(self, source: SocketAddress, port: int, data: bytes) -> None:
        peer = source.address.node
        if port != PORT or not self._datagrams.take(self.now(), peer):
            return
        self._heard = self.now()
        if self.engine is not None and self.pinger.received(peer, data):
            self._tell("alive", peer)
        else:
            self._tell("on_datagram", peer, data)

    def _published(self, source: Address, topic: str, payload: bytes) -> None:
        if topic != STATUS_TOPIC or not self._records.take(self.now(), source.node):
            return
        if source.node == self.node.address.node:
            self._said_here(payload)
        else:
            self._tell("on_record", source.node, payload)

    def _said_here(self, payload: bytes) -> None:
        """A program on this node published a status by hand; what we announce comes here, too."""
        try:
            record = parse(payload)
        except BadRecord:
            return
        if self.engine is None or record.node is not None:
            return
        if record.hostname == self._identity.hostname:
            intent = {"status": record.status, "agent": SCRIPT, "duration": DEFAULT_TTL}
            self.engine.turn(self.engine.core.set_intent, **intent)

    def _message_received(self, source: Address, document: dict[str, Any], size: int) -> bool:
        if self._messages.take(self.now(), source.node):
            self._tell("on_message", source.node, document)
        return True  # what is lost is asked for again; it does not belong in an inbox

    def _identity_changed(self, identity: Identity) -> None:
        self._identity = identity
        self._tell("identity_changed", *identity)

    def _is_quiet(self) -> bool:
        """Whether no member of the swarm has spoken for a period although there are some."""
        if self.engine is None or self.now() - self._heard < self.choices.period:
            return False
        swarm = self.engine.core.stats(self.now())["swarm"] or {}
        return bool(swarm.get("fresh", 0) + swarm.get("suspect", 0))

    def _not_asked(self, token: int, node: int) -> None:
        """It could not be asked in time, which says nothing about it: nobody judges it for now."""
        self._tell("excuse", node)

    # -- what others ask -----------------------------------------------------------------------

    def calls(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """@return: see the page I{Presence}, I{The socket}."""
        return self.answering.calls()

    def feeds(
        self,
    ) -> dict[
        str, Callable[[dict[str, Any], Callable[[dict[str, Any]], None]], Callable[[], None]]
    ]:
        """@return: C{watch}."""
        return {"watch": self.answering.watch}

    def statistics(self) -> dict[str, Any]:
        """@return: for operators."""
        facts: dict[str, Any] = {"taking_part": self.engine is not None}
        if self.engine is not None:
            facts |= self.engine.core.stats(self.now())
        return {
            **facts,
            **self.choices.to_dict(),
            "sent": dict(self.courier.counters),
            "pings": dict(self.pinger.counters),
            "desk": {"clients": self.desk.clients.total(), **self.desk.counters},
            "local_watchers": {"now": len(self.watchers), **self.watchers.counters},
            "too_fast": {
                "datagrams": self._datagrams.refused,
                "records": self._records.refused,
                "messages": self._messages.refused,
            },
            "storage": self.storage.statistics(),
        }

    # -- within --------------------------------------------------------------------------------

    def _in_thread(self, function: Callable[[], None]) -> Deferred[None]:
        return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), function)

    def _restored_choices(self) -> Choices:
        stored = self.storage.document(CHOICES)
        if isinstance(stored, dict):
            try:
                return Choices().changed(stored)
            except PilotError as error:
                log.warn("what was chosen makes no sense: {error}", error=error.message)
        return Choices()

    def _node_of(self, host: str) -> int | None:
        if self.engine is None:
            return None
        try:
            return int(self.engine.core.get(self.now(), host)["node"])
        except PresenceError:
            return None

    def _tags_of(self, node: int) -> tuple[str, ...]:
        if self.engine is None:
            return ()
        try:
            return tuple(self.engine.core.get(self.now(), node)["tags"])
        except PresenceError:
            return ()
