"""`ssl-vc units`: sound to discrete units, and back."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import ssl_vc
from ssl_vc.cli.arguments import name_of, refuse_existing, refuse_inputs
from ssl_vc.files import printable

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from ssl_vc.units.file import Units

units = typer.Typer(help="Speech as discrete units: a few hundred bits a second.", no_args_is_help=True)

CODEC = "tiny, or a folder that `ssl-vc train-units` made."
MODEL = "The encoder whose content the units are of."
Output = Annotated[Path, typer.Option("--output", "-o", show_default=False)]
Codec = Annotated[str, typer.Option(help=CODEC)]
Model = Annotated[str, typer.Option(help=MODEL)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON line.")]


class Layout(StrEnum):
    """What stands for the content."""

    frames = "frames"
    runs = "runs"
    ids = "ids"


class Pitch(StrEnum):
    """What stands for the melody."""

    codes = "codes"
    bytes = "bytes"
    none = "none"


@units.command()
def encode(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A sound file.", readable=False)],
    output: Output,
    layout: Annotated[
        Layout, typer.Option(help="A unit for every frame; runs and their lengths; ids of runs, lengths to be guessed.")
    ] = Layout.runs,
    pitch: Annotated[Pitch, typer.Option(help="Codes at 12.5 Hz, a byte for every frame, or none.")] = Pitch.codes,
    voice: Annotated[bool, typer.Option("--voice/--no-voice", help="Tell whose voice it was.")] = True,
    codec: Codec = "tiny",
    model: Model = "tiny",
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write the units of INPUT to a .units file."""
    refuse_existing(output, force, "clip.units")
    refuse_inputs([output], [source])
    ssl_vc.read(source, speech=True)  # says what is wrong before a model is loaded for nothing
    from ssl_vc.units.codec import UnitCodec

    coder = UnitCodec.from_pretrained(codec, encoder=model, device=device)
    made = coder.encode(source, layout=layout.value, pitch=pitch.value, voice=voice)
    made.save(output)
    _tell(made, output, as_json)


@units.command()
def decode(
    file: Annotated[Path, typer.Argument(metavar="INPUT", help="A .units file.", readable=False)],
    output: Output,
    voice: Annotated[Path | None, typer.Option(help="A .voice file: who speaks.", readable=False)] = None,
    own_frames: Annotated[
        bool, typer.Option("--own-frames", help="Choose among the voice's own frames those of the same units.")
    ] = False,
    semitones: Annotated[float, typer.Option(min=-24, max=24, help="How much higher.")] = 0.0,
    codec: Codec = "tiny",
    model: Model = "tiny",
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make sound of a .units file: in the voice that it tells of, or in another."""
    if own_frames and voice is None:
        raise typer.BadParameter("--own-frames goes with --voice; say whose")
    refuse_existing(output, force, "clip.wav")
    refuse_inputs([output], [file, *([voice] if voice else [])])
    from ssl_vc.hub.registry import load_vocoder
    from ssl_vc.units.codec import UnitCodec
    from ssl_vc.units.file import Units

    known, speaker = Units.load(file), ssl_vc.Voice.load(voice) if voice else None
    coder = UnitCodec.from_pretrained(codec, encoder=model, device=device)
    if own_frames:
        vocoder = load_vocoder(model)
        if vocoder is None:
            raise ValueError(f"the model {model!r} has no vocoder for a voice's own frames; leave --own-frames out.")
        assert speaker is not None
        wav, rate = coder.select(known, speaker, vocoder, pitch=semitones), vocoder.sample_rate
    else:
        wav, rate = coder.decode(known, speaker, pitch=semitones), coder.vocoder.sample_rate
    ssl_vc.write(output, wav, rate)
    result = {"output": printable(output), "seconds": round(len(wav) / rate, 3), "speaker": speaker and speaker.name}
    typer.echo(json.dumps(result) if as_json else f"{result['output']}: {result['seconds']:.2f} s")


@units.command()
def info(
    file: Annotated[Path, typer.Argument(help="A .units file.", readable=False)],
    as_json: Json = False,
) -> None:
    """Say what a .units file holds, and how many bits a second."""
    from ssl_vc.units.file import Units

    _tell(Units.load(file), file, as_json)


def _tell(known: "Units", file: Path, as_json: bool) -> None:
    from ssl_vc.units.codec import bitrate

    rates = {name: round(value, 1) for name, value in bitrate(known).items()}
    facts = {
        "file": printable(file),
        "bytes": len(known.to_bytes()),
        "seconds": round(known.samples / 16_000, 3),
        "layout": known.layout,
        "units": len(known.ids),
        "clusters": known.clusters,
        "codec": known.codec,
        "bits_per_second": rates,
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(
        f"{name_of(file)}: {facts['seconds']} s in {facts['bytes']} bytes; {len(known.ids)} units of {known.clusters}, "
        f"{known.layout}; bits a second: content {rates['content']:g} (entropy of its ids {rates['entropy']:g}), "
        f"pitch {rates['pitch']:g}, voice {rates['voice']:g}; codec {known.codec}"
    )
