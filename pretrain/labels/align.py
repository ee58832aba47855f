"""Phone alignments: which phone each frame of a clip is, found from its sound and its text.

Pocketsphinx's forced alignment (Huggins-Daines et al., 2006, "Pocketsphinx: A Free, Real-Time Continuous Speech
Recognition System for Hand-Held Devices", ICASSP) with its English model: the first pass finds where the words are,
which of a word's pronunciations was said, and the pauses; the second where each phone begins. For looking at what an
encoder's frames know of phones; English only.

    its frame i     hears 160 i .. 160 i + 410, centre 160 i + 205     |--i--|
    our frame t     hears 320 t .. 320 t + 400, centre 320 t + 200     |--t--|     so t takes the phone of i = 2 t
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pretrain.data.manifest import BROKEN, Clip, Samples, decode, name_left_out
from pretrain.encoder.frontend import FIELD, HOP
from pretrain.labels.pronounce import PHONES, genitive, words

log = logging.getLogger(__name__)

SYMBOLS = ["SIL", *PHONES]  # silence is 0, and so is any noise that the model knows
Numbers = npt.NDArray[np.uint8]
UNKNOWN = np.broadcast_to(np.int64(-1), 2**31)  # one number, however many are asked for
CHUNK = 100  # clips for which a process loads the model once: a quarter of a second, in about ten


class Span(NamedTuple):
    """A phone and the frame of 10 ms in which it begins; it lasts until the next one."""

    phone: str
    start: int


class Phones:
    """A folder of alignments: `phones.u8`, the phones' numbers of all clips end to end, and `index.json`.

    Attributes:
        symbols: the phones' names by their numbers; silence is 0.
        left_out: the clips that have no alignment, each with the reason.
        source: a fingerprint of the clips that it was made for.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.symbols: list[str] = index["symbols"]
        self.left_out: list[str] = index["left_out"]
        self.source: str = index["source"]
        ends = np.cumsum(index["counts"]).tolist()
        self._where = dict(zip(index["keys"], zip([0, *ends], ends, strict=False), strict=True))
        self._numbers = np.memmap(folder / "phones.u8", np.uint8, "r", shape=(ends[-1],))

    @classmethod
    def open(cls, folder: str | Path) -> "Phones":
        """Open what `align` made."""
        folder = Path(folder)
        if not (folder / "index.json").is_file():
            raise ValueError(
                f"there are no phone alignments at {folder}; make them with `pretrain.labels.align.align`."
            )
        return cls(folder)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def __getitem__(self, key: str) -> npt.NDArray[np.int64]:
        """Give the number of the phone in each of a clip's frames (frames,)."""
        start, stop = self._where[key]
        return np.array(self._numbers[start:stop], dtype=np.int64)


class Aligned:
    """Alignments as labels to guess, alone or beside others.

    Attributes:
        clusters: how many labels there are.
        made_of: a fingerprint of the clips.

    Args:
        phones: the alignments.
        states: the parts, one after the other, that each phone is divided into; silence is one in any case.
        alone: leave out clips without an alignment; else all their frames are -1, which nobody is asked to guess.
    """

    def __init__(self, phones: Phones, states: int = 1, alone: bool = False) -> None:
        self.phones, self.states, self.clusters = phones, states, states * len(phones.symbols)
        self.alone = alone
        self.made_of = phones.source if states == 1 else f"{phones.source} {states}"

    def __contains__(self, key: str) -> bool:
        return not self.alone or key in self.phones

    def __getitem__(self, key: str) -> npt.NDArray[np.int64]:
        """Give the number of the phone in each of a clip's frames (frames,); of an unknown clip more than enough -1."""
        return divided(self.phones[key], self.states) if key in self.phones else UNKNOWN


def divided(phones: npt.NDArray[np.int64], states: int) -> npt.NDArray[np.int64]:
    """Number the parts of phones (frames,): state s of phone p, of so many, is `states * p + s`; silence is all 0."""
    begins = np.flatnonzero(np.diff(phones, prepend=-1))
    lasts = np.diff(begins, append=len(phones))
    within = np.arange(len(phones)) - np.repeat(begins, lasts)
    part = (2 * within + 1) * states // (2 * np.repeat(lasts, lasts))  # the one in which a frame's centre is
    return np.where(phones > 0, states * phones + part, 0)


def align(clips: list[Clip], folder: str | Path, *, workers: int = 2) -> Phones:
    """Align clips with their texts and write the alignments, or open them if they are there for the same clips.

    Clips that are not in English, have no text or a word that the dictionary lacks, or do not fit their text are left
    out, and named in the log. With more than one worker, the calling script must be importable (`if __name__ == ...`).

    Args:
        clips: what to align.
        folder: where the alignments go; it appears when all are there.
        workers: how many processes; 1 works in this one.
    """
    folder = Path(folder)
    source = _fingerprint(clips)
    if folder.exists():
        phones = Phones.open(folder)
        if phones.source != source:
            raise ValueError(f"{folder} holds the phone alignments of other clips; give another folder, or remove it.")
        return phones
    chunks = [clips[start : start + CHUNK] for start in range(0, len(clips), CHUNK)]
    if workers == 1:
        results = _watched(map(align_chunk, chunks), len(clips))
    else:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            results = _watched(pool.map(align_chunk, chunks), len(clips))
    aligned = [
        (clip.key, numbers) for clip, numbers in zip(clips, results, strict=True) if not isinstance(numbers, str)
    ]
    left_out = [f"{clip.key} ({why})" for clip, why in zip(clips, results, strict=True) if isinstance(why, str)]
    name_left_out(left_out)
    if not aligned:
        raise ValueError(
            f"none of {len(clips)} clips could be aligned; the first: {', '.join(left_out[:1]) or 'none'}."
        )
    log.info("%d of %d clips aligned with their texts", len(aligned), len(clips))
    _write(folder, aligned, {"left_out": left_out, "source": source})
    return Phones.open(folder)


def align_chunk(clips: list[Clip]) -> list[Numbers | str]:
    """Give for each clip the number of the phone in each frame (frames,), or why there is none."""
    decoder = _decoder()
    return [_aligned(clip, decoder) for clip in clips]


def frame_phones(spans: list[Span], samples: int) -> Numbers:
    """Give the number of the phone at the centre of each frame (frames,) of a clip of so many samples."""
    numbers = np.array([SYMBOLS.index(span.phone) if span.phone in SYMBOLS else 0 for span in spans], np.uint8)
    centres = 2 * np.arange((samples - FIELD) // HOP + 1)
    return numbers[np.searchsorted([span.start for span in spans], centres, side="right") - 1]


def _aligned(clip: Clip, decoder: Any) -> Numbers | str:
    if clip.language[:2].lower() not in ("", "en"):
        return f"its language is {clip.language!r}"
    said = words(clip.text)
    if not said:
        return "no text"
    unknown = [word for word in said if not _known(word, decoder)]
    if unknown:
        return f"unknown word {unknown[0]!r}"
    try:
        wav = decode(clip.path)
    except BROKEN as error:
        return str(error).splitlines()[0]
    if len(wav) < FIELD:
        return "too short"
    try:
        return frame_phones(_spans(wav, said, decoder), len(wav))
    except RuntimeError:
        return "its sound does not fit its text"


def _known(word: str, decoder: Any) -> bool:
    """Tell whether the dictionary has a word; of a name's genitive that it lacks, the name does."""
    if decoder.lookup_word(word) is None and word.endswith("'s"):
        name = decoder.lookup_word(word[:-2])
        if name is not None:
            decoder.add_word(word, genitive(name), True)
    return decoder.lookup_word(word) is not None


def _spans(wav: Samples, said: list[str], decoder: Any) -> list[Span]:
    """Align in two passes; RuntimeError if no path leads through all words."""
    sound = np.clip(wav * 32767, -32768, 32767).astype(np.int16).tobytes()
    decoder.set_align_text(" ".join(said))
    _hear(sound, decoder)
    if decoder.hyp() is None:
        raise RuntimeError("no path")
    decoder.set_alignment()
    _hear(sound, decoder)
    return [Span(phone.name, phone.start) for phone in decoder.get_alignment().phones()]


def _hear(sound: bytes, decoder: Any) -> None:
    decoder.reinit_feat()  # it would go on with the noise that it measured in the clip before
    decoder.start_utt()
    decoder.process_raw(sound, full_utt=True)
    decoder.end_utt()


def _decoder() -> Any:
    try:
        from pocketsphinx import Decoder
    except ImportError:
        reason = "phones are aligned by pocketsphinx, which is missing; pip install 'ssl-vc[train]'."
        raise ValueError(reason) from None
    # searching the lattice of words for the best path, its default, loses the path and takes minutes on some clips
    return Decoder(lm=None, bestpath=False, loglevel="FATAL")


def _watched(chunks: Iterable[list[Numbers | str]], total: int) -> list[Numbers | str]:
    results: list[Numbers | str] = []
    for chunk in chunks:
        results += chunk
        log.info("%d of %d clips", len(results), total)
    return results


def _fingerprint(clips: list[Clip]) -> str:
    facts = [(clip.key, round(clip.seconds, 3), clip.text, clip.language) for clip in clips]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _write(folder: Path, aligned: list[tuple[str, Numbers]], facts: dict[str, Any]) -> None:
    index = {
        "symbols": SYMBOLS,
        "keys": [key for key, _ in aligned],
        "counts": [len(numbers) for _, numbers in aligned],
        **facts,
    }
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    np.concatenate([numbers for _, numbers in aligned]).tofile(part / "phones.u8")
    (part / "index.json").write_text(json.dumps(index), encoding="utf-8")
    part.rename(folder)
