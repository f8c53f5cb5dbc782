"""When the mailbox is looked into, and what is taken out of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pilot.errors import RegistryUnavailable
from pilot.trust.mailbox import (
    FULL_ANSWER,
    MAX_ENTRIES,
    NOTICE_GAP,
    Mail,
    Mailbox,
    MailedRequest,
    MailedResponse,
    read_mail,
)


class Post:
    """A registry whose answers the test gives."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.asked: list[Deferred[dict[str, Any]]] = []
        self.delivered: list[list[Mail]] = []
        self.returns = 0
        self.mailbox = Mailbox(self.clock, self, self._deliver, on_return=self._returned)

    def poll_handshakes(self) -> Deferred[dict[str, Any]]:
        self.asked.append(Deferred())
        return self.asked[-1]

    async def _deliver(self, mail: list[Mail]) -> None:
        self.delivered.append(mail)

    def _returned(self) -> None:
        self.returns += 1

    def answer(self, **lists: Any) -> None:
        self.asked[-1].callback({"requests": [], "responses": [], **lists})


@pytest.fixture
def post() -> Iterator[Post]:
    post = Post()
    yield post
    post.mailbox.stop()
    assert post.clock.getDelayedCalls() == []


def test_it_looks_at_the_start_and_once_a_minute(post: Post) -> None:
    post.mailbox.start()
    for count in range(1, 5):
        assert len(post.asked) == count
        post.answer()
        post.clock.advance(59.9)
        assert len(post.asked) == count
        post.clock.advance(0.1)


def test_it_hurries_after_asking_and_calms_down(post: Post) -> None:
    post.mailbox.start()
    post.answer()
    post.mailbox.hurry()
    times: list[float] = []
    while post.clock.seconds() < 1000:
        post.clock.advance(0.1)
        if not post.asked[-1].called:
            times.append(post.clock.seconds())
            post.answer()
    pauses = [later - sooner for sooner, later in pairwise(times)]
    assert times[0] == pytest.approx(1.0, abs=0.1)
    assert all(later > sooner - 0.2 for sooner, later in pairwise(pauses))
    assert pauses[-1] == pytest.approx(60, abs=0.2)


def test_nobody_hurries_where_the_registry_notifies(post: Post) -> None:
    post.mailbox.start()
    post.answer()
    post.mailbox.notified = True
    post.mailbox.hurry()
    post.clock.advance(59)
    assert len(post.asked) == 1


def test_a_notice_is_followed_at_once_and_a_thousand_are_one(post: Post) -> None:
    post.mailbox.start()
    post.answer()
    post.clock.advance(5)
    for _ in range(1000):
        post.mailbox.notice()
    post.clock.advance(0)
    assert len(post.asked) == 2
    for _ in range(1000):
        post.mailbox.notice()  # while it is being answered: something may have been missed
    post.answer()
    post.clock.advance(NOTICE_GAP)
    assert len(post.asked) == 3
    post.answer()
    post.clock.advance(1)
    assert len(post.asked) == 3


def test_a_look_that_is_asked_for_during_another_begins_after_it(post: Post) -> None:
    """What is in the mailbox at this moment may have come after the first one passed."""
    answered: list[bool] = []
    post.mailbox.poll()
    for _ in range(2):
        post.mailbox.poll().addCallback(answered.append)
    assert len(post.asked) == 1
    post.answer()
    assert (len(post.asked), answered) == (2, [])
    post.answer()
    assert (len(post.asked), answered) == (2, [True, True])


def test_a_large_answer_may_not_have_been_all(post: Post) -> None:
    empty: list[bool] = []
    post.mailbox.start()
    post.answer()
    post.mailbox.poll().addCallback(empty.append)
    entry = {"from_node_id": 1, "accept": True, "timestamp": 1}
    post.answer(responses=[entry] * FULL_ANSWER)
    post.clock.advance(NOTICE_GAP)
    assert (len(post.asked), empty) == (3, [False])


def test_an_absent_registry_is_tried_again_and_its_return_is_told(post: Post) -> None:
    post.mailbox.start()
    post.asked[-1].errback(RegistryUnavailable("away"))
    post.clock.advance(60)
    post.asked[-1].errback(RegistryUnavailable("away"))
    assert post.returns == 0
    post.clock.advance(60)
    post.answer()
    assert post.returns == 1
    assert post.mailbox.counters == {"looks": 3, "failures": 2}


def test_mail_comes_in_order_of_time_answers_first() -> None:
    mail, odd = read_mail(
        {
            "requests": [
                {"from_node_id": 5, "justification": "x", "timestamp": 30},
                {"from_node_id": 6, "justification": "", "timestamp": 10},
            ],
            "responses": [{"from_node_id": 6, "accept": True, "timestamp": 10}],
        }
    )
    assert odd == 0
    assert mail == [
        MailedResponse(6, True, 10),
        MailedRequest(6, "", 10),
        MailedRequest(5, "x", 30),
    ]


@pytest.mark.parametrize(
    "answer",
    (
        {"requests": [None]},
        {"requests": [{"from_node_id": -1}]},
        {"requests": [{"from_node_id": True}]},
        {"requests": [{"from_node_id": 2**32}]},
        {"requests": [{"from_node_id": 1, "justification": 5}]},
        {"requests": [{"from_node_id": 1, "justification": "j" * 5000}]},
        {"responses": [{"from_node_id": 1, "accept": "yes"}]},
        {"responses": [{"from_node_id": 1}]},
        {"responses": {}},
    ),
)
def test_what_is_no_mail_is_counted(answer: dict[str, Any]) -> None:
    assert read_mail(answer) == ([], 1)


def test_an_answer_without_end_is_cut() -> None:
    entry = {"from_node_id": 1, "accept": True, "timestamp": 1}
    mail, odd = read_mail({"responses": [entry] * (MAX_ENTRIES + 7)})
    assert (len(mail), odd) == (MAX_ENTRIES, 7)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
_entry = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("from_node_id", "accept", "justification", "timestamp"), _json)
)


@given(
    st.fixed_dictionaries(
        {}, optional={k: st.lists(_entry) | _json for k in ("requests", "responses")}
    )
)
def test_any_answer_is_read(answer: dict[str, Any]) -> None:
    mail, odd = read_mail(answer)
    assert odd >= 0
    assert all(0 <= item.node_id < 2**32 for item in mail)


def test_a_fault_in_delivery_is_logged_and_ends_nothing(
    post: Post, nothing_left_behind: Any
) -> None:
    async def broken(mail: list[Mail]) -> None:
        raise RuntimeError("boom")

    post.mailbox._deliver = broken
    post.mailbox.start()
    post.answer()
    assert len(nothing_left_behind) == 1
    nothing_left_behind.clear()
    post.clock.advance(60)
    assert len(post.asked) == 2
