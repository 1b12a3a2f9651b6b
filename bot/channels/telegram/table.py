"""Tables as monospace text: Telegram has none."""

from collections.abc import Sequence

from rich.cells import cell_len

MAX_WIDTH = 200  # cells of a line; beyond, alignment helps nobody
MAX_GROWTH = 4  # how many times longer than its cells a table may become; beyond, it is nothing but blanks


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows with aligned columns, below the first a line; nothing if that would be very wide, or almost empty."""
    columns = max(map(len, rows))
    widths = [max((cell_len(row[column]) for row in rows if column < len(row)), default=0) for column in range(columns)]
    width, written = sum(widths) + 3 * columns, sum(len(cell) + 3 for row in rows for cell in row)
    if width > MAX_WIDTH or width * len(rows) > MAX_GROWTH * written:
        return ""
    head, *body = [_line(row, widths) for row in rows]
    return "\n".join([head, "-+-".join("-" * width for width in widths), *body])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return " | ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=False)).rstrip()
