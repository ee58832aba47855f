"""A corpus of parallel speech: which sentence is spoken with whose prosody in which timbres, made clip by clip.

OUT/
    NNNNN_0.flac       sentence NNNNN by the speaker whose prosody it has
    NNNNN_1.flac ...   the same in other timbres: as many samples, the same words at the same time, the same F0
    manifest.tsv       every clip that is there
    pairs.tsv          every clip, with the column `source`: another clip of its sentence, which is to become this one

All that is drawn follows from the seed and the sentence's number, so a corpus can be continued and extended, as long
as its list of sentences stays: one may be reworded before it is spoken, but none come, go or move.
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
from ssl_vc.features.frame_files import begin
from ssl_vc.files import replacing
from ssl_vc.parallel.g2p import G2P
from ssl_vc.parallel.kokoro import SAMPLE_RATE, Kokoro, Mixture, mixture_name

COLUMNS = ("path", "speaker", "language", "seconds", "text", "sentence", "prosody", "speed", "g2p")
SAVE_EVERY = 100  # clips between two manifests


@dataclass(frozen=True)
class CorpusConfig:
    """How a corpus is drawn.

    Attributes:
        voices: in how many timbres each sentence is spoken; the first is that of its prosody.
        speakers: how many there are: every voice by itself, the others mixtures of two or three.
        only: the voices to draw from; all if empty.
        without: voices to leave out.
        speeds: sentences are spoken so many times as fast, from .. to.
        seed: of the order of sentences, of speakers and mixtures.
    """

    voices: int = 3
    speakers: int = 200
    only: Sequence[str] = ()
    without: Sequence[str] = ()
    speeds: tuple[float, float] = (0.85, 1.15)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.voices <= self.speakers:
            raise ValueError(f"{self.voices} voices of {self.speakers} speakers cannot be; give 1 or more of as many.")
        if not 0.5 <= self.speeds[0] <= self.speeds[1] <= 2:
            raise ValueError(f"speeds go from {self.speeds[0]} to {self.speeds[1]}; give two of .5 to 2, in order.")


class Line(NamedTuple):
    """A clip to make."""

    sentence: int
    text: str
    voice: int
    timbre: Mixture
    prosody: Mixture
    speed: float

    @property
    def path(self) -> str:
        """Its name in the corpus."""
        return f"{self.sentence:05d}_{self.voice}.flac"


def draw_speakers(names: Sequence[str], config: CorpusConfig) -> list[Mixture]:
    """Returns the speakers of a corpus: the voices, then mixtures of two or three of them."""
    chosen = [name for name in names if name not in config.without and (not config.only or name in config.only)]
    for name in (*config.only, *config.without):
        if name not in names:
            raise ValueError(f"there is no voice {name!r}; possible are {', '.join(names)}.")
    if not chosen:
        raise ValueError("no voice is left to draw from; leave out fewer.")
    if len(chosen) == 1 < config.voices:
        raise ValueError(f"{chosen[0]} alone is no {config.voices} voices; leave out fewer, or ask for one.")
    few = len(chosen) > config.speakers
    alone = random.Random(f"{config.seed} voices").sample(chosen, config.speakers) if few else chosen
    speakers: list[Mixture] = [{name: 1.0} for name in alone]
    for number in range(len(speakers), config.speakers if len(chosen) > 1 else 0):
        rng = random.Random(f"{config.seed} speaker {number}")
        parts = rng.sample(chosen, min(rng.choice([2, 3]), len(chosen)))
        shares = [rng.uniform(0.3, 1) for _ in parts]
        speakers.append({name: round(share / sum(shares), 2) for name, share in zip(parts, shares, strict=True)})
    return speakers


def draw_lines(
    texts: Sequence[str], speakers: Sequence[Mixture], config: CorpusConfig, skip: int, count: int
) -> list[Line]:
    """Returns the clips of `count` sentences, in an order of their own, after the first `skip` of that order."""
    order = list(texts)
    random.Random(config.seed).shuffle(order)
    lines = []
    for number, text in islice(enumerate(order), skip, skip + count):
        rng = random.Random(f"{config.seed} {number}")
        drawn = rng.sample(list(speakers), config.voices)
        speed = round(rng.uniform(*config.speeds), 3)
        lines += [Line(number, text, voice, timbre, drawn[0], speed) for voice, timbre in enumerate(drawn)]
    return lines


def make_corpus(
    lines: Sequence[Line], folder: Path, model: Kokoro, g2p: G2P, config: CorpusConfig, workers: int = 1
) -> Iterator[Line]:
    """Write the clips that are not there yet, and the two tables; yields each clip when it is there.

    Args:
        lines: what to make, see `draw_lines`.
        folder: where to; one that holds something else is refused.
        model: synthesises.
        g2p: reads the texts.
        config: what the lines were drawn by.
        workers: how many clips are made side by side.
    """
    begin(folder, {"model": model.digest, "g2p": g2p.name, **asdict(config)})
    there = write_tables(folder, lines, g2p.name)
    yield from (line for line in lines if line.path in there)
    missing = iter([line for line in lines if line.path not in there])
    made = 0
    try:
        with ThreadPoolExecutor(workers) as pool:
            running: dict[Future[Path], Line] = {}
            while True:
                for line in islice(missing, 2 * workers - len(running)):
                    running[pool.submit(_synthesize, line, folder, model, g2p)] = line
                if not running:
                    break
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    done.result()
                    yield running.pop(done)
                    made += 1
                    if made % SAVE_EVERY == 0:
                        write_tables(folder, lines, g2p.name)
    finally:
        write_tables(folder, lines, g2p.name)


def _synthesize(line: Line, folder: Path, model: Kokoro, g2p: G2P) -> Path:
    read = [phones for phones in g2p.phonemize(line.text) if phones.strip()]
    if not read:
        raise ValueError(f"{g2p.name} reads nothing in {line.text!r}; reword that line.")
    parts = [model.synthesize(phones, line.timbre, line.prosody, line.speed) for phones in read]
    return write(folder / line.path, torch.cat(parts), SAMPLE_RATE)


def write_tables(folder: Path, lines: Iterable[Line], g2p: str) -> set[str]:
    """Write `manifest.tsv` and `pairs.tsv` of all clips that are there, and return their paths.

    Args:
        folder: of the corpus; what its manifest lists already stays listed.
        lines: clips that may have come since.
        g2p: who read the texts.
    """
    rows = {row["path"]: row for row in _read(folder / "manifest.tsv") if (folder / row["path"]).is_file()}
    for line in lines:
        facts = _facts(line, g2p)
        if not facts.items() <= rows.get(line.path, facts).items():
            raise ValueError(f"{folder / line.path} has another text or voice; take the same texts, or another folder.")
        if line.path not in rows and (folder / line.path).is_file():
            sound = soundfile.info(str(folder / line.path))
            rows[line.path] = {**facts, "seconds": f"{sound.frames / sound.samplerate:.3f}"}
    ordered = sorted(rows.values(), key=lambda row: (int(row["sentence"]), len(row["path"]), row["path"]))
    _write(folder / "manifest.tsv", COLUMNS, ordered)
    pairs = []
    for _, takes in groupby(ordered, key=lambda row: row["sentence"]):
        clips = list(takes)
        others = [*clips[1:], clips[0]]
        pairs += [{**c, "source": o["path"]} for c, o in zip(clips, others, strict=True) if c is not o]
    _write(folder / "pairs.tsv", (*COLUMNS, "source"), pairs)
    return set(rows)


def _facts(line: Line, g2p: str) -> dict[str, str]:
    return {
        "path": line.path,
        "speaker": mixture_name(line.timbre),
        "language": "en",
        "text": line.text,
        "sentence": str(line.sentence),
        "prosody": mixture_name(line.prosody),
        "speed": str(line.speed),
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
