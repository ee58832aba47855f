"""Kokoro-82M (hexgrad, 2025; Apache-2.0) in ONNX: a text-to-speech model that separates timbre from prosody.

It is a StyleTTS 2 (Li et al., 2023, arXiv 2306.07691) whose style vector has two halves: 128 dimensions of timbre,
then 128 of prosody, which alone determine durations and F0. So one sentence with one prosody can be synthesised in any
number of timbres at exactly the same length. A weighted mean of styles is a new speaker.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_vc.hub.download import is_offline
from ssl_vc.hub.onnx_session import open_session
from ssl_vc.hub.registry import in_hub_cache

HUB_ID = "onnx-community/Kokoro-82M-v1.0-ONNX"
SAMPLE_RATE = 24_000
MODELS = ("model.onnx", "onnx/model.onnx")
ENGLISH = "[ab][fm]_*.bin"  # American and British, female and male
LONGEST = 509  # phones in one call
TIMBRE, STYLE = 128, 256
Styles = npt.NDArray[np.float32]  # (phones, 256): the style depends on the number of phones
Mixture = Mapping[str, float]

SYMBOLS = {  # v1.0 vocabulary: runs of symbols by the index of their first
    1: ";:,.!?", 9: '—…"()“” \u0303ʣʥʦʨᵝ\uab67AI', 31: "O", 33: "Q", 35: "ST", 39: "W", 41: "Yᵊabcdef",
    50: "hijklmnopqrstuvwxyzɑɐɒæ", 75: "βɔɕç", 80: "ɖðʤə", 85: "ɚɛɜ", 90: "ɟ", 92: "ɡ", 99: "ɥ", 101: "ɨɪʝ",
    110: "ɯɰŋɳɲɴø", 118: "ɸθœ", 123: "ɹ", 125: "ɾɻ", 128: "ʁɽʂʃʈʧ", 135: "ʊʋ", 138: "ʌɣɤ", 142: "χʎ", 147: "ʒʔ",
    156: "ˈˌː", 162: "ʰ", 164: "ʲ", 169: "↓", 171: "→↗↘", 177: "ᵻ",
}  # fmt: skip
VOCABULARY = {symbol: first + n for first, run in SYMBOLS.items() for n, symbol in enumerate(run)}


class Kokoro:
    """Synthesises phones in any mixture of the voices in a folder.

    Args:
        folder: holds `model.onnx` (or `onnx/model.onnx`, as on the hub) and `voices/*.bin`.
        threads: per call of `synthesize`; calls may run in parallel.

    Attributes:
        voices: names of the English voices.
        digest: hash of the weights.
    """

    def __init__(self, folder: str | os.PathLike[str], threads: int = 1) -> None:
        folder = Path(folder)
        model = next((folder / name for name in MODELS if (folder / name).is_file()), None)
        files = sorted((folder / "voices").glob(ENGLISH))
        if model is None or not files:
            lacking = "voices/*.bin" if model else "model.onnx"
            raise ValueError(f"{folder} has no {lacking}; use a Kokoro folder, such as the hub's {HUB_ID}.")
        self.voices = [file.stem for file in files]
        self._styles = {file.stem: _read_style(file) for file in files}
        weights = model.read_bytes()
        self.digest = hashlib.sha256(weights).hexdigest()[:12]
        self._session = _open(model, weights, threads)
        self._inputs = [each.name for each in self._session.get_inputs()]
        types = [each.type.removeprefix("tensor") for each in self._session.get_inputs()]
        if types != ["(int64)", "(float)", "(float)"]:
            inputs = ", ".join(map("".join, zip(self._inputs, types, strict=True)))
            raise ValueError(f"{model} is no Kokoro model: its inputs are {inputs}, not phones, style and speed.")

    def synthesize(self, phones: str, timbre: Mixture, prosody: Mixture, speed: float = 1.0) -> Tensor:
        """Returns speech (samples,) at 24 kHz.

        Args:
            phones: IPA in Kokoro's notation, at most 509; unknown symbols are skipped.
            timbre: weights of the voices that set the timbre.
            prosody: weights of the voices that set durations and F0.
            speed: speaking rate factor.
        """
        ids = [VOCABULARY[symbol] for symbol in phones if symbol in VOCABULARY]
        if not 1 <= len(ids) <= LONGEST:
            start = f"{phones[:40]}..." if len(phones) > 40 else phones
            raise ValueError(f"{start!r} is {len(ids)} phones; Kokoro synthesises 1 to {LONGEST} at a time.")
        style = np.concatenate([self._style(timbre, len(ids))[:TIMBRE], self._style(prosody, len(ids))[TIMBRE:]])
        inputs = np.array([[0, *ids, 0]], np.int64), style[None], np.array([speed], np.float32)
        wav = self._session.run(None, dict(zip(self._inputs, inputs, strict=True)))[0]
        return torch.from_numpy(np.clip(wav.ravel(), -1, 1))

    def _style(self, mixture: Mixture, phones: int) -> npt.NDArray[np.float32]:
        unknown = [name for name in mixture if name not in self._styles]
        if unknown:
            raise ValueError(f"there is no voice {unknown[0]!r}; possible are {', '.join(self.voices)}.")
        styles = [self._styles[name] for name in mixture]
        rows = [style[min(phones, len(style) - 1)] for style in styles]
        return np.average(rows, axis=0, weights=list(mixture.values())).astype(np.float32)


def find_kokoro(name: str, *, offline: bool = False) -> Path:
    """Returns the folder of a Kokoro model: `name` itself, or that of a hub id, downloaded if needed."""
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or Path(name).exists():
        raise ValueError(f"there is no folder {name!r}; use a Kokoro folder or a hub id such as {HUB_ID}.")
    if is_offline(offline):
        return in_hub_cache(name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=["onnx/model.onnx", f"voices/{ENGLISH}"]))


def _read_style(file: Path) -> Styles:
    numbers = file.stat().st_size / 4 / STYLE
    if numbers < 1 or numbers % 1:
        raise ValueError(f"{file} is no Kokoro voice: its size is no multiple of {STYLE} float32 numbers.")
    styles = np.fromfile(file, np.float32).reshape(-1, STYLE)
    if not np.isfinite(styles).all():
        raise ValueError(f"{file} is no Kokoro voice: it holds numbers that are NaN or infinite.")
    return styles


def _open(model: Path, weights: bytes, threads: int) -> Any:
    try:
        return open_session(weights, threads, f"{model} is no ONNX model, or is damaged; fetch it again.")
    except ImportError:
        raise ValueError("Kokoro needs onnxruntime, which is missing; pip install 'ssl-vc[synth]'.") from None


def mixture_name(mixture: Mixture) -> str:
    """Returns a mixture as text, `af_heart` or `af_heart:0.40+am_adam:0.60`."""
    if len(mixture) == 1:
        return next(iter(mixture))
    return "+".join(f"{name}:{share:.2f}" for name, share in mixture.items())


def parse_mixture(text: str) -> dict[str, float]:
    """Parse the text of `mixture_name`."""
    parts = [part.partition(":") for part in text.split("+")]
    return {name: float(share or 1) for name, _, share in parts}
