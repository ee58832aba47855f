"""`ssl-vc units`: encode audio as discrete units, and decode them."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import ssl_vc
from ssl_vc.cli.arguments import refuse_existing, refuse_inputs, stem_of
from ssl_vc.files import printable

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from ssl_vc.units.file import Units

units = typer.Typer(help="Encode speech as discrete units, at a few hundred bits per second.", no_args_is_help=True)

CODEC = "tiny, or the folder of a codec trained by `ssl-vc train-units`."
MODEL = "Encoder that the codec was trained on."
Output = Annotated[Path, typer.Option("--output", "-o", show_default=False)]
Codec = Annotated[str, typer.Option(help=CODEC)]
Model = Annotated[str, typer.Option(help=MODEL)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON line.")]


class Layout(StrEnum):
    """Representation of the content."""

    frames = "frames"
    runs = "runs"
    ids = "ids"


class Pitch(StrEnum):
    """Representation of F0."""

    codes = "codes"
    bytes = "bytes"
    none = "none"


@units.command()
def encode(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Audio file.", readable=False)],
    output: Output,
    layout: Annotated[
        Layout,
        typer.Option(help="A unit per frame; runs with lengths; ids of runs, whose lengths are predicted."),
    ] = Layout.runs,
    pitch: Annotated[Pitch, typer.Option(help="F0 codes at 12.5 Hz, a byte per frame, or none.")] = Pitch.codes,
    voice: Annotated[
        bool, typer.Option("--voice/--no-voice", help="Include the speaker's timbre and median F0.")
    ] = True,
    codec: Codec = "tiny",
    model: Model = "tiny",
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Encode INPUT as a .units file."""
    refuse_existing(output, force, "clip.units")
    refuse_inputs([output], [source])
    ssl_vc.read(source, speech=True)  # reports errors before a model is loaded
    from ssl_vc.units.codec import UnitCodec

    unit_codec = UnitCodec.from_pretrained(codec, encoder=model, device=device)
    encoded = unit_codec.encode(source, layout=layout.value, pitch=pitch.value, voice=voice)
    encoded.save(output)
    _print(encoded, output, as_json)


@units.command()
def decode(
    file: Annotated[Path, typer.Argument(metavar="INPUT", help="A .units file.", readable=False)],
    output: Output,
    voice: Annotated[Path | None, typer.Option(help="Target .voice file.", readable=False)] = None,
    unit_selection: Annotated[
        bool, typer.Option("--unit-selection", help="Select frames of the voice with the same units.")
    ] = False,
    own_frames: Annotated[bool, typer.Option("--own-frames", hidden=True)] = False,
    semitones: Annotated[float, typer.Option(min=-24, max=24, help="Pitch shift in semitones.")] = 0.0,
    codec: Codec = "tiny",
    model: Model = "tiny",
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Decode a .units file in its own voice, or another."""
    unit_selection = unit_selection or own_frames
    if unit_selection and voice is None:
        raise typer.BadParameter("--unit-selection requires --voice")
    refuse_existing(output, force, "clip.wav")
    refuse_inputs([output], [file, *([voice] if voice else [])])
    from ssl_vc.hub.registry import load_vocoder
    from ssl_vc.units.codec import UnitCodec
    from ssl_vc.units.file import Units

    encoded, speaker = Units.load(file), ssl_vc.Voice.load(voice) if voice else None
    unit_codec = UnitCodec.from_pretrained(codec, encoder=model, device=device)
    if unit_selection:
        vocoder = load_vocoder(model)
        if vocoder is None:
            raise ValueError(f"the model {model!r} has no vocoder for the frames of a voice; omit --unit-selection.")
        assert speaker is not None
        wav, rate = unit_codec.select(encoded, speaker, vocoder, pitch=semitones), vocoder.sample_rate
    else:
        wav, rate = unit_codec.decode(encoded, speaker, pitch=semitones), unit_codec.vocoder.sample_rate
    ssl_vc.write(output, wav, rate)
    result = {"output": printable(output), "seconds": round(len(wav) / rate, 3), "speaker": speaker and speaker.name}
    typer.echo(json.dumps(result) if as_json else f"{result['output']}: {result['seconds']:.2f} s")


@units.command()
def info(
    file: Annotated[Path, typer.Argument(help="A .units file.", readable=False)],
    as_json: Json = False,
) -> None:
    """Print the contents and bitrate of a .units file."""
    from ssl_vc.units.file import Units

    _print(Units.load(file), file, as_json)


def _print(encoded: "Units", file: Path, as_json: bool) -> None:
    from ssl_vc.units.codec import bitrate

    rates = {name: round(value, 1) for name, value in bitrate(encoded).items()}
    result = {
        "file": printable(file),
        "bytes": len(encoded.to_bytes()),
        "seconds": round(encoded.samples / 16_000, 3),
        "layout": encoded.layout,
        "units": len(encoded.ids),
        "clusters": encoded.clusters,
        "codec": encoded.codec,
        "bits_per_second": rates,
    }
    if as_json:
        typer.echo(json.dumps(result))
        return
    typer.echo(
        f"{stem_of(file)}: {result['seconds']} s in {result['bytes']} bytes; "
        f"{len(encoded.ids)} units of {encoded.clusters}, {encoded.layout}; "
        f"bits per second: content {rates['content']:g} (entropy of its ids {rates['entropy']:g}), "
        f"pitch {rates['pitch']:g}, voice {rates['voice']:g}; codec {encoded.codec}"
    )
