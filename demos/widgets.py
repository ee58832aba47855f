"""Widgets and error messages that the tabs share."""

import logging
import re
from collections.abc import Callable, Iterator
from functools import wraps
from html import escape
from typing import Any

import gradio as gr

from demos.uploads import SAMPLES
from ssl_vc.html.page import Row, figure

log = logging.getLogger(__name__)

ALONE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "models"}  # requests share the processor
MARKUP = re.compile(r"[\\`*_\[\]<>&~|$:@#]|(?<=www)\.", re.IGNORECASE)  # of Markdown, addresses and formulas
PATH = re.compile(r"'(?:/[^/']+)+/([^/']+)'|(?:/[^/\s']+)+/([^/\s']+)")


def recording(label: str, name: str) -> gr.Audio:
    """Build an input for a recording, with an example below it."""
    sources = ["upload", "microphone"]
    source = gr.Audio(label=label, sources=sources, type="filepath", buttons=[], elem_id=name)
    gr.Examples([[str(SAMPLES / "source.flac")]], [source], label="Example", api_visibility="private")
    return source


def player(label: str, name: str) -> gr.Audio:
    """Build a player for a generated sound."""
    return gr.Audio(label=label, type="filepath", interactive=False, buttons=["download"], elem_id=name)


def figures(*rows: Row) -> str:
    """Returns HTML that shows sounds side by side."""
    return f'<div class="sounds">{"".join(map(figure, rows))}</div>'


class StopSignal:
    """A session's request to stop, which its work checks between steps."""

    requested = running = False


def start_and_stop(
    start: gr.Button,
    stop: gr.Button,
    work: Callable[..., Iterator[Any]],
    inputs: list[Any],
    outputs: list[Any],
    name: str,
) -> None:
    """Let one button start the work and the other one stop it.

    Args:
        start: starts it.
        stop: stops it.
        work: takes a `StopSignal`, then the inputs.
        inputs: of the work.
        outputs: of the work; the last one is its status, a text.
        name: of the API endpoint.
    """
    signal = gr.State(StopSignal())

    def renew(earlier: StopSignal) -> StopSignal:
        earlier.requested = True  # earlier work of this session stops
        return StopSignal()

    def request(signal: StopSignal) -> None:
        signal.requested = True  # only the work writes its status: from here, "stopping" might come after "stopped"

    started = start.click(renew, signal, signal, queue=False, api_visibility="private")
    started.then(work, [signal, *inputs], outputs, api_name=name, **ALONE)
    stop.click(request, signal, queue=False, api_visibility="private")


def report_errors(work: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Turn errors of a generator into messages: ours as they are but without folders, unexpected ones without details.

    If one of its arguments is a `StopSignal`, the work ends at the first step after a request, with the status
    "stopped".
    """

    @wraps(work)
    def run(*arguments: Any, **named: Any) -> Iterator[Any]:
        signal = next((each for each in arguments if isinstance(each, StopSignal)), StopSignal())
        signal.running = True
        try:
            for step in work(*arguments, **named):
                if signal.requested:
                    yield (*(gr.skip() for _ in step[1:]), "stopped")
                    return
                yield step
        except gr.Error:
            raise
        except (ValueError, OSError) as error:
            message = escape(without_folders(str(error)), quote=False)  # gradio takes HTML
            raise gr.Error(message, title="That did not work", print_exception=False) from None
        except Exception:
            log.exception("%s failed", work.__name__)
            raise gr.Error("Unexpected error; the server's log has the details.") from None
        finally:
            signal.running = False

    return run


def without_folders(message: str) -> str:
    """Returns a message in which files are named without their folders."""
    return PATH.sub(lambda found: found[1] or found[2], message)


def plain(text: str) -> str:
    """Returns a text that a user or a file determines as Markdown that shows it as it is."""
    return MARKUP.sub(r"\\\g<0>", " ".join(text.split()))
