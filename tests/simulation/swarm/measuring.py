"""Measurements in processes of their own; they find their functions here, not in a program."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from typing import Any

from tests.simulation.swarm.table import Job, Plan, Table

#: The number of a table and of a job in it.
_Place = tuple[int, int]


def _run(task: tuple[_Place, Job]) -> tuple[_Place, Any]:
    place, job = task
    return place, job.run()


def measured(plans: Sequence[Plan], processes: int) -> Iterator[Table]:
    """
    Measure everything, long jobs first.

    @return: each table, as soon as it is complete.
    """
    tasks = [
        ((number, at), job) for number, plan in enumerate(plans) for at, job in enumerate(plan.jobs)
    ]
    tasks.sort(key=lambda task: -task[1].weight)
    missing = [len(plan.jobs) for plan in plans]
    results: dict[_Place, Any] = {}
    with get_context("spawn").Pool(processes, maxtasksperchild=8) as pool:
        for place, result in pool.imap_unordered(_run, tasks):
            results[place] = result
            number = place[0]
            missing[number] -= 1
            if sys.stderr.isatty():
                print(f"{len(results)} of {len(tasks)} measured", end="\r", file=sys.stderr)
            if not missing[number]:
                plan = plans[number]
                yield plan.judge([results[number, at] for at in range(len(plan.jobs))])
