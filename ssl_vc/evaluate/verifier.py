"""Speaker verifiers: a wav becomes an embedding, and the cosine of two measures how similar their speakers are.

Wan, Wang, Papir and Moreno, 2018, "Generalized End-to-End Loss for Speaker Verification" (arXiv 1710.10467), is
`resemblyzer`; Snyder, Garcia-Romero, Sell, Povey and Khudanpur, 2018, "X-Vectors: Robust DNN Embeddings for Speaker
Recognition", transformers' models. Cosines mean little by themselves (resemblyzer's are never negative): compare them
with those of natural speech, `ssl_vc.evaluate.similarity.natural_similarity`.
"""

import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.device import choose_device
from ssl_vc.evaluate.audible import MIN_SPEAKER, refuse_silence
from ssl_vc.evaluate.onnx_verifier import OnnxVerifier
from ssl_vc.evaluate.similarity import centroid
from ssl_vc.evaluate.weights import fingerprint, import_transformers, local_path
from ssl_vc.hub.download import is_offline

LONGEST = 30 * SAMPLE_RATE  # per pass of an x-vector model, whose attention is quadratic
TRAINING_ONLY = ("objective.", "classifier.")  # weights unused in inference


class Verifier(Protocol):
    """A speaker verifier.

    Attributes:
        description: shown in every table with its figures.
        versions: of everything its figures depend on, by name.
    """

    description: str
    versions: Mapping[str, str]

    def __call__(self, wav: Tensor) -> Tensor:
        """Returns the unit embedding (dim,) of a speaker, float32 on the CPU; raises ValueError without speech.

        Args:
            wav: (samples,) at 16 kHz.
        """


def load_verifier(name: str, *, device: str = "auto", offline: bool = False) -> Verifier:
    """Load a verifier.

    Args:
        name: a file `.onnx`, as WeSpeaker and 3D-Speaker publish theirs; `resemblyzer` (bundled with its package); or
            the folder or hub id of a transformers x-vector model.
        device: auto, cpu, cuda, cuda:1 ... or mps.
        offline: download nothing.
    """
    place = choose_device(device)
    if name == "resemblyzer":
        return _Resemblyzer(place)
    if name.endswith(".onnx"):
        return OnnxVerifier(name)
    if not name or (not Path(name).is_dir() and (name.count("/") != 1 or Path(name).exists())):
        raise ValueError(
            f"there is no verifier {name!r}; possible are a file that ends in .onnx, resemblyzer, and the folder or "
            "hub id of a transformers x-vector model."
        )
    return _XVector(name, place, is_offline(offline))


class _Resemblyzer:
    def __init__(self, device: torch.device) -> None:
        try:
            with warnings.catch_warnings(action="ignore"):  # its imports warn: pkg_resources, an old name in scipy
                package = import_module("resemblyzer")
        except ModuleNotFoundError as error:
            raise ValueError(
                f"the verifier resemblyzer cannot be used: {error.name} is missing; pip install 'ssl-vc[eval]'."
            ) from None
        self._audio, self._level = package.audio, package.hparams.audio_norm_target_dBFS
        self._encoder = package.VoiceEncoder(device, verbose=False)
        self.versions: Mapping[str, str] = {"resemblyzer": version("resemblyzer")}
        name = f"resemblyzer {self.versions['resemblyzer']}, bundled weights"
        self.description = f"{name}, all clips normalised to {self._level} dBFS"

    def __call__(self, wav: Tensor) -> Tensor:
        refuse_silence(wav)
        # its embedding depends on the level
        levelled = self._audio.normalize_volume(wav.numpy(force=True), self._level)
        speech = self._audio.trim_long_silences(levelled.clip(-1, 1))  # a higher peak would wrap around in its 16 bits
        if len(speech) < MIN_SPEAKER:
            raise ValueError(
                f"only {len(speech) / SAMPLE_RATE:.1f} of {len(wav) / SAMPLE_RATE:.1f} s are speech; "
                f"speaker verification needs {MIN_SPEAKER / SAMPLE_RATE} s or more."
            )
        return torch.from_numpy(self._encoder.embed_utterance(speech)).float()


class _XVector:
    def __init__(self, name: str, device: torch.device, offline: bool) -> None:
        transformers: Any = import_transformers(name)
        kind, where = transformers.AutoModelForAudioXVector, {"local_files_only": offline, "trust_remote_code": False}
        place = local_path(name, offline)
        try:
            self._features = transformers.AutoFeatureExtractor.from_pretrained(place, **where)
            model, loaded = kind.from_pretrained(place, output_loading_info=True, **where)
        except Exception as error:  # transformers raises a different class for each kind of missing or broken file
            reason = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0].rstrip(".:! ")
            raise ValueError(
                f"{name} is no x-vector model that transformers can load ({reason}); use a hub id, or a folder with "
                "config.json, preprocessor_config.json and weights."
            ) from None
        lacking = sorted(key for key in loaded["missing_keys"] if not key.startswith(TRAINING_ONLY))
        if lacking:
            raise ValueError(
                f"{name} is no x-vector model: {len(lacking)} of its weights are missing (such as {lacking[0]}); "
                "use one trained for speaker verification."
            )
        if self._features.sampling_rate != SAMPLE_RATE:
            raise ValueError(f"{name} expects {self._features.sampling_rate} Hz; use a model for {SAMPLE_RATE} Hz.")
        self._device, self._model = device, model.eval().float().to(device)
        self.versions: Mapping[str, str] = {
            "transformers": version("transformers"),
            name: fingerprint(model, TRAINING_ONLY),
        }
        self.description = f"{name} ({self.versions[name]}), transformers {self.versions['transformers']}"

    @torch.inference_mode()
    def __call__(self, wav: Tensor) -> Tensor:
        refuse_silence(wav)
        segments = wav.tensor_split(-(-len(wav) // LONGEST))
        return centroid(torch.stack([self._embed(segment) for segment in segments]))

    def _embed(self, wav: Tensor) -> Tensor:
        inputs: Any = self._features(wav.numpy(force=True), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        embedding = self._model(**inputs.to(self._device)).embeddings[0]
        return torch.nn.functional.normalize(embedding.float().cpu(), dim=0)
