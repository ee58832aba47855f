"""Judges of who speaks: a wav becomes a vector, and the cosine of two says how alike their speakers are.

Wan, Wang, Papir and Moreno, 2018, "Generalized End-to-End Loss for Speaker Verification" (arXiv 1710.10467), is behind
`resemblyzer`; Snyder, Garcia-Romero, Sell, Povey and Khudanpur, 2018, "X-Vectors: Robust DNN Embeddings for Speaker
Recognition", behind transformers' models. Its cosines mean little by themselves (resemblyzer's are never negative):
read them beside those of natural speech, `ssl_vc.evaluate.similarity.of_speakers`.
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
from ssl_vc.evaluate.audible import SPEAKER, refuse_silence
from ssl_vc.evaluate.onnx_verifier import OnnxVerifier
from ssl_vc.evaluate.similarity import centre
from ssl_vc.evaluate.weights import fingerprint, here
from ssl_vc.hub.download import is_offline

LONGEST = 30 * SAMPLE_RATE  # heard at a time by x-vector models, whose attention grows with its square
TRAINING_ONLY = ("objective.", "classifier.")  # what an x-vector model's vectors do not come from


class Verifier(Protocol):
    """Anything that tells speakers apart.

    Attributes:
        description: what it is, for every table that shows its figures.
        versions: of what its figures depend on, by name.
    """

    description: str
    versions: Mapping[str, str]

    def __call__(self, wav: Tensor) -> Tensor:
        """Give the unit vector (dim,) of a wav's speaker, float32 on the CPU; ValueError if there is no speech.

        Args:
            wav: (samples,) at 16 kHz.
        """


def load_verifier(name: str, *, device: str = "auto", offline: bool = False) -> Verifier:
    """Load a judge of speakers.

    Args:
        name: a file `.onnx`, as WeSpeaker and 3D-Speaker publish theirs; `resemblyzer` (bundled with its package); or
            the folder or hub id of a transformers x-vector model.
        device: auto, cpu, cuda, cuda:1 ... or mps.
        offline: fetch nothing.
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
            with warnings.catch_warnings(action="ignore"):  # of what it imports: pkg_resources, an old name in scipy
                package = import_module("resemblyzer")
        except ModuleNotFoundError as error:
            raise ValueError(
                f"the verifier resemblyzer cannot be used: {error.name} is missing; pip install 'ssl-vc[eval]'."
            ) from None
        self._audio, self._level = package.audio, package.hparams.audio_norm_target_dBFS
        self._encoder = package.VoiceEncoder(device, verbose=False)
        self.versions: Mapping[str, str] = {"resemblyzer": version("resemblyzer")}
        told = f"resemblyzer {self.versions['resemblyzer']}, its own weights"
        self.description = f"{told}, all sounds brought to {self._level} dBFS"

    def __call__(self, wav: Tensor) -> Tensor:
        refuse_silence(wav)
        # it hears how loud a sound is, so all are brought to one level
        even = self._audio.normalize_volume(wav.numpy(force=True), self._level)
        speech = self._audio.trim_long_silences(even.clip(-1, 1))  # louder would wrap around in its 16 bits
        if len(speech) < SPEAKER:
            raise ValueError(
                f"of {len(wav) / SAMPLE_RATE:.1f} s, {len(speech) / SAMPLE_RATE:.1f} s are speech; "
                f"a speaker is told by {SPEAKER / SAMPLE_RATE} s or more."
            )
        return torch.from_numpy(self._encoder.embed_utterance(speech)).float()


class _XVector:
    def __init__(self, name: str, device: torch.device, offline: bool) -> None:
        transformers: Any = import_module("transformers")
        kind, where = transformers.AutoModelForAudioXVector, {"local_files_only": offline, "trust_remote_code": False}
        place = here(name, offline)
        try:
            self._listen = transformers.AutoFeatureExtractor.from_pretrained(place, **where)
            model, loaded = kind.from_pretrained(place, output_loading_info=True, **where)
        except Exception as error:  # each kind of file that is not there, not one, or broken has its own
            reason = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0].rstrip(".:! ")
            raise ValueError(
                f"{name} is no x-vector model that transformers can load ({reason}); give a hub id, or a folder with "
                "config.json, preprocessor_config.json and weights."
            ) from None
        lacking = sorted(key for key in loaded["missing_keys"] if not key.startswith(TRAINING_ONLY))
        if lacking:
            raise ValueError(
                f"{name} holds no x-vector model, {len(lacking)} of its weights are missing (such as {lacking[0]}); "
                "give one that was trained to tell speakers apart."
            )
        if self._listen.sampling_rate != SAMPLE_RATE:
            raise ValueError(f"{name} hears {self._listen.sampling_rate} Hz; give a model for {SAMPLE_RATE} Hz.")
        self._device, self._model = device, model.eval().float().to(device)
        self.versions: Mapping[str, str] = {
            "transformers": version("transformers"),
            name: fingerprint(model, TRAINING_ONLY),
        }
        self.description = f"{name} ({self.versions[name]}), transformers {self.versions['transformers']}"

    @torch.inference_mode()
    def __call__(self, wav: Tensor) -> Tensor:
        refuse_silence(wav)
        pieces = wav.tensor_split(-(-len(wav) // LONGEST))
        return centre(torch.stack([self._vector(piece) for piece in pieces]))

    def _vector(self, wav: Tensor) -> Tensor:
        heard: Any = self._listen(wav.numpy(force=True), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        vector = self._model(**heard.to(self._device)).embeddings[0]
        return torch.nn.functional.normalize(vector.float().cpu(), dim=0)
