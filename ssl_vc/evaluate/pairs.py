"""Test sets: pairs of a source and a target speaker, with the target's reference recordings."""

import csv
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE, read, trim
from ssl_vc.files import FORBIDDEN, safe_filename
from ssl_vc.tables import check_header, named_cells
from ssl_vc.voice.enroll import SUFFIXES

DELIMITERS = {".csv": ",", ".tsv": "\t"}
COLUMNS = ("source", "target", "text", "name", "speaker", "target_speaker", "reading", "converted", "trials")
DISTINCT = "repeat the same target and trials in all its rows, or set different names in the column target_speaker"
MAX_SHORTFALL = 0.2  # of the requested seconds of reference
MIN_CUT = 0.2  # seconds; a shorter cut may be silent


@dataclass(frozen=True)
class Pair:
    """A source and a target speaker.

    Attributes:
        name: unique, and valid as a file name.
        source: the recording to convert.
        target: a key of `TestSet.targets`.
        text: transcript of the source; "" if unknown.
        speaker: of the source; "" if unknown.
        reading: the target's recording of the same words, if there is one.
        converted: the output of an external system, if there is one.
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
    """A target speaker.

    Attributes:
        name: of the speaker.
        references: recordings; the first `reference_seconds` of them are enrolled.
        trials: held-out recordings for speaker similarity; the references where there are none.
    """

    name: str
    references: tuple[Path, ...]
    trials: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """Pairs with their targets and judges.

    Attributes:
        name: of the test set.
        pairs: to convert.
        targets: by name.
        reference_seconds: amounts of reference, one evaluation each; None is all of it.
        recogniser: see `ssl_vc.evaluate.recogniser`; chosen by `load_judges` if "".
        verifier: see `ssl_vc.evaluate.verifier`; chosen by `load_judges` if "".
        language: of the sources.
        parallel: the readings are parallel to their sources, frame by frame.
        versions: of the judges that the figures depend on, by name.
    """

    __test__ = False  # pytest would collect it by its name

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
        for name in duplicates(
            pair.name.casefold() for pair in self.pairs
        ):  # equal names on a case-insensitive file system
            raise ValueError(f"two pairs are named {name!r}; give them different names.")
        for pair in self.pairs:
            target = self.targets[pair.target]
            if pair.source in (*target.references, *target.trials):
                raise ValueError(
                    f"the source of {pair.name} is also a recording of its target {target.name}; remove one."
                )
        for target in self.targets.values():
            for path in {*target.references} & {*target.trials}:
                raise ValueError(f"{path} is both a reference and a trial of {target.name}; trials must be held out.")
        for seconds in self.reference_seconds:
            if seconds is not None and not 0 < seconds < math.inf:
                raise ValueError(f"reference_seconds is {seconds:g}; use a number above 0, or all.")
        if not self.pairs or not self.reference_seconds:
            what = "pairs" if not self.pairs else "reference_seconds"
            raise ValueError(f"{what} is empty; at least one is needed.")
        for seconds in duplicates(self.reference_seconds):
            raise ValueError(f"reference_seconds has {'all' if seconds is None else f'{seconds:g}'} twice; remove one.")


def read_pairs(path: str | os.PathLike[str]) -> TestSet:
    """Read pairs from a table, .csv (with commas) or .tsv (with tabs).

    Required columns are `source` and `target` (recordings separated by semicolons, or a folder of them); optional ones
    are `text`, `name`, `speaker`, `target_speaker`, `reading`, `converted` and `trials` (written like `target`), see
    `Pair` and `Target`. Paths are relative to the working directory.
    """
    path = Path(path)
    delimiter = DELIMITERS.get(path.suffix.lower())
    if delimiter is None:
        raise ValueError(f"{path} does not end in .csv or .tsv; use a table of pairs with commas or tabs.")
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}; name a CSV or TSV file of pairs.")
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
                cells = dict(named_cells(row, header, where))
                if cells:
                    target = _target(cells, where)
                    if targets.setdefault(target.name, target) != target:
                        raise ValueError(
                            f"{where} has other recordings of {target.name!r} than an earlier row; {DISTINCT}."
                        )
                    pairs.append(_pair(cells, target.name, where))
    except (csv.Error, UnicodeDecodeError) as error:
        kind = path.suffix[1:].upper()
        raise ValueError(f"{path} is not a {kind} file in UTF-8: {error}.") from None
    if not pairs:
        raise ValueError(f"{path} has no pairs; add a row for each below the header.")
    return TestSet(name=path.stem, pairs=tuple(pairs), targets=targets)


def read_references(target: Target, seconds: float | None) -> list[Tensor]:
    """Read the first seconds of a target's references, each trimmed of silence, cutting the last one.

    Args:
        target: the speaker.
        seconds: how many, None for all; a fifth of them may be missing, as a speaker may have no more.
    """
    samples = math.inf if seconds is None else seconds * SAMPLE_RATE
    wavs: list[Tensor] = []
    left = samples
    for path in target.references:
        if wavs and left < MIN_CUT * SAMPLE_RATE:
            break
        wav = trim(read(path, speech=True))
        wavs.append(wav if len(wav) <= left else wav[: round(left)])
        left -= len(wavs[-1])
    if not wavs:
        raise ValueError(f"{target.name} has no references; add at least one recording.")
    if seconds is not None and left > MAX_SHORTFALL * samples:
        available = f"{(samples - left) / SAMPLE_RATE:.1f} s of reference without silence"
        raise ValueError(
            f"{target.name} has {available}, not {seconds:g} s; add recordings, or lower reference_seconds."
        )
    return wavs


def duplicates(items: Iterable[Any]) -> Iterator[Any]:
    """Yields the items that have occurred before."""
    seen = set()
    for item in items:
        if item in seen:
            yield item
        seen.add(item)


def _target(cells: Mapping[str, str], where: str) -> Target:
    parts = _parts(cells.get("target", ""))
    if not parts:
        raise ValueError(f"{where} has no target; name recordings, separated by semicolons, or a folder of them.")
    name = cells.get("target_speaker") or safe_filename(parts[0].name if _is_folder(parts[0]) else parts[0].stem)
    trials = _parts(cells.get("trials", ""))
    return Target(name, tuple(_recordings(parts, where)), tuple(_recordings(trials, where)))


def _parts(cell: str) -> list[Path]:
    return [Path(part.strip()) for part in cell.split(";") if part.strip()]


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - false for a name that is too long, where pathlib raises an OSError


def _recordings(parts: Iterable[Path], where: str) -> Iterator[Path]:
    for part in parts:
        if not _is_folder(part):
            yield part
            continue
        files = sorted(path for path in part.rglob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
        if not files:
            raise ValueError(f"{where}: the folder {str(part)!r} holds no sound files.")
        yield from files


def _pair(cells: Mapping[str, str], target: str, where: str) -> Pair:
    if "source" not in cells:
        raise ValueError(f"{where} has no source; name the recording to convert.")
    source = Path(cells["source"])
    name = cells.get("name") or safe_filename(f"{source.stem}__{target}")
    if name != safe_filename(name) or name.strip(".") != name:
        refused = " ".join(FORBIDDEN + "/\\")
        raise ValueError(
            f"{where} has the name {name!r}, which some file systems refuse; remove {refused} and outer dots."
        )
    optional = {column: Path(cells[column]) for column in ("reading", "converted") if column in cells}
    return Pair(name, source, target, cells.get("text", ""), cells.get("speaker", ""), **optional)
