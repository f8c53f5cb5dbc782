"""C{set-webhook} and C{clear-webhook}: who is told what happens to this node."""

from __future__ import annotations

from pilot.ctl.console import Result, as_bytes, as_text
from pilot.errors import InvalidArgument, NotRunning
from pilot.wire.ipcframes import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot.ctl.call import Call


def set_webhook(call: Call) -> Result:
    """
    Tell an address, now and after the next start.

    The daemon is asked first, and the address is checked here when there is none: one that was
    refused must not wait in the configuration for the next start.
    """
    url = as_text(as_bytes(call.words[0]))
    if not url.lower().startswith(("http://", "https://")):
        raise InvalidArgument("webhook URL must start with http:// or https://")
    applied = _apply(call, url)
    if not applied:
        from pilot.daemon.webhook_url import check_webhook_url

        check_webhook_url(url)
    call.settings.save({"webhook": url})
    return _result(f"webhook set: {url}", url, applied)


def clear_webhook(call: Call) -> Result:
    """Tell nobody any more."""
    applied = _apply(call, "")
    call.settings.save({}, remove=("webhook",))
    return _result("webhook cleared", "", applied)


def _apply(call: Call, url: str) -> bool:
    """@return: whether a daemon runs, and then does as it was told."""
    _ = call.settings.config  # a file that cannot be read must not be noticed half way
    try:
        client = call.connect()
    except NotRunning:
        return False
    with client:
        call.ask(client, Command.SET_WEBHOOK, as_bytes(url), "set_webhook")
    return True


def _result(text: str, url: str, applied: bool) -> Result:
    when = "applied to running daemon" if applied else "will take effect on next daemon start"
    return Result({"webhook": url, "applied": applied}, f"{text}\n{when}")
