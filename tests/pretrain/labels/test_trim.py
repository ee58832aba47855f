"""Trimming of audio and labels alike."""

import numpy as np
import pytest

from pretrain.data.manifest import Clip
from pretrain.encoder.framing import HOP, RECEPTIVE_FIELD
from pretrain.labels.trim import MARGIN, speech_range, trim_silence

FRAMES = 100
SAMPLES = (FRAMES - 1) * HOP + RECEPTIVE_FIELD


class Listed:
    """Three clips whose samples, and whose labels, say where they are."""

    clusters, fingerprint = FRAMES, "numbers"

    def __init__(self):
        self.clips = [Clip(name, None, SAMPLES / 16_000) for name in ("late", "whole", "unknown")]

    def read(self, index):
        return (np.arange(SAMPLES) // HOP).astype(np.float32)

    def __contains__(self, key):
        return key != "missing"

    def __getitem__(self, key):
        return np.arange(FRAMES)


def phones(start, stop):
    return np.where((np.arange(FRAMES) >= start) & (np.arange(FRAMES) < stop), 7, 0)


@pytest.mark.parametrize(
    ("said", "span"),
    [((40, 60), (40 - MARGIN, 60 + MARGIN)), ((0, FRAMES), (0, FRAMES)), ((3, 98), (0, FRAMES)), ((0, 0), (0, FRAMES))],
)
def test_speech_range(said, span):
    assert speech_range(phones(*said)) == span


def test_audio_and_labels_are_trimmed_alike():
    listed = Listed()
    sounds, (labels,) = trim_silence(listed, [listed], {"late": phones(40, 60), "whole": phones(0, FRAMES)})
    assert labels.clusters == FRAMES and labels.fingerprint == "numbers"
    assert "late" in labels and "missing" not in labels
    lengths = [20 + 2 * MARGIN, FRAMES, FRAMES]
    for index, (clip, frames) in enumerate(zip(sounds.clips, lengths, strict=True)):
        wav, row = sounds.read(index), labels[clip.key]
        assert len(row) == frames == (len(wav) - RECEPTIVE_FIELD) // HOP + 1
        assert clip.seconds == pytest.approx(len(wav) / 16_000)
        assert (wav[::HOP][: len(row)] == row).all()  # each label is still heard where it was
    assert listed.clips[0].seconds == SAMPLES / 16_000  # what was given is as it was
