"""Numbers as Prometheus reads them: its text format, version 0.0.4, and nothing else.

@see: U{https://prometheus.io/docs/instrumenting/exposition_formats/}.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "histogram", "untyped"]


class Sample(NamedTuple):
    """
    One number.

    @ivar labels: names and values, in the order in which they are shown.
    @ivar suffix: behind the family's name; histograms have some.
    """

    value: float
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


class Family(NamedTuple):
    """
    All numbers of one name.

    @ivar name: C{pilot_...}; that of a counter ends in C{_total}.
    @ivar help: one line, or C{""}.
    """

    name: str
    kind: Kind
    help: str
    samples: tuple[Sample, ...]


def one(name: str, kind: Kind, value: float, help: str = "") -> Family:
    """@return: a family of a single number."""
    return Family(name, kind, help, (Sample(value),))


def by_label(
    name: str, kind: Kind, label: str, values: Mapping[str, float], help: str = ""
) -> Family:
    """@return: a family of a number for each value of one label, in their order."""
    samples = (Sample(value, ((label, key),)) for key, value in sorted(values.items()))
    return Family(name, kind, help, tuple(samples))


def exposition(families: Iterable[Family]) -> str:
    """@return: the whole page."""
    lines: list[str] = []
    for family in families:
        if family.help:
            lines.append(f"# HELP {family.name} {_escaped(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for sample in family.samples:
            name = family.name + sample.suffix
            lines.append(f"{name}{labels_text(sample)} {number_text(sample.value)}")
    return "\n".join(lines) + "\n"


def labels_text(sample: Sample) -> str:
    """@return: C{{name="value",...}}, or nothing when there are no labels."""
    shown = ",".join(f'{name}="{_quoted(value)}"' for name, value in sample.labels)
    return f"{{{shown}}}" if shown else ""


def number_text(value: float) -> str:
    """@return: a number as the format writes it."""
    if isinstance(value, int):
        return str(int(value))
    if math.isfinite(value):
        return repr(value).removesuffix(".0")
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")
