"""The tab of voice conversion."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr
from torch import Tensor

from demos.panel import VoicePanel
from demos.sessions import Session
from demos.studio import Folder, Studio, file_name, write
from demos.uploads import MAX_MINUTES, MAX_REFERENCE_MINUTES, Upload, sounds, uploaded
from demos.widgets import ALONE, StopSignal, figures, plain, player, recording, report_errors, start_and_stop
from ssl_vc.html.page import Row

EXCERPT = 10  # seconds of the target to show
MATCHERS = [
    ("automatic, by the length of the voice", "auto"),
    ("nearest neighbours (kNN)", "knn"),
    ("smooth paths", "smooth"),
    ("optimal transport (short references)", "transport"),
]
PITCHES = [("of the target voice", "keep"), ("shift by semitones", "moved")]


def convert_tab(studio: Studio, panel: VoicePanel) -> None:
    """Build the tab."""
    gr.Markdown("## 2. Source\nWords, timing and intonation come from this recording.")
    with gr.Row():
        with gr.Column(min_width=300):
            source = recording("Recording to convert", "source")
        with gr.Column(min_width=300):
            result = player("Result", "result")
            status = gr.Markdown(elem_id="convert-status")
    with gr.Accordion("Options", open=False):
        options = _options()
    with gr.Row():
        start = gr.Button("Convert", variant="primary", elem_id="convert")
        stop = gr.Button("Stop", elem_id="convert-stop")
        save = gr.Button("Save this voice", elem_id="save-voice")
    saved = gr.File(label="The voice as a file", visible=False, interactive=False, elem_id="voice-file")
    pictures = gr.HTML(elem_id="pictures")
    inputs, outputs = [source, *panel, *options], [result, pictures, status]
    start_and_stop(start, stop, partial(_convert, studio), inputs, outputs, "convert")
    save.click(partial(_save, studio), list(panel), saved, api_name="save_voice", **ALONE)


def _options() -> list[Any]:
    with gr.Row():
        blend = gr.Slider(0, 1.5, 1, step=0.05, label="Blend λ", info="1: target frames, 0: the source's own frames")
        k = gr.Slider(0, 32, 0, step=1, label="Neighbours k", info="0: the matcher's default; more is smoother")
        matcher = gr.Dropdown(MATCHERS, value="auto", label="Matcher")
    with gr.Row():
        pitch = gr.Dropdown(PITCHES, value="keep", label="Pitch")
        semitones = gr.Slider(-12, 12, 0, step=1, label="Semitones", info="with “shift by semitones”")
        speed = gr.Slider(0.5, 2, 1, step=0.05, label="Speed", info="2 is twice as fast")
    return [blend, k, matcher, pitch, semitones, speed]


@report_errors
def _convert(
    studio: Studio,
    _stop: StopSignal,
    source: str | None,
    session: Session,
    files: list[str] | None,
    recorded: str | None = None,
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
    (path,) = uploaded(source, "a recording to convert")
    (wav,) = sounds([path], MAX_MINUTES)
    progress(0.1, "enrolling the voice")
    yield gr.skip(), gr.skip(), "enrolling the voice …"
    voice = studio.required_voice(session, files, recorded, saved, other, share)
    begun = time.perf_counter()
    progress(0.4, "encoding the source")
    yield gr.skip(), gr.skip(), "encoding the source …"
    encoded = studio.converter.encode(wav)
    progress(0.6, "converting")
    shift = semitones if pitch == "moved" else pitch
    options: dict[str, Any] = {"blend": blend, "k": int(k) or None, "matcher": matcher, "pitch": shift, "speed": speed}
    result = studio.converter.convert_detailed(encoded, voice, **options)
    seconds = time.perf_counter() - begun
    with Folder() as folder:
        yield (
            write(folder / f"{file_name(path.stem)}-{file_name(voice.name)}.wav", result.wav, result.sample_rate),
            _pictures(wav, None if saved else files, result),
            _summary(result, seconds),
        )


@report_errors
def _save(
    studio: Studio,
    session: Session,
    files: list[str] | None,
    recorded: str | None = None,
    saved: str | None = None,
    other: list[str] | None = None,
    share: float = 0.5,
) -> Iterator[Any]:
    voice = studio.required_voice(session, files, recorded, saved, other, share)
    with Folder() as folder:
        yield gr.File(str(voice.save(folder / f"{file_name(voice.name)}.voice")), visible=True)


def _pictures(source: Tensor, files: Upload, result: Any) -> str:
    rows = [Row("source", source, 16_000)]
    if files:
        (target,) = sounds(uploaded(files, "a voice")[:1], MAX_REFERENCE_MINUTES)
        rows.append(Row("target", target[: EXCERPT * 16_000], 16_000, note=f"its first {EXCERPT} s"))
    return figures(*rows, Row("result", result.wav.cpu(), result.sample_rate))


def _summary(result: Any, seconds: float) -> str:
    duration = len(result.wav) / result.sample_rate
    first = (
        f"{duration:.1f} s of speech in {seconds:.1f} s (real-time factor {seconds / max(duration, 0.01):.2f}); "
        f"matcher {result.matcher}: {result.reason}"
    )
    if result.coverage is not None:
        first += f" The voice covers {1 - result.coverage:.0%} of the source."
    return "\n\n".join([first, *(f"- {plain(warning)}" for warning in result.warnings)])
