"""What the process takes of the machine, under the names that Prometheus's own clients use."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from pilot.exposition import Family, one


def process_figures() -> list[Family]:
    """@return: processor time, and where the system tells: memory, open files, start."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found = [
        one(
            "process_cpu_seconds_total",
            "counter",
            round(usage.ru_utime + usage.ru_stime, 6),
            "Processor time of the process.",
        )
    ]
    try:
        found += _from_proc(Path("/proc"))
    except (OSError, ValueError, IndexError):  # another system than Linux
        return found
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    found.append(one("process_max_fds", "gauge", limit, "How many files it may have open."))
    return found


def _from_proc(proc: Path) -> list[Family]:
    # The second field is the program's name in parentheses, and may hold anything.
    fields = (proc / "self" / "stat").read_text("utf-8").rpartition(")")[2].split()
    pages = (proc / "self" / "statm").read_text("ascii").split()
    files = len(os.listdir(proc / "self" / "fd")) - 1  # one is that of the look itself
    booted = next(
        int(line.split()[1])
        for line in (proc / "stat").read_text("ascii").splitlines()
        if line.startswith("btime ")
    )
    page, ticks = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    return [
        one("process_resident_memory_bytes", "gauge", int(pages[1]) * page, "Memory in use."),
        one("process_virtual_memory_bytes", "gauge", int(pages[0]) * page, "Memory mapped."),
        one("process_open_fds", "gauge", files, "Open files."),
        one(
            "process_start_time_seconds",
            "gauge",
            booted + int(fields[19]) / ticks,
            "When it started, in seconds since 1970.",
        ),
    ]
