"""Alignment: the best way there is, by trying all; the truth where it is known; rows as if they were alone."""

import itertools
import time

import pytest
import torch

from ssl_vc.tts.align import durations, spread


def best_by_trying(fit):
    """Give the lengths that fit best, of all there are."""
    symbols, frames = fit.shape
    found = None
    for cuts in itertools.combinations(range(1, frames), symbols - 1):
        edges = (0, *cuts, frames)
        total = sum(float(fit[n, edges[n] : edges[n + 1]].sum()) for n in range(symbols))
        if found is None or total > found[0]:
            found = total, [edges[n + 1] - edges[n] for n in range(symbols)]
    return found[1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 3), (2, 7), (4, 9)])
def test_no_other_way_fits_better(shape):
    generator = torch.Generator().manual_seed(sum(shape))
    for _ in range(20):
        fit = torch.randn(shape, generator=generator)
        (lengths,) = durations(fit[None], torch.tensor([shape[0]]), torch.tensor([shape[1]])).tolist()
        assert lengths == best_by_trying(fit)


def test_the_truth_is_found_through_noise():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(1, 9, (1, 40), generator=generator)
    means = torch.randn(1, 40, 8, generator=generator)
    frames = spread(means, truth)
    frames = frames + 0.5 * torch.randn(frames.shape, generator=generator)
    found = durations(-torch.cdist(means, frames).square(), torch.tensor([40]), truth.sum(1))
    assert float((found != truth).float().mean()) < 0.2
    assert float((found.cumsum(1) - truth.cumsum(1)).abs().float().mean()) < 0.2


def test_rows_do_not_know_each_other():
    generator = torch.Generator().manual_seed(0)
    fit = torch.randn(3, 6, 20, generator=generator)
    symbols, frames = torch.tensor([6, 3, 1]), torch.tensor([20, 11, 5])
    together = durations(fit, symbols, frames)
    for row in range(3):
        alone = fit[row : row + 1, : symbols[row], : frames[row]]
        lengths = durations(alone, symbols[row : row + 1], frames[row : row + 1])
        assert torch.equal(together[row, : symbols[row]], lengths[0])
        assert int(together[row].sum()) == int(frames[row]) and not together[row, symbols[row] :].any()


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match="fewer frames than symbols"):
        durations(torch.zeros(1, 4, 3), torch.tensor([4]), torch.tensor([3]))


def test_spread():
    symbols = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [0.0]]])
    lengths = torch.tensor([[2, 1, 3], [1, 2, 0]])
    assert spread(symbols, lengths)[..., 0].tolist() == [[1, 1, 2, 3, 3, 3], [4, 5, 5, 0, 0, 0]]


def test_it_is_fast():
    """16 sentences of 100 symbols and 10 s: a fraction of a second."""
    fit = torch.randn(16, 100, 500)
    start = time.perf_counter()
    durations(fit, torch.full((16,), 100), torch.full((16,), 500))
    assert time.perf_counter() - start < 1.0
