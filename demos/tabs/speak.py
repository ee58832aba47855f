"""The tab of text-to-speech."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr
import torch

from demos.panel import VoicePanel
from demos.sessions import Session
from demos.studio import Folder, Studio, write
from demos.uploads import MAX_CHARACTERS
from demos.widgets import StopSignal, figures, plain, player, report_errors, start_and_stop
from ssl_vc.html.page import Row
from ssl_vc.tts.markup import parse_markup

EXAMPLES = [
    ["The north wind and the sun were disputing which was the stronger."],
    ["Dr. Smith paid $3.50 on May 3rd, 2021, at 5 p.m."],
    ["This is my voice, <voice blend=0>and this is somebody else's</voice>."],
]


def speak_tab(studio: Studio, panel: VoicePanel) -> None:
    """Build the tab."""
    gr.Markdown(
        "## 2. Text\nEnglish text in the target voice or, without one, in the text model's own. "
        "Mark up parts like `<voice blend=0.3>this</voice>`."
    )
    with gr.Row():
        with gr.Column(min_width=300):
            text = gr.Textbox(label="Text", lines=4, max_length=MAX_CHARACTERS, elem_id="text")
            gr.Examples(EXAMPLES, [text], label="Examples", api_visibility="private")
        with gr.Column(min_width=300):
            result = player("Speech", "speech")
            status = gr.Markdown(elem_id="speak-status")
    with gr.Row():
        blend = gr.Slider(0, 1.5, 1, step=0.05, label="Blend λ", info="1: target voice, 0: the text model's speaker")
        speed = gr.Slider(0.5, 2, 1, step=0.05, label="Speed", info="2 is twice as fast")
        temperature = gr.Slider(0, 1, 0.3, step=0.05, label="Temperature", info="0 is the most likely reading")
        seed = gr.Slider(0, 20, 0, step=1, label="Seed", info="another number, another reading")
    with gr.Row():
        start = gr.Button("Speak", variant="primary", elem_id="speak")
        stop = gr.Button("Stop")
    pictures = gr.HTML(elem_id="speak-pictures")
    inputs, outputs = [text, *panel, blend, speed, temperature, seed], [result, pictures, status]
    start_and_stop(start, stop, partial(_speak, studio), inputs, outputs, "speak")


@report_errors
def _speak(
    studio: Studio,
    _stop: StopSignal,
    text: str,
    session: Session,
    files: list[str] | None,
    recorded: str | None = None,
    saved: str | None = None,
    other: list[str] | None = None,
    share: float = 0.5,
    blend: float = 1.0,
    speed: float = 1.0,
    temperature: float = 0.3,
    seed: float = 0,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> Iterator[tuple[Any, Any, Any]]:
    text = text or ""
    if not text.strip():
        raise ValueError("Enter a text first.")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"The text has {len(text)} characters; the limit is {MAX_CHARACTERS}.")
    count = len(parse_markup(text))
    progress(0, "enrolling the voice")
    voice = studio.voice(session, files, recorded, saved, other, share)
    tts, begun, parts = studio.tts, time.perf_counter(), []
    for number, part in enumerate(
        tts.stream(text, voice, blend=blend, speed=speed, temperature=temperature, seed=int(seed))
    ):
        parts.append(part)
        if number % 2 == 0:  # between the sentences are pauses
            progress((number // 2 + 1) / count, f"sentence {number // 2 + 1} of {count}")
            yield gr.skip(), gr.skip(), f"sentence {number // 2 + 1} of {count} …"
    wav, seconds = torch.cat(parts), time.perf_counter() - begun
    wav = 0.9 * wav / wav.abs().max().clamp(min=1e-3)
    speaker = voice.name if voice else tts.speakers[0]
    with Folder() as folder:
        yield (
            write(folder / "speech.wav", wav, tts.sample_rate),
            figures(Row(speaker, wav.cpu(), tts.sample_rate)),
            f"{len(wav) / tts.sample_rate:.1f} s of speech by {plain(speaker)}, synthesized in {seconds:.1f} s.",
        )
