"""One stream packet as the stream sees it: the header fields that matter, and the payload."""

from __future__ import annotations

from typing import NamedTuple


class Segment(NamedTuple):
    """
    What goes into and comes out of a connection, fields as on the wire.

    @ivar flags: sum of C{FLAG_*} of L{pilot.wire.packet}.
    @ivar sequence: number of the first payload byte, modulo 2**32.
    @ivar acknowledgement: next byte expected, modulo 2**32.
    @ivar window: in the unit of the dialect.
    @ivar payload: data, with whatever the dialect puts in front of it.
    """

    flags: int
    sequence: int
    acknowledgement: int
    window: int
    payload: bytes
