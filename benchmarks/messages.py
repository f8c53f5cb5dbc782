"""How fast messages and files are stored at another node, beside what one would use instead.

Two daemons and their rendezvous on loopback, each a process of its own, all files below one
temporary directory.  "Stored" means synced to the disk, content and name, by whatever is measured:

* messages: over one connection with many under way, over one connection one at a time, with one
  C{pilotctl send-message} each; beside them one thread that writes files of that size one by one,
  and the bare start of a Python process;
* a large file: C{pilotctl send-file}, from the start of the process to its end; beside it C{cp} and
  C{sync} of the file, and a Twisted TLS sender and receiver that writes and syncs it.

They run in turn within one call, so that the ratios hold on a noisy machine.  No further round
begins that would not be over within the time given::

    python benchmarks/messages.py [--megabytes 256] [--rounds 3] [--seconds 60]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream import show

from pilot.address import PORT_DATA_EXCHANGE, Address
from pilot.client.blocking import DaemonClient, Stream
from pilot.crypto.files import write_atomically
from pilot.wire.dataexchange import Body, Frame, FrameReader, FrameType, Reply

#: Bytes of a message; messages under way at most; messages of one measurement at most (an inbox
#: takes 10,000); seconds of one measurement.
SIZE, WINDOW, MOST, SECONDS = 100, 256, 8000, 1.0
#: Processes started one after another for one measurement.
CALLS = 10
#: Seconds that anything may take.
PATIENCE = 60.0

PILOTCTL = str(Path(sys.executable).parent / "pilotctl")

MESSAGES = {
    "pipelined": f"one connection, {WINDOW} under way",
    "single": "one connection, one at a time",
    "written": "no network: files written one by one",
    "called": "one pilotctl send-message each",
    "started": "no network: one python -c pass each",
}
FILES = {
    "sent": "pilotctl send-file",
    "tls": "Twisted TLS, written and synced",
    "copied": "cp and sync",
}


def main() -> int:
    """Run the measurements, or one role of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="for everything together")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--facts", type=json.loads, default={}, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        import messages_roles

        messages_roles.play(options.role, options.facts)
        return 0
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, give_up)
    signal.alarm(max(1, int(3 * options.seconds)))  # whatever hangs
    report(measure_all(options.megabytes << 20, options.rounds, options.seconds), options.megabytes)
    return 0


def give_up(number: int, _: object) -> None:
    """End in order, so that no process and no file is left behind."""
    raise SystemExit(f"ended by {signal.Signals(number).name}")


def measure_all(size: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """@return: of each measurement its rates, one a round: messages, or bytes, a second."""
    began = time.monotonic()
    results: dict[str, list[float]] = {name: [] for name in (*MESSAGES, *FILES)}
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pilot-bench-")))
        pair = Pair(stack, home)
        file = make_file(home / "original.bin", size)
        receiver = stack.enter_context(Part("tls-receiver", {"path": str(home / "streamed.bin")}))
        todo: dict[str, Callable[[], float]] = {
            "pipelined": lambda: over_one_connection(pair, WINDOW),
            "single": lambda: over_one_connection(pair, 1),
            "written": lambda: written(home / "written"),
            "called": lambda: called(pair),
            "started": started,
            "sent": lambda: sent(pair, file),
            "tls": lambda: streamed(file, receiver.facts["port"]),
            "copied": lambda: copied(file, home / "copied.bin"),
        }
        first = time.monotonic()
        for number in range(rounds):
            now = time.monotonic()
            if number and now + (now - first) / number > began + seconds:
                break
            for name, measure in todo.items():
                show(f"round {number + 1} of {rounds}: {MESSAGES.get(name) or FILES[name]}")
                results[name].append(measure())
                tidy(home)
    show("")
    return results


def make_file(path: Path, size: int) -> Path:
    """A file of random bytes, as nothing on the way compresses, synced."""
    with path.open("wb") as file:
        for at in range(0, size, 1 << 20):
            file.write(os.urandom(min(1 << 20, size - at)))
        file.flush()
        os.fsync(file.fileno())
    return path


def tidy(home: Path) -> None:
    """Remove what a measurement has stored, so that the next one finds the same disk."""
    for directory in (home / "far" / "inbox", home / "far" / "received", home / "written"):
        if directory.exists():
            for path in directory.iterdir():
                path.unlink()
    for name in ("streamed.bin", "copied.bin"):
        (home / name).unlink(missing_ok=True)
    os.sync()


# -- processes ---------------------------------------------------------------------------------


class Part:
    """A process of this script that plays a role; it tells its facts, one JSON line, when ready."""

    def __init__(
        self, role: str, facts: dict[str, Any], environment: dict[str, str] | None = None
    ) -> None:
        self._role = role
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--role", role, "--facts", json.dumps(facts)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # ctrl-C is for us, who stop it in order
            text=True,
        )
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> Part:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise SystemExit(f"{self._role} ended without a word")
        self.facts = json.loads(line)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Pair:
    """
    Two daemons; programs sit at the near one, what they send is stored at the far one.

    @ivar target: the far one's address.
    @ivar environment: for programs at the near one.
    @ivar socket: control socket of the near one.
    """

    def __init__(self, stack: contextlib.ExitStack, home: Path) -> None:
        around = stack.enter_context(Part("rendezvous", {})).facts
        far = self._start(stack, home / "far", around)
        near = self._start(stack, home / "near", around)
        self.target = Address.parse(far.facts["address"])
        self.environment = near.environment
        self.socket = near.environment["PILOT_SOCKET"]

    @staticmethod
    def _start(stack: contextlib.ExitStack, home: Path, around: dict[str, str]) -> Daemon:
        return stack.enter_context(Daemon(home, around))


class Daemon(Part):
    """
    A daemon with a home of its own.

    @ivar environment: what it and its programs get.
    """

    def __init__(self, home: Path, around: dict[str, str]) -> None:
        home.mkdir(mode=0o700)
        kept = {name: text for name, text in os.environ.items() if not name.startswith("PILOT_")}
        self.environment = {
            **kept,
            "PILOT_HOME": str(home),
            "PILOT_SOCKET": str(home / "pilot.sock"),
            "PILOT_REGISTRY": around["registry"],
            "PILOT_BEACON": around["beacon"],
        }
        super().__init__("daemon", {"name": home.name}, self.environment)


# -- messages ----------------------------------------------------------------------------------


class Answers:
    """Reads the answers on a stream, and takes no refusal."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._reader = FrameReader()
        self._content = b""

    def receive(self) -> int:
        """Wait for some.  @return: how many."""
        piece = self._stream.receive(PATIENCE)
        if not piece:
            raise SystemExit("the receiver ended the connection")
        self._reader.feed(piece)
        count = 0
        while (item := self._reader.next()) is not None:
            if not isinstance(item, Body):
                continue
            self._content += item.data
            if item.last:
                reply, self._content = Reply.parse(self._content), b""
                if not reply.ok:
                    raise SystemExit(f"a message was refused: {reply.text}")
                count += 1
        return count


def over_one_connection(pair: Pair, window: int) -> float:
    """@return: confirmed messages a second with at most C{window} of them under way."""
    frame = Frame(FrameType.TEXT, b"x" * SIZE).encode()
    with DaemonClient(pair.socket) as client:
        client.hello()
        stream = client.dial(pair.target, PORT_DATA_EXCHANGE, timeout=PATIENCE)
        answers = Answers(stream)
        begun, confirmed = 0, 0
        began = time.perf_counter()
        while confirmed < begun or not begun:
            room = min(window - (begun - confirmed), MOST - begun)
            if room and time.perf_counter() - began < SECONDS:
                stream.queue(frame * room)
                begun += room
            confirmed += answers.receive()
        rate = confirmed / (time.perf_counter() - began)
        stream.close()
    return rate


def written(directory: Path) -> float:
    """@return: files a second that one thread writes, each synced with its name."""
    directory.mkdir(exist_ok=True)
    content, count = b"x" * SIZE, 0
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < SECONDS:
        write_atomically(directory / f"{count}.json", content)
        count += 1
    return count / (now - began)


def called(pair: Pair) -> float:
    """@return: confirmed messages a second, each sent by a process of its own."""
    words = ["--json", "send-message", str(pair.target), "--data", "x" * SIZE]
    return timed([PILOTCTL, *words], pair.environment, CALLS)


def started() -> float:
    """@return: Python processes a second that do nothing."""
    return timed([sys.executable, "-c", "pass"], None, CALLS)


def timed(command: list[str], environment: dict[str, str] | None, count: int) -> float:
    """Run a command one time after another.  @return: runs a second."""
    began = time.perf_counter()
    for _ in range(count):
        subprocess.run(
            command,
            env=environment,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
    return count / (time.perf_counter() - began)


# -- files -------------------------------------------------------------------------------------


def sent(pair: Pair, file: Path) -> float:
    """@return: bytes a second."""
    command = [PILOTCTL, "--json", "send-file", str(pair.target), str(file)]
    return file.stat().st_size * timed(command, pair.environment, 1)


def streamed(file: Path, port: int) -> float:
    """@return: bytes a second, without the start of the sending process."""
    with Part("tls-sender", {"port": port, "path": str(file)}) as sender:
        return float(file.stat().st_size / sender.facts["seconds"])


def copied(file: Path, target: Path) -> float:
    """@return: bytes a second."""
    command = ["sh", "-c", 'cp "$1" "$2" && sync "$2" "$3"', "sh", file, target, target.parent]
    return file.stat().st_size * timed([str(word) for word in command], None, 1)


# -- reporting ---------------------------------------------------------------------------------


def report(results: dict[str, list[float]], megabytes: int) -> None:
    """Two tables of medians, with the ratios within a round to what stands beside ours."""
    rounds = len(results["sent"])
    print(f"two daemons on loopback, {os.cpu_count()} cores, median of {rounds}")
    table(
        f"messages of {SIZE} bytes, a second",
        results,
        MESSAGES,
        {"written": "of writing", "started": "of starting"},
    )
    speeds = {name: [rate / 1e6 for rate in results[name]] for name in FILES}
    table(
        f"a file of {megabytes} MiB, MB/s",
        speeds,
        FILES,
        {"tls": "of TLS", "copied": "of cp"},
    )


def table(
    title: str, results: dict[str, list[float]], names: dict[str, str], beside: dict[str, str]
) -> None:
    """@param beside: what the ratios are to, and the heads of their columns."""
    print(f"\n{title:40} {'median':>9}" + "".join(f" {head:>11}" for head in beside.values()))
    for name, text in names.items():
        cells = [f"{statistics.median(results[name]):9,.1f}"]
        for other in beside:
            ratios = [a / b for a, b in zip(results[name], results[other], strict=True)]
            cells.append(f"{statistics.median(ratios):11.2f}")
        print(f"{text:40} {' '.join(cells)}")


if __name__ == "__main__":
    sys.exit(main())
