"""The copy-synthesis grid: one clip by every matching pair of features and vocoder, scored against the original."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE, Source, read
from ssl_vc.copysynth import PAIRS, MissingError, Route, Routes, Weights
from ssl_vc.evaluate.cost import measure_cost
from ssl_vc.evaluate.pitch import pitch_error
from ssl_vc.evaluate.quality import pesq, stoi
from ssl_vc.evaluate.spectral import mel_cepstral_distortion, mel_distance
from ssl_vc.html.page import Column, MissingItem, Row, render

COLUMNS = (
    Column(
        "mel_distance", "Mel distance", 3, "Mean difference of the log-mel spectrograms (natural logarithm); 0 is best."
    ),
    Column(
        "mcd_db",
        "MCD (dB)",
        2,
        "Mel-cepstral distortion: distance of the spectral envelopes, whatever the level.",
    ),
    Column("f0_rmse_hz", "F0 RMSE (Hz)", 1, "Difference of F0 where both are voiced."),
    Column("f0_rmse_cents", "F0 RMSE (cents)", 0, "The same in hundredths of a semitone."),
    Column("voicing_error_percent", "Voicing error (%)", 1, "Frames voiced in one and not in the other."),
    Column("pesq", "PESQ", 2, "Wideband PESQ against the original, 1 to 4.64; higher is better."),
    Column("stoi", "STOI", 3, "Intelligibility against the original, 0 to 1; higher is better."),
    Column("real_time_factor", "Real-time factor", 3, "Computing time per second of audio, features included."),
    Column("peak_memory_mb", "Peak memory (MB)", 0, "Peak memory of the pair, without its weights."),
)


@dataclass(frozen=True)
class CopyResult:
    """Copy by one pair, or the reason why there is none.

    Attributes:
        features: of the pair; "" for the original.
        vocoder: of the pair; "" for the original.
        wav: the copy (samples,), as long as the original; None if it failed.
        sample_rate: of the copy, in Hz.
        values: by the names of `COLUMNS`; None where a metric is unavailable or undefined.
        note: on the features.
        reason: why there is no copy.
        command: cure for that; "" if there is none.
    """

    features: str = ""
    vocoder: str = ""
    wav: Tensor | None = None
    sample_rate: int = SAMPLE_RATE
    values: dict[str, float | None] = field(default_factory=dict)
    note: str = ""
    reason: str = ""
    command: str = ""

    @property
    def name(self) -> str:
        """The pair as text."""
        return f"{self.features} × {self.vocoder}" if self.features else "original"

    @property
    def file(self) -> str:
        """Name of the audio file."""
        return (f"{self.features}_{self.vocoder}" if self.features else "original") + ".wav"

    @property
    def record(self) -> dict[str, Any]:
        """Everything but the audio, for tables."""
        succeeded = self.wav is not None
        values = {column.name: self.values.get(column.name) for column in COLUMNS}
        return {
            "features": self.features,
            "vocoder": self.vocoder,
            "file": self.file if succeeded else "",
            "sample_rate": self.sample_rate if succeeded else None,
            **{name: None if value is None else float(f"{value:.6g}") for name, value in values.items()},
            "reason": self.reason,
            "command": self.command,
        }


def copy_grid(
    source: Source,
    *,
    weights: Weights = None,
    encoder: str = "tiny",
    layer: int | None = None,
    device: str = "auto",
) -> Iterator[CopyResult]:
    """Yields the original, then the copy by each pair; see `ssl_vc.copy_synthesis` for the arguments.

    A pair that fails has a `reason`, and does not stop the others.
    """
    original = read(source)
    routes = Routes(weights, encoder, layer, device)
    yield CopyResult(wav=original)
    for features, vocoder in PAIRS:
        yield _copy(routes, features, vocoder, original)


def _copy(routes: Routes, features: str, vocoder: str, original: Tensor) -> CopyResult:
    try:
        route = routes(features, vocoder)
        route(original[:SAMPLE_RATE])  # the first call is slower: memory is allocated, threads start
        with measure_cost() as cost:
            wav = route(original)
        values = score_copy(original, wav, route)
    except MissingError as missing:
        return CopyResult(features, vocoder, reason=missing.reason, command=missing.command)
    except Exception as error:  # the other pairs go on, whatever it is
        expected = isinstance(error, ValueError | OSError)
        return CopyResult(features, vocoder, reason=str(error) if expected else f"{type(error).__name__}: {error}")
    values["real_time_factor"] = cost.seconds * SAMPLE_RATE / len(original)
    values["peak_memory_mb"] = None if cost.added_bytes is None else cost.added_bytes / 1e6
    return CopyResult(features, vocoder, wav, route.sample_rate, values, route.analysis.note)


def score_copy(original: Tensor, copy: Tensor, route: Route) -> dict[str, float | None]:
    """Returns the metrics of a copy against its original, (samples,) at 16 kHz."""
    copy = read((copy, route.sample_rate))
    hertz, cents, voicing, _ = pitch_error(original, copy)
    return {
        "mel_distance": mel_distance(original, copy),
        "mcd_db": mel_cepstral_distortion(original, copy),
        "f0_rmse_hz": hertz,
        "f0_rmse_cents": cents,
        "voicing_error_percent": voicing,
        "pesq": pesq(original, copy),
        "stoi": stoi(original, copy),
    }


def render_page(name: str, copies: Sequence[CopyResult]) -> str:
    """Render a page to listen to the copies of the clip `name` and compare them."""
    rows = [
        Row(copy.name, copy.wav, copy.sample_rate, copy.values, _note(copy)) for copy in copies if copy.wav is not None
    ]
    missing = [MissingItem(copy.name, copy.reason, copy.command) for copy in copies if copy.wav is None]
    seconds = len(rows[0].wav) / rows[0].sample_rate
    intro = (
        f"{seconds:.1f} seconds of audio, analysed into features and resynthesised by vocoders. Every copy is compared "
        "with the original at 16 kHz; spectrograms show 40 Hz to 8 kHz on a mel scale, scaled to the original's level."
    )
    return render(f"Copy-synthesis of {name}", intro, COLUMNS, rows, missing)


def _note(copy: CopyResult) -> str:
    return ", ".join(filter(None, [copy.note, f"{copy.sample_rate} Hz"]))
