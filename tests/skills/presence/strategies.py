"""Records and rubbish for Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from skills.presence.core.status import STATUSES

names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=60)
tags = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=32)
numbers = st.tuples(st.integers(1, 2**53 - 1), st.integers(0, 2**53 - 1))
statuses = st.sampled_from(STATUSES)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
fields = st.sampled_from(
    ("hostname", "status", "timestamp", "v", "node", "addr", "inc", "seq", "ttl", "since", "load",
     "slots", "tags", "reason", "sig")
)  # fmt: skip
