"""What the manhole prints: aligned tables that are still lists, and views of live objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pilot.plaintext import printable

#: Rows of a table that are printed; a slice of it shows the others.
MAX_ROWS = 100

#: Characters of one cell that are printed.
MAX_CELL = 60


class Table(list[dict[str, Any]]):
    """
    A list of dicts that prints as a table.

    @ivar columns: which members are printed, and in which order.
    @ivar empty: what is printed when there is no row.
    """

    def __init__(
        self,
        rows: Iterable[dict[str, Any]],
        columns: Sequence[str],
        empty: str = "none",
    ) -> None:
        super().__init__(rows)
        self.columns = tuple(columns)
        self.empty = empty

    def __repr__(self) -> str:
        if not self:
            return f"({self.empty})"
        shown = [[cell(row.get(column)) for column in self.columns] for row in self[:MAX_ROWS]]
        numeric = [
            all(isinstance(row.get(column), int | float) for row in self[:MAX_ROWS])
            for column in self.columns
        ]
        titles = [column.upper().replace("_", " ") for column in self.columns]
        lines = aligned([titles, *shown], numeric)
        if len(self) > MAX_ROWS:
            lines.append(f"... and {len(self) - MAX_ROWS} more rows; take a slice to see them")
        return "\n".join(lines)

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return Table(found, self.columns, self.empty) if isinstance(index, slice) else found


class View:
    """
    A live object under a repr for people.  Every attribute is that of the object itself, which is
    C{self.live}, so a view can be called and changed as if it were the object.
    """

    def __init__(self, live: Any, show: Callable[[], str], about: str) -> None:
        """
        @param show: what to print.
        @param about: the docstring.
        """
        self.__dict__.update(live=live, _show=show, __doc__=about)

    def __repr__(self) -> str:
        return str(self._show())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.live, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.live, name, value)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self.live), "live"})


class Absent:
    """Stands for a part that this daemon does not run; says so, and has nothing."""

    def __init__(self, why: str, about: str) -> None:
        self._why = why
        self.__doc__ = about

    def __repr__(self) -> str:
        return f"({self._why})"

    def __bool__(self) -> bool:
        return False


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """@return: lines with two blanks between the columns; those of C{right} end flush."""
    sizes = [max(len(row[at]) for row in rows) for at in range(len(right))]
    lines = []
    for row in rows:
        cells = (
            text.rjust(size) if flush else text.ljust(size)
            for text, size, flush in zip(row, sizes, right, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return lines


def counted(counters: dict[str, Any]) -> str:
    """@return: counters on one line, those that are not 0."""
    shown = ", ".join(f"{name} {value}" for name, value in counters.items() if value)
    return printable(shown) or "nothing counted yet"


def cell(value: Any) -> str:
    """@return: a value as a cell shows it; other people's text without control characters."""
    if value is None or value == "":
        text = "-"
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, list | tuple):
        text = ", ".join(map(str, value)) or "-"
    else:
        text = str(value)
    text = printable(text)
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 3] + "..."
