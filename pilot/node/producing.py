"""The producer that feeds a stream transport: held back while there is no room, let go again."""

from __future__ import annotations

from typing import Any


class Feeding:
    """
    One transport's registered producer, if it has one.

    @ivar producer: the producer, or None.
    """

    __slots__ = ("_paused", "_streaming", "producer")

    def __init__(self) -> None:
        self.producer: Any = None
        self._streaming = False
        self._paused = False

    def register(self, producer: Any, streaming: bool, *, full: bool) -> None:
        """
        Take a producer on.

        @param streaming: whether it produces by itself until paused; the other kind is asked for
            each piece.
        @param full: whether the transport has no room right now.
        @raise RuntimeError: there is one already.
        """
        if self.producer is not None:
            raise RuntimeError(f"{self.producer!r} is registered already, {producer!r} is one more")
        self.producer, self._streaming, self._paused = producer, streaming, False
        if full:
            self.pause()
        elif not streaming:
            producer.resumeProducing()

    @property
    def asks(self) -> bool:
        """Whether there is a producer that waits to be asked for its next piece."""
        return self.producer is not None and not self._streaming

    def unregister(self) -> None:
        """The producer is done."""
        self.producer = None

    def pause(self) -> None:
        """There is no room."""
        if self.producer is not None and self._streaming and not self._paused:
            self._paused = True
            self.producer.pauseProducing()

    def resume(self) -> None:
        """There is room."""
        if self.producer is None:
            return
        if not self._streaming:
            self.producer.resumeProducing()
        elif self._paused:
            self._paused = False
            self.producer.resumeProducing()

    def stop(self) -> None:
        """The transport is gone: nothing will ever be sent again."""
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
