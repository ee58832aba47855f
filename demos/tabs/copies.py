"""The tab of copy-synthesis: what features and vocoders lose."""

from collections.abc import Iterator
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from demos.studio import Studio
from demos.uploads import MAX_MINUTES, sounds, uploaded
from demos.widgets import StopSignal, recording, report_errors, start_and_stop
from ssl_vc.copysynth import PAIRS
from ssl_vc.evaluate.copy_grid import copy_grid, render_page

EXCERPT = 10  # seconds to copy


def copies_tab(studio: Studio) -> None:
    """Build the tab."""
    gr.Markdown(
        "## Copy-synthesis\nA recording is analysed into features and resynthesised by a vocoder, with every pair that "
        f"fits, so that you hear what each loses. Only the first {EXCERPT} s are copied; it takes a minute."
    )
    source = recording("Recording", "copy-source")
    with gr.Row():
        start = gr.Button("Copy", variant="primary", elem_id="copy")
        stop = gr.Button("Stop")
    status = gr.Markdown(elem_id="copy-status")
    shown = gr.HTML(elem_id="copies")
    start_and_stop(start, stop, partial(_copy, studio), [source], [shown, status], "copies")


@report_errors
def _copy(
    studio: Studio,
    _stop: StopSignal,
    source: str | None,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> Iterator[tuple[Any, str]]:
    (path,) = uploaded(source, "a recording to copy")
    (wav,) = sounds([path], MAX_MINUTES)
    copies, total = [], len(PAIRS) + 1
    for copy in copy_grid(wav[: EXCERPT * 16_000], device=studio.device):
        copies.append(copy)
        progress(len(copies) / total, copy.name)
        yield gr.skip(), f"{copy.name} done, {len(copies)} of {total} …"
    document = escape(render_page(path.name, copies), quote=True)
    title = "Copies: players, spectrograms and metrics"
    yield (
        f'<iframe title="{title}" class="page" sandbox="allow-scripts" srcdoc="{document}"></iframe>',
        f"{sum(copy.wav is not None for copy in copies) - 1} copies.",
    )
