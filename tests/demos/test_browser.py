"""The demo in a browser: every tab does what it is for, bad files are answered, and users do not meet.

SSL_VC_SHOTS names a folder for pictures of every tab.
"""

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

import ssl_vc

SAMPLES = Path(__file__).parents[2] / "demos" / "samples"
SHOTS = os.environ.get("SSL_VC_SHOTS")
RATE, SLOW = 16_000, 120_000  # milliseconds


@pytest.fixture
def page(browser, server):
    """A user of his own."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(SLOW)
    page.goto(server)
    page.locator("#convert").wait_for()
    yield page
    context.close()


def shoot(page, name):
    if SHOTS:
        page.wait_for_timeout(1500)
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def give(page, where, *files):
    page.locator(f"#{where} input[type=file]").first.set_input_files([str(file) for file in files])


def give_voice(page, *files):
    give(page, "references", *files)
    page.locator("#report").get_by_text("Expected").wait_for()


def open_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def seconds_of(page, where):
    """Wait for a player's sound, and give how long it says that it lasts."""
    duration = page.locator(f"#{where} #duration, #{where} time[id=duration]").filter(has_not_text="0:00").first
    duration.wait_for()  # until the sound is decoded, it says 0:00
    minutes, seconds = duration.inner_text().split(":")
    return 60 * int(minutes) + int(seconds)


def test_convert(page, sounds):
    give_voice(page, sounds / "target.wav")
    assert "8 s of speech in one recording" in page.locator("#report").inner_text()
    give(page, "source", sounds / "source.wav")
    page.locator("#source").get_by_text("0:03").first.wait_for()
    page.locator("#convert").click()
    page.locator("#convert-status").get_by_text("s of speech in").wait_for()
    assert seconds_of(page, "result") == 3
    assert page.locator("#pictures figure").count() == 3
    assert page.locator("#pictures audio").last.evaluate("player => player.duration") == pytest.approx(3, abs=0.05)
    page.locator("#save-voice").click()
    page.locator("#voice-file").get_by_text("target").first.wait_for()
    shoot(page, "convert")


def test_the_example_with_one_click_each(page):
    page.locator("#example-voice").click()
    page.locator("#report").get_by_text(re.compile(r"4\d s of speech")).wait_for()
    page.get_by_role("button", name="source.flac").first.click()
    page.locator("#source").get_by_text("0:07").first.wait_for()
    page.locator("#convert").click()
    page.locator("#convert-status").get_by_text("s of speech in").wait_for()


@pytest.mark.parametrize(
    ("name", "problem"), [("empty", "is empty"), ("text", "is not an audio file"), ("silent", "is silent throughout")]
)
def test_bad_uploads_are_answered(page, sounds, name, problem):
    give(page, "references", sounds / f"{name}.wav")
    page.locator(".toast-body").get_by_text(problem).wait_for()
    shown = page.locator(".toast-body").first.inner_text()
    assert f"{name}.wav" in shown and "/" not in shown
    page.locator("#convert").click()  # and it goes on
    page.locator(".toast-body").get_by_text("Add a recording to convert first").wait_for()
    if name == "empty":
        shoot(page, "bad-upload")


def test_speak(page, sounds):
    give_voice(page, sounds / "target.wav")
    open_tab(page, "Speak")
    page.locator("#text textarea").fill("Hello, world. This is it.")
    page.locator("#speak").click()
    page.locator("#speak-status").get_by_text("of speech by target").wait_for()
    assert 1 <= seconds_of(page, "speech") <= 6
    shoot(page, "speak")


def test_copies(page, sounds):
    open_tab(page, "Copies")
    give(page, "copy-source", sounds / "source.wav")
    page.locator("#copy").click()
    page.locator("#copy-status").get_by_text(re.compile(r"^\d+ copies\.$")).wait_for()
    frame = page.frame_locator("#copies iframe")
    frame.get_by_role("heading", name="spoken × vocos").wait_for()
    assert int(page.locator("#copy-status").inner_text().split()[0]) == frame.locator("figure").count() - 1 >= 4
    shoot(page, "copies")


def test_units(page, sounds):
    open_tab(page, "Units")
    give(page, "unit-source", sounds / "source.wav")
    page.locator("#units").click()
    page.locator("#unit-status").get_by_text("bits per second").first.wait_for()
    assert seconds_of(page, "unit-result") == 3
    page.locator("#unit-file").get_by_text("source").first.wait_for()
    shoot(page, "units")


def test_batch(page, sounds):
    open_tab(page, "Batch")
    give(page, "batch-sources", sounds / "source.wav", sounds / "empty.wav")
    give(page, "batch-voices", sounds / "target.wav")
    page.locator("#batch-sources").get_by_text("empty").first.wait_for()
    page.locator("#batch-voices").get_by_text("target").first.wait_for()
    page.locator("#batch").click()
    page.locator("#batch-status").get_by_text("1 of 2 conversions done.").wait_for()
    page.locator("#batch-zip").get_by_text("conversions").first.wait_for()
    shoot(page, "batch")


def test_explore(page, sounds):
    give_voice(page, sounds / "target.wav")
    open_tab(page, "Explore")
    give(page, "frames-source", sounds / "source.wav")
    page.locator("#draw").click()
    page.locator("#frames-status").get_by_text("frames from 0.0 to 1.0 s").wait_for()
    page.locator("#frames-plot .js-plotly-plot").wait_for()
    page.locator("#layers").click()
    page.locator("#frames-status").get_by_text("are closest at layer").wait_for()
    page.locator("#layers-plot .js-plotly-plot").wait_for()
    shoot(page, "explore")


def test_two_users_do_not_meet(page, browser, server, sounds):
    give_voice(page, sounds / "target.wav")
    other = browser.new_context()
    stranger = other.new_page()
    stranger.set_default_timeout(SLOW)
    stranger.goto(server)
    stranger.locator("#convert").wait_for()
    assert stranger.locator("#report").inner_text().strip() == "No voice yet."
    give(stranger, "source", sounds / "source.wav")
    stranger.locator("#source").get_by_text("0:03").first.wait_for()
    stranger.locator("#convert").click()
    stranger.locator(".toast-body").get_by_text("Add a target voice first").wait_for()
    other.close()


def test_work_can_be_stopped(page, sounds, tmp_path):
    wav = ssl_vc.read(sounds / "source.wav").repeat(4)  # of 3 s it may be done before it is stopped
    ssl_vc.write(tmp_path / "long.wav", wav, 16_000)
    open_tab(page, "Copies")
    give(page, "copy-source", tmp_path / "long.wav")
    page.locator("#copy").click()
    page.locator("#copy-status").get_by_text("original done").wait_for()
    page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    page.locator("#copy-status").get_by_text("stopped").wait_for()
    page.wait_for_timeout(3000)
    assert page.locator("#copy-status").inner_text().strip() == "stopped"
    assert page.locator("#copies iframe").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(browser, server, scheme):
    """Nothing is wider than the screen; colours follow the user's."""
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(SLOW)
    page.goto(server)
    page.locator("#convert").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 384) == (scheme == "light")
    shoot(page, f"phone-{scheme}")
    context.close()


def test_by_keyboard_and_by_name(page):
    """Every control has a name, and the button that matters is reached by the tabulator key."""
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('input, textarea, select, button')]
            .filter(each => each.offsetParent !== null && each.type !== 'file')
            .filter(each => !(each.ariaLabel || each.title || each.innerText.trim() || each.placeholder
                || each.labels?.length || each.getAttribute('aria-labelledby')))
            .map(each => each.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "convert":
            break
    assert page.evaluate("document.activeElement.id") == "convert"
    page.keyboard.press("Enter")
    page.locator(".toast-body").get_by_text("Add a recording to convert first").wait_for()


MARKUP = "![x](http://127.0.0.2:9/a) <img src=http://127.0.0.2:9/b> **bold**"


@pytest.fixture
def tampered(sounds):
    """Returns a voice whose name, and the name of one of its clips, is markup; and one whose format is."""
    vc = ssl_vc.VoiceConverter.from_pretrained("tiny", device="cpu")
    voice = vc.enroll(sounds / "target.wav", MARKUP)
    findings = replace(voice.findings, outlier_clips=(MARKUP,), noise=3.0)
    path = replace(voice, findings=findings).save(sounds / "tampered.voice")
    other = sounds / "other.voice"
    save_file({"frames": voice.frames}, other, {"format": MARKUP})
    return path, other


def test_names_are_no_markup(page, sounds, tampered):
    """Wherever the page shows a name or a text of a user, it shows it as it is, and fetches nothing."""
    elsewhere = []
    page.on("request", lambda request: elsewhere.append(request.url) if "//127.0.0.2" in request.url else None)
    page.get_by_text("Microphone, saved voice, blend of two voices").click()
    give(page, "saved-voice", tampered[0])
    page.locator("#report").get_by_text(MARKUP).first.wait_for()
    give(page, "source", sounds / "source.wav")
    page.locator("#source").get_by_text("0:03").first.wait_for()
    page.locator("#convert").click()
    page.locator("#convert-status").get_by_text(MARKUP).first.wait_for()
    open_tab(page, "Speak")
    page.locator("#text textarea").fill("Hello.")
    page.locator("#speak").click()
    page.locator("#speak-status").get_by_text(f"of speech by {MARKUP}").wait_for()
    page.locator("#text textarea").fill(f"<voice {MARKUP}>hello</voice>")
    page.locator("#speak").click()
    page.locator(".toast-body").get_by_text("127.0.0.2").first.wait_for()
    open_tab(page, "Explore")
    give(page, "frames-source", sounds / "source.wav")
    page.locator("#draw").click()
    page.locator("#frames-plot").get_by_text("<img").first.wait_for()
    open_tab(page, "Batch")
    give(page, "batch-sources", sounds / "source.wav")
    give(page, "batch-voices", tampered[0])
    page.locator("#batch-voices").get_by_text("tampered").first.wait_for()
    page.locator("#batch").click()
    page.locator("#batch-status").get_by_text("1 of 1 conversions done.").wait_for()
    page.locator("table").get_by_text(MARKUP).first.wait_for(state="attached")
    give(page, "second-voice", tampered[1])
    shown = page.locator(".toast-body").get_by_text("its format is").first
    assert "<img src=" in shown.inner_text()
    page.wait_for_timeout(500)
    assert elsewhere == [] and page.locator("img[src*='//127.0.0.2']").count() == 0


def test_nothing_is_fetched_from_elsewhere(browser, server):
    context = browser.new_context()
    page = context.new_page()
    elsewhere = []
    page.on("request", lambda request: elsewhere.append(request.url) if "127.0.0.1" not in request.url else None)
    begun = time.perf_counter()
    page.goto(server)
    page.locator("#convert").wait_for(timeout=SLOW)
    print(f"first paint after {time.perf_counter() - begun:.2f} s")
    assert [url for url in elsewhere if not url.startswith(("data:", "blob:"))] == []
    context.close()
