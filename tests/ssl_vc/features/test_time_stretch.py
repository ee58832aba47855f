"""Frames are stretched as torch interpolates them, and cut anew without loss, whatever the pieces."""

import pytest
import torch
import torch.nn.functional as F

from ssl_vc.features.time_stretch import Regroup, stretch


def cut(frames, sizes):
    return [piece for piece in frames.split(sizes) if len(piece)]


@pytest.mark.parametrize("wanted", [1, 2, 7, 36, 37, 38, 74, 148, 1000])
@pytest.mark.parametrize("sizes", [[37], [1] * 37, [20, 17], [36, 1], [5, 10, 22]])
def test_stretches_as_torch_does(wanted, sizes):
    frames = torch.randn(37, 3, generator=torch.Generator().manual_seed(0))
    ours = torch.cat(list(stretch(cut(frames, sizes), 37, wanted)))
    theirs = F.interpolate(frames.T[None], size=wanted, mode="linear")[0].T
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_as_it_is_where_nothing_changes():
    pieces = [torch.randn(3, 2), torch.randn(4, 2)]
    assert all(given is piece for given, piece in zip(stretch(pieces, 7, 7), pieces, strict=True))


def test_one_frame_is_repeated():
    assert torch.equal(torch.cat(list(stretch([torch.tensor([[5.0]])], 1, 3))), torch.full((3, 1), 5.0))


def test_holds_only_what_it_needs():
    """The first frames come before the last piece does."""
    given = []

    def pieces():
        for number in range(10):
            given.append(number)
            yield torch.full((10, 1), float(number))

    assert len(next(stretch(pieces(), 100, 50))) == 5
    assert given == [0]


@pytest.mark.parametrize("takes", [[5, 5, 5], [1, 14], [15], [7, 0, 8]])
def test_regroups(takes):
    frames = torch.arange(15.0)[:, None]
    group = Regroup(cut(frames, [4, 1, 10]))
    parts = [group.take(count) for count in takes]
    assert [len(part) for part in parts] == takes
    assert torch.equal(torch.cat(parts), frames)
    assert len(group.take(3)) == 0
