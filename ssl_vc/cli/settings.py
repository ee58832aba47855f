"""Settings of a training or a measurement: a YAML file, changed on the command line, checked by a dataclass."""

from pathlib import Path
from typing import TypeVar

import typer

Settings = TypeVar("Settings")


def read_config(path: Path, settings: list[str], kind: type[Settings]) -> Settings:
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
