"""Hypothesis strategies for registers and for hostile JSON, shared by the tests of gossip."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from skills.gossip.core.hlc import hlc_at
from skills.gossip.core.register import (
    FLAG_EPHEMERAL,
    FLAG_SIGNED,
    FLAG_TOMBSTONE,
    Register,
    join_key,
)

WALL = 1_775_642_400.0

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
#: Values that a register may hold.
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
#: Any JSON at all, as a hostile peer may send it, integers and text beyond bounds included.
junk: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        scalars,
        st.integers(),
        st.floats(),
        st.text(st.characters(), max_size=4),
        st.just("\ud800"),
        st.just("0190a1b2c3d40001"),
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)

segments = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
keys = st.lists(segments, min_size=1, max_size=8).map(join_key)
#: Few keys, close to each other, so that they meet: above, below, equal.
near_keys = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
hlcs = st.integers(0, 2**64 - 1).map("{:016x}".format)
near_hlcs = st.integers(0, 3).map(lambda step: hlc_at(WALL + step))
nodes = st.integers(0, 2**32 - 1)
SIGNATURE = "A" * 86 + "=="


@st.composite
def registers(
    draw: st.DrawFn,
    key: st.SearchStrategy[str] = keys,
    hlc: st.SearchStrategy[str] = hlcs,
    author: st.SearchStrategy[int] = nodes,
    value: st.SearchStrategy[Any] = values,
) -> Register:
    flags = draw(st.sampled_from([0, 0, FLAG_TOMBSTONE, FLAG_SIGNED, FLAG_EPHEMERAL]))
    return Register.make(
        draw(key),
        None if flags & FLAG_TOMBSTONE else draw(value),
        draw(hlc),
        draw(author),
        flags,
        SIGNATURE if flags & FLAG_SIGNED else "",
    )


#: Registers that compete: three keys' worth of paths, four times, two authors, few values.
rivals = registers(
    near_keys,
    near_hlcs,
    st.integers(1, 2),
    st.sampled_from([1, True, "x", [], {}, {"a": 1}, {"a": {"b": 2}, "c": None}, None]),
)
