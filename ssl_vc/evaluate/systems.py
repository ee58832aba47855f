"""The systems an evaluation compares: conversions, baselines, external audio, and the natural sources."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from ssl_vc.audio import CONTAINERS, SAMPLE_RATE, read
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.copysynth import Routes, check_pair
from ssl_vc.evaluate.analysis_cache import AnalysisCache
from ssl_vc.evaluate.mel_frames import MelExtractor
from ssl_vc.evaluate.pairs import Pair
from ssl_vc.files import printable
from ssl_vc.tts.speak import TextToSpeech
from ssl_vc.units.codec import PITCHES, UnitCodec
from ssl_vc.units.file import LAYOUTS, Layout
from ssl_vc.voice.voice import Voice
from vocoder.world import World

MEL, UNITS, UNIT_FRAMES, SPEAK = "mel-knn", "units", "units-frames", "speak"

VoiceCache = dict[tuple[str, int], Voice]  # by target and samples


class Audio(NamedTuple):
    """A waveform (samples,) and its sample rate."""

    wav: Tensor
    sample_rate: int


class System:
    """Generates the audio of pairs.

    Attributes:
        name: unique; shown in tables and used for the folder of its audio.
        description: one line.
        natural: it returns recordings as they are.
        copies: its outputs should equal the sources.
        converts: it uses the target's references.
        timed: its computing time is reported.
        size_mb: size of its weights; None if it has none.
    """

    name: str
    description: str
    natural = copies = converts = False
    timed = True
    size_mb: float | None = None

    @property
    def saved_seconds(self) -> float:
        """Computing time saved so far by reusing the results of other systems."""
        return 0.0

    def enroll(self, target: str, references: Sequence[Tensor]) -> None:
        """Set the references (samples,) at 16 kHz of a target; only called if the system `converts`."""

    def __call__(self, pair: Pair) -> Audio:
        """Generate the audio of a pair."""
        raise NotImplementedError


class NaturalSource(System):
    """The sources themselves."""

    name, description, natural, timed = "natural source", "the recordings that are converted", True, False

    def __call__(self, pair: Pair) -> Audio:
        """Returns the source."""
        return Audio(read(pair.source), SAMPLE_RATE)


class ExternalAudio(System):
    """Audio converted elsewhere: files named after the pairs in a folder, or listed with the pairs.

    Args:
        name: of the system.
        folder: of the files; None if the pairs list them.
    """

    timed = False

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self.name, self.folder = name, folder
        self.description = f"external audio{'' if folder is None else f' in {printable(folder)}'}"
        if folder is not None and not folder.is_dir():
            raise ValueError(f"there is no folder {printable(folder)!r} of converted audio.")

    def __call__(self, pair: Pair) -> Audio:
        """Read the file of the pair."""
        if self.folder is None:
            if pair.converted is None:
                raise ValueError(f"no converted audio is listed for {pair.name}; fill in the column `converted`.")
            return Audio(read(pair.converted), SAMPLE_RATE)
        found = [file for suffix in CONTAINERS if (file := self.folder / f"{pair.name}{suffix}").is_file()]
        if not found:
            raise ValueError(f"{printable(self.folder)} holds no audio file named {pair.name}.")
        return Audio(read(found[0]), SAMPLE_RATE)


class CopySynthesis(System):
    """Analysis and resynthesis of the sources, see `ssl_vc.copysynth`.

    Args:
        pair: FEATURES/VOCODER.
        routes: build the pipeline.
    """

    copies = True

    def __init__(self, pair: str, routes: Routes) -> None:
        features, _, vocoder = pair.partition("/")
        check_pair(features, vocoder)
        self.name, self.description = pair, f"copy-synthesis: {features} features, {vocoder}"
        self.route = routes(features, vocoder)
        self.size_mb = weights_size_mb(self.route.vocoder)

    def __call__(self, pair: Pair) -> Audio:
        """Resynthesise the source."""
        return Audio(self.route(read(pair.source)), self.route.sample_rate)


class EnrollingSystem(System):
    """Enrolls the targets as voices.

    Args:
        converter: enrolls.
        cache: voices enrolled so far; systems with one converter share them.
    """

    converts = True

    def __init__(self, converter: VoiceConverter, cache: VoiceCache | None = None) -> None:
        self.converter = converter
        self._cache: VoiceCache = {} if cache is None else cache
        self.voices: dict[str, Voice] = {}

    def enroll(self, target: str, references: Sequence[Tensor]) -> None:
        """Enroll a target."""
        key = target, sum(map(len, references))
        if key not in self._cache:
            self._cache[key] = self.converter.enroll([*references], target)
        self.voices[target] = self._cache[key]


class ConversionSystem(EnrollingSystem):
    """Conversion of the source's audio.

    Args:
        name: of the system.
        description: one line.
        converter: converts.
        options: of `VoiceConverter.convert`.
        voices: see `EnrollingSystem`.
        analyses: cache of WORLD analyses, which systems may share.
    """

    def __init__(
        self,
        name: str,
        description: str,
        converter: VoiceConverter,
        options: Mapping[str, Any],
        *,
        voices: VoiceCache | None = None,
        analyses: AnalysisCache | None = None,
    ) -> None:
        super().__init__(converter, voices)
        self.name, self.description, self.options = name, description, dict(options)
        self._analyses = analyses
        if analyses is not None and converter.analysis.feature_spec["kind"] == "world":
            converter.analysis = analyses.wrap(converter.analysis)
        self.size_mb = weights_size_mb(getattr(converter.extractor, "encoder", None), converter.vocoder)

    @property
    def saved_seconds(self) -> float:
        """Computing time saved by the cache."""
        return self._analyses.saved_seconds if self._analyses else 0.0

    def __call__(self, pair: Pair) -> Audio:
        """Convert the source."""
        wav = self.converter.convert(pair.source, self.voices[pair.target], **self.options)
        return Audio(wav, self.converter.sample_rate)


def mel_baseline(device: str = "auto", analyses: AnalysisCache | None = None) -> ConversionSystem:
    """Returns a baseline without learned features: kNN on log-mel frames, and WORLD."""
    converter = VoiceConverter(MelExtractor(device), "knn", World())
    description = "kNN on log-mel frames (nothing learned), WORLD"
    return ConversionSystem(MEL, description, converter, {"k": 4}, analyses=analyses)


class UnitSystem(EnrollingSystem):
    """Conversion through discrete units, see `ssl_vc.units`.

    Args:
        name: `units` (with the unit vocoder) or `units-frames` (the target's frames of the same units), with a layout
            or a pitch coding after colons: `units:ids`, `units:frames:bytes`.
        codec: encodes and decodes.
        converter: enrolls, and vocodes frames; with the codec's encoder.
        voices: see `EnrollingSystem`.
    """

    def __init__(
        self, name: str, codec: UnitCodec, converter: VoiceConverter, voices: VoiceCache | None = None
    ) -> None:
        super().__init__(converter, voices)
        self.name, self.codec = name, codec
        kind, *options = name.split(":")
        unknown = [each for each in options if each not in (*LAYOUTS, *PITCHES)]
        if unknown:
            raise ValueError(f"{name!r} has the option {unknown[0]!r}; possible are {', '.join((*LAYOUTS, *PITCHES))}.")
        if any(len(set(options) & set(group)) > 1 for group in (LAYOUTS, PITCHES)):
            raise ValueError(f"{name!r} has contradictory options; choose one layout and one pitch coding.")
        self.layout: Layout = next((each for each in LAYOUTS if each in options), "runs")
        self.pitch = next((each for each in PITCHES if each in options), "codes")
        self.vocodes_units = kind == UNITS
        route = "unit vocoder" if self.vocodes_units else "frames of the target"
        self.description = f"{codec.codebook.clusters} units as {self.layout}, pitch {self.pitch}, {route}"
        self.vocoder = codec.vocoder if self.vocodes_units else converter.vocoder
        self.size_mb = weights_size_mb(codec.analyzer.extractor.encoder, self.vocoder)

    def __call__(self, pair: Pair) -> Audio:
        """Encode the source as units, and decode them in the target's voice."""
        voice = self.voices[pair.target]
        units = self.codec.encode(pair.source, layout=self.layout, pitch=self.pitch, voice=False)
        if self.vocodes_units:
            return Audio(self.codec.decode(units, voice), self.vocoder.sample_rate)
        return Audio(self.codec.select(units, voice, self.vocoder), self.vocoder.sample_rate)


class TextToSpeechSystem(EnrollingSystem):
    """Speech from the source's text, see `ssl_vc.tts`.

    Args:
        name: `speak`, or speak:BLEND.
        tts: synthesises.
        voices: see `EnrollingSystem`.
    """

    def __init__(self, name: str, tts: TextToSpeech, voices: VoiceCache | None = None) -> None:
        super().__init__(tts.converter, voices)
        self.name, self.tts, self.blend = name, tts, _blend(name)
        self.description = f"the texts by {tts.speakers[0]}'s text model, blend {self.blend:g}"
        self.size_mb = weights_size_mb(tts.model.acoustic, tts.model.g2p, tts.converter.vocoder)

    def __call__(self, pair: Pair) -> Audio:
        """Synthesise the source's text in the target's voice."""
        return Audio(self.tts.speak(pair.text, self.voices[pair.target], blend=self.blend), self.tts.sample_rate)


def _blend(name: str) -> float:
    """Read the blend of speak:BLEND."""
    try:
        return float(name.partition(":")[2] or 1)
    except ValueError:
        raise ValueError(f"{name!r} has no number after the colon; write speak:0.5 for a blend of 0.5.") from None


def weights_size_mb(*models: object) -> float | None:
    """Returns the size in memory of the weights of some models; None where there are none."""
    modules = {id(model): model for model in models if isinstance(model, nn.Module)}
    sizes = [each.numel() * each.element_size() for module in modules.values() for each in module.parameters()]
    return math.fsum(sizes) / 1e6 if sizes else None
