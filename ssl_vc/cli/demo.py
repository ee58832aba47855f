"""`ssl-vc demo`: the app in the browser."""

from importlib import import_module
from typing import Annotated

import typer

from ssl_vc.cli.arguments import MODEL


def demo(
    model: Annotated[str, typer.Option(help=MODEL)] = "tiny",
    host: Annotated[
        str, typer.Option(help="Where it listens; 0.0.0.0 lets other machines in, and then --auth is wise.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The first free from 7860 on, if left out.")
    ] = None,
    auth: Annotated[
        list[str] | None, typer.Option(metavar="USER:PASSWORD...", help="Who may use it; may be repeated.")
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="A public address for three days, through gradio's server; all can come.")
    ] = False,
    browser: Annotated[bool, typer.Option("--browser", help="Open it in the browser.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
) -> None:
    """Convert, speak and look at voices in the browser."""
    people = [tuple(each.split(":", 1)) for each in auth or ()]
    if any(len(each) != 2 or not all(each) for each in people):
        raise typer.BadParameter("--auth is USER:PASSWORD, both not empty")
    try:
        app, studio = (import_module(f"demos.{name}") for name in ("app", "studio"))  # the floor above: its door
    except ModuleNotFoundError as error:
        raise ValueError(f"the demo needs {error.name}; pip install 'ssl-vc[demo]'.") from None
    app.launch(
        studio.Studio(model, device, offline), host=host, port=port, auth=people or None, share=share, inbrowser=browser
    )
