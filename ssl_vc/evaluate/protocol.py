"""Protocols: files that fix an evaluation on a corpus, so that the same file gives the same numbers.

They name clips by their keys in a table, and hold no sound. kNN-VC's set-up (Baas et al., 2023, arXiv 2305.18975) can
be made for any corpus: some utterances of every speaker are converted to other speakers, of whom all that is not
converted, some minutes, is the reference. Here the speakers are visited in turn, so that each is a target as often.
"""

import itertools
import logging
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pretrain.data.manifest import Clip, read_manifest
from pretrain.labels.pronounce import words
from ssl_vc.evaluate.pairs import SHORTAGE, Pair, Target, Task, duplicates
from ssl_vc.files import harmless, replacing

log = logging.getLogger(__name__)

SHORTEST, LONGEST = 2.0, 20.0  # seconds of what knn_vc converts
MINUTES = 8.0  # of reference, where no more is asked for


@dataclass(frozen=True)
class Recordings:
    """Of a speaker who is converted to: the keys of some clips.

    Attributes:
        references: of which the first so many seconds become the voice.
        trials: that judges compare with; the references where there are none.
    """

    references: list[str] = field(default_factory=list)
    trials: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Protocol:
    """What a protocol's file says. `Task` is the same with its clips found.

    Attributes:
        name: of the evaluation.
        clips: see `pretrain.data.manifest.read_manifest`; starts where you are.
        split: of the clips; all if empty.
        reference_seconds: how much reference is used, one evaluation for each; `all` is all there is.
        recogniser: judges the words; the best at hand if empty.
        verifier: judges the voices; the best at hand if empty.
        language: what is spoken.
        parallel: whether what targets say of the same words is parallel to the sources, frame by frame.
        versions: of the judges, where only those give the same numbers.
        targets: what there is of each speaker.
        pairs: the key of a clip and the speaker that it is converted to, each.
    """

    name: str = ""
    clips: str = ""
    split: str = ""
    reference_seconds: list[Any] = field(default_factory=lambda: ["all"])
    recogniser: str = ""
    verifier: str = ""
    language: str = "en"
    parallel: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    targets: dict[str, Recordings] = field(default_factory=dict)
    pairs: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("name", "clips", "targets", "pairs"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; say what is evaluated.")
        for pair in self.pairs:
            if len(pair) != 2:
                raise ValueError(f"the pair {pair} has {len(pair)} parts; give the key of a clip and a target.")
            source, target = pair
            if target not in self.targets:
                raise ValueError(f"the target {target!r} of {source!r} is none of {', '.join(self.targets)}.")
            if source in self.targets[target].references:
                raise ValueError(f"{source!r} is a reference of {target!r}, to whom it is converted; keep one of them.")
        for name, recordings in self.targets.items():
            if not recordings.references:
                raise ValueError(f"the target {name!r} has no references; give the key of at least one clip.")
            for key in duplicates([*recordings.references, *recordings.trials]):
                raise ValueError(f"{key!r} is there twice for {name!r}; judges need recordings that are no references.")

    def task(self) -> Task:
        """Find the clips, and what is said in them by whom."""
        clips = {clip.key: clip for clip in read_manifest(self.clips, self.split or None)}
        self._check_keys(clips)
        targets = {
            name: Target(name, *(tuple(clips[key].path for key in keys) for keys in (each.references, each.trials)))
            for name, each in self.targets.items()
        }
        stems = Counter(Path(source).stem for source in {source for source, _ in self.pairs})
        readings = self._readings(clips.values())
        pairs = []
        for source, target in self.pairs:
            clip, stem = clips[source], Path(source).stem
            name = harmless(f"{stem if stems[stem] == 1 else source}__{target}")
            reading = readings.get((target, *words(clip.text)))
            pairs.append(Pair(name, clip.path, target, clip.text, clip.speaker, reading))
        lengths = tuple(_length(given) for given in self.reference_seconds)
        judged = {name: getattr(self, name) for name in ("recogniser", "verifier", "language", "parallel")}
        return Task(self.name, tuple(pairs), targets, lengths, versions=dict(self.versions), **judged)

    def _check_keys(self, clips: Mapping[str, Clip]) -> None:
        of_targets = (key for each in self.targets.values() for key in (*each.references, *each.trials))
        for key in (*(source for source, _ in self.pairs), *of_targets):
            if key not in clips:
                of_split = f" with the split {self.split!r}" if self.split else ""
                raise ValueError(f"{self.clips} lists no clip {key!r}{of_split}; write keys as it does.")

    def _readings(self, clips: Iterable[Clip]) -> dict[tuple[str, ...], Path]:
        """Find what targets say, but for their references: by the target's name and the words."""
        references = {key for each in self.targets.values() for key in each.references}
        said = ((clip, words(clip.text)) for clip in clips if clip.speaker in self.targets)
        return {(clip.speaker, *text): clip.path for clip, text in said if text and clip.key not in references}


def read_protocol(path: str | os.PathLike[str]) -> Protocol:
    """Read a protocol's YAML file, which says what is described at `Protocol`."""
    import yaml  # and not OmegaConf, which takes a second for 200 pairs, and refuses some thousand

    if not Path(path).is_file():
        raise ValueError(f"there is no file {str(path)!r}; give a protocol's YAML file.")
    try:
        with Path(path).open(encoding="utf-8") as file:
            said = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML file: {' '.join(str(error).split())}.") from None
    try:
        return _protocol(said)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _protocol(said: object) -> Protocol:
    """Make a protocol of what a file says, if it is one."""
    facts = _mapping(said, "the file", [each.name for each in fields(Protocol)])
    for name in ("name", "clips", "split", "recogniser", "verifier", "language"):
        _texts([facts.get(name, "")], name)
    if not isinstance(facts.get("parallel", False), bool):
        raise ValueError(f"parallel is {facts['parallel']!r:.40}; give true or false.")
    facts["reference_seconds"] = _list(facts.get("reference_seconds", ["all"]), "reference_seconds")
    facts["versions"] = _mapping(facts.get("versions", {}), "versions")
    _texts([*facts["versions"].values()], "versions")
    facts["targets"] = {
        name: Recordings(**{kind: _texts(keys, f"{kind} of {name!r}") for kind, keys in each.items()})
        for name, given in _mapping(facts.get("targets", {}), "targets").items()
        for each in [_mapping(given, f"the target {name!r}", ["references", "trials"])]
    }
    facts["pairs"] = [_texts(pair, "pairs") for pair in _list(facts.get("pairs", []), "pairs")]
    return Protocol(**facts)


def _mapping(given: object, what: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Refuse what has no keys, or others than there are."""
    if not isinstance(given, dict):
        raise ValueError(f"{what} is {given!r:.40}; give keys with values.")
    for key in _texts([*given], f"keys of {what}"):
        if keys and key not in keys:
            raise ValueError(f"{what} has the key {key!r}; possible are {', '.join(keys)}.")
    return {**given}


def _list(given: object, what: str) -> list[Any]:
    if not isinstance(given, list):
        raise ValueError(f"{what} is {given!r:.40}; give a list.")
    return given


def _texts(given: object, what: str) -> list[str]:
    for each in _list(given, what):
        if not isinstance(each, str):
            raise ValueError(f"{what}: {each!r:.40} is no text; put it in quotes if it is meant as one.")
    return _list(given, what)


def write_protocol(protocol: Protocol, path: str | os.PathLike[str]) -> None:
    """Write a protocol's file, which is read as the same protocol."""
    import yaml

    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yaml.safe_dump(asdict(protocol), file, sort_keys=False, default_flow_style=None, allow_unicode=True)


def knn_vc(
    clips: str,
    split: str = "",
    *,
    utterances: int = 20,
    targets_per_source: int = 1,
    reference_seconds: Sequence[float | None] = (None,),
    seed: int = 0,
) -> Protocol:
    """Make kNN-VC's protocol for a corpus.

    A speaker's sources are also its trials; its references are its other clips in mixed order, eight minutes of them
    or as many as are asked for. Speakers who have too little are left out, and named in the log.

    Args:
        clips: see `pretrain.data.manifest.read_manifest`; it must tell the speakers, and the texts of what is
            converted.
        split: of the clips; all if empty.
        utterances: how many clips of a speaker are converted, of 2 to 20 s.
        targets_per_source: to how many other speakers each of them is converted; all others if 0.
        reference_seconds: how much reference is used; None is all that the protocol lists.
        seed: of the choice of clips and of their order.
    """
    if utterances < 1 or targets_per_source < 0:
        given = f"{utterances} utterances to {targets_per_source} targets"
        raise ValueError(f"{given} cannot be; give at least 1 utterance, and 0 targets (all) or more.")
    by_speaker: dict[str, list[Clip]] = {}
    for clip in sorted(read_manifest(clips, split or None)):
        if clip.speaker:
            by_speaker.setdefault(clip.speaker, []).append(clip)
    if not by_speaker:
        raise ValueError(f"{clips} names no speakers; give a table with the column speaker.")
    if not any(clip.text for spoken in by_speaker.values() for clip in spoken):
        raise ValueError(f"{clips} has no texts, and of what is converted they are needed; give a table with them.")
    longest = max((seconds for seconds in reference_seconds if seconds is not None), default=0.0)
    targets, too_little = {}, []
    for speaker, spoken in sorted(by_speaker.items()):
        drawn = random.Random(f"{seed} {speaker}").sample(spoken, len(spoken))
        recordings, seconds = _divided(drawn, utterances, max(60 * MINUTES, longest / (1 - SHORTAGE)))
        if len(recordings.trials) < utterances or seconds <= 0 or seconds < (1 - SHORTAGE) * longest:
            too_little.append(f"{speaker} ({len(recordings.trials)} utterances, {seconds:.0f} s besides)")
        else:
            targets[speaker] = recordings
    wanted = f"{utterances} utterances with text and {f'{longest:g} s' if longest else 'others'} besides"
    if too_little:
        log.warning("%d speakers left out, who lack %s: %s", len(too_little), wanted, _some(too_little))
    if len(targets) < 2:
        best = f" (as {too_little[0]} has not)" if too_little else ""
        raise ValueError(f"no two speakers of {clips} have {wanted}{best}; ask for less, or give a larger corpus.")
    lengths = ["all" if seconds is None else seconds for seconds in reference_seconds]
    pairs = list(_in_turn(targets, targets_per_source))
    return Protocol("knn-vc", clips, split, lengths, targets=targets, pairs=pairs)


def _some(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _divided(drawn: Sequence[Clip], utterances: int, most: float) -> tuple[Recordings, float]:
    """Divide a speaker's clips into trials and references; give also how many seconds the references last."""
    fit = [clip.key for clip in drawn if words(clip.text) and SHORTEST <= clip.seconds <= LONGEST]
    recordings, seconds = Recordings(trials=fit[:utterances]), 0.0
    for clip in drawn:
        if clip.key not in recordings.trials and seconds < most:
            recordings.references.append(clip.key)
            seconds += clip.seconds
    return recordings, seconds


def _in_turn(targets: Mapping[str, Recordings], targets_per_source: int) -> Iterator[list[str]]:
    """Convert each speaker's trials to the speakers that come after it, who go round."""
    names = list(targets)
    for number, name in enumerate(names):
        others = itertools.cycle(names[number + 1 :] + names[:number])
        for source in targets[name].trials:
            yield from ([source, next(others)] for _ in range(min(targets_per_source or len(names), len(names) - 1)))


def _length(given: Any) -> float | None:
    """Read how many seconds of reference are meant; None is all there is."""
    try:
        return None if given in (None, "all") else float(given)
    except (TypeError, ValueError):
        raise ValueError(f"reference_seconds has {given!r}; give numbers, or all.") from None
