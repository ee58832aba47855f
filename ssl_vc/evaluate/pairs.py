"""Pairs: what an evaluation has converted, into whose voice, and from which of that speaker's recordings."""

import csv
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE, read, trim
from ssl_vc.files import FORBIDDEN, harmless
from ssl_vc.tables import check_header, named_cells
from ssl_vc.voice.enroll import SUFFIXES

DELIMITERS = {".csv": ",", ".tsv": "\t"}
COLUMNS = ("source", "target", "text", "name", "speaker", "target_speaker", "reading", "converted", "trials")
APART = "give all lines of a target the same target and trials, and name others in the column target_speaker"
SHORTAGE = 0.2  # of the seconds of reference that are asked for may be missing
SHORTEST = 0.2  # seconds; less of a recording is not worth cutting off, and may be silent


@dataclass(frozen=True)
class Pair:
    """A source and who shall say it.

    Attributes:
        name: no other pair has it; a file can be called so.
        source: what is said.
        target: who shall say it, a key of `Task.targets`.
        text: what is said, in words; empty if unknown.
        speaker: of the source; empty if unknown.
        reading: the target saying the same words, if there is such a recording.
        converted: the pair as a system elsewhere made it.
    """

    name: str
    source: Path
    target: str
    text: str = ""
    speaker: str = ""
    reading: Path | None = None
    converted: Path | None = None


@dataclass(frozen=True)
class Target:
    """A speaker who is converted to.

    Attributes:
        name: of the speaker.
        references: recordings, of which the first so many seconds become the voice.
        trials: recordings that judges compare with; the references where there are none.
    """

    name: str
    references: tuple[Path, ...]
    trials: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Task:
    """What is evaluated, and by whom.

    Attributes:
        name: of the whole.
        pairs: what is converted.
        targets: who is converted to, by name.
        reference_seconds: how much of a target's references is used, one evaluation for each; None is all there is.
        recogniser: judges the words, see `ssl_vc.evaluate.recogniser`; the best at hand if empty.
        verifier: judges the voices, see `ssl_vc.evaluate.verifier`; the best at hand if empty.
        language: what is spoken.
        parallel: whether readings are parallel to their sources, frame by frame.
        versions: of the judges, where only those give the same numbers.
    """

    name: str
    pairs: tuple[Pair, ...]
    targets: Mapping[str, Target]
    reference_seconds: tuple[float | None, ...] = (None,)
    recogniser: str = ""
    verifier: str = ""
    language: str = "en"
    parallel: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in duplicates(pair.name.casefold() for pair in self.pairs):  # some disks take two such names for one
            raise ValueError(f"two pairs are called {name!r}; give them different names.")
        for pair in self.pairs:
            target = self.targets[pair.target]
            if pair.source in (*target.references, *target.trials):
                raise ValueError(f"the source of {pair.name} is a recording of {target.name} itself; leave one out.")
        for target in self.targets.values():
            for path in {*target.references} & {*target.trials}:
                raise ValueError(f"{path} is a reference and a trial of {target.name}; judges need other recordings.")
        for seconds in self.reference_seconds:
            if seconds is not None and not 0 < seconds < math.inf:
                raise ValueError(f"{seconds:g} seconds of reference are asked for; give more than 0, or all.")
        if not self.pairs or not self.reference_seconds:
            what = "pairs" if not self.pairs else "reference_seconds"
            raise ValueError(f"{what} is empty; give at least one.")
        for seconds in duplicates(self.reference_seconds):
            raise ValueError(f"reference_seconds has {'all' if seconds is None else f'{seconds:g}'} twice; keep one.")


def read_pairs(path: str | os.PathLike[str]) -> Task:
    """Read pairs from a table, whose suffix is .csv (with commas) or .tsv (with tabs).

    Its columns are `source` and `target` (recordings separated by semicolons, or a folder of them), and, as you like,
    `text`, `name`, `speaker`, `target_speaker`, `reading`, `converted` and `trials` (written like `target`); what they
    mean is said at `Pair` and `Target`. Paths start where you are.
    """
    path = Path(path)
    delimiter = DELIMITERS.get(path.suffix.lower())
    if delimiter is None:
        raise ValueError(f"{path} does not end in .csv or .tsv; give a table of pairs with commas or with tabs.")
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}; give a CSV or TSV file of pairs.")
    pairs: list[Pair] = []
    targets: dict[str, Target] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=delimiter, strict=True)
            header = [cell.strip() for cell in next(lines, [])]
            separator = "commas" if delimiter == "," else "tabs"
            complete = {"source", "target"} <= {*header}
            check_header(header, path, COLUMNS, "" if complete else f"source and target, with {separator}")
            for row in lines:
                where = f"line {lines.line_num} of {path}"
                filled = dict(named_cells(row, header, where))
                if filled:
                    target = _target(filled, where)
                    if targets.setdefault(target.name, target) != target:
                        raise ValueError(f"{where} has other recordings of {target.name!r} than before; {APART}.")
                    pairs.append(_pair(filled, target.name, where))
    except (csv.Error, UnicodeDecodeError) as error:
        kind = path.suffix[1:].upper()
        raise ValueError(f"{path} is no {kind} file in UTF-8: {error}.") from None
    if not pairs:
        raise ValueError(f"{path} holds no pairs; give a line for each below its header.")
    return Task(path.stem, tuple(pairs), targets)


def reference_wavs(target: Target, seconds: float | None) -> list[Tensor]:
    """Read the first so many seconds of a target's references, without the silence around each; the last one is cut.

    Args:
        target: whose.
        seconds: how many; None is all there is. A fifth of them may be missing: there may not be more of a speaker.
    """
    wanted = math.inf if seconds is None else seconds * SAMPLE_RATE
    wavs: list[Tensor] = []
    left = wanted
    for path in target.references:
        if wavs and left < SHORTEST * SAMPLE_RATE:
            break
        wav = trim(read(path, speech=True))
        wavs.append(wav if len(wav) <= left else wav[: round(left)])
        left -= len(wavs[-1])
    if not wavs:
        raise ValueError(f"{target.name} has no references; give at least one recording.")
    if seconds is not None and left > SHORTAGE * wanted:
        there = f"{(wanted - left) / SAMPLE_RATE:.1f} s of reference without silence"
        raise ValueError(f"{target.name} has {there}, not {seconds:g} s; add recordings, or ask for fewer seconds.")
    return wavs


def duplicates(things: Iterable[Any]) -> Iterator[Any]:
    """Give what was there before."""
    seen = set()
    for thing in things:
        if thing in seen:
            yield thing
        seen.add(thing)


def _target(cells: Mapping[str, str], where: str) -> Target:
    parts = _parts(cells.get("target", ""))
    if not parts:
        raise ValueError(f"{where} has no target; give recordings, separated by semicolons, or a folder of them.")
    name = cells.get("target_speaker") or harmless(parts[0].name if parts[0].is_dir() else parts[0].stem)
    trials = _parts(cells.get("trials", ""))
    return Target(name, tuple(_recordings(parts, where)), tuple(_recordings(trials, where)))


def _parts(cell: str) -> list[Path]:
    return [Path(part.strip()) for part in cell.split(";") if part.strip()]


def _recordings(parts: Iterable[Path], where: str) -> Iterator[Path]:
    for part in parts:
        if not part.is_dir():
            yield part
            continue
        files = sorted(path for path in part.rglob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
        if not files:
            raise ValueError(f"{where}: the folder {str(part)!r} holds no sound files.")
        yield from files


def _pair(cells: Mapping[str, str], target: str, where: str) -> Pair:
    if "source" not in cells:
        raise ValueError(f"{where} has no source; give the recording that is converted.")
    source = Path(cells["source"])
    name = cells.get("name") or harmless(f"{source.stem}__{target}")
    if name != harmless(name) or name.strip(".") != name:
        refused = " ".join(FORBIDDEN + "/\\")
        raise ValueError(f"{where} has the name {name!r}, which not every system takes; leave out {refused}, end dots.")
    elsewhere = {column: Path(cells[column]) for column in ("reading", "converted") if column in cells}
    return Pair(name, source, target, cells.get("text", ""), cells.get("speaker", ""), **elsewhere)
