"""Handshake requests and responses that wait until their reader asks.

@see: protocol notes of the registry, I{request_handshake}.
"""

from __future__ import annotations

from collections.abc import Iterable

from pilot.registry.limits import DEFAULT_LIMITS, Limits
from pilot.registry.records import Journal, Letter, Table
from pilot.registry.refusal import Refusal
from pilot.wire.jsontext import dump

#: Bytes of an answer left for everything but the letters in it.
_ENVELOPE = 512


class Mailboxes:
    """
    Letters by reader, in the order in which they came.

    @ivar dropped: responses that gave way to newer ones in a full mailbox.
    """

    __slots__ = ("_boxes", "_journal", "_limits", "_next", "dropped")

    def __init__(self, journal: Journal, limits: Limits = DEFAULT_LIMITS) -> None:
        self._journal = journal
        self._limits = limits
        self._boxes: dict[int, dict[int, Letter]] = {}  # reader: running number: letter
        self._next = 1
        self.dropped = 0

    def ask(self, sender: int, to: int, justification: str, now: float) -> None:
        """
        Leave a request.

        @raise Refusal: the mailbox is full, or holds a request of this sender already.
        """
        requests = [x for x in self._boxes.get(to, {}).values() if x.accept is None]
        if len(requests) >= self._limits.requests_per_mailbox:
            raise Refusal(f"handshake inbox full for node {to}")
        if any(x.sender == sender for x in requests):
            raise Refusal(f"handshake request already pending from node {sender}")
        self._leave(Letter(to, sender, int(now), justification))

    def respond(self, sender: int, to: int, accept: bool, now: float) -> None:
        """Leave a response; in a full mailbox the oldest one gives way."""
        responses = [n for n, x in self._boxes.get(to, {}).items() if x.accept is not None]
        if len(responses) >= self._limits.responses_per_mailbox:
            self._remove(to, responses[0])
            self.dropped += 1
        self._leave(Letter(to, sender, int(now), accept=accept))

    def collect(self, reader: int) -> list[Letter]:
        """
        Empty the mailbox of C{reader}, as far as one answer can carry.

        @return: the letters, in the order in which they came; more may be left.
        """
        room = self._limits.answer - _ENVELOPE
        taken: list[Letter] = []
        for key, letter in list(self._boxes.get(reader, {}).items()):
            # The two other members of an entry take less than this.
            room -= 96 + len(dump(letter.justification))
            if room < 0:
                break
            self._remove(reader, key)
            taken.append(letter)
        return taken

    def put_back(self, letters: Iterable[Letter]) -> None:
        """Letters that were collected did not arrive."""
        for letter in letters:
            box = self._boxes.get(letter.to, {})
            requests = [x for x in box.values() if x.accept is None]
            again = letter.accept is None and any(x.sender == letter.sender for x in requests)
            if not again and len(box) < self._limits.requests_per_mailbox:
                self._leave(letter)

    def waiting(self, reader: int) -> bool:
        """@return: whether C{reader} has letters."""
        return reader in self._boxes

    def forget(self, reader: int) -> None:
        """C{reader} will never come back."""
        for key in self._boxes.pop(reader, {}):
            self._journal.delete(Table.LETTER, key)

    def restore(self, key: int, letter: Letter) -> None:
        """Take a row of the store, in the order of keys."""
        self._boxes.setdefault(letter.to, {})[key] = letter
        self._next = max(self._next, key + 1)

    def _leave(self, letter: Letter) -> None:
        key, self._next = self._next, self._next + 1
        self._boxes.setdefault(letter.to, {})[key] = letter
        self._journal.put(Table.LETTER, key, letter)

    def _remove(self, reader: int, key: int) -> None:
        box = self._boxes[reader]
        del box[key]
        if not box:
            del self._boxes[reader]
        self._journal.delete(Table.LETTER, key)
