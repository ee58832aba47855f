"""Validation of CSV and TSV tables that users write."""

from collections.abc import Iterable, Sequence
from typing import Any


def check_header(header: Sequence[str], path: Any, columns: Sequence[str], missing: str) -> None:
    """Raise ValueError for a header with unknown or duplicate columns, or where `missing` names required ones."""
    problem = ""
    unknown = [name for name in header if name not in columns]
    if missing:
        columns_found = f"the columns {', '.join(header)}" if header else "no columns"
        problem = f"{columns_found}; it needs {missing}"
    elif unknown:
        problem = f"the column {unknown[0]!r}; possible are {', '.join(columns)}"
    elif len({*header}) < len(header):
        problem = "a column twice; keep one of them"
    if problem:
        raise ValueError(f"{path} has {problem}.")


def named_cells(row: Sequence[str], header: Sequence[str], where: str) -> Iterable[tuple[str, str]]:
    """Return (column, value) of the cells of a row that are not empty."""
    if len(row) > len(header):
        remedy = 'put values with a comma or a tab in "quotes"'
        raise ValueError(f"{where} has {len(row)} cells for {len(header)} columns; {remedy}.")
    return ((name, cell.strip()) for name, cell in zip(header, row, strict=False) if cell.strip())
