"""The HTML page of an evaluation: judges, figures with their intervals, charts, and audio to listen to."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from ssl_vc.evaluate.report_pairs import STYLE as PAIRS_STYLE
from ssl_vc.evaluate.report_pairs import LoadAudio, render_failures, render_pairs, render_players
from ssl_vc.evaluate.results import COSTS, Metric, Results, Run, Summary, used_metrics
from ssl_vc.html.charts import intervals_svg, lines_svg
from ssl_vc.html.page import bullet_list, document, glossary, section, table, table_row

CHARTED = {"wer": "Word error rate", "similarity": "Similarity to the target"}
ARROWS = {"higher": "\N{NO-BREAK SPACE}↑", "lower": "\N{NO-BREAK SPACE}↓", "": ""}


def render_report(results: Results, load: LoadAudio, *, players: int = 8) -> str:
    """Render the page; every text in the results is plain text, escaped here.

    Args:
        results: of the evaluation.
        load: see `LoadAudio`.
        players: number of pairs with players, each in all systems.
    """
    references = {each.run: each.reference for each in results.summaries}
    labels = {run: f"{run[0]}, {text}" if text else run[0] for run, text in references.items()}
    count = len({outcome.pair for outcome in results.outcomes})
    intro = f"{count} pairs of a source and a target. Small figures are 95 % intervals, by bootstrap over the pairs."
    body = (
        _judges(results)
        + _summary(results.summaries, labels)
        + _charts(results.summaries, references, labels)
        + render_players(results, labels, load, players)
        + render_failures(results.outcomes, labels)
        + render_pairs(results.outcomes, labels)
    )
    return document(f"Evaluation on {results.name}", intro, body, STYLE + PAIRS_STYLE)


def _judges(results: Results) -> str:
    notes = f"<h3>Notes</h3>\n{bullet_list(map(escape, results.notes))}" if results.notes else ""
    return section("judges", "Judges", bullet_list(map(escape, results.judges)) + notes)


def _summary(summaries: Sequence[Summary], labels: Mapping[Run, str]) -> str:
    metrics = used_metrics(summaries)
    costs = [cost for cost in COSTS if any(getattr(each, cost.name) is not None for each in summaries)]
    best = {metric.name: _best(metric, summaries) for metric in metrics}
    groups = {"Recordings": "", "Synthesised": ""}
    for each in summaries:
        note = f"{each.pairs} pairs" + (f", {each.failed} failed" if each.failed else "")
        cells = [_cell(metric, each, best[metric.name]) for metric in metrics]
        cells += [cost.text(getattr(each, cost.name)) for cost in costs]
        groups["Recordings" if each.natural else "Synthesised"] += table_row(labels[each.run], cells, note)
    headings = ["System", *(metric.heading + ARROWS[metric.better] for metric in metrics)]
    headings += [cost.heading for cost in costs]
    key = (
        "<p>↑ higher is better, ↓ lower is better; <strong>bold</strong> is the best conversion, which means little "
        "where intervals overlap; “of 9” marks a figure that only 9 of the successful pairs have.</p>\n"
    )
    rows = table("summary", headings, {group: lines for group, lines in groups.items() if lines})
    meanings = glossary("About the metrics", ((metric.heading, metric.meaning) for metric in metrics))
    systems = glossary("About the systems", {each.system: each.description for each in summaries}.items())
    return section("summary", "Summary", key + rows + meanings + systems)


def _best(metric: Metric, summaries: Sequence[Summary]) -> str:
    """Returns the best conversion's value as text, since equal texts are equally good; "" if there is no contest."""
    estimates = [each.values.get(metric.name) for each in summaries if not (each.natural or each.copies)]
    values = [estimate.value for estimate in estimates if estimate]
    if not metric.better or len(values) < 2:
        return ""
    return metric.text(max(values) if metric.better == "higher" else min(values))


def _cell(metric: Metric, summary: Summary, best: str) -> str:
    estimate = summary.values.get(metric.name)
    if estimate is None:
        return metric.text(None)
    value, low, high = map(metric.text, estimate[:3])
    count = f"<small>of {estimate.count}</small>" if estimate.count < summary.pairs - summary.failed else ""
    bold = f"<strong>{value}</strong>" if value == best and not (summary.natural or summary.copies) else value
    interval = f"<small>{low} to {high}</small>" if estimate.count > 1 else ""
    return f"{bold}{interval}{count}"


def _charts(summaries: Sequence[Summary], references: Mapping[Run, str], labels: Mapping[Run, str]) -> str:
    metrics = [metric for metric in used_metrics(summaries) if metric.name in CHARTED]
    if not metrics:
        return ""
    intervals = "".join(f"<div>{_intervals(metric, summaries, labels)}</div>\n" for metric in metrics)
    ticks = _reference_ticks(references)
    curves = ""
    if len(ticks) > 1:
        lines = "".join(f"<div>{_curves(metric, summaries, references, ticks)}</div>\n" for metric in metrics)
        curves = f'<div class="curves" role="region" aria-labelledby="pictures" tabindex="0">\n{lines}</div>\n'
    return section("pictures", "Charts", f'<div class="intervals">\n{intervals}</div>\n{curves}')


def _intervals(metric: Metric, summaries: Sequence[Summary], labels: Mapping[Run, str]) -> str:
    known = {labels[each.run]: each.values.get(metric.name) for each in summaries}
    rows = {label: (each.value, each.low, each.high) for label, each in known.items() if each}
    return intervals_svg(rows, CHARTED[metric.name], f"{metric.heading}, 95 % interval", digits=metric.digits)


def _reference_ticks(references: Mapping[Run, str]) -> dict[str, float]:
    """Place amounts of reference on a log axis: a doubling is one step, and "all" is one step beyond the longest."""
    ticks = {text: math.log2(seconds) for (_, seconds), text in references.items() if seconds}
    return ticks | ({"all": max(ticks.values(), default=0.0) + 1} if "all" in references.values() else {})


def _curves(
    metric: Metric, summaries: Sequence[Summary], references: Mapping[Run, str], ticks: Mapping[str, float]
) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    for each in summaries:
        estimate, text = each.values.get(metric.name), references[each.run]
        if estimate is None and not text:
            continue
        value = estimate.value if estimate else math.nan
        positions = [ticks[text]] if text else ticks.values()  # a system without references is a level line
        series.setdefault(each.system, []).extend((x, value) for x in positions)
    curves = {system: sorted(points) for system, points in series.items()}
    x_ticks = {x: text for text, x in ticks.items()}
    return lines_svg(curves, CHARTED[metric.name], "reference", metric.heading, x_ticks=x_ticks)


STYLE = """
h3 { font-size: 1rem; margin: 1.25rem 0 0.5rem; }
section > p { color: var(--soft); margin: 0 0 0.75rem; max-width: 60rem; }
section > p strong { color: var(--text); }
td, th[scope="row"] { vertical-align: top; }
td small, th small { display: block; font-size: 0.75rem; font-weight: 400; white-space: nowrap; }
thead th { min-width: 4.5rem; }
th[colspan] span { position: sticky; left: 0.75rem; display: inline-block; max-width: min(80vw, 70rem);
  white-space: normal; color: var(--soft); }
.intervals { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.curves { display: flex; gap: 1rem; margin-top: 1rem; overflow-x: auto; }
.intervals > div, .curves > div { background: var(--card); border: 1px solid var(--line); border-radius: 0.5rem; }
.curves > div { flex: 1 0 36rem; }
svg { display: block; margin: 0 auto; width: 100%; max-width: 46rem; color: var(--text); }
.intervals svg { max-width: 32rem; }
svg > rect { fill: none; }
"""
