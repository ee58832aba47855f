"""Options that several commands share, their parsing and their validation."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ssl_vc.files import printable
from ssl_vc.options import MOST_NEIGHBOURS

MODEL = "tiny, knn-vc, untrained, a folder or a hub id; see `ssl-vc models list`."
VOCODER = "world, griffin-lim, or weights: a folder, a file or a hub id. Default: the model's own."
DEVICE = "auto, cpu, cuda, cuda:1 ... or mps."

Model = Annotated[str, typer.Option(help=MODEL)]
Encoder = Annotated[str, typer.Option(help="tiny, untrained, a folder, a .pt file or a hub id.")]
Vocoder = Annotated[str | None, typer.Option(help=VOCODER)]
QueryLayer = Annotated[
    int | None, typer.Option(help="Encoder layer to match. Default: what the vocoder reads, or the model's own choice.")
]
Device = Annotated[str, typer.Option(help=DEVICE)]
Offline = Annotated[bool, typer.Option("--offline", help="Download nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON line per result.")]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", help="Output folder.", show_default=False)]
VoiceOutput = Annotated[Path, typer.Option("--output", "-o", help="The voice file to write.", show_default=False)]
Recordings = Annotated[
    list[Path], typer.Argument(metavar="REF...", help="Audio files of one speaker, or folders of them.")
]
VoiceFile = Annotated[Path, typer.Argument(help="A voice file.", readable=False)]
Target = Annotated[
    list[Path] | None,
    typer.Option(metavar="REF...", help="Recordings of the target speaker, or folders of them."),
]
Voice = Annotated[Path | None, typer.Option(help="A voice file from `ssl-vc voice build`.")]
Matcher = Annotated[str, typer.Option(help="auto, knn, smooth, linear, orthogonal, low-rank or transport.")]
Neighbours = Annotated[
    int | None, typer.Option(min=1, max=MOST_NEIGHBOURS, help="Number of neighbours. Default: the matcher's own.")
]
Blend = Annotated[
    float, typer.Option(help="1: matched frames, 0: the source's own, between: a mixture, above 1: extrapolation.")
]
Pitch = Annotated[str, typer.Option(help="match (the target's F0), or semitones above the source's own F0.")]
Speed = Annotated[float, typer.Option(help="Tempo factor.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads, of each worker. Default: one per core, shared by the workers.")
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that convert at the same time; each loads the model.")]
Resume = Annotated[bool, typer.Option("--resume", help="Skip what an earlier run of this command finished.")]
Approximate = Annotated[
    bool, typer.Option("--approximate", help="Approximate search (99% recall), for hours of reference.")
]


def parse_number(text: str, *words: str) -> float | str:
    """Return one of some words, or a number."""
    if text in words:
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor {' or '.join(words)}") from None


def parse_pitch(text: str) -> float | str:
    """Return a pitch option: `match`, also by its former name `keep`, or semitones."""
    return "match" if text == "keep" else parse_number(text, "match")


def parse_loudness(text: str) -> float | None:
    """Return a loudness in LUFS; None for `keep`."""
    level = parse_number(text, "keep")
    return level if isinstance(level, float) else None


def check_matcher(name: str) -> None:
    """Refuse an unknown matcher before any model is loaded."""
    from ssl_vc.match.choice import MATCHERS  # this loads torch, which `ssl-vc --help` does not need

    if name not in ("auto", *MATCHERS):
        raise typer.BadParameter(f"there is no matcher {name!r}; possible are auto, {', '.join(MATCHERS)}")


def check_audio(path: Path, *, speech: bool = False) -> None:
    """Raise an AudioError for an unreadable file before any model is loaded; folders are not checked."""
    from ssl_vc.audio import read_blocks

    if not path.is_dir():
        for _ in read_blocks(path, speech=speech):
            pass


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse outputs that are also inputs."""
    read = {os.path.realpath(path) for path in inputs}  # `resolve` fails for a link to itself
    both = [path for path in outputs if os.path.realpath(path) in read]
    if both:
        raise ValueError(f"{both[0]} is both input and output; write elsewhere.")


def refuse_overwriting(paths: Iterable[Path], force: bool) -> None:
    """Refuse existing outputs, except with --force."""
    existing = [path for path in paths if path.exists()]
    if existing and not force:
        raise ValueError(f"{printable(existing[0])} exists; --force overwrites it.")


def check_voice_file(path: Path) -> None:
    """Refuse a recording where a voice file is wanted."""
    from ssl_vc.audio import CONTAINERS, DEMUXERS  # this loads torch, which `ssl-vc --help` does not need

    if path.suffix.lower() in (*CONTAINERS, *DEMUXERS):
        raise typer.BadParameter(f"--voice {printable(path)}: that is a sound; use --target")


def refuse_existing(output: Path, force: bool, example: str) -> None:
    """Refuse an output file that is a folder, lies in a missing one, or exists already."""
    if output.is_dir():
        raise typer.BadParameter(f"{printable(output)} is a folder; name a file, such as {example}")
    if not output.parent.is_dir():
        raise ValueError(f"the folder {printable(output.parent)} does not exist; create it first.")
    refuse_overwriting([output], force)


def audio_output(output: Path, name: str) -> Path:
    """Return the audio file to write: the output, or a file of this name in it if it is a folder, which is created."""
    from ssl_vc.audio import CONTAINERS  # this loads torch, which `ssl-vc --help` does not need

    if output.is_dir() or not (output.suffix or output.exists()):
        output.mkdir(parents=True, exist_ok=True)
        return output / name
    if output.suffix.lower() not in CONTAINERS:
        raise typer.BadParameter(f"{output} is not an audio file name; end it in one of {', '.join(CONTAINERS)}")
    return output


def stem_of(path: Path) -> str:
    """Return a file's stem as printable text, for the name of a voice."""
    return "".join(letter if letter.isprintable() else "?" for letter in path.stem)
