"""Other channels: what one may do to a clip, and what it may not."""

import numpy as np
import pytest

from pretrain.data.batch import Collator
from pretrain.data.channel import GAIN_STD, KNOTS, LEVEL, random_channel
from pretrain.data.manifest import Clip
from pretrain.objectives.protocol import Settings
from pretrain.training.config import TrainConfig

WAV = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)


def spectrum(wav):
    """Give the power (16 bands of 500 Hz,) in dB."""
    power = np.square(np.abs(np.fft.rfft(wav))[1:]).reshape(16, -1).mean(axis=1)
    return 10 * np.log10(power)


def test_a_channel_changes_level_and_timbre_within_its_bounds():
    changes = [spectrum(random_channel(WAV, np.random.default_rng(seed))) - spectrum(WAV) for seed in range(200)]
    changes = np.array(changes)
    whole = changes[changes[:, -1] > -LEVEL - 4 * GAIN_STD]  # those that keep what is above
    levels = whole[:, :6].mean(axis=1)
    assert levels.std() == pytest.approx((LEVEL**2 / 3 + GAIN_STD**2 / KNOTS) ** 0.5, rel=0.35)
    assert (whole < LEVEL + 4 * GAIN_STD).all()
    assert np.median(whole.std(axis=1)) > 2  # the timbre, not only the level


def test_a_third_of_the_channels_end_below_8_khz():
    lost = [
        spectrum(random_channel(WAV, np.random.default_rng(seed)))[-1] < spectrum(WAV)[-1] - 40 for seed in range(300)
    ]
    assert 0.2 < np.mean(lost) < 0.4


def test_a_channel_delays_nothing_and_is_drawn_by_the_generator():
    click = np.zeros(4001, np.float32)
    click[2000] = 1
    for seed in range(20):
        heard = random_channel(click, np.random.default_rng(seed))
        assert heard.shape == click.shape and heard.dtype == np.float32
        assert abs(int(np.abs(heard).argmax()) - 2000) <= 1
        assert np.allclose(heard[1990:2001], heard[2000:2011][::-1], atol=1e-5)  # the same before as after
    assert np.array_equal(*(random_channel(WAV, np.random.default_rng(3)) for _ in range(2)))


def test_clips_come_through_channels_in_training_only():
    labels = {"a": np.zeros(99, np.int64)}
    for training, share, changed in ((True, 1.0, True), (True, 0.0, False), (False, 1.0, False)):
        make = Collator([labels], Settings().prepare, longest=2.0, channel=share, training=training)
        batch = make([(Clip("a", None, 2.0), WAV)], [np.random.default_rng(0)])
        assert batch.wav.shape == (1, 32_000)
        assert np.array_equal(batch.wav[0].numpy(), WAV) != changed


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"channel is .* 0 to 1"):
        TrainConfig(channel=share)
