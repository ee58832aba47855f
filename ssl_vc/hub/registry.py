"""Models by name, bundled and published, and how they are loaded."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_vc.files import read_json
from ssl_vc.hub.download import Asset, fetch, is_offline

if TYPE_CHECKING:  # these load torch, which the table does not need
    from pretrain import SpeechEncoder
    from vocoder.network import NeuralVocoder

BUNDLED = Path(__file__).parents[1] / "models"
POSSIBLE = (
    "'tiny' and 'tiny-hifigan' (bundled), 'knn-vc' (WavLM-Large, downloaded on first use), 'untrained' (random "
    "weights), a folder, a .pt file, or a hub id such as microsoft/wavlm-large"
)


@dataclass(frozen=True)
class Model:
    """A named model.

    Attributes:
        name: of the model.
        what: a description in one line.
        licence: of the model.
        sample_rate: of the vocoder's output in Hz.
        layer: that is matched and vocoded; the encoder's own choice if None.
        normalized: whether the encoder's input is normalised to zero mean and unit variance; its own setting if None.
        encoder: a bundled folder or a published file; None for random weights.
        vocoder: likewise; None if it has none.
        notes: anything else a user should know.
    """

    name: str
    what: str
    licence: str
    sample_rate: int = 16_000
    layer: int | None = None
    normalized: bool | None = None
    encoder: Asset | Path | None = None
    vocoder: Asset | Path | None = None
    notes: str = ""

    @property
    def assets(self) -> list[Asset]:
        """The published files it needs."""
        return [part for part in (self.encoder, self.vocoder) if isinstance(part, Asset)]

    @property
    def bundled(self) -> bool:
        """Whether it is complete without published files."""
        return all(part is None or (isinstance(part, Path) and part.is_dir()) for part in (self.encoder, self.vocoder))


def _knn_vc(name: str, generator: str, size: int | None, trained_on: str) -> Model:
    """Return kNN-VC's entry; its release gives no checksums and rounded sizes, the exact ones are from downloads."""
    release = "https://github.com/bshall/knn-vc/releases/download/v0.1"
    return Model(
        name,
        f"kNN-VC (Baas et al. 2023): WavLM-Large, and a HiFi-GAN trained on {trained_on}",
        "MIT; of WavLM see the notes",
        layer=6,
        normalized=False,
        encoder=Asset("WavLM-Large.pt", f"{release}/WavLM-Large.pt", 1_261_965_425, model=name),
        vocoder=Asset(generator, f"{release}/{generator}", size, model=name),
        notes="The vocoder's licence is that of https://github.com/bshall/knn-vc. WavLM's authors publish under MIT "
        "(https://github.com/microsoft/unilm), but their card at https://huggingface.co/microsoft/wavlm-large links to "
        "CC BY-SA 3.0 (open question: https://github.com/microsoft/unilm/issues/1757).",
    )


MODELS = {
    model.name: model
    for model in (
        Model(
            "tiny",
            "a small encoder and a small Vocos for CPUs, bundled",
            "MIT",
            encoder=BUNDLED / "tiny" / "encoder",
            vocoder=BUNDLED / "tiny" / "vocoder",
            notes="Trained by this repository; its card is models/tiny/README.md in the package.",
        ),
        Model(
            "tiny-hifigan",
            "the encoder of `tiny`, with the same voices, and a small HiFi-GAN, not yet as good as the Vocos; bundled",
            "MIT",
            encoder=BUNDLED / "tiny" / "encoder",
            vocoder=BUNDLED / "tiny" / "hifigan",
            notes="Trained by this repository; its card is models/tiny/README.md in the package.",
        ),
        Model(
            "untrained",
            "an encoder with fixed random weights, for tests of the pipeline; its output is not intelligible",
            "MIT",
            layer=4,
            normalized=False,
        ),
        _knn_vc("knn-vc", "prematch_g_02500000.pt", 66_214_643, "prematched frames"),
        _knn_vc("knn-vc-plain", "g_02500000.pt", None, "frames as they are"),
    )
}


def model(name: str) -> Model:
    """Return the model of this name."""
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}; possible are {', '.join(MODELS)}.")
    return MODELS[name]


def bundled_with_encoder_of(name: str) -> list[str]:
    """Return the names of a model and of all others that are bundled with the same encoder."""
    known = MODELS.get(name)
    if known is None or not known.bundled:
        return [name]
    others = [each.name for each in MODELS.values() if each.bundled and each.encoder == known.encoder]
    return [name, *(other for other in others if other != name)]


def load_encoder(name: str, normalized: bool | None = None, *, offline: bool = False) -> "SpeechEncoder":
    """Load an encoder by name.

    Args:
        name: of `MODELS`, a folder or hub id of ours (`encoder/` inside a folder takes precedence), a folder with
            kNN-VC's published files, or anything that `SpeechEncoder.from_foreign` reads.
        normalized: whether its input is normalised to zero mean and unit variance; its own setting if None. kNN-VC's
            vocoders expect WavLM-Large on the raw waveform (False), although it was trained with normalisation.
        offline: download nothing.
    """
    from pretrain import SpeechEncoder
    from pretrain.encoder import foreign

    if name in MODELS:
        encoder = _load_known(MODELS[name], is_offline(offline))
    else:
        location = _resolve(name, is_offline(offline), "encoder")
        ours = not foreign.is_foreign(location)
        encoder = SpeechEncoder.from_pretrained(location) if ours else SpeechEncoder.from_foreign(location)
    if normalized is not None:
        encoder.config = replace(encoder.config, normalized=normalized)
    return encoder


def load_vocoder(name: str, *, offline: bool = False) -> "NeuralVocoder | None":
    """Load a model's vocoder; returns None if it has none.

    Args:
        name: as in `load_encoder` (`vocoder/` inside a folder takes precedence), or anything that
            `vocoder.kinds.load` reads.
        offline: download nothing.
    """
    from pretrain.encoder import foreign
    from pretrain.encoder.checkpoint import load_inert
    from vocoder.kinds import load

    if name in MODELS:
        part = MODELS[name].vocoder
        return None if part is None else load(_fetched(MODELS[name], part, is_offline(offline)))
    location = _resolve(name, is_offline(offline), "vocoder")
    if Path(location).is_file():
        try:
            return load(location)
        except ValueError:
            if "model" in load_inert(Path(location)):  # an encoder of unilm or fairseq
                return None
            raise
    if not Path(location).is_dir():
        encoder = foreign.is_foreign(location)  # which downloads the config from the hub
        return load(location) if not encoder and _holds_vocoder(in_hub_cache(location)) else None
    return load(location) if _holds_vocoder(Path(location)) else None


def _load_known(known: Model, offline: bool) -> "SpeechEncoder":
    import torch

    from pretrain import EncoderConfig, SpeechEncoder

    if known.encoder is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return SpeechEncoder(EncoderConfig.tiny(matching_layer=known.layer)).eval()
    location = _fetched(known, known.encoder, offline)
    if isinstance(known.encoder, Path):
        return SpeechEncoder.from_pretrained(location)
    encoder = SpeechEncoder.from_foreign(location, normalized=known.normalized)
    encoder.config = replace(encoder.config, matching_layer=known.layer)
    return encoder


def _fetched(known: Model, part: Asset | Path, offline: bool) -> Path:
    if isinstance(part, Asset):
        return fetch(part, offline=offline)
    if not part.is_dir():
        raise ValueError(f"{part}, the folder of the model {known.name!r}, is missing; reinstall ssl-vc.")
    return part


def _resolve(name: str, offline: bool, part: str) -> str:
    """Return the location of a model outside the table: a file, a folder, torchaudio's name, or a hub id."""
    if (Path(name) / part).is_dir():
        return str(Path(name) / part)
    assets = (getattr(MODELS[model], part) for model in ("knn-vc", "knn-vc-plain"))
    for file in (Path(name, asset.name) for asset in assets):
        if file.is_file():
            return str(file)
    if Path(name).is_dir() or Path(name).suffix in (".pt", ".pth") or name.startswith("torchaudio:"):
        return name
    if part == "vocoder" and Path(name).is_file():  # some generators are published without a suffix
        return name
    if name.count("/") == 1 and not Path(name).exists():
        return str(in_hub_cache(name)) if offline else name
    raise ValueError(f"there is no model {name!r}; possible are {POSSIBLE}.")


def in_hub_cache(name: str) -> Path:
    """Return the folder of a repository in the hub's cache, without network access."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        raise ValueError(f"{name} is neither a folder nor in the cache of the hub, and downloads are off.") from None


def _holds_vocoder(folder: Path) -> bool:
    """Return whether a folder holds a vocoder for `vocoder.kinds.load`, rather than an encoder."""
    from vocoder.kinds import KINDS

    if (folder / "bigvgan_generator.pt").is_file() or (folder / "config.yaml").is_file():
        return True
    for config in (folder / "config.json", folder / "model" / "config.json"):
        if os.path.lexists(config):
            kind = read_json(config).get("kind")
            return isinstance(kind, str) and kind in KINDS
    return False
