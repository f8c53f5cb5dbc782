"""The send buffer: whatever is cut, the bytes and the units stay what they were."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilot.stream.outgoing import Outgoing

PREFIX = b"<>"

writes = st.lists(
    st.tuples(st.booleans(), st.binary(min_size=1, max_size=60)), min_size=1, max_size=20
)


@given(writes=writes, size=st.integers(1, 30), count=st.integers(1, 8), prefix=st.booleans())
def test_all_bytes_come_out_in_order_and_units_alone(
    writes: list[tuple[bool, bytes]], size: int, count: int, prefix: bool
) -> None:
    front = PREFIX if prefix else b""
    out = Outgoing()
    for unit, data in writes:
        (out.append_unit if unit else out.append)(data)
    pieces: list[bytes] = []
    while out.unsent:
        cut = out.cut(size, count, front, True)
        assert 0 < len(cut) <= count
        assert all(piece.startswith(front) for piece in cut)
        pieces += [piece[len(front) :] for piece in cut]
    assert b"".join(pieces) == b"".join(data for _, data in writes)
    assert out.units == 0
    remaining = iter(pieces)
    for unit, data in writes:
        if unit:
            assert data in remaining  # in this order, each as a piece of its own


@given(chunks=st.lists(st.binary(min_size=1, max_size=25), max_size=20), size=st.integers(1, 30))
def test_without_a_tail_only_full_segments_leave(chunks: list[bytes], size: int) -> None:
    out = Outgoing()
    for chunk in chunks:
        out.append(chunk)
    pieces = out.cut(size, 1000, b"", False)
    assert all(len(piece) == size for piece in pieces)
    assert out.unsent == sum(map(len, chunks)) % size


def test_bytes_before_a_unit_do_not_wait_for_company() -> None:
    out = Outgoing()
    out.append(b"ab")
    out.append(b"cd")
    out.append_unit(b"unit")
    out.append(b"rest")
    assert out.cut(10, 10, b"", False) == [b"abcd", b"unit"]
    assert out.unsent == 4


def test_a_unit_may_exceed_the_size_of_a_segment() -> None:
    out = Outgoing()
    out.append_unit(bytes(5000))
    assert out.cut(1000, 10, b"", False) == [bytes(5000)]


def test_a_chunk_of_exactly_one_segment_is_not_copied() -> None:
    out = Outgoing()
    chunk = bytes(1000)
    out.append(chunk)
    assert out.cut(1000, 10, b"", True)[0] is chunk


def test_after_clear_nothing_is_left() -> None:
    out = Outgoing()
    out.append(b"abc")
    out.append_unit(b"def")
    out.clear()
    assert (out.unsent, out.units, out.cut(10, 10, b"", True)) == (0, 0, [])
