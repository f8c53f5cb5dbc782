"""The send buffer: bytes written and not cut into segments yet."""

from __future__ import annotations

from collections import deque


class Unit(bytes):
    """Bytes that travel as one segment of their own, whatever their length."""


class Outgoing:
    """
    A queue of byte strings that gives out segments.

    @ivar unsent: bytes in it.
    @ivar units: units in it.
    """

    __slots__ = ("_chunks", "_offset", "units", "unsent")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._offset = 0  # bytes of the first chunk that are gone
        self.unsent = 0
        self.units = 0

    def append(self, data: bytes) -> None:
        """Queue bytes that may be cut and joined as fits."""
        self._chunks.append(data)
        self.unsent += len(data)

    def append_unit(self, data: bytes) -> None:
        """Queue bytes that must travel as one segment."""
        self._chunks.append(Unit(data))
        self.unsent += len(data)
        self.units += 1

    def clear(self) -> None:
        """Forget everything."""
        self._chunks.clear()
        self._offset = self.unsent = self.units = 0

    def cut(self, size: int, count: int, prefix: bytes, tail: bool) -> list[bytes]:
        """
        Take out at most C{count} segments.

        @param size: bytes of data in a full segment.
        @param prefix: put in front of the data of each.
        @param tail: whether an incomplete segment may leave, too; bytes in front of a unit and
            units themselves always may.
        @return: the payloads; all but units, what stands before one, and the tail are full.
        """
        out: list[bytes] = []
        chunks = self._chunks
        while len(out) < count and chunks:
            head = chunks[0]
            offset = self._offset
            left = len(head) - offset
            if type(head) is Unit:
                chunks.popleft()
                self.units -= 1
                self.unsent -= left
                out.append(prefix + head)
            elif left >= size:
                full = min(left // size, count - len(out))
                stop = offset + full * size
                if not prefix and stop - offset == len(head) == size:
                    out.append(head)
                elif prefix:
                    view = memoryview(head)
                    out += [prefix + view[i : i + size] for i in range(offset, stop, size)]
                else:
                    out += [head[i : i + size] for i in range(offset, stop, size)]
                self.unsent -= stop - offset
                if stop == len(head):
                    chunks.popleft()
                    self._offset = 0
                else:
                    self._offset = stop
            elif self.unsent >= size or tail or self.units:
                payload = self._gather(size, prefix, tail)
                if payload is None:
                    break
                out.append(payload)
            else:
                break
        return out

    def _gather(self, size: int, prefix: bytes, tail: bool) -> bytes | None:
        """Join chunks that are too small alone; None when they are too small together."""
        chunks = self._chunks
        offset = self._offset
        if self.units and not tail:
            together = -offset
            for chunk in chunks:
                if type(chunk) is Unit:
                    tail = True
                    break
                together += len(chunk)
                if together >= size:
                    break
            else:
                return None
        pieces = [prefix]
        wanted = size
        while wanted and chunks and type(chunks[0]) is not Unit:
            chunk = chunks[0]
            left = len(chunk) - offset
            if left > wanted:
                pieces.append(chunk[offset : offset + wanted])
                offset += wanted
                wanted = 0
            else:
                pieces.append(chunk[offset:] if offset else chunk)
                chunks.popleft()
                offset = 0
                wanted -= left
        self._offset = offset
        self.unsent -= size - wanted
        return b"".join(pieces)
