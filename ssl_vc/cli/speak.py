"""`ssl-vc speak`: text in any voice."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

import ssl_vc
from ssl_vc.cli.arguments import MODEL, number_or, refuse_existing, refuse_inputs
from ssl_vc.files import printable


def speak(
    text: Annotated[
        str | None,
        typer.Argument(
            help="What to say, in English; parts may be marked, <voice blend=0.3>so</voice>; - for standard input.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="A sound file.", show_default=False)] = Path(
        "speech.wav"
    ),
    file: Annotated[Path | None, typer.Option(help="A file with the text, instead.", readable=False)] = None,
    voice: Annotated[
        Path | None,
        typer.Option(help="A .voice file: who speaks; the model's speaker if left out.", readable=False),
    ] = None,
    target: Annotated[
        list[Path] | None, typer.Option(help="Recordings of who speaks, instead; may be repeated.", readable=False)
    ] = None,
    blend: Annotated[float, typer.Option(min=0, max=4, help="1: the voice's frames; 0: the model's own.")] = 1.0,
    k: Annotated[int, typer.Option(min=1, help="How many neighbours are averaged.")] = 4,
    pitch: Annotated[str, typer.Option(help="keep, match, or semitones.")] = "keep",
    speed: Annotated[float, typer.Option(min=0.25, max=4, help="How many times as fast.")] = 1.0,
    speaker: Annotated[str, typer.Option(help="Whose way to speak, by number or name.")] = "0",
    warmth: Annotated[float, typer.Option(min=0, max=1, help="How varied it speaks.")] = 0.3,
    melody: Annotated[float, typer.Option(min=0, max=3, help="How many times as wide the pitch moves.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of what is random.")] = 0,
    model: Annotated[str, typer.Option(help=MODEL)] = "tiny",
    text_model: Annotated[
        Path | None,
        typer.Option(help="A folder that `ssl-vc train-tts` made; the bundled one if left out.", readable=False),
    ] = None,
    reader: Annotated[str, typer.Option(help="How words are read: letters, or espeak, if installed.")] = "letters",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Say TEXT in a voice."""
    if (text is None) == (file is None):
        raise typer.BadParameter("give TEXT or --file, one of them")
    if voice and target:
        raise typer.BadParameter("give --voice or --target, one of them")
    refuse_existing(output, force, "speech.wav")
    refuse_inputs([output], [path for path in (file, voice, *(target or ())) if path])
    wanted = _text(text, file)
    from ssl_vc.tts.marks import lines

    count = len(lines(wanted))  # says what is wrong before a model is loaded for nothing
    from ssl_vc.tts.speak import TextToSpeech

    speaks = TextToSpeech.from_pretrained(model, model=text_model, reader=reader, device=device, offline=offline)
    who = ssl_vc.Voice.load(voice) if voice else speaks.converter.enroll(list(target)) if target else None
    wav = speaks.speak(
        wanted,
        who,
        blend=blend,
        k=k,
        pitch=number_or(pitch, "keep", "match"),
        speed=speed,
        speaker=int(speaker) if speaker.isdecimal() else speaker,
        warmth=warmth,
        melody=melody,
        seed=seed,
    )
    ssl_vc.write(output, wav, speaks.sample_rate)
    facts = {
        "output": printable(output),
        "seconds": round(len(wav) / speaks.sample_rate, 3),
        "sentences": count,
        "voice": who.name if who else speaks.speakers[0],
    }
    typer.echo(json.dumps(facts) if as_json else f"{facts['output']}: {facts['seconds']:.2f} s, {count} sentences")


def _text(text: str | None, file: Path | None) -> str:
    if text == "-":
        return sys.stdin.read()
    if file is None:
        assert text is not None
        return text
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{printable(file)} is no text in UTF-8.") from None
