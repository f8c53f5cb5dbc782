"""Questions to the registry itself, past the daemon: C{lookup register rotate-key}."""

from __future__ import annotations

import os

from pilot.client.registry import Unanswered, ask_registry
from pilot.ctl.console import Result
from pilot.ctl.values import parse_node_id
from pilot.errors import AlreadyExists, ConnectionFailed, NotFound, NotRunning, RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot.crypto.identity import Identity
    from pilot.ctl.call import Call


def lookup(call: Call) -> Result:
    """What the registry says about a node."""
    return Result(ask(call, {"type": "lookup", "node_id": parse_node_id(call.words[0])}))


def register(call: Call) -> Result:
    """
    Register this machine's identity.

    Only while no daemon runs: a registration carries an endpoint, and this program has none that
    anybody could reach, so it would make the running node unreachable.
    """
    _refuse_while_running(
        call,
        "the running daemon registers this node by itself",
        "to register again now: pilotctl daemon stop, then pilotctl daemon start",
    )
    message = {"type": "register", "public_key": _identity(call).public_key_text}
    if call.word(0):
        message["listen_addr"] = call.words[0]
    return Result(ask(call, message))


def rotate_key(call: Call) -> Result:
    """
    Give this node a new key: signed for with the old one, and kept in the identity file.

    The new key is on the disk, beside the old one, before the registry hears of it: at no moment is
    the key that counts in no file.  The e-mail address is taken for the reference's sake and not
    used.
    """
    from pathlib import Path

    from pilot.crypto.identity import Identity, save_identity
    from pilot.wire.registry import signing_text

    node_id = parse_node_id(call.words[0])
    _refuse_while_running(
        call, "the running daemon uses the key", "stop it first: pilotctl daemon stop"
    )
    old = _identity(call)
    path = call.settings.identity_path
    beside = path + ".new"
    if os.path.exists(beside):
        raise AlreadyExists(
            f"{beside} exists: an earlier rotation got no answer",
            hint=f"if pilotctl lookup {node_id} shows its public key, move it to {path}; "
            "else remove it",
        )
    new = Identity.generate()
    save_identity(Path(beside), new)
    request = {
        "type": "rotate_key",
        "node_id": node_id,
        "new_public_key": new.public_key_text,
        "signature": old.sign_text(signing_text("rotate_key", node_id)),
    }
    try:
        answer = ask(call, request)
    except Unanswered as error:
        error.hint = f"it may have been carried out all the same; the new key is kept in {beside}"
        raise
    except ConnectionFailed:
        os.unlink(beside)
        raise
    os.replace(beside, path)
    return Result(answer)


def ask(call: Call, message: dict[str, Any]) -> dict[str, Any]:
    """
    Ask the registry something.

    @raise ConnectionFailed: it refused; the message is C{command: registry: why}.
    @raise RegistryUnavailable: it cannot be reached.
    """
    try:
        return ask_registry(call.settings.registry, message)
    except RegistryError as error:
        raise ConnectionFailed(f"{call.name}: registry: {error.message}") from None


def _identity(call: Call) -> Identity:
    from pathlib import Path

    from pilot.crypto.identity import load_identity

    path = call.settings.identity_path
    if not os.path.exists(path):
        raise NotFound(
            f"no identity in {path}",
            hint="a daemon makes one at its first start: pilotctl daemon start",
        )
    return load_identity(Path(path))


def _refuse_while_running(call: Call, why: str, hint: str) -> None:
    try:
        call.connect().close()
    except NotRunning:
        return
    raise AlreadyExists(why, hint=hint)
