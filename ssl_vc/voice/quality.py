"""Quality of a voice: defects of its recordings, and the conversion quality to expect.

Clips of another speaker are detected without a model, by F0 and smoothed spectrum of their voiced frames. The clips are
cut into segments of some seconds, so that one long clip can be examined too. A segment is an outlier if the Mahalanobis
distance of its mean from the median of all segments' means, by the covariance within segments, is much larger than
usual. This cannot tell another speaker from another microphone.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.features.waveform import Waveform
from ssl_vc.match.protocol import Pool
from ssl_vc.voice.voice import Findings, Voice
from vocoder.mel import Mfcc
from vocoder.pitch import track_pitch

HOP = 320  # samples per frame, as in the default mel spectrogram and pitch track
BLOCK = 60 * SAMPLE_RATE  # samples processed at a time: an hour at once would be gigabytes of spectra

# Clipping: three samples in a row near the clip's peak, and near each other. Resampling makes clipped peaks ripple.
NEAR_PEAK, RIPPLE = 0.7, 0.006  # of the peak

PAUSE = 10  # consecutive unvoiced frames that make a pause
QUIET = 0.1  # quantile of the pauses' frames that counts as noise: they contain breath and consonants too
SILENT = 1e-10  # lower bound of the noise, 100 dB below speech

COEFFICIENTS, COMPRESSION = 31, 0.4  # a power instead of the logarithm, which amplifies noise between harmonics
SEGMENT, ENOUGH = 125, 50  # voiced frames of a segment (about 5 s of speech), and the minimum of a clip
FEW, FEW_OF_TWO = 3, 5  # minimum number of segments to compare; of one or two clips it takes more to tell which is odd
OUTLIER, GROWTH = 1.3, 0.45  # limit relative to the median distance, and its growth with the log number of segments
TIGHT = 0.2  # squared distance per dimension that is normal for one speaker
SHRINKAGE = 0.05

QUANTILE, SAMPLED = 0.95, 2000  # of the distances, and the number of frames they are measured on
NEIGHBOURHOOD = 25  # frames, 0.5 s: adjacent frames are always close
COMPARED = 1024  # frames of the pool at a time

BANDS = {"poor": 0.0, "fair": 10.0, "good": 30.0, "best": 300.0}  # minimum seconds of speech
FAR = 0.5  # share of the source's frames outside the voice's range that is worth a warning
LITTLE = BANDS["good"]
CLIPPED, NOISY = 5e-4, 20.0  # share of samples, and dB, that are worth a warning


def examine(
    wavs: Sequence[Tensor],
    names: Sequence[str],
    clips: Sequence[Tensor],
    pool: Pool,
    pitches: Sequence[Tensor] | None = None,
) -> Findings:
    """Examine the recordings of a voice for defects.

    Args:
        wavs: the clips as enrolled, 16 kHz mono (samples,) each.
        names: of the clips.
        clips: the frames of each clip (frames, dim).
        pool: the frames of all clips.
        pitches: F0 of each clip; tracked here if None.
    """
    clipped = clipped_share(wavs)
    pitches = [track_pitch(wav) for wav in wavs] if pitches is None else pitches
    cepstrum = Mfcc(count=COEFFICIENTS)
    outliers = _outliers([_voice_features(wav, pitch, cepstrum) for wav, pitch in zip(wavs, pitches, strict=True)])
    return Findings(
        clipped=clipped,
        noise=_noise(wavs, pitches),
        outlier_clips=tuple(name for index, name in enumerate(names) if index in outliers),
        distance_p95=_distance_p95(pool, [len(clip) for clip in clips]),
    )


def clipped_share(wavs: Sequence[Waveform]) -> float:
    """Return the share of the samples that are in flattened peaks."""
    return sum(_clipped_samples(wav) for wav in wavs) / max(sum(len(wav) for wav in wavs), 1)


def recording_flaws(name: str, clipped: float, noise: float | None) -> list[str]:
    """Return one sentence for each defect of recordings, with the remedy.

    Args:
        name: of what was recorded.
        clipped: share of the samples.
        noise: speech above the pauses, in dB; None if unknown.
    """
    found = []
    if clipped >= CLIPPED:
        found.append(f"{name} is clipped ({clipped:.2%} of the samples); record it again at a lower level.")
    if noise is not None and noise < NOISY:
        found.append(
            f"{name} is noisy (its pauses are only {max(int(noise), 0)} dB below the speech, and should be at least "
            f"{NOISY:.0f} dB); record it in a quieter room, or closer to the microphone."
        )
    return found


def coverage(distance: Tensor, findings: Findings | None) -> float | None:
    """Return the share of a source's frames that are farther from a voice than its own frames are from each other.

    By construction it is about 5 percent for the voice's own frames. None if either is unknown.

    Args:
        distance: of each frame to its nearest neighbour in the voice (frames,); NaN is ignored.
        findings: of the voice.
    """
    known = distance[~distance.isnan()]
    if findings is None or not findings.distance_p95 or not len(known):
        return None
    return float((known > findings.distance_p95).float().mean())


def band(voice: Voice) -> tuple[str, str]:
    """Predict the quality of conversions to a voice: a word (poor, fair, good, best), and a sentence about it."""
    words, flaws = list(BANDS), _flaws(voice)
    rank = sum(voice.seconds >= start for start in BANDS.values()) - 1
    word = words[max(rank - bool(flaws), 0)]
    reason = f"{_duration(voice.seconds)} of speech" + (" and its defects (see the warnings)" if flaws else "")
    return word, (
        f"{word}: a prediction of intelligibility and similarity to {voice.name} from {reason}; with kNN-VC both rise "
        "steeply up to 30 s of reference and level off at 5 minutes."
    )


def warnings(voice: Voice, coverage: float | None = None) -> list[str]:
    """Return one sentence for each problem of a voice, and of a source that it hardly covers, with the remedy."""
    found = []
    if voice.seconds < LITTLE:
        found.append(
            f"{voice.name} has only {_duration(voice.seconds)} of speech; more, at least 30 s and ideally 5 minutes, "
            "helps most."
        )
    found += _flaws(voice)
    if coverage is not None and coverage > FAR:
        found.append(
            f"{coverage:.0%} of the source's frames are farther from the voice {voice.name!r} than its own frames are "
            "from each other; more varied recordings of it, or a more similar source, help."
        )
    return found


def describe(voice: Voice) -> dict[str, Any]:
    """Return everything known about a voice, ready for JSON."""
    word, sentence = band(voice)
    return {
        "name": voice.name,
        "seconds": round(voice.seconds, 2),
        "minutes": round(voice.seconds / 60, 2),
        "clips": len(voice.origins),
        "origins": [asdict(origin) for origin in voice.origins],
        "frames": len(voice.frames),
        "dim": voice.spec.dim,
        "spec": asdict(voice.spec),
        "made_by": None if voice.synthesis_spec is None else dict(voice.synthesis_spec),
        "pitch": voice.pitch and asdict(voice.pitch),
        "findings": voice.findings and asdict(voice.findings) | {"outlier_clips": list(voice.findings.outlier_clips)},
        "band": {"word": word, "sentence": sentence},
        "warnings": warnings(voice),
        "note": voice.note,
    }


def _flaws(voice: Voice) -> list[str]:
    """Return one sentence for each defect of the recordings other than their duration."""
    found, name = [], voice.name
    if voice.pitch is None:
        found.append(f"{name} has no voiced speech; enroll recordings of a normal speaking voice.")
    if voice.findings is None:
        return found
    outliers = voice.findings.outlier_clips
    found += recording_flaws(name, voice.findings.clipped, voice.findings.noise)
    if outliers:
        clips = ", ".join(map(repr, outliers[:5])) + (f" and {len(outliers) - 5} more" if len(outliers) > 5 else "")
        whole = "it" if len(voice.origins) == 1 else name
        found.append(
            f"parts of {clips} sound unlike the rest of {whole}: another speaker, microphone or room; listen, and "
            f"build the voice again without what is not {name}."
        )
    return found


def _duration(seconds: float) -> str:
    # rounded down, so that nothing below a limit reads as if it had reached it
    return f"{math.floor(10 * seconds) / 10:g} s" if seconds < 120 else f"{math.floor(seconds / 6) / 10:g} minutes"


def _clipped_samples(wav: Waveform) -> float:
    """Count the samples in flattened peaks."""
    starts = range(0, len(wav), BLOCK)
    peak, count = max((float(wav[start : start + BLOCK].abs().max()) for start in starts), default=0.0), 0
    for block in (wav[start : start + BLOCK] for start in starts if peak):
        near = block.diff().abs() <= RIPPLE * peak
        middle = (block.abs() >= NEAR_PEAK * peak)[1:-1] & near[1:] & near[:-1]
        count += int((pad(middle, (2, 0)) | pad(middle, (1, 1)) | pad(middle, (0, 2))).sum())
    return count


def _noise(wavs: Sequence[Tensor], pitches: Sequence[Tensor]) -> float | None:
    """Measure speech above pauses in dB; ratios are averaged over clips, so that each noisy one counts."""
    total = weight = 0.0
    for wav, pitch in zip(wavs, pitches, strict=True):
        power = wav[: len(pitch) * HOP].view(-1, HOP).square().mean(1)
        unvoiced = (pitch == 0).float()
        if len(pitch) < PAUSE or bool(unvoiced.all()):
            continue
        starts = (unvoiced.unfold(0, PAUSE, 1).amin(1) > 0).nonzero()[:, 0]
        paused = (starts[:, None] + torch.arange(PAUSE, device=starts.device)).unique()
        if len(paused):
            speech = power[pitch > 0]
            total += len(speech) * float(power[paused].quantile(QUIET) / speech.mean())
            weight += len(speech)
    return max(-10 * math.log10(max(total / weight, SILENT)), 0.0) if weight else None


def _voice_features(wav: Tensor, pitch: Tensor, cepstrum: Mfcc) -> Tensor:
    """Return smoothed spectrum, and F0 in semitones, of a clip's voiced frames (voiced frames, COEFFICIENTS)."""
    if not len(pitch):
        return torch.empty(0, COEFFICIENTS)
    level = 0.1 / wav.square().mean().sqrt().clamp(min=1e-9)
    blocks = zip(wav[: len(pitch) * HOP].split(BLOCK), pitch.split(BLOCK // HOP), strict=True)
    voiced = torch.cat([cepstrum.mel((level * block)[None].cpu())[0][f0.cpu() > 0] for block, f0 in blocks])
    power = (COMPRESSION * voiced).exp()
    semitones = 12 * pitch[pitch > 0].log2().cpu()
    return torch.cat([power / power.mean() @ cepstrum.dct[1:].T, semitones[:, None]], 1)


def _outliers(clips: Sequence[Tensor]) -> set[int]:
    """Find the clips (voiced frames, dim) with an outlying segment."""
    segments: list[Tensor] = []
    origin: list[int] = []
    for index, clip in enumerate(clips):
        if len(clip) >= ENOUGH:
            parts = clip.double().tensor_split(max(len(clip) // SEGMENT, 1))
            segments += parts
            origin += [index] * len(parts)
    if len(segments) < (FEW if len(set(origin)) > 2 else FEW_OF_TWO):
        return set()
    means = torch.stack([segment.mean(0) for segment in segments])
    within = torch.cat([segment - mean for segment, mean in zip(segments, means, strict=True)])
    covariance = within.T @ within / len(within)
    covariance += SHRINKAGE * covariance.diag().clamp(min=1e-9).diag()
    offset = means - means.quantile(0.5, dim=0)
    distance = (offset * torch.linalg.solve(covariance, offset.T).T).mean(1)
    # the maximum of many is larger
    limit = (OUTLIER + GROWTH * math.log(len(segments))) * distance.quantile(0.5).clamp(min=TIGHT)
    return {origin[int(index)] for index in (distance > limit).nonzero()}


def _distance_p95(pool: Pool, lengths: Sequence[int]) -> float:
    """Measure the 95th percentile of the distance from a pool's frames to their nearest others; 0 if too few."""
    frames = pool.frames
    position = torch.arange(len(frames), dtype=torch.int32, device=frames.device)
    clip = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    position = position + clip.to(position) * NEIGHBOURHOOD
    chosen = torch.linspace(0, len(frames) - 1, min(len(frames), SAMPLED), device=frames.device).round().long()
    query, best = normalize(frames[chosen].float()), torch.full((len(chosen),), -math.inf, device=frames.device)
    for block, where in zip(frames.split(COMPARED), position.split(COMPARED), strict=True):
        near = (position[chosen, None] - where).abs() <= NEIGHBOURHOOD
        best = best.maximum((query @ normalize(block.float()).T).masked_fill_(near, -math.inf).amax(1))
    distance = 1 - best[best.isfinite()]
    return max(float(distance.quantile(QUANTILE)), 0.0) if len(distance) else 0.0
