"""Searches that ping what they found before they name it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from skills.presence.core.answers import Answers
from skills.presence.core.effects import Found, Ping
from skills.presence.core.entry import Entry
from skills.presence.core.errors import PresenceError
from skills.presence.core.finding import MAX_LIMIT, Query
from skills.presence.core.shared import Shared
from skills.presence.core.standing import Standing

SEARCHES: Final = 256
"""Searches under way."""
SPARE: Final = 2
"""Agents looked at beyond those wanted, so that a silent one can be replaced."""
TIMEOUT: Final = 2.0
"""Seconds for which those found may answer."""


class _Search:
    __slots__ = ("answered", "candidates", "failed", "query", "token", "waiting")

    def __init__(self, token: int, query: Query, candidates: list[Entry]) -> None:
        self.token = token
        self.query = query
        self.candidates = candidates
        self.waiting: dict[int, Entry] = {}
        self.answered: set[int] = set()
        self.failed: dict[int, str] = {}


class Searches:
    """
    All candidates are pinged at once; the best of those that answer are named as soon as it is
    clear which.
    """

    def __init__(self, shared: Shared, standing: Standing, answers: Answers) -> None:
        self._shared = shared
        self._standing = standing
        self._answers = answers
        self._searches: dict[int, _Search] = {}
        self._pings: dict[int, _Search] = {}

    def begin(self, now: float, query: Query) -> int:
        """
        @return: the token under which the result will come.
        @raise PresenceError: the query is out of range, or too many searches are under way.
        """
        if len(self._searches) >= SEARCHES:
            raise PresenceError("too many searches are under way", hint="try again in a second")
        wide = replace(query, limit=min(query.limit + SPARE, MAX_LIMIT), pick=False)
        candidates = self._answers.entries(now, wide)
        search = _Search(self._shared.next_token(), query, candidates)
        self._searches[search.token] = search
        for entry in candidates:
            token = self._shared.next_token()
            search.waiting[token] = entry
            self._pings[token] = search
            self._shared.effects.append(Ping(token, entry.node, TIMEOUT))
        self._shared.agenda.at(now + TIMEOUT, self._over, search)
        if not candidates:
            self._conclude(now, search)
        return search.token

    def pinged(self, now: float, token: int, ok: bool) -> int | None:
        """@return: the node pinged, if this was for a search."""
        search = self._pings.pop(token, None)
        if search is None:
            return None
        entry = search.waiting.pop(token)
        if ok:
            search.answered.add(entry.node)
        else:
            self._silent(now, search, entry)
        if not search.waiting or self._decided(search):
            self._conclude(now, search)
        return entry.node

    def _silent(self, now: float, search: _Search, entry: Entry) -> None:
        search.failed[entry.node] = "it does not answer"
        self._standing.check(now, entry, "no answer to a search")

    def _decided(self, search: _Search) -> bool:
        """Whether the best have answered, so that who is still silent does not matter."""
        best = [each for each in search.candidates if each.node not in search.failed]
        wanted = best[: search.query.limit]
        return bool(wanted) and all(entry.node in search.answered for entry in wanted)

    def _over(self, now: float, search: _Search) -> None:
        if search.token in self._searches:
            for entry in search.waiting.values():
                self._silent(now, search, entry)
            self._conclude(now, search)

    def _conclude(self, now: float, search: _Search) -> None:
        if self._searches.pop(search.token, None) is None:
            return
        for token in search.waiting:
            self._pings.pop(token, None)
        chosen = [entry for entry in search.candidates if entry.node in search.answered]
        del chosen[search.query.limit :]
        if search.query.pick:
            for entry in chosen:
                self._answers.claim(now, entry)
        result = self._answers.result(now, search.query, chosen, search.failed)
        self._shared.effects.append(Found(search.token, result))
