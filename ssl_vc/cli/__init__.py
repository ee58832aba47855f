"""The command line: a list of commands; the work happens elsewhere."""

import io
import logging
import os
import signal
import sys
import warnings
from typing import Annotated, Any

import typer

import ssl_vc
from ssl_vc.cli.batch import batch
from ssl_vc.cli.convert import convert
from ssl_vc.cli.copy_synth import copy_synth
from ssl_vc.cli.demo import demo
from ssl_vc.cli.evaluate import evaluate
from ssl_vc.cli.extract import extract
from ssl_vc.cli.label import label
from ssl_vc.cli.make_parallel import make_parallel
from ssl_vc.cli.messages import StoppedError, log_to_stderr, notify
from ssl_vc.cli.models import models
from ssl_vc.cli.multi_value import MultiValueCommand
from ssl_vc.cli.prematch import prematch
from ssl_vc.cli.pretrain import pretrain
from ssl_vc.cli.probe import probe
from ssl_vc.cli.speak import speak
from ssl_vc.cli.train_tts import train_tts
from ssl_vc.cli.train_units import train_units
from ssl_vc.cli.train_vocoder import train_vocoder
from ssl_vc.cli.units import units
from ssl_vc.cli.voice import voice
from ssl_vc.process import use_passive_threads

INTERRUPTED = 130  # status after Ctrl-C

app = typer.Typer(
    name="ssl-vc",
    help="Voice conversion and synthesis on self-supervised speech features.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(batch)
app.command(cls=MultiValueCommand)(convert)
app.command()(copy_synth)
app.command(cls=MultiValueCommand)(demo)
app.command(cls=MultiValueCommand)(evaluate)
app.command()(extract)
app.command()(label)
app.command(cls=MultiValueCommand)(make_parallel)
app.command()(prematch)
app.command()(pretrain)
app.command()(probe)
app.command()(speak)
app.command()(train_tts)
app.command()(train_units)
app.command()(train_vocoder)
app.add_typer(models, name="models")
app.add_typer(units, name="units")
app.add_typer(voice, name="voice")


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="On an error, show the traceback.")] = False,  # noqa: ARG001
) -> None:
    """Print the version, or the help without a command (`main` itself handles --debug)."""
    if version:
        typer.echo(ssl_vc.__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error becomes one line on stderr, with status 2 for wrong usage and 1 for failures."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments  # in any position
    _set_up_process(debug)
    try:
        status = app([word for word in arguments if word != "--debug"], prog_name="ssl-vc", standalone_mode=False)
        if status == INTERRUPTED:  # by Ctrl-C, of which typer makes this status
            notify("stopped", "no output is left half written.")
    except StoppedError as stop:
        notify("stopped", stop)
        status = INTERRUPTED
    except Exception as error:
        if debug:
            raise
        message, status = _explain(error, arguments)
        notify("error", message)
    sys.exit(status or 0)


def _set_up_process(debug: bool) -> None:
    use_passive_threads()
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot display must not crash
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):  # Windows has no SIGHUP
        if number and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))  # so that half-written files are removed
    warnings.showwarning = lambda message, *_, **__: notify("warning", message)
    if debug:
        logging.basicConfig(level=logging.DEBUG)
    else:
        log_to_stderr("ssl_vc")  # reports downloads
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # else it logs every attempt to reach the hub


def _explain(error: Exception, arguments: list[str]) -> tuple[str, int]:
    if hasattr(error, "format_message"):  # a usage error of typer
        return f"{error.format_message().rstrip('.')}. `{_command(arguments)} --help` lists what is possible.", 2
    if isinstance(error, ValueError | OSError):
        return str(error), 1
    return f"{type(error).__name__}: {error} (a bug; --debug shows the traceback)", 1


def _command(arguments: list[str]) -> str:
    """Return the command that these arguments call, such as `ssl-vc voice build`."""
    command: Any = typer.main.get_command(app)
    names = ["ssl-vc"]
    for word in (word for word in arguments if word != "--debug"):
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        names.append(word)
    return " ".join(names)
