"""The tab of discrete units: speech at a few hundred bits per second."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from demos.panel import VoicePanel
from demos.sessions import Session
from demos.studio import Folder, Studio, file_name, write
from demos.uploads import MAX_MINUTES, sounds, uploaded
from demos.widgets import ALONE, figures, player, recording, report_errors
from ssl_vc.html.page import Row
from ssl_vc.units.codec import bitrate
from ssl_vc.units.file import Layout

LEVELS: list[tuple[Layout, str, str]] = [
    ("ids", "none", "units alone: durations and F0 are predicted"),
    ("ids", "codes", "units and F0 codes: durations are predicted"),
    ("runs", "codes", "units, durations and F0 codes"),
    ("frames", "codes", "a unit per frame, and F0 codes"),
    ("frames", "bytes", "a unit and an F0 value per frame"),
]
SOURCE, TARGET = "the source speaker", "the target voice"


def units_tab(studio: Studio, panel: VoicePanel) -> None:
    """Build the tab."""
    gr.Markdown(
        "## Units\nSpeech becomes indices into a small codebook, and these become speech again, in any voice. "
        "The slider sets how much is kept; a telephone takes 13 000 bits per second."
    )
    with gr.Row():
        with gr.Column(min_width=300):
            source = recording("Recording", "unit-source")
            level = gr.Slider(1, len(LEVELS), 3, step=1, label="What is kept", info=_levels())
            who = gr.Radio([SOURCE, TARGET], value=SOURCE, label="Voice")
            start = gr.Button("Encode and decode", variant="primary", elem_id="units")
        with gr.Column(min_width=300):
            result = player("Decoded speech", "unit-result")
            status = gr.Markdown(elem_id="unit-status")
            saved = gr.File(label="The .units file", interactive=False, elem_id="unit-file")
    pictures = gr.HTML()
    inputs, outputs = [source, level, who, *panel], [result, pictures, status, saved]
    start.click(partial(_resynthesize, studio), inputs, outputs, api_name="units", **ALONE)


@report_errors
def _resynthesize(
    studio: Studio,
    source: str | None,
    level: float,
    who: str,
    session: Session,
    files: list[str] | None,
    recorded: str | None = None,
    saved: str | None = None,
    other: list[str] | None = None,
    share: float = 0.5,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> Iterator[tuple[Any, Any, Any, Any]]:
    (path,) = uploaded(source, "a recording")
    (wav,) = sounds([path], MAX_MINUTES)
    layout, pitch, meaning = LEVELS[int(level) - 1]
    voice = studio.required_voice(session, files, recorded, saved, other, share) if who == TARGET else None
    progress(0.3, "encoding")
    units = studio.codec.encode(wav, layout=layout, pitch=pitch)
    progress(0.6, "decoding")
    decoded, rate = studio.codec.decode(units, voice).cpu(), studio.codec.vocoder.sample_rate
    bits = bitrate(units)
    with Folder() as folder:
        file = units.save(folder / f"{file_name(path.stem)}.units")
        size, seconds = file.stat().st_size, len(wav) / 16_000
        yield (
            write(folder / f"{file_name(path.stem)}-units.wav", decoded, rate),
            figures(Row("source", wav, 16_000), Row("units", decoded, rate)),
            f"**{bits['content'] + bits['pitch']:.0f} bits per second** ({bits['content']:.0f} for the units, "
            f"{bits['pitch']:.0f} for F0; {meaning}). The file has {size} bytes, speaker and header included, "
            f"for {seconds:.1f} s: {32_000 * seconds / size:.0f} times less than 16 bits at 16 kHz.",
            str(file),
        )


def _levels() -> str:
    return "; ".join(f"{number}: {meaning}" for number, (_, _, meaning) in enumerate(LEVELS, 1))
