import logging

import numpy as np
import pytest
import soundfile

from pretrain.data.manifest import Clip
from pretrain.data.mixing import NoiseBank, mix

ALWAYS = {"probability": 1.0}


def clips(number=4, samples=2000, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=samples) * 10 ** rng.uniform(-2, 0)).astype(np.float32) for _ in range(number)]


def mixed(wavs, number=100, **settings):
    """Yield what was added to each clip, for many batches."""
    rng = np.random.default_rng(1)
    for _ in range(number):
        yield [new - old for new, old in zip(mix(wavs, rng, **settings), wavs, strict=True)]


def decibels(power):
    return 10 * np.log10(power)


def test_the_part_is_a_half_at_most_and_anywhere():
    lengths, starts, ends = [], [], []
    for added in mixed(clips(samples=400), number=500, **ALWAYS):
        for sound in added:
            (where,) = sound.nonzero()
            lengths.append(len(where))
            if len(where):
                starts.append(where[0])
                ends.append(where[-1])
                assert where[-1] - where[0] + 1 == len(where)
    assert max(lengths) == 200
    assert min(lengths) == 0
    assert np.isclose(np.mean(lengths), 100, atol=6)
    assert min(starts) == 0
    assert max(ends) == 399


def test_how_loud_it_is_follows_from_the_whole_clips():
    """Of sounds of constant power, what is added is as loud as asked."""
    rng = np.random.default_rng(0)
    wavs = [(scale * rng.choice([-1, 1], 4000)).astype(np.float32) for scale in (0.5, 0.01, 0.1)]
    louder = [
        decibels(np.mean(wav**2) / np.mean(sound[sound != 0] ** 2))
        for added in mixed(wavs, 300, speech_db=(-3, 8), **ALWAYS)
        for wav, sound in zip(wavs, added, strict=True)
        if sound.any()
    ]
    assert -3.01 < min(louder) < -2.8
    assert 7.8 < max(louder) < 8.01
    assert np.isclose(np.mean(louder), 2.5, atol=0.5)


def test_pauses_count_for_the_power():
    """A partner that is half silent adds a loud part of twice its mean power."""
    loud = np.ones(4000, np.float32)
    paused = np.concatenate([np.zeros(2000, np.float32), np.ones(2000, np.float32)])
    peaks = [abs(added[0]).max() for added in mixed([loud, paused], 200, speech_db=(0, 0), **ALWAYS)]
    assert np.isclose(max(peaks), 2**0.5)


def test_the_share_of_clips_that_are_mixed():
    share = np.mean([sound.any() for added in mixed(clips(8), 500, probability=0.2) for sound in added])
    assert np.isclose(share, 0.2, atol=5 * (0.2 * 0.8 / 4000) ** 0.5)
    assert not any(sound.any() for added in mixed(clips(), probability=0.0) for sound in added)


def test_partners_are_other_unmixed_clips():
    """What is added to a row is a multiple of another row's own sound; from a mixed row it would be of several."""
    wavs = [np.full(1000, row + 1, np.float32) * np.sin(np.arange(1000) * (row + 1) / 7) for row in range(4)]
    wavs = [wav.astype(np.float32) for wav in wavs]
    partners = np.zeros((4, 4))
    for added in mixed(wavs, 200, **ALWAYS):
        for row, sound in enumerate(added):
            (where,) = sound.nonzero()
            if len(where) < 100:
                continue
            piece = sound[where[0] : where[-1] + 1]
            piece = piece / np.linalg.norm(piece)
            pieces = [np.lib.stride_tricks.sliding_window_view(wav, len(piece)) for wav in wavs]
            likeness = [abs(some @ piece / np.linalg.norm(some, axis=1)).max() for some in pieces]
            assert max(likeness) > 0.9999
            partners[row, np.argmax(likeness)] += 1
    assert not partners.diagonal().any()
    assert (partners + np.eye(4) > 0).all()


def test_clips_stay_as_they_are():
    wavs = clips()
    before = [wav.copy() for wav in wavs]
    new = mix(wavs, np.random.default_rng(0), **ALWAYS)
    assert all((old == wav).all() for old, wav in zip(before, wavs, strict=True))
    assert not any(np.shares_memory(a, b) for a, b in zip(new, wavs, strict=True))
    assert all(wav.dtype == np.float32 and wav.shape == (2000,) for wav in new)
    unmixed = mix(wavs, np.random.default_rng(0), probability=0.0)
    assert not any(np.shares_memory(a, b) for a, b in zip(unmixed, wavs, strict=True))


def test_a_generator_decides_what_is_mixed():
    first, again, other = (mix(clips(), np.random.default_rng(seed), **ALWAYS) for seed in (3, 3, 4))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_silence_and_lone_clips_add_nothing():
    loud, silent, empty = clips(1)[0], np.zeros(2000, np.float32), np.zeros(0, np.float32)
    for wavs in ([loud], [loud, silent], [loud, empty], [silent, loud], [empty, empty]):
        for added in mixed(wavs, 20, **ALWAYS):
            assert not any(sound.any() for sound in added)
            assert all(np.isfinite(sound).all() for sound in added)


def test_partners_may_be_shorter_or_longer():
    wavs = [clips(1, samples)[0] for samples in (50, 3000)]
    for short, long in mixed(wavs, 50, **ALWAYS):
        assert len(short.nonzero()[0]) <= 25
        assert len(long.nonzero()[0]) <= 50


def test_noise_takes_the_place_of_speech():
    asked = []

    def hum(rng, samples):
        asked.append(samples)
        return np.full(samples, 0.3, np.float32)

    wavs = [np.ones(1000, np.float32)] * 2
    settings = {"noises": hum, "noise_probability": 0.5, "speech_db": (0, 0), "noise_db": (20, 20), **ALWAYS}
    peaks = [sound.max() for added in mixed(wavs, 500, **settings) for sound in added if sound.any()]
    assert set(np.round(peaks, 4)) == {np.float32(1.0), np.float32(0.1)}
    assert np.isclose(np.mean(np.array(peaks) < 0.5), 0.5, atol=0.08)
    assert set(asked) == {1000}
    with pytest.raises(ValueError, match="without noise"):
        mix(wavs, np.random.default_rng(0), noise_probability=0.1)


@pytest.fixture
def recordings(tmp_path):
    """A second that rises from 0 to 0.5, three of a constant, and a file that is none."""
    rising = np.linspace(0, 0.5, 16_000, endpoint=False)
    for name, sound in (("rising", rising), ("constant", np.full(48_000, -0.5))):
        soundfile.write(tmp_path / f"{name}.wav", sound, 16_000, subtype="FLOAT")
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    return [Clip(name, tmp_path / f"{name}.wav", 1.0) for name in ("rising", "broken", "constant")]


def test_noises_are_pieces_of_recordings(recordings, caplog):
    noises = NoiseBank(recordings)
    assert noises.seconds == 4
    assert "1 clips left out: broken" in caplog.text
    rng = np.random.default_rng(0)
    pieces = [noises(rng, 4000) for _ in range(400)]
    assert all(piece.shape == (4000,) and piece.dtype == np.float32 for piece in pieces)
    rising = [piece for piece in pieces if piece[0] >= 0]
    assert np.isclose(len(rising) / len(pieces), 0.25, atol=0.1)  # a second of four
    assert all(np.allclose(np.diff(piece), 0.5 / 16_000, atol=4e-5) for piece in rising)  # none begins anew
    assert max(piece[0] for piece in rising) > 0.35
    assert all(np.allclose(piece, -0.5, atol=1e-4) for piece in pieces if piece[0] < 0)


def test_short_noises_begin_anew(recordings):
    piece = NoiseBank(recordings[:1])(np.random.default_rng(0), 40_000)
    assert len(piece) == 40_000
    assert np.allclose(piece[:24_000], piece[16_000:])
    assert ((np.diff(piece) < -0.4).sum()) in (2, 3)


def test_so_many_hours_of_noise_are_kept(recordings, caplog):
    caplog.set_level(logging.INFO)
    assert NoiseBank(recordings[::2], hours=0.5 / 3600).seconds == 0.5
    assert "up to constant" in caplog.text
    assert NoiseBank(recordings[::2], hours=2 / 3600).seconds == 2


def test_no_noise_is_refused(recordings):
    with pytest.raises(ValueError, match="none of 1 noise clips"):
        NoiseBank(recordings[1:2])
