"""Who is in the swarm: what is known of each member, and the news about them.

What counts for talking to a member is our own experience: its messages, and whether ours reach it.
News from others (joins, leaves, accusations and refutations) is kept only while it is newer than
what is known, by (incarnation, sequence number).  A member that left, or that is forgotten, leaves
its incarnation behind, so that news about the dead does not circle.

Members are made when something happens with them; a trusted peer with which nothing ever happened
costs nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from skills.gossip.core.config import GossipConfig
from skills.gossip.core.effects import PeerFacts
from skills.gossip.core.member import NEVER, Change, Member, Standing
from skills.gossip.core.messages import ALIVE, LEFT, MAX_NEWS, SUSPECT, News

#: Incarnations are unix seconds at the start of a node; later ones than this are nobody's.
LATEST_INCARNATION_AHEAD = 86400.0
#: Bad news is passed on in so many messages, times the logarithm of the swarm's size.
_REPEAT = 2
#: A join in so many: whom it misses meets the member itself, or does not need to know.
_JOINS = 3
#: Messages that fail within so many seconds fail for one reason.
_OUTAGE = 1.0
#: News waiting to be passed on.
_RUMORS = 256


class Rumor:
    """One piece of news that is being passed on."""

    __slots__ = ("left", "news")

    def __init__(self, news: News, left: int) -> None:
        self.news = news
        self.left = left


class Membership:
    """
    All members.

    @ivar incarnation: our own; grows when somebody calls us dead.
    @ivar sequence: our own, grows with every round.
    @ivar facts: trusted peers that belong to the swarm, by node.
    @ivar trusted: their numbers, as a sequence to choose from.
    @ivar known: members with which something happened.
    @ivar failed: those believed offline, in the order in which they failed.
    @ivar changes: what to tell the application, as (change, node, incarnation).
    @ivar refused: members that found no room.
    @ivar partial: whether the swarm is too large to know everybody; then joins of members that we
        have nothing to do with are no news.
    """

    __slots__ = (
        "_absent",
        "_config",
        "_gone",
        "_heard_of",
        "_own",
        "_rumors",
        "changes",
        "facts",
        "failed",
        "incarnation",
        "known",
        "partial",
        "refused",
        "sequence",
        "trusted",
    )

    def __init__(self, own: int, incarnation: int, config: GossipConfig, now: float) -> None:
        self._own = own
        self._config = config
        self.incarnation = incarnation
        self.sequence = 0
        self.facts: dict[int, PeerFacts] = {}
        self.trusted: Sequence[int] = ()
        self.known: dict[int, Member] = {}
        self.failed: dict[int, None] = {}
        self._absent: set[int] = set()
        self._gone: dict[int, tuple[int, float]] = {}
        self._heard_of: dict[int, int] = {}  # every node that ever joined -> its incarnation
        self._rumors: dict[int, Rumor] = {}
        self.partial = False
        self.changes: list[tuple[Change, int, int]] = []
        self.refused = 0
        self.spread_own()

    def trust(self, facts: Iterable[PeerFacts]) -> list[int]:
        """
        Replace the trusted peers; ourselves among them are passed over.

        @return: those that are new.
        """
        before = self.facts
        bound = self._config.members
        after: dict[int, PeerFacts] = {}
        for fact in facts:
            if fact.node_id != self._own:
                if len(after) >= bound:
                    self.refused += 1
                    continue
                after[fact.node_id] = fact
        self.facts = after
        self.trusted = tuple(after)
        return [node for node in after if node not in before]

    def member(self, node: int, now: float) -> Member | None:
        """@return: the member, made if it is new; C{None} if there is no room for it."""
        member = self.known.get(node)
        if member is None:
            if len(self.known) >= self._config.members and not self._make_room():
                self.refused += 1
                return None
            member = self.known[node] = Member(node, now, self._config)
            if node in self._gone:
                member.incarnation = self._gone[node][0]
        return member

    def _make_room(self) -> bool:
        """Forget a member that failed or left, or that is not trusted, to take in another."""
        for node, member in self.known.items():
            if not member.usable or node not in self.facts:
                self._drop(member, member.since)
                return True
        return False

    def usable(self, node: int) -> bool:
        """@return: whether a node is worth talking to."""
        member = self.known.get(node)
        return member is None or member.usable

    def version2(self, node: int, now: float) -> bool:
        """@return: whether a node may get what only version 2 understands."""
        member = self.known.get(node)
        if member is not None and now - member.proven < self._config.proof:
            return True
        fact = self.facts.get(node)
        return fact is not None and fact.v2 is True

    def was_version2(self, node: int) -> bool:
        """@return: whether a node has ever shown version 2, and not an older one since."""
        member = self.known.get(node)
        return member is not None and member.proven > NEVER

    def heard(
        self, member: Member, now: float, incarnation: int | None = None, *, proof: bool
    ) -> None:
        """
        A message came from a member itself: the best evidence there is.

        @param incarnation: as the message says, if it does.
        @param proof: whether it shows version 2.
        """
        member.heard = now
        member.failures = member.silences = 0
        if proof:
            member.proven = now
            member.version1 = False
        elif now - member.proven >= self._config.proof:
            # An older program runs there now.  Not earlier: a script may run beside a daemon.
            member.proven = NEVER
        if incarnation is not None and incarnation > member.incarnation:
            member.incarnation, member.sequence = incarnation, 0
        elif member.standing is Standing.LEFT and now - member.since < self._config.patience:
            return  # sent before the good-bye, and overtaken by it
        back = member.standing in (Standing.FAILED, Standing.LEFT)
        if member.standing is not Standing.ONLINE:
            self.failed.pop(member.node, None)
            self._gone.pop(member.node, None)
            self._absent.discard(member.node)
            self._set(member, Standing.ONLINE, now)
        unnamed = self._heard_of.get(member.node) == 0 and member.incarnation > 0
        new = self._note(member.node, member.incarnation)
        if new or back:
            self.changes.append((Change.JOINED, member.node, member.incarnation))
        if new or back or unnamed:
            self._spread(member, ALIVE)

    def _note(self, node: int, incarnation: int) -> bool:
        """@return: whether this is the first we hear of a node, or of its restart."""
        before = self._heard_of.get(node)
        if before is None:
            if len(self._heard_of) >= self._config.members:
                self.refused += 1
                return False
        elif incarnation <= before:
            return False
        self._heard_of[node] = incarnation
        return before != 0

    def undelivered(self, member: Member, now: float) -> None:
        """A message could not be delivered; several at once are one failure."""
        if now - member.undelivered >= _OUTAGE:
            member.failures += 1
            member.undelivered = now
            if member.unreached is None:
                member.unreached = now
        if member.failures >= self._config.failures:
            self._fail(member, now, tell=True)

    def silent(self, member: Member, now: float) -> None:
        """A message that wanted an answer got none."""
        member.silences += 1
        if member.silences >= self._config.silences:
            self._fail(member, now, tell=False)

    def _fail(self, member: Member, now: float, *, tell: bool) -> None:
        if member.usable:
            known = member.standing is Standing.ONLINE
            self._set(member, Standing.FAILED, now)
            self.failed[member.node] = None
            if known:
                self.changes.append((Change.FAILED, member.node, member.incarnation))
                if tell:
                    self._spread(member, SUSPECT)

    def left(self, member: Member, incarnation: int, now: float) -> bool:
        """
        A member said good-bye.

        @return: whether that is new.
        """
        if incarnation < member.incarnation or member.standing is Standing.LEFT:
            return False
        member.incarnation = incarnation
        self.failed.pop(member.node, None)
        self._set(member, Standing.LEFT, now)
        self._gone[member.node] = (incarnation, now)
        self.changes.append((Change.LEFT, member.node, incarnation))
        self._spread(member, LEFT)
        return True

    def _set(self, member: Member, standing: Standing, now: float) -> None:
        member.standing, member.since = standing, now

    def news(self, now: float, wall: float, news: News) -> bool:
        """
        News from a third party.

        @param wall: unix seconds, corrected.
        @return: whether it was new.
        """
        node, inc, seq, code = news
        if inc > wall + LATEST_INCARNATION_AHEAD:
            return False
        if node == self._own:
            if code == ALIVE or inc < self.incarnation:
                return False
            self.incarnation = inc + 1
            self.sequence = 0
            self.spread_own()
            return True
        gone = self._gone.get(node)
        if gone is not None and inc <= gone[0]:
            return False
        member = self.known.get(node)
        if member is not None and (inc, seq) < (member.incarnation, member.sequence):
            return False
        if code == ALIVE:
            return self._alive(member, node, inc, seq, now)
        if code == LEFT:
            if member is not None:
                return self.left(member, inc, now)
            self._bury(node, inc, now)
            self._rumor(news)
            return True
        return member is not None and self._accused(member, inc, seq, now)

    def _alive(self, member: Member | None, node: int, inc: int, seq: int, now: float) -> bool:
        if member is None:
            if self.partial or not self._note(node, inc):
                return False
            self._gone.pop(node, None)
            self.changes.append((Change.JOINED, node, inc))
            self._rumor(News(node, inc, seq, ALIVE))
            return True
        if (inc, seq) <= (member.incarnation, member.sequence):
            return False
        back = not member.usable or inc > member.incarnation
        member.incarnation, member.sequence = inc, seq
        if not member.usable:
            # It lives, says another; whether we reach it is for us to find out.
            self.failed.pop(node, None)
            self._gone.pop(node, None)
            self._absent.discard(node)
            self._set(member, Standing.UNKNOWN, now)
            member.failures = member.silences = 0
        if back:
            self._spread(member, ALIVE)
        return back

    def _accused(self, member: Member, inc: int, seq: int, now: float) -> bool:
        """We take another's word only about a member that we have not heard lately."""
        if not member.usable:
            return False
        member.incarnation = max(member.incarnation, inc)
        if now - member.heard < self._config.hot:
            if member.sequence <= seq:
                member.sequence = seq + 1
            self._spread(member, ALIVE)
            return True
        member.sequence = max(member.sequence, seq)
        self._set(member, Standing.FAILED, now)
        self.failed[member.node] = None
        self.changes.append((Change.FAILED, member.node, member.incarnation))
        self._spread(member, SUSPECT)
        return True

    def absent(self, node: int) -> bool:
        """@return: whether a node failed or left some time ago (L{note_absent})."""
        return node in self._absent

    def note_absent(self, now: float) -> Iterable[int]:
        """
        Look for members that failed or left longer ago than C{ephemeral_grace}.

        @return: all of them.
        """
        grace = self._config.ephemeral_grace
        self._absent = {
            node
            for node, member in self.known.items()
            if not member.usable and now - member.since >= grace
        }
        return self._absent

    def spread_own(self) -> None:
        """Pass on that we are here."""
        self._rumor(News(self._own, self.incarnation, self.sequence, ALIVE))

    def _spread(self, member: Member, code: int) -> None:
        if member.incarnation:  # until it has told that itself, there is nothing to compare
            self._rumor(News(member.node, member.incarnation, member.sequence, code))

    def _rumor(self, news: News) -> None:
        self._rumors.pop(news.node, None)
        if len(self._rumors) >= _RUMORS:
            del self._rumors[next(iter(self._rumors))]
        repeats = _JOINS
        if news.code != ALIVE:
            repeats = _REPEAT * (len(self.facts) + 1).bit_length()
        self._rumors[news.node] = Rumor(news, repeats)

    def rumors(self, most: int = MAX_NEWS) -> tuple[News, ...]:
        """@return: news for the next message, newest first; each piece a few times in all."""
        if not self._rumors:
            return ()
        told = list(islice(reversed(self._rumors.values()), most))
        for rumor in told:
            rumor.left -= 1
            if rumor.left <= 0:
                del self._rumors[rumor.news.node]
        return tuple(rumor.news for rumor in told)

    def forget(self, now: float) -> None:
        """Drop what failed or left long ago; to be called now and then."""
        horizon = now - self._config.forget
        for member in [m for m in self.known.values() if not m.usable and m.since <= horizon]:
            self._drop(member, now)
        for node in [node for node, (_, at) in self._gone.items() if at <= horizon]:
            del self._gone[node]

    def _drop(self, member: Member, now: float) -> None:
        del self.known[member.node]
        self.failed.pop(member.node, None)
        if member.node not in self._gone:
            self._bury(member.node, member.incarnation, now)

    def _bury(self, node: int, incarnation: int, now: float) -> None:
        self._gone.pop(node, None)
        if len(self._gone) >= self._config.members:
            del self._gone[next(iter(self._gone))]
        self._gone[node] = (incarnation, now)

    def buried(self) -> list[tuple[int, int]]:
        """@return: (node, incarnation) of members that left or are forgotten."""
        return [(node, incarnation) for node, (incarnation, _) in self._gone.items()]

    def restore(self, left: dict[int, int], now: float) -> None:
        """Take over what was known of the departed before a restart."""
        for node, incarnation in left.items():
            self._bury(node, incarnation, now)
