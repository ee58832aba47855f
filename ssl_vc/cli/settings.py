"""Configurations: a YAML file, changed on the command line and checked by a dataclass."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ssl_vc.cli.messages import StoppedError
from ssl_vc.files import LOCK, locked, require_file

Kind = TypeVar("Kind")
LARGEST = 2**20  # bytes of a configuration
OF_ONE_CORPUS = {"speakers", "leave_out"}  # settings that name what the clips of a recipe have
RANKS = "RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK"  # as accelerate finds its processes
Folder = Annotated[Path, typer.Option("--output", "-o", help="Output folder.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CLIPS] [KEY=VALUE]...", help="A folder or table of clips, and overrides, as steps=1000."),
]
CONFIGS = Path(__file__).parents[1] / "configs"  # of the repository, or of the wheel
Resume = Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON line per report.")]


def read_config(name: Path, settings: list[str], kind: type[Kind], room: str) -> Kind:
    """Read a YAML configuration, apply overrides (`key=value`, `list.0.key=value`) and validate the result.

    Args:
        name: of a file, or of one in `configs/ROOM` without its ending.
        settings: the overrides; a first one without a key is the clips.
        kind: the dataclass to return.
        room: see `name`.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = _find_config(name, room)
    try:
        written = OmegaConf.load(require_file(path, LARGEST))
        if settings and "=" not in settings[0]:
            clips, *settings = settings
            OmegaConf.update(written, "clips", require_clips(clips), force_add=True)
            for key in OF_ONE_CORPUS & {*map(str, written)}:
                OmegaConf.update(written, key, [])
        for setting in settings:
            key, equals, value = setting.partition("=")
            if not equals:
                raise typer.BadParameter(f"{setting!r} is no setting; write key=value")
            parsed = OmegaConf.from_dotlist([f"value={value}"]).value if value else ""  # `clips=` means no clips
            OmegaConf.update(written, key, parsed, force_add=True)
        _check_numbers(OmegaConf.to_container(written))
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), written))
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise typer.BadParameter(f"{path}: {_explain(error)}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        # OmegaConf's error for a file with a single value
        raise typer.BadParameter(f"{path}: it must be a mapping of names to values") from None
    assert isinstance(config, kind)
    return config


def _find_config(config: Path, room: str) -> Path:
    """Return a file, or the one of this name in a folder of `CONFIGS`."""
    if config.is_file():
        return config
    named = CONFIGS / room / f"{config}.yaml"
    if config.name == str(config) and named.is_file():
        return named
    possible = ", ".join(sorted(path.stem for path in (CONFIGS / room).glob("*.yaml")))
    raise typer.BadParameter(f"there is no file {config}; recipes by name are {possible}")


def require_clips(clips: str) -> str:
    """Return the place of clips; raise BadParameter if there is nothing."""
    if not Path(clips).exists():
        raise typer.BadParameter(f"there are no clips at {clips}; settings are written KEY=VALUE")
    return clips


def _check_numbers(value: Any, key: str = "") -> None:
    """Raise ValueError for an integer that has no place in 64 bits."""
    for name, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        _check_numbers(part, f"{key}.{name}" if key else str(name))
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{key} has {len(str(value))} digits; a whole number has at most 18")


def _explain(error: Exception) -> str:
    problem, key = str(error).splitlines()[0], getattr(error, "full_key", None)
    if unset := re.search("Environment variable '(.+?)' not found", problem):
        return f"set the environment variable {unset[1]} to a folder or table of clips, or write {key}=PATH"
    return f"{key}: {problem}" if key else problem


@contextmanager
def working_in(output: Path, *, beside: bool = False) -> Iterator[None]:
    """Lock an output folder while a command works in it, and refuse one that is a file or in use by another process.

    Of the processes of one training (torchrun), the main one holds the lock for all.

    Args:
        output: the folder.
        beside: lock a file beside the folder, because the folder itself is replaced.
    """
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; -o wants a folder")
    place = Path(os.path.realpath(output))  # one lock for all ways to a folder
    parent = place.parent
    read_only = beside and parent.exists() and not os.access(parent, os.W_OK)  # so nobody can replace the folder
    rank = next((value for name in RANKS if (value := os.environ.get(name))), "0")
    if read_only or rank != "0":
        yield
        return
    with locked(parent / f".{place.name}{LOCK}" if beside else place / LOCK, output):
        yield


@contextmanager
def training_in(output: Path, state: Path, resume: bool) -> Iterator[None]:
    """Lock the folder of a training, see `working_in`; refuse one that holds a training which is not to be resumed."""
    with working_in(output):
        if state.exists() and not resume:
            raise ValueError(f"{output} holds a training; resume it with --resume, or choose another folder.")
        try:
            yield
        except KeyboardInterrupt:
            if state.exists():
                message = f"the same command with --resume goes on from the last checkpoint, which is in {output}."
            else:
                message = f"there is no checkpoint yet; the same command skips the finished stages, kept in {output}."
            raise StoppedError(message) from None
