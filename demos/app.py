"""The app: a voice above, and a tab for each thing to do with it."""

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import gradio as gr

import ssl_vc
from demos.panel import panel
from demos.studio import Studio
from demos.tabs.batch import batch
from demos.tabs.convert import convert
from demos.tabs.copies import copies
from demos.tabs.explore import explore
from demos.tabs.speak import speak
from demos.tabs.units import units
from demos.uploads import LARGEST, MINUTES

WAITING = 16  # users in the queue; the next one is told to come again
SESSIONS = 200  # whose voices are remembered
CLEANED = 600, 3600  # seconds: how often files are looked through, and how old they become
CONSENT = (
    "Use voices of people who agreed to it, and tell listeners that what they hear is synthetic: every sound from here "
    "says so in its file. What you upload is deleted within an hour or two, and nobody else sees it. "
    f"Files have {LARGEST >> 20} MB at most, recordings {MINUTES} minutes; one request is worked on at a time."
)
STYLE = """
.sounds {display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 280px), 1fr)); gap: 1rem}
.sounds figure {margin: 0; min-width: 0}
.sounds figcaption {display: flex; gap: .6rem; align-items: baseline; flex-wrap: wrap}
.sounds figcaption h3, .sounds figcaption p {margin: .3rem 0}
.sounds img {display: block; width: 100%; image-rendering: auto}
.sounds .outline {height: 48px; object-fit: fill}
.sounds .spectrum {height: 160px; object-fit: fill}
.sounds audio {width: 100%; margin-top: .4rem}
iframe.page {width: 100%; height: 80vh; border: 1px solid var(--border-color-primary); background: white}
"""


def create(studio: Studio) -> gr.Blocks:
    """Make the app, without starting it."""
    with gr.Blocks(title="ssl-vc", analytics_enabled=False, delete_cache=CLEANED) as app:
        gr.Markdown(
            f"# ssl-vc {ssl_vc.__version__}\nSay in one voice what was said in another. Model: `{studio.model}`."
        )
        with gr.Accordion("Before you begin", open=False):
            gr.Markdown(CONSENT)
        voice = panel(studio)
        with gr.Tabs():
            with gr.Tab("Convert"):
                convert(studio, voice)
            with gr.Tab("Speak"):
                speak(studio, voice)
            with gr.Tab("Copies"):
                copies(studio)
            with gr.Tab("Units"):
                units(studio, voice)
            with gr.Tab("Batch"):
                batch(studio)
            with gr.Tab("Explore"):
                explore(studio, voice)
    for block in app.blocks.values():
        _fetch_nothing(block)
    app.queue(max_size=WAITING, api_open=False)  # else requests could pass by the queue
    return app


def _fetch_nothing(block: Any) -> None:
    """Let a widget take what was uploaded, but no address, which gradio would fetch, however large it is."""
    move = block.async_move_resource_to_block_cache

    async def moved(path: Any) -> Any:
        if str(path).lower().startswith(("http:", "https:")):
            raise gr.Error("Upload the file; addresses are not fetched.", print_exception=False)
        return await move(path)

    block.async_move_resource_to_block_cache = moved


def _forget_now_and_then(studio: Studio) -> None:
    while True:
        time.sleep(CLEANED[0])
        studio.forget()


def _theme() -> Any:
    """Give a theme that needs no font from elsewhere, with buttons that can be read."""
    plain = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    dark, darker = "*primary_600", "*primary_700"
    return plain.set(
        button_primary_background_fill=dark,
        button_primary_background_fill_hover=darker,
        button_primary_background_fill_dark=dark,
    )


def launch(studio: Studio, *, host: str = "127.0.0.1", port: int | None = None, **options: Any) -> Any:
    """Start the app, and wait until it is stopped; what users sent is gone then.

    Args:
        studio: the models.
        host: where it listens; others than 127.0.0.1 can be reached from elsewhere.
        port: the first free one from 7860 on if None.
        **options: of `gradio.Blocks.launch`.
    """
    with tempfile.TemporaryDirectory(prefix="ssl-vc-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "sent")
        threading.Thread(target=_forget_now_and_then, args=(studio,), daemon=True).start()
        studio.converter  # noqa: B018 - so that the first user need not wait for it
        return create(studio).launch(
            server_name=host,
            server_port=port,
            max_file_size=LARGEST,
            theme=_theme(),
            state_session_capacity=SESSIONS,
            css=STYLE,
            footer_links=["api"],
            ssr_mode=False,
            **options,
        )
