"""A copy jumps as its original does, more if its frames come from anywhere, less if they are smoothed."""

import math

import pytest
import torch
import torch.nn.functional as F

from ssl_vc.evaluate import spectral
from ssl_vc.evaluate.continuity import jumpiness
from vocoder.griffin_lim import GriffinLim
from vocoder.mel import Mel

RATE = 16_000


@pytest.fixture(scope="module")
def voice(speech):
    return speech(4.0, text=3)


def test_a_copy_is_as_smooth_as_its_original(voice):
    assert jumpiness(voice, voice) == 1
    copy = GriffinLim(Mel())(Mel()(voice[None]))[0]
    assert jumpiness(voice, copy) == pytest.approx(1, abs=0.07)


def test_frames_from_anywhere_jump(voice):
    pieces = torch.stack(voice.split(320))
    order = torch.randperm(len(pieces), generator=torch.Generator().manual_seed(0))
    everything = jumpiness(voice, pieces[order].flatten())
    assert everything > 1.5
    kept = torch.arange(len(pieces))
    kept[::10] = order[::10]
    assert 1.05 < jumpiness(voice, pieces[kept].flatten()) < everything


def test_smoothed_frames_do_not(voice):
    frames = Mel()(voice[None]).mT
    smooth = F.avg_pool1d(F.pad(frames, (3, 3), mode="replicate"), 7, 1).mT
    assert jumpiness(voice, GriffinLim(Mel())(smooth)[0]) < 0.8


def test_level_length_and_a_quiet_room_do_not_count(voice):
    assert jumpiness(voice, 0.05 * voice) == pytest.approx(1, abs=0.001)
    assert jumpiness(voice, torch.cat([voice, voice])) == pytest.approx(1, abs=0.03)
    noise = 1e-4 * torch.randn(len(voice), generator=torch.Generator().manual_seed(0))
    assert jumpiness(voice, voice + noise) == pytest.approx(1, abs=0.01)


def test_another_voice_saying_the_same_is_as_smooth(voice, speech):
    assert jumpiness(voice, speech(4.0, pitch=190.0, size=1.15, text=3)) == pytest.approx(1, abs=0.15)


def test_long_sounds_are_measured_in_blocks(voice, monkeypatch):
    whole = jumpiness(voice, voice.flip(0))
    monkeypatch.setattr(spectral, "BLOCK", RATE)
    assert jumpiness(voice, voice.flip(0)) == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize("wav", [torch.zeros(RATE), torch.zeros(0), torch.full((700,), 0.1), torch.full((40,), 0.1)])
def test_what_does_not_move_has_none(wav, voice):
    assert jumpiness(voice, wav) is jumpiness(wav, voice) is jumpiness(wav, wav) is None


def test_silence_that_is_not_digital_has_none(voice):
    hiss = 2e-5 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    assert jumpiness(voice, hiss) is jumpiness(hiss, voice) is None


def test_sound_of_three_frames_is_a_number(voice):
    assert math.isfinite(jumpiness(voice[:960], voice[960:1920]))
