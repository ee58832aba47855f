"""A report says what is wrong with recordings, and nothing is wrong with good ones."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch

import ssl_vc
from ssl_vc.features.extractor import FrameSpec
from ssl_vc.match.protocol import Pool
from ssl_vc.voice import quality as report
from ssl_vc.voice.voice import Findings, Origin, PitchRange, Voice

RATE = 16_000
GOOD = Findings(0.0, 40.0, (), 0.2)
SPEC = FrameSpec("0123456789abcdef", 4, False, 4)


def speak(seconds=4.0, hertz=120.0, tract=1.0, seed=0):
    """Speech without words: syllables of 0.3 s, each with its formants and gliding pitch, and after four a pause."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(0.3 * RATE)) / RATE
    syllables = []
    for number in range(math.ceil(seconds / 0.3)):
        first, second, third, height = (torch.rand(4, generator=generator) - 0.5).tolist()
        formants = (500 + 400 * first, 80), (1500 + 1000 * second, 120), (2600 + 400 * third, 200), (3600, 250)
        pitch = hertz * (1 + 0.15 * height - 0.3 * (time - 0.15))
        order = torch.arange(1, int(7000 / pitch.max()))[:, None]
        gain = sum(1 / (1 + ((order * pitch - at * tract) / width) ** 2) for at, width in formants) + 0.02
        gain /= (1 + order * pitch / 300) ** 2  # speech is weaker the higher
        phase = 2 * torch.pi * pitch.double().cumsum(0) / RATE
        wav = (gain * torch.cos(order * phase).float()).sum(0) * torch.sin(torch.pi * time / 0.3)
        syllables.append(wav * (number % 5 < 4))
    sound = torch.cat(syllables)[: round(seconds * RATE)]
    return 0.5 * sound / sound.abs().max()


def examine(wavs, dim=8):
    """Examine clips whose frames are noise."""
    generator = torch.Generator().manual_seed(1)
    clips = [torch.randn(len(wav) // 320, dim, generator=generator) for wav in wavs]
    names = [f"{number}.wav" for number in range(len(wavs))]
    return report.examine(wavs, names, clips, Pool(torch.cat(clips), None, [len(clip) for clip in clips]))


def noise(wav, decibels, seed=5):
    """White noise so many dB below the wav's voiced part."""
    level = wav[wav.abs() > 1e-3].square().mean().sqrt() * 10 ** (-decibels / 20)
    return level * torch.randn(len(wav), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def anna():
    return [speak(seconds, seed=seed) for seed, seconds in enumerate((4, 3, 5, 4, 3.5))]


@pytest.fixture(scope="module")
def bert():
    """Another speaker, lower and with a longer vocal tract."""
    return speak(4, hertz=90, tract=0.85, seed=9)


def test_nothing_is_wrong_with_good_recordings(anna):
    found = examine(anna)
    assert found.clipped == 0
    assert found.outlier_clips == ()
    assert found.noise == pytest.approx(100)  # the pauses are digital silence
    assert 0 < found.distance_p95 < 1
    assert examine(anna) == found


def test_findings_stay_when_the_recordings_become_quieter(anna, bert):
    wavs = [wav + noise(wav, 25) for wav in [*anna, bert]]
    loud, quiet = examine(wavs), examine([0.03 * wav for wav in wavs])
    assert quiet.outlier_clips == loud.outlier_clips == ("5.wav",)
    assert quiet.noise == pytest.approx(loud.noise, abs=0.5)
    assert examine([0.001 * anna[0], *anna[1:]]).outlier_clips == ()
    assert examine([torch.cat([anna[0], torch.zeros(60 * RATE)]), *anna[1:]]).outlier_clips == ()


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
def test_clipping_is_counted_even_if_it_was_made_quieter_afterwards(share):
    wav = speak(3)
    ceiling = float(wav.abs().quantile(1 - share))
    clipped = wav.clamp(-ceiling, ceiling)
    flat = float((clipped.abs() == clipped.abs().max()).float().mean())
    assert examine([clipped]).clipped == pytest.approx(flat, rel=0.2)
    assert examine([0.1 * clipped]).clipped == pytest.approx(examine([clipped]).clipped, rel=0.02)
    assert examine([clipped, wav]).clipped == pytest.approx(examine([clipped]).clipped / 2, rel=0.05)


def test_clipping_at_48_khz_is_found_at_16():
    wav = ssl_vc.read((speak(3), 5333))  # three times as many samples
    ceiling = float(wav.abs().quantile(0.98))
    assert examine([ssl_vc.read((wav.clamp(-ceiling, ceiling), 48_000))]).clipped > 4 * report.CLIPPED
    assert examine([ssl_vc.read((wav, 48_000))]).clipped == 0


def test_a_short_peak_is_no_clipping(anna):
    wav = anna[0].clone()
    wav[[5000, 5001, 9000]] = 0.99
    assert examine([wav]).clipped == 0
    wav[5002] = 0.99
    assert examine([wav]).clipped == pytest.approx(3 / len(wav))


@pytest.mark.parametrize("decibels", [40, 25, 10, 5])
def test_noise_is_how_far_the_pauses_are_below_the_speech(anna, decibels):
    wavs = [wav + noise(wav, decibels) for wav in anna]
    assert examine(wavs).noise == pytest.approx(decibels, abs=2.5)


def test_breath_in_the_pauses_is_no_noise(anna):
    wav = anna[0] + noise(anna[0], 50)
    breath = (torch.arange(len(wav)) / RATE % 1.5 - 1.35).abs() < 0.1  # in the middle of every pause
    assert examine([wav + breath * noise(wav, 15)]).noise == pytest.approx(50, abs=3)


def test_one_noisy_clip_counts(anna):
    assert 12 < examine([anna[0] + noise(anna[0], 10), *anna[1:]]).noise < 20


def test_noise_is_unknown_where_nobody_pauses():
    time = torch.arange(3 * RATE) / RATE
    hum = sum(torch.cos(2 * torch.pi * 150 * k * time) / k for k in range(1, 20)) / 5
    assert examine([hum]).noise is None
    assert examine([torch.randn(RATE, generator=torch.Generator().manual_seed(0))]).noise is None
    assert examine([torch.zeros(RATE)]).noise is None
    assert examine([0.1 * hum[:500]]).noise is None


def test_clips_without_a_pause_or_a_voice_leave_the_noise_to_the_others(anna):
    wavs = [wav + noise(wav, 25) for wav in anna]
    assert examine([*wavs, torch.zeros(RATE), torch.ones(300), noise(wavs[0], 3)]).noise == examine(wavs).noise


def test_pauses_that_are_louder_than_the_speech_are_0_db_below():
    wav = speak(3)
    loud = 3 * torch.randn(len(wav), generator=torch.Generator().manual_seed(0)) * (wav == 0)
    assert examine([wav + loud]).noise == 0


@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_clip_of_another_speaker_is_named(anna, bert, place):
    assert examine([*anna[:place], bert, *anna[place:]]).outlier_clips == (f"{place}.wav",)
    assert examine([anna[0], bert, anna[1]]).outlier_clips == ("1.wav",)


@pytest.mark.parametrize("other", [{"hertz": 145}, {"tract": 0.8}], ids=["pitch", "vocal tract"])
def test_either_pitch_or_vocal_tract_gives_a_stranger_away(anna, other):
    assert examine([*anna, speak(4, seed=9, **other)]).outlier_clips == ("5.wav",)


def test_two_outliers_are_named_whether_alike_or_not(anna, bert):
    assert examine([bert, *anna, speak(4, hertz=220, tract=1.2, seed=10)]).outlier_clips == ("0.wav", "6.wav")
    assert examine([bert, *anna[:3], speak(4, hertz=90, tract=0.85, seed=10)]).outlier_clips == ("0.wav", "4.wav")


def test_a_stranger_inside_the_only_clip_is_found(anna):
    alone = torch.cat([*anna, *anna[:2]])
    assert examine([alone]).outlier_clips == ()
    bert = speak(9, hertz=80, tract=0.8, seed=9)
    assert examine([torch.cat([alone, bert, anna[0]])]).outlier_clips == ("0.wav",)
    assert examine([alone, bert]).outlier_clips == ("1.wav",)


def test_of_two_short_clips_none_is_the_stranger(anna):
    assert examine([speak(10, seed=3), speak(3, hertz=80, tract=0.8, seed=9)]).outlier_clips == ()


def test_what_is_too_short_to_judge_is_nobody(anna, bert):
    assert examine([*anna, bert[: RATE // 2], torch.zeros(RATE), bert[:100]]).outlier_clips == ()


def test_a_little_noise_makes_no_stranger(anna):
    wavs = [wav + noise(wav, 45) for wav in anna]
    assert examine([anna[0] + noise(anna[0], 30), *wavs[1:]]).outlier_clips == ()


def far(index):
    """Frames (frames, dim), each in the direction that its index names."""
    return torch.eye(100)[torch.tensor(index)]


def examine_frames(frames, lengths):
    return report.examine([torch.zeros(400)] * len(lengths), "abc", frames.split(lengths), Pool(frames, None, lengths))


def test_reach_is_the_95th_percentile_of_the_distance_to_the_nearest_other_frame():
    frames = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    lengths = [120, 180]
    cosine = torch.nn.functional.cosine_similarity(frames[:, None], frames, dim=2)
    place = torch.arange(300)
    near = (place[:, None] - place).abs() <= 25
    near[:120, 120:] = near[120:, :120] = False
    expected = 1 - cosine.masked_fill(near, -9).amax(1)
    assert examine_frames(frames, lengths).distance_p95 == pytest.approx(float(expected.quantile(0.95)), abs=1e-6)
    assert examine_frames(frames.half(), lengths).distance_p95 == pytest.approx(
        float(expected.quantile(0.95)), abs=2e-3
    )
    assert examine_frames(7 * frames, lengths).distance_p95 == pytest.approx(float(expected.quantile(0.95)), abs=1e-6)


def test_frames_near_in_time_do_not_count_as_others():
    held = [step // 20 for step in range(1000)]  # every frame lasts 20, and comes nowhere else
    assert examine_frames(far(held), [1000]).distance_p95 == 1
    assert examine_frames(far(held[:500] + held[:500]), [1000]).distance_p95 == 0
    assert examine_frames(far([0] * 10 + [0] * 10), [10, 10]).distance_p95 == 0
    assert examine_frames(far([0] * 10 + [1] * 10), [10, 10]).distance_p95 == 1


@pytest.mark.parametrize("frames", [1, 2, 26])
def test_what_a_tiny_pool_covers_is_unknown(frames):
    found = examine_frames(torch.randn(frames, 4, generator=torch.Generator().manual_seed(0)), [frames])
    assert found.distance_p95 == 0
    assert report.coverage(torch.ones(5), found) is None


def test_coverage_is_the_share_of_frames_beyond_the_reach():
    distance = torch.tensor([0.1, 0.2, 0.3, 0.4, math.nan])
    assert report.coverage(distance, replace(GOOD, distance_p95=0.25)) == 0.5
    assert report.coverage(distance, replace(GOOD, distance_p95=0.5)) == 0
    assert report.coverage(distance, None) is None
    assert report.coverage(distance[4:], GOOD) is None
    assert report.coverage(torch.empty(0), GOOD) is None


def test_a_voice_covers_its_like_and_not_what_is_foreign_to_it():
    generator = torch.Generator().manual_seed(0)
    pool, like = (
        torch.randn(5000, 6, generator=generator) + 2 for _ in range(2)
    )  # more than the distance is measured on
    found = examine_frames(pool, [5000])
    share = report.coverage(Pool(pool).nearest(like, 1).distance[:, 0], found)
    assert 0.03 < share < 0.07
    assert report.coverage(Pool(pool).nearest(-like, 1).distance[:, 0], found) > 0.95


def voice(seconds=60.0, findings=GOOD, clips=1, **other):
    frames = round(50 * seconds)
    origins = tuple(Origin(f"{n}.wav", "ab", seconds / clips, frames // clips) for n in range(clips))
    pitch = PitchRange(200.0, 150.0, 300.0, 0.6)
    return Voice(
        **{"frames": torch.ones(frames, 4).half(), "spec": SPEC, "name": "anna", "origins": origins}
        | {"pitch": pitch, "findings": findings, "note": "CC0"}
        | other
    )


EDGES = [(0.5, "poor"), (9.98, "poor"), (10, "fair"), (29.98, "fair"), (30, "good"), (299.98, "good"), (300, "best")]


@pytest.mark.parametrize(("seconds", "word"), EDGES)
def test_the_band_follows_the_minutes(seconds, word):
    for findings in (GOOD, None):
        found, sentence = report.band(voice(seconds, findings))
        assert found == word
        assert sentence.startswith(f"{word}: a prediction of intelligibility and similarity to anna from")
        assert "warnings" not in sentence


FLAWS = {
    "clipped": (Findings(0.01, 40.0, (), 0.2), "anna is clipped (1.00% of the samples); record it again at a lower"),
    "noisy": (
        Findings(0.0, 19.9, (), 0.2),
        "anna is noisy (its pauses are only 19 dB below the speech, and should be at least 20 dB",
    ),
    "stranger": (Findings(0.0, 40.0, ("1.wav",), 0.2), "parts of '1.wav' sound unlike the rest of anna: another"),
    "all": (Findings(0.01, 3.0, ("1.wav", "2.wav"), 0.2), "parts of '1.wav', '2.wav' sound unlike"),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_is_told_with_its_cure_and_lowers_the_band_by_one(flaw):
    findings, sentence = FLAWS[flaw]
    flawed = voice(60, findings, clips=3)
    told = report.warnings(flawed)
    assert any(each.startswith(sentence) for each in told)
    assert len(told) == (3 if flaw == "all" else 1)
    for each in told:
        assert each.endswith(".")
        assert each.count(". ") == 0  # one sentence
        assert "; " in each  # with a cure behind it
    word, why = report.band(flawed)
    assert word == "fair"
    assert "its defects (see the warnings)" in why
    assert report.band(voice(5, findings))[0] == "poor"


def test_a_good_voice_gets_no_warning():
    assert report.warnings(voice(30)) == []
    assert report.warnings(voice(30, Findings(report.CLIPPED * 0.99, None, (), 0.2))) == []
    assert report.warnings(voice(30, Findings(0.0, 20.0, (), 0.2))) == []


@pytest.mark.parametrize(("seconds", "told"), [(0.5, "0.5 s"), (12, "12 s"), (29.98, "29.9 s")])
def test_a_short_voice_is_told_that_more_helps(seconds, told):
    expected = f"anna has only {told} of speech; more, at least 30 s and ideally 5 minutes, helps most."
    assert report.warnings(voice(seconds)) == [expected]


def test_a_voice_in_which_nothing_is_voiced_gets_a_warning():
    silent = voice(60, pitch=None)
    assert [each[:33] for each in report.warnings(silent)] == ["anna has no voiced speech; enroll"]
    assert report.band(silent)[0] == "fair"


def test_many_outliers_are_counted_and_the_only_clip_is_compared_with_itself():
    names = tuple(f"{n}.wav" for n in range(7))
    told = report.warnings(voice(70, replace(GOOD, outlier_clips=names), clips=7))
    assert told[0].startswith("parts of '0.wav', '1.wav', '2.wav', '3.wav', '4.wav' and 2 more sound")
    told = report.warnings(voice(70, replace(GOOD, outlier_clips=("0.wav",))))
    assert told[0].startswith("parts of '0.wav' sound unlike the rest of it: ")


def test_a_description_is_json_and_says_it_all():
    described = report.describe(voice(90, Findings(0.01, None, ("1.wav",), 0.2), clips=2))
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert described["name"] == "anna"
    assert (described["seconds"], described["minutes"], described["frames"], described["dim"]) == (90, 1.5, 4500, 4)
    assert described["clips"] == 2
    assert described["origins"][1] == {"name": "1.wav", "sha256": "ab", "seconds": 45, "frames": 2250}
    assert described["spec"] == asdict(SPEC)
    assert described["made_by"] is None
    assert described["pitch"] == {"median": 200, "low": 150, "high": 300, "voiced": 0.6}
    assert described["findings"] == {"clipped": 0.01, "noise": None, "outlier_clips": ["1.wav"], "distance_p95": 0.2}
    assert described["band"]["word"] == "fair"
    assert described["band"]["sentence"] == report.band(voice(90, Findings(0.01, 30, ("1.wav",), 0.2)))[1]
    assert len(described["warnings"]) == 2
    assert described["note"] == "CC0"


def test_a_voice_of_which_little_is_known_is_described_too():
    bare = Voice(torch.ones(1500, 4).half(), SPEC)
    described = report.describe(bare)
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert (described["clips"], described["origins"], described["findings"]) == (0, [], None)
    synthetic = replace(bare, synthesis=torch.ones(1500, 3), synthesis_spec={"kind": "world"})
    assert report.describe(synthetic)["made_by"] == {"kind": "world"}
