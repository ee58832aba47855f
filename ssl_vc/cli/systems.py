"""The systems of `ssl-vc evaluate`, from its options."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import ssl_vc
from ssl_vc.cli.arguments import check_matcher

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from ssl_vc.evaluate.analysis_cache import AnalysisCache
    from ssl_vc.evaluate.pairs import TestSet
    from ssl_vc.evaluate.systems import System


def build_systems(
    test_set: "TestSet",
    converted: Sequence[str],
    baselines: Sequence[str],
    weights: Sequence[str],
    *,
    model: str | None,
    vocoder: str | None,
    grid: Mapping[str, Sequence[Any]],
    device: str,
    offline: bool,
) -> "list[System]":
    """Build the natural source, external audio, baselines, and a conversion for each point of a grid of options.

    Without a model, conversions by `tiny` are added only if there is nothing else to evaluate.
    """
    from ssl_vc.evaluate.analysis_cache import AnalysisCache
    from ssl_vc.evaluate.systems import NaturalSource

    external = list(external_systems(converted, test_set))
    if model is None and not baselines and not external:
        model = "tiny"
    if model is None and (vocoder or grid.keys() - {"layer"}):
        raise typer.BadParameter("options of conversions need a --model, since nothing else is converted")
    for each in grid.get("matcher", ()):
        check_matcher(each)
    analyses, place = AnalysisCache(), {"device": device, "offline": offline}
    layer = grid.get("layer", [None])[0]
    systems = [NaturalSource(), *external]
    systems += baseline_systems(baselines, weights, model or "tiny", layer, place, analyses)
    if model is not None:
        systems += conversion_systems(model, {"vocoder": vocoder, **place}, grid, analyses)
    return systems


def parse_folder(text: str) -> tuple[str, Path]:
    """Parse [NAME=]FOLDER."""
    name, equals, folder = text.partition("=")
    return (Path(text).name, Path(text)) if not equals or Path(text).is_dir() else (name, Path(folder))


def external_systems(converted: Sequence[str], test_set: "TestSet") -> "Iterator[System]":
    """Yields the external audio listed with the pairs, or in folders."""
    from ssl_vc.evaluate.systems import ExternalAudio

    if any(pair.converted for pair in test_set.pairs):
        yield ExternalAudio("converted")
    yield from (ExternalAudio(*parse_folder(each)) for each in converted)


def baseline_systems(
    names: Sequence[str],
    weights: Sequence[str],
    encoder: str,
    layer: int | None,
    place: Mapping[str, Any],
    analyses: "AnalysisCache",
) -> "Iterator[System]":
    """Yields the named baselines; each model is loaded once for all names that need it."""
    from ssl_vc.copysynth import Routes
    from ssl_vc.evaluate import systems
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
    def tts() -> TextToSpeech:
        return TextToSpeech(load_text_model(next(filter(is_text_model, weights), None)), converter())

    others = [each for each in weights if not is_text_model(each)]
    routes = Routes(others or None, encoder, layer, place["device"])
    voices: systems.VoiceCache = {}
    for name in names:
        kind = name.partition(":")[0]
        if name == systems.MEL:
            yield systems.mel_baseline(place["device"], analyses)
        elif kind in (systems.UNITS, systems.UNIT_FRAMES):
            yield systems.UnitSystem(name, codec(), converter(), voices)
        elif kind == systems.SPEAK:
            yield systems.TextToSpeechSystem(name, tts(), voices)
        elif "/" in name:
            yield systems.CopySynthesis(name, routes)
        else:
            possible = f"{systems.MEL}, {systems.UNITS}, {systems.UNIT_FRAMES}, {systems.SPEAK}:BLEND"
            raise typer.BadParameter(f"there is no baseline {name!r}; possible are {possible} and FEATURES/VOCODER")


def conversion_systems(
    model: str, models: Mapping[str, Any], grid: Mapping[str, Sequence[Any]], analyses: "AnalysisCache"
) -> "Iterator[System]":
    """Yields a system for each point of a grid of options, named by the options that vary."""
    from ssl_vc.evaluate.systems import ConversionSystem, VoiceCache

    others = {name: values for name, values in grid.items() if name != "layer"}
    for layer in grid.get("layer", [None]):
        converter = ssl_vc.VoiceConverter.from_pretrained(model, layer=layer, **models)
        voices: VoiceCache = {}
        for values in itertools.product(*others.values()):
            options = dict(zip(others, values, strict=True))
            shown = {"layer": layer, **options} if "layer" in grid else options
            name = ", ".join(
                [Path(model).name, *(f"{key} {each}" for key, each in shown.items() if len(grid[key]) > 1)]
            )
            description = ", ".join([f"conversion by {model}", *(f"{key} {each}" for key, each in shown.items())])
            yield ConversionSystem(name, description, converter, options, voices=voices, analyses=analyses)
