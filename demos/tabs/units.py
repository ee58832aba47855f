"""The tab of discrete units: speech as a few hundred bits a second."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

import ssl_vc
from demos.panel import Panel
from demos.studio import WORK, Folder, Held, Studio, short, told, write
from demos.uploads import MINUTES, SAMPLES, check_sounds, given
from ssl_vc.html.page import Row, figure
from ssl_vc.units.codec import bitrate
from ssl_vc.units.file import Layout

LEVELS: list[tuple[Layout, str, str]] = [
    ("ids", "none", "the units alone: lengths and melody are guessed"),
    ("ids", "codes", "units and a coarse melody: lengths are guessed"),
    ("runs", "codes", "units, lengths and a coarse melody"),
    ("frames", "codes", "a unit for every frame, and a coarse melody"),
    ("frames", "bytes", "a unit for every frame, and its pitch"),
]
OWN, GIVEN = "whoever spoke", "the voice from above"


def units(studio: Studio, panel: Panel) -> None:
    """Make the tab."""
    gr.Markdown(
        "## Units\nSpeech becomes numbers from a small codebook, and these become speech again, in any voice. "
        "The slider says how much is kept; a telephone takes 13 000 bits a second."
    )
    with gr.Row():
        with gr.Column(min_width=300):
            source = gr.Audio(
                label="Sound", sources=["upload", "microphone"], type="filepath", buttons=[], elem_id="unit-source"
            )
            gr.Examples([[str(SAMPLES / "source.flac")]], [source], label="Example", api_visibility="private")
            level = gr.Slider(1, len(LEVELS), 3, step=1, label="How much is kept", info=_levels())
            who = gr.Radio([OWN, GIVEN], value=OWN, label="Who says it")
            go = gr.Button("Encode and decode", variant="primary", elem_id="units")
        with gr.Column(min_width=300):
            result = gr.Audio(
                label="What the units say",
                type="filepath",
                interactive=False,
                buttons=["download"],
                elem_id="unit-result",
            )
            status = gr.Markdown(elem_id="unit-status")
            kept = gr.File(label="The .units file", interactive=False, elem_id="unit-file")
    pictures = gr.HTML()

    @told
    def run(
        source: str | None,
        level: float,
        who: str,
        held: Held,
        files: list[str] | None,
        spoken: str | None = None,
        saved: str | None = None,
        other: list[str] | None = None,
        share: float = 0.5,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[Any, Any, Any, Any]]:
        (path,) = given(source, "a sound")
        check_sounds([path], MINUTES)
        layout, pitch, meaning = LEVELS[int(level) - 1]
        voice = studio.voice(held, files, spoken, saved, other, share) if who == GIVEN else None
        if who == GIVEN and voice is None:
            raise ValueError("Give a voice above first, or let whoever spoke say it.")
        progress(0.3, "encoding")
        wav = ssl_vc.read(path)
        coded = studio.codec.encode(wav, layout=layout, pitch=pitch)
        progress(0.6, "decoding")
        sound, rate = studio.codec.decode(coded, voice).cpu(), studio.codec.vocoder.sample_rate
        rates = bitrate(coded)
        with Folder() as folder:
            file = coded.save(folder / f"{short(path.stem)}.units")
            size, seconds = file.stat().st_size, len(wav) / 16_000
            yield (
                write(folder / f"{short(path.stem)}-units.wav", sound, rate),
                f'<div class="sounds">{figure(Row("source", wav, 16_000))}{figure(Row("units", sound, rate))}</div>',
                f"**{rates['content'] + rates['pitch']:.0f} bits a second** ({rates['content']:.0f} for what is said, "
                f"{rates['pitch']:.0f} for its melody; {meaning}). The file has {size} bytes, who spoke and its head "
                f"included, for {seconds:.1f} s: {32_000 * seconds / size:.0f} times less than 16 bits at 16 kHz.",
                str(file),
            )

    go.click(
        run,
        [source, level, who, *panel],
        [result, pictures, status, kept],
        api_name="units",
        concurrency_limit=1,
        concurrency_id=WORK,
    )


def _levels() -> str:
    return "; ".join(f"{number}: {meaning}" for number, (_, _, meaning) in enumerate(LEVELS, 1))
