"""The golden vectors: what the reference put on the wire, recorded once and never changed."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_VECTORS = Path(__file__).parent / "vectors"


@cache
def golden(name: str) -> Any:
    """@return: the content of C{tests/vectors/<name>.json}; shared, so not to be changed."""
    return json.loads((_VECTORS / f"{name}.json").read_text(encoding="utf-8"))
