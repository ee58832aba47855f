"""`ssl-vc demo`: the app in the browser."""

import os
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from ssl_vc.cli.arguments import MODEL
from ssl_vc.cli.messages import notify
from ssl_vc.files import printable

AUTH = "SSL_VC_DEMO_AUTH"


def demo(
    model: Annotated[str, typer.Option(help=MODEL)] = "tiny",
    host: Annotated[
        str, typer.Option(help="Where it listens; 0.0.0.0 lets other machines in, and then --auth is wise.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The first free from 7860 on, if left out.")
    ] = None,
    auth: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER...",
            help="Who may use it; may be repeated. Asks for the passwords. The environment variable "
            f"{AUTH} holds USER:PASSWORD instead, one a line.",
        ),
    ] = None,
    auth_file: Annotated[
        Path | None, typer.Option(help="A file of USER:PASSWORD, one a line, for who may use it.", readable=False)
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="A public address for three days, through gradio's server; all can come.")
    ] = False,
    browser: Annotated[bool, typer.Option("--browser", help="Open it in the browser.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
) -> None:
    """Convert, speak and look at voices in the browser."""
    users = _users(auth or [], auth_file)
    try:
        app, studio = (import_module(f"demos.{name}") for name in ("app", "studio"))  # the floor above: its door
    except ModuleNotFoundError as error:
        raise ValueError(f"the demo needs {error.name}; pip install 'ssl-vc[demo]'.") from None
    app.launch(
        studio.Studio(model, device, offline), host=host, port=port, auth=users or None, share=share, inbrowser=browser
    )


def _users(names: list[str], file: Path | None) -> list[tuple[str, str]]:
    """Returns (user, password) of the command line, a file and the environment."""
    users = [_user(line, f"line {number} of {printable(file)}") for number, line in _lines(_read(file))] if file else []
    users += [_user(line, f"line {number} of {AUTH}") for number, line in _lines(os.environ.get(AUTH, ""))]
    for name in names:
        if ":" in name:
            notify("warning", "a password on the command line shows in the list of processes; give --auth USER alone.")
            users.append(_user(name, "--auth"))
        else:
            users.append(_user(f"{name}:{typer.prompt(f'Password of {name}', hide_input=True, err=True)}", "--auth"))
    return users


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{printable(file)} cannot be read ({error}); it holds USER:PASSWORD, one a line.") from None


def _lines(text: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _user(text: str, where: str) -> tuple[str, str]:
    name, _, password = text.partition(":")
    if not name.strip() or not password:
        raise typer.BadParameter(f"{where} has to be USER:PASSWORD, both not empty")
    return name.strip(), password
