"""Binding, limits and ephemeral ports."""

from __future__ import annotations

import random

import pytest
from twisted.internet.protocol import Factory

from pilot.address import EPHEMERAL_PORTS
from pilot.errors import ConnectionFailed, InvalidArgument, PortInUse
from pilot.node.ports import PortLimits, PortTable, SynRate, TokenBucket


def table(**limits: int) -> PortTable:
    return PortTable(PortLimits(**limits), random.Random(1))


def test_a_port_has_one_owner_until_it_is_freed() -> None:
    ports = table()
    first, second = Factory(), Factory()
    unbind = ports.bind(80, first)
    with pytest.raises(PortInUse, match="port 80 already bound"):
        ports.bind(80, second)
    unbind()
    ports.bind(80, second)
    unbind()  # too late to take the port from its new owner
    assert ports.factory(80) is second
    assert list(ports) == [80] and len(ports) == 1


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_number_has_16_bits(port: int) -> None:
    with pytest.raises(InvalidArgument):
        table().bind(port, Factory())


def test_bound_ports_are_limited_and_refusals_counted() -> None:
    ports = table(listeners=2)
    ports.bind(1, Factory())
    ports.bind(2, Factory())
    with pytest.raises(ConnectionFailed):
        ports.bind(3, Factory())
    assert ports.refused["listeners"] == 1


def test_ephemeral_ports_stay_in_their_range_and_avoid_what_is_taken() -> None:
    ports = table()
    ports.bind(50000, Factory())
    taken = set(EPHEMERAL_PORTS) - {50000, 60000}
    assert ports.free_port(taken) == 60000
    with pytest.raises(ConnectionFailed):
        ports.free_port(taken | {60000})


def test_inbound_streams_are_counted_per_port_and_in_total() -> None:
    ports = table(connections_per_port=2, connections_total=10)
    assert ports.admit(80, 0) is None
    assert ports.admit(80, 1) is None
    assert ports.admit(80, 2) == "connections_per_port"
    assert ports.admit(81, 10) == "connections_total"
    ports.release(80)
    assert ports.admit(80, 1) is None
    assert ports.refused == {"connections_per_port": 1, "connections_total": 1}


def test_a_token_bucket_refills_with_fractions() -> None:
    bucket = TokenBucket(2.0, now=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert not bucket.take(0.25)
    assert bucket.take(0.5)


def test_a_flooding_node_does_not_use_up_what_is_left_for_others() -> None:
    rate = SynRate(PortLimits(), now=0.0)
    answers = [rate.refusal(7, 0.0) for _ in range(1000)]
    assert answers.count(None) == 50
    assert rate.refusal(8, 0.0) is None


def test_many_sources_together_meet_the_common_limit_and_memory_stays_bounded() -> None:
    rate = SynRate(PortLimits(tracked_sources=16), now=0.0)
    answers = [rate.refusal(node, 0.0) for node in range(1000)]
    assert answers.count(None) == 100
    assert answers.count("syn_rate") == 900
    assert len(rate._sources) == 16
