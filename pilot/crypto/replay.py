"""Which counters of a sender have been seen: each is good once.

@see: protocol notes, I{The receive window}; golden vectors C{tunnel.json}.
"""

from __future__ import annotations

#: Counters behind the highest one that are still told apart.  The reference keeps 256; more of them
#: forgive a network that reorders at full speed, and cost nothing while nothing is missing.
WINDOW = 4096


class ReplayWindow:
    """
    The counters seen so far, as the next one expected and those missing before it.

    Kept this way round an undisturbed sequence costs one comparison and one addition: the hot path
    does them itself, C{if counter == window.expected: window.expected += 1}.  Checking and marking
    are two steps, so that only an authentic frame moves the window.

    @ivar expected: one more than the highest counter seen; 0 before the first.
    """

    __slots__ = ("_base", "_missing", "_size", "expected")

    def __init__(self, size: int = WINDOW) -> None:
        """@param size: how many counters, the highest included, are told apart."""
        self.expected = 0
        self._size = size
        self._base = 0
        self._missing = 0  # bit n: counter base + n was not seen

    def accepts(self, counter: int) -> bool:
        """@return: whether C{counter} was not seen yet, and is not too old to tell."""
        if counter >= self.expected:
            return True
        behind = counter - self._base
        return (
            counter >= self.expected - self._size
            and behind >= 0
            and bool(self._missing >> behind & 1)
        )

    def mark(self, counter: int) -> None:
        """Remember an acceptable counter as seen."""
        expected = self.expected
        if counter < expected:
            self._missing &= ~(1 << counter - self._base)
            return
        if counter > expected:
            oldest = max(0, counter + 1 - self._size)
            first = max(expected, oldest)  # of those skipped now
            if self._missing and self._base < oldest:
                self._missing >>= oldest - self._base
                self._base = oldest
            if not self._missing:
                self._base = first
            self._missing |= (1 << counter - first) - 1 << first - self._base
        self.expected = counter + 1
