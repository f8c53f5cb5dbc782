"""Recovery end to end: which loss is repaired by what, and how soon."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.simulation.stream_pair import LinkConfig, Pair
from tests.stream.wiring import Duo, nothing

RTT = 0.04


def transfer(
    pair: Pair, size: int, *, done: Callable[[], bool] | None = None, seconds: float = 60.0
) -> float:
    """@return: virtual seconds until the far program has all of it."""
    data = bytes(range(256)) * (size // 256)
    pair.dialler.dial()
    pair.run(60.0, lambda: pair.dialler.established)
    start = pair.world.now
    assert pair.dialler.connection is not None
    pair.dialler.connection.write(data)
    pair.dialler.touch()
    assert pair.run(seconds, done or (lambda: len(pair.acceptor.got) == len(data)))
    assert bytes(pair.acceptor.got) == data[: len(pair.acceptor.got)]
    return pair.world.now - start


def losing(pair: Pair, *numbers: int) -> None:
    """Lose these packets of the dialler, counted from now."""
    carry, seen = pair.there.carry, [0]

    def choosy(data: bytes) -> None:
        seen[0] += 1
        if seen[0] - 1 not in numbers:
            carry(data)

    pair.there.carry = choosy  # type: ignore[method-assign]


def pair(seed: int = 1, modern: bool = True, **link: float) -> Pair:
    made = Pair(seed, LinkConfig(delay=(RTT / 2, RTT / 2), **link))  # type: ignore[arg-type]
    made.dialler.offer_modern = modern
    return made


@pytest.mark.parametrize("modern", [True, False])
def test_a_single_loss_costs_about_one_round_trip(modern: bool) -> None:
    clean = transfer(pair(modern=modern), 256 * 400)
    lossy = pair(modern=modern)
    losing(lossy, 4)
    assert transfer(lossy, 256 * 400) < clean + 2.5 * RTT


@pytest.mark.parametrize("modern", [True, False])
def test_a_lost_tail_is_probed_for_long_before_the_timeout(modern: bool) -> None:
    """Nothing follows it that could show the hole; the timeout would take 200 ms and more."""
    lossy = pair(modern=modern)
    losing(lossy, 2)  # request, third packet with data...
    seconds = transfer(lossy, 256 * 4)
    assert seconds < 0.2
    assert lossy.dialler.connection is not None


@pytest.mark.parametrize("modern", [True, False])
def test_a_lost_repetition_is_repeated(modern: bool) -> None:
    lossy = pair(modern=modern)
    losing(lossy, 3, *range(36, 44))
    assert transfer(lossy, 256 * 800) < 1.5


def test_a_burst_of_losses_is_repaired_without_a_timeout() -> None:
    lossy = pair()
    losing(lossy, *range(20, 60))
    seconds = transfer(lossy, 256 * 2000)
    assert seconds < 1.0
    assert lossy.dialler.connection is not None
    assert lossy.dialler.connection.statistics()["retransmits"] <= 1


def test_stray_losses_do_not_slow_a_stream_down() -> None:
    clean = transfer(pair(spacing=0.00025), 4 * 1024 * 1024)
    lossy = transfer(pair(spacing=0.00025, loss=0.02), 4 * 1024 * 1024)
    assert lossy < 1.6 * clean


def test_reordering_alone_makes_no_more_than_a_few_needless_repetitions() -> None:
    swapped = Pair(3, LinkConfig(delay=(0.02, 0.026)))
    transfer(swapped, 1024 * 1024)
    assert swapped.dialler.connection is not None
    needless = swapped.acceptor.connection._rx.repeated_segments  # type: ignore[union-attr]
    assert needless < 0.1 * swapped.dialler.connection.statistics()["segs_sent"]


def test_a_queue_is_not_filled_to_its_brim() -> None:
    """Slow start ends when round trips grow, before a deep queue overflows."""
    deep = Pair(4, LinkConfig(delay=(0.02, 0.02), spacing=0.0005, queue=2000))
    transfer(deep, 2 * 1024 * 1024)
    assert deep.there.dropped == 0


def test_a_shallow_queue_is_learned() -> None:
    shallow = Pair(5, LinkConfig(delay=(0.002, 0.002), spacing=0.0001, queue=50))
    seconds = transfer(shallow, 4 * 1024 * 1024)
    assert shallow.there.dropped < 0.15 * shallow.there.sent
    assert seconds < 2.5 * 0.0001 * 4 * 1024 * 1024 / 1121


def test_after_an_outage_it_goes_on() -> None:
    broken = pair()
    start = broken.world.now
    broken.there.config.outages.append((start + 0.15, start + 6.0))
    seconds = transfer(broken, 512 * 1024)
    assert 5.0 < seconds < 11.0


def test_a_sign_of_life_ends_the_long_pauses() -> None:
    """The peer is heard again after a long silence: what is missing is sent at once."""
    duo = Duo().open()
    duo.near.write(b"lost for long")
    duo.sleep(20.0, nothing, nothing)
    duo.far.write(b"I am back")
    duo.settle()
    duo.sleep(0.3)
    assert duo.near.statistics()["unacked"] == 0


def test_timeouts_grow_longer_and_longer() -> None:
    duo = Duo().open()
    duo.log.clear()
    duo.near.write(b"x")
    times = []
    start = duo.now
    while duo.now < start + 25.0:
        due = duo.near.deadline()
        assert due is not None
        duo.now = due
        duo.near.wake(due)
        if duo.near.transmit(due):
            times.append(due - start)
    gaps = [b - a for a, b in pairwise(times)]
    assert max(gaps) <= 4.0 + 1e-6
    assert gaps[-1] > 20 * gaps[0]


def test_a_write_after_a_rest_starts_gently() -> None:
    rested = pair()
    transfer(rested, 2 * 1024 * 1024)
    connection = rested.dialler.connection
    assert connection is not None
    before = connection.statistics()["cong_win"]
    rested.run(30.0, lambda: False)
    connection.write(bytes(100))
    rested.dialler.touch()
    rested.run(1.0, lambda: False)
    assert connection.statistics()["cong_win"] <= max(before // 2, 40_960)


def test_the_congestion_limit_can_be_set_for_a_path_with_a_known_buffer() -> None:
    limited = pair()
    limited.dialler.dial()
    limited.run(5.0, lambda: limited.dialler.established)
    connection = limited.dialler.connection
    assert connection is not None
    connection.congestion_limit = 60_000
    connection.write(bytes(1024 * 1024))
    limited.dialler.touch()
    most = 0
    for _ in range(200):
        limited.run(0.01, lambda: False)
        most = max(most, connection.statistics()["in_flight"])
    assert 30_000 < most <= 60_000 + 1121
    assert connection.congestion_limit == 60_000
