"""The grid: copies of one sound by every pair of features and vocoder that fits, measured against the original."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE, Source, read
from ssl_vc.copysynth import PAIRS, MissingError, Route, Routes, Weights
from ssl_vc.evaluate.cost import measured
from ssl_vc.evaluate.pitch import pitch_error
from ssl_vc.evaluate.quality import pesq, stoi
from ssl_vc.evaluate.spectral import mel_cepstral_distortion, mel_distance
from ssl_vc.html.page import Absent, Column, Row, render

COLUMNS = (
    Column(
        "mel_distance", "Mel distance", 3, "Mean difference of the log-mel spectrograms (natural logarithm); 0 is best."
    ),
    Column(
        "mcd_db",
        "MCD (dB)",
        2,
        "Mel-cepstral distortion: how far the spectral envelopes are apart, whatever the level.",
    ),
    Column("f0_rmse_hz", "F0 RMSE (Hz)", 1, "Difference of the melodies where both are voiced."),
    Column("f0_rmse_cents", "F0 RMSE (cents)", 0, "The same in hundredths of a semitone."),
    Column("voicing_error_percent", "Voicing error (%)", 1, "Moments that are voiced in one and not in the other."),
    Column("pesq", "PESQ", 2, "Wideband PESQ by comparison with the original, from 1 to 4.64; higher is better."),
    Column("stoi", "STOI", 3, "Intelligibility by comparison with the original, from 0 to 1; higher is better."),
    Column("real_time_factor", "Real-time factor", 3, "Seconds of computing for a second of sound, features and all."),
    Column("peak_memory_mb", "Peak memory (MB)", 0, "What the pair needs at its peak, besides its weights."),
)


@dataclass(frozen=True)
class Copy:
    """What became of a pair; without a wav, why.

    Attributes:
        features: of the pair; "" for the original.
        vocoder: of the pair; "" for the original.
        wav: the copy (samples,), as long as the original.
        sample_rate: of the copy, in Hz.
        values: by the names of `COLUMNS`; None for what cannot be measured here or on this sound.
        note: what is worth knowing of the features.
        reason: why there is no copy.
        command: what changes that; "" if nothing does.
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
        """Name the pair, for people."""
        return f"{self.features} × {self.vocoder}" if self.features else "original"

    @property
    def file(self) -> str:
        """Name the file that the sound goes to."""
        return (f"{self.features}_{self.vocoder}" if self.features else "original") + ".wav"

    @property
    def facts(self) -> dict[str, Any]:
        """Everything but the sound, for tables."""
        made = self.wav is not None
        values = {column.name: self.values.get(column.name) for column in COLUMNS}
        return {
            "features": self.features,
            "vocoder": self.vocoder,
            "file": self.file if made else "",
            "sample_rate": self.sample_rate if made else None,
            **{name: None if value is None else float(f"{value:.6g}") for name, value in values.items()},
            "reason": self.reason,
            "command": self.command,
        }


def grid(
    source: Source,
    *,
    weights: Weights = None,
    encoder: str = "tiny",
    layer: int | None = None,
    device: str = "auto",
) -> Iterator[Copy]:
    """Give the original, then what becomes of each pair; see `ssl_vc.copy_synthesis` for the arguments.

    A pair that fails says so in its `reason` and never stops the others.
    """
    original = read(source)
    routes = Routes(weights, encoder, layer, device)
    yield Copy(wav=original)
    for features, vocoder in PAIRS:
        yield _copy(routes, features, vocoder, original)


def _copy(routes: Routes, features: str, vocoder: str, original: Tensor) -> Copy:
    try:
        route = routes(features, vocoder)
        route(original[:SAMPLE_RATE])  # the first call is slower: memory is claimed, threads start
        with measured() as cost:
            wav = route(original)
        values = measure(original, wav, route)
    except MissingError as missing:
        return Copy(features, vocoder, reason=missing.reason, command=missing.command)
    except Exception as error:  # whatever it is, the other pairs go on
        expected = isinstance(error, ValueError | OSError)
        return Copy(features, vocoder, reason=str(error) if expected else f"{type(error).__name__}: {error}")
    values["real_time_factor"] = cost.seconds * SAMPLE_RATE / len(original)
    values["peak_memory_mb"] = None if cost.added_bytes is None else cost.added_bytes / 1e6
    return Copy(features, vocoder, wav, route.sample_rate, values, route.analysis.note)


def measure(original: Tensor, copy: Tensor, route: Route) -> dict[str, float | None]:
    """Compare a copy with its original, (samples,) at 16 kHz."""
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


def page(name: str, copies: Sequence[Copy]) -> str:
    """Make the page to listen to copies of the sound called `name`, and to compare them."""
    rows = [
        Row(copy.name, copy.wav, copy.sample_rate, copy.values, _note(copy)) for copy in copies if copy.wav is not None
    ]
    absent = [Absent(copy.name, copy.reason, copy.command) for copy in copies if copy.wav is None]
    seconds = len(rows[0].wav) / rows[0].sample_rate
    intro = (
        f"{seconds:.1f} seconds of sound, taken apart into features and put together again by vocoders. Every copy is "
        "compared with the original at 16 kHz; pictures show 40 Hz to 8 kHz on a mel scale, for the original's level."
    )
    return render(f"Copy-synthesis of {name}", intro, COLUMNS, rows, absent)


def _note(copy: Copy) -> str:
    return ", ".join(filter(None, [copy.note, f"{copy.sample_rate} Hz"]))
