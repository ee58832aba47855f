"""Sections of an evaluation's page on single pairs: players for some, the failures, and a table of all."""

import math
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from html import escape

from torch import Tensor

from ssl_vc.evaluate.results import METRICS, Outcome, Results, Run
from ssl_vc.evaluate.text_errors import normalize_text
from ssl_vc.html.page import audio_player, bullet_list, section, table, table_row

MAX_SECONDS = 30  # of a clip
RANKING = {"wer": 1, "similarity": -1}  # pairs are ranked by the first that is known; -1: higher is better
# figures beside a player; the table of all pairs has the others
CAPTIONS = {
    "wer": "WER {} %",
    "similarity": "{} to target",
    "source_similarity": "{} to source",
    "f0_correlation": "F0 {}",
}
MAX_NAMED = 8  # pairs named per failure

LoadAudio = Callable[[Outcome], tuple[Tensor, int] | None]
"""Returns an outcome's wav (samples,) and its sample rate; None where there is none."""


def render_players(results: Results, labels: Mapping[Run, str], load: LoadAudio, count: int) -> str:
    """Render players for some pairs in all systems, each with its longest reference; see `report.render_report`.

    The pairs are spread evenly from the best to the worst of the last system; baselines come first.
    """
    longest: dict[str, Run] = {}
    for run in sorted(labels, key=lambda run: math.inf if run[1] is None else run[1]):
        longest[run[0]] = run
    runs = dict.fromkeys(longest[each.system] for each in results.summaries)
    systems = [each.system for each in results.summaries if not each.natural]
    last = longest[systems[-1]] if systems else None
    ranked, ranking = _ranked([outcome for outcome in results.outcomes if outcome.run == last])
    count = min(count, len(ranked))
    if last is None or count < 1:
        return ""
    names = [ranked[int((number + 0.5) * len(ranked) / count)].pair for number in range(count)]
    order = f", spread evenly from best to worst by the {ranking} of {labels[last]}" if ranking else ""
    key = (
        f"<p>{count} of {len(ranked)} pairs{escape(order)}. In the recogniser's hypothesis, <del>deletions</del> are "
        "struck out and <ins>insertions</ins> underlined.</p>\n"
    )
    found = {(outcome.run, outcome.pair): outcome for outcome in results.outcomes}
    shown = ([found[run, name] for run in runs if (run, name) in found] for name in names)
    return section("sounds", "Sounds", key + "".join(_pair(outcomes, labels, load) for outcomes in shown))


def _ranked(outcomes: Sequence[Outcome]) -> tuple[Sequence[Outcome], str]:
    """Sort from best to worst by the first known metric, and name it; unsorted and "" if none is known."""
    for metric in METRICS:
        sign = RANKING.get(metric.name)
        known = [(value, each) for each in outcomes if (value := each.values.get(metric.name)) is not None]
        if sign and known:
            return [each for _, each in sorted(known, key=lambda pair: sign * pair[0])], metric.heading
    return outcomes, ""


def _title(outcome: Outcome) -> str:
    return f"{outcome.pair}: {outcome.source} → {outcome.target}"


def _pair(outcomes: Sequence[Outcome], labels: Mapping[Run, str], load: LoadAudio) -> str:
    transcript = outcomes[0].transcript
    text = f'<p class="text">“{escape(transcript)}”</p>\n' if transcript else ""
    figures = "".join(_figure(outcome, labels[outcome.run], load(outcome), transcript) for outcome in outcomes)
    return f'<h3>{escape(_title(outcomes[0]))}</h3>\n{text}<div class="players">\n{figures}</div>\n'


def _figure(outcome: Outcome, name: str, audio: tuple[Tensor, int] | None, transcript: str) -> str:
    parts, note = [], ""
    if audio is not None:
        wav, rate = audio
        note = f"the first {MAX_SECONDS} s" if len(wav) > MAX_SECONDS * rate else ""
        parts.append(audio_player(f"{name}: {outcome.pair}", wav[: MAX_SECONDS * rate], rate))
    if outcome.error or audio is None:
        parts.append(f'<p class="error">{escape(outcome.error or "There is no audio.")}</p>\n')
    if outcome.transcript and outcome.transcript != transcript:
        parts.append(f'<p class="text">“{escape(outcome.transcript)}”</p>\n')
    if outcome.hypothesis is not None:
        parts.append(f'<p class="text">{_diff(outcome.transcript, outcome.hypothesis)}</p>\n')
    captions = [
        CAPTIONS[metric.name].format(metric.text(value))
        for metric in METRICS
        if metric.name in CAPTIONS and (value := outcome.values.get(metric.name)) is not None
    ]
    parts.append(f"<p>{escape(' · '.join(captions))}</p>\n" if captions else "")
    return f"<figure>\n<figcaption><h4>{escape(name)}</h4><p>{note}</p></figcaption>\n{''.join(parts)}</figure>\n"


def _diff(transcript: str, hypothesis: str) -> str:
    """Mark where a hypothesis differs from the transcript; unmarked where the transcript is unknown."""
    before, after = normalize_text(transcript).split(), normalize_text(hypothesis).split()
    if not before or not after:
        return escape(hypothesis) or "(nothing)"
    parts = []
    for operation, start, end, first, last in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        deleted, inserted = (escape(" ".join(words)) for words in (before[start:end], after[first:last]))
        if operation == "equal":
            parts.append(inserted)
        else:
            parts += [f"<del>{deleted}</del>" if deleted else "", f"<ins>{inserted}</ins>" if inserted else ""]
    return " ".join(filter(None, parts))


def render_failures(outcomes: Sequence[Outcome], labels: Mapping[Run, str]) -> str:
    """Render the failures, grouped by system and reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for each in outcomes:
        if each.error:
            reasons.setdefault((labels[each.run], each.error), []).append(each.pair)
    items = []
    for (name, error), pairs in reasons.items():
        more = f" and {len(pairs) - MAX_NAMED} more" if len(pairs) > MAX_NAMED else ""
        named = escape(", ".join(pairs[:MAX_NAMED]) + more)
        items.append(f"<strong>{escape(name)}</strong>: {escape(error)} <small>{named}</small>")
    return section("failures", "Failures", bullet_list(items)) if items else ""


def render_pairs(outcomes: Sequence[Outcome], labels: Mapping[Run, str]) -> str:
    """Render a folded table with all figures of all pairs."""
    if not outcomes:
        return ""
    metrics = [each for each in METRICS if any(outcome.values.get(each.name) is not None for outcome in outcomes)]
    titles: dict[str, str] = {}
    groups: dict[str, str] = {}
    for each in outcomes:
        title = titles.setdefault(each.pair, _title(each) + (f" “{each.transcript}”" if each.transcript else ""))
        cells = [metric.text(each.values.get(metric.name)) for metric in metrics]
        cells.append(escape(each.error or each.hypothesis or ""))
        groups[title] = groups.get(title, "") + table_row(labels[each.run], cells)
    rows = table("pairs", ["System", *(metric.heading for metric in metrics), "Hypothesis"], groups)
    folded = f"<details>\n<summary>All figures of {len(groups)} pairs</summary>\n{rows}</details>\n"
    return section("pairs", "All pairs", folded)


STYLE = """
h4 { font-size: 0.95rem; margin: 0; }
.players { display: grid; gap: 0.75rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); }
.players p { margin: 0.35rem 0 0; font-size: 0.85rem; color: var(--soft); }
p.text { color: var(--text); }
h3 + p.text { margin: 0 0 0.5rem; }
.players p.text { color: var(--text); }
del { color: var(--soft); }
ins { text-decoration-thickness: 2px; text-underline-offset: 2px; }
#pairs ~ details tr > :last-child:not([colspan]) { text-align: left; min-width: 18rem; }
small { color: var(--soft); }
"""
