"""How the parser reads tables: as the library does, but with no more cells than were written.

The library makes a cell of every gap. A head of 500 columns above 370 rows of one cell is 4,000 characters and 66,000 cells, which
took a second for every preview.
"""

from collections.abc import Sequence
from typing import Any, Final

from markdown_it.rules_block import StateBlock, table
from markdown_it.rules_block.table import escapedSplit, getLine

_HEAD_LINES: Final = 2  # the names of the columns, and the dashes below


def table_rule(state: StateBlock, first: int, last: int, silent: bool) -> bool:  # noqa: FBT001 - how the parser calls its rules
    """Push `table_open`, for each row `tr_open` and an `inline` for each of its cells, and `table_close`."""
    if not table(state, first, last, True):  # silently: whether one begins here
        return False
    if not silent:
        state.line = _push_table(state, first, last)
    return True


def _push_table(state: StateBlock, first: int, last: int) -> int:
    """Return the line behind the table."""
    opened = state.push("table_open", "table", 1)
    head = _cells(state, first)
    _push_row(state, head)
    line, parent = first + _HEAD_LINES, state.parentType
    state.parentType = "table"
    endings = state.md.block.ruler.getRules("blockquote")  # a table ends where a quote ends
    while line < last and _goes_on(state, line, last, endings):
        _push_row(state, _cells(state, line)[: len(head)])
        line += 1
    state.parentType = parent
    opened.map = [first, line]
    state.push("table_close", "table", -1)
    return line


def _goes_on(state: StateBlock, line: int, last: int, endings: Sequence[Any]) -> bool:
    is_outside = state.sCount[line] < state.blkIndent or state.isEmpty(line) or state.is_code_block(line)
    return not is_outside and not any(ends(state, line, last, True) for ends in endings)


def _push_row(state: StateBlock, cells: Sequence[str]) -> None:
    state.push("tr_open", "tr", 1)
    for cell in cells:
        token = state.push("inline", "", 0)
        token.content = cell.strip()
        token.children = []
    state.push("tr_close", "tr", -1)


def _cells(state: StateBlock, line: int) -> list[str]:
    """Return what stands between the bars; those at both ends may be missing."""
    cells = escapedSplit(getLine(state, line).strip())
    outer = slice(int(cells[0] == ""), len(cells) - (len(cells) > 1 and cells[-1] == ""))
    return cells[outer]
