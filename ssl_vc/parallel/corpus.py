"""Synthesise a corpus of parallel speech: each sentence with one prosody in several timbres.

OUT/
    NNNNN_0.flac       sentence NNNNN by the speaker of its prosody
    NNNNN_1.flac ...   the same in other timbres: equal length, alignment and F0
    manifest.tsv       all clips so far
    pairs.tsv          all clips, with the column `source`: another clip of the sentence, to be converted to this one

Every random choice depends on the seed and the number of the sentence alone, so a corpus can be resumed and extended
while its list of sentences stays the same; a sentence may be reworded until it has been synthesised.
"""

import csv
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import soundfile
import torch

from ssl_vc.audio import write
from ssl_vc.features.frame_files import open_folder
from ssl_vc.files import replacing
from ssl_vc.parallel.g2p import G2P
from ssl_vc.parallel.kokoro import SAMPLE_RATE, Kokoro, Mixture, mixture_name

COLUMNS = ("path", "speaker", "language", "seconds", "text", "sentence", "prosody", "speed", "g2p")
SAVE_EVERY = 100  # clips between updates of the tables


@dataclass(frozen=True)
class CorpusConfig:
    """Configuration of a corpus.

    Attributes:
        voices: timbres per sentence; the first is that of its prosody.
        speakers: number of speakers: all voices, then mixtures of two or three.
        only: voices to draw from; all if empty.
        without: voices to exclude.
        speeds: range of the speaking rate factor.
        seed: random seed.
    """

    voices: int = 3
    speakers: int = 200
    only: Sequence[str] = ()
    without: Sequence[str] = ()
    speeds: tuple[float, float] = (0.85, 1.15)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.voices <= self.speakers:
            raise ValueError(
                f"{self.voices} voices of {self.speakers} speakers is impossible; use 1 to {self.speakers}."
            )
        if not 0.5 <= self.speeds[0] <= self.speeds[1] <= 2:
            raise ValueError(f"speeds are {self.speeds[0]} to {self.speeds[1]}; use two from 0.5 to 2, ascending.")


class ClipSpec(NamedTuple):
    """A clip to synthesise."""

    sentence: int
    text: str
    voice: int
    timbre: Mixture
    prosody: Mixture
    speed: float

    @property
    def path(self) -> str:
        """File name in the corpus."""
        return f"{self.sentence:05d}_{self.voice}.flac"


def draw_speakers(names: Sequence[str], config: CorpusConfig) -> list[Mixture]:
    """Draw the speakers of a corpus: the voices, then mixtures of two or three of them."""
    chosen = [name for name in names if name not in config.without and (not config.only or name in config.only)]
    for name in (*config.only, *config.without):
        if name not in names:
            raise ValueError(f"there is no voice {name!r}; possible are {', '.join(names)}.")
    if not chosen:
        raise ValueError("no voice is left to draw from; exclude fewer.")
    if len(chosen) == 1 < config.voices:
        raise ValueError(f"{chosen[0]} alone cannot make {config.voices} voices; exclude fewer, or set voices to 1.")
    few = len(chosen) > config.speakers
    single = random.Random(f"{config.seed} voices").sample(chosen, config.speakers) if few else chosen
    speakers: list[Mixture] = [{name: 1.0} for name in single]
    for number in range(len(speakers), config.speakers if len(chosen) > 1 else 0):
        rng = random.Random(f"{config.seed} speaker {number}")
        parts = rng.sample(chosen, min(rng.choice([2, 3]), len(chosen)))
        shares = [rng.uniform(0.3, 1) for _ in parts]
        speakers.append({name: round(share / sum(shares), 2) for name, share in zip(parts, shares, strict=True)})
    return speakers


def draw_clips(
    texts: Sequence[str], speakers: Sequence[Mixture], config: CorpusConfig, skip: int, count: int
) -> list[ClipSpec]:
    """Draw the clips of `count` sentences in random order, after the first `skip` of that order."""
    order = list(texts)
    random.Random(config.seed).shuffle(order)
    clips = []
    for number, text in islice(enumerate(order), skip, skip + count):
        rng = random.Random(f"{config.seed} {number}")
        drawn = rng.sample(list(speakers), config.voices)
        speed = round(rng.uniform(*config.speeds), 3)
        clips += [ClipSpec(number, text, voice, timbre, drawn[0], speed) for voice, timbre in enumerate(drawn)]
    return clips


def synthesize_corpus(
    clips: Sequence[ClipSpec], folder: Path, model: Kokoro, g2p: G2P, config: CorpusConfig, workers: int = 1
) -> Iterator[ClipSpec]:
    """Synthesise the missing clips and write both tables; yields each clip once it exists.

    Args:
        clips: of `draw_clips`.
        folder: of the corpus; a folder of another corpus is refused.
        model: synthesises.
        g2p: maps texts to phones.
        config: of the clips.
        workers: number of clips synthesised in parallel.
    """
    open_folder(folder, {"model": model.digest, "g2p": g2p.name, **asdict(config)})
    existing = write_tables(folder, clips, g2p.name)
    yield from (clip for clip in clips if clip.path in existing)
    missing = iter([clip for clip in clips if clip.path not in existing])
    count = 0
    try:
        with ThreadPoolExecutor(workers) as pool:
            running: dict[Future[Path], ClipSpec] = {}
            while True:
                for clip in islice(missing, 2 * workers - len(running)):
                    running[pool.submit(_synthesize, clip, folder, model, g2p)] = clip
                if not running:
                    break
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    done.result()
                    yield running.pop(done)
                    count += 1
                    if count % SAVE_EVERY == 0:
                        write_tables(folder, clips, g2p.name)
    finally:
        write_tables(folder, clips, g2p.name)


def _synthesize(clip: ClipSpec, folder: Path, model: Kokoro, g2p: G2P) -> Path:
    segments = [phones for phones in g2p.phonemize(clip.text) if phones.strip()]
    if not segments:
        raise ValueError(f"{g2p.name} finds no phones in {clip.text!r}; reword that sentence.")
    wavs = [model.synthesize(phones, clip.timbre, clip.prosody, clip.speed) for phones in segments]
    return write(folder / clip.path, torch.cat(wavs), SAMPLE_RATE)


def write_tables(folder: Path, clips: Iterable[ClipSpec], g2p: str) -> set[str]:
    """Write `manifest.tsv` and `pairs.tsv` of all existing clips, and return their paths.

    Args:
        folder: of the corpus; clips already listed stay listed.
        clips: that may have been synthesised since.
        g2p: name of the g2p.
    """
    rows = {row["path"]: row for row in _read(folder / "manifest.tsv") if (folder / row["path"]).is_file()}
    for clip in clips:
        metadata = _metadata(clip, g2p)
        if not metadata.items() <= rows.get(clip.path, metadata).items():
            raise ValueError(f"{folder / clip.path} has another text or voice; use the same texts, or another folder.")
        if clip.path not in rows and (folder / clip.path).is_file():
            info = soundfile.info(str(folder / clip.path))
            rows[clip.path] = {**metadata, "seconds": f"{info.frames / info.samplerate:.3f}"}
    ordered = sorted(rows.values(), key=lambda row: (int(row["sentence"]), len(row["path"]), row["path"]))
    _write(folder / "manifest.tsv", COLUMNS, ordered)
    pairs = []
    for _, group in groupby(ordered, key=lambda row: row["sentence"]):
        takes = list(group)
        others = [*takes[1:], takes[0]]
        pairs += [{**a, "source": b["path"]} for a, b in zip(takes, others, strict=True) if a is not b]
    _write(folder / "pairs.tsv", (*COLUMNS, "source"), pairs)
    return set(rows)


def _metadata(clip: ClipSpec, g2p: str) -> dict[str, str]:
    return {
        "path": clip.path,
        "speaker": mixture_name(clip.timbre),
        "language": "en",
        "text": clip.text,
        "sentence": str(clip.sentence),
        "prosody": mixture_name(clip.prosody),
        "speed": str(clip.speed),
        "g2p": g2p,
    }


def _read(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def _write(file: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    with replacing(file) as part, part.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, columns, delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
