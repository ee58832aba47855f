"""`ssl-vc speak`: text in any voice."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

import ssl_vc
from ssl_vc.cli import arguments
from ssl_vc.cli.arguments import MODEL, audio_output, check_voice_file, parse_pitch, refuse_existing, refuse_inputs
from ssl_vc.files import printable, read_text
from ssl_vc.options import MOST_NEIGHBOURS
from ssl_vc.process import prepare_inference

LONGEST = 2**24  # characters of a text: several hundred hours


def speak(
    text: Annotated[
        str | None,
        typer.Argument(
            help="English text; parts may have their own blend, <voice blend=0.3>so</voice>; - for standard input.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="An audio file, or a folder for speech.wav.")] = Path(
        "speech.wav"
    ),
    file: Annotated[Path | None, typer.Option(help="Text file, instead of TEXT.", readable=False)] = None,
    voice: Annotated[
        Path | None,
        typer.Option(help="Target .voice file; the text model's own speaker if omitted.", readable=False),
    ] = None,
    target: Annotated[
        list[Path] | None,
        typer.Option(help="Reference recording of the target, instead of --voice; repeatable.", readable=False),
    ] = None,
    blend: Annotated[
        float, typer.Option(min=0, max=4, help="1: matched frames only; 0: the text model's frames only.")
    ] = 1.0,
    k: Annotated[int, typer.Option(min=1, max=MOST_NEIGHBOURS, help="Number of neighbours.")] = 4,
    pitch: Annotated[str, typer.Option(help="match (the target's F0), or semitones.")] = "match",
    speed: Annotated[float, typer.Option(min=0.25, max=4, help="Speaking rate.")] = 1.0,
    speaker: Annotated[
        str, typer.Option(help="Training speaker whose speaking style is used, by number or name.")
    ] = "0",
    temperature: Annotated[float, typer.Option(min=0, max=1, help="Sampling temperature.")] = 0.3,
    warmth: Annotated[float | None, typer.Option(min=0, max=1, hidden=True)] = None,
    melody: Annotated[float, typer.Option(min=0, max=3, help="Scale of the F0 contour around its median.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Random seed.")] = 0,
    model: Annotated[str, typer.Option(help=MODEL)] = "tiny",
    text_model: Annotated[
        Path | None,
        typer.Option(help="Folder of a model trained by `ssl-vc train-tts`; default: bundled.", readable=False),
    ] = None,
    reader: Annotated[
        str, typer.Option(help="Source of pronunciations: g2p (the model's network), or espeak, if installed.")
    ] = "g2p",
    threads: arguments.Threads = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Use local files only.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Synthesise TEXT in a voice."""
    if (text is None) == (file is None):
        raise typer.BadParameter("give either TEXT or --file")
    if voice and target:
        raise typer.BadParameter("give either --voice or --target")
    if voice:
        check_voice_file(voice)
    output = audio_output(output, "speech.wav")
    refuse_existing(output, force, "speech.wav")
    refuse_inputs([output], [path for path in (file, voice, *(target or ())) if path])
    content = _text(text, file)
    prepare_inference(threads)
    from ssl_vc.tts.markup import parse_markup

    count = len(parse_markup(content))  # reports errors in the text before a model is loaded
    from ssl_vc.tts.speak import TextToSpeech

    tts = TextToSpeech.from_pretrained(model, model=text_model, reader=reader, device=device, offline=offline)
    enrolled = ssl_vc.Voice.load(voice) if voice else tts.converter.enroll(list(target)) if target else None
    wav = tts.speak(
        content,
        enrolled,
        blend=blend,
        k=k,
        pitch=parse_pitch(pitch),
        speed=speed,
        speaker=int(speaker) if speaker.isdecimal() else speaker,
        temperature=temperature,
        warmth=warmth,
        melody=melody,
        seed=seed,
    )
    ssl_vc.write(output, wav, tts.sample_rate)
    result = {
        "output": printable(output),
        "seconds": round(len(wav) / tts.sample_rate, 3),
        "sentences": count,
        "voice": enrolled.name if enrolled else tts.speakers[0],
    }
    typer.echo(json.dumps(result) if as_json else f"{result['output']}: {result['seconds']:.2f} s, {count} sentences")


def _text(text: str | None, file: Path | None) -> str:
    if text == "-":
        content = sys.stdin.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise ValueError(f"standard input has more than {LONGEST} characters; speak it in parts.")
        return content
    if file is None:
        assert text is not None
        return text
    return read_text(file, LONGEST)
