"""The message of the trust handshake: one JSON document on virtual port 444.

@see: protocol notes, I{Messages on virtual port 444}; golden vectors C{trust_signatures.json} and
    C{trust_transcripts.json}.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pilot.errors import WireError
from pilot.wire.jsontext import dump, load_pairs

REQUEST = "handshake_request"
ACCEPT = "handshake_accept"
REJECT = "handshake_reject"
REVOKE = "handshake_revoke"
TYPES = (REQUEST, ACCEPT, REJECT, REVOKE)

MAX_MESSAGE = 4096
"""Bytes of one document: what fits one segment of a reference peer, which reads no second one."""

_NODE_IDS = range(2**32)
_TIMESTAMPS = range(-(2**63), 2**63)

# The two letters outside ASCII that the reference takes for ASCII ones in the names of fields.
_FOLDED = str.maketrans("\u017f\u212a", "sk")


class HandshakeMessage(NamedTuple):
    """
    @ivar type: one of L{TYPES}; any other text is legal and means nothing.
    @ivar node_id: the sender, claimed.
    @ivar public_key: its Ed25519 key, base64 text, not looked into here.
    @ivar justification: free text of a request.
    @ivar signature: base64 text over L{signed_text}, not verified here.
    @ivar reason: free text of a rejection or revocation.
    @ivar timestamp: the sender's clock, Unix seconds.
    """

    type: str
    node_id: int
    public_key: str
    justification: str
    signature: str
    reason: str
    timestamp: int

    def encode(self) -> bytes:
        """
        @return: the canonical bytes, byte for byte the reference's; their SHA-256 is what it
            recognises a replay by.  Longer than L{MAX_MESSAGE} is possible, and useless to send.
        """
        return dump(self._asdict(), sort_keys=False)


_DEFAULTS = HandshakeMessage("", 0, "", "", "", "", 0)
_RANGES = {"node_id": _NODE_IDS, "timestamp": _TIMESTAMPS}


def decode_handshake(data: bytes) -> HandshakeMessage:
    """
    Read a message as the reference does: names of fields in any letter case, of repeated fields the
    last one, missing fields as C{""} or 0, unknown fields and fields with C{null} ignored.

    @raise WireError: longer than L{MAX_MESSAGE}, malformed JSON, no object, or a field of another
        type or range (C{79.0} is no node id).
    """
    if len(data) > MAX_MESSAGE:
        raise WireError(f"handshake message too long: {len(data)} bytes (max {MAX_MESSAGE})")
    document = load_pairs(data)
    if not isinstance(document, tuple):
        raise WireError("a handshake message is a JSON object")
    return _DEFAULTS._replace(**_known_fields(document))


def signed_text(sender: int, receiver: int) -> bytes:
    """@return: what the sender signs, in every type of message."""
    return f"handshake:{sender}:{receiver}".encode("ascii")


def _known_fields(document: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    fields = {}
    for key, value in document:
        name = key.translate(_FOLDED)
        name = name.lower() if name.isascii() else ""
        if name not in HandshakeMessage._fields or value is None:
            continue
        if name in _RANGES:
            # type() and not isinstance(): a JSON boolean is not a number.
            if type(value) is not int or value not in _RANGES[name]:
                raise WireError(f"handshake message: {name} out of range or no integer")
        elif not isinstance(value, str):
            raise WireError(f"handshake message: {name} is no text")
        fields[name] = value
    return fields
