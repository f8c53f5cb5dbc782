"""The figures that measurements are held against, and the bars.

The figures come from a model of the protocols that was made before them; the bars are what was
promised.
"""

from __future__ import annotations

LOSSES = (0.0, 0.1, 0.3)

#: Rounds until all know one update, push-pull: mean, 99th percentile, maximum at each loss.
ROUNDS: dict[tuple[int, int], tuple[tuple[float, int, int], ...]] = {
    (10, 1): ((3.5, 5, 6), (4.2, 7, 10), (6.9, 12, 19)),
    (10, 2): ((2.4, 3, 4), (2.8, 4, 5), (4.2, 7, 11)),
    (10, 3): ((2.0, 3, 3), (2.2, 3, 4), (3.2, 5, 6)),
    (100, 1): ((6.5, 8, 8), (8.1, 11, 13), (13.8, 20, 24)),
    (100, 2): ((4.5, 5, 6), (5.3, 7, 8), (8.1, 11, 13)),
    (100, 3): ((3.9, 4, 5), (4.2, 5, 6), (6.2, 8, 10)),
    (1_000, 1): ((9.1, 10, 11), (11.6, 14, 16), (20.0, 25, 32)),
    (1_000, 2): ((6.2, 7, 7), (7.4, 9, 10), (11.7, 15, 16)),
    (1_000, 3): ((5.1, 6, 6), (6.0, 7, 8), (8.8, 11, 12)),
    (10_000, 1): ((11.6, 13, 13), (15.1, 18, 19), (26.1, 31, 36)),
    (10_000, 2): ((8.0, 9, 9), (9.6, 11, 12), (15.1, 18, 20)),
    (10_000, 3): ((6.7, 7, 7), (7.7, 8, 9), (11.4, 13, 15)),
}

#: Rounds on sparse trust graphs of 1,000 nodes, fanout 3: mean at each loss.
SPARSE: dict[str, tuple[float, float, float]] = {
    "4-regular": (8.1, 9.0, 12.6),
    "8-regular": (6.1, 7.0, 10.0),
    "star": (2.0, 6.4, 15.2),
}

#: Seconds on streams: until 50, 99, 100 % know (means), and the 99th percentile of the last.
STREAMS: dict[int, tuple[tuple[float, float, float, float], ...]] = {
    10: ((0.2, 0.7, 0.7, 3.6), (0.2, 0.8, 0.8, 3.5), (0.3, 1.1, 1.1, 4.1)),
    100: ((0.5, 2.1, 3.0, 5.5), (0.6, 2.5, 3.4, 5.8), (0.8, 3.0, 4.0, 6.5)),
    1_000: ((0.8, 2.9, 5.1, 6.3), (0.9, 3.2, 5.4, 7.2), (1.2, 3.9, 6.2, 8.6)),
    10_000: ((1.1, 3.3, 6.5, 8.9), (1.2, 3.5, 6.8, 9.2), (1.6, 4.4, 8.1, 10.5)),
}

#: Seconds on raw legs until all know: mean, 99th percentile.
RAW: dict[int, tuple[tuple[float, float], ...]] = {
    10: ((0.7, 3.2), (1.0, 4.8), (2.9, 13.0)),
    100: ((3.0, 5.5), (4.4, 8.8), (11.0, 23.0)),
    1_000: ((5.1, 6.8), (7.5, 11.0), (18.0, 33.0)),
    10_000: ((6.1, 6.6), (10.0, 12.0), (25.0, 34.0)),
}

#: Seconds until all know with the loop of the original page, on streams, and its payload copies.
SEED_LOOP: dict[int, tuple[tuple[float, float, float], float]] = {
    10: ((7.7, 7.8, 8.2), 2.4),
    100: ((17.2, 17.6, 18.1), 5.1),
    1_000: ((25.0, 25.3, 26.5), 7.5),
    10_000: ((34.5, 34.4, 34.7), 10.2),
}

#: Bar (a): seconds within which all know in 99 of 100 cases, at each loss, and the median node.
ALL_KNOW, MEDIAN_KNOWS = (10.0, 10.0, 12.0), 2.0
#: Bar (b): payload copies per node and update.
COPIES = 3.5
#: Bar (d): bytes per node and round when quiet.
IDLE_BYTES = 1_024
#: Bar (g): seconds to heal, at worst and typically.
HEAL_WORST, HEAL_TYPICAL = 35.0, 7.0
