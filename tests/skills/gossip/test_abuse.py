"""What one member may cost."""

from __future__ import annotations

from skills.gossip.core.abuse import BURST, Conduct
from skills.gossip.core.config import GossipConfig

CONFIG = GossipConfig(peer_messages=10.0, peer_bytes=1000.0, mute_errors=3)


def test_a_burst_passes_and_then_only_the_rate():
    conduct = Conduct(0.0, CONFIG)
    admitted = sum(conduct.admits(0.0, 1, CONFIG) for _ in range(100))
    assert admitted == 10 * BURST
    assert conduct.over == 100 - admitted
    assert sum(conduct.admits(1.0, 1, CONFIG) for _ in range(100)) == 10


def test_bytes_have_a_budget_of_their_own():
    conduct = Conduct(0.0, CONFIG)
    assert conduct.admits(0.0, 1500, CONFIG)
    assert not conduct.admits(0.0, 1500, CONFIG)
    assert conduct.admits(2.0, 1500, CONFIG)


def test_a_clock_that_stands_still_gives_no_budget():
    conduct = Conduct(5.0, CONFIG)
    for _ in range(100):
        conduct.admits(5.0, 1, CONFIG)
    assert not conduct.admits(4.0, 1, CONFIG)


def test_malformed_messages_mute_for_a_while():
    conduct = Conduct(0.0, CONFIG)
    assert not conduct.malformed(0.0, CONFIG)
    assert not conduct.malformed(1.0, CONFIG)
    assert conduct.malformed(2.0, CONFIG)
    assert not conduct.admits(2.0 + CONFIG.mute - 1, 1, CONFIG)
    assert conduct.admits(2.0 + CONFIG.mute, 1, CONFIG)
    assert conduct.errors == 3


def test_errors_spread_over_time_mute_nobody():
    conduct = Conduct(0.0, CONFIG)
    assert not any(conduct.malformed(40.0 * at, CONFIG) for at in range(20))


def test_refusals_are_told_now_and_then():
    conduct = Conduct(0.0, CONFIG)
    told = [at for at in range(20) if conduct.may_nack(float(at), CONFIG)]
    assert told == [0, 5, 10, 15]
