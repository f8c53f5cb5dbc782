"""How a stream decoder answers, however the stream is cut."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from pilot.wire.framing import FramingError, LengthPrefixedDecoder


def outcome(
    decoder: LengthPrefixedDecoder[Any], pieces: Iterable[bytes]
) -> tuple[list[Any], str | None]:
    """@return: the frames, and why the stream had to be given up, if it had."""
    frames: list[Any] = []
    broken = None
    for piece in pieces:
        try:
            frames += decoder.feed(piece)
        except FramingError as error:
            frames += error.frames
            assert broken in (None, error.message)
            broken = error.message
        assert broken or decoder.buffered <= decoder.limit + 4
    return frames, broken


def byte_by_byte(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


def cut_at(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *cuts, len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]
