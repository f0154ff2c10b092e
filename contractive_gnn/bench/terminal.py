"""A grid on a terminal: one table, or several narrower ones, each with the models at its left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contractive_gnn.bench.grid import ABSENT, Column, Grid

#: characters between two columns
_PADDING: Final = 3
#: characters of a mean with its standard deviation, the least width of a column
_NUMBER: Final = 10


def show(grid: Grid, console: Console) -> None:
    """Print it, the worst columns first."""
    names = [row.label for row in grid.rows]
    first = _PADDING + max(map(len, ["model", *names]))
    for columns in _blocks(grid, console.width - first):
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("model", overflow="fold")
        for index in columns:
            table.add_column(_head(grid.columns[index]), justify="right", overflow="fold")
        shown = [row for row in grid.rows if not row.source or any(row.cells[i].text != ABSENT for i in columns)]
        for row, following in zip(shown, [*shown[1:], None], strict=True):
            cells = [
                Text(_lines(row.cells[i].text, row.cells[i].why), style="bold" if row.cells[i].best else "")
                for i in columns
            ]
            ends = following is not None and bool(following.source) and not row.source
            table.add_row(Text(row.label), *cells, style="italic dim" if row.source else "", end_section=ends)
        console.print(table)


def _blocks(grid: Grid, width: int) -> Iterator[list[int]]:
    """The columns of each table, as many as fit."""
    block: list[int] = []
    left = width
    for index, column in enumerate(grid.columns):
        texts = [_head(column), *(_lines(row.cells[index].text, row.cells[index].why) for row in grid.rows)]
        needed = _PADDING + max(len(line) for text in texts for line in text.split("\n"))
        if block and needed > left:
            yield block
            block, left = [], width
        block.append(index)
        left -= needed
    if block:
        yield block


def _head(column: Column) -> str:
    """The name and the detail under one another; a long name broken at a blank, or behind its hyphen."""
    name, blank, budget = column.name.partition(" ")
    broken = blank and len(column.name) > _NUMBER
    lines = [*_hyphenated(name), budget] if broken else _hyphenated(column.name)
    details = column.detail.split(", ") if column.detail else []
    return "\n".join([*lines, *details])


def _lines(text: str, why: str) -> str:
    """A number, and under it what is in brackets."""
    if not why:
        return text
    if len(why) <= _NUMBER:
        return f"{text}\n({why})"
    name, blank, budget = why.partition(" ")
    lines = [*_hyphenated(name), *([budget] if blank else [])]
    return "\n".join([text, *(("(" if i == 0 else "") + line for i, line in enumerate(lines))]) + ")"


def _hyphenated(name: str) -> list[str]:
    first, hyphen, rest = name.partition("-")
    return [first + hyphen, rest] if hyphen and " " not in name and len(name) > _NUMBER else [name]
