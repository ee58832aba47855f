"""What came of an evaluation: rows for tables, files and pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ssl_vc.evaluate.statistics import Estimate
from ssl_vc.html.page import Column


@dataclass(frozen=True)
class Measure(Column):
    """A column of the table, and which way is good: `higher`, `lower`, or "" where neither is."""

    better: str = ""


MEASURES = (
    Measure("wer", "WER (%)", 1, "Words that the recogniser got wrong, of those said.", "lower"),
    Measure("cer", "CER (%)", 1, "Letters that it got wrong, of those said.", "lower"),
    Measure("similarity", "Similarity", 3, "Cosine of the verifier's vectors of the sound and the target.", "higher"),
    Measure("source_similarity", "… to source", 3, "The same to the source's speaker.", "lower"),
    Measure("identity", "Identity", 3, "Cosine of a copy's embedding to that of the very clip it copies.", "higher"),
    Measure("nearer", "Nearer (%)", 0, "Sounds that are nearer to the target than to the source's speaker.", "higher"),
    Measure(
        "eer",
        "EER (%)",
        1,
        "How often a verifier errs that tells the sounds from real ones of the target; 50 is best: it can only guess.",
    ),
    Measure("f0_correlation", "F0 corr.", 3, "Correlation of the melody (log F0) with the source's.", "higher"),
    Measure("f0_rmse_cents", "F0 RMSE (cents)", 0, "Distance of the melody to the source's, the shift included."),
    Measure("voicing_error", "Voicing (%)", 1, "Moments voiced in the sound or the source, not in both.", "lower"),
    Measure("mcd_db", "MCD (dB)", 2, "Mel-cepstral distortion to the target's own reading, aligned in time.", "lower"),
    Measure("true_mcd_db", "True MCD (dB)", 2, "The same to the target's parallel speech, without alignment.", "lower"),
    Measure("true_mel", "True mel", 3, "Mean log-mel distance to it, both at one loudness.", "lower"),
    Measure("true_f0_cents", "True F0 (cents)", 0, "Distance of the F0 contour to its F0.", "lower"),
    Measure("copy_mcd_db", "Copy MCD (dB)", 2, "MCD of a copy to its original, moment by moment.", "lower"),
    Measure("pesq", "PESQ", 2, "Wideband PESQ of a copy against its original, 1 to 4.64.", "higher"),
    Measure("stoi", "STOI", 3, "Intelligibility of a copy against its original, 0 to 1.", "higher"),
    Measure("dnsmos_signal", "SIG", 2, "DNSMOS P.835: how natural the voice sounds, 1 to 5.", "higher"),
    Measure("dnsmos_background", "BAK", 2, "DNSMOS P.835: how free of noise it is, 1 to 5.", "higher"),
    Measure("dnsmos_overall", "OVRL", 2, "DNSMOS P.835: overall, 1 to 5.", "higher"),
    Measure("distill_mos", "DistillMOS", 2, "Predicted mean opinion score, 1 to 5.", "higher"),
    Measure("jumpiness", "Jumps", 2, "Steps from frame to frame, over those of the source; 1 is as smooth."),
    Measure("real_time_factor", "RTF", 3, "Seconds of computing for a second of sound, voices not counted.", "lower"),
)


Run = tuple[str, float | None]  # a system, and the seconds of the target that it had
COSTS = Column("size_mb", "Weights (MB)", 1), Column("peak_memory_mb", "Peak memory (MB)", 0)


@dataclass(frozen=True)
class Outcome:
    """What became of a pair in a system.

    Attributes:
        system: its name.
        reference_seconds: of the target's recordings that were used; None: all, or none needed.
        pair: the pair's name.
        source: who speaks in the source, and its file's name.
        target: who shall speak.
        file: of the sound, below the folder of the results; "" if there is none.
        said: the text; "" where it is not known.
        heard: what the recogniser heard; None where it was not asked.
        values: by the names of `MEASURES` (`wer` and `cer` in percent of this pair; `nearer` 0 or 100).
        error: why there is no sound, or which judge could not hear it; "" if all went well.
        failed: whether there is no sound at all; if so, it counts in no figure.
    """

    system: str
    reference_seconds: float | None
    pair: str
    source: str
    target: str
    file: str = ""
    said: str = ""
    heard: str | None = None
    values: Mapping[str, float | None] = field(default_factory=dict)
    error: str = ""
    failed: bool = False

    @property
    def run(self) -> Run:
        """The row that it belongs to."""
        return self.system, self.reference_seconds


@dataclass(frozen=True)
class Summary:
    """A system's row in the table.

    Attributes:
        system: its name.
        what: it is, in a line.
        natural: whether these are recordings, not made sounds.
        reference_seconds: as in `Outcome`.
        pairs: how many there are (of the targets' own clips, how many clips).
        failed: how many of them failed, and do not count.
        values: by the names of `MEASURES`, over all pairs.
        size_mb: of its weights; None if it has none.
        peak_memory_mb: while it worked, in the whole process.
        converts: whether it hears references at all.
        copies: whether its sounds should equal the sources.
    """

    system: str
    what: str
    natural: bool
    reference_seconds: float | None
    pairs: int
    failed: int
    values: Mapping[str, Estimate | None]
    size_mb: float | None = None
    peak_memory_mb: float | None = None
    converts: bool = False
    copies: bool = False

    @property
    def run(self) -> Run:
        """What tells it from the other rows."""
        return self.system, self.reference_seconds

    @property
    def reference(self) -> str:
        """Say how much it heard of each target; "" if it has no use for that."""
        return length_name(self.reference_seconds) if self.converts else ""


@dataclass(frozen=True)
class Results:
    """An evaluation.

    Attributes:
        name: of what was evaluated on.
        judges: who judged, a line each; every table shows them.
        notes: what else a reader must know, a sentence each.
        summaries: of all systems, natural ones first.
        outcomes: of all pairs in all systems.
    """

    name: str
    judges: Sequence[str]
    notes: Sequence[str]
    summaries: Sequence[Summary]
    outcomes: Sequence[Outcome]


def length_name(seconds: float | None) -> str:
    """Name a length of reference; None is all there is."""
    return "all" if seconds is None else f"{seconds:g} s"


def shown(summaries: Sequence[Summary]) -> list[Measure]:
    """Give the measures that any system has."""
    return [measure for measure in MEASURES if any(row.values.get(measure.name) for row in summaries)]
