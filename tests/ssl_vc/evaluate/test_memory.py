"""Remembered analyses: the same frames, made once, and what that saved is told."""

import time

import torch

from ssl_vc.evaluate.making import make
from ssl_vc.evaluate.memory import Memory
from ssl_vc.evaluate.pairs import Pair, Target, Task
from ssl_vc.evaluate.systems import Sound, System
from ssl_vc.features.analysis import Analysis


def analysis(calls, made_by=(("kind", "world"),), seconds=0.0):
    def frames(wav):
        calls.append(len(wav))
        time.sleep(seconds)
        return wav.view(-1, 4).split(2)

    return Analysis(frames, dict(made_by))


def test_a_sound_is_analysed_once_for_all_of_one_make():
    memory, calls = Memory(), []
    one, other = memory.of(analysis(calls, seconds=0.05)), memory.of(analysis(calls))
    wav = torch.arange(16.0)
    first = torch.cat(list(one.frames(wav)))
    assert memory.saved == 0
    first_again = torch.cat(list(other.frames(wav.clone())))
    assert torch.equal(first, wav.view(-1, 4)) and torch.equal(first, first_again)
    assert calls == [16] and 0.05 <= memory.saved < 1
    list(one.frames(wav + 1))
    list(memory.of(analysis(calls, [("kind", "other")])).frames(wav))
    assert calls == [16, 16, 16]  # another sound, and another make


def test_what_is_given_may_be_changed():
    kept = Memory().of(analysis([]))
    wav = torch.arange(16.0)
    for _ in range(2):
        (frames,) = kept.frames(wav)
        assert torch.equal(frames, wav.view(-1, 4))
        frames += 1


def test_what_was_saved_counts_as_taken(tmp_path):
    class Quick(System):
        name, what, saved = "quick", "", 0.0

        def __call__(self, pair):
            self.saved += 7
            return Sound(torch.zeros(1600), 16_000)

    task = Task("", (Pair("one", tmp_path / "a.wav", "t"),), {"t": Target("t", (tmp_path / "b.wav",))})
    (outcome,), _ = make(task, Quick(), None, tmp_path, lambda things, _: things)
    assert not outcome.failed and 7 < outcome.values["taken"] < 8
