"""Who is told the events: an address that was checked, and what is still owed to it."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote, unquote_to_bytes, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from pilot import _version
from pilot.daemon.webhook_url import ascii_host, check_webhook_url

# What may stand in a path or a query as it is; C{%} begins what is quoted already.
_PLAIN = "%/:@!$&'()*+,;=-._~?"


class Sink:
    """
    One webhook, from C{set-webhook} to the last event that was meant for it.

    @ivar url: as it was given.
    @ivar request_url: what to ask for: without a user, a password, a fragment, and quoted.
    @ivar headers: of every request.
    @ivar label: C{scheme://host:port}, for the log, where secrets of the path must not be.
    @ivar owed: how many events wait for it or are on their way.
    @ivar cut: whether what is owed is not to be sent any more.
    @ivar failing: whether the last event was lost on it.
    @ivar emptied: Deferred of None once it was replaced and nothing is owed.
    @ivar patience: the timer that cuts it off.
    """

    __slots__ = (
        "cut",
        "emptied",
        "failing",
        "headers",
        "label",
        "owed",
        "patience",
        "request_url",
        "url",
    )

    def __init__(self, url: str) -> None:
        """@raise InvalidArgument: events cannot, or must not, be sent there."""
        check_webhook_url(url)
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        port = "" if parts.port is None else f":{parts.port}"
        query = "?" + quote(parts.query, safe=_PLAIN) if parts.query else ""
        self.url = url
        self.label = f"{parts.scheme}://{ascii_host(parts.hostname or '')}{port}"
        self.request_url = self.label + (quote(parts.path, safe=_PLAIN) or "/") + query
        self.headers = {
            "Content-Type": "application/json",
            "User-Agent": f"txpilot/{_version.__version__}",
        }
        if at:
            name, _, password = user.partition(":")
            pair = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
            self.headers["Authorization"] = "Basic " + b64encode(pair).decode()
        self.owed = 0
        self.cut = self.failing = False
        self.emptied: Deferred[None] | None = None
        self.patience: IDelayedCall | None = None

    def settled(self) -> None:
        """One event less is owed."""
        self.owed -= 1
        if not self.owed and self.emptied is not None:
            if self.patience is not None and self.patience.active():
                self.patience.cancel()
            self.emptied.callback(None)
