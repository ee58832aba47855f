"""A linear probe finds what features contain, and nothing else, whatever their scale."""

import numpy as np
import pytest
import soundfile
import torch

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.data.manifest import Clip
from pretrain.probing import probe, probe_features
from pretrain.probing.probe import LinearProbe, ProbeConfig, chance_levels, phone_accuracy, speaker_accuracy
from pretrain.probing.probe_features import (
    baseline_representations,
    extract_probe_features,
    layer_representations,
    log_mel,
    sample_clips,
)

PHONES, DIM = 6, 16


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def numbers(count, below, seed=0):
    return torch.randint(below, (count,), generator=torch.Generator().manual_seed(seed))


def said(phones, seed=0, noise=0.3):
    """Frames that tell their phones."""
    return random(PHONES, DIM, seed=99)[phones] + noise * random(len(phones), DIM, seed=seed)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return SpeechEncoder(EncoderConfig.tiny(dim=32, conv_dim=32, depth=2, heads=2, ffn_dim=32, pos_groups=2)).eval()


@pytest.fixture
def clips(tmp_path, speech):
    made = []
    for number, seconds in enumerate((1.0, 0.5, 1.37, 0.7)):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, speech(seconds, text=number).numpy(), 16_000, subtype="FLOAT")
        made.append(Clip(path.name, path, seconds, f"speaker {number % 2}"))
    return made


class Alignments(dict):
    """One phone for each clip; longer than any of them."""

    symbols = ("SIL", "AA")


def test_what_a_line_divides_is_found():
    train, test = numbers(3000, PHONES), numbers(1000, PHONES, seed=1)
    found = phone_accuracy((said(train), train), (said(test, seed=2), test), PHONES)
    assert found.all_frames > 0.99
    assert found.speech > 0.99


def test_what_is_not_there_is_not_found():
    train, test = numbers(3000, PHONES), numbers(3000, PHONES, seed=1)
    shuffled = train[torch.randperm(3000, generator=torch.Generator().manual_seed(3))]
    found = phone_accuracy((said(train), shuffled), (said(test, seed=2), test), PHONES)
    assert found.all_frames == pytest.approx(1 / PHONES, abs=0.06)


def test_silence_is_counted_apart():
    """Where silence is all that can be told, speech stays at guessing."""
    train, test = ((numbers(4000, 2, seed) * (1 + numbers(4000, PHONES - 1, seed + 9))) for seed in (0, 1))
    frames = [torch.stack([(phones == 0).float(), random(4000)], 1) for phones in (train, test)]
    found = phone_accuracy((frames[0], train), (frames[1], test), PHONES)
    assert found.speech == pytest.approx(1 / (PHONES - 1), abs=0.05)
    assert found.all_frames == pytest.approx((1 + found.speech) / 2, abs=0.03)


def test_scale_and_directions_do_not_matter():
    """Channels of very different size, nearly dependent on each other, one constant: as layers have them."""
    train, test = numbers(3000, PHONES), numbers(1000, PHONES, seed=1)
    plain = [said(train, noise=2.0), said(test, seed=2, noise=2.0)]
    mixed = random(DIM, DIM, seed=5) * torch.logspace(-3, 3, DIM)
    strange = [torch.cat([frames @ mixed + 10, torch.full((len(frames), 1), 7.0)], 1) for frames in plain]
    first, second = (
        phone_accuracy((frames[0], train), (frames[1], test), PHONES).all_frames for frames in (plain, strange)
    )
    assert 0.6 < first < 0.95
    assert second == pytest.approx(first, abs=0.02)


def test_updates_suffice(monkeypatch):
    train = numbers(3000, PHONES)
    frames = said(train, noise=1.5) @ (random(DIM, DIM, seed=5) * torch.logspace(-1, 1, DIM))
    few = LinearProbe(frames, train, PHONES)
    monkeypatch.setattr(probe, "UPDATES", 1000)
    many = LinearProbe(frames, train, PHONES)
    assert (few(frames) == many(frames)).float().mean() > 0.995
    assert torch.allclose(few.weights, many.weights, atol=0.02 * many.weights.abs().max())


def test_only_so_many_frames_and_always_the_same(monkeypatch):
    monkeypatch.setattr(probe, "MAX_FRAMES", 500)
    train = numbers(3000, PHONES)
    made = [LinearProbe(said(train, noise=1.0), train, PHONES, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(made[0].weights, made[1].weights)
    assert (made[0].mean - made[2].mean).abs().max() > 1e-3  # of others


def spoken(offset, counts=(50,) * 24, people=6):
    """Frames of clips of some speakers, who differ by an offset of this size, and who spoke."""
    speakers = torch.arange(len(counts)) % people
    phones = numbers(sum(counts), PHONES)
    frames = said(phones) + offset * random(people, DIM, seed=7)[speakers].repeat_interleave(torch.tensor(counts), 0)
    return frames, counts, speakers


def test_a_speaker_is_found_until_the_layer_forgets():
    close, far = speaker_accuracy(*spoken(0.0)), speaker_accuracy(*spoken(2.0))
    assert far.clips == 1
    assert far.frames > 0.95
    assert close.clips < 0.45
    assert close.frames == pytest.approx(1 / 6, abs=0.06)


def test_speakers_of_one_clip_do_not_count():
    frames, counts, speakers = spoken(2.0)
    alone = torch.cat([speakers, torch.tensor([6, 7])])
    more = torch.cat([frames, random(80, DIM, seed=8)])
    assert speaker_accuracy(more, (*counts, 30, 50), alone) == speaker_accuracy(frames, counts, speakers)
    assert speaker_accuracy(frames[:100], (50, 50), torch.tensor([0, 1])) is None
    assert speaker_accuracy(frames[:100], (50, 50), torch.tensor([0, 0])) is None


def test_clips_come_from_all_speakers_alike():
    clips = [Clip(f"{n}", f"{n}.wav", 6.0, "many" if n < 90 else f"few {n % 5}") for n in range(100)]
    chosen = sample_clips(clips, 1.2)
    assert len(chosen) == 12
    counts = {name: sum(clip.speaker == name for clip in chosen) for name in {clip.speaker for clip in clips}}
    assert sorted(counts.values()) == [2] * 6
    assert chosen == sample_clips(clips, 1.2)
    assert chosen != sample_clips(clips, 1.2, seed=1)
    assert len(sample_clips(clips, 1000)) == 100


@pytest.mark.parametrize("samples", [400, 719, 720, 1039, 1040, 1199, 1200, 16_000])
def test_baselines_stand_where_the_encoder_stands(encoder, samples):
    wav = random(samples)
    count = encoder.num_frames(samples)
    assert {name: tuple(frames.shape) for name, frames in baseline_representations(wav).items()} == {
        "mfcc": (count, 39),
        "log-mel": (count, 80),
    }
    assert torch.allclose(baseline_representations(wav)["log-mel"][:, : probe_features.BANDS], log_mel(wav), atol=1e-3)


def test_a_log_mel_frame_covers_the_samples_of_an_encoder_frame():
    wav = 0.1 * random(4000)
    for frame in (0, 4, 11):
        other = torch.zeros(4000)
        other[320 * frame :][:400] = wav[320 * frame :][:400]
        assert torch.allclose(log_mel(other)[frame], log_mel(wav)[frame], atol=1e-3)
    assert torch.allclose(log_mel(10 * wav), log_mel(wav) + 20, atol=1e-2)  # it is in dB


def test_frames_come_back_from_disk(tmp_path, encoder, clips, caplog):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    phones = Alignments({clip.key: np.full(200, number) for number, clip in enumerate(clips)} | {"bad.wav": np.ones(9)})
    listed = [clips[0], Clip("bad.wav", tmp_path / "bad.wav", 1.0), *clips[1:]]
    found = extract_probe_features(
        listed, phones, [baseline_representations, layer_representations(encoder, [0, 2])], tmp_path / "frames"
    )
    assert "bad.wav" in caplog.text
    assert found.clips == clips
    assert found.dims == {"mfcc": 39, "log-mel": 80, "layer 0": 32, "layer 2": 32}
    assert found.speakers.tolist() == [0, 1, 0, 1]
    for number, (clip, frames) in enumerate(zip(clips, found.frames("layer 2").split(found.counts), strict=True)):
        wav = torch.from_numpy(soundfile.read(clip.path, dtype="float32")[0])
        with torch.no_grad():
            assert torch.allclose(frames, encoder.layers(wav[None])[2][0], rtol=2e-3, atol=2e-3)
        assert found.phones.split(found.counts)[number].unique().tolist() == [number]
    assert chance_levels(found)["silence"] == found.counts[0] / sum(found.counts)
    assert chance_levels(found)["speakers"] == 0.5


def test_long_clips_are_cut(tmp_path, clips, monkeypatch):
    monkeypatch.setattr(probe_features, "MAX_SAMPLES", 8000)
    phones = Alignments({clip.key: np.zeros(200) for clip in clips})
    assert extract_probe_features(clips, phones, [baseline_representations], tmp_path / "frames").counts == [24] * 4


def test_no_readable_clip_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no clip could be read"):
        extract_probe_features([], Alignments(), [baseline_representations], tmp_path)


def test_wrong_settings_are_refused(encoder):
    with pytest.raises(ValueError, match="layers 0 to 2"):
        layer_representations(encoder, [0, 3])
    with pytest.raises(ValueError, match="test_minutes is 0"):
        ProbeConfig(clips="speech", test_minutes=0)
    with pytest.raises(ValueError, match="both 'dev'"):
        ProbeConfig(clips="speech", train_split="dev", test_split="dev")
