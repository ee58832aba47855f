"""The tab of copy-synthesis: what features and vocoders lose."""

from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

import ssl_vc
from demos.studio import Brake, Studio, start_and_stop, told
from demos.uploads import MINUTES, SAMPLES, check_sounds, given
from ssl_vc.copysynth import PAIRS
from ssl_vc.evaluate.copy_grid import grid, page

EXCERPT = 10  # seconds that are copied


def copies(studio: Studio) -> None:
    """Make the tab."""
    gr.Markdown(
        "## Copies\nA sound is taken apart into features, and put together again by a vocoder: by every pair that "
        f"fits, to hear what each loses. The first {EXCERPT} s are copied; it takes a minute."
    )
    source = gr.Audio(
        label="Sound", sources=["upload", "microphone"], type="filepath", buttons=[], elem_id="copy-source"
    )
    gr.Examples([[str(SAMPLES / "source.flac")]], [source], label="Example", api_visibility="private")
    with gr.Row():
        go = gr.Button("Copy", variant="primary", elem_id="copy")
        stop = gr.Button("Stop")
    status = gr.Markdown(elem_id="copy-status")
    shown = gr.HTML(elem_id="copies")

    @told
    def run(
        _brake: Brake,
        source: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[Any, str]]:
        (path,) = given(source, "a sound to copy")
        check_sounds([path], MINUTES)
        made, total = [], len(PAIRS) + 1
        for copy in grid(ssl_vc.read(path)[: EXCERPT * 16_000], device=studio.device):
            made.append(copy)
            progress(len(made) / total, copy.name)
            yield gr.skip(), f"{copy.name} done, {len(made)} of {total} …"
        whole = escape(page(path.name, made), quote=True)
        title = "Copies: players, spectrograms and measures"
        yield (
            f'<iframe title="{title}" class="page" sandbox="allow-scripts" srcdoc="{whole}"></iframe>',
            f"{sum(copy.wav is not None for copy in made) - 1} copies.",
        )

    start_and_stop(go, stop, run, [source], [shown, status], "copies")
