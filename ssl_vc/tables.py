"""CSV and TSV tables: validation of those that users write, and formatting for spreadsheets."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FORMULA = re.compile(r"\s*[=+\-@]|[\t\r\n]")  # how a cell begins that a spreadsheet may calculate
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)


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


def format_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as CSV for spreadsheets: text that they would take for a formula begins with an apostrophe.

    Args:
        columns: in order; what else a row has is left out, and what it lacks is empty.
        rows: a cell by the name of its column.
    """
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([_plain(row.get(name)) for name in columns] for row in rows)
    return file.getvalue()


def _plain(cell: Any) -> Any:
    formula = isinstance(cell, str) and FORMULA.match(cell) and not NUMBER.fullmatch(cell)
    return f"'{cell}" if formula else cell
