"""What a daemon's refusals mean: the errors that the node inside it would have failed with."""

from __future__ import annotations

from typing import Any

from pilot.errors import (
    AlreadyExists,
    ConnectionFailed,
    ConnectionRefused,
    DialTimeout,
    InvalidArgument,
    NotFound,
    NotRunning,
    PilotError,
    PortInUse,
    RegistryError,
    TimedOut,
)

_REGISTRY = "registry: "


def meaning(text: str) -> PilotError:
    """@return: the error that the text of an Error frame stands for."""
    if text == "connection refused":
        return ConnectionRefused(text)
    if text == "dial timeout":
        return DialTimeout(text)
    if text.startswith("port ") and text.endswith(" already bound"):
        return PortInUse(text)
    if text.startswith("resolve_hostname: registry: "):
        return RegistryError(text.removeprefix("resolve_hostname: registry: "))
    if text.startswith("handshake revoke: ") and "not trusted" in text:
        return NotFound(text.removeprefix("handshake revoke: "))
    return ConnectionFailed(text)


def data_of(answer: dict[str, Any]) -> dict[str, Any]:
    """
    Open a reply that is an envelope (the reference page I{Control socket extensions}).

    @return: what is in it.
    @raise PilotError: the error that is in it.
    """
    data = answer.get("data")
    if answer.get("status") == "ok" and isinstance(data, dict):
        return data
    code, message = str(answer.get("code")), str(answer.get("message"))
    hint = answer.get("hint")
    if code == RegistryError.code and message.startswith(_REGISTRY):
        raise RegistryError(message.removeprefix(_REGISTRY), hint=hint)
    raise _KINDS.get(code, PilotError)(message, hint=hint)


_KINDS: dict[str, type[PilotError]] = {
    kind.code: kind
    for kind in (AlreadyExists, ConnectionFailed, InvalidArgument, NotFound, NotRunning, TimedOut)
}
