"""Tables that users write: CSV and TSV files whose header and rows are checked."""

from collections.abc import Iterable, Sequence
from typing import Any


def check_header(header: Sequence[str], path: Any, columns: Sequence[str], lacks: str) -> None:
    """Refuse a table's header that has other columns than there are, or one twice; or that lacks what is said."""
    problem = ""
    unknown = [name for name in header if name not in columns]
    if lacks:
        problem = f"the columns {', '.join(header) or 'of nothing'}; it needs {lacks}"
    elif unknown:
        problem = f"the column {unknown[0]!r}; possible are {', '.join(columns)}"
    elif len({*header}) < len(header):
        problem = "a column twice; keep one of them"
    if problem:
        raise ValueError(f"{path} has {problem}.")


def named_cells(row: Sequence[str], header: Sequence[str], where: str) -> Iterable[tuple[str, str]]:
    """Give the cells of a row that are not empty, each with the name of its column."""
    if len(row) > len(header):
        cure = 'put what holds a comma or a tab in "quotes"'
        raise ValueError(f"{where} has {len(row)} cells for {len(header)} columns; {cure}.")
    return ((name, cell.strip()) for name, cell in zip(header, row, strict=False) if cell.strip())
