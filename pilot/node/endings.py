"""How a stream ends when it does not end cleanly: the reasons C{connectionLost} is given.

They stand apart so that programs that reach a node through its daemon need not load the node.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionLost

from pilot.errors import ConnectionReset


class StreamReset(ConnectionReset, ConnectionLost):
    """The stream was aborted by the peer or given up; bytes may be missing.

    Programs written for TCP know it as L{twisted.internet.error.ConnectionLost}.
    """

    def __init__(self, message: str) -> None:
        ConnectionReset.__init__(self, message)

    def __str__(self) -> str:
        return self.message


class StreamTimeout(StreamReset):
    """The peer stopped answering an established stream."""
