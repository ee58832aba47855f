"""Judges of what is said: a wav becomes the words that are recognised in it.

`whisper` recognises any words, as listeners do, and is the strict judge. `pocketsphinx` (Huggins-Daines et al., 2006,
"Pocketsphinx: A Free, Real-Time Continuous Speech Recognition System for Hand-Held Devices", ICASSP) is the small one
that works everywhere: it knows which sentences can be said (`language_model`), so its word error rates flatter.
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

from pretrain.labels.pronounce import Phonemes
from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.device import choose_device
from ssl_vc.evaluate.audible import is_audible
from ssl_vc.evaluate.sphinx import Ear, Knowledge, hear
from ssl_vc.evaluate.weights import fingerprint, here
from ssl_vc.evaluate.whisper import Whisper
from ssl_vc.evaluate.words import normalized
from ssl_vc.hub.download import is_offline

log = logging.getLogger(__name__)

CHUNK = 8  # sounds for which a process loads its model once
TRAINING_ONLY = ("masked_spec_embed",)  # what a recogniser's words do not come from


class Recogniser(Protocol):
    """Anything that hears words.

    Attributes:
        description: what it is, for every table that shows its figures.
        versions: of what its figures depend on, by name.
    """

    description: str
    versions: Mapping[str, str]

    def normalize(self, text: str, /) -> str:
        """Returns a text in the form in which words are compared."""

    def __call__(self, wavs: Iterable[Tensor]) -> Iterator[str]:
        """Give what is heard in each wav, in order, none depending on the others; "" in silence.

        Args:
            wavs: (samples,) at 16 kHz each; they are taken as they are needed.
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
    """Load a judge of words.

    Args:
        name: `whisper:` and the folder or hub id of a Whisper model of CTranslate2; `pocketsphinx`, which expects one
            of `texts`; `pocketsphinx:general`, which expects English; or the folder or hub id of a transformers model
            for speech recognition (CTC or sequence to sequence).
        texts: all that may be said.
        language: what is spoken; for whisper.
        device: auto, cpu, cuda, cuda:1 ... or mps; for transformers.
        workers: how many processes hear, for pocketsphinx; as many as there are cores if None. More than 1 need a
            calling script that can be imported (`if __name__ == "__main__"`).
        offline: fetch nothing.
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
    normalize = staticmethod(normalized)

    def __init__(self, texts: Sequence[str] | None, workers: int) -> None:
        try:
            import_module("pocketsphinx")
        except ImportError:
            raise ValueError("the recogniser pocketsphinx is missing; pip install 'ssl-vc[eval]'.") from None
        self.versions: Mapping[str, str] = {"pocketsphinx": version("pocketsphinx")}
        self._knowledge, unknown = (Knowledge(), 0) if texts is None else _knowledge(texts)
        told = "its own general model of English"
        if texts is not None:
            facts = "\n".join([*self._knowledge.sentences, self._knowledge.dictionary])
            fingerprint = hashlib.sha256(facts.encode()).hexdigest()[:8]
            told = (
                f"closed vocabulary: a bigram model of these {len(self._knowledge.sentences)} sentences ({fingerprint})"
            )
            told += f", of which {unknown} words are unknown to it and always count as wrong" if unknown else ""
        self.description = f"pocketsphinx {self.versions['pocketsphinx']}, en-us, {told}"
        self._workers, self._ear = workers, Ear(self._knowledge)

    def __call__(self, wavs: Iterable[Tensor]) -> Iterator[str]:
        sounds = (_pcm(wav) for wav in wavs)
        chunks = iter(lambda: list(islice(sounds, CHUNK)), [])
        first = list(islice(chunks, 2))
        if self._workers == 1 or len(first) < 2:  # processes would take longer to start
            for chunk in chain(first, chunks):
                yield from self._ear(chunk)
            return
        others = set(active_children())
        pool = ProcessPoolExecutor(self._workers, get_context("spawn"))
        try:
            running: deque[Future[list[str]]] = deque()
            for chunk in chain(first, chunks):
                running.append(pool.submit(hear, self._knowledge, chunk))
                if len(running) > 2 * self._workers:  # of many sounds, few are in memory
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        except BaseException:  # nobody waits for what is still being heard
            for worker in set(active_children()) - others:
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _knowledge(texts: Sequence[str]) -> tuple[Knowledge, int]:
    """Tell the recogniser which sentences there are, without the words that it cannot pronounce; these are counted."""
    said = sorted({normalized(text) for text in texts})  # however often, in whichever order
    pronounce = Phonemes()
    known = {word: pronounce.pronunciations(word) for sentence in said for word in sentence.split()}
    unknown = [word for word, ways in known.items() if not ways]
    if unknown:
        more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
        names = ", ".join(unknown[:20]) + more
        log.warning("%d words are not in pocketsphinx's dictionary, so it cannot hear them: %s", len(unknown), names)
    sentences = [" ".join(word for word in sentence.split() if known[word]) for sentence in said]
    if not any(sentences):
        raise ValueError(
            f"none of {len(texts)} texts has a word in pocketsphinx's dictionary, which is English; give other texts, "
            "or a transformers model of their language."
        )
    lines = []
    for word in sorted(known):
        for number, phones in enumerate(known[word], 1):
            lines.append(f"{word}{f'({number})' if number > 1 else ''} {' '.join(phones)}\n")
    return Knowledge(tuple(sentence for sentence in sentences if sentence), "".join(lines)), len(unknown)


def _pcm(wav: Tensor) -> bytes:
    """Give a wav (samples,) as 16 bit, lowered if it would clip; nothing, if nothing can be said in it."""
    if not is_audible(wav):
        return b""
    whole = wav.float().cpu() * (32768 / max(1.0, float(wav.abs().max())))
    return whole.round().clamp(-32768, 32767).to(torch.int16).numpy().tobytes()


class _Transformers:
    normalize = staticmethod(normalized)

    def __init__(self, name: str, device: torch.device, offline: bool) -> None:
        transformers: Any = import_module("transformers")
        where = {"local_files_only": offline, "trust_remote_code": False}
        place = here(name, offline)
        try:
            model = _model(place, where)
            listen = transformers.AutoFeatureExtractor.from_pretrained(place, **where)
            spell = transformers.AutoTokenizer.from_pretrained(place, **where)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
            reason = (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".: ")
            raise ValueError(f"{name} cannot be loaded as a recogniser of transformers: {reason}.") from None
        if listen.sampling_rate != SAMPLE_RATE:
            raise ValueError(f"{name} hears {listen.sampling_rate} Hz; give a model for {SAMPLE_RATE} Hz.")
        self._hear = transformers.pipeline(
            "automatic-speech-recognition", model=model, tokenizer=spell, feature_extractor=listen, device=device
        )
        self.versions: Mapping[str, str] = {"transformers": version("transformers"), name: fingerprint(model)}
        self.description = f"{name} ({self.versions[name]}), transformers {self.versions['transformers']}"

    def __call__(self, wavs: Iterable[Tensor]) -> Iterator[str]:
        for wav in wavs:
            yield self._heard(wav) if is_audible(wav) else ""

    def _heard(self, wav: Tensor) -> str:
        long = self._hear.type == "seq2seq_whisper" and len(wav) > self._hear.feature_extractor.n_samples
        options = {"return_timestamps": True} if long else {}  # it then hears one 30 s after the other
        with warnings.catch_warnings(action="ignore"):
            return str(self._hear(wav.numpy(force=True), **options)["text"]).strip()


def _model(name: str, where: Mapping[str, Any]) -> torch.nn.Module:
    """Load a model of either kind, in full precision; ValueError if its weights are not those of a recogniser."""
    from transformers import AutoConfig, AutoModelForCTC, AutoModelForSpeechSeq2Seq
    from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING

    spelled = type(AutoConfig.from_pretrained(name, **where)) in MODEL_FOR_CTC_MAPPING
    kind = AutoModelForCTC if spelled else AutoModelForSpeechSeq2Seq
    model, loaded = kind.from_pretrained(name, output_loading_info=True, **where)
    lacking = sorted(key for key in loaded["missing_keys"] if not key.endswith(TRAINING_ONLY))
    if lacking:
        raise ValueError(f"{len(lacking)} of its weights are missing, such as {lacking[0]}")
    return model.eval().float()
