"""The nearest are found exactly, however coarse the numbers that find the candidates are, and in bounded memory."""

import pytest
import torch

from ssl_vc.device import fast_int8
from ssl_vc.match import search
from ssl_vc.match.protocol import Pool
from ssl_vc.match.search import Search

COARSE = ("float32", "int8", "bfloat16")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(search, "POOL", 256)
    monkeypatch.setattr(search, "QUERIES", 50)


def speech(frames, dim=64, seed=0, channels=0):
    """Frames in clusters, off the origin; some channels far larger than the rest, as WavLM-Large has them."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(20, dim, generator=torch.Generator().manual_seed(99))
    chosen = centres[torch.randint(20, (frames,), generator=generator)]
    made = chosen + 0.5 * torch.randn(frames, dim, generator=generator) + 0.3
    made[:, :channels] = made[:, :channels] * 3 + 60
    return made


def by_full_matrix(query, pool, k):
    query, pool = (torch.nn.functional.normalize(frames.double(), dim=1) for frames in (query, pool))
    best = (query @ pool.T).topk(k)
    return 1 - best.values, best.indices


@pytest.mark.parametrize("coarse", COARSE)
@pytest.mark.parametrize(("frames", "k"), [(1, 1), (3, 4), (17, 4), (256, 4), (1000, 1), (1000, 4), (1101, 20)])
def test_finds_what_the_full_matrix_finds(coarse, frames, k):
    query, pool = speech(120, seed=1), speech(frames)
    found = Search(pool, coarse)(query, k)
    distance, index = by_full_matrix(query, pool, min(k, frames))
    assert torch.equal(found.index, index)
    assert torch.allclose(found.distance.double(), distance, atol=2e-6)


@pytest.mark.parametrize("coarse", COARSE)
def test_exact_where_coarse_numbers_fail(coarse):
    """Nearly equal frames, which 8 bits cannot tell apart: the doubtful queries are searched again."""
    pool = speech(1, seed=3).expand(600, -1) + 1e-4 * torch.randn(600, 64, generator=torch.Generator().manual_seed(4))
    query = speech(40, seed=5)
    found = Search(pool, coarse)(query, 4)
    distance, _ = by_full_matrix(query, pool, 4)
    assert torch.allclose(found.distance.double(), distance, atol=1e-6)


@pytest.mark.parametrize("coarse", COARSE)
def test_large_channels_do_not_hide_the_rest(coarse):
    query, pool = speech(80, seed=1, channels=2), speech(900, channels=2)
    found = Search(pool, coarse)(query, 4)
    distance, index = by_full_matrix(query, pool, 4)
    assert (found.index == index).float().mean() > 0.95  # float32 itself swaps some that differ by 1e-8
    assert torch.allclose(found.distance.double(), distance, atol=1e-6)


def test_doubt_is_rare_in_speech(monkeypatch):
    """Or the coarse search would save nothing."""
    again = []
    exact = Search._exact
    monkeypatch.setattr(Search, "_exact", lambda self, query, k: again.append(len(query)) or exact(self, query, k))
    Search(speech(2000), "int8")(speech(500, seed=1), 4)
    assert sum(again) < 50


def test_a_frame_is_its_own_nearest():
    pool = speech(700)
    found = Search(pool, "int8")(pool[100:200] * 7, 1)  # a cosine does not see the length
    assert torch.equal(found.index[:, 0], torch.arange(100, 200))
    assert found.distance.abs().max() < 1e-6


def test_sixteen_bits_are_searched_as_they_are():
    query, pool = speech(60, seed=1), speech(800)
    for coarse in COARSE:
        found = Search(pool.half(), coarse)(query, 4)
        assert torch.equal(found.index, by_full_matrix(query, pool.half(), 4)[1])


def test_a_zero_frame_is_as_far_as_can_be_told():
    pool = speech(300)
    pool[7] = 0
    for coarse in COARSE:
        found = Search(pool, coarse)(torch.cat([speech(20, seed=1), torch.zeros(1, 64)]), 300)
        assert bool(found.distance.isfinite().all())
        assert float(found.distance[0][found.index[0] == 7]) == 1.0


def test_no_queries():
    found = Search(speech(300))(torch.empty(0, 64), 4)
    assert found.index.shape == found.distance.shape == (0, 4)


def test_the_fastest_is_chosen(monkeypatch):
    monkeypatch.setattr(search, "fast_int8", lambda device: True)
    assert Search(speech(10)).coarse == "int8"
    monkeypatch.setattr(search, "fast_int8", lambda device: False)
    monkeypatch.setattr(search, "fast_bfloat16", lambda device: True)
    assert Search(speech(10)).coarse == "bfloat16"
    monkeypatch.setattr(search, "fast_bfloat16", lambda device: False)
    assert Search(speech(10)).coarse == "float32"


def test_int8_is_for_cpus_without_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True, raising=False)
    monkeypatch.setattr("ssl_vc.device.fast_bfloat16", lambda device: False)
    assert fast_int8(torch.device("cpu"))
    assert not fast_int8(torch.device("cuda"))
    monkeypatch.setattr("ssl_vc.device.fast_bfloat16", lambda device: True)
    assert not fast_int8(torch.device("cpu"))


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(ValueError, match=r"the pool has the shape \(0, 64\)"):
        Search(torch.empty(0, 64))
    with pytest.raises(ValueError, match="coarse is 'int4'; possible are auto, int8, bfloat16 and float32"):
        Search(speech(10), "int4")
    with pytest.raises(ValueError, match=r"the queries have the shape \(5, 32\); give \(queries, 64\)"):
        Search(speech(10))(torch.zeros(5, 32), 4)
    with pytest.raises(ValueError, match="k is 0; give at least 1"):
        Search(speech(10))(speech(5), 0)


def test_a_pool_knows_where_its_clips_end():
    pool = Pool(speech(10), None, [4, 0, 6])
    assert pool.has_successor.tolist() == [True, True, True, False, True, True, True, True, True, False]
    assert pool.same_space
    assert pool.seconds == 0.2
    with pytest.raises(ValueError, match="a pool of 10 frames has 9 for synthesis, and its clips 10"):
        Pool(speech(10), speech(9))
