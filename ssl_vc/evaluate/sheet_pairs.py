"""Of the page of an evaluation what concerns single pairs: some to hear, those that failed, and all to look up."""

import math
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from html import escape

from torch import Tensor

from ssl_vc.evaluate.results import MEASURES, Outcome, Results, Run
from ssl_vc.evaluate.words import normalized
from ssl_vc.html.page import line, listed, player, section, table

HEARD = 30  # seconds of a sound
RANKING = {"wer": 1, "similarity": -1}  # what pairs are ranked by, the first that is known; -1: more is better
# figures beside a player; the table of all pairs has the others
TOLD = {"wer": "WER {} %", "similarity": "{} to target", "source_similarity": "{} to source", "f0_correlation": "F0 {}"}
NAMED = 8  # pairs of a failure

Sound = Callable[[Outcome], tuple[Tensor, int] | None]


def sounds(results: Results, labels: Mapping[Run, str], sound: Sound, players: int) -> str:
    """Make players of some pairs in all systems, each with most of the target; see `ssl_vc.evaluate.sheet.sheet`.

    The pairs are spread evenly from the best to the worst of the last system: those to compare it with come first.
    """
    longest: dict[str, Run] = {}
    for run in sorted(labels, key=lambda run: math.inf if run[1] is None else run[1]):
        longest[run[0]] = run
    heard = dict.fromkeys(longest[each.system] for each in results.summaries)
    made = [each.system for each in results.summaries if not each.natural]
    judged = longest[made[-1]] if made else None
    ranked, ranking = _ranked([outcome for outcome in results.outcomes if outcome.run == judged])
    count = min(players, len(ranked))
    if judged is None or count < 1:
        return ""
    names = [ranked[int((number + 0.5) * len(ranked) / count)].pair for number in range(count)]
    order = f", spread evenly from best to worst by the {ranking} of {labels[judged]}" if ranking else ""
    key = (
        f"<p>{count} of {len(ranked)} pairs{escape(order)}. In what the recogniser heard, <del>what it missed</del> "
        "is struck out and <ins>what was not said</ins> underlined.</p>\n"
    )
    found = {(outcome.run, outcome.pair): outcome for outcome in results.outcomes}
    shown = ([found[run, name] for run in heard if (run, name) in found] for name in names)
    return section("sounds", "Sounds", key + "".join(_pair(outcomes, labels, sound) for outcomes in shown))


def _ranked(outcomes: Sequence[Outcome]) -> tuple[Sequence[Outcome], str]:
    """Sort from best to worst those of which a measure is known, and name it; all as they are and "" if none is."""
    for measure in MEASURES:
        sign = RANKING.get(measure.name)
        known = [(value, each) for each in outcomes if (value := each.values.get(measure.name)) is not None]
        if sign and known:
            return [each for _, each in sorted(known, key=lambda pair: sign * pair[0])], measure.heading
    return outcomes, ""


def _title(outcome: Outcome) -> str:
    return f"{outcome.pair}: {outcome.source} → {outcome.target}"


def _pair(outcomes: Sequence[Outcome], labels: Mapping[Run, str], sound: Sound) -> str:
    said = outcomes[0].said
    text = f'<p class="text">“{escape(said)}”</p>\n' if said else ""
    figures = "".join(_figure(outcome, labels[outcome.run], sound(outcome), said) for outcome in outcomes)
    return f'<h3>{escape(_title(outcomes[0]))}</h3>\n{text}<div class="players">\n{figures}</div>\n'


def _figure(outcome: Outcome, name: str, sound: tuple[Tensor, int] | None, said: str) -> str:
    parts, note = [], ""
    if sound is not None:
        wav, rate = sound
        note = f"the first {HEARD} s" if len(wav) > HEARD * rate else ""
        parts.append(player(f"{name}: {outcome.pair}", wav[: HEARD * rate], rate))
    if outcome.error or sound is None:
        parts.append(f'<p class="error">{escape(outcome.error or "There is no sound.")}</p>\n')
    if outcome.said and outcome.said != said:
        parts.append(f'<p class="text">“{escape(outcome.said)}”</p>\n')
    if outcome.heard is not None:
        parts.append(f'<p class="text">{_heard(outcome.said, outcome.heard)}</p>\n')
    told = [
        TOLD[measure.name].format(measure.text(value))
        for measure in MEASURES
        if measure.name in TOLD and (value := outcome.values.get(measure.name)) is not None
    ]
    parts.append(f"<p>{escape(' · '.join(told))}</p>\n" if told else "")
    return f"<figure>\n<figcaption><h4>{escape(name)}</h4><p>{note}</p></figcaption>\n{''.join(parts)}</figure>\n"


def _heard(said: str, heard: str) -> str:
    """Mark where the words heard are not those said; where nothing is known of these, nothing is marked."""
    before, after = normalized(said).split(), normalized(heard).split()
    if not before or not after:
        return escape(heard) or "(nothing)"
    parts = []
    for what, start, end, first, last in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        missed, put_in = (escape(" ".join(words)) for words in (before[start:end], after[first:last]))
        if what == "equal":
            parts.append(put_in)
        else:
            parts += [f"<del>{missed}</del>" if missed else "", f"<ins>{put_in}</ins>" if put_in else ""]
    return " ".join(filter(None, parts))


def failures(outcomes: Sequence[Outcome], labels: Mapping[Run, str]) -> str:
    """List what failed, those of a system together that failed for the same reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for each in outcomes:
        if each.error:
            reasons.setdefault((labels[each.run], each.error), []).append(each.pair)
    items = []
    for (name, error), pairs in reasons.items():
        more = f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
        named = escape(", ".join(pairs[:NAMED]) + more)
        items.append(f"<strong>{escape(name)}</strong>: {escape(error)} <small>{named}</small>")
    return section("failures", "Failures", listed(items)) if items else ""


def pairs(outcomes: Sequence[Outcome], labels: Mapping[Run, str]) -> str:
    """Fold up all figures of all pairs."""
    if not outcomes:
        return ""
    measures = [each for each in MEASURES if any(outcome.values.get(each.name) is not None for outcome in outcomes)]
    titles: dict[str, str] = {}
    groups: dict[str, str] = {}
    for each in outcomes:
        title = titles.setdefault(each.pair, _title(each) + (f" “{each.said}”" if each.said else ""))
        cells = [measure.text(each.values.get(measure.name)) for measure in measures]
        cells.append(escape(each.error or each.heard or ""))
        groups[title] = groups.get(title, "") + line(labels[each.run], cells)
    rows = table("pairs", ["System", *(measure.heading for measure in measures), "Heard"], groups)
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
