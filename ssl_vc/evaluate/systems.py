"""Systems: what an evaluation judges, and how each makes its sounds. Natural sound is one of them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from ssl_vc.audio import CONTAINERS, SAMPLE_RATE, read
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.copysynth import Routes, check_pair
from ssl_vc.evaluate.mel_frames import MelExtractor
from ssl_vc.evaluate.memory import Memory
from ssl_vc.evaluate.pairs import Pair
from ssl_vc.files import printable
from ssl_vc.tts.speak import TextToSpeech
from ssl_vc.units.codec import PITCHES, UnitCodec
from ssl_vc.units.file import LAYOUTS, Layout
from ssl_vc.voice.voice import Voice
from vocoder.world import World

MEL, UNITS, UNIT_FRAMES, SPEAK = "mel-knn", "units", "units-frames", "speak"


Voices = dict[tuple[str, int], Voice]  # by target and samples


class Sound(NamedTuple):
    """A sound (samples,) and its rate."""

    wav: Tensor
    sample_rate: int


class System:
    """Makes the sounds of pairs.

    Attributes:
        name: in tables, and of the folder of its sounds.
        what: it is, in a line.
        natural: whether it gives recordings, which cost nothing to make.
        copies: whether its sounds should equal the sources.
        converts: whether it takes the target's recordings.
        costs: whether it takes time to make them.
        size_mb: of its weights; None if it has none.
    """

    name: str
    what: str
    natural = copies = converts = False
    costs = True
    size_mb: float | None = None

    @property
    def saved(self) -> float:
        """Seconds that it would have spent by now, had it not remembered what another system has done."""
        return 0.0

    def hear(self, target: str, references: Sequence[Tensor]) -> None:
        """Take recordings (samples,) at 16 kHz as those of a target from now on; only what converts needs them."""

    def __call__(self, pair: Pair) -> Sound:
        """Make the sound of a pair."""
        raise NotImplementedError


class Natural(System):
    """The sources themselves."""

    name, what, natural, costs = "natural source", "the recordings that are converted", True, False

    def __call__(self, pair: Pair) -> Sound:
        """Give the source."""
        return Sound(read(pair.source), SAMPLE_RATE)


class Files(System):
    """Sounds that were made elsewhere: a file of the pair's name in a folder, or the one that the list of pairs names.

    Args:
        name: of the system.
        folder: where the files are; None if the list names them.
    """

    costs = False

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self.name, self.folder = name, folder
        self.what = f"sounds made elsewhere{'' if folder is None else f', in {printable(folder)}'}"
        if folder is not None and not folder.is_dir():
            raise ValueError(f"there is no folder {printable(folder)!r} of converted sounds.")

    def __call__(self, pair: Pair) -> Sound:
        """Read the pair's sound."""
        if self.folder is None:
            if pair.converted is None:
                raise ValueError(f"the list names no converted sound for {pair.name}; fill in the column `converted`.")
            return Sound(read(pair.converted), SAMPLE_RATE)
        found = [file for suffix in CONTAINERS if (file := self.folder / f"{pair.name}{suffix}").is_file()]
        if not found:
            raise ValueError(f"{printable(self.folder)} holds no sound called {pair.name}.")
        return Sound(read(found[0]), SAMPLE_RATE)


class CopySynthesis(System):
    """Sources taken apart into features and made again, see `ssl_vc.copysynth`.

    Args:
        pair: FEATURES/VOCODER.
        routes: what makes them.
    """

    copies = True

    def __init__(self, pair: str, routes: Routes) -> None:
        features, _, vocoder = pair.partition("/")
        check_pair(features, vocoder)
        self.name, self.what = pair, f"copy-synthesis: {features} features, {vocoder}"
        self.route = routes(features, vocoder)
        self.size_mb = weights_mb(self.route.vocoder)

    def __call__(self, pair: Pair) -> Sound:
        """Make the copy."""
        return Sound(self.route(read(pair.source)), self.route.sample_rate)


class Enrolling(System):
    """Makes voices of what it hears.

    Args:
        converter: makes them.
        made: voices that it has made, by target and samples; systems with one converter share them.
    """

    converts = True

    def __init__(self, converter: VoiceConverter, made: Voices | None = None) -> None:
        self.converter = converter
        self.made: Voices = {} if made is None else made
        self.voices: dict[str, Voice] = {}

    def hear(self, target: str, references: Sequence[Tensor]) -> None:
        """Make a voice of a target's recordings."""
        key = target, sum(map(len, references))
        if key not in self.made:
            self.made[key] = self.converter.enroll([*references], target)
        self.voices[target] = self.made[key]


class Conversion(Enrolling):
    """Sources in the target's voice.

    Args:
        name: of the system.
        what: it is, in a line.
        converter: what converts.
        options: of `VoiceConverter.converted`.
        made: see `Enrolling`.
        memory: of WORLD's analyses, which systems may share.
    """

    def __init__(
        self,
        name: str,
        what: str,
        converter: VoiceConverter,
        options: Mapping[str, Any],
        made: Voices | None = None,
        memory: Memory | None = None,
    ) -> None:
        super().__init__(converter, made)
        self.name, self.what, self.options = name, what, dict(options)
        self.memory = memory
        if memory is not None and converter.analysis.made_by["kind"] == "world":
            converter.analysis = memory.of(converter.analysis)
        self.size_mb = weights_mb(getattr(converter.extractor, "encoder", None), converter.vocoder)

    @property
    def saved(self) -> float:
        """What its memory has saved."""
        return self.memory.saved if self.memory else 0.0

    def __call__(self, pair: Pair) -> Sound:
        """Convert the source."""
        done = self.converter.converted(pair.source, self.voices[pair.target], **self.options)
        return Sound(done.wav, done.sample_rate)


def mel_knn(device: str = "auto", memory: Memory | None = None) -> Conversion:
    """Make the baseline that has learned nothing: neighbours by mel spectra, spoken by WORLD."""
    converter = VoiceConverter(MelExtractor(device), "knn", World())
    return Conversion(MEL, "kNN on log-mel frames (nothing learned), WORLD", converter, {"k": 4}, memory=memory)


class ByUnits(Enrolling):
    """Sources in the target's voice by discrete units, see `ssl_vc.units`.

    Args:
        name: `units` (their own vocoder speaks), or `units-frames` (the target's frames of the same units), perhaps
            with what is kept behind colons, a layout or a kind of pitch: `units:ids`, `units:frames:bytes`.
        codec: what makes the units.
        converter: makes voices, and speaks their frames; with the same encoder.
        made: see `Enrolling`.
    """

    def __init__(self, name: str, codec: UnitCodec, converter: VoiceConverter, made: Voices | None = None) -> None:
        super().__init__(converter, made)
        self.name, self.codec = name, codec
        kind, *kept = name.split(":")
        strange = [each for each in kept if each not in (*LAYOUTS, *PITCHES)]
        if strange:
            raise ValueError(f"{name!r} keeps {strange[0]!r}; possible are {', '.join((*LAYOUTS, *PITCHES))}.")
        if any(len(set(kept) & set(kind_of)) > 1 for kind_of in (LAYOUTS, PITCHES)):
            raise ValueError(f"{name!r} keeps two of a kind; give one layout, and one kind of pitch.")
        self.layout: Layout = next((each for each in LAYOUTS if each in kept), "runs")
        self.pitch = next((each for each in PITCHES if each in kept), "codes")
        self.own = kind == UNITS
        who = "their own vocoder" if self.own else "the frames of the target"
        self.what = f"{codec.book.clusters} units as {self.layout}, pitch {self.pitch}, {who}"
        self.speaker = codec.vocoder if self.own else converter.vocoder
        self.size_mb = weights_mb(codec.speech.extractor.encoder, self.speaker)

    def __call__(self, pair: Pair) -> Sound:
        """Make units of the source, and the target's sound of them."""
        voice = self.voices[pair.target]
        units = self.codec.encode(pair.source, layout=self.layout, pitch=self.pitch, voice=False)
        if self.own:
            return Sound(self.codec.decode(units, voice), self.speaker.sample_rate)
        return Sound(self.codec.select(units, voice, self.speaker), self.speaker.sample_rate)


class Speech(Enrolling):
    """The texts of sources in the target's voice, see `ssl_vc.tts`.

    Args:
        name: `speak`, or speak:BLEND.
        speaks: says them.
        made: see `Enrolling`.
    """

    def __init__(self, name: str, speaks: TextToSpeech, made: Voices | None = None) -> None:
        super().__init__(speaks.converter, made)
        self.name, self.speaks, self.blend = name, speaks, _blend(name)
        self.what = f"the texts, said by {speaks.speakers[0]}'s text model, blend {self.blend:g}"
        self.size_mb = weights_mb(speaks.model.acoustic, speaks.model.letters, speaks.converter.vocoder)

    def __call__(self, pair: Pair) -> Sound:
        """Say what is said in the source."""
        wav = self.speaks.speak(pair.text, self.voices[pair.target], blend=self.blend)
        return Sound(wav, self.speaks.sample_rate)


def _blend(name: str) -> float:
    """Read the blend of speak:BLEND."""
    try:
        return float(name.partition(":")[2] or 1)
    except ValueError:
        raise ValueError(f"{name!r} has no number behind the colon; write speak:0.5, for a blend of a half.") from None


def weights_mb(*parts: object) -> float | None:
    """Give how much the weights of some models take in memory; None where there are none."""
    modules = {id(part): part for part in parts if isinstance(part, nn.Module)}
    sizes = [each.numel() * each.element_size() for part in modules.values() for each in part.parameters()]
    return math.fsum(sizes) / 1e6 if sizes else None
