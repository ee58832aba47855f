"""`ssl-vc convert`: any-to-any voice conversion of files and folders."""

import json
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import ssl_vc
from ssl_vc.cli import arguments
from ssl_vc.cli.arguments import (
    check_audio,
    check_matcher,
    check_voice_file,
    parse_loudness,
    parse_pitch,
    refuse_inputs,
    refuse_overwriting,
    stem_of,
)
from ssl_vc.cli.folders import plan_jobs
from ssl_vc.cli.messages import for_each_file, notify, pace, share_bar
from ssl_vc.cli.results import convert_many, local_engine, show_warnings, sum_up
from ssl_vc.files import printable
from ssl_vc.process import prepare_inference

if TYPE_CHECKING:
    from ssl_vc.conversion.blending import ConversionResult
    from ssl_vc.conversion.converter import VoiceConverter
    from ssl_vc.voice.voice import Voice


def convert(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="Audio files, or folders of them.", readable=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="An audio file or a folder.", show_default="converted.wav, or converted/ for several"
        ),
    ] = None,
    target: arguments.Target = None,
    voice: arguments.Voice = None,
    model: arguments.Model = "tiny",
    vocoder: arguments.Vocoder = None,
    layer: arguments.QueryLayer = None,
    matcher: arguments.Matcher = "auto",
    k: arguments.Neighbours = None,
    blend: arguments.Blend = 1.0,
    pitch: arguments.Pitch = "match",
    speed: arguments.Speed = 1.0,
    loudness: Annotated[str, typer.Option(help="Output loudness in LUFS, or keep.")] = "-16",
    approximate: arguments.Approximate = False,
    workers: arguments.Workers = 1,
    threads: arguments.Threads = None,
    resume: arguments.Resume = False,
    device: arguments.Device = "auto",
    offline: arguments.Offline = False,
    force: arguments.Force = False,
    as_json: arguments.Json = False,
) -> None:
    """Convert each SOURCE to the target's voice; outputs of a folder mirror its names, beside a report.csv."""
    if (voice is None) == (not target):
        raise typer.BadParameter("give the target either by --target REF... or by --voice FILE")
    if voice:
        check_voice_file(voice)
    options = {"matcher": matcher, "k": k, "blend": blend, "pitch": parse_pitch(pitch)}
    options |= {"speed": speed, "loudness": parse_loudness(loudness)}
    settings: dict[str, Any] = {"vocoder": vocoder, "layer": layer, "approximate": approximate}
    load = partial(ssl_vc.VoiceConverter.from_pretrained, model, device=device, offline=offline, **settings)
    check_matcher(matcher)
    prepare_inference(threads)
    several = resume or workers > 1 or any(source.is_dir() for source in sources)
    if several:
        folder = output or Path("converted")
        jobs = plan_jobs(sources, folder, voice or target or [])
        engine = local_engine(load, workers, threads)
        convert_many(engine, jobs, folder, "file", resume, force, as_json, options)
    else:
        _convert_listed(load, sources, output, voice, target or [], options, force, as_json)


def _convert_listed(
    load: "Callable[[], VoiceConverter]",
    sources: list[Path],
    output: Path | None,
    voice: Path | None,
    references: list[Path],
    options: dict[str, Any],
    force: bool,
    as_json: bool,
) -> None:
    """Convert files in this process, one after another."""
    outputs = _plan_outputs(sources, output or Path("converted.wav" if len(sources) == 1 else "converted"), force)
    refuse_inputs(outputs.values(), [*sources, *references, *([voice] if voice else [])])
    for path in (*(sources if len(sources) == 1 else []), *references[:1]):
        check_audio(path, speech=True)
    known = None if voice is None else ssl_vc.Voice.load(voice)
    converter = load()
    target_voice = known or converter.enroll(references, stem_of(references[0]))
    if converter.approximate:
        _report_recall(converter, target_voice)
    _convert_files(converter, outputs, target_voice, options, as_json)


def _convert_files(
    converter: "VoiceConverter", outputs: dict[Path, Path], voice: "Voice", options: dict[str, Any], as_json: bool
) -> None:
    """Convert each file, report it, and print each kind of warning once."""
    warned = Counter[str]()

    def convert_file(source: Path, output: Path) -> str:
        start = time.perf_counter()
        with share_bar(output.name) as show:
            result = converter.convert_detailed(source, voice, progress=show, **options)
        ssl_vc.write(output, result.wav, result.sample_rate)
        seconds, taken = len(result.wav) / result.sample_rate, time.perf_counter() - start
        report = _report(source, output, voice.name, result, taken)
        show_warnings(result.warnings, report["output"], warned)
        line = f"{report['input']} -> {report['output']}: voice {voice.name}, {result.matcher}, {pace(seconds, taken)}"
        return json.dumps(report) if as_json else line

    for_each_file(outputs, convert_file)
    if len(outputs) > 1 and warned:
        notify("warnings", sum_up(warned))


def _report(source: Path, output: Path, voice: str, result: "ConversionResult", elapsed: float) -> dict[str, Any]:
    """Return the columns of --json."""
    seconds = len(result.wav) / result.sample_rate
    report = {"input": printable(source), "output": printable(output), "voice": voice, "seconds": round(seconds, 3)}
    report |= {"sample_rate": result.sample_rate, "samples": len(result.wav)}
    report |= {"matcher": result.matcher, "why": result.reason}
    for name in ("distance", "coverage", "jump", "source_jump"):
        value = getattr(result, name)
        report[name] = None if value is None else round(value, 4)
    report |= {"taken": round(elapsed, 3), "speed_factor": round(seconds / elapsed, 1)}
    return report | {"warnings": list(result.warnings)}


def _report_recall(converter: "VoiceConverter", voice: "Voice") -> None:
    recall = getattr(converter.pool(voice).search, "recall", 1)
    notify("index", f"the approximate search finds {recall:.1%} of the exact neighbours.")


def _plan_outputs(sources: list[Path], output: Path, force: bool) -> dict[Path, Path]:
    """Return the output of each source; refuse ambiguous and existing ones."""
    from ssl_vc.audio import CONTAINERS  # this loads torch, which `ssl-vc --help` does not need

    is_file = output.suffix.lower() in CONTAINERS and not output.is_dir()
    if is_file and len(sources) > 1:
        raise typer.BadParameter(f"{output} is one file for {len(sources)} sources; give a folder")
    if not is_file and not output.is_dir() and (output.is_file() or (output.suffix and len(sources) == 1)):
        raise typer.BadParameter(f"{output} is not an audio file name; end it in one of {', '.join(CONTAINERS)}")
    outputs = {source: output if is_file else output / f"{source.stem}.wav" for source in sources}
    if len(set(outputs.values())) < len(sources):
        raise typer.BadParameter("two sources would be written to one file; convert them one at a time")
    if is_file and not output.parent.is_dir():
        raise ValueError(f"the folder {output.parent} does not exist; create it first.")
    refuse_overwriting(outputs.values(), force)
    if not is_file:
        output.mkdir(parents=True, exist_ok=True)
    return outputs
