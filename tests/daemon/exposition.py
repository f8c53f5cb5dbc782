"""A strict reader of Prometheus's text format, for tests."""

from __future__ import annotations

import re

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
_HELP = re.compile(rf"# HELP ({_NAME}) (.+)")
_TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge|histogram|untyped)")
_SAMPLE = re.compile(rf"({_NAME})(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (\S+)")

#: A sample: its name and its labels.
Series = tuple[str, tuple[tuple[str, str], ...]]


def read_exposition(text: str) -> dict[Series, float]:
    """
    @return: the value of each sample.
    @raise AssertionError: the text is not as the format, or good manners, want it.
    """
    assert text.endswith("\n")
    values: dict[Series, float] = {}
    kinds: dict[str, str] = {}
    family = helped = ""
    for line in text[:-1].split("\n"):
        if found := _HELP.fullmatch(line):
            helped = found[1]
            assert helped not in kinds, f"{helped} comes in two pieces"
        elif found := _TYPE.fullmatch(line):
            family = found[1]
            assert helped in ("", family), f"the help of {helped} stands alone"
            assert family not in kinds, f"{family} comes in two pieces"
            kinds[family], helped = found[2], ""
            assert (found[2] == "counter") == family.endswith("_total"), line
        else:
            found = _SAMPLE.fullmatch(line)
            assert found, f"no line of the format: {line!r}"
            assert kinds.get(family) == "histogram" or found[1] == family, line
            assert found[1].startswith(family)
            series = found[1], tuple(re.findall(_LABEL, found[2] or ""))
            assert series not in values, f"{series} twice"
            names = [name for name, _ in series[1]]
            assert len(set(names)) == len(names), line
            values[series] = float(found[len(found.groups())])
            assert kinds[family] != "counter" or values[series] >= 0
    return values
