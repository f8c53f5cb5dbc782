"""What the agents of one node say of themselves."""

from __future__ import annotations

import pytest

from skills.presence.core.claims import MOST, Claims, Intent
from skills.presence.core.errors import PresenceError


def test_a_node_about_which_nobody_says_anything_is_online() -> None:
    assert Claims().claim().status == "online"


def test_of_several_agents_the_busiest_speaks() -> None:
    claims = Claims()
    claims.set("a", Intent("away", reason="lunch"))
    assert claims.claim().status == "away"
    claims.set("b", Intent("online", slots=2, load=10))
    claims.set("c", Intent("online", slots=3, load=40))
    claim = claims.claim()
    assert (claim.status, claim.slots, claim.load, claim.reason) == ("online", 5, 40, "")
    claims.set("d", Intent("busy", reason="training", tags=("gpu",)))
    claim = claims.claim()
    assert (claim.status, claim.reason, claim.slots, claim.tags) == (
        "busy", "training", None, ("gpu",),
    )  # fmt: skip
    for agent in "bcd":
        claims.set(agent, Intent("offline"))
    assert claims.claim().status == "away"


def test_an_intent_for_a_while_reverts() -> None:
    claims = Claims()
    claims.set("", Intent("online", slots=4))
    claims.set("", Intent("busy", until=100.0))
    assert claims.deadline() == 100.0
    assert not claims.expire(99.0)
    shown = claims.as_json(90.0)[0]
    assert (shown["status"], shown["reverts_in"], shown["then"]) == ("busy", 10.0, "online")
    assert claims.expire(100.0)
    assert (claims.claim().status, claims.claim().slots) == ("online", 4)
    assert claims.deadline() is None


def test_a_lasting_intent_ends_the_one_for_a_while() -> None:
    claims = Claims()
    claims.set("", Intent("busy", until=100.0))
    claims.set("", Intent("away"))
    assert claims.claim().status == "away" and claims.deadline() is None


def test_an_intent_for_a_while_without_another_reverts_to_nothing_said() -> None:
    claims = Claims()
    claims.set("", Intent("busy", until=100.0))
    claims.expire(100.0)
    assert claims.claim().status == "online" and claims.as_json(100.0) == []


@pytest.mark.parametrize(
    "intent",
    [
        Intent("dead"), Intent("online", slots=-1), Intent("online", slots=65536),
        Intent("online", load=101), Intent("online", reason="x" * 201),
        Intent("online", reason="a\x07b"), Intent("online", tags=("Bad Tag",)),
        Intent("online", tags=("a",) * 17),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(intent: Intent) -> None:
    claims = Claims()
    with pytest.raises(PresenceError):
        claims.set("", intent)
    assert claims.as_json(0.0) == []


def test_the_agents_of_a_node_are_bounded() -> None:
    claims = Claims()
    for number in range(MOST):
        claims.set(str(number), Intent("online"))
    with pytest.raises(PresenceError):
        claims.set("one more", Intent("online"))
    claims.set("0", Intent("busy"))
    with pytest.raises(PresenceError):
        claims.set("x" * 65, Intent("online"))
