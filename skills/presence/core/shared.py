"""What the parts of the presence core share: the directory, what is due, what leaves."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable

from skills.presence.core.agenda import Agenda
from skills.presence.core.config import PresenceConfig
from skills.presence.core.directory import Directory
from skills.presence.core.effects import Change, Effect
from skills.presence.core.reporting import Reporter
from skills.presence.core.view import View


class Shared:
    """
    @ivar node_id: ours.
    @ivar effects: what is to be done, collected until the caller takes it.
    @ivar counters: what happened how often.
    @ivar swarm_reach: what the swarm says of a member, C{None} of others.
    """

    def __init__(
        self,
        node_id: int,
        now: float,
        wall: Callable[[], float],
        rng: random.Random,
        config: PresenceConfig,
    ) -> None:
        self.node_id = node_id
        self.wall = wall
        self.rng = rng
        self.config = config
        self.directory = Directory(config.most)
        self.reporter = Reporter()
        self.agenda = Agenda()
        self.view = View(now, config.lease)
        self.counters: Counter[str] = Counter()
        self.effects: list[Effect] = []
        self.swarm_reach: Callable[[int], str | None] = lambda node: None
        self._tokens = rng.randrange(2**24)

    def next_token(self) -> int:
        """@return: a number that no question of ours under way has."""
        self._tokens += 1
        return self._tokens

    def do(self, effects: Iterable[Effect]) -> None:
        """This is to be done."""
        self.effects.extend(effects)

    def tell(self, now: float, name: str, data: dict[str, object]) -> None:
        """News other than a transition."""
        if self.reporter.admits(now, name):
            self.effects.append(Change(name, data))

    def take(self) -> list[Effect]:
        """@return: what is to be done since the last time."""
        effects, self.effects = self.effects, []
        return effects

    def spread(self, agents: int) -> float:
        """@return: seconds over which a fleet of that size comes back to its coordinator."""
        return min(60.0, 0.01 * agents)
