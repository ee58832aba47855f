"""The tab that speaks."""

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
import torch

from demos.panel import Panel
from demos.studio import Brake, Folder, Held, Studio, start_and_stop, told, write
from demos.uploads import TEXT
from ssl_vc.html.page import Row, figure
from ssl_vc.tts.marks import lines

EXAMPLES = [
    ["The north wind and the sun were disputing which was the stronger."],
    ["Dr. Smith paid $3.50 on May 3rd, 2021, at 5 p.m."],
    ["This is mine, <voice blend=0>and this is somebody else's</voice>."],
]


def speak(studio: Studio, panel: Panel) -> None:
    """Make the tab."""
    gr.Markdown(
        "## 2. What it shall say\nEnglish text, said in the voice from above; without one, in that of the text model. "
        "Parts can be marked: `<voice blend=0.3>so</voice>`."
    )
    with gr.Row():
        with gr.Column(min_width=300):
            text = gr.Textbox(label="Text", lines=4, max_length=TEXT, elem_id="text")
            gr.Examples(EXAMPLES, [text], label="Examples", api_visibility="private")
        with gr.Column(min_width=300):
            result = gr.Audio(
                label="Speech", type="filepath", interactive=False, buttons=["download"], elem_id="speech"
            )
            status = gr.Markdown(elem_id="speak-status")
    with gr.Row():
        blend = gr.Slider(0, 1.5, 1, step=0.05, label="λ: how much of the voice", info="0 is the text model's speaker")
        speed = gr.Slider(0.5, 2, 1, step=0.05, label="Speed", info="2 is twice as fast")
        warmth = gr.Slider(0, 1, 0.3, step=0.05, label="How varied", info="0 says it the likeliest way")
        seed = gr.Slider(0, 20, 0, step=1, label="Another try", info="each number says it a little otherwise")
    with gr.Row():
        go = gr.Button("Speak", variant="primary", elem_id="speak")
        stop = gr.Button("Stop")
    pictures = gr.HTML(elem_id="speak-pictures")

    @told
    def run(
        _brake: Brake,
        text: str,
        held: Held,
        files: list[str] | None,
        spoken: str | None = None,
        saved: str | None = None,
        other: list[str] | None = None,
        share: float = 0.5,
        blend: float = 1.0,
        speed: float = 1.0,
        warmth: float = 0.3,
        seed: float = 0,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[Any, Any, Any]]:
        text = text or ""
        if not text.strip():
            raise ValueError("Write what is to be said first.")
        if len(text) > TEXT:
            raise ValueError(f"The text has {len(text)} letters; give {TEXT} at most.")
        count = len(lines(text))
        progress(0, "hearing the voice")
        voice = studio.voice(held, files, spoken, saved, other, share)
        speaks, begun, parts = studio.speech, time.perf_counter(), []
        stream = speaks.stream(text, voice, blend=blend, speed=speed, warmth=warmth, seed=int(seed))
        for number, part in enumerate(stream):
            parts.append(part)
            if number % 2 == 0:  # between the sentences are pauses
                progress((number // 2 + 1) / count, f"sentence {number // 2 + 1} of {count}")
                yield gr.skip(), gr.skip(), f"sentence {number // 2 + 1} of {count} …"
        wav, taken = torch.cat(parts), time.perf_counter() - begun
        wav = 0.9 * wav / wav.abs().max().clamp(min=1e-3)
        who = voice.name if voice else speaks.speakers[0]
        with Folder() as folder:
            yield (
                write(folder / "speech.wav", wav, speaks.sample_rate),
                f'<div class="sounds">{figure(Row(who, wav.cpu(), speaks.sample_rate))}</div>',
                f"{len(wav) / speaks.sample_rate:.1f} s of speech by {who}, made in {taken:.1f} s.",
            )

    options = [blend, speed, warmth, seed]
    start_and_stop(go, stop, run, [text, *panel, *options], [result, pictures, status], "speak")
