"""What our registry and our client understand beyond the reference, which ignores all of it.

- C{register} may carry C{proof} and C{proof_time}: a signature that shows possession of the key.
- C{register} and C{heartbeat} may carry C{"notify": true}.  A registry that answers
  C{"notify": true} may from then on send frames C{{"type": "notify", "event": "handshakes"}}
  between its answers, when the node's mailbox has something new.
- C{resolve_hostname} may carry a C{signature} of its requester.
- Requests that need a role in a network may carry a C{signature} of the node that has it.
"""

from __future__ import annotations

NOTIFY = "notify"
"""The type of a pushed frame, and the name of the field that asks for them."""

EVENT_HANDSHAKES = "handshakes"
"""The event: a handshake request or response came."""


def registration_text(public_key: str, listen_addr: str, moment: int) -> bytes:
    """@return: what the C{proof} of a registration signs; C{moment} is its C{proof_time}."""
    return f"register:{public_key}:{listen_addr}:{moment}".encode()


def hostname_text(requester: int, hostname: str) -> bytes:
    """@return: what the C{signature} of a C{resolve_hostname} signs."""
    return f"resolve_hostname:{requester}:{hostname}".encode()


def role_text(request_type: str, node_id: int, network_id: int) -> bytes:
    """@return: what the C{signature} of a request by role signs."""
    return f"{request_type}:{node_id}:{network_id}".encode()
