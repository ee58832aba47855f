"""Copy synthesis: analysis and resynthesis by every compatible pair of features and vocoder.

Nothing is converted, so the copy shows what the features lose and what the vocoder gets wrong:

    wav --> mel | mfcc | world | ssl | spoken | units
        --> griffin-lim | world | hifigan | vocos | bigvgan | unit-hifigan --> wav
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from os import PathLike, fspath
from typing import NamedTuple, TypeAlias

from torch import Tensor
from torch.nn.functional import pad

from pretrain import SpeechEncoder
from ssl_vc.audio import SAMPLE_RATE, Source, read
from ssl_vc.device import choose_device
from ssl_vc.features.analysis import (
    Analysis,
    disentangled_analysis,
    spectral_analysis,
    ssl_analysis,
    synthesize,
    world_analysis,
)
from ssl_vc.features.extractor import Extractor
from ssl_vc.hub.registry import bundled_with_encoder_of, load_encoder, load_vocoder
from ssl_vc.units.codec import UnitCodec, is_codec
from vocoder.griffin_lim import GriffinLim
from vocoder.kinds import load
from vocoder.mel import Mel, Mfcc, mel_config_from
from vocoder.network import NeuralVocoder
from vocoder.protocol import Vocoder
from vocoder.world import World

_MEL = ("griffin-lim", "hifigan", "vocos", "bigvgan")
FITS = {
    "mel": _MEL,
    "mfcc": _MEL,
    "world": ("world",),
    "ssl": ("hifigan", "vocos", "bigvgan"),
    "spoken": ("hifigan", "vocos"),
    "units": ("vocos", "unit-hifigan"),
}
PAIRS = [(features, vocoder) for features, vocoders in FITS.items() for vocoder in vocoders]
COEFFICIENTS = 40  # of MFCC: the 24 of speech recognition lose all pitch

Weights: TypeAlias = str | PathLike[str] | Sequence[str | PathLike[str]] | None


class MissingError(ValueError):
    """A pair that is not available: the reason, and the command that provides it ("" if none does)."""

    def __init__(self, reason: str, command: str = "") -> None:
        remedy = f"; run `{command}`." if command and command not in reason else ""
        super().__init__(reason.removesuffix(".") + remedy if remedy else reason)
        self.reason, self.command = reason, command


class Route(NamedTuple):
    """A pair of analysis and vocoder, ready for use."""

    analysis: Analysis
    vocoder: Vocoder

    def __call__(self, wav: Tensor) -> Tensor:
        """Return the copy (samples,) of a 16 kHz waveform (samples,), exactly as long, at the vocoder's rate."""
        copy = synthesize(self.vocoder, self.analysis.frames(wav), len(wav) / SAMPLE_RATE)
        return pad(copy, (0, round(len(wav) * self.sample_rate / SAMPLE_RATE) - len(copy)))

    @property
    def sample_rate(self) -> int:
        """Sample rate of the copy in Hz."""
        return self.vocoder.sample_rate


def copy_synthesis(
    source: Source,
    features: str = "mel",
    vocoder: str = "griffin-lim",
    *,
    weights: Weights = None,
    encoder: str = "tiny",
    layer: int | None = None,
    device: str = "auto",
) -> Tensor:
    """Analyse and resynthesise audio; returns (samples,) at 16 kHz, exactly as long.

    Args:
        source: see `ssl_vc.read`.
        features: mel, mfcc, world, ssl, spoken or units.
        vocoder: griffin-lim, world, hifigan, vocos, bigvgan or unit-hifigan; `FITS` lists the compatible ones.
        weights: of a trained vocoder: a folder, a file or a hub id (see `vocoder.kinds.load`), or a folder of a unit
            codec with its vocoder (see `ssl_vc.units`); of several, the one for the pair is used.
        encoder: of `ssl` and `spoken` features; its own vocoder is used without weights.
        layer: of the encoder; the one that the vocoder reads if None.
        device: auto, cpu, cuda, cuda:1 ... or mps.
    """
    check_pair(features, vocoder)
    route, wav = Routes(weights, encoder, layer, device)(features, vocoder), read(source)
    copy = read((route(wav), route.sample_rate))
    return pad(copy, (0, len(wav) - len(copy)))


def check_pair(features: str, vocoder: str) -> None:
    """Raise ValueError for unknown or incompatible features and vocoders."""
    vocoders = {name: [each for each, fitting in FITS.items() if name in fitting] for _, name in PAIRS}
    if features not in FITS:
        raise ValueError(f"there are no features {features!r}; possible are {', '.join(FITS)}.")
    if vocoder not in vocoders:
        raise ValueError(f"there is no vocoder {vocoder!r}; possible are {', '.join(vocoders)}.")
    if vocoder not in FITS[features]:
        raise ValueError(
            f"{features} and {vocoder} do not fit: {features} goes with {', '.join(FITS[features])}, and {vocoder} "
            f"reads {', '.join(vocoders[vocoder])}."
        )


class Routes:
    """Routes for given weights, encoder and layer; see `copy_synthesis` for the arguments."""

    def __init__(
        self, weights: Weights = None, encoder: str = "tiny", layer: int | None = None, device: str = "auto"
    ) -> None:
        self.encoder, self.layer, self.device = encoder, layer, choose_device(device)
        self.trained: dict[tuple[str, str], NeuralVocoder] = {}
        self.units: list[str] = ["tiny"] if encoder == "tiny" else []
        for name in [weights] if isinstance(weights, str | PathLike) else weights or []:
            if is_codec(name):
                self.units.insert(0, fspath(name))
                continue
            vocoder = load(fspath(name))
            pair = vocoder.reads.get("kind", "unknown"), vocoder.config.kind
            if pair[0] == "units":
                raise ValueError(f"{name} is a unit vocoder without its codebook; give the folder `codec` around it.")
            if pair not in PAIRS:
                raise ValueError(f"{name} is a {pair[1]} on {pair[0]} features, which no pair uses.")
            if pair in self.trained:
                raise ValueError(f"{name} is a second {pair[1]} on {pair[0]} features; give one at a time.")
            self.trained[pair] = vocoder.to(self.device)

    def __call__(self, features: str, vocoder: str) -> Route:
        """Return the route of a compatible pair; raises MissingError if it is not available."""
        builders = {"mel": self._mel, "mfcc": self._mfcc, "world": self._world, "units": self._units}
        build = builders.get(features, partial(self._from_encoder, features))
        analysis, loaded = build(vocoder)
        analysis.require(loaded, f"this {features} analysis")
        return Route(analysis, loaded)

    def _mel(self, vocoder: str) -> tuple[Analysis, Vocoder]:
        if vocoder == "griffin-lim":
            mel = Mel().to(self.device)
            return spectral_analysis(mel), GriffinLim(mel).to(self.device)
        trained = self._trained("mel", vocoder)
        return spectral_analysis(Mel(mel_config_from(trained.reads)).to(self.device)), trained

    def _mfcc(self, vocoder: str) -> tuple[Analysis, Vocoder]:
        if vocoder == "griffin-lim":
            mfcc = Mfcc(count=COEFFICIENTS).to(self.device)
            return spectral_analysis(mfcc), GriffinLim(mfcc).to(self.device)
        if own := self.trained.get(("mfcc", vocoder)):
            return spectral_analysis(Mfcc(mel_config_from(own.reads), own.dim).to(self.device)), own
        trained = self._trained("mel", vocoder)
        config = mel_config_from(trained.reads)
        mfcc = Mfcc(config, min(COEFFICIENTS, config.bands)).to(self.device)
        inverted = spectral_analysis(mfcc, mfcc.inverse)
        return inverted._replace(feature_spec=mfcc.mel.reads), trained

    def _world(self, vocoder: str) -> tuple[Analysis, Vocoder]:
        try:
            world = World()
        except ValueError as error:
            raise MissingError(str(error), "pip install 'ssl-vc[world]'") from None
        return world_analysis(world), world

    def _from_encoder(self, features: str, vocoder: str) -> tuple[Analysis, Vocoder]:
        """Return the route by an encoder's frames, alone (ssl) or with spectrum and prosody (spoken)."""
        if isinstance(self._encoder, str):
            if (features, vocoder) in self.trained:
                raise MissingError(self._encoder)
            more = f"; no weights of a {vocoder} on {features} were given either."
            raise MissingError(self._encoder.removesuffix(".") + more, self._training(features, vocoder))
        trained = self._trained(features, vocoder)
        layer = trained.reads.get("layer") if self.layer is None else self.layer
        encoder = self._encoder
        if "normalized" in trained.reads:  # as in the vocoder's training, whatever the encoder's own setting
            encoder.config = replace(encoder.config, normalized=trained.reads["normalized"])
        extractor = Extractor(encoder, layer, device=str(self.device))
        analysis = ssl_analysis(extractor, self.encoder) if features == "ssl" else disentangled_analysis(extractor)
        return analysis, trained

    def _units(self, vocoder: str) -> tuple[Analysis, Vocoder]:
        """Return the route by a unit codec, as lossy as its files: runs of units, pitch codes, the mean timbre."""
        if isinstance(self._encoder, str):
            raise MissingError(self._encoder)
        for codec in self._codecs:
            if isinstance(codec.vocoder, NeuralVocoder) and codec.vocoder.config.kind == vocoder:
                frames = partial(_unit_frames, codec)
                return Analysis(frames, codec.analyzer.feature_spec, f"{codec.codebook.clusters} units"), codec.vocoder
        recipe = "unit-hifigan" if vocoder == "unit-hifigan" else "tiny"
        raise MissingError(
            f"no units with a {vocoder} were given (--weights runs/units/codec, once they are trained)",
            f"ssl-vc train-units configs/units/{recipe}.yaml -o runs/units clips=FOLDER",
        )

    @cached_property
    def _codecs(self) -> list[UnitCodec]:
        """The unit codecs."""
        assert isinstance(self._encoder, SpeechEncoder)
        return [UnitCodec.from_pretrained(name, encoder=self._encoder, device=str(self.device)) for name in self.units]

    @cached_property
    def _encoder(self) -> SpeechEncoder | str:
        """The encoder, or the reason why it cannot be loaded."""
        try:
            return load_encoder(self.encoder)
        except (ValueError, OSError) as error:
            return str(error)

    def _trained(self, features: str, vocoder: str) -> NeuralVocoder:
        if trained := self.trained.get((features, vocoder)):
            return trained
        if features in ("ssl", "spoken") and (own := self._bundled.get((features, vocoder))):
            return own
        option = f"--weights runs/{features}-{vocoder}/model"
        reason = f"no weights of a {vocoder} on {features} were given ({option}, once they are trained)"
        raise MissingError(reason, self._training(features, vocoder))

    @cached_property
    def _bundled(self) -> dict[tuple[str, str], NeuralVocoder]:
        """The encoder's own vocoders by features and kind."""
        bundled: dict[tuple[str, str], NeuralVocoder] = {}
        for name in bundled_with_encoder_of(self.encoder):
            try:
                vocoder = load_vocoder(name)
            except (ValueError, OSError):
                continue
            if vocoder is not None:
                pair = vocoder.reads.get("kind", "unknown"), vocoder.config.kind
                bundled.setdefault(pair, vocoder.to(self.device))
        return bundled

    def _training(self, features: str, vocoder: str) -> str:
        """Return the command that trains the weights; FOLDER stands for the speech to train on."""
        command = f"ssl-vc train-vocoder configs/vocoder/{features}-{vocoder}.yaml -o runs/{features}-{vocoder}"
        if features == "ssl" and isinstance(self._encoder, SpeechEncoder):
            command += f" encoder={shlex.quote(self.encoder)}" + ("" if self.layer is None else f" layer={self.layer}")
        if features == "spoken":
            return f"ssl-vc prematch FOLDER -o runs/prematched && {command} clips=runs/prematched/clips.tsv"
        return command + " clips=FOLDER"


def _unit_frames(codec: UnitCodec, wav: Tensor) -> list[Tensor]:
    return [codec.frames(codec.encode(wav))]
