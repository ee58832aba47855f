"""Conversion keeps the phones where frames tell them in every voice, and loses them where they tell the speaker."""

import pytest
import torch

from ssl_vc.evaluate.self_conversion import LabelledClip, majority_phone, self_conversion

PHONES, DIM = 8, 32


def clip(speaker, seed, shift=0.0, frames=60, noise=0.1):
    """Frames that tell their phones, shifted by who speaks; the mel is the phone's own."""
    generator = torch.Generator().manual_seed(seed)
    phones = torch.randint(PHONES, (frames,), generator=generator)
    centres = torch.randn(PHONES, DIM, generator=torch.Generator().manual_seed(99))
    mel = 10.0 * phones[:, None].expand(-1, 5)
    return LabelledClip(
        speaker, centres[phones] + shift + noise * torch.randn(frames, DIM, generator=generator), phones, mel
    )


def test_the_same_sound_keeps_everything():
    first = clip("anna", 0)
    found = self_conversion([first, clip("anna", 0)], k=1)
    assert found.kept == 1
    assert found.distance == 0
    assert found.clips == 2
    assert (found.kept_across, found.clips_across) == (None, 0)


def test_phones_that_all_say_alike_are_kept_across():
    clips = [clip(speaker, seed) for seed, speaker in enumerate(["anna", "anna", "bert", "bert"])]
    found = self_conversion(clips)
    assert found.kept == found.kept_across == 1
    assert found.clips == found.clips_across == 4


def test_a_speaker_in_the_frames_costs_phones_only_across():
    clips = [clip("anna", seed, shift=0.0) for seed in range(3)]
    turned = [clip("bert", seed)._replace(frames=clip("bert", seed).frames.flip(1)) for seed in range(3, 6)]
    found = self_conversion([*clips, *turned])
    assert found.kept == 1
    assert found.kept_across < 0.5


def test_noise_keeps_what_chance_keeps():
    clips = [clip(speaker, seed, noise=100, frames=300) for seed, speaker in enumerate("aabb")]
    found = self_conversion(clips)
    assert found.kept == pytest.approx(1 / PHONES, abs=0.05)
    assert found.kept_across == pytest.approx(1 / PHONES, abs=0.05)
    assert found.distance > 10


def test_silence_does_not_count():
    """Speech is lost, silence kept: only the first is told. A clip of silence tells nothing."""
    clips = [clip("anna", seed, noise=100, frames=300) for seed in range(2)]
    clips = [each._replace(frames=each.frames + 1e4 * (each.phones == 0)[:, None]) for each in clips]
    found = self_conversion([*clips, clips[0]._replace(phones=torch.zeros_like(clips[0].phones))])
    assert found.clips == 2
    assert found.kept < 0.6


def test_the_mean_is_over_clips():
    """Three clips of one frame each: two say alike, one says something else."""
    one = torch.ones(1, 2)
    clips = [LabelledClip("anna", one, torch.tensor([phone]), torch.zeros(1, 3)) for phone in (1, 1, 2)]
    assert self_conversion(clips, k=1).kept is not None
    found = self_conversion([*clips[:2], clips[2]._replace(mel=torch.full((1, 3), 6.0))], k=2)
    assert found.distance == pytest.approx((3 + 3 + 6) / 3)


def test_the_commonest_wins_and_of_equals_the_nearest():
    found = majority_phone(torch.tensor([[5, 3, 3, 1], [4, 7, 7, 4], [7, 4, 4, 7], [9, 2, 8, 1]]))
    assert found.tolist() == [3, 4, 7, 9]
