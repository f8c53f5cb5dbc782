"""What clients of the control socket may cost the daemon."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IpcLimits:
    """
    Bounds of the control socket.  Whoever can open it owns the node, so they guard against
    mistakes, not against attackers.

    @ivar clients: connected at the same time; one more gets an Error and is hung up on.
    @ivar ports_per_client: virtual ports bound by one client.
    @ivar streams_per_client: open streams of one client, accepted and dialled.
    @ivar requests_per_client: requests waiting for their answers; the rest waits in the socket.
    @ivar unaccepted_per_port: streams that wait for a port's first Accept to be allowed.
    @ivar stream_backlog: bytes that a client may send on after the stream's own buffer is full;
        then its socket is not read until there is room.
    @ivar reply_backlog: bytes of answers that a client may leave unread; then likewise.
    @ivar datagram_backlog: bytes of datagrams that wait for a slow client; the oldest go first.
    @ivar prefixes_per_client: of messages that one client claims, and of events that it watches.
    @ivar undecided_per_client: claimed messages that one client may think about; the next goes on
        to the next claimer, or to the inbox.
    @ivar undecided_bytes: bytes of those.
    @ivar grace: seconds between BindOK and the first Accept, and between the frame that announces
        a stream and its CloseOK.  The published drivers lose what follows sooner.
    """

    clients: int = 1024
    ports_per_client: int = 256
    streams_per_client: int = 4096
    requests_per_client: int = 256
    unaccepted_per_port: int = 64
    stream_backlog: int = 1 << 20
    reply_backlog: int = 256 << 10
    datagram_backlog: int = 1 << 20
    prefixes_per_client: int = 64
    undecided_per_client: int = 256
    undecided_bytes: int = 4 << 20
    grace: float = 0.005
