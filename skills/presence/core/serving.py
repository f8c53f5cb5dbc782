"""A coordinator's side of watching: who watches, and what each of them lacks."""

from __future__ import annotations

from typing import Any, Final

from skills.presence.core.deltas import DELTA, MOST, Ask, write_entry
from skills.presence.core.effects import Message
from skills.presence.core.shared import Shared

WATCHERS: Final = 4_096
PATIENCE: Final = 120.0
"""Seconds after which somebody who does not ask any more is no watcher any more."""
BATCH: Final = 0.25
"""Seconds for which changes are collected before they are told."""
LINKS: Final = 8
"""Deltas that leave for one watcher at once, and so 32 a second at most; C{more} says that there is
more.  Brokers and data exchanges are known to carry 100 messages a second from one peer."""
ASKS: Final = 20
"""Questions of one watcher that are answered in L{ASKS_WINDOW}."""
ASKS_WINDOW: Final = 5.0


class _Watcher:
    __slots__ = ("asked", "asks", "nonce", "version", "window")

    def __init__(self) -> None:
        self.nonce = self.version = self.asks = 0
        self.asked = self.window = float("-inf")


class Serving:
    """
    The watchers of our directory.

    @ivar epoch: names this life of the directory: its versions mean nothing in another one.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._watchers: dict[int, _Watcher] = {}
        self._told = 0
        self._planned = False
        self.epoch = f"{shared.rng.getrandbits(48):012x}"

    def __len__(self) -> int:
        return len(self._watchers)

    def asked(self, now: float, peer: int, ask: Ask) -> None:
        """Somebody watches, or wants the next part."""
        watcher = self._watchers.get(peer)
        if watcher is None:
            if len(self._watchers) >= WATCHERS and not self._make_room(now):
                self._shared.counters["watchers_refused"] += 1
                return
            watcher = self._watchers[peer] = _Watcher()
        if now - watcher.window >= ASKS_WINDOW:
            watcher.window, watcher.asks = now, 0
        watcher.asks += 1
        if watcher.asks > ASKS:
            self._shared.counters["asks_refused"] += 1
            return
        watcher.asked, watcher.nonce = now, ask.nonce
        known = ask.version if ask.epoch == self.epoch else 0
        if self._shared.directory.since(known) is None:
            known = 0
        watcher.version = known
        self._tell(now, peer, watcher, {})

    def lost(self, peer: int) -> None:
        """What was sent did not arrive."""
        if self._watchers.pop(peer, None) is not None:
            self._shared.counters["watchers_lost"] += 1

    def plan(self, now: float) -> None:
        """Something may have changed: tell it, together with what changes right after."""
        if self._watchers and not self._planned and self._told != self._shared.directory.version:
            self._planned = True
            self._shared.agenda.at(now + BATCH, self._push)

    def _push(self, now: float) -> None:
        self._planned = False
        self._told = self._shared.directory.version
        chains: dict[int, list[dict[str, Any]]] = {}
        for peer, watcher in list(self._watchers.items()):
            if now - watcher.asked >= PATIENCE:
                del self._watchers[peer]
            elif watcher.version < self._told:
                self._tell(now, peer, watcher, chains)

    def _tell(
        self,
        now: float,
        peer: int,
        watcher: _Watcher,
        chains: dict[int, list[dict[str, Any]]],
    ) -> None:
        chain = chains.get(watcher.version)
        if chain is None:
            chain = chains[watcher.version] = self._chain(now, watcher.version)
        for link in chain:
            self._shared.effects.append(Message(peer, {**link, "x": watcher.nonce}))
        self._shared.counters["deltas"] += len(chain)
        watcher.version = chain[-1]["version"]
        if chain[-1]["more"]:
            # It asks for the rest when it has this; nothing is pushed before.
            watcher.version = self._shared.directory.version

    def _chain(self, now: float, since: int) -> list[dict[str, Any]]:
        directory = self._shared.directory
        missing = directory.since(since) or ([], [])
        steps: list[tuple[int, dict[str, Any] | None, int]] = [
            (version, None, node) for version, node in missing[1]
        ]
        # What we know from another coordinator is that one's to tell: two of them would else
        # vouch to each other for somebody who is long gone.
        entries = [entry for entry in missing[0] if not entry.via][: LINKS * MOST]
        steps += [(entry.version, write_entry(entry, now), entry.node) for entry in entries]
        steps.sort(key=lambda step: step[0])
        cut = steps[: LINKS * MOST]
        more = len(cut) < len(steps) or len(entries) == LINKS * MOST
        chain = []
        for at in range(0, max(len(cut), 1), MOST):
            part = cut[at : at + MOST]
            last = at + MOST >= len(cut)
            version = part[-1][0] if part and (more or not last) else directory.version
            chain.append(
                {
                    "type": DELTA,
                    "v": 1,
                    "x": 0,
                    "epoch": self.epoch,
                    "from": since,
                    "version": version,
                    "agents": len(directory),
                    "more": more and last,
                    "entries": [entry for _, entry, _ in part if entry is not None],
                    "removed": [node for _, entry, node in part if entry is None],
                }
            )
            since = version
        return chain

    def _make_room(self, now: float) -> bool:
        for peer, watcher in self._watchers.items():
            if now - watcher.asked >= PATIENCE:
                del self._watchers[peer]
                return True
        return False
