"""The command line: a list of commands; the work happens elsewhere."""

import logging
import sys
import warnings
from typing import Annotated

import typer

import ssl_vc
from ssl_vc.cli.extract import extract

app = typer.Typer(
    name="ssl-vc",
    help="Voice conversion and synthesis on self-supervised speech features.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(extract)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="On an error, show where it happened.")] = False,  # noqa: ARG001
) -> None:
    """Print the version, or the help where no command is given (`main` itself looks for --debug)."""
    if version:
        typer.echo(ssl_vc.__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run a command; errors become one line on stderr and an exit status: 2 for wrong usage, 1 for what failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments  # wherever it stands
    warnings.showwarning = _show_warning
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    try:
        status = app([word for word in arguments if word != "--debug"], standalone_mode=False)
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        if debug:
            raise
        _fail(*_explain(error))
    sys.exit(status or 0)


def _explain(error: Exception) -> tuple[str, int]:
    if hasattr(error, "format_message"):  # what typer says of wrong usage
        return f"{error.format_message().rstrip('.')}. `ssl-vc --help` lists what is possible.", 2
    if isinstance(error, ValueError | OSError):
        return str(error), 1
    return f"{type(error).__name__}: {error} (this should not happen; --debug shows where it did)", 1


def _fail(message: str, status: int) -> None:
    typer.echo("error: " + " ".join(message.split()), err=True)
    sys.exit(status)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    typer.echo("warning: " + " ".join(str(message).split()), err=True)
