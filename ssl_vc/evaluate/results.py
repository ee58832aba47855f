"""Results of an evaluation: the rows of its tables, files and pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ssl_vc.evaluate.statistics import Estimate
from ssl_vc.html.page import Column


@dataclass(frozen=True)
class Metric(Column):
    """A column of the table; `better` is `higher`, `lower`, or "" where neither is."""

    better: str = ""


METRICS = (
    Metric("wer", "WER (%)", 1, "Word error rate of the recogniser.", "lower"),
    Metric("cer", "CER (%)", 1, "Character error rate of the recogniser.", "lower"),
    Metric("similarity", "Similarity", 3, "Cosine of the output's speaker embedding to the target's.", "higher"),
    Metric("source_similarity", "… to source", 3, "The same to the source speaker's.", "lower"),
    Metric("identity", "Identity", 3, "Cosine of a copy's embedding to that of its original clip.", "higher"),
    Metric("nearer", "Nearer (%)", 0, "Outputs closer to the target than to the source speaker.", "higher"),
    Metric("eer", "EER (%)", 1, "Equal error rate of a verifier telling outputs from real target clips; 50 is chance."),
    Metric("f0_correlation", "F0 corr.", 3, "Correlation of log F0 with the source's.", "higher"),
    Metric("f0_rmse_cents", "F0 RMSE (cents)", 0, "Distance of F0 to the source's, including any register shift."),
    Metric(
        "voicing_error", "Voicing (%)", 1, "Frames voiced in either the output or the source, but not both.", "lower"
    ),
    Metric("mcd_db", "MCD (dB)", 2, "Mel-cepstral distortion to the target's reading, time-aligned.", "lower"),
    Metric("true_mcd_db", "True MCD (dB)", 2, "The same to the target's parallel speech, without alignment.", "lower"),
    Metric("true_mel", "True mel", 3, "Mean log-mel distance to it at equal loudness.", "lower"),
    Metric("true_f0_cents", "True F0 (cents)", 0, "Distance of F0 to its F0.", "lower"),
    Metric("copy_mcd_db", "Copy MCD (dB)", 2, "Frame-by-frame MCD of a copy to its original.", "lower"),
    Metric("pesq", "PESQ", 2, "Wideband PESQ of a copy against its original, 1 to 4.64.", "higher"),
    Metric("stoi", "STOI", 3, "Intelligibility of a copy against its original, 0 to 1.", "higher"),
    Metric("dnsmos_signal", "SIG", 2, "DNSMOS P.835 speech quality, 1 to 5.", "higher"),
    Metric("dnsmos_background", "BAK", 2, "DNSMOS P.835 background noise quality, 1 to 5.", "higher"),
    Metric("dnsmos_overall", "OVRL", 2, "DNSMOS P.835 overall quality, 1 to 5.", "higher"),
    Metric("distill_mos", "DistillMOS", 2, "Predicted mean opinion score, 1 to 5.", "higher"),
    Metric("jumpiness", "Jumps", 2, "Spectral steps between frames relative to the source; 1 is as smooth."),
    Metric("real_time_factor", "RTF", 3, "Computing time per second of audio, without enrolment.", "lower"),
)
COSTS = Column("size_mb", "Weights (MB)", 1), Column("peak_memory_mb", "Peak memory (MB)", 0)

Run = tuple[str, float | None]  # a system, and the seconds of reference it had


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of one pair in one system.

    Attributes:
        system: name of the system.
        reference_seconds: seconds of the target's references used; None means all, or none needed.
        pair: name of the pair.
        source: speaker and file name of the source.
        target: name of the target speaker.
        file: audio file, relative to the results folder; "" if there is none.
        transcript: what the source says; "" if unknown.
        hypothesis: output of the recogniser; None if it was not run.
        values: by the names of `METRICS` (`wer` and `cer` in percent of this pair; `nearer` 0 or 100).
        error: why there is no audio, or which metrics failed; "" if all went well.
        failed: there is no audio, so the pair is left out of every figure.
    """

    system: str
    reference_seconds: float | None
    pair: str
    source: str
    target: str
    file: str = ""
    transcript: str = ""
    hypothesis: str | None = None
    values: Mapping[str, float | None] = field(default_factory=dict)
    error: str = ""
    failed: bool = False

    @property
    def run(self) -> Run:
        """Key of the summary it belongs to."""
        return self.system, self.reference_seconds


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Results of one system over all pairs: a row of the table.

    Attributes:
        system: name of the system.
        description: one line on what it is.
        natural: these are recordings, not synthesised.
        reference_seconds: as in `Outcome`.
        pairs: number of pairs (or clips, for the targets' natural clips).
        failed: how many of them failed and are left out.
        values: by the names of `METRICS`, over all pairs.
        size_mb: size of the weights; None if there are none.
        peak_memory_mb: peak memory of the whole process.
        converts: it uses reference recordings.
        copies: its outputs should equal the sources.
    """

    system: str
    description: str
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
        """Key of the row."""
        return self.system, self.reference_seconds

    @property
    def reference(self) -> str:
        """Amount of reference audio as text; "" if the system uses none."""
        return format_reference(self.reference_seconds) if self.converts else ""


@dataclass(frozen=True)
class Results:
    """An evaluation.

    Attributes:
        name: name of the test set.
        judges: descriptions of the judges, shown in every table.
        notes: caveats, one sentence each.
        summaries: rows of all systems, natural ones first.
        outcomes: results of all pairs in all systems.
    """

    name: str
    judges: Sequence[str]
    notes: Sequence[str]
    summaries: Sequence[Summary]
    outcomes: Sequence[Outcome]


def format_reference(seconds: float | None) -> str:
    """Returns an amount of reference audio as text; None is all of it."""
    return "all" if seconds is None else f"{seconds:g} s"


def used_metrics(summaries: Sequence[Summary]) -> list[Metric]:
    """Returns the metrics that any of the systems has."""
    return [metric for metric in METRICS if any(row.values.get(metric.name) for row in summaries)]
