"""The voice panel, above all tabs: the target voice and what to expect of it."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from demos.sessions import Session
from demos.studio import Studio
from demos.uploads import SAMPLES
from demos.widgets import ALONE, plain, report_errors
from ssl_vc.voice import quality

SUFFIXES = [".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".m4a", ".webm"]


class VoicePanel(NamedTuple):
    """The panel's widgets, in the order of `Studio.voice`."""

    session: gr.State
    files: gr.File
    recorded: gr.Audio
    saved: gr.File
    other: gr.File
    share: gr.Slider


def voice_panel(studio: Studio) -> VoicePanel:
    """Build the panel."""
    gr.Markdown("## 1. Target voice\nUpload recordings of one speaker, a minute or more, or a saved voice.")
    with gr.Row():
        with gr.Column(min_width=300):
            files = gr.File(
                label="Recordings of the target voice", file_count="multiple", file_types=SUFFIXES, elem_id="references"
            )
            example = gr.Button("Use the example voice", size="sm", elem_id="example-voice")
        with gr.Column(min_width=300):
            shown = gr.Markdown("No voice yet.", label="Quality of this voice", elem_id="report")
    panel = VoicePanel(gr.State(Session()), files, *_more_voices())
    describe = partial(_describe, studio)
    event: dict[str, Any] = {"api_visibility": "private", **ALONE}
    for widget in (files, panel.recorded, panel.saved, panel.other):
        widget.change(describe, list(panel), shown, **event)
    panel.share.release(describe, list(panel), shown, **event)
    example.click(lambda: [str(SAMPLES / "emma.opus")], None, files, api_visibility="private")
    return panel


def _more_voices() -> tuple[gr.Audio, gr.File, gr.File, gr.Slider]:
    with gr.Accordion("Microphone, saved voice, blend of two voices", open=False):
        with gr.Row():
            recorded = gr.Audio(label="Record the target voice", sources=["microphone"], type="filepath")
            saved = gr.File(label="A saved .voice file instead", file_types=[".voice"], elem_id="saved-voice")
            other = gr.File(
                label="Second voice: recordings or a .voice file",
                file_count="multiple",
                file_types=[*SUFFIXES, ".voice"],
                elem_id="second-voice",
            )
        share = gr.Slider(0, 1, 0.5, step=0.05, label="Weight of the second voice", info="0: only the first")
    return recorded, saved, other, share


@report_errors
def _describe(studio: Studio, *panel: Any) -> Iterator[str]:
    voice = studio.voice(*panel)
    if voice is None:
        yield "No voice yet."
        return
    facts = quality.describe(voice)
    pitch = f", median F0 {voice.pitch.median:.0f} Hz" if voice.pitch else ""
    clips = "one recording" if facts["clips"] == 1 else f"{facts['clips']} recordings"
    lines = [
        f"**{plain(facts['name'])}**: {facts['seconds']:.0f} s of speech in {clips}{pitch}.",
        f"Expected quality: {plain(facts['band']['sentence'])}",
        *(f"- {plain(warning)}" for warning in facts["warnings"]),
    ]
    yield "\n\n".join(lines)
