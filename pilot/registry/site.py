"""An HTTP server that keeps no record of who asked, and takes no large request."""

from __future__ import annotations

from typing import Any

from twisted.web.server import Request, Site

MAX_BODY = 65_536
"""Bytes of a request's body; none of them is read."""


class _BoundedRequest(Request):
    """A request whose body may not grow without end."""

    def gotLength(self, length: int | None) -> None:
        if length is not None and length > MAX_BODY:
            self._cut()
            length = 0
        self._received = 0
        super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > MAX_BODY:
            self._cut()
        else:
            super().handleContentChunk(data)

    def _cut(self) -> None:
        self.channel.forceAbortClient()


class QuietSite(Site):
    """Keeps no record of who looked."""

    noisy = False
    displayTracebacks = False
    requestFactory = _BoundedRequest

    def log(self, request: Any) -> None: ...
