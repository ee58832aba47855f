"""Results as files: `results.json` (everything), `pairs.csv`, `table.md` and `index.html`."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ssl_vc.audio import SAMPLE_RATE, read
from ssl_vc.evaluate.pairs import Task
from ssl_vc.evaluate.results import MEASURES, Measure, Outcome, Results, Summary, shown
from ssl_vc.evaluate.sheet import sheet
from ssl_vc.evaluate.statistics import Estimate
from ssl_vc.files import replacing

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
    """Give the table for people: figures with their intervals, and who judged."""
    measures = shown(results.summaries)
    heads = ["system", "reference", *(measure.heading for measure in measures)]
    lines = [heads, ["---"] * len(heads)]
    lines += [[row.system, row.reference, *(cell(row.values, each) for each in measures)] for row in results.summaries]
    text = "\n".join("| " + " | ".join(each.replace("|", "\\|") for each in line) + " |" for line in lines)
    return "\n".join([text, "", *(f"- {line}" for line in (*results.judges, *results.notes)), ""])


def as_text(results: Results) -> str:
    """Give the same table for a terminal: aligned, without intervals."""
    measures = shown(results.summaries)
    lines = [["", "reference", *(measure.heading for measure in measures)]]
    for row in results.summaries:
        values = ((each, row.values.get(each.name)) for each in measures)
        lines.append([row.system, row.reference, *(each.text(found and found.value) for each, found in values)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, "", *results.judges, *results.notes])


def cell(values: Mapping[str, Estimate | None], measure: Measure) -> str:
    """Write a figure with its interval."""
    found = values.get(measure.name)
    if found is None:
        return measure.text(None)
    return f"{measure.text(found.value)} ({measure.text(found.low)}..{measure.text(found.high)})"


def sound_of(task: Task, folder: Path) -> Callable[[Outcome], tuple[Any, int] | None]:
    """Give what finds an outcome's sound."""
    sources = {pair.name: pair.source for pair in task.pairs}

    def sound(outcome: Outcome) -> tuple[Any, int] | None:
        if outcome.error and not outcome.file:
            return None
        try:
            return read(folder / outcome.file if outcome.file else sources[outcome.pair]), SAMPLE_RATE
        except (ValueError, OSError):  # what cannot be read cannot be played
            return None

    return sound


def _figures(found: Estimate | None) -> dict[str, float] | None:
    return None if found is None else {name: _short(value) for name, value in found._asdict().items()}


def _rounded(outcome: Outcome) -> Outcome:
    values = {name: None if value is None else _short(value) for name, value in outcome.values.items()}
    return replace(outcome, values=values)


def _short(value: float) -> float:
    return float(f"{value:.6g}")
