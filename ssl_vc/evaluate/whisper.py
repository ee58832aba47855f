"""Whisper as an open-vocabulary recogniser in any of its languages, deterministic at temperature 0.

Radford et al., 2022, "Robust Speech Recognition via Large-Scale Weak Supervision" (arXiv 2212.04356), run by
CTranslate2 (`faster-whisper`). Texts are normalised as by its authors: one form for English numbers, contractions and
spellings.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import file_digest
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_vc.evaluate.audible import is_audible
from ssl_vc.evaluate.weights import local_path

FILES = ("model.bin", "config.json", "tokenizer.json")


class Whisper:
    """A Whisper model converted for CTranslate2.

    Args:
        name: its folder, or a hub id such as `Systran/faster-whisper-base`, or a size such as `base`.
        language: such as `en` or `de`.
        offline: download nothing.
    """

    def __init__(self, name: str, language: str = "en", *, offline: bool = False) -> None:
        try:
            package = import_module("faster_whisper")
        except ImportError:
            raise ValueError("Whisper needs faster-whisper, which is missing; pip install 'ssl-vc[eval]'.") from None
        self.normalize = text_normalizer(language)
        folder = _folder(name, package, offline)
        try:
            self._model = package.WhisperModel(
                str(folder), device="cpu", compute_type="int8", cpu_threads=torch.get_num_threads()
            )
        except Exception as error:  # CTranslate2 has no class of its own for damaged files
            raise ValueError(
                f"{folder} is no Whisper model of CTranslate2, or is damaged: {_first_line(error)}."
            ) from None
        if language not in self._model.supported_languages:
            possible = ", ".join(sorted(self._model.supported_languages))
            raise ValueError(f"{name} does not support the language {language!r}; possible are {possible}.")
        self.language = language
        with (folder / "model.bin").open("rb") as file:  # may be gigabytes
            weights = file_digest(file, "sha256").hexdigest()[:12]
        self.versions: Mapping[str, str] = {"whisper": weights, "faster-whisper": version("faster-whisper")}
        backend = f"faster-whisper {self.versions['faster-whisper']}, int8, {language}, open vocabulary"
        self.description = f"Whisper {Path(name).name} ({weights}), {backend}"

    def __call__(self, wavs: Iterable[Tensor]) -> Iterator[str]:
        """Transcribe wavs (samples,) at 16 kHz, in order."""
        for wav in wavs:
            yield self._transcribe(wav) if is_audible(wav) else ""

    def _transcribe(self, wav: Tensor) -> str:
        segments, _ = self._model.transcribe(
            wav.float().numpy(force=True),
            language=self.language,
            beam_size=5,
            temperature=0.0,  # the fallback to sampling is not deterministic
            condition_on_previous_text=False,
            without_timestamps=len(wav) <= 30 * 16_000,
        )
        return " ".join(segment.text.strip() for segment in segments)


def text_normalizer(language: str) -> Callable[[str], str]:
    """Returns the text normalizer of Whisper's authors."""
    try:
        if language == "en":
            return import_module("whisper_normalizer.english").EnglishTextNormalizer()
        return import_module("whisper_normalizer.basic").BasicTextNormalizer()
    except ImportError:
        raise ValueError(
            "whisper-normalizer, which normalises texts, is missing; pip install 'ssl-vc[eval]'."
        ) from None


def _folder(name: str, package: Any, offline: bool) -> Path:
    folder = Path(name)
    if not folder.is_dir():
        of_hub = name.count("/") == 1 or (name in package.available_models() and not offline)
        if not of_hub or folder.exists():
            raise ValueError(f"there is no folder {name!r}; use one with {', '.join(FILES)}, or a hub id.")
        folder = Path(local_path(name, offline) if offline else _download(name, package))
    lacking = [file for file in FILES if not (folder / file).is_file()]
    if lacking:  # without tokenizer.json the package would download another model's
        raise ValueError(f"{name} has no {lacking[0]}; a Whisper model of CTranslate2 has {', '.join(FILES)}.")
    return folder


def _download(name: str, package: Any) -> str:
    try:
        return str(package.download_model(name))
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} is no local folder, and cannot be downloaded: {_first_line(error)}.") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
