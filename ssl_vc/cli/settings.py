"""Settings of a training or a measurement: a YAML file, changed on the command line, checked by a dataclass."""

from pathlib import Path
from typing import Annotated, TypeVar

import typer

Kind = TypeVar("Kind")
Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder for the training.", show_default=False)]
Settings = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, such as clips=my/speech.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the training that is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON line per report.")]


def read_config(path: Path, settings: list[str], kind: type[Kind]) -> Kind:
    """Read a YAML file, change settings of it (`key=value`, `list.0.key=value`), and check all of them.

    Args:
        path: the file.
        settings: what to change.
        kind: the dataclass that says what is possible.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not path.is_file():
        raise typer.BadParameter(f"there is no file {path}")
    try:
        written = OmegaConf.load(path)
        for setting in settings:
            key, equals, value = setting.partition("=")
            if not equals:
                raise typer.BadParameter(f"{setting!r} is no setting; write key=value")
            read = OmegaConf.from_dotlist([f"value={value}"]).value if value else ""  # `clips=` is no clips
            OmegaConf.update(written, key, read, force_add=True)
        merged = OmegaConf.merge(OmegaConf.structured(kind), written)
        made = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError, IndexError) as error:
        where = getattr(error, "full_key", None)
        raise typer.BadParameter(f"{path}: {f'{where}: ' if where else ''}{str(error).splitlines()[0]}") from None
    assert isinstance(made, kind)
    return made


def refuse_training(output: Path, state: Path, resume: bool) -> None:
    """Refuse a folder that is none, and one whose training was begun, unless it is to go on."""
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; -o wants a folder")
    if state.exists() and not resume:
        raise ValueError(f"{output} holds a training; --resume goes on with it, or take another folder.")
