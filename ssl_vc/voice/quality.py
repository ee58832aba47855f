"""What a voice is worth: what is wrong with its recordings, and how good a conversion to expect.

Whether a clip is of another speaker is judged without a model, by its voiced frames: their F0 and smoothed spectrum.
The clips are cut into pieces of some seconds, so that one long clip can be judged too. A piece sticks out if its mean
is far from the median of all pieces' means, measured with the covariance of the frames within the pieces, and much
farther than most are. This cannot tell another speaker from another microphone.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.match.protocol import Pool
from ssl_vc.voice.voice import Findings, Voice
from vocoder.mel import Mfcc
from vocoder.pitch import track_pitch

HOP = 320  # samples of a frame, as the default mel spectrogram and pitch have it
BLOCK = 60 * SAMPLE_RATE  # samples looked at together: an hour in one piece would be gigabytes of spectra

# A flat top: three samples in a row near the clip's peak, and near each other. Resampling makes clipped tops wavy.
NEAR_PEAK, WAVY = 0.7, 0.006  # of the peak

PAUSE = 10  # frames without voice that make a pause
QUIET = 0.1  # the quantile of the pauses' frames that is taken for noise: breath and consonants are in them too
SILENT = 1e-10  # 100 dB below what counts as speech; more is not told

COEFFICIENTS, COMPRESSION = 31, 0.4  # a power instead of the logarithm, which noise between the harmonics would change
PIECE, ENOUGH = 125, 50  # voiced frames of a piece (about 5 s of speech), and of a clip that can be judged
FEW, FEW_OF_TWO = 3, 5  # pieces that can be compared; of one clip or two it takes more to say which is the other one
STRANGE, LARGER = 1.3, 0.45  # times the median, and the second more for each e times as many pieces
TIGHT = 0.2  # squared distance per dimension that pieces of one speaker have anyway
SHRINKAGE = 0.05

REACH, SAMPLED = 0.95, 2000  # the quantile, and how many frames it is measured on
NEIGHBOURHOOD = 25  # frames, 0.5 s: what is so near in time is near anyway
COMPARED = 1024  # frames of the pool at a time

BANDS = {"poor": 0.0, "fair": 10.0, "good": 30.0, "best": 300.0}  # from how many seconds on
LITTLE = BANDS["good"]
CLIPPED, NOISY = 5e-4, 20.0  # share of samples, and dB, that are worth a warning


def examine(
    wavs: Sequence[Tensor],
    names: Sequence[str],
    clips: Sequence[Tensor],
    pool: Pool,
    pitches: Sequence[Tensor] | None = None,
) -> Findings:
    """Look for what is wrong with the recordings of a voice.

    Args:
        wavs: the clips as kept, 16 kHz mono (samples,) each.
        names: what the clips are called.
        clips: the frames of each clip (frames, dim).
        pool: all of them.
        pitches: F0 of each wav, where it was tracked already.
    """
    clipped = sum(_flat_tops(wav) for wav in wavs) / max(sum(len(wav) for wav in wavs), 1)
    pitches = [track_pitch(wav) for wav in wavs] if pitches is None else pitches
    cepstrum = Mfcc(count=COEFFICIENTS)
    strangers = _strangers([_sound(wav, pitch, cepstrum) for wav, pitch in zip(wavs, pitches, strict=True)])
    return Findings(
        clipped,
        _noise(wavs, pitches),
        tuple(name for which, name in enumerate(names) if which in strangers),
        _reach(pool, [len(clip) for clip in clips]),
    )


def coverage(distance: Tensor, findings: Findings | None) -> float | None:
    """Give the share of a source's frames that lie farther from a voice than its own frames from each other.

    About 5 percent of the voice's own do. None if nothing is known of one or the other.

    Args:
        distance: of each frame to the nearest one of the voice (frames,); NaN does not count.
        findings: what was found in the voice.
    """
    known = distance[~distance.isnan()]
    if findings is None or not findings.reach or not len(known):
        return None
    return float((known > findings.reach).float().mean())


def band(voice: Voice) -> tuple[str, str]:
    """Predict how good conversions to a voice will be: a word (poor, fair, good, best), and a sentence about it."""
    words, flaws = list(BANDS), _flaws(voice)
    rank = sum(voice.seconds >= start for start in BANDS.values()) - 1
    word = words[max(rank - bool(flaws), 0)]
    reason = f"{_duration(voice.seconds)} of speech" + (
        ", and what is wrong with it (see the warnings)" if flaws else ""
    )
    return word, (
        f"{word}: a prediction of how intelligible and how like {voice.name} conversions will be, from {reason}; with "
        "kNN-VC both rise steeply up to 30 s of reference and level off at 5 minutes."
    )


def warnings(voice: Voice) -> list[str]:
    """Say what keeps a voice from sounding as good as it could, a sentence each, with the cure."""
    found = []
    if voice.seconds < LITTLE:
        found.append(
            f"{voice.name} has {_duration(voice.seconds)} of speech; more of it, at least 30 s and better 5 minutes, "
            "helps more than anything else."
        )
    return found + _flaws(voice)


def describe(voice: Voice) -> dict[str, Any]:
    """Give what is known of a voice, ready for JSON."""
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
        "made_by": None if voice.made_by is None else dict(voice.made_by),
        "pitch": voice.pitch and asdict(voice.pitch),
        "findings": voice.findings and asdict(voice.findings) | {"strangers": list(voice.findings.strangers)},
        "band": {"word": word, "sentence": sentence},
        "warnings": warnings(voice),
        "note": voice.note,
    }


def _flaws(voice: Voice) -> list[str]:
    """Say what is wrong with the recordings, but for their length."""
    found, name = [], voice.name
    if voice.pitch is None:
        found.append(f"nothing in {name} is voiced; give recordings in which somebody speaks in a normal voice.")
    if voice.findings is None:
        return found
    clipped, noise, strangers = voice.findings.clipped, voice.findings.noise, voice.findings.strangers
    if clipped >= CLIPPED:
        found.append(f"{name} is clipped ({clipped:.2%} of the samples); record it again at a lower level.")
    if noise is not None and noise < NOISY:
        found.append(
            f"{name} is noisy (its pauses are {int(noise)} dB below the speech, and should be {NOISY:.0f} or more); "
            "record it in a quieter place, or nearer to the microphone."
        )
    if strangers:
        which = ", ".join(map(repr, strangers[:5])) + (f" and {len(strangers) - 5} more" if len(strangers) > 5 else "")
        whole = "it" if len(voice.origins) == 1 else name
        found.append(
            f"in {which} something sounds unlike the rest of {whole}: another speaker, or another microphone or room; "
            f"listen, and build the voice again without what is not {name}."
        )
    return found


def _duration(seconds: float) -> str:
    # rounded down: what is short of a limit should not read as if it had reached it
    return f"{math.floor(10 * seconds) / 10:g} s" if seconds < 120 else f"{math.floor(seconds / 6) / 10:g} minutes"


def _flat_tops(wav: Tensor) -> float:
    """Count the samples that stand in flat tops."""
    peak, count = float(wav.abs().max()) if len(wav) else 0.0, 0
    for block in wav.split(BLOCK) if peak else ():
        near = block.diff().abs() <= WAVY * peak
        middle = (block.abs() >= NEAR_PEAK * peak)[1:-1] & near[1:] & near[:-1]
        count += int((pad(middle, (2, 0)) | pad(middle, (1, 1)) | pad(middle, (0, 2))).sum())
    return count


def _noise(wavs: Sequence[Tensor], pitches: Sequence[Tensor]) -> float | None:
    """Measure how many dB the pauses are below the speech; the clips' ratios are averaged, so a noisy clip counts."""
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


def _sound(wav: Tensor, pitch: Tensor, cepstrum: Mfcc) -> Tensor:
    """Give what a clip's voiced frames sound like (voiced frames, COEFFICIENTS): spectrum, and F0 in semitones."""
    if not len(pitch):
        return torch.empty(0, COEFFICIENTS)
    level = 0.1 / wav.square().mean().sqrt().clamp(min=1e-9)
    blocks = zip(wav[: len(pitch) * HOP].split(BLOCK), pitch.split(BLOCK // HOP), strict=True)
    voiced = torch.cat([cepstrum.mel((level * block)[None].cpu())[0][f0.cpu() > 0] for block, f0 in blocks])
    power = (COMPRESSION * voiced).exp()
    semitones = 12 * pitch[pitch > 0].log2().cpu()
    return torch.cat([power / power.mean() @ cepstrum.cosines[1:].T, semitones[:, None]], 1)


def _strangers(sounds: Sequence[Tensor]) -> set[int]:
    """Find the clips (voiced frames, dim) of which a piece sticks out."""
    pieces: list[Tensor] = []
    origin: list[int] = []
    for which, sound in enumerate(sounds):
        if len(sound) >= ENOUGH:
            parts = sound.double().tensor_split(max(len(sound) // PIECE, 1))
            pieces += parts
            origin += [which] * len(parts)
    if len(pieces) < (FEW if len(set(origin)) > 2 else FEW_OF_TWO):
        return set()
    means = torch.stack([piece.mean(0) for piece in pieces])
    within = torch.cat([piece - mean for piece, mean in zip(pieces, means, strict=True)])
    covariance = within.T @ within / len(within)
    covariance += SHRINKAGE * covariance.diag().clamp(min=1e-9).diag()
    away = means - means.quantile(0.5, dim=0)
    distance = (away * torch.linalg.solve(covariance, away.T).T).mean(1)
    # the largest of many is larger
    limit = (STRANGE + LARGER * math.log(len(pieces))) * distance.quantile(0.5).clamp(min=TIGHT)
    return {origin[int(which)] for which in (distance > limit).nonzero()}


def _reach(pool: Pool, lengths: Sequence[int]) -> float:
    """Measure how far the frames of a pool are from their nearest others; 0 if it is too small to tell."""
    frames = pool.frames
    place = torch.arange(len(frames), dtype=torch.int32, device=frames.device)
    place = place + torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(place) * NEIGHBOURHOOD
    chosen = torch.linspace(0, len(frames) - 1, min(len(frames), SAMPLED), device=frames.device).round().long()
    query, best = normalize(frames[chosen].float()), torch.full((len(chosen),), -math.inf, device=frames.device)
    for block, where in zip(frames.split(COMPARED), place.split(COMPARED), strict=True):
        near = (place[chosen, None] - where).abs() <= NEIGHBOURHOOD
        best = best.maximum((query @ normalize(block.float()).T).masked_fill_(near, -math.inf).amax(1))
    distance = 1 - best[best.isfinite()]
    return max(float(distance.quantile(REACH)), 0.0) if len(distance) else 0.0
