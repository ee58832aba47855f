"""The plot of two speakers' frames."""

import sys
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("gradio")
pytest.importorskip("plotly")
from demos.tabs.explore import UMAP, frames_figure, project


def test_pca_keeps_what_three_dimensions_hold():
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(200, 3, generator=generator) @ torch.randn(3, 40, generator=generator)
    points = project(flat)
    torch.testing.assert_close(torch.cdist(points, points), torch.cdist(flat, flat), atol=0.05, rtol=1e-3)


def test_umap_where_it_is_installed(monkeypatch):
    class Projector:
        def __init__(self, n_components, random_state):
            self.count = n_components

        def fit_transform(self, frames):
            return frames[:, : self.count] + 1

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Projector))
    frames = torch.randn(20, 8)
    torch.testing.assert_close(project(frames, UMAP), frames[:, :3] + 1)


def test_lines_lead_from_the_phrase_to_its_nearest_frames():
    generator = torch.Generator().manual_seed(0)
    own, theirs = (torch.randn(count, 12, generator=generator) for count in (60, 90))
    nearest = torch.cdist(own[10:15], theirs).argmin(1)
    figure = frames_figure(own, theirs, 10, nearest, colour="speaker", units=None, names=("a", "b"))
    first, second, links = figure.data
    assert (first.name, second.name) == ("a", "b") and len(first.x) == 60 and len(second.x) == 90
    for number, to in enumerate(nearest.tolist()):
        at = 3 * number
        assert links.x[at] == pytest.approx(first.x[10 + number]) and links.x[at + 1] == pytest.approx(second.x[to])
        assert links.y[at + 2] is None
    units = torch.arange(60) % 7
    coloured = frames_figure(own, theirs, 10, nearest, colour="unit", units=units, names=("a", "b"))
    assert list(coloured.data[0].marker.color) == units.tolist()
