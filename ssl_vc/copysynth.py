"""Copy-synthesis: a sound's features, and sound from them again, by every pair of features and vocoder that fits.

Nothing is converted, so what the copy loses is what the features lose and what the vocoder gets wrong:

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
from ssl_vc.features.analysis import Analysis, spectral_frames, spoken_frames, ssl_frames, synthesize, world_frames
from ssl_vc.features.extractor import Extractor
from ssl_vc.hub.registry import bundled_beside, load_encoder, load_vocoder
from ssl_vc.units.codec import UnitCodec, is_codec
from vocoder.griffin_lim import GriffinLim
from vocoder.kinds import load
from vocoder.mel import Mel, Mfcc, mel_read
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
COEFFICIENTS = 40  # of an MFCC: with 24, as recognisers have them, no melody is left

Weights: TypeAlias = str | PathLike[str] | Sequence[str | PathLike[str]] | None


class MissingError(ValueError):
    """A pair that cannot be made here: why, and the command that changes it ("" if none does)."""

    def __init__(self, reason: str, command: str = "") -> None:
        cure = f"; run `{command}`." if command and command not in reason else ""
        super().__init__(reason.removesuffix(".") + cure if cure else reason)
        self.reason, self.command = reason, command


class Route(NamedTuple):
    """A pair, ready for use."""

    analysis: Analysis
    vocoder: Vocoder

    def __call__(self, wav: Tensor) -> Tensor:
        """Give the copy (samples,) of a 16 kHz wav (samples,), exactly as long, at the vocoder's rate."""
        copy = synthesize(self.vocoder, self.analysis.frames(wav), len(wav) / SAMPLE_RATE)
        return pad(copy, (0, round(len(wav) * self.sample_rate / SAMPLE_RATE) - len(copy)))

    @property
    def sample_rate(self) -> int:
        """Samples of the copy in a second."""
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
    """Take a sound apart into features and make sound of them again: (samples,) at 16 kHz, exactly as long.

    Args:
        source: see `ssl_vc.read`.
        features: mel, mfcc, world, ssl, spoken or units.
        vocoder: griffin-lim, world, hifigan, vocos, bigvgan or unit-hifigan; `FITS` says which reads what.
        weights: of a trained vocoder: a folder, a file or a hub id (see `vocoder.kinds.load`), or a folder that holds
            units and their vocoder (see `ssl_vc.units`); of several, the one that serves the pair is taken.
        encoder: whose frames `ssl` are, and whose content `spoken`; its own vocoder speaks where no weights are given.
        layer: which of its layers; the one that the vocoder reads if None.
        device: auto, cpu, cuda, cuda:1 ... or mps.
    """
    check_pair(features, vocoder)
    route, wav = Routes(weights, encoder, layer, device)(features, vocoder), read(source)
    copy = read((route(wav), route.sample_rate))
    return pad(copy, (0, len(wav) - len(copy)))


def check_pair(features: str, vocoder: str) -> None:
    """Refuse features and vocoders that do not exist or do not fit."""
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
    """Every route that can be made of some weights, an encoder and a layer; see `copy_synthesis` for the arguments."""

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
                raise ValueError(f"{name} speaks units, and has none of its own; give the folder `codec` around it.")
            if pair not in PAIRS:
                raise ValueError(f"{name} is a {pair[1]} on {pair[0]} features, which no pair here needs.")
            if pair in self.trained:
                raise ValueError(f"{name} is a second {pair[1]} on {pair[0]} features; give one at a time.")
            self.trained[pair] = vocoder.to(self.device)

    def __call__(self, features: str, vocoder: str) -> Route:
        """Make the route of a pair that fits, or say with a `MissingError` what it lacks."""
        make = {"mel": self._mel, "mfcc": self._mfcc, "world": self._world, "units": self._units}
        analysis, speaker = make[features](vocoder) if features in make else self._heard(features, vocoder)
        analysis.require(speaker, f"{features} of this make")
        return Route(analysis, speaker)

    def _mel(self, vocoder: str) -> tuple[Analysis, Vocoder]:
        if vocoder == "griffin-lim":
            mel = Mel().to(self.device)
            return spectral_frames(mel), GriffinLim(mel).to(self.device)
        speaker = self._trained("mel", vocoder)
        return spectral_frames(Mel(mel_read(speaker.reads)).to(self.device)), speaker

    def _mfcc(self, vocoder: str) -> tuple[Analysis, Vocoder]:
        if vocoder == "griffin-lim":
            mfcc = Mfcc(count=COEFFICIENTS).to(self.device)
            return spectral_frames(mfcc), GriffinLim(mfcc).to(self.device)
        if own := self.trained.get(("mfcc", vocoder)):
            return spectral_frames(Mfcc(mel_read(own.reads), own.dim).to(self.device)), own
        speaker = self._trained("mel", vocoder)
        config = mel_read(speaker.reads)
        mfcc = Mfcc(config, min(COEFFICIENTS, config.bands)).to(self.device)
        back = spectral_frames(mfcc, mfcc.inverse)
        return back._replace(made_by=mfcc.mel.reads), speaker

    def _world(self, vocoder: str) -> tuple[Analysis, Vocoder]:
        try:
            world = World()
        except ValueError as error:
            raise MissingError(str(error), "pip install 'ssl-vc[world]'") from None
        return world_frames(world), world

    def _heard(self, features: str, vocoder: str) -> tuple[Analysis, Vocoder]:
        """Make a route by an encoder's frames, alone (ssl) or with spectrum and pitch beside them (spoken)."""
        if isinstance(self._encoder, str):
            if (features, vocoder) in self.trained:
                raise MissingError(self._encoder)
            more = f"; no weights of a {vocoder} on {features} were given either."
            raise MissingError(self._encoder.removesuffix(".") + more, self._training(features, vocoder))
        speaker = self._trained(features, vocoder)
        layer = speaker.reads.get("layer") if self.layer is None else self.layer
        encoder = self._encoder
        if "normalized" in speaker.reads:  # as the vocoder heard it, whatever the encoder's own habit
            encoder.config = replace(encoder.config, normalized=speaker.reads["normalized"])
        extractor = Extractor(encoder, layer, device=str(self.device))
        return ssl_frames(extractor, self.encoder) if features == "ssl" else spoken_frames(extractor), speaker

    def _units(self, vocoder: str) -> tuple[Analysis, Vocoder]:
        """Make a route by a codec, which loses what its files lose: runs of units, codes of pitch, the voice's mean."""
        if isinstance(self._encoder, str):
            raise MissingError(self._encoder)
        for codec in self._codecs:
            if isinstance(codec.vocoder, NeuralVocoder) and codec.vocoder.config.kind == vocoder:
                frames = partial(_by_units, codec)
                return Analysis(frames, codec.speech.made_by, f"{codec.book.clusters} units"), codec.vocoder
        recipe = "unit-hifigan" if vocoder == "unit-hifigan" else "tiny"
        raise MissingError(
            f"no units with a {vocoder} were given (--weights runs/units/codec, once they are trained)",
            f"ssl-vc train-units configs/units/{recipe}.yaml -o runs/units clips=FOLDER",
        )

    @cached_property
    def _codecs(self) -> list[UnitCodec]:
        """The codecs, loaded once."""
        assert isinstance(self._encoder, SpeechEncoder)
        return [UnitCodec.from_pretrained(name, encoder=self._encoder, device=str(self.device)) for name in self.units]

    @cached_property
    def _encoder(self) -> SpeechEncoder | str:
        """The encoder, loaded once, or why there is none."""
        try:
            return load_encoder(self.encoder)
        except (ValueError, OSError) as error:
            return str(error)

    def _trained(self, features: str, vocoder: str) -> NeuralVocoder:
        if speaker := self.trained.get((features, vocoder)):
            return speaker
        if features in ("ssl", "spoken") and (own := self._own.get((features, vocoder))):
            return own
        option = f"--weights runs/{features}-{vocoder}/model"
        reason = f"no weights of a {vocoder} on {features} were given ({option}, once they are trained)"
        raise MissingError(reason, self._training(features, vocoder))

    @cached_property
    def _own(self) -> dict[tuple[str, str], NeuralVocoder]:
        """The encoder's own vocoders, loaded once, by what they read and are."""
        own: dict[tuple[str, str], NeuralVocoder] = {}
        for name in bundled_beside(self.encoder):
            try:
                speaker = load_vocoder(name)
            except (ValueError, OSError):
                continue
            if speaker is not None:
                own.setdefault((speaker.reads.get("kind", "unknown"), speaker.config.kind), speaker.to(self.device))
        return own

    def _training(self, features: str, vocoder: str) -> str:
        """The command that makes the weights; FOLDER stands for the speech to train on."""
        command = f"ssl-vc train-vocoder configs/vocoder/{features}-{vocoder}.yaml -o runs/{features}-{vocoder}"
        if features == "ssl" and isinstance(self._encoder, SpeechEncoder):
            command += f" encoder={shlex.quote(self.encoder)}" + ("" if self.layer is None else f" layer={self.layer}")
        if features == "spoken":
            return f"ssl-vc prematch FOLDER -o runs/prematched && {command} clips=runs/prematched/clips.tsv"
        return command + " clips=FOLDER"


def _by_units(codec: UnitCodec, wav: Tensor) -> list[Tensor]:
    return [codec.frames(codec.encode(wav))]
