"""Results as files: `results.json` (everything), `pairs.csv`, `table.md` and `index.html`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ssl_vc.audio import SAMPLE_RATE, read
from ssl_vc.evaluate.pairs import TestSet
from ssl_vc.evaluate.report import render_report
from ssl_vc.evaluate.results import COSTS, METRICS, Metric, Outcome, Results, Summary, used_metrics
from ssl_vc.evaluate.statistics import RESAMPLES, Estimate
from ssl_vc.files import replacing
from ssl_vc.tables import format_csv

INTERVALS = f"95 % intervals from {RESAMPLES} bootstrap resamples of the pairs, taken as independent"
FILES = ("results.json", "pairs.csv", "table.md", "index.html")
COUNTS = ("words", "words_wrong", "letters", "letters_wrong", "seconds", "taken")
KEYS = {"transcript": "said", "hypothesis": "heard", "description": "what"}  # attributes by other names in files


def write_results(results: Results, test_set: TestSet, folder: Path) -> None:
    """Write all files of an evaluation, each atomically."""
    results = replace(results, outcomes=[_rounded(outcome) for outcome in results.outcomes])
    page = render_report(results, audio_loader(test_set, folder))
    texts = as_json(results), as_csv(results), as_markdown(results), page
    for name, text in zip(FILES, texts, strict=True):
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")


def as_json(results: Results) -> str:
    """Returns everything as JSON."""
    record = {
        "name": results.name,
        "judges": list(results.judges),
        "notes": list(results.notes),
        "systems": [summary_record(row) for row in results.summaries],
        "pairs": [_record(outcome) for outcome in results.outcomes],
    }
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


def summary_record(row: Summary) -> dict[str, Any]:
    """Returns a summary as plain values; an estimate is its value, its interval and its count."""
    values = {name: _figures(row.values.get(name)) for name in (metric.name for metric in METRICS)}
    return {**_record(replace(row, values={})), "values": {name: each for name, each in values.items() if each}}


def as_csv(results: Results) -> str:
    """Returns a CSV with a row for every pair in every system."""
    plain = ["system", "reference_seconds", "pair", "source", "target", "file", "said", "heard", "error"]
    columns = [*plain, *(metric.name for metric in METRICS if metric.name != "eer"), *COUNTS]
    rows = (
        {**_record(outcome), **outcome.values, "reference_seconds": outcome.reference_seconds or ""}
        for outcome in results.outcomes
    )
    return format_csv(columns, rows)


def as_markdown(results: Results) -> str:
    """Returns the table in Markdown: figures with their intervals, costs, and the judges."""
    rows = _rows(results.summaries, lambda row, metric: format_estimate(row.values.get(metric.name), metric))
    rows.insert(1, ["---"] * len(rows[0]))
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n".join([table, "", *(f"- {line}" for line in (*results.judges, INTERVALS, *results.notes)), ""])


def as_text(results: Results) -> str:
    """Returns the table for a terminal: aligned, without the intervals, which are in the files."""
    rows = _rows(results.summaries, lambda row, each: each.text(getattr(row.values.get(each.name), "value", None)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", *results.judges, *results.notes])


def _rows(summaries: Sequence[Summary], text: Callable[[Summary, Metric], str]) -> list[list[str]]:
    """The cells of the table, its header first."""
    metrics = used_metrics(summaries)
    costs = [cost for cost in COSTS if any(getattr(row, cost.name) is not None for row in summaries)]
    rows = [["system", "reference", *(column.heading for column in (*metrics, *costs))]]
    for row in summaries:
        figures = (*(text(row, each) for each in metrics), *(each.text(getattr(row, each.name)) for each in costs))
        rows.append([row.system, row.reference, *figures])
    return rows


def format_estimate(found: Estimate | None, metric: Metric) -> str:
    """Returns a figure with its interval as text; a single pair has no interval."""
    if found is None or found.count < 2:
        return metric.text(found.value if found else None)
    return f"{metric.text(found.value)} ({metric.text(found.low)}..{metric.text(found.high)})"


def audio_loader(test_set: TestSet, folder: Path) -> Callable[[Outcome], tuple[Any, int] | None]:
    """Returns a function that loads the audio of an outcome, or None where there is none."""
    sources = {pair.name: pair.source for pair in test_set.pairs}

    def load(outcome: Outcome) -> tuple[Any, int] | None:
        if outcome.failed:
            return None
        try:
            return read(folder / outcome.file if outcome.file else sources[outcome.pair]), SAMPLE_RATE
        except (ValueError, OSError):  # it cannot be played either
            return None

    return load


def _record(row: Outcome | Summary) -> dict[str, Any]:
    return {KEYS.get(name, name): value for name, value in asdict(row).items()}


def _figures(found: Estimate | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {**{name: _short(getattr(found, name)) for name in ("value", "low", "high")}, "count": found.count}


def _rounded(outcome: Outcome) -> Outcome:
    values = {name: None if value is None else _short(value) for name, value in outcome.values.items()}
    return replace(outcome, values=values)


def _short(value: float) -> float:
    return float(f"{value:.6g}")
