"""The relation's machine: every row of the table, and what no order of events can break."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.trust.records import Pending, Record, Requested, Revoked, Step, Trusted
from pilot.trust.relation import (
    Core,
    IRelation,
    News,
    relation_machine,
    restore,
    state_of,
    transition,
)

NOW = 2000.0
RECORDS: dict[str, Record] = {
    "none": None,
    "requested": Requested(1000.0, "please", True),
    "pending": Pending("their-key", "let me in", 1000.0),
    "trusted": Trusted("their-key", 1000.0, True, 5),
    "revoked": Revoked(1000.0),
}

ASK, APPROVE, REJECT, REVOKE = (
    IRelation.ask,
    IRelation.approve,
    IRelation.reject,
    IRelation.revoke,
)
IS_ASKED, IS_ADMITTED = IRelation.request_received, IRelation.request_admitted
ACCEPTED, REJECTED = IRelation.accept_received, IRelation.reject_received
REVOKED, LEFT = IRelation.revoke_received, IRelation.membership_ended
INPUTS = (ASK, APPROVE, REJECT, REVOKE, IS_ASKED, IS_ADMITTED, ACCEPTED, REJECTED, REVOKED, LEFT)

S = Step
PARTING = (S.REVOKE, S.UNPAIR, S.DECLINE)
REFUSAL = (S.REJECT, S.DECLINE)
AGREEMENT = (S.REPORT, S.ACCEPT, S.RESPOND)

#: (state, input): (state afterwards, steps that follow).  The whole table.
TABLE: dict[tuple[str, Callable[..., None]], tuple[str, tuple[Step, ...]]] = {
    ("none", ASK): ("requested", (S.ASK,)),
    ("none", APPROVE): ("none", ()),
    ("none", REJECT): ("none", REFUSAL),
    ("none", REVOKE): ("none", ()),
    ("none", IS_ASKED): ("pending", ()),
    ("none", IS_ADMITTED): ("trusted", (S.REPORT, S.ACCEPT)),
    ("none", ACCEPTED): ("none", ()),
    ("none", REJECTED): ("none", ()),
    ("none", REVOKED): ("none", ()),
    ("none", LEFT): ("none", ()),
    ("requested", ASK): ("requested", (S.ASK,)),
    ("requested", APPROVE): ("requested", ()),
    ("requested", REJECT): ("requested", REFUSAL),
    ("requested", REVOKE): ("none", ()),
    ("requested", IS_ASKED): ("trusted", (S.REPORT, S.ACCEPT)),
    ("requested", IS_ADMITTED): ("trusted", (S.REPORT, S.ACCEPT)),
    ("requested", ACCEPTED): ("trusted", (S.REPORT,)),
    ("requested", REJECTED): ("none", ()),
    ("requested", REVOKED): ("none", ()),
    ("requested", LEFT): ("requested", ()),
    ("pending", ASK): ("trusted", (S.REPORT, S.ASK, S.RESPOND)),
    ("pending", APPROVE): ("trusted", AGREEMENT),
    ("pending", REJECT): ("none", REFUSAL),
    ("pending", REVOKE): ("none", ()),
    ("pending", IS_ASKED): ("pending", ()),
    ("pending", IS_ADMITTED): ("trusted", (S.REPORT, S.ACCEPT)),
    ("pending", ACCEPTED): ("pending", ()),
    ("pending", REJECTED): ("pending", ()),
    ("pending", REVOKED): ("none", ()),
    ("pending", LEFT): ("pending", ()),
    ("trusted", ASK): ("trusted", ()),
    ("trusted", APPROVE): ("trusted", ()),
    ("trusted", REJECT): ("trusted", ()),
    ("trusted", REVOKE): ("revoked", PARTING),
    ("trusted", IS_ASKED): ("trusted", (S.ACCEPT,)),
    ("trusted", IS_ADMITTED): ("trusted", (S.ACCEPT,)),
    ("trusted", ACCEPTED): ("trusted", ()),
    ("trusted", REJECTED): ("trusted", ()),
    ("trusted", REVOKED): ("none", (S.UNPAIR,)),
    ("trusted", LEFT): ("revoked", PARTING),
    ("revoked", ASK): ("requested", (S.ASK,)),
    ("revoked", APPROVE): ("revoked", ()),
    ("revoked", REJECT): ("revoked", REFUSAL),
    ("revoked", REVOKE): ("revoked", ()),
    ("revoked", IS_ASKED): ("pending", ()),
    ("revoked", IS_ADMITTED): ("trusted", (S.REPORT, S.ACCEPT)),
    ("revoked", ACCEPTED): ("revoked", ()),
    ("revoked", REJECTED): ("revoked", ()),
    ("revoked", REVOKED): ("revoked", ()),
    ("revoked", LEFT): ("revoked", ()),
}


def test_the_table_is_whole() -> None:
    assert set(TABLE) == {(state, happening) for state in RECORDS for happening in INPUTS}


@pytest.mark.parametrize(
    ("state", "happening"), TABLE, ids=lambda x: x if isinstance(x, str) else x.__name__
)
def test_row(state: str, happening: Callable[..., None]) -> None:
    outcome = transition(7, RECORDS[state], happening, News(NOW, "text", "key"))
    assert (state_of(outcome.record), outcome.steps) == TABLE[state, happening]


@pytest.mark.parametrize("state", RECORDS)
def test_restored_machine_stands_where_its_record_does(state: str) -> None:
    assert restore(Core(7, RECORDS[state])).state_name() == state


@pytest.mark.parametrize("happening", (IS_ASKED, IS_ADMITTED))
@pytest.mark.parametrize("state", ("requested", "trusted"))
def test_a_relayed_request_is_answered_through_the_mailbox(
    state: str, happening: Callable[..., None]
) -> None:
    outcome = transition(7, RECORDS[state], happening, News(NOW, relayed=True))
    assert Step.RESPOND in outcome.steps
    assert Step.ACCEPT not in outcome.steps


@pytest.mark.parametrize(
    ("state", "happening", "news", "record"),
    (
        ("pending", APPROVE, News(NOW), Trusted("their-key", NOW, False)),
        ("pending", ASK, News(NOW), Trusted("their-key", NOW, True)),
        ("requested", ACCEPTED, News(NOW, "", "key"), Trusted("key", NOW, True)),
        ("requested", IS_ASKED, News(NOW, "", "key"), Trusted("key", NOW, True)),
        ("none", IS_ADMITTED, News(NOW, "", "key", network=3), Trusted("key", NOW, False, 3)),
        ("none", IS_ADMITTED, News(NOW, "", "key"), Trusted("key", NOW, False)),
        ("pending", IS_ADMITTED, News(NOW), Trusted("their-key", NOW, False)),
        ("pending", IS_ASKED, News(NOW, "new", ""), Pending("their-key", "new", NOW)),
        ("pending", IS_ASKED, News(NOW, "new", "k2"), Pending("k2", "new", NOW)),
        ("trusted", ACCEPTED, News(NOW, "", "k2"), RECORDS["trusted"]),
        ("trusted", LEFT, News(NOW), Revoked(NOW, by_user=False)),
        ("trusted", REVOKE, News(NOW), Revoked(NOW)),
        ("none", ASK, News(NOW, "hi", drained=True), Requested(NOW, "hi", True)),
        ("requested", ASK, News(NOW, "again"), Requested(1000.0, "again", True)),
    ),
)
def test_what_is_remembered(
    state: str, happening: Callable[..., None], news: News, record: Record
) -> None:
    assert transition(7, RECORDS[state], happening, news).record == record


@pytest.mark.parametrize(
    ("state", "happening", "news", "event"),
    (
        ("none", IS_ASKED, News(NOW, "why"), ("handshake.pending", {"justification": "why"})),
        ("pending", APPROVE, News(NOW), ("handshake.approved", {})),
        ("pending", REJECT, News(NOW, "no"), ("handshake.rejected", {"reason": "no"})),
        ("requested", IS_ASKED, News(NOW), ("handshake.auto_approved", {"reason": "mutual"})),
        ("none", IS_ADMITTED, News(NOW), ("handshake.auto_approved", {"reason": "auto_approve"})),
        (
            "none",
            IS_ADMITTED,
            News(NOW, network=2),
            ("handshake.auto_approved", {"reason": "same_network"}),
        ),
        ("trusted", REVOKE, News(NOW), ("trust.revoked", {})),
        ("trusted", REVOKED, News(NOW), ("trust.revoked_by_peer", {})),
    ),
)
def test_what_is_announced(
    state: str,
    happening: Callable[..., None],
    news: News,
    event: tuple[str, dict[str, str]],
) -> None:
    name, data = event
    outcome = transition(7, RECORDS[state], happening, news)
    assert outcome.events == ((name, {"peer_node_id": 7, **data}),)


@given(st.lists(st.sampled_from(INPUTS), max_size=30))
def test_trust_needs_two(happenings: list[Callable[..., None]]) -> None:
    """
    Whatever happens in whatever order: nobody is trusted whom neither the user nor a rule wanted,
    and trust that ends is always severed, reported, and told.
    """
    record: Record = None
    wanted = False
    for at, happening in enumerate(happenings):
        before = record
        outcome = transition(7, before, happening, News(float(at)))
        record = outcome.record
        if happening in (ASK, IS_ADMITTED):
            wanted = True
        if isinstance(record, Trusted) and not isinstance(before, Trusted):
            approved = happening in (APPROVE, IS_ADMITTED) and not isinstance(before, Requested)
            assert approved or (wanted and isinstance(before, Requested | Pending))
            assert Step.REPORT in outcome.steps
        ended = isinstance(before, Trusted) and not isinstance(record, Trusted)
        assert outcome.severed is ended
        if ended:
            assert Step.UNPAIR in outcome.steps


def test_the_machine_can_be_drawn() -> None:
    """`automat-visualize` finds machines at module level; the drawing names all five states."""
    graphviz = pytest.importorskip("graphviz")
    drawing = relation_machine.asDigraph()
    assert isinstance(drawing, graphviz.Digraph)
    for state in RECORDS:
        assert state in drawing.source
