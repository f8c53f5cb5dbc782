"""Cutting a byte stream into frames: four bytes of length, then the frame.

@see: protocol notes, I{JSON framing} (registry) and I{Framing} (control socket).
"""

from __future__ import annotations

from struct import Struct

from pilot.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Generic, TypeVar

    T = TypeVar("T")
else:
    T = None

    class Generic:
        """Stands in for C{typing.Generic}, whose import would slow every start of C{pilotctl}."""

        __slots__ = ()

        def __class_getitem__(cls, item: object) -> type:
            return cls


LENGTH = Struct(">I")
_length_at = LENGTH.unpack_from


class FramingError(WireError):
    """
    A byte stream that cannot be followed any further: close it.

    @ivar frames: the whole frames that came before the fault in the same piece of input; each was
        sent before the fault and deserves its answer.
    """

    def __init__(self, message: str, frames: list[Any]) -> None:
        super().__init__(message)
        self.frames = frames


class LengthPrefixedDecoder(Generic[T]):
    """
    What all stream decoders share: buffering in linear time, within C{limit} bytes and one input.

    However the stream is cut, the same frames come out, in the same order, with the same end.
    """

    limit: int
    """Largest length a frame may announce, in bytes."""

    __slots__ = ("_broken", "_buffer", "_needed")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = LENGTH.size  # bytes from the start of the buffer that the next step takes
        self._broken: str | None = None

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished frame that wait for the rest."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[T]:
        """
        Take the next bytes of the stream, any number of them.

        @return: the frames they complete.
        @raise FramingError: the stream is no longer to be followed; again at every later call.
        """
        if self._broken is not None:
            raise FramingError(self._broken, [])
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._needed:
                return []
            data = bytes(buffer)
            buffer.clear()
        frames: list[T] = []
        position, size = 0, len(data)
        needed = LENGTH.size
        try:
            while size - position >= LENGTH.size:
                (length,) = _length_at(data, position)
                if length > self.limit:
                    raise WireError(f"message too large: {length} bytes (max {self.limit})")
                start = position + LENGTH.size
                if start + length > size:
                    needed = LENGTH.size + length
                    break
                position = start + length
                self._decode(data, start, position, frames)
        except WireError as error:
            self._broken = error.message
            raise FramingError(error.message, frames) from None
        buffer += data[position:]
        self._needed = needed
        return frames

    def _decode(self, data: bytes, start: int, end: int, frames: list[T]) -> None:
        """
        Append the frame whose body is C{data[start:end]}, if it is one to report.

        @raise WireError: the stream is broken.
        """
        raise NotImplementedError
