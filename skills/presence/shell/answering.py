"""What programs on this host, and other nodes, may ask of presence here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pilot.errors import InvalidArgument, PilotError, TimedOut
from skills.presence.core.claims import MAX_DURATION
from skills.presence.core.record import MAX_REASON, MAX_SLOTS
from skills.presence.shell import asking, questions
from skills.presence.shell.questions import shown
from skills.presence.shell.storage import INTENTS

if TYPE_CHECKING:
    from skills.presence.service import PresenceService

log = Logger()

VERIFY_WITHIN: Final = 15.0
"""Seconds that a search may take which pings what it found."""

Given = dict[str, Any]
Send = Callable[[dict[str, Any]], None]


class Answering:
    """Reads questions, asks the core or another node, and says it in the words of the commands."""

    def __init__(self, service: PresenceService) -> None:
        self._service = service

    def calls(self) -> dict[str, Callable[[Given], Any]]:
        """@return: everything that may be called, by name."""
        return {
            "start": self._start,
            "stop": self._stop,
            "set": self._set,
            "serve": self._serve,
            "own": self._own,
            "get": self._ask_get,
            "list": self._ask_list,
            "find": self._ask_find,
            "history": self._history,
            "explain": self._explain,
            "stats": self._stats,
        }

    # -- taking part ---------------------------------------------------------------------------

    async def _start(self, given: Given) -> dict[str, Any]:
        names = ("coordinators", "swarms", "interval", "profile")
        await self._service.change({name: given.get(name) for name in names})
        choices = self._service.choices.to_dict()
        return {"status": self._own_status(), **{name: choices[name] for name in names}}

    async def _stop(self, given: Given) -> dict[str, Any]:
        await self._service.end()
        return {"status": "offline"}

    async def _serve(self, given: Given) -> dict[str, Any]:
        await self._service.change({"serve": not questions.switch(given, "off")})
        stats = self._service.active().core.stats(self._service.now())
        return {"serving": self._service.choices.serve, "agents": stats["agents"]}

    async def _set(self, given: Given) -> dict[str, Any]:
        service = self._service
        engine = service.active()
        agent = questions.text(given, "agent", most=64)
        load = questions.whole(given, "load", 0, 100)
        tags = questions.tags({"tag": given.get("tag")})
        intent = {
            "status": questions.text(given, "status", most=16),
            "agent": agent,
            "duration": questions.number(given, "duration", 0.001, MAX_DURATION),
            "reason": questions.text(given, "reason", most=MAX_REASON),
            "slots": questions.whole(given, "slots", 0, MAX_SLOTS),
            "load": load,
            "tags": tags or service.intents.tags(agent),
        }
        engine.turn(engine.core.set_intent, **intent)
        service.intents.said(intent)
        stored = json.dumps(service.intents.to_list(), separators=(",", ":"))
        service.storage.write_soon(INTENTS, stored.encode("ascii"))
        await service.carrier.settled()
        return self._own({})

    def _own(self, given: Given) -> dict[str, Any]:
        engine = self._service.active()
        own = engine.core.own(self._service.now())
        agents = own.pop("agents", [])
        return {**shown(own), "agents": agents}

    def _own_status(self) -> str:
        return str(self._own({}).get("status") or "")

    # -- what the directory says ---------------------------------------------------------------

    @property
    def serving(self) -> bool:
        """Whether other nodes may ask."""
        return self._service.choices.serve and self._service.engine is not None

    def got(self, given: Given) -> dict[str, Any]:
        """@return: one agent.  @raise UnknownAgent: nobody is called so."""
        core, now = self._service.active().core, self._service.now()
        return {**shown(core.get(now, self._host(given))), "stale_view": _stale(core, now)}

    def listed(self, given: Given) -> tuple[Iterator[dict[str, Any]], dict[str, Any]]:
        """@return: the agents that are wanted, and what is said at their end."""
        core, now = self._service.active().core, self._service.now()
        agents = core.agents(
            now,
            status=questions.statuses(given),
            tags=questions.tags(given),
            everybody=questions.switch(given, "all"),
        )
        end = {"version": core.stats(now)["version"], "stale_view": _stale(core, now)}
        return map(shown, agents), end

    def found(self, given: Given) -> dict[str, Any]:
        """@return: agents that can take work, or why there is none."""
        core, now = self._service.active().core, self._service.now()
        return questions.found(core.find(now, questions.query(given)))

    def watched(self, given: Given, send: Send) -> Callable[[], None]:
        """@return: what ends it."""
        self._service.active()
        return self._service.watchers.add(given, send)

    def _host(self, given: Given) -> str | int:
        host = questions.host(given)
        return self._service.node.address.node if host == "self" else host

    def _history(self, given: Given) -> dict[str, Any]:
        core, now = self._service.active().core, self._service.now()
        host = self._host(given)
        transitions = core.history(now, host)
        return {"hostname": core.get(now, host)["hostname"], "transitions": transitions}

    def _explain(self, given: Given) -> dict[str, Any]:
        core, now = self._service.active().core, self._service.now()
        return {**shown(core.explain(now, self._host(given))), "view": core.view(now)}

    def _stats(self, given: Given) -> dict[str, Any]:
        return self._service.statistics()

    # -- asked here, answered here or elsewhere --------------------------------------------------

    async def _ask_get(self, given: Given) -> dict[str, Any]:
        return dict(await self._elsewhere("get", given) or self.got(given))

    async def _ask_list(self, given: Given) -> dict[str, Any]:
        answer = await self._elsewhere("list", given)
        if answer is not None:
            names = ("agents", "version", "stale_view")
            return {name: answer.get(name) for name in names}
        agents, end = self.listed(given)
        return {"agents": list(agents), **end}

    async def _ask_find(self, given: Given) -> dict[str, Any]:
        answer = await self._elsewhere("find", given)
        if answer is not None:
            return dict(answer)
        if not questions.switch(given, "verify"):
            return self.found(given)
        service, engine = self._service, self._service.active()
        token, effects = engine.core.search(service.now(), questions.query(given))
        found: Deferred[Any] = service.carrier.search(token)
        found.addTimeout(VERIFY_WITHIN, service.reactor, _too_late)
        engine.do(effects)
        return questions.found(await found)

    async def _elsewhere(self, what: str, given: Given) -> Any:
        coordinator = questions.text(given, "coordinator")
        if not coordinator:
            return None
        service = self._service
        target = await service.targets.find(coordinator)
        if target.node == service.node.address.node:
            return None
        if questions.switch(given, "verify"):
            raise InvalidArgument(
                "--verify asks agents from here, a coordinator's list does not",
                hint="leave out --verify or --coordinator",
            )
        question = {key: value for key, value in given.items() if key != "coordinator"}
        try:
            return await asking.ask(
                service.node, service.reactor, target, {**question, "ask": what}
            )
        except PilotError:
            service.targets.forget(coordinator)
            raise

    # -- the feed --------------------------------------------------------------------------------

    def watch(self, given: Given, send: Send) -> Callable[[], None]:
        """
        Follow what happens, here or at a coordinator.

        The first event is C{{"event":"watching"}}, so that a program knows that it missed nothing
        since; a coordinator that is lost ends with C{{"event":"lost"}}.
        """
        coordinator = questions.text(given, "coordinator")
        if not coordinator:
            end = self.watched(given, send)
            send({"event": "watching"})
            return end
        questions.statuses(given)
        questions.tags(given)
        return _Remote(self._service, coordinator, given, send).end


class _Remote:
    """One who follows what happens at a coordinator."""

    def __init__(
        self, service: PresenceService, coordinator: str, given: Given, send: Send
    ) -> None:
        self._send = send
        self._stop: Callable[[], None] | None = None
        self._over = False
        question = {key: value for key, value in given.items() if key != "coordinator"}
        self._working = Deferred.fromCoroutine(self._follow(service, coordinator, question))
        self._working.addErrback(self._failed)

    def end(self) -> None:
        """Nobody follows any more."""
        self._over = True
        if self._stop is not None:
            self._stop()
        else:
            self._working.cancel()

    async def _follow(self, service: PresenceService, coordinator: str, question: Given) -> None:
        target = await service.targets.find(coordinator)
        self._stop = await asking.follow(
            service.node,
            service.reactor,
            target,
            {**question, "ask": "watch"},
            self._send,
            lambda: self._lost("the coordinator hung up"),
        )
        if self._over:
            self._stop()
        else:
            self._send({"event": "watching"})

    def _failed(self, failure: Any) -> None:
        if self._over:
            return
        if not failure.check(PilotError):
            log.failure("watching a coordinator", failure)
        self._lost(getattr(failure.value, "message", "it failed"))

    def _lost(self, reason: str) -> None:
        if not self._over:
            self._over = True
            self._send({"event": "lost", "reason": reason})


def _stale(core: Any, now: float) -> bool:
    return bool(core.view(now)["stale"])


def _too_late(_: object, seconds: float) -> None:
    raise TimedOut(f"the search did not end within {seconds:g} s")
