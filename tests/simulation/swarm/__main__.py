"""Measure the skills in simulated swarms and print the tables; see the page I{The simulator}.

Exit status 0: everything within its bar; 1: something is not, and the last lines name it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from tests.simulation.swarm.measuring import measured
from tests.simulation.swarm.table import FULL, NORMAL, QUICK
from tests.simulation.swarm.tables import PLANS


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """@return: what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.swarm", description=__doc__)
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_const", const=QUICK, dest="effort")
    effort.add_argument("--full", action="store_const", const=FULL, dest="effort")
    parser.add_argument("--sizes", default="10,100,1000,10000", help="nodes, comma-separated")
    parser.add_argument("--cases", default=",".join(PLANS), help="tables, comma-separated")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.set_defaults(effort=NORMAL)
    options = parser.parse_args(arguments)
    try:
        options.sizes = [int(size) for size in options.sizes.split(",")]
    except ValueError:
        parser.error(f"--sizes {options.sizes} is no list of numbers")
    options.cases = options.cases.split(",")
    unknown = set(options.cases) - set(PLANS)
    if unknown:
        parser.error(f"no such table: {', '.join(sorted(unknown))}; there are {', '.join(PLANS)}")
    return options


def main(arguments: Sequence[str]) -> int:
    """@return: the exit status."""
    options = parse(arguments)
    plans = [PLANS[name](options.sizes, options.effort, options.seed) for name in options.cases]
    start = time.monotonic()
    missed: list[str] = []
    for table in measured(plans, options.jobs):
        print(table, flush=True)
        missed += table.missed
    print(f"seed {options.seed}, {time.monotonic() - start:.0f} s on {options.jobs} processes")
    for line in missed:
        print(f"MISSED: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
