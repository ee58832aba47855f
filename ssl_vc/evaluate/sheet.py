"""The page of an evaluation: who judged, what they found and how sure it is, and sounds to hear for oneself."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from ssl_vc.evaluate.results import COSTS, Measure, Results, Run, Summary, shown
from ssl_vc.evaluate.sheet_pairs import STYLE as PAIRS_STYLE
from ssl_vc.evaluate.sheet_pairs import Sound, failures, pairs, sounds
from ssl_vc.html.charts import intervals_svg, lines_svg
from ssl_vc.html.page import document, glossary, line, listed, section, table

DRAWN = {"wer": "Words got wrong", "similarity": "Likeness to the target"}
ARROWS = {"higher": "\N{NO-BREAK SPACE}↑", "lower": "\N{NO-BREAK SPACE}↓", "": ""}


def sheet(results: Results, sound: Sound, *, players: int = 8) -> str:
    """Make the page; all texts in the results are text, none of it HTML.

    Args:
        results: of the evaluation.
        sound: gives an outcome's wav (samples,) and its rate in Hz; None where there is none.
        players: how many pairs can be heard, each in all systems.
    """
    references = {each.run: each.reference for each in results.summaries}
    labels = {run: f"{run[0]}, {text}" if text else run[0] for run, text in references.items()}
    count = len({outcome.pair for outcome in results.outcomes})
    intro = f"{count} pairs of a source and a target. Small figures are 95 % intervals, by bootstrap over the pairs."
    body = (
        _judges(results)
        + _summary(results.summaries, labels)
        + _pictures(results.summaries, references, labels)
        + sounds(results, labels, sound, players)
        + failures(results.outcomes, labels)
        + pairs(results.outcomes, labels)
    )
    return document(f"Evaluation on {results.name}", intro, body, STYLE + PAIRS_STYLE)


def _judges(results: Results) -> str:
    notes = f"<h3>Notes</h3>\n{listed(map(escape, results.notes))}" if results.notes else ""
    return section("judges", "Judges", listed(map(escape, results.judges)) + notes)


def _summary(summaries: Sequence[Summary], labels: Mapping[Run, str]) -> str:
    measures = shown(summaries)
    costs = [cost for cost in COSTS if any(getattr(each, cost.name) is not None for each in summaries)]
    best = {measure.name: _best(measure, summaries) for measure in measures}
    groups = {"Recordings": "", "Made sounds": ""}
    for each in summaries:
        note = f"{each.pairs} pairs" + (f", {each.failed} failed" if each.failed else "")
        cells = [_cell(measure, each, best[measure.name]) for measure in measures]
        cells += [cost.text(getattr(each, cost.name)) for cost in costs]
        groups["Recordings" if each.natural else "Made sounds"] += line(labels[each.run], cells, note)
    headings = ["System", *(measure.heading + ARROWS[measure.better] for measure in measures)]
    headings += [cost.heading for cost in costs]
    key = (
        "<p>↑ higher is better, ↓ lower is better; <strong>bold</strong> is the best figure of conversions, which "
        "proves little where intervals overlap; “of 9” is below what only 9 of those that did not fail tell.</p>\n"
    )
    rows = table("summary", headings, {group: lines for group, lines in groups.items() if lines})
    meanings = glossary("What the measures say", ((measure.heading, measure.meaning) for measure in measures))
    systems = glossary("What the systems are", {each.system: each.what for each in summaries}.items())
    return section("summary", "Summary", key + rows + meanings + systems)


def _best(measure: Measure, summaries: Sequence[Summary]) -> str:
    """Write the best value of the conversions, for what looks equal is equally good; "" if there is no contest."""
    estimates = [each.values.get(measure.name) for each in summaries if not (each.natural or each.copies)]
    values = [estimate.value for estimate in estimates if estimate]
    if not measure.better or len(values) < 2:
        return ""
    return measure.text(max(values) if measure.better == "higher" else min(values))


def _cell(measure: Measure, summary: Summary, best: str) -> str:
    estimate = summary.values.get(measure.name)
    if estimate is None:
        return measure.text(None)
    value, low, high = map(measure.text, estimate[:3])
    count = f"<small>of {estimate.count}</small>" if estimate.count < summary.pairs - summary.failed else ""
    bold = f"<strong>{value}</strong>" if value == best and not (summary.natural or summary.copies) else value
    interval = f"<small>{low} to {high}</small>" if estimate.count > 1 else ""
    return f"{bold}{interval}{count}"


def _pictures(summaries: Sequence[Summary], references: Mapping[Run, str], labels: Mapping[Run, str]) -> str:
    drawn = [measure for measure in shown(summaries) if measure.name in DRAWN]
    if not drawn:
        return ""
    intervals = "".join(f"<div>{_intervals(measure, summaries, labels)}</div>\n" for measure in drawn)
    places = _places(references)
    curves = ""
    if len(places) > 1:
        lines = "".join(f"<div>{_curves(measure, summaries, references, places)}</div>\n" for measure in drawn)
        curves = f'<div class="curves" role="region" aria-labelledby="pictures" tabindex="0">\n{lines}</div>\n'
    return section("pictures", "Pictures", f'<div class="intervals">\n{intervals}</div>\n{curves}')


def _intervals(measure: Measure, summaries: Sequence[Summary], labels: Mapping[Run, str]) -> str:
    known = {labels[each.run]: each.values.get(measure.name) for each in summaries}
    rows = {label: (each.value, each.low, each.high) for label, each in known.items() if each}
    return intervals_svg(rows, DRAWN[measure.name], f"{measure.heading}, 95 % interval", digits=measure.digits)


def _places(references: Mapping[Run, str]) -> dict[str, float]:
    """Place lengths of reference on an axis: a doubling is a step, and "all" is a step beyond the longest."""
    places = {text: math.log2(seconds) for (_, seconds), text in references.items() if seconds}
    return places | ({"all": max(places.values(), default=0.0) + 1} if "all" in references.values() else {})


def _curves(
    measure: Measure, summaries: Sequence[Summary], references: Mapping[Run, str], places: Mapping[str, float]
) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    for each in summaries:
        estimate, text = each.values.get(measure.name), references[each.run]
        if estimate is None and not text:
            continue
        value = estimate.value if estimate else math.nan
        where = [places[text]] if text else places.values()  # what has no use for it is level
        series.setdefault(each.system, []).extend((place, value) for place in where)
    curves = {system: sorted(points) for system, points in series.items()}
    ticks = {place: text for text, place in places.items()}
    return lines_svg(curves, DRAWN[measure.name], "reference", measure.heading, x_ticks=ticks)


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
