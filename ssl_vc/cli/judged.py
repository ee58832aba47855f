"""What `ssl-vc evaluate` judges: a system for each thing that is asked for."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import ssl_vc

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from ssl_vc.evaluate.memory import Memory
    from ssl_vc.evaluate.pairs import Task
    from ssl_vc.evaluate.systems import System


def named(text: str) -> tuple[str, Path]:
    """Read [NAME=]FOLDER."""
    name, equals, folder = text.partition("=")
    return (Path(text).name, Path(text)) if not equals or Path(text).is_dir() else (name, Path(folder))


def elsewhere(converted: Sequence[str] | None, task: "Task") -> "Iterator[System]":
    """Give the sounds that were made elsewhere, by the list of pairs or in folders."""
    from ssl_vc.evaluate.systems import Files

    if any(pair.converted for pair in task.pairs):
        yield Files("converted")
    yield from (Files(*named(each)) for each in converted or ())


def baselines(
    names: Sequence[str],
    weights: Sequence[str] | None,
    encoder: str,
    layer: int | None,
    place: Mapping[str, Any],
    memory: "Memory",
) -> "Iterator[System]":
    """Give what stands beside a conversion, loaded once for all names that need it."""
    from ssl_vc.copysynth import Routes
    from ssl_vc.evaluate.systems import MEL, SPEAK, UNIT_FRAMES, UNITS, ByUnits, CopySynthesis, Speech, mel_knn
    from ssl_vc.tts.model import is_text_model
    from ssl_vc.tts.speak import TextToSpeech, load_text_model
    from ssl_vc.units.codec import UnitCodec, is_codec

    @cache
    def converter() -> ssl_vc.VoiceConverter:
        return ssl_vc.VoiceConverter.from_pretrained(encoder, **place)

    @cache
    def codec() -> UnitCodec:
        return UnitCodec.from_pretrained(next(filter(is_codec, others), "tiny"), encoder=encoder, **place)

    @cache
    def speaks() -> TextToSpeech:
        return TextToSpeech(load_text_model(next(filter(is_text_model, weights or ()), None)), converter())

    others = [each for each in weights or () if not is_text_model(each)]
    routes = Routes(others or None, encoder, layer, place["device"])
    made: dict[Any, Any] = {}
    for name in names:
        if name == MEL:
            yield mel_knn(place["device"], memory)
        elif name.partition(":")[0] in (UNITS, UNIT_FRAMES):
            yield ByUnits(name, codec(), converter(), made)
        elif name.partition(":")[0] == SPEAK:
            yield Speech(name, speaks(), made)
        elif "/" in name:
            yield CopySynthesis(name, routes)
        else:
            possible = f"{MEL}, {UNITS}, {UNIT_FRAMES}, {SPEAK}:BLEND and FEATURES/VOCODER"
            raise typer.BadParameter(f"there is no {name!r} to judge beside; possible are {possible}")


def conversions(
    model: str, models: Mapping[str, Any], grid: Mapping[str, Sequence[Any]], memory: "Memory"
) -> "Iterator[System]":
    """Give a system for each combination of settings, named by what differs."""
    from ssl_vc.evaluate.systems import Conversion

    layers = grid.get("layer", [None])
    others = {name: values for name, values in grid.items() if name != "layer"}
    for layer in layers:
        converter = ssl_vc.VoiceConverter.from_pretrained(model, layer=layer, **models)
        voices: dict[Any, Any] = {}
        for values in itertools.product(*others.values()):
            options = dict(zip(others, values, strict=True))
            said = {"layer": layer, **options} if "layer" in grid else options
            several = [f"{name} {value}" for name, value in said.items() if len(grid[name]) > 1]
            what = ", ".join([f"conversion by {model}", *(f"{name} {value}" for name, value in said.items())])
            yield Conversion(", ".join([Path(model).name, *several]), what, converter, options, voices, memory)
