"""Forced alignment: the phone of each frame of a clip, from its audio and transcript.

Pocketsphinx's forced alignment (Huggins-Daines et al., 2006, "Pocketsphinx: A Free, Real-Time Continuous Speech
Recognition System for Hand-Held Devices", ICASSP) with its English model: the first pass finds the words, their
pronunciations and the pauses; the second the start of each phone. English only.

    pocketsphinx's frame i   160 i .. 160 i + 410, centre 160 i + 205     |--i--|
    our frame t              320 t .. 320 t + 400, centre 320 t + 200     |--t--|     so t takes the phone of i = 2 t
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

from pretrain.data.manifest import READ_ERRORS, Clip, Samples, decode, log_skipped, parallel_clips
from pretrain.encoder.framing import RECEPTIVE_FIELD, num_frames
from pretrain.labels.tokenizers import PHONES, genitive, words

log = logging.getLogger(__name__)

SYMBOLS = ["SIL", *PHONES]  # 0 is silence, and any of the model's noises
PhoneIds = npt.NDArray[np.uint8]
UNLABELLED = np.broadcast_to(np.int64(-1), 2**31)  # one value, broadcast to more frames than any clip has
CHUNK = 100  # clips per task; loading the model takes 0.25 s, aligning them about 10 s


class PhoneSegment(NamedTuple):
    """A phone and its first 10 ms frame; it lasts until the next segment."""

    phone: str
    start: int


class PhoneAlignments:
    """A folder of alignments: `phones.u8`, the phone ids of all clips, concatenated, and `index.json`.

    Attributes:
        symbols: names of the phone ids; 0 is silence.
        left_out: clips without an alignment, each with the reason.
        fingerprint: hash of the list of clips and their transcripts.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.symbols: list[str] = index["symbols"]
        self.left_out: list[str] = index["left_out"]
        self.fingerprint: str = index["source"]
        ends = np.cumsum(index["counts"]).tolist()
        self._spans = dict(zip(index["keys"], zip([0, *ends], ends, strict=False), strict=True))
        self._ids = np.memmap(folder / "phones.u8", np.uint8, "r", shape=(ends[-1],))

    @classmethod
    def open(cls, folder: str | Path) -> "PhoneAlignments":
        """Open a folder by `align`."""
        folder = Path(folder)
        if not (folder / "index.json").is_file():
            raise ValueError(f"there are no phone alignments at {folder}; `pretrain.labels.align.align` makes them.")
        return cls(folder)

    def __len__(self) -> int:
        return len(self._spans)

    def __contains__(self, key: str) -> bool:
        return key in self._spans

    def __getitem__(self, key: str) -> npt.NDArray[np.int64]:
        """Return a clip's phone ids (frames,)."""
        start, stop = self._spans[key]
        return np.array(self._ids[start:stop], dtype=np.int64)


class AlignmentLabels:
    """Aligned phones as training labels.

    Attributes:
        clusters: number of labels.
        fingerprint: hash of the clips and settings.

    Args:
        phones: the alignments.
        states: consecutive parts that each phone is split into; silence always has one.
        require_alignment: exclude clips without an alignment; otherwise all their frames are unlabelled (-1).
    """

    def __init__(self, phones: PhoneAlignments, states: int = 1, require_alignment: bool = False) -> None:
        self.phones, self.states, self.clusters = phones, states, states * len(phones.symbols)
        self.require_alignment = require_alignment
        self.fingerprint = phones.fingerprint if states == 1 else f"{phones.fingerprint} {states}"

    def __contains__(self, key: str) -> bool:
        return not self.require_alignment or key in self.phones

    def __getitem__(self, key: str) -> npt.NDArray[np.int64]:
        """Return a clip's labels (frames,); of a clip without an alignment, more -1 than it can have frames."""
        return split_into_states(self.phones[key], self.states) if key in self.phones else UNLABELLED


def split_into_states(phones: npt.NDArray[np.int64], states: int) -> npt.NDArray[np.int64]:
    """Split phones (frames,) into states: state s of phone p is `states * p + s`; silence stays 0."""
    starts = np.flatnonzero(np.diff(phones, prepend=-1))
    durations = np.diff(starts, append=len(phones))
    position = np.arange(len(phones)) - np.repeat(starts, durations)
    state = (2 * position + 1) * states // (2 * np.repeat(durations, durations))  # of a frame's centre
    return np.where(phones > 0, states * phones + state, 0)


def align(clips: list[Clip], folder: str | Path, *, workers: int = 2) -> PhoneAlignments:
    """Align clips with their transcripts, or open the alignments if they exist.

    Clips that are not in English, without a transcript, with a word missing in the dictionary, or without an alignment
    are skipped and logged. Parallel clips share the alignment of the first of them. With several workers, the calling
    script must be importable (`if __name__ == ...`).

    Args:
        clips: to align.
        folder: of the alignments; it appears only once complete.
        workers: number of processes; 1 runs in this one.
    """
    folder = Path(folder)
    fingerprint = _fingerprint(clips)
    if folder.exists():
        phones = PhoneAlignments.open(folder)
        if phones.fingerprint != fingerprint:
            raise ValueError(
                f"{folder} holds the phone alignments of other clips; choose another folder, or remove it."
            )
        return phones
    firsts = [group[0] for group in parallel_clips(clips)]
    chosen = sorted(set(firsts))
    chunks = [[clips[index] for index in chosen[start : start + CHUNK]] for start in range(0, len(chosen), CHUNK)]
    if workers == 1:
        by_first = dict(zip(chosen, _log_progress(map(align_chunk, chunks), len(chosen)), strict=True))
    else:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            by_first = dict(zip(chosen, _log_progress(pool.map(align_chunk, chunks), len(chosen)), strict=True))
    results = [by_first[first] for first in firsts]
    aligned = [(clip.key, ids) for clip, ids in zip(clips, results, strict=True) if not isinstance(ids, str)]
    left_out = [f"{clip.key} ({why})" for clip, why in zip(clips, results, strict=True) if isinstance(why, str)]
    log_skipped(left_out)
    if not aligned:
        raise ValueError(
            f"none of {len(clips)} clips could be aligned; the first: {', '.join(left_out[:1]) or 'none'}."
        )
    log.info("%d of %d clips aligned with their transcripts", len(aligned), len(clips))
    _write(folder, aligned, {"left_out": left_out, "source": fingerprint})
    return PhoneAlignments.open(folder)


def align_chunk(clips: list[Clip]) -> list[PhoneIds | str]:
    """Return the phone ids (frames,) of each clip, or the reason why there are none."""
    decoder = _decoder()
    return [_align_clip(clip, decoder) for clip in clips]


def frame_phones(segments: list[PhoneSegment], samples: int) -> PhoneIds:
    """Return the phone ids at the centres of a clip's frames (frames,)."""
    ids = np.array([SYMBOLS.index(segment.phone) if segment.phone in SYMBOLS else 0 for segment in segments], np.uint8)
    centres = 2 * np.arange(num_frames(samples))
    return ids[np.searchsorted([segment.start for segment in segments], centres, side="right") - 1]


def _align_clip(clip: Clip, decoder: Any) -> PhoneIds | str:
    if clip.language[:2].lower() not in ("", "en"):
        return f"its language is {clip.language!r}"
    transcript = words(clip.text)
    if not transcript:
        return "no text"
    unknown = [word for word in transcript if not _in_dictionary(word, decoder)]
    if unknown:
        return f"unknown word {unknown[0]!r}"
    try:
        wav = decode(clip.path)
    except READ_ERRORS as error:
        return str(error).splitlines()[0]
    if len(wav) < RECEPTIVE_FIELD:
        return "too short"
    try:
        return frame_phones(_force_align(wav, transcript, decoder), len(wav))
    except RuntimeError:
        return "its audio does not match its transcript"


def _in_dictionary(word: str, decoder: Any) -> bool:
    """Return whether the dictionary has a word, or the base word of a genitive, which is then added."""
    if decoder.lookup_word(word) is None and word.endswith("'s"):
        name = decoder.lookup_word(word[:-2])
        if name is not None:
            decoder.add_word(word, genitive(name), True)
    return decoder.lookup_word(word) is not None


def _force_align(wav: Samples, transcript: list[str], decoder: Any) -> list[PhoneSegment]:
    """Align in two passes; raise RuntimeError if there is no path through all words."""
    pcm = np.clip(wav * 32767, -32768, 32767).astype(np.int16).tobytes()
    decoder.set_align_text(" ".join(transcript))
    _decode(pcm, decoder)
    if decoder.hyp() is None:
        raise RuntimeError("no path")
    decoder.set_alignment()
    _decode(pcm, decoder)
    return [PhoneSegment(phone.name, phone.start) for phone in decoder.get_alignment().phones()]


def _decode(pcm: bytes, decoder: Any) -> None:
    decoder.reinit_feat()  # else the noise estimate of the previous clip is kept
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


def _decoder() -> Any:
    try:
        from pocketsphinx import Decoder
    except ImportError:
        reason = "forced alignment needs pocketsphinx, which is not installed; pip install 'ssl-vc[train]'."
        raise ValueError(reason) from None
    # its default search for the best path in the word lattice fails, after minutes, on some clips
    return Decoder(lm=None, bestpath=False, loglevel="FATAL")


def _log_progress(chunks: Iterable[list[PhoneIds | str]], total: int) -> list[PhoneIds | str]:
    results: list[PhoneIds | str] = []
    for chunk in chunks:
        results += chunk
        log.info("%d of %d clips", len(results), total)
    return results


def _fingerprint(clips: list[Clip]) -> str:
    described = [
        (clip.key, round(clip.seconds, 3), clip.text, clip.language, *([clip.sentence] if clip.sentence else []))
        for clip in clips
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def _write(folder: Path, aligned: list[tuple[str, PhoneIds]], metadata: dict[str, Any]) -> None:
    index = {
        "symbols": SYMBOLS,
        "keys": [key for key, _ in aligned],
        "counts": [len(ids) for _, ids in aligned],
        **metadata,
    }
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    np.concatenate([ids for _, ids in aligned]).tofile(part / "phones.u8")
    (part / "index.json").write_text(json.dumps(index), encoding="utf-8")
    part.rename(folder)
