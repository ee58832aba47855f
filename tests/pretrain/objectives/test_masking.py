import numpy as np
import pytest

from pretrain.objectives.masking import batch_span_masks, span_mask


def draws(number, *arguments, **settings):
    rng = np.random.default_rng(0)
    return np.stack([span_mask(*arguments, rng, **settings) for _ in range(number)])


def runs(mask):
    return np.diff(np.pad(mask, [(0, 0), (1, 0)]).astype(int)).clip(0).sum(1)


@pytest.mark.parametrize("frames", [20, 49, 250])
@pytest.mark.parametrize("length", [1, 3, 10])
def test_spans_are_whole_and_the_last_frame_is_seen(frames, length):
    mask = draws(200, frames, length=length)
    edges = np.diff(np.pad(mask, [(0, 0), (1, 1)]).astype(int))
    for row in edges:
        assert min(np.flatnonzero(row < 0) - np.flatnonzero(row > 0)) >= length
    assert not mask[:, -1].any()


def test_two_spans_at_least():
    starts_apart = draws(500, 40, probability=0.0, length=1)
    assert (starts_apart.sum(1) == 2).all()
    assert (draws(50, 40, probability=0.0, length=1, min_spans=5).sum(1) == 5).all()
    assert not draws(50, 40, probability=0.0, min_spans=0).any()


def test_as_many_spans_as_the_probability_says_on_average():
    """0.8 * 33 / 1 = 26.4: 26 or 27 frames, 27 in four of ten."""
    counts = draws(4000, 33, length=1).sum(1)
    assert set(counts) == {26, 27}
    assert np.isclose(counts.mean(), 26.4, atol=0.03)


@pytest.mark.parametrize("frames", range(21))
def test_short_clips_are_masked_in_part(frames):
    mask = draws(300, frames)
    masked = mask.sum(1)
    if frames < 2:
        assert (masked == frames).all()
    else:
        assert (masked > 0).all()
        assert (masked < frames).all()
    if frames > 3:
        assert 0.4 < mask.mean() <= 0.75


def test_a_generator_decides():
    assert (draws(5, 100) == draws(5, 100)).all()
    assert (draws(2, 100)[0] != draws(2, 100)[1]).any()


@pytest.mark.parametrize("wrong", [{"probability": 1.5}, {"probability": -1}, {"length": 0}, {"min_spans": -1}])
def test_impossible_masks_are_refused(wrong):
    with pytest.raises(ValueError, match="give a probability from 0 to 1"):
        span_mask(100, np.random.default_rng(0), **wrong)


@pytest.mark.parametrize("probability", [0.8, 0.65])
@pytest.mark.parametrize("frames", [100, 250, 780])
def test_statistics_are_the_published_ones(golden, probability, frames):
    case = golden("compute_mask_indices_stats")
    names, number = ("mean", "se", "std", "runs", "profile"), case.config["draws"]
    theirs = {name: case.output[f"p{probability}.T{frames}.{name}"].numpy() for name in names}
    mask = draws(number, frames, probability=probability)
    share = mask.mean(1)
    assert abs(share.mean() - theirs["mean"]) <= 5 * np.hypot(theirs["se"], share.std() / number**0.5)
    assert abs(share.mean() / theirs["mean"] - 1) < 0.01
    assert abs(share.std() / theirs["std"] - 1) < 5 * number**-0.5  # a deviation's own error is 1 / sqrt(2 n)
    assert abs(runs(mask).mean() / theirs["runs"] - 1) < 0.02
    error = (2 * theirs["profile"] * (1 - theirs["profile"]) / number) ** 0.5
    assert (abs(mask.mean(0) - theirs["profile"]) <= 5 * error).all()


def batch(golden, number, **settings):
    total = golden("compute_mask_indices_stats").config["T"][1]
    counts = [total - padding for padding in (0, total // 5, total // 3, total // 2)]
    rngs = [np.random.default_rng(seed) for seed in range(len(counts))]
    return counts, np.stack([batch_span_masks(counts, total, rngs, **settings) for _ in range(number)])


def test_each_clip_of_a_batch_has_its_own_share(golden):
    theirs = golden("compute_mask_indices_stats").output["batch.mean_nosame"].numpy()
    counts, masks = batch(golden, 2000)
    for row, (count, mean) in enumerate(zip(counts, theirs, strict=True)):
        share = masks[:, row, :count].mean(1)
        assert not masks[:, row, count:].any()
        assert abs(share.mean() - mean) <= 5 * share.std() * (1 / 500 + 1 / 2000) ** 0.5


def test_or_all_have_as_few_as_the_one_with_the_fewest(golden):
    theirs = golden("compute_mask_indices_stats").output["batch.counts"].numpy()
    counts, masks = batch(golden, 500, equal_counts=True)
    ours = masks.sum(2)
    assert (ours == ours[:, :1]).all()
    assert not any(masks[:, row, count:].any() for row, count in enumerate(counts))
    assert abs(ours[:, 0].mean() - theirs[:, 0].mean()) <= 5 * theirs[:, 0].std() * (2 / 500) ** 0.5


def test_a_mask_does_not_depend_on_the_rest_of_the_batch():
    alone = batch_span_masks([60], 60, [np.random.default_rng(7)])
    among = batch_span_masks([90, 60], 100, [np.random.default_rng(1), np.random.default_rng(7)])
    assert (among[1, :60] == alone[0]).all()
    assert batch_span_masks([], 0, [], equal_counts=True).shape == (0, 0)
