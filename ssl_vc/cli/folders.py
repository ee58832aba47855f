"""Folders of recordings as sources: which files there are, and what their outputs are called."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ssl_vc.files import printable

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from ssl_vc.audio import Source
    from ssl_vc.batch.jobs import Job


def plan_jobs(sources: list[Path], output: Path, voice: Path | list[Path]) -> "list[Job]":
    """Return a job for each file, and for each audio file in or below a folder, with a name that mirrors its own.

    Args:
        sources: files and folders; several folders each have one in the output.
        output: folder of the outputs, which are no sources though it may lie in one of these.
        voice: a voice file, or recordings.
    """
    from ssl_vc.audio import CONTAINERS
    from ssl_vc.batch.jobs import Job

    if output.is_file() or (output.suffix.lower() in CONTAINERS and not output.is_dir()):
        raise typer.BadParameter(f"{printable(output)} is one file; give a folder for several sources")
    named: dict[str, Path] = {}
    for path, relative in _files(sources, output):
        name = relative.with_suffix(".wav").as_posix()
        if name in named:
            both = f"{printable(named[name])} and {printable(path)}"
            raise typer.BadParameter(f"{both} would both become {name}; convert one of them to another folder")
        named[name] = path
    target: Path | list[Source] = voice if isinstance(voice, Path) else [*voice]
    return [Job(path, target, name) for name, path in named.items()]


def _files(sources: list[Path], output: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the files to convert, and their paths relative to the output folder."""
    from ssl_vc.voice.enroll import audio_files

    folders = [source for source in sources if source.is_dir()]
    for source in sources:
        if source not in folders:
            yield source, Path(source.name)
            continue
        files = [path for path in audio_files(source) if not path.resolve().is_relative_to(output.resolve())]
        if not files:
            raise ValueError(f"the folder {printable(source)!r} contains no audio files.")
        above = Path(source.resolve().name if len(folders) > 1 else "")
        yield from ((path, above / path.relative_to(source)) for path in files)
