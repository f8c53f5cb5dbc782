"""The gossip skill's service: the swarms this node is in, and everything around them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, DeferredLock, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from pilot.errors import NotFound, PilotError
from pilot.iskill import ISkillCalls, ISkillReport
from skills.gossip.core.messages import PREFIX
from skills.gossip.shell.calls import Calls, Feed
from skills.gossip.shell.company import Company
from skills.gossip.shell.naming import check_swarm, tag_of
from skills.gossip.shell.options import MAX_SWARMS, GossipSettings
from skills.gossip.shell.post import Post
from skills.gossip.shell.roster import Roster
from skills.gossip.shell.surroundings import Surroundings
from skills.gossip.shell.tags import NoTagFree, SwarmTags
from skills.gossip.swarm import Swarm

if TYPE_CHECKING:
    from pilot.hosting.settings import SkillSettings
    from pilot.interfaces import IPilotNode

log = Logger()

#: Seconds between looks at the files and whether it is time for the trusted peers, and at the own
#: tags.
TICK, TAGS = 1.0, 30.0

#: Seconds after a join at which the registry is asked anew: the others may join right now too.
EAGER = (2.0, 6.0, 12.0, 20.0, 30.0)

#: ...however often something is joined.
MAX_EAGER = 10

#: Seconds that good-byes have when a swarm is left.
FAREWELL = 2.0


@implementer(ISkillCalls, ISkillReport)
class GossipService(Service):
    """
    The swarms of one node.

    @ivar swarms: those that are joined, by name.
    """

    def __init__(
        self,
        node: IPilotNode,
        settings: SkillSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        @param monotonic: seconds that do not jump with the wall clock.
        @raise ValueError: the settings make no sense.
        """
        self.swarms: dict[str, Swarm] = {}
        self._given = GossipSettings.read(settings)
        self._reactor = settings.reactor
        self._tags = SwarmTags(node)
        self._lock = DeferredLock()  # joins and leaves, one after the other
        self._around = Surroundings(
            node,
            reactor=settings.reactor,
            now=monotonic,
            rng=settings.rng,
            home=settings.home,
            durability=self._given.durability,
            tagged=self._tags.carries,
        )
        self._roster = Roster(settings.home, settings.reactor.seconds(), self._given.defaults)
        self._company = Company(self._around, self.swarms)
        self._post = Post(self._around.node_id, self.swarms, self._company)
        self._calls = Calls(self, node)
        self._loops: list[LoopingCall] = []
        self._eager: list[IDelayedCall] = []
        self._unclaim: Callable[[], None] = lambda: None

    # -- a life --------------------------------------------------------------------------------

    async def startService(self) -> None:
        """Join again what was joined before, and what the settings name."""
        super().startService()
        for name in self._given.swarms:
            self._roster.swarms.setdefault(name, {})
        for name in list(self._roster.swarms):
            self._enter(name)
        if self._given.swarms:
            self._roster.save()
        self._unclaim = self._around.node.claim_messages(PREFIX, self._incoming)
        self._loop(TICK, self._tick)
        self._loop(TICK, self._look)
        self._loop(TAGS, self._keep_tags)
        if self.swarms:
            self._be_eager()

    def stopService(self) -> None:
        """Store everything."""
        super().stopService()
        self._unclaim()
        for timer in self._eager:
            if timer.active():
                timer.cancel()
        for loop in self._loops:
            if loop.running:
                loop.stop()
        for swarm in self.swarms.values():
            swarm.close()
        self.swarms.clear()

    def _loop(self, seconds: float, function: Callable[[], Any]) -> None:
        loop = LoopingCall(function)
        loop.clock = self._reactor
        self._loops.append(loop)
        # What it raises fails the skill, which its host sees to; here it must not go unheard.
        loop.start(seconds, now=True).addErrback(
            lambda reason: log.failure("the gossip skill's timer", reason)
        )

    # -- joining and leaving -------------------------------------------------------------------

    def join(self, name: str, **options: Any) -> Deferred[Swarm]:
        """
        Take part in a swarm, now and after every restart.

        @param options: C{fanout}, C{interval} (seconds), C{signed}; those left out stay as they
            are: given before, or the skill's.
        @return: Deferred of the swarm; it fails with C{InvalidArgument} for a name that cannot be,
            and with L{NoTagFree}.
        """
        return self._lock.run(lambda: Deferred.fromCoroutine(self._join(name, options)))

    async def _join(self, name: str, given: dict[str, Any]) -> Swarm:
        check_swarm(name)
        given = {**self._roster.swarms.get(name, {}), **given}
        options = self._given.defaults.changed(given)
        swarm = self.swarms.get(name)
        if swarm is None:
            if len(self.swarms) >= MAX_SWARMS:
                raise NoTagFree(
                    f"this node is in {len(self.swarms)} swarms already",
                    hint="leave one with: pilotctl gossip leave",
                )
            try:
                await self._tags.add(name)
            except NoTagFree:
                raise
            except PilotError as error:
                # Those who carry the tag are found all the same, and it is tried again.
                log.warn(
                    "the tag of swarm {swarm} is not set yet: {error}",
                    swarm=name,
                    error=error.message,
                )
        self._roster.swarms[name] = given
        self._roster.save()
        if swarm is not None:
            if options == swarm.options:
                return swarm
            swarm.close()
        swarm = self._enter(name, swarm)
        await self._seen(fresh=True)
        self._be_eager()
        return swarm

    def leave(self, name: str) -> Deferred[None]:
        """
        Say good-bye to a swarm and forget its state.

        @return: Deferred that fails with C{NotFound} if it is not joined.
        """
        return self._lock.run(lambda: Deferred.fromCoroutine(self._leave(name)))

    async def _leave(self, name: str) -> None:
        swarm = self.swarm(name)
        del self.swarms[name]
        self._roster.swarms.pop(name, None)
        self._roster.save()
        leaving = DeferredList(swarm.leave())
        try:
            await self._tags.remove(name)
        except PilotError as error:
            log.warn("the tag of swarm {swarm} stays: {error}", swarm=name, error=error.message)
        if not leaving.called:
            await leaving.addTimeout(FAREWELL, self._reactor, lambda *_: None)

    def swarm(self, name: object) -> Swarm:
        """@return: a swarm that is joined.  @raise NotFound: it is not."""
        swarm = self.swarms.get(check_swarm(name))
        if swarm is None:
            raise NotFound(
                f"this node is not in the swarm {name}", hint=f"pilotctl gossip join {name}"
            )
        return swarm

    def tag(self, name: str) -> str:
        """@return: the tag of a swarm if the node carries it, else nothing."""
        return tag_of(name) if self._tags.carries(name) else ""

    def _enter(self, name: str, before: Swarm | None = None) -> Swarm:
        swarm = Swarm(
            name,
            self._roster.options(name),
            self._around,
            self._roster.incarnation,
            before.watchers if before is not None else None,
        )
        self.swarms[name] = swarm
        self._company.joined(swarm)
        return swarm

    # -- what is due ---------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._roster.error is not None:
            self._roster.save()
        for swarm in list(self.swarms.values()):
            swarm.tick()

    def _look(self) -> Deferred[None]:
        due = self._company.is_look_due
        return Deferred.fromCoroutine(self._seen()) if due else succeed(None)

    async def _seen(self, *, fresh: bool = False) -> None:
        try:
            await self._company.look(fresh=fresh)
        except PilotError as error:
            log.debug("no word of the trusted peers: {error}", error=error.message)

    def _be_eager(self) -> None:
        self._eager = [timer for timer in self._eager if timer.active()]
        for seconds in EAGER[: MAX_EAGER - len(self._eager)]:
            self._eager.append(self._reactor.callLater(seconds, self.look_anew))

    def look_anew(self) -> Deferred[None]:
        """Ask the registry who is there.  @return: Deferred that never fails."""
        return Deferred.fromCoroutine(self._seen(fresh=True))

    def _keep_tags(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._tags.keep(list(self.swarms)))

    def _incoming(self, source: Any, document: dict[str, Any], size: int) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._post.deliver(source, document, size))

    # -- for others ----------------------------------------------------------------------------

    def calls(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """@return: see L{skills.gossip.shell.calls}."""
        return self._calls.calls()

    def feeds(self) -> dict[str, Feed]:
        """@return: see L{skills.gossip.shell.calls}."""
        return self._calls.feeds()

    def statistics(self) -> dict[str, Any]:
        """@return: JSON-ready: messages by what became of them, and each swarm's own facts."""
        proofs = self._around.proofs
        return {
            "messages": {
                name: self._post.counts[name]
                for name in ("taken", "left", "strangers", "elsewhere")
            },
            "signatures": {"checked": proofs.checked, "unknown": proofs.unknown},
            "trusted": len(self._company.peers),
            "swarms": {name: swarm.stats() for name, swarm in sorted(self.swarms.items())},
        }
