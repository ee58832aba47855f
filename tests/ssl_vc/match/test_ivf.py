"""The approximate search finds nearly all that the exact one does, and says how much."""

import pytest
import torch

from ssl_vc.match import ivf
from ssl_vc.match.ivf import ApproximateSearch
from ssl_vc.match.knn import KNN
from ssl_vc.match.protocol import Pool
from ssl_vc.match.search import Search

pytest.importorskip("faiss", reason="faiss is not installed (extra train)")


def frames(count, seed):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(50, 32, generator=torch.Generator().manual_seed(9))
    return centres[torch.randint(50, (count,), generator=generator)] + torch.randn(count, 32, generator=generator) + 0.3


def test_finds_nearly_all():
    pool, query = frames(20_000, 0), frames(300, 1)
    approximate, exact = ApproximateSearch(pool), Search(pool)
    assert approximate.recall >= 0.99
    assert approximate._index.nprobe < approximate._index.nlist / 2  # or it saves nothing
    found, wanted = approximate(query, 4), exact(query, 4)
    assert float((found.index[:, :, None] == wanted.index[:, None]).any(2).float().mean()) > 0.99
    same = found.index == wanted.index
    assert torch.allclose(found.distance[same], wanted.distance[same], atol=1e-5)


def test_is_the_same_every_time():
    pool, query = frames(5_000, 0), frames(100, 1)
    assert torch.equal(ApproximateSearch(pool)(query, 4).index, ApproximateSearch(pool)(query, 4).index)


def test_says_the_recall_that_it_reached(monkeypatch):
    """With one cell looked at, and no more asked for, what it says is what was measured."""
    monkeypatch.setattr(ivf, "RECALL", 0.0)
    pool = frames(20_000, 0)
    search = ApproximateSearch(pool)
    asked = ivf.interpolated_queries(pool)
    found, wanted = search(asked, ivf.K).index, Search(pool)(asked, ivf.K).index
    assert search._index.nprobe == 1
    assert search.recall == pytest.approx(float((found[:, :, None] == wanted[:, None]).any(2).float().mean()))
    assert search.recall < 0.99


@pytest.mark.parametrize("count", [1, 3, 100])
def test_small_pools(count):
    pool = frames(count, 0)
    assert ApproximateSearch(pool)(frames(10, 1), 4).index.shape == (10, min(4, count))


def test_a_pool_may_search_so():
    pool, query = frames(3_000, 0), frames(50, 1)
    (exact,) = KNN()([query], Pool(pool))
    (near,) = KNN()([query], Pool(pool, approximate=True))
    assert float((exact.frames - near.frames).abs().mean()) < 0.05
    with pytest.raises(ValueError, match="k is 0"):
        ApproximateSearch(pool)(query, 0)
