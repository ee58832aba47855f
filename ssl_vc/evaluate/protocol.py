"""Protocols: files that fix an evaluation on a corpus, so that one file always gives the same figures.

They name clips by their keys in a manifest, and hold no audio. `knn_vc` builds kNN-VC's protocol (Baas et al., 2023,
arXiv 2305.18975) for any corpus: some utterances of each speaker are converted to other speakers, whose remaining clips
are the references. Targets are assigned round-robin, so each speaker is a target equally often.
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
from pretrain.labels.tokenizers import words
from ssl_vc.evaluate.pairs import MAX_SHORTFALL, Pair, Target, TestSet, duplicates
from ssl_vc.files import expand_variables, replacing, safe_filename

log = logging.getLogger(__name__)

SHORTEST, LONGEST = 2.0, 20.0  # seconds of the sources of knn_vc
MINUTES = 8.0  # of reference, unless more is requested


@dataclass(frozen=True)
class TargetClips:
    """Keys of a target speaker's clips; see `ssl_vc.evaluate.pairs.Target`."""

    references: list[str] = field(default_factory=list)
    trials: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Contents of a protocol file; the other attributes are those of `TestSet`.

    Attributes:
        clips: manifest, see `pretrain.data.manifest.read_manifest`; relative to the working directory.
        split: of the manifest; all of it if "".
        reference_seconds: amounts of reference, one evaluation each; `all` is all of it.
        targets: clips of each target speaker.
        pairs: [key of a source clip, target] each.
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
    targets: dict[str, TargetClips] = field(default_factory=dict)
    pairs: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("name", "clips", "targets", "pairs"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; a protocol needs it.")
        for pair in self.pairs:
            if len(pair) != 2:
                raise ValueError(f"the pair {pair} has {len(pair)} elements; write the key of a clip and a target.")
            source, target = pair
            if target not in self.targets:
                raise ValueError(
                    f"the target {target!r} of {source!r} is unknown; possible are {', '.join(self.targets)}."
                )
            if source in self.targets[target].references:
                raise ValueError(f"{source!r} is also a reference of its target {target!r}; remove one.")
        for name, recordings in self.targets.items():
            if not recordings.references:
                raise ValueError(f"the target {name!r} has no references; add the key of at least one clip.")
            for key in duplicates([*recordings.references, *recordings.trials]):
                raise ValueError(f"{key!r} is listed twice for {name!r}; trials must be held out from the references.")

    def test_set(self) -> TestSet:
        """Look up the clips with their transcripts and speakers."""
        clips = {clip.key: clip for clip in read_manifest(expand_variables(self.clips), self.split or None)}
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
            name = safe_filename(f"{stem if stems[stem] == 1 else source}__{target}")
            reading = readings.get((target, *words(clip.text)))
            pairs.append(Pair(name, clip.path, target, clip.text, clip.speaker, reading))
        lengths = tuple(_parse_seconds(value) for value in self.reference_seconds)
        judges = {name: getattr(self, name) for name in ("recogniser", "verifier", "language", "parallel", "versions")}
        return TestSet(name=self.name, pairs=tuple(pairs), targets=targets, reference_seconds=lengths, **judges)

    def _check_keys(self, clips: Mapping[str, Clip]) -> None:
        of_targets = (key for each in self.targets.values() for key in (*each.references, *each.trials))
        for key in (*(source for source, _ in self.pairs), *of_targets):
            if key not in clips:
                of_split = f" with the split {self.split!r}" if self.split else ""
                raise ValueError(f"{self.clips} lists no clip {key!r}{of_split}; keys must match it.")

    def _readings(self, clips: Iterable[Clip]) -> dict[tuple[str, ...], Path]:
        """The targets' clips that are no references, by speaker and words."""
        references = {key for each in self.targets.values() for key in each.references}
        transcribed = ((clip, words(clip.text)) for clip in clips if clip.speaker in self.targets)
        return {(clip.speaker, *text): clip.path for clip, text in transcribed if text and clip.key not in references}


def read_protocol(path: str | os.PathLike[str]) -> Protocol:
    """Read a protocol's YAML file."""
    import yaml  # OmegaConf takes a second for 200 pairs, and refuses some thousand

    if not Path(path).is_file():
        raise ValueError(f"there is no file {str(path)!r}; name the YAML file of a protocol.")
    try:
        with Path(path).open(encoding="utf-8") as file:
            content = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a YAML file: {' '.join(str(error).split())}.") from None
    try:
        return _parse_protocol(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _parse_protocol(content: object) -> Protocol:
    facts = _mapping(content, "the file", [each.name for each in fields(Protocol)])
    for name in ("name", "clips", "split", "recogniser", "verifier", "language"):
        _texts([facts.get(name, "")], name)
    if not isinstance(facts.get("parallel", False), bool):
        raise ValueError(f"parallel is {facts['parallel']!r:.40}; write true or false.")
    facts["reference_seconds"] = _list(facts.get("reference_seconds", ["all"]), "reference_seconds")
    facts["versions"] = _mapping(facts.get("versions", {}), "versions")
    _texts([*facts["versions"].values()], "versions")
    facts["targets"] = {
        name: TargetClips(**{kind: _texts(keys, f"{kind} of {name!r}") for kind, keys in each.items()})
        for name, value in _mapping(facts.get("targets", {}), "targets").items()
        for each in [_mapping(value, f"the target {name!r}", ["references", "trials"])]
    }
    facts["pairs"] = [_texts(pair, "pairs") for pair in _list(facts.get("pairs", []), "pairs")]
    return Protocol(**facts)


def _mapping(value: object, what: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Returns a copy of a mapping; raises ValueError if it is none, or has unknown keys."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {value!r:.40}; write keys with values.")
    for key in _texts([*value], f"keys of {what}"):
        if keys and key not in keys:
            raise ValueError(f"{what} has the key {key!r}; possible are {', '.join(keys)}.")
    return {**value}


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is {value!r:.40}; write a list.")
    return value


def _texts(value: object, what: str) -> list[str]:
    for each in _list(value, what):
        if not isinstance(each, str):
            raise ValueError(f"{what}: {each!r:.40} is not a string; quote it if it should be.")
    return _list(value, what)


def write_protocol(protocol: Protocol, path: str | os.PathLike[str]) -> None:
    """Write a protocol's YAML file atomically."""
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
    """Build kNN-VC's protocol for a corpus.

    A speaker's sources are also its trials; its references are its other clips in random order, eight minutes of them
    or as many as requested. Speakers with too little material are left out and logged.

    Args:
        clips: see `pretrain.data.manifest.read_manifest`; with speakers, and texts for the sources.
        split: of the manifest; all of it if "".
        utterances: number of sources per speaker, of 2 to 20 s.
        targets_per_source: number of other speakers each source is converted to; all others if 0.
        reference_seconds: amounts of reference; None is all that the protocol lists.
        seed: for choosing and ordering clips.
    """
    if utterances < 1 or targets_per_source < 0:
        values = f"{utterances} utterances to {targets_per_source} targets"
        raise ValueError(f"{values} is impossible; use at least 1 utterance, and 0 targets (all) or more.")
    longest = max((seconds for seconds in reference_seconds if seconds is not None), default=0.0)
    targets, short = {}, []
    for speaker, candidates in sorted(_clips_by_speaker(clips, split).items()):
        drawn = random.Random(f"{seed} {speaker}").sample(candidates, len(candidates))
        chosen, seconds = _split_clips(drawn, utterances, max(60 * MINUTES, longest / (1 - MAX_SHORTFALL)))
        if len(chosen.trials) < utterances or seconds <= 0 or seconds < (1 - MAX_SHORTFALL) * longest:
            short.append(f"{speaker} ({len(chosen.trials)} utterances, {seconds:.0f} s besides)")
        else:
            targets[speaker] = chosen
    needed = f"{utterances} utterances with text and {f'{longest:g} s' if longest else 'others'} besides"
    if short:
        log.warning("%d speakers left out for lack of %s: %s", len(short), needed, _abbreviate(short))
    if len(targets) < 2:
        example = f" (as {short[0]} has not)" if short else ""
        raise ValueError(f"no two speakers of {clips} have {needed}{example}; lower the demands, or use more clips.")
    lengths = ["all" if seconds is None else seconds for seconds in reference_seconds]
    pairs = list(_round_robin(targets, targets_per_source))
    return Protocol(name="knn-vc", clips=clips, split=split, reference_seconds=lengths, targets=targets, pairs=pairs)


def _clips_by_speaker(clips: str, split: str) -> dict[str, list[Clip]]:
    by_speaker: dict[str, list[Clip]] = {}
    for clip in sorted(read_manifest(clips, split or None)):
        if clip.speaker:
            by_speaker.setdefault(clip.speaker, []).append(clip)
    if not by_speaker:
        raise ValueError(f"{clips} names no speakers; use a manifest with the column speaker.")
    if not any(clip.text for candidates in by_speaker.values() for clip in candidates):
        raise ValueError(f"{clips} has no texts, which the sources need; use a manifest with the column text.")
    return by_speaker


def _abbreviate(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _split_clips(drawn: Sequence[Clip], utterances: int, max_seconds: float) -> tuple[TargetClips, float]:
    """Split a speaker's clips into trials and references; returns also the seconds of reference."""
    sources = [clip.key for clip in drawn if words(clip.text) and SHORTEST <= clip.seconds <= LONGEST]
    chosen, seconds = TargetClips(trials=sources[:utterances]), 0.0
    for clip in drawn:
        if clip.key not in chosen.trials and seconds < max_seconds:
            chosen.references.append(clip.key)
            seconds += clip.seconds
    return chosen, seconds


def _round_robin(targets: Mapping[str, TargetClips], targets_per_source: int) -> Iterator[list[str]]:
    """Pair each speaker's trials with the speakers after it, cyclically."""
    names = list(targets)
    for number, name in enumerate(names):
        others = itertools.cycle(names[number + 1 :] + names[:number])
        for source in targets[name].trials:
            yield from ([source, next(others)] for _ in range(min(targets_per_source or len(names), len(names) - 1)))


def _parse_seconds(value: Any) -> float | None:
    """Returns an amount of reference; None is all of it."""
    try:
        return None if value in (None, "all") else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"reference_seconds has {value!r}; write numbers, or all.") from None
