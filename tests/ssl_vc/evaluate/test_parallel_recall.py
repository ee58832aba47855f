"""Parallel recall: the true frame is found where frames carry the sound, and not where they carry the speaker."""

import pytest
import torch

from ssl_vc.evaluate.parallel_recall import ParallelClip, parallel_recall

FRAMES, DIM = 40, 16


def corpus(content=1.0, speaker=0.0):
    """Two speakers' renderings of five sentences; a frame is what is said (of 12 phones) and who says it."""
    generator = torch.Generator().manual_seed(0)
    clips = []
    for sentence in range(5):
        phones = torch.randint(12, (FRAMES,), generator=generator)
        said = torch.randn(FRAMES, DIM, generator=generator) + 3 * torch.eye(12, DIM)[phones]
        for name in "ab":
            voice = torch.randn(FRAMES, DIM, generator=generator)
            clips.append(ParallelClip(str(sentence), name, content * said + speaker * voice, phones))
    return clips


def test_frames_without_a_voice_are_always_found():
    found = parallel_recall(corpus())
    assert found.found == 1 and found.clips == 10
    assert 0.3 < found.same_phone < 1


def test_frames_without_content_are_found_by_chance():
    found = parallel_recall(corpus(content=0, speaker=1))
    assert found.found < 3 * 3 / (5 * FRAMES)  # three frames of the pool count as the true one
    assert found.same_phone < 0.3


def test_a_frame_beside_the_true_one_counts_and_the_next_does_not():
    clips = corpus()

    def found(by):
        late = [clip._replace(frames=clip.frames.roll(by, 0)) if clip.speaker == "b" else clip for clip in clips]
        return parallel_recall(late).found

    assert found(1) > 0.9
    assert found(2) < 0.2


def test_silence_and_unaligned_frames_are_no_queries():
    clips = corpus()
    noise = torch.randn(FRAMES, DIM, generator=torch.Generator().manual_seed(1))
    for label in (0, -1):
        hidden = [
            clip._replace(
                phones=clip.phones.clamp(min=1).index_fill(0, torch.arange(20), label),
                frames=torch.where((torch.arange(FRAMES) < 20)[:, None] & (clip.speaker == "b"), noise, clip.frames),
            )
            for clip in clips
        ]
        assert parallel_recall(hidden).found == 1


def test_the_true_frame_competes_with_the_others_of_the_voice():
    clips = corpus(content=1.0, speaker=1.0)
    alone = parallel_recall([clip for clip in clips if clip.sentence in "01"])
    assert parallel_recall(clips).found < alone.found


@pytest.mark.parametrize("keep", [lambda clip: clip.speaker == "a", lambda clip: clip.sentence == "0"])
def test_without_parallel_or_other_clips_there_is_no_recall(keep):
    assert parallel_recall([clip for clip in corpus() if keep(clip)]) is None
