"""How long a round trip takes between two nodes on loopback, measured inside the process.

A C{pilotctl ping} is a dial, an echo and a close; what a program sees on a stream that is open is
the echo alone.  Both are printed::

    python benchmarks/ping.py [--count 200]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile

from stream import Role


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    count = parser.parse_args().count
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="pilot-bench-"))
        facts = {"home": home, "size": "large", "count": count}
        server = stack.enter_context(Role("node-server", facts))
        client = stack.enter_context(Role("ping-client", {**facts, **server.facts}))
        results = client.read()
    for name, what in (("dial_and_echo", "dial and echo"), ("echo", "echo on an open stream")):
        times = sorted(seconds * 1000 for seconds in results[name])
        median, late = statistics.median(times), times[int(len(times) * 0.99)]
        print(f"{what:24} median {median:6.3f} ms, 99 % within {late:6.3f} ms")


if __name__ == "__main__":
    main()
