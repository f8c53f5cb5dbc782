"""Stores mail and dies, like by C{kill -9}, right before the n-th time it touches the disk.

C{python crashingstore.py HOME N} says C{stored ...} for everything that it was told is stored.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pilot.services.mailstore import MailLimits, MailStore, Message

NOON = 1_795_190_436_544_900_000


def main() -> None:
    """See the module."""
    home, left = Path(sys.argv[1]), int(sys.argv[2])

    def dying(function: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(9)
            return function(*args, **kwargs)

        return wrapper

    for name in ("mkdir", "open", "fsync", "link", "unlink"):
        setattr(os, name, dying(getattr(os, name)))
    store = MailStore(home, MailLimits())
    store.prepare()
    for batch in (["one"], ["two", "three"]):
        messages = [Message("TEXT", text.encode(), "0:0000.0000.0001", NOON, 0) for text in batch]
        stored = store.deliver(messages)
        assert all(isinstance(outcome, Path) for outcome in stored), stored
        print("\n".join(f"stored {text}" for text in batch), flush=True)
    large = store.message("JSON", "0:0000.0000.0001")
    large.open(100_000)
    large.write([b"x" * 50_000] * 2)
    large.finish(NOON, 0)
    print("stored " + "x" * 100_000, flush=True)
    file = store.file(b"file.bin")
    file.open(100_000)
    file.write([b"y" * 50_000] * 2)
    file.finish(NOON)
    print("stored " + "y" * 100_000, flush=True)


if __name__ == "__main__":
    main()
