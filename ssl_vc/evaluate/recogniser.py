"""Speech recognisers for word error rates.

`whisper` has an open vocabulary, as listeners do, and is the strict one. `pocketsphinx` (Huggins-Daines et al., 2006,
"Pocketsphinx: A Free, Real-Time Continuous Speech Recognition System for Hand-Held Devices", ICASSP) is the small one
that works everywhere: it knows the test sentences (`language_model`), so its word error rates are optimistic.
"""

import hashlib
import logging
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from importlib import import_module
from importlib.metadata import version
from itertools import chain, islice
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pretrain.labels.tokenizers import PhonemeTokenizer
from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.device import choose_device
from ssl_vc.evaluate.audible import is_audible
from ssl_vc.evaluate.sphinx import SphinxDecoder, SphinxVocabulary, decode
from ssl_vc.evaluate.text_errors import normalize_text
from ssl_vc.evaluate.weights import fingerprint, import_transformers, local_path
from ssl_vc.evaluate.whisper import Whisper
from ssl_vc.hub.download import is_offline

log = logging.getLogger(__name__)

CHUNK = 8  # clips per task of a worker process, which loads its model for each
TRAINING_ONLY = ("masked_spec_embed",)  # weights unused in inference


class Recogniser(Protocol):
    """A speech recogniser.

    Attributes:
        description: shown in every table with its figures.
        versions: of everything its figures depend on, by name.
    """

    description: str
    versions: Mapping[str, str]

    def normalize(self, text: str, /) -> str:
        """Returns a text in the normalised form used for comparison."""

    def __call__(self, wavs: Iterable[Tensor]) -> Iterator[str]:
        """Transcribe wavs in order, independently of each other; "" for silence.

        Args:
            wavs: (samples,) at 16 kHz each; consumed lazily.
        """


def load_recogniser(
    name: str,
    texts: Sequence[str],
    *,
    language: str = "en",
    device: str = "auto",
    workers: int | None = None,
    offline: bool = False,
) -> Recogniser:
    """Load a recogniser.

    Args:
        name: `whisper:` and the folder or hub id of a Whisper model of CTranslate2; `pocketsphinx` with the closed
            vocabulary of `texts`; `pocketsphinx:general` for any English; or the folder or hub id of a CTC or seq2seq
            model of transformers.
        texts: the test sentences.
        language: for whisper.
        device: auto, cpu, cuda, cuda:1 ... or mps; for transformers.
        workers: number of processes, for pocketsphinx; one per core if None. More than 1 needs a calling script that
            can be imported (`if __name__ == "__main__"`).
        offline: download nothing.
    """
    kind, _, place = name.partition(":")
    if kind == "whisper" and place:
        return Whisper(place, language, offline=is_offline(offline))
    if name in ("pocketsphinx", "pocketsphinx:general"):
        return _Pocketsphinx(texts if name == "pocketsphinx" else None, workers or os.cpu_count() or 1)
    if not Path(name).is_dir() and (name.count("/") != 1 or Path(name).exists()):
        raise ValueError(
            f"there is no recogniser {name!r}; possible are whisper:FOLDER_OR_HUB_ID, pocketsphinx, "
            "pocketsphinx:general, and the folder or hub id of a transformers model for speech recognition."
        )
    return _Transformers(name, choose_device(device), is_offline(offline))


class _Pocketsphinx:
    normalize = staticmethod(normalize_text)

    def __init__(self, texts: Sequence[str] | None, workers: int) -> None:
        try:
            import_module("pocketsphinx")
        except ImportError:
            raise ValueError("the recogniser pocketsphinx is missing; pip install 'ssl-vc[eval]'.") from None
        self.versions: Mapping[str, str] = {"pocketsphinx": version("pocketsphinx")}
        self._vocabulary, unknown = (SphinxVocabulary(), 0) if texts is None else _vocabulary(texts)
        model = "general model of English"
        if texts is not None:
            digest = "\n".join([*self._vocabulary.sentences, self._vocabulary.dictionary])
            fingerprint = hashlib.sha256(digest.encode()).hexdigest()[:8]
            sentences = len(self._vocabulary.sentences)
            model = f"closed vocabulary: a bigram model of the {sentences} test sentences ({fingerprint})"
            model += f", with {unknown} out-of-vocabulary words, which always count as errors" if unknown else ""
        self.description = f"pocketsphinx {self.versions['pocketsphinx']}, en-us, {model}"
        self._workers, self._decoder = workers, SphinxDecoder(self._vocabulary)

    def __call__(self, wavs: Iterable[Tensor]) -> Iterator[str]:
        clips = (_pcm(wav) for wav in wavs)
        chunks = iter(lambda: list(islice(clips, CHUNK)), [])
        first = list(islice(chunks, 2))
        if self._workers == 1 or len(first) < 2:  # processes would cost more than they save
            for chunk in chain(first, chunks):
                yield from self._decoder(chunk)
            return
        others = set(active_children())
        pool = ProcessPoolExecutor(self._workers, get_context("spawn"))
        try:
            running: deque[Future[list[str]]] = deque()
            for chunk in chain(first, chunks):
                running.append(pool.submit(decode, self._vocabulary, chunk))
                if len(running) > 2 * self._workers:  # keeps few clips in memory
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        except BaseException:  # do not wait for clips still being decoded
            for worker in set(active_children()) - others:
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _vocabulary(texts: Sequence[str]) -> tuple[SphinxVocabulary, int]:
    """The closed vocabulary of some texts, and the number of words left out as they have no pronunciation."""
    normalized = sorted({normalize_text(text) for text in texts})  # independent of order and repetitions
    pronounce = PhonemeTokenizer()
    known = {word: pronounce.pronunciations(word) for sentence in normalized for word in sentence.split()}
    unknown = [word for word, pronunciations in known.items() if not pronunciations]
    if unknown:
        more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
        names = ", ".join(unknown[:20]) + more
        log.warning("%d words are not in pocketsphinx's dictionary and cannot be recognised: %s", len(unknown), names)
    sentences = [" ".join(word for word in sentence.split() if known[word]) for sentence in normalized]
    if not any(sentences):
        raise ValueError(
            f"none of {len(texts)} texts has a word in pocketsphinx's English dictionary; use other texts, or a "
            "transformers model of their language."
        )
    lines = []
    for word in sorted(known):
        for number, phones in enumerate(known[word], 1):
            lines.append(f"{word}{f'({number})' if number > 1 else ''} {' '.join(phones)}\n")
    return SphinxVocabulary(tuple(sentence for sentence in sentences if sentence), "".join(lines)), len(unknown)


def _pcm(wav: Tensor) -> bytes:
    """Encode a wav (samples,) as 16-bit PCM, scaled down if it would clip; empty if it is inaudible."""
    if not is_audible(wav):
        return b""
    samples = wav.float().cpu() * (32768 / max(1.0, float(wav.abs().max())))
    return samples.round().clamp(-32768, 32767).to(torch.int16).numpy().tobytes()


class _Transformers:
    normalize = staticmethod(normalize_text)

    def __init__(self, name: str, device: torch.device, offline: bool) -> None:
        transformers: Any = import_transformers(name)
        where = {"local_files_only": offline, "trust_remote_code": False}
        place = local_path(name, offline)
        try:
            model = _model(place, where)
            features = transformers.AutoFeatureExtractor.from_pretrained(place, **where)
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, **where)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
            reason = (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".: ")
            raise ValueError(f"{name} cannot be loaded as a recogniser of transformers: {reason}.") from None
        if features.sampling_rate != SAMPLE_RATE:
            raise ValueError(f"{name} expects {features.sampling_rate} Hz; use a model for {SAMPLE_RATE} Hz.")
        self._pipeline = transformers.pipeline(
            "automatic-speech-recognition", model=model, tokenizer=tokenizer, feature_extractor=features, device=device
        )
        self.versions: Mapping[str, str] = {"transformers": version("transformers"), name: fingerprint(model)}
        self.description = f"{name} ({self.versions[name]}), transformers {self.versions['transformers']}"

    def __call__(self, wavs: Iterable[Tensor]) -> Iterator[str]:
        for wav in wavs:
            yield self._transcribe(wav) if is_audible(wav) else ""

    def _transcribe(self, wav: Tensor) -> str:
        long = self._pipeline.type == "seq2seq_whisper" and len(wav) > self._pipeline.feature_extractor.n_samples
        options = {"return_timestamps": True} if long else {}  # decodes 30 s at a time
        with warnings.catch_warnings(action="ignore"):
            return str(self._pipeline(wav.numpy(force=True), **options)["text"]).strip()


def _model(name: str, where: Mapping[str, Any]) -> torch.nn.Module:
    """Load a CTC or seq2seq model in full precision; raises ValueError if weights are missing."""
    from transformers import AutoConfig, AutoModelForCTC, AutoModelForSpeechSeq2Seq
    from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING

    is_ctc = type(AutoConfig.from_pretrained(name, **where)) in MODEL_FOR_CTC_MAPPING
    kind = AutoModelForCTC if is_ctc else AutoModelForSpeechSeq2Seq
    model, loaded = kind.from_pretrained(name, output_loading_info=True, **where)
    lacking = sorted(key for key in loaded["missing_keys"] if not key.endswith(TRAINING_ONLY))
    if lacking:
        raise ValueError(f"{len(lacking)} of its weights are missing, such as {lacking[0]}")
    return model.eval().float()
