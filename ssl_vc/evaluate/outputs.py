"""Results as files: `results.json` (everything), `pairs.csv`, `table.md` and `index.html`."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ssl_vc.audio import SAMPLE_RATE, read
from ssl_vc.evaluate.pairs import Task
from ssl_vc.evaluate.results import COSTS, MEASURES, Measure, Outcome, Results, Summary, shown
from ssl_vc.evaluate.sheet import sheet
from ssl_vc.evaluate.statistics import RESAMPLES, Estimate
from ssl_vc.files import replacing

INTERVALS = f"intervals: 95 %, from {RESAMPLES} resamples of the pairs, as if each told something of its own"
FILES = ("results.json", "pairs.csv", "table.md", "index.html")
COUNTED = ("words", "words_wrong", "letters", "letters_wrong", "seconds", "taken")


def write_results(results: Results, task: Task, folder: Path) -> None:
    """Write all files of an evaluation, each whole or not at all."""
    results = replace(results, outcomes=[_rounded(outcome) for outcome in results.outcomes])
    texts = as_json(results), as_csv(results), as_markdown(results), sheet(results, sound_of(task, folder))
    for name, text in zip(FILES, texts, strict=True):
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")


def as_json(results: Results) -> str:
    """Give everything."""
    facts = {
        "name": results.name,
        "judges": list(results.judges),
        "notes": list(results.notes),
        "systems": [summary_facts(row) for row in results.summaries],
        "pairs": [asdict(outcome) for outcome in results.outcomes],
    }
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def summary_facts(row: Summary) -> dict[str, Any]:
    """Give a system's row as plain values; an estimate is its value, its interval and its count."""
    values = {name: _figures(row.values.get(name)) for name in (measure.name for measure in MEASURES)}
    return {**asdict(replace(row, values={})), "values": {name: each for name, each in values.items() if each}}


def as_csv(results: Results) -> str:
    """Give a line for every pair in every system."""
    file = io.StringIO()
    plain = ["system", "reference_seconds", "pair", "source", "target", "file", "said", "heard", "error"]
    columns = [*plain, *(measure.name for measure in MEASURES if measure.name != "eer"), *COUNTED]
    writer = csv.DictWriter(file, columns, extrasaction="ignore")
    writer.writeheader()
    for outcome in results.outcomes:
        facts = asdict(outcome)
        writer.writerow({**facts, **facts["values"], "reference_seconds": outcome.reference_seconds or ""})
    return file.getvalue()


def as_markdown(results: Results) -> str:
    """Give the table for people: figures with their intervals, costs, and who judged."""
    lines = _lines(results.summaries, lambda row, measure: cell(row.values.get(measure.name), measure))
    lines.insert(1, ["---"] * len(lines[0]))
    text = "\n".join("| " + " | ".join(each.replace("|", "\\|") for each in line) + " |" for line in lines)
    return "\n".join([text, "", *(f"- {line}" for line in (*results.judges, INTERVALS, *results.notes)), ""])


def as_text(results: Results) -> str:
    """Give the same table for a terminal: aligned, without intervals, which are in the files."""
    lines = _lines(results.summaries, lambda row, each: each.text(getattr(row.values.get(each.name), "value", None)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, "", *results.judges, *results.notes])


def _lines(summaries: Sequence[Summary], text: Callable[[Summary, Measure], str]) -> list[list[str]]:
    """Lay out the table, its head first."""
    measures = shown(summaries)
    costs = [cost for cost in COSTS if any(getattr(row, cost.name) is not None for row in summaries)]
    lines = [["system", "reference", *(column.heading for column in (*measures, *costs))]]
    for row in summaries:
        figures = (*(text(row, each) for each in measures), *(each.text(getattr(row, each.name)) for each in costs))
        lines.append([row.system, row.reference, *figures])
    return lines


def cell(found: Estimate | None, measure: Measure) -> str:
    """Write a figure with its interval; one pair has none."""
    if found is None or found.count < 2:
        return measure.text(found.value if found else None)
    return f"{measure.text(found.value)} ({measure.text(found.low)}..{measure.text(found.high)})"


def sound_of(task: Task, folder: Path) -> Callable[[Outcome], tuple[Any, int] | None]:
    """Give what finds an outcome's sound."""
    sources = {pair.name: pair.source for pair in task.pairs}

    def sound(outcome: Outcome) -> tuple[Any, int] | None:
        if outcome.failed:
            return None
        try:
            return read(folder / outcome.file if outcome.file else sources[outcome.pair]), SAMPLE_RATE
        except (ValueError, OSError):  # what cannot be read cannot be played
            return None

    return sound


def _figures(found: Estimate | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {**{name: _short(getattr(found, name)) for name in ("value", "low", "high")}, "count": found.count}


def _rounded(outcome: Outcome) -> Outcome:
    values = {name: None if value is None else _short(value) for name, value in outcome.values.items()}
    return replace(outcome, values=values)


def _short(value: float) -> float:
    return float(f"{value:.6g}")
