"""The panel of the voice, above all tabs: whose voice it is, and what it is worth."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr

from demos.studio import WORK, Held, Studio, told
from demos.uploads import SAMPLES
from ssl_vc.voice import quality as report

SUFFIXES = [".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".m4a", ".webm"]


class Panel(NamedTuple):
    """The panel's widgets, as `Studio.voice` takes them."""

    held: gr.State
    files: gr.File
    spoken: gr.Audio
    saved: gr.File
    other: gr.File
    share: gr.Slider


def panel(studio: Studio) -> Panel:
    """Make the panel."""
    gr.Markdown("## 1. Whose voice\nGive recordings of one person, a minute or more, or a voice that you saved.")
    held = gr.State(Held())
    with gr.Row():
        with gr.Column(min_width=300):
            files = gr.File(
                label="Recordings of the target voice", file_count="multiple", file_types=SUFFIXES, elem_id="references"
            )
            example = gr.Button("Take the example voice", size="sm", elem_id="example-voice")
        with gr.Column(min_width=300):
            shown = gr.Markdown("No voice yet.", label="What this voice is worth", elem_id="report")
    with gr.Accordion("Microphone, saved voice, mix of two voices", open=False):
        with gr.Row():
            spoken = gr.Audio(label="Record the target voice", sources=["microphone"], type="filepath")
            saved = gr.File(label="A saved .voice file, instead", file_types=[".voice"], elem_id="saved-voice")
            other = gr.File(
                label="Second voice: recordings, or a .voice file",
                file_count="multiple",
                file_types=[*SUFFIXES, ".voice"],
                elem_id="second-voice",
            )
        share = gr.Slider(0, 1, 0.5, step=0.05, label="Mix: how much of the second voice", info="0: none, 1: all of it")
    widgets = Panel(held, files, spoken, saved, other, share)

    @told
    def look(*parts: Any) -> Iterator[str]:
        yield _describe(studio, *parts)

    for widget in (files, spoken, saved, other):
        widget.change(look, list(widgets), shown, concurrency_limit=1, concurrency_id=WORK, api_visibility="private")
    share.release(look, list(widgets), shown, concurrency_limit=1, concurrency_id=WORK, api_visibility="private")
    example.click(lambda: [str(SAMPLES / "emma.opus")], None, files, api_visibility="private")
    return widgets


def _describe(studio: Studio, held: Held, *parts: Any) -> str:
    voice = studio.voice(held, *parts)
    if voice is None:
        return "No voice yet."
    facts = report.describe(voice)
    pitch = f", median pitch {voice.pitch.median:.0f} Hz" if voice.pitch else ""
    lines = [
        f"**{facts['name']}**: {facts['seconds']:.0f} s of speech in {_count(facts['clips'])}{pitch}.",
        f"Expected: {facts['band']['sentence']}",
        *(f"- {warning}" for warning in facts["warnings"]),
    ]
    return "\n\n".join(lines)


def _count(recordings: int) -> str:
    return "one recording" if recordings == 1 else f"{recordings} recordings"
