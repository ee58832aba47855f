"""The tab that converts."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

import ssl_vc
from demos.panel import Panel
from demos.studio import WORK, Brake, Folder, Held, Studio, short, start_and_stop, told, write
from demos.uploads import MINUTES, SAMPLES, Sent, check_sounds, given
from ssl_vc.html.page import Row, figure

EXCERPT = 10  # seconds of the target that are shown
MATCHERS = [
    ("let the voice's length decide", "auto"),
    ("nearest frames (kNN)", "knn"),
    ("smooth paths", "smooth"),
    ("transport of all frames (little speech)", "transport"),
]
PITCHES = [("as the conversion gives it", "keep"), ("move it to the voice's", "match"), ("so many semitones", "moved")]


def convert(studio: Studio, panel: Panel) -> None:
    """Make the tab."""
    gr.Markdown("## 2. What it shall say\nThe words and the way to say them come from here; the voice from above.")
    with gr.Row():
        with gr.Column(min_width=300):
            source = gr.Audio(
                label="Recording to convert",
                sources=["upload", "microphone"],
                type="filepath",
                buttons=[],
                elem_id="source",
            )
            gr.Examples([[str(SAMPLES / "source.flac")]], [source], label="Example", api_visibility="private")
        with gr.Column(min_width=300):
            result = gr.Audio(
                label="Result", type="filepath", interactive=False, buttons=["download"], elem_id="result"
            )
            status = gr.Markdown(elem_id="convert-status")
    with gr.Accordion("How to convert", open=False):
        with gr.Row():
            blend = gr.Slider(0, 1.5, 1, step=0.05, label="λ: how much of the target", info="0 is the source itself")
            k = gr.Slider(
                0, 32, 0, step=1, label="k: neighbours averaged", info="0 leaves it to the matcher; more is smoother"
            )
            matcher = gr.Dropdown(MATCHERS, value="auto", label="How frames are chosen")
        with gr.Row():
            pitch = gr.Dropdown(PITCHES, value="keep", label="Pitch")
            semitones = gr.Slider(-12, 12, 0, step=1, label="Semitones", info="with “so many semitones”")
            speed = gr.Slider(0.5, 2, 1, step=0.05, label="Speed", info="2 is twice as fast")
    with gr.Row():
        go = gr.Button("Convert", variant="primary", elem_id="convert")
        stop = gr.Button("Stop", elem_id="convert-stop")
        save = gr.Button("Save this voice", elem_id="save-voice")
    kept = gr.File(label="The voice, as a file", visible=False, interactive=False, elem_id="voice-file")
    pictures = gr.HTML(elem_id="pictures")

    @told
    def run(
        _brake: Brake,
        source: str | None,
        held: Held,
        files: list[str] | None,
        spoken: str | None = None,
        saved: str | None = None,
        other: list[str] | None = None,
        share: float = 0.5,
        blend: float = 1.0,
        k: float = 0,
        matcher: str = "auto",
        pitch: str = "keep",
        semitones: float = 0.0,
        speed: float = 1.0,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[Any, Any, Any]]:
        (path,) = given(source, "a recording to convert")
        check_sounds([path], MINUTES)
        progress(0.1, "hearing the voice")
        yield gr.skip(), gr.skip(), "hearing the voice …"
        voice = studio.voice(held, files, spoken, saved, other, share)
        if voice is None:
            raise ValueError("Give a voice first: recordings of somebody, or a saved voice.")
        begun = time.perf_counter()
        progress(0.4, "hearing the recording")
        yield gr.skip(), gr.skip(), "hearing the recording …"
        heard = studio.converter.encode(path)
        progress(0.6, "converting")
        moved = semitones if pitch == "moved" else pitch
        how: dict[str, Any] = {"blend": blend, "k": int(k) or None, "matcher": matcher, "pitch": moved, "speed": speed}
        done = studio.converter.converted(heard, voice, **how)
        taken = time.perf_counter() - begun
        with Folder() as folder:
            yield (
                write(folder / f"{short(path.stem)}-{short(voice.name)}.wav", done.wav, done.sample_rate),
                _pictures(path, files, done),
                _told(done, taken),
            )

    @told
    def keep(
        held: Held,
        files: list[str] | None,
        spoken: str | None = None,
        saved: str | None = None,
        other: list[str] | None = None,
        share: float = 0.5,
    ) -> Iterator[Any]:
        voice = studio.voice(held, files, spoken, saved, other, share)
        if voice is None:
            raise ValueError("Give a voice first; then it can be saved.")
        with Folder() as folder:
            yield gr.File(str(voice.save(folder / f"{short(voice.name)}.voice")), visible=True)

    options = [blend, k, matcher, pitch, semitones, speed]
    start_and_stop(go, stop, run, [source, *panel, *options], [result, pictures, status], "convert")
    save.click(keep, list(panel), kept, api_name="save_voice", concurrency_limit=1, concurrency_id=WORK)


def _pictures(source: Path, files: Sent, done: Any) -> str:
    rows = [Row("source", ssl_vc.read(source), 16_000, {}, "")]
    if files:
        first = ssl_vc.read(given(files, "a voice")[0])
        rows.append(Row("target", first[: EXCERPT * 16_000], 16_000, {}, f"its first {EXCERPT} s"))
    rows.append(Row("result", done.wav.cpu(), done.sample_rate, {}, ""))
    return f'<div class="sounds">{"".join(map(figure, rows))}</div>'


def _told(done: Any, taken: float) -> str:
    seconds = len(done.wav) / done.sample_rate
    first = (
        f"{seconds:.1f} s of sound, made in {taken:.1f} s ({taken / max(seconds, 0.01):.2f} of its length); "
        f"matcher {done.matcher}: {done.why}"
    )
    if done.coverage is not None:
        first += f" The voice covers {1 - done.coverage:.0%} of the recording."
    return "\n\n".join([first, *(f"- {warning}" for warning in done.warnings)])
