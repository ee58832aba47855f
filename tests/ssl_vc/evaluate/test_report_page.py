"""The page of an evaluation shows judges, every figure with its interval, and audio from best to worst."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from ssl_vc.evaluate.report import render_report
from ssl_vc.evaluate.results import Outcome, Results, Summary
from ssl_vc.evaluate.statistics import Estimate

NASTY = "</p></style><script>alert(\"1\")</script> & 'é' {title}"
VOID = {"meta", "link", "img"}
RATE = 8000


class Outline(HTMLParser):
    """Elements, and texts with their ancestors; tags must be properly nested."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if data.strip():
            self.texts.append((tuple(self.open), data.strip()))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag, inside=""):
        return [text for path, text in self.texts if path[-1] == tag and (not inside or inside in path)]


def about(value, count=8):
    return Estimate(value, value - 1, value + 1, count)


def summary(system, natural, seconds, wer, **other):
    return Summary(
        system=system,
        description=f"what {system} is",
        natural=natural,
        reference_seconds=seconds,
        pairs=8,
        failed=0,
        values={"wer": about(wer), **other},
        converts=system == "knn",
    )


def outcome(system, seconds, number, wer, **other):
    values = {"wer": wer, "similarity": 0.5}
    name = f"pair{number}"
    return Outcome(
        system=system,
        reference_seconds=seconds,
        pair=name,
        source="Ann",
        target="Bob",
        file="a.flac",
        transcript=f"Words of {name}.",
        hypothesis=f"words of {name}",
        values=values,
        **other,
    )


RUNS = [
    ("natural", True, None),
    ("world", False, None),
    ("knn", False, 15.0),
    ("knn", False, 60.0),
    ("knn", False, None),
]
WORST_LAST = [3, 1, 7, 5, 0, 2, 6, 4]  # pairs by the WER of the last system


@pytest.fixture
def results():
    summaries = [summary(*run, wer=10.0 * number) for number, run in enumerate(RUNS)]
    outcomes = [
        outcome(system, seconds, number, 10.0 * WORST_LAST.index(number))
        for system, _, seconds in RUNS
        for number in range(8)
    ]
    return Results("dev", ["a recogniser 1.0", "a verifier 2.0"], ["a note."], summaries, outcomes)


def tone(each):
    return 0.3 * torch.sin(torch.arange(RATE // 4) * 0.1), RATE


def silent(each):
    return None


def page_of(results, load=silent, **other):
    text = render_report(results, load, **other)
    return text, Outline(text)


def rows(text, name="summary"):
    """The cells of a section's table by the name of their row."""
    part = re.search(rf'<section aria-labelledby="{name}">.*?</section>', text, re.S).group()
    return {
        re.sub(r"<.*?>.*", "", head): re.findall(r"<td>(.*?)</td>", cells)
        for head, cells in re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', part)
    }


def test_judges_are_always_visible(results):
    _, page = page_of(results)
    assert page.text("h1") == ["Evaluation on dev"]
    seen = [text for path, text in page.texts if "details" not in path]
    assert {"a recogniser 1.0", "a verifier 2.0", "a note."} <= set(seen)
    assert {"what world is", "Word error rate of the recogniser."} <= set(page.text("dd", "details"))


def test_every_run_has_a_row_with_its_interval(results):
    text, page = page_of(results)
    assert list(rows(text)) == ["natural", "world", "knn, 15 s", "knn, 60 s", "knn, all"]
    assert rows(text)["knn, 15 s"] == ["20.0<small>19.0 to 21.0</small>"]
    assert page.text("th", "thead")[:2] == [
        "System",
        "WER (%)\N{NO-BREAK SPACE}↓",
    ]  # a metric that no system has is left out
    assert page.text("span", "table")[:2] == ["Recordings", "Synthesised"]


@pytest.mark.parametrize(
    ("measure", "values", "best"),
    [
        ("wer", (1.0, 9.0, 4.0, 4.04), {"c", "d"}),  # equal once rounded
        ("similarity", (0.99, 0.2, 0.9, 0.3), {"c"}),
        ("wer", (4.0, 9.0, 4.0, 5.0), {"c"}),
        ("f0_rmse_cents", (1.0, 9.0, 4.0, 3.0), set()),
        ("wer", (1.0, None, 4.0, None), set()),
    ],
)
def test_the_best_of_the_conversions_is_marked(measure, values, best):
    summaries = [
        replace(summary(name, False, None, 0), values={measure: value and about(value)}, copies=name == "a")
        for name, value in zip("abcd", values, strict=True)
    ]
    text, _ = page_of(Results("", [], [], summaries, []))
    assert {name for name, cells in rows(text).items() if "<strong>" in cells[0]} == best


def test_figures_of_few_pairs_are_marked(results):
    values = {"wer": about(5.0, 6), "similarity": about(0.5, 4)}
    row = replace(results.summaries[1], failed=2, values=values, size_mb=1.26)
    text, page = page_of(replace(results, summaries=[row], outcomes=[]))
    wer, similarity, size = rows(text)["world"]
    assert "of 6" not in wer
    assert similarity.endswith("<small>of 4</small>")
    assert size == "1.3"
    assert "8 pairs, 2 failed" in page.text("small")


def test_players_go_from_best_to_worst(results):
    asked = []
    _, page = page_of(
        results, lambda each: asked.append((each.system, each.reference_seconds)) or tone(each), players=4
    )
    assert [title.split(":")[0] for title in page.text("h3")[1:]] == ["pair1", "pair5", "pair2", "pair4"]
    assert page.text("h4") == ["natural", "world", "knn, all"] * 4
    assert set(asked) == {("natural", None), ("world", None), ("knn", None)}  # with most of the target
    assert [audio["aria-label"] for audio in page.all("audio")][:2] == ["natural: pair1", "world: pair1"]
    assert "“Words of pair1.”" in page.text("p")
    assert page.text("h4", "figure")
    assert "WER 10.0 % · 0.500 to target" in page.text("p", "figure")


@pytest.mark.parametrize(
    ("transcript", "hypothesis", "marked"),
    [
        ("It is, isn’t it?", "it is isn't it", "it is isn&#x27;t it"),
        ("one two three", "one too three", "one <del>two</del> <ins>too</ins> three"),
        ("one two", "two three", "<del>one</del> two <ins>three</ins>"),
        ("one two", "", "(nothing)"),
        ("", "<b>", "&lt;b&gt;"),
    ],
)
def test_recognition_errors_are_marked(results, transcript, hypothesis, marked):
    text, _ = page_of(
        replace(results, outcomes=[replace(results.outcomes[-1], transcript=transcript, hypothesis=hypothesis)])
    )
    assert f'<p class="text">{marked}</p>' in text


def test_failures_have_their_reasons(results):
    def failing(each):
        if each.system != "world":
            return each
        return replace(
            each, file="", hypothesis=None, values={}, error="it is silent." if each.pair > "pair0" else "no."
        )

    broken = replace(results, outcomes=[failing(each) for each in results.outcomes])
    text, page = page_of(broken)
    assert '<section aria-labelledby="failures">' in text
    assert page.text("strong", "li") == ["world", "world"]
    assert page.text("small", "li") == ["pair0", "pair1, pair2, pair3, pair4, pair5, pair6, pair7"]
    assert page.text("p", "figure").count("it is silent.") == 7
    assert page.text("td", "details").count("it is silent.") == 7
    assert "Failures" not in page_of(results)[0]


def test_all_pairs_are_in_a_folded_table(results):
    text, page = page_of(results)
    assert all("open" not in details for details in page.all("details"))
    titles = page.text("span", "details")
    assert titles == [f"pair{number}: Ann → Bob “Words of pair{number}.”" for number in range(8)]
    assert len(page.text("th", "details")) == 4 + len(results.outcomes)
    assert rows(text, "pairs")["knn, all"] == ["20.0", "0.500", "words of pair7"]


def test_intervals_and_curves_are_drawn(results):
    text, page = page_of(results)
    assert page.text("title", "svg") == ["Word error rate"] * 2  # no similarity: no picture of it
    places = dict(re.findall(r'<text x="([\d.]+)"[^>]*>(15 s|60 s|all)</text>', text))
    first, second, beyond = (float(x) for x, _ in sorted(places.items(), key=lambda each: float(each[0])))
    assert list(places.values()) == ["15 s", "60 s", "all"]
    assert second - first == pytest.approx(2 * (beyond - second), abs=0.2)  # two doublings, and one step more


def test_nothing_is_downloaded(results):
    text, page = page_of(results, tone, players=1)
    links = [value for _, each in page.elements for name, value in each.items() if name in ("src", "href")]
    assert len(links) == 4
    assert all(link.startswith("data:") for link in links)
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|url\(|@import", text)
    assert all(each["tabindex"] == "0" for _, each in page.elements if each.get("role") == "region")


def test_texts_are_escaped():
    values = {"wer": 5.0}
    names = dict.fromkeys(("system", "pair", "source", "target", "file", "transcript", "hypothesis"), NASTY)
    first = Outcome(reference_seconds=None, values=values, **names)
    second = replace(first, pair=NASTY + "2", file="", transcript=NASTY + "x", hypothesis=NASTY + "y", error=NASTY)
    outcomes = [first, second]
    summaries = [
        replace(summary("knn", False, seconds, 5.0), system=NASTY, description=NASTY) for seconds in (None, 3.0)
    ]
    text, page = page_of(Results(NASTY, [NASTY], [NASTY], summaries, outcomes), tone)
    assert len(page.all("script")) == 1
    assert text.count("<script") == 1
    assert page.text("h1") == [f"Evaluation on {NASTY}"]
    assert page.text("li")[:2] == [NASTY, NASTY]
    assert page.all("audio")[0]["aria-label"] == f"{NASTY}, all: {NASTY}"


def test_an_evaluation_of_nothing_has_a_page(results):
    assert page_of(Results("none", [], [], [], []))[1].text("h1") == ["Evaluation on none"]
    assert page_of(replace(results, outcomes=[]))[1].text("svg") == []
    natural = [each for each in results.summaries if each.natural]
    assert not page_of(replace(results, summaries=natural, outcomes=results.outcomes[:8]), tone)[1].all("audio")
