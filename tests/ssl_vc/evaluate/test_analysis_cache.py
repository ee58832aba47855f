"""Cached analyses: equal frames, computed once, with the time saved."""

import itertools

import pytest
import torch

from ssl_vc.evaluate.analysis_cache import AnalysisCache
from ssl_vc.evaluate.generate import generate
from ssl_vc.evaluate.pairs import Pair, Target, TestSet
from ssl_vc.evaluate.systems import Audio, System
from ssl_vc.features.analysis import Analysis


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances by 1 s whenever it is read."""
    monkeypatch.setattr("time.perf_counter", map(float, itertools.count()).__next__)


def analysis(calls, spec=(("kind", "world"),)):
    def frames(wav):
        calls.append(len(wav))
        return wav.view(-1, 4).split(2)

    return Analysis(frames, dict(spec))


def test_a_clip_is_analysed_once_for_equal_specifications(clock):
    cache, calls = AnalysisCache(), []
    one, other = cache.wrap(analysis(calls)), cache.wrap(analysis(calls))
    wav = torch.arange(16.0)
    first = torch.cat(list(one.frames(wav)))
    assert cache.saved_seconds == 0
    second = torch.cat(list(other.frames(wav.clone())))
    assert torch.equal(first, wav.view(-1, 4)) and torch.equal(first, second)
    assert calls == [16] and cache.saved_seconds == 1
    list(one.frames(wav + 1))
    list(cache.wrap(analysis(calls, [("kind", "other")])).frames(wav))
    assert calls == [16, 16, 16]  # another clip, and another specification


def test_returned_frames_may_be_changed():
    cached = AnalysisCache().wrap(analysis([]))
    wav = torch.arange(16.0)
    for _ in range(2):
        (frames,) = cached.frames(wav)
        assert torch.equal(frames, wav.view(-1, 4))
        frames += 1


def test_saved_time_counts_as_taken(tmp_path, clock):
    class Quick(System):
        name, description, saved_seconds = "quick", "", 0.0

        def __call__(self, pair):
            self.saved_seconds += 7
            return Audio(torch.zeros(1600), 16_000)

    target = Target("t", (tmp_path / "b.wav",))
    test_set = TestSet(name="", pairs=(Pair("one", tmp_path / "a.wav", "t"),), targets={"t": target})
    (outcome,), _ = generate(test_set, Quick(), None, tmp_path, lambda items, _: items)
    assert not outcome.failed and outcome.values["taken"] == 1 + 7
