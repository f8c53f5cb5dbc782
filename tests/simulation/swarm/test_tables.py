"""The tables: they are printed, and they fail when something is beyond its bar."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.simulation.swarm import __main__ as program
from tests.simulation.swarm import figures, table, tables
from tests.simulation.swarm.healing import Healing
from tests.simulation.swarm.spread import Spread


def plan(name: str, *sizes: int) -> table.Plan:
    """@return: a plan of few jobs."""
    return tables.PLANS[name](sizes or [10], table.QUICK, 1)


def test_every_table_has_jobs_and_a_reader() -> None:
    """No plan is empty at normal effort, and every job can travel to another process."""
    for name, make in tables.PLANS.items():
        assert make([10, 100, 1_000], table.NORMAL, 1).jobs, name


def test_figures_met_miss_nothing() -> None:
    """The figures themselves lie within the bars."""
    streams = plan("streams")
    judged = streams.judge([[Spread(0.2, 0.7, 0.7, 2.6)] * 9] * len(streams.jobs))
    assert judged.missed == [] and str(judged).count("| ok |") == len(streams.jobs)


def test_slow_swarms_are_named() -> None:
    """Each bar that is missed, with its letter."""
    streams = plan("streams")
    judged = streams.judge([[Spread(2.5, 11.0, 12.5, 3.6)] * 9] * len(streams.jobs))
    assert len([line for line in judged.missed if line.startswith("(a)")]) == 2 * len(streams.jobs)
    assert sum(line.startswith("(b)") for line in judged.missed) == len(streams.jobs)
    assert sum(line.startswith("time,") for line in judged.missed) == len(streams.jobs)


def test_more_rounds_than_one_over_are_missed() -> None:
    """Bar (c)."""
    found = plan("rounds")
    means = [one[0] for (size, _), row in figures.ROUNDS.items() if size == 10 for one in row]
    assert found.judge([[round(mean)] * 3 for mean in means]).missed == []
    slow = found.judge([[round(mean) + 2] * 3 for mean in means])
    assert len(slow.missed) == len(means) and slow.missed[0].startswith("(c)")


def test_idle_bytes_and_healing_have_their_bars() -> None:
    """Bars (d) and (g); a single lost write is one too many."""
    quiet = plan("idle")
    assert len(quiet.judge([1_025.0] * len(quiet.jobs)).missed) == len(quiet.jobs)
    heal = plan("healing")
    assert heal.judge([Healing(3.0, 0, 0)] * len(heal.jobs)).missed == []
    assert heal.judge([Healing(3.0, 1, 0)] * len(heal.jobs)).missed != []
    assert heal.judge([Healing(36.0, 0, 0)] * len(heal.jobs)).missed != []


def test_percentiles_are_values_that_occurred() -> None:
    """Nearest rank."""
    assert table.percentile([3, 1, 2], 0.99) == 3
    assert table.percentile(list(range(1, 101)), 0.99) == 99


def test_the_program_prints_and_says_how_it_went() -> None:
    """The cheapest table, run as people run it."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.simulation.swarm", "--cases", "seed", "--jobs", "1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "| equal versions | 1.0% | 1.0 % | 100 |" in found.stdout


def test_missed_bars_are_named_again_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the exit status says that there are some."""
    bad = table.Table("title", ("a", "b"), [("1", "2")], ["(x) far beyond"])
    monkeypatch.setattr(program, "measured", lambda plans, processes: iter([bad]))
    assert program.main(["--cases", "seed"]) == 1
    assert capsys.readouterr().out.endswith("MISSED: (x) far beyond\n")


def test_unknown_tables_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the names of those that exist."""
    with pytest.raises(SystemExit):
        program.main(["--cases", "nonsense"])
    assert "no such table: nonsense" in capsys.readouterr().err
