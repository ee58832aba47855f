"""`ssl-vc convert`: any voice to any voice."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

import ssl_vc
from ssl_vc.cli.arguments import MODEL, VOCODER, check_matcher, name_of, number_or, refuse_inputs
from ssl_vc.cli.messages import say
from ssl_vc.files import printable

if TYPE_CHECKING:
    from ssl_vc.conversion.converter import VoiceConverter
    from ssl_vc.voice.voice import Voice


def convert(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Sound files.", readable=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A sound file; for several sources a folder.", show_default=False)
    ],
    target: Annotated[
        list[Path] | None, typer.Option(metavar="REF...", help="Recordings of the target speaker, or folders of them.")
    ] = None,
    voice: Annotated[Path | None, typer.Option(help="A voice that `ssl-vc voice build` made.")] = None,
    model: Annotated[str, typer.Option(help=MODEL)] = "tiny",
    vocoder: Annotated[str | None, typer.Option(help=VOCODER)] = None,
    layer: Annotated[int | None, typer.Option(help="Layer to match; what fits the vocoder if left out.")] = None,
    matcher: Annotated[
        str, typer.Option(help="auto, knn, smooth, linear, orthogonal, low-rank or transport.")
    ] = "auto",
    k: Annotated[int | None, typer.Option(help="How many neighbours; the matcher's choice if left out.")] = None,
    blend: Annotated[float, typer.Option(help="1: matched frames, 0: the source's own, above 1: beyond.")] = 1.0,
    pitch: Annotated[str, typer.Option(help="keep, match (the target's median), or semitones.")] = "keep",
    speed: Annotated[float, typer.Option(help="How many times as fast.")] = 1.0,
    loudness: Annotated[str, typer.Option(help="In LUFS, or keep.")] = "-16",
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Find 99 of 100 neighbours, for a target of hours.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per result.")] = False,
) -> None:
    """Say in the target's voice what is said in each SOURCE."""
    if (voice is None) == (not target):
        raise typer.BadParameter("give the target either by --target REF... or by --voice FILE")
    outputs = _outputs(sources, output, force)
    check_matcher(matcher)
    refuse_inputs(outputs.values(), [*sources, *(target or []), *([voice] if voice else [])])
    options = {"matcher": matcher, "k": k, "blend": blend, "pitch": number_or(pitch, "keep", "match"), "speed": speed}
    level = number_or(loudness, "keep")
    options["loudness"] = None if level == "keep" else level
    for path in (
        *(sources if len(sources) == 1 else []),
        *(target or [])[:1],
    ):  # says what is wrong before a model is loaded for nothing
        if not path.is_dir():
            ssl_vc.read(path, speech=True)
    wanted = None if voice is None else ssl_vc.Voice.load(voice)
    converter = ssl_vc.VoiceConverter.from_pretrained(
        model, vocoder=vocoder, layer=layer, device=device, offline=offline, approximate=approximate
    )
    wanted = wanted or converter.enroll(target or [], name_of((target or sources)[0]))
    search = converter.pool(wanted).search
    if approximate:
        say("index", f"{getattr(search, 'recall', 1):.1%} of the exact neighbours were found when it was tried.")
    failed, said = 0, set[str]()
    for source, path in tqdm(outputs.items(), unit="file", disable=None if len(outputs) > 1 else True):
        try:
            facts, notes = _convert(converter, source, path, wanted, options)
        except (ValueError, OSError) as error:  # one bad file never stops the rest
            if len(outputs) == 1:
                raise
            failed += 1
            say("error", error)
            continue
        for note in notes:
            if note not in said:
                say("warning", note)
                said.add(note)
        line = "{input} -> {output}: {seconds} s in the voice {voice}, {matcher}, {speed_factor} x real time"
        tqdm.write(json.dumps(facts) if as_json else line.format(**facts))
    if failed:
        raise ValueError(f"{failed} of {len(outputs)} files failed.")


def _convert(
    converter: "VoiceConverter", source: Path, path: Path, voice: "Voice", options: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Convert one file, and give what to report of it, and the warnings."""
    start = time.perf_counter()
    done = converter.converted(source, voice, **options)
    ssl_vc.write(path, done.wav, done.sample_rate)
    taken, seconds = time.perf_counter() - start, len(done.wav) / done.sample_rate
    facts = {"input": printable(source), "output": printable(path), "voice": voice.name, "seconds": round(seconds, 3)}
    facts |= {"sample_rate": done.sample_rate, "samples": len(done.wav), "matcher": done.matcher, "why": done.why}
    for name in ("distance", "coverage", "jump", "source_jump"):
        value = getattr(done, name)
        facts[name] = None if value is None else round(value, 4)
    facts |= {"taken": round(taken, 3), "speed_factor": round(seconds / taken, 1), "warnings": list(done.warnings)}
    return facts, done.warnings


def _outputs(sources: list[Path], output: Path, force: bool) -> dict[Path, Path]:
    """Say where each source goes, and refuse what would be overwritten."""
    from ssl_vc.audio import CONTAINERS  # this loads torch, which `ssl-vc --help` need not wait for

    is_file = output.suffix.lower() in CONTAINERS and not output.is_dir()
    if is_file and len(sources) > 1:
        raise typer.BadParameter(f"{output} is one file for {len(sources)} sources; give a folder")
    if not is_file and not output.is_dir() and (output.is_file() or (output.suffix and len(sources) == 1)):
        raise typer.BadParameter(f"{output} names no sound file; end it in one of {', '.join(CONTAINERS)}")
    outputs = {source: output if is_file else output / f"{source.stem}.wav" for source in sources}
    if len(set(outputs.values())) < len(sources):
        raise typer.BadParameter("two sources would be written to one file; convert them one at a time")
    if is_file and not output.parent.is_dir():
        raise ValueError(f"the folder {output.parent} does not exist; create it first.")
    existing = [path for path in outputs.values() if path.exists()]
    if existing and not force:
        raise ValueError(f"{existing[0]} exists; --force overwrites it.")
    if not is_file:
        output.mkdir(parents=True, exist_ok=True)
    return outputs
