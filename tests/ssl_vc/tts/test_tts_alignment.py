"""Monotonic alignment search: against brute force, against known durations, and each row as if alone."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_vc.tts.alignment import monotonic_alignment_search
from ssl_vc.tts.duration import repeat_by_duration


class Counter(TorchDispatchMode):
    """Counts tensor operations."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        return function(*args, **(kwargs or {}))


def brute_force(scores):
    """Returns the durations of the highest score among all alignments."""
    symbols, frames = scores.shape
    found = None
    for cuts in itertools.combinations(range(1, frames), symbols - 1):
        edges = (0, *cuts, frames)
        total = sum(float(scores[n, edges[n] : edges[n + 1]].sum()) for n in range(symbols))
        if found is None or total > found[0]:
            found = total, [edges[n + 1] - edges[n] for n in range(symbols)]
    return found[1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 3), (2, 7), (4, 9)])
def test_no_alignment_scores_higher(shape):
    generator = torch.Generator().manual_seed(sum(shape))
    for _ in range(20):
        scores = torch.randn(shape, generator=generator)
        (lengths,) = monotonic_alignment_search(
            scores[None], torch.tensor([shape[0]]), torch.tensor([shape[1]])
        ).tolist()
        assert lengths == brute_force(scores)


def test_known_durations_are_found_in_noise():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(1, 9, (1, 40), generator=generator)
    means = torch.randn(1, 40, 8, generator=generator)
    frames = repeat_by_duration(means, truth)
    frames = frames + 0.5 * torch.randn(frames.shape, generator=generator)
    found = monotonic_alignment_search(-torch.cdist(means, frames).square(), torch.tensor([40]), truth.sum(1))
    assert float((found != truth).float().mean()) < 0.2
    assert float((found.cumsum(1) - truth.cumsum(1)).abs().float().mean()) < 0.2


def test_rows_are_independent():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 6, 20, generator=generator)
    symbols, frames = torch.tensor([6, 3, 1]), torch.tensor([20, 11, 5])
    together = monotonic_alignment_search(scores, symbols, frames)
    for row in range(3):
        alone = scores[row : row + 1, : symbols[row], : frames[row]]
        lengths = monotonic_alignment_search(alone, symbols[row : row + 1], frames[row : row + 1])
        assert torch.equal(together[row, : symbols[row]], lengths[0])
        assert int(together[row].sum()) == int(frames[row]) and not together[row, symbols[row] :].any()


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match="fewer frames than symbols"):
        monotonic_alignment_search(torch.zeros(1, 4, 3), torch.tensor([4]), torch.tensor([3]))


def test_repeat_by_duration():
    symbols = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [0.0]]])
    lengths = torch.tensor([[2, 1, 3], [1, 2, 0]])
    assert repeat_by_duration(symbols, lengths)[..., 0].tolist() == [[1, 1, 2, 3, 3, 3], [4, 5, 5, 0, 0, 0]]


def test_cost_is_linear_in_frames():
    """The number of tensor operations grows with frames, not with symbols or sentences."""

    def operations(batch, symbols, frames):
        scores, counts = torch.randn(batch, symbols, frames), (torch.full((batch,), n) for n in (symbols, frames))
        with Counter() as counter:
            monotonic_alignment_search(scores, *counts)
        return counter.calls

    once = operations(1, 5, 50)
    assert operations(16, 40, 50) < 1.1 * once
    assert operations(1, 5, 100) < 2.1 * once
