"""The app: a voice panel above a tab for each task."""

import logging
import os
import threading
import time
from contextlib import closing
from html import escape
from typing import Any

import gradio as gr
from gradio.route_utils import FnIndexInferError
from starlette.middleware import Middleware

import ssl_vc
from demos.limits import ADDRESS_BYTES, Logins, RequestLimits, Uploads, unknown_name
from demos.memory import return_memory
from demos.panel import voice_panel
from demos.studio import Studio
from demos.tabs.batch import batch_tab
from demos.tabs.convert import convert_tab
from demos.tabs.copies import copies_tab
from demos.tabs.explore import explore_tab
from demos.tabs.speak import speak_tab
from demos.tabs.units import units_tab
from demos.uploads import MAX_BYTES, MAX_MINUTES, demo_folder
from ssl_vc.process import limit_kernel_caches

log = logging.getLogger(__name__)

MAX_QUEUE = 16  # waiting requests; more are refused
MAX_SESSIONS = 50  # whose state is kept: voices, and the last results, which are megabytes of HTML
CLEANUP = 60, 3600  # seconds: interval, and age at which files are deleted
CONSENT = (
    "Only use voices of people who have agreed, and tell listeners that the speech is synthetic: every sound from here "
    "says so in its metadata. Uploads are deleted within an hour or two, and nobody else sees them. "
    f"Limits: {MAX_BYTES >> 20} MB per file and {ADDRESS_BYTES >> 20} MB in all (the oldest files go first), "
    f"{MAX_MINUTES} minutes per recording, one request at a time."
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
    """Build the app without starting it."""
    with gr.Blocks(title="ssl-vc", analytics_enabled=False) as app:  # `_clean_up` deletes: gradio's own task may die
        gr.Markdown(
            f"# ssl-vc {ssl_vc.__version__}\nVoice conversion on self-supervised features. Model: `{studio.model}`."
        )
        with gr.Accordion("Before you start", open=False):
            gr.Markdown(CONSENT)
        panel = voice_panel(studio)
        with gr.Tabs():
            with gr.Tab("Convert"):
                convert_tab(studio, panel)
            with gr.Tab("Speak"):
                speak_tab(studio, panel)
            with gr.Tab("Copies"):
                copies_tab(studio)
            with gr.Tab("Units"):
                units_tab(studio, panel)
            with gr.Tab("Batch"):
                batch_tab(studio, panel.session)
            with gr.Tab("Explore"):
                explore_tab(studio, panel)
    for block in app.blocks.values():
        _refuse_addresses(block)
        _shorten_errors(block)
    app.queue(max_size=MAX_QUEUE, api_open=False)  # otherwise requests could bypass the queue
    return app


def _refuse_addresses(block: Any) -> None:
    """Let a widget take uploads only: gradio would download any address, however large the file."""
    move = block.async_move_resource_to_block_cache

    async def move_upload(path: Any) -> Any:
        if str(path).lower().startswith(("http:", "https:")):
            raise gr.Error("Upload the file; addresses are not fetched.", print_exception=False)
        return await move(path)

    block.async_move_resource_to_block_cache = move_upload


def _shorten_errors(block: Any) -> None:
    """Let a widget refuse an input without a traceback in the log, and without markup of the input in the message."""
    preprocess = getattr(block, "preprocess", None)
    if preprocess is None:
        return

    def checked(value: Any) -> Any:
        try:
            return preprocess(value)
        except gr.Error as error:
            raise gr.Error(escape(error.message[:300], quote=False), print_exception=False) from None

    block.preprocess = checked


def _clean_up(studio: Studio, uploads: Uploads) -> None:
    while True:
        time.sleep(CLEANUP[0])
        try:
            studio.sessions.drop_idle()
            uploads.delete_older(CLEANUP[1])
            uploads.make_room()
            return_memory()
        except Exception:  # it has to go on
            log.exception("cleaning up failed")


def _theme() -> Any:
    """Returns a theme without web fonts, and with enough contrast on buttons."""
    plain = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    dark, darker = "*primary_600", "*primary_700"
    return plain.set(
        button_primary_background_fill=dark,
        button_primary_background_fill_hover=darker,
        button_primary_background_fill_dark=dark,
    )


def launch(studio: Studio, *, host: str = "127.0.0.1", port: int | None = None, **options: Any) -> Any:
    """Run the app until it is stopped, then delete what users sent.

    Args:
        studio: the models.
        host: address to listen on; 127.0.0.1 is this machine only.
        port: the first free one from 7860 if None.
        **options: of `gradio.Blocks.launch`.
    """
    with demo_folder() as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
        limit_kernel_caches()
        studio.converter  # noqa: B018 - loads the model before the first user comes
        app = create(studio)
        uploads = Uploads(folder / "uploads")
        threading.Thread(target=_clean_up, args=(studio, uploads), daemon=True).start()
        with closing(app):  # ends requests, which would go on to write files
            return app.launch(
                server_name=host,
                server_port=port,
                max_file_size=MAX_BYTES,
                theme=_theme(),
                state_session_capacity=MAX_SESSIONS,
                css=STYLE,
                footer_links=["api"],
                ssr_mode=False,
                enable_monitoring=False,
                app_kwargs={
                    "middleware": [Middleware(RequestLimits, uploads, Logins())],
                    "exception_handlers": {FnIndexInferError: unknown_name, KeyError: unknown_name},
                },
                **options,
            )
