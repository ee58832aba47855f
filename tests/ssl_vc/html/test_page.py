"""The page is self-contained, and escapes every text."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
import torch

from ssl_vc.html.page import MAX_SECONDS, Column, MissingItem, Row, render

VOID = {"meta", "link", "img", "br", "input"}
NASTY = "<script>alert(\"1\")</script> & 'é' {title}"


class Outline(HTMLParser):
    """Elements with their attributes, and text by its element; tags must be properly nested."""

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

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag):
        return [text for name, text in self.texts if name == tag]


COLUMNS = [Column("mcd", "MCD (dB)", 2, "Lower is nearer."), Column("rtf", "Real-time factor", 3)]


@pytest.fixture
def wav():
    return 0.3 * torch.sin(torch.arange(8000) * 0.05)


def page_of(*rows, **other):
    text = render("A title", "An intro.", COLUMNS, rows, **other)
    return text, Outline(text)


def test_a_page_has_players_pictures_and_a_table(wav):
    rows = Row("one", wav, 16_000, {"mcd": 1.23456, "rtf": None}, "a note"), Row("two", wav, 24_000)
    _, page = page_of(*rows)
    assert page.text("h1") == page.text("title") == ["A title"]
    assert [audio["aria-label"] for audio in page.all("audio")] == ["one", "two"]
    assert all("controls" in audio for audio in page.all("audio"))
    assert [image["alt"] for image in page.all("img")] == ["", "Spectrogram of one", "", "Spectrogram of two"]
    assert [head["scope"] for head in page.all("th")] == ["col"] * 3 + ["row"] * 2
    assert page.text("th") == ["Sound", "MCD (dB)", "Real-time factor", "one", "two"]
    assert page.text("td") == ["1.23", "–", "–", "–"]
    assert "a note" in page.text("p")
    assert page.text("dd") == ["Lower is nearer."]


def test_audio_is_embedded(wav):
    _, page = page_of(Row("one", wav, 16_000), Row("loud", 3 * wav / 0.3, 24_000))
    for audio, expected, rate in zip(page.all("audio"), (wav, 0.999 * wav / 0.3), (16_000, 24_000), strict=True):
        kind, content = audio["src"].split(",")
        assert kind == "data:audio/flac;base64"
        samples, read_rate = soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="float32")
        assert read_rate == rate
        assert np.abs(samples - expected.numpy()).max() < 1e-3


def test_nothing_is_downloaded(wav):
    text, page = page_of(Row("one", wav, 16_000), missing=[MissingItem("x", "y", "z")])
    links = [value for _, each in page.elements for name, value in each.items() if name in ("src", "href")]
    assert links
    assert all(link.startswith("data:") for link in links)
    assert not re.search(r"https?:|url\(|@import", text)
    assert "default-src 'none'" in next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)


def test_texts_are_escaped(wav):
    columns, rows = [Column("x", NASTY, 1, NASTY)], [Row(NASTY, wav, 16_000, {"x": 1.0}, NASTY)]
    text = render(NASTY, NASTY, columns, rows, [MissingItem(NASTY, NASTY, NASTY)])
    page = Outline(text)
    assert len(page.all("script")) == 1
    assert page.text("h1") == page.text("h3") == page.text("strong") == page.text("code") == [NASTY]
    assert NASTY in page.text("dt")
    assert page.all("audio")[0]["aria-label"] == NASTY


def test_missing_items_have_a_reason_and_a_cure(wav):
    missing = [MissingItem("a × b", "it is not there", "fetch it"), MissingItem("c × d", "nothing helps")]
    _, page = page_of(Row("one", wav, 16_000), missing=missing)
    assert page.text("strong") == ["a × b", "c × d"]
    assert page.text("li") == [": it is not there", ": nothing helps"]
    assert page.text("code") == ["fetch it"]
    assert "Missing" not in page_of(Row("one", wav, 16_000))[0]


def test_long_audio_is_cut():
    text, page = page_of(Row("long", torch.full(((MAX_SECONDS + 5) * 1000,), 0.1), 1000, note="slow"))
    (audio,) = page.all("audio")
    assert soundfile.info(io.BytesIO(base64.b64decode(audio["src"].split(",")[1]))).frames == MAX_SECONDS * 1000
    assert f"slow; the first {MAX_SECONDS} s" in text


def test_silent_and_empty_audio():
    _, page = page_of(Row("silent", torch.zeros(100), 16_000), Row("empty", torch.zeros(0), 16_000))
    assert len(page.all("audio")) == 2
    assert Outline(render("nothing", "", [], [])).text("h1") == ["nothing"]
